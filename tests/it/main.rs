//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

mod demo_crm;
mod harness;
mod interleaving;
mod outcome_table;
mod sandbox;
mod source;
mod source_types;
mod state;
mod support;
mod tidy;
