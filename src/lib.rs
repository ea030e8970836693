//! conversica-sync
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod conversica;
pub mod crm;
pub mod daemon;
pub mod db;
pub mod demo;
pub mod error;
pub mod sandbox;
pub mod state;
pub mod status;
pub mod sync;
pub mod telemetry;
