//! conversica-sync
pub mod cli;
pub mod clock;
pub mod config;
pub mod conversica;
pub mod crm;
pub mod db;
pub mod error;
pub mod state;
pub mod status;
pub mod sync;
