//! The base of the tests: real databases, the real binary, an endpoint that misbehaves on command, and one way to wait.
//! Everything here has a blocking interface, so that it serves tests with and without a runtime.
#![allow(dead_code, reason = "each piece is here for every subject; not every subject needs every piece")]

pub mod binary;
pub mod browsing;
pub mod chromium;
pub mod crm_leads;
pub mod crm_shapes;
pub mod crms;
pub mod damaged_post;
pub mod desk;
pub mod engine;
pub mod everything;
pub mod heard;
pub mod hearing;
pub mod lead_row;
pub mod mail_server;
pub mod mariadb;
pub mod network;
pub mod pgbouncer;
pub mod postgres;
pub mod reaction;
pub mod reading;
pub mod receiver;
pub mod relay;
pub mod request;
pub mod scene;
pub mod server_process;
pub mod settled;
pub mod signal;
pub mod stand_in;
pub mod terminal;
pub mod wait;
pub mod watched;
pub mod wrong_clock;
