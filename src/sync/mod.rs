//! Keeping Conversica in step: [`poll`] finds what has changed and writes it down, [`deliver`] sends what is written down.
//!
//! Pure cores: [`diff`], [`guard`], [`retry`], [`pace`], [`breaker`]. One pass of either is one function; the loops around
//! them are in [`crate::daemon`].

pub mod account;
mod again;
pub mod allowance;
pub mod breaker;
pub mod consent;
pub mod deliver;
pub mod diff;
pub mod drain;
pub mod fence;
pub mod guard;
pub mod histogram;
pub mod lease;
pub mod merge;
pub mod pace;
pub mod pass;
pub mod plan;
pub mod poll;
mod poll_record;
mod resume;
pub mod retry;
mod step;
pub mod tally;
pub mod test_lead;
pub mod throttle;
pub mod turn;
mod window;
mod writes;
