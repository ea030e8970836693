//! `init`: inspects a database and proposes a configuration for it.

pub mod introspect;
pub mod propose;
