//! conversica-sync keeps the leads of a CRM database (SQLite, PostgreSQL, MySQL or MariaDB) in step with Conversica.
//!
//! The state keeps three facts about each lead: the content that Conversica should have (*desired*, made from the CRM row), the
//! content that it has as far as we know (*delivered*, the last accepted one), and the content that it posted back (*heard*).
//! Polling updates desired, delivery makes delivered equal desired, the receiver collects heard.
//!
//! ```text
//!  CRM database (SQLite | PostgreSQL)                                           Conversica
//!    │ read-only, one snapshot a poll                                             ▲
//!    ▼                                                                            │ HTTPS + Basic
//!  source::read ──► rules::mapping ──► rules::diff ──► store::lead ──► send::deliver ──► client
//!                                         ▲              │ desired, delivered, due
//!                                         │              ▼
//!                                         │     store::outcome (journal) ──► status, reconcile
//!                                         │ opt-outs
//!  source::writeback ◄── receive::apply (heard) ◄── store::event ◄── receive::server ◄── what Conversica posts
//! ```
//!
//! Modules have floors. A module imports from the floors below its own, or in one direction within its floor; no files import
//! each other in a circle. A test checks the sources against this table.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 7 | `cli` | arguments; one file for each command |
//! | 6 | `daemon` `admin` `setup` `demo` | programs made of the parts below: the loops, the admin listener with the dashboard, `init`, the demonstration |
//! | 5 | `send` `receive` `reconcile` `alert` `check` `story` `status` `decide` `upkeep` `pulse` `wording` `chart` | the engine: steps as public functions, loops of a few lines; what operators see and decide |
//! | 4 | `source` `store` `client` `sandbox` `db` | I/O: the customer's database, our own state, Conversica, a local Conversica; `db` is what both databases need |
//! | 3 | `rules` | pure decisions; the present moment is an argument |
//! | 2 | `config` `telemetry` | settings, logging |
//! | 1 | `conversica` `clock` `error` `http` `horizon` `console` `nearest` `histogram` | what Conversica defines, as plain data; small parts that know nothing of leads |
//!
//! ARCHITECTURE.md follows one changed row through these modules.

pub mod admin;
pub mod alert;
pub mod chart;
pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod console;
pub mod conversica;
pub mod daemon;
pub mod db;
pub mod decide;
pub mod demo;
pub mod error;
pub mod histogram;
pub mod horizon;
pub mod http;
pub mod nearest;
pub mod pulse;
pub mod receive;
pub mod reconcile;
pub mod rules;
pub mod sandbox;
pub mod send;
pub mod setup;
pub mod source;
pub mod status;
pub mod store;
pub mod story;
pub mod telemetry;
pub mod upkeep;
pub mod wording;
