//! Our own tables, one file a table: the desired and delivered content of each lead, every outcome, and the facts that exist
//! once. [`writer`] admits one writing process.

pub mod ahead;
pub mod alert;
pub mod alert_list;
pub mod backup;
pub mod budget;
pub mod bulk_decision;
pub mod claimed_records;
pub mod compare;
pub mod consent;
pub mod contact_key;
pub mod control;
pub mod conversation_facts;
pub mod conversation_progress;
pub mod decided_contents;
pub mod decision;
pub mod delivery;
pub mod due;
pub mod erase;
pub mod event;
pub mod facts;
pub mod fenced;
pub mod file_lock;
pub mod first_contact;
pub mod free_disk;
pub mod gone;
pub mod grouped;
pub mod heard;
pub mod held;
pub mod instance;
pub mod introduced;
mod late;
pub mod latency;
pub mod lead;
pub mod lead_address;
pub mod lead_record;
pub mod lead_search;
mod lead_status;
pub mod lead_table;
pub mod listing;
pub mod lock_holder;
pub mod operator_pause;
pub mod orphan;
pub mod outcome;
pub mod packed;
pub mod pause;
pub mod payload;
pub mod people_ledger;
pub mod person_consent;
pub mod possible_opt_out;
pub(crate) mod postgres;
pub mod prune;
pub mod record;
pub mod resend;
pub mod restored_state;
pub(crate) mod row_arrays;
pub mod server_clock;
pub mod sign_in;
pub mod state_db;
pub mod state_failure;
pub mod state_header;
pub mod state_log;
pub mod state_transaction;
pub mod statement;
pub mod statement_argument;
pub mod story;
pub mod stray_log;
pub mod stuck;
pub mod suppression;
pub mod suppression_entries;
pub mod suppression_review;
pub mod tested;
pub mod told;
pub mod tombstone;
pub mod turn;
pub mod unclear_opt_out;
mod withdrawal_apart;
mod write_mark;
pub mod writeback;
pub mod writer;

use chrono::{DateTime, Utc};

/// Instants are stored as microseconds since 1970 UTC.
pub fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// The instant of a stored number; the database holds none outside chrono's range.
pub fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
