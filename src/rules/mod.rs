//! TODO: what rules is.

pub mod breaker;
pub mod cursor;
pub mod diff;
pub mod drift;
pub mod guard;
pub mod json;
pub mod lease;
pub mod line;
pub mod mapping;
pub mod pace;
pub mod plan_address;
pub mod plan_forecast;
pub mod plan_totals;
pub(crate) mod poll_record;
pub mod retry;
pub mod value;
pub mod verdict;
pub(crate) mod window;
