//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

mod decision;
mod demo_crm;
mod harness;
mod interleaving;
mod outcome_table;
mod pass;
mod sandbox;
mod source;
mod source_types;
mod state;
mod state_file;
mod support;
mod tidy;
