//! Arguments, and one file per command; each command is a thin caller of the library.
pub mod config;
