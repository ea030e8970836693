//! What Conversica defines: the Lead object, the endpoint's answers, and a client for it.

pub mod client;
pub mod excerpt;
pub mod lead;
pub mod outcome;
