//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

// Helpers of tests may panic like the tests they help; Clippy's own exemption covers only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod commands;
mod demo_crm;
mod harness;
mod hold;
mod interleaving;
mod outcome_table;
mod sandbox;
mod source;
mod source_types;
mod state;
mod support;
mod tidy;
