//! TODO: what setup is.

pub mod introspect;
pub mod propose;
