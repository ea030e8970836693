//! Keeping Conversica in step: [`poll`] finds what has changed and writes it down, [`deliver`] sends what is written down.
//!
//! Pure cores: [`diff`], [`guard`], [`retry`], [`pace`], [`breaker`]. One pass of either is one function; the loops around
//! them are in [`crate::daemon`].

pub mod account;
mod again;
pub mod allowance;
pub mod consent;
pub mod deliver;
pub mod drain;
pub mod fence;
pub mod merge;
pub mod pass;
pub mod plan;
pub mod poll;
pub mod poll_rows;
pub mod polled;
pub mod reach;
mod resume;
mod step;
pub mod tally;
pub mod test_lead;
pub mod throttle;
pub mod turn;
mod writes;
