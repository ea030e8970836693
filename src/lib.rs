//! conversica-sync keeps the leads of a CRM database (SQLite or PostgreSQL) in step with Conversica.
//!
//! Three facts are kept for each lead: what Conversica should hold (*desired*, made of the CRM row), what it holds as far as
//! we know (*delivered*, what it last accepted), and what it has posted back (*heard*). Polling makes desired true, delivering
//! makes delivered equal desired, receiving collects what was heard.
//!
//! ```text
//!  CRM database (SQLite | PostgreSQL)                                           Conversica
//!    │ read-only, one snapshot a poll                                             ▲
//!    ▼                                                                            │ HTTPS + Basic
//!  crm::read ──► crm::mapping ──► sync::diff ──► state::lead ──► sync::deliver ───┘
//!                                   ▲              │ desired, delivered, due
//!                                   │              ▼
//!                                   │     state::outcome (journal) ──► status
//!                                   │ opt-outs
//!  crm::writeback ◄── receive::apply (heard) ◄── state::event ◄── receive::server ◄── what Conversica posts
//! ```
//!
//! In reading order:
//!
//! 1. [`conversica`]: what Conversica defines, the Lead object, the meaning of its answers, a client for its endpoint.
//! 2. [`crm`]: the customer's database, its columns, the streaming reader, the mapping of a row to a lead.
//! 3. [`state`]: our own tables, one file a table. [`state::delivery`] is where "at least once" and "one in flight a lead" live.
//! 4. [`sync`]: the pure cores (diff, guard, retry, pace, breaker), one poll, one delivery step, one whole pass, the plan.
//!    The road back: [`receive`] stores and applies what Conversica posts, [`crm::writeback`] writes it to the customer's
//!    database, [`alert`] tells people.
//! 5. [`daemon`]: which loops run, who stops whom. [`upkeep`]: what goes after its time. [`decide`]: what a person decides.
//!    [`status`]: how things stand. [`story`]: one lead's. [`check`]: whether all is ready. [`admin`]: the same over HTTP, by way
//!    of [`http`] (the accept loop) and [`pulse`] (signs of life), and [`notify`], to systemd.
//! 6. [`sandbox`] and [`demo`]: a local Conversica, and a sample CRM to try everything with.
//! 7. [`config`], [`cli`], [`db`], and the small ones: [`error`], [`clock`], [`horizon`], [`console`], [`wording`],
//!    [`chart`], [`nearest`], [`telemetry`].
//!
//! Calls go `main → cli → daemon → sync → (crm | state | conversica) → db`. Pure files import no runtime, database or HTTP
//! crate. Time is an argument; only [`clock`] reads it.

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
