//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.

// Helpers of tests may panic like the tests they help; Clippy's own exemption covers only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod admin;
mod ambiguous;
mod approval;
mod bad_input;
mod cap;
mod check_source;
mod commands;
mod connections;
mod consent;
mod conversation;
mod crash;
mod daemon;
mod decision;
mod demo;
mod demo_crm;
mod drift;
mod fault;
mod full;
mod gone;
mod gone_law;
mod halt;
mod harness;
mod hold;
mod incremental;
mod instance;
mod interleaving;
mod leads;
mod merge;
mod metrics;
mod missed_rows;
mod outage;
mod outcome_table;
mod pacing;
mod pass;
mod redaction;
mod remapping;
mod resume;
mod sandbox;
mod shrink;
mod source;
mod source_types;
mod state;
mod state_file;
mod support;
mod test_lead;
mod test_lead_check;
mod tidy;
mod triggers;
mod triggers_install;
mod triggers_law;
mod writeback_daemon;
mod writeback_sql;
mod writeback_tables;
