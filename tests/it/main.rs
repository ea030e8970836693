//! The integration tests: one binary, one file for each subject, with real databases, a real endpoint and the real
//! program.

// Helpers of tests may panic like the tests they help; Clippy's own exemption covers only functions marked as tests.
#![allow(clippy::unwrap_used)]

/// Runs the same expression on whichever pool a `StateDb` holds.
macro_rules! on_state {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            conversica_sync::store::state_db::StateDb::Sqlite($pool) => $body,
            conversica_sync::store::state_db::StateDb::Postgres($pool) => $body,
        }
    };
}

/// Runs the same expression on whichever pool a `SourceDb` holds.
macro_rules! on_source {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            conversica_sync::source::source_db::SourceDb::Sqlite($pool) => $body,
            conversica_sync::source::source_db::SourceDb::Postgres($pool) => $body,
            conversica_sync::source::source_db::SourceDb::Mysql($pool) => $body,
        }
    };
}

mod accessible;
mod activity_log;
mod admin;
mod alerts;
mod ambiguous;
mod answers;
mod approval;
mod assumed;
mod backup;
mod bad_input;
mod browser;
mod cap;
mod channels;
mod check_list;
mod check_source;
mod check_tables;
mod clock_ahead;
mod clock_apart;
mod clock_behind;
mod closed_source;
mod colour;
mod commands;
mod completions;
mod compose;
mod connections;
mod consent;
mod consent_heard;
mod consent_law;
mod content_hold;
mod conversation;
mod crash;
mod daemon;
mod damaged_post_law;
mod dashboard;
mod dashboard_counts;
mod dashboard_lead;
mod dashboard_leads;
mod dashboard_pages;
mod decision;
mod demo;
mod demo_crm;
mod demo_own_crm;
mod docs;
mod docs_generated;
mod doubled_key;
mod drift;
mod erase;
mod erase_law;
mod erase_program;
mod erased_opt_out;
mod fault;
mod fence;
mod first_contact;
mod first_hour;
mod floors;
mod full;
mod gone;
mod gone_law;
mod halt;
mod harness;
mod health;
mod heard;
mod heard_shown;
mod help;
mod hidden_stop;
mod hold;
mod incremental;
mod init;
mod init_asks;
mod init_flags;
mod init_inheritance;
mod init_law;
mod init_people_law;
mod init_questions;
mod init_recipes;
mod init_staff;
mod instance;
mod instances;
mod interleaving;
mod journal;
mod killed_decision;
mod kubernetes;
mod late_answer;
mod lead_life;
mod lead_story;
mod leads;
mod left_filter;
mod lost_log;
mod lost_state;
mod mapping_tests;
mod merge;
mod metrics;
mod missed_rows;
mod monitoring;
mod mysql_errors;
mod mysql_init;
mod mysql_poll;
mod mysql_program;
mod mysql_types;
mod mysql_writeback;
mod named_otherwise;
mod names;
mod notify;
mod odd_opt_out;
mod odd_value;
mod older_mapping;
mod once;
mod operator_pause;
mod operators;
mod outage;
mod outcome_table;
mod pacing;
mod package;
mod pass;
mod paused;
mod payload_law;
mod person_consent;
mod plan_compare;
mod plan_shown;
mod playback;
mod pooler;
mod possible_opt_out;
mod prose;
mod quiet_source;
mod receive;
mod receive_bad_input;
mod receive_kept;
mod receive_store;
mod reconcile;
mod reconcile_law;
mod record;
mod redaction;
mod reload;
mod remapping;
mod resend;
mod restored_state;
mod resume;
mod runbook;
mod sandbox;
mod service_alerts;
mod shrink;
mod sign_on;
mod source;
mod source_cure;
mod source_types;
mod source_watch;
mod source_watch_law;
mod source_watch_rights;
mod start_cut;
mod start_together;
mod state;
mod state_file;
mod storage_limits;
mod stray_log;
mod support;
mod suppress;
mod suppress_law;
mod swapped_file;
mod systemd;
mod test_lead;
mod test_lead_check;
mod tidy;
mod triggers;
mod triggers_ddl;
mod triggers_guard;
mod triggers_install;
mod triggers_law;
mod triggers_rights;
mod triggers_trouble;
mod unclear_opt_out;
mod unnamed_row;
mod upgrade;
mod upkeep;
mod way_out;
mod woken;
mod workflows;
mod writeback_daemon;
mod writeback_sql;
mod writeback_tables;
