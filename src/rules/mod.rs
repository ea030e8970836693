//! Decisions as pure functions: what to send, hold, retry, compare and report. The present moment is an argument. No file here
//! imports a runtime, a database or an HTTP crate.

pub mod admission;
pub mod breaker;
pub mod cursor;
pub mod diff;
pub mod drift;
pub mod guard;
pub mod heard_event;
pub mod hold_reason;
pub mod json;
pub mod lead_change;
pub mod lead_facts;
pub mod lead_status;
pub mod lease;
pub mod line;
pub mod mapping;
pub mod odd_opt_out;
pub mod operator_pause;
pub mod pace;
pub mod plan_address;
pub mod plan_forecast;
pub mod plan_totals;
pub mod poll_record;
pub mod quiet_source;
pub mod read_scope;
pub mod retry;
pub mod service_alert;
pub mod settled;
pub mod source_column;
pub mod value;
pub mod value_fault;
pub mod verdict;
pub(crate) mod window;
