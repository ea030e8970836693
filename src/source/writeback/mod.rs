//! Writes to the CRM's database what Conversica has sent. The loop is [`crate::receive::writeback`].

pub mod ddl;
pub mod failure;
pub(crate) mod mysql;
pub(crate) mod session;
pub mod statements;
pub mod tables;
pub mod writer;
