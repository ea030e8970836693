//! Sends leads: [`poll`] finds changed rows and writes them to the state, [`deliver`] sends the leads that are due.
//!
//! The decisions are pure functions in [`crate::rules`]. One function does one step of the poll or of the delivery; the loops are
//! in [`crate::daemon`].

pub mod account;
mod again;
pub mod allowance;
pub mod compare_configurations;
pub mod consent;
pub mod deliver;
pub mod drain;
pub mod fence;
pub(crate) mod left_filter;
pub mod merge;
pub mod odd_values;
pub mod older_mapping;
pub mod pass;
pub mod people;
pub mod plan;
pub mod planned_lead;
pub mod poll;
pub mod poll_context;
pub mod poll_rows;
pub mod polled;
pub mod reach;
mod resume;
mod step;
pub mod suppressed;
mod suppression_query;
pub mod tally;
pub mod test_lead;
pub mod throttle;
pub mod turn;
mod writes;
