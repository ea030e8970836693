//! TODO: what source::writeback is.

pub mod ddl;
pub mod failure;
pub mod named;
pub mod statements;
pub mod tables;
pub mod writer;
