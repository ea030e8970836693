//! The integration tests: one binary, one file for each subject. Databases, endpoint and program are real ones.
#![allow(clippy::unwrap_used, reason = "clippy spares test functions, not the functions that they share")]

mod bad_input;
mod commands;
mod daemon;
mod demo;
mod demo_crm;
mod halt;
mod harness;
mod hold;
mod outage;
mod sandbox;
mod support;
mod tidy;
