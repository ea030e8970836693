//! conversica-sync
pub mod config;
pub mod conversica;
pub mod error;
