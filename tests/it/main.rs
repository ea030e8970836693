//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

mod harness;
mod support;
mod tidy;
