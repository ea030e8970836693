//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

mod demo_crm;
mod harness;
mod sandbox;
mod support;
mod tidy;
