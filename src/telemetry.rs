//! Logs: on standard error, for people on a terminal, as JSON lines otherwise. Ids and counts only, never personal data.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};
use crate::console;

/// Begins to log. A second call in the same process changes nothing.
pub fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries stay at warnings at every level: at trace they would log statements and headers.
    // The database driver says nothing at all: its warnings quote connection URLs, lines of ~/.pgpass, and what functions of
    // the customer's raise. Whatever it fails at comes back as an error, which is told discreetly.
    let filter = EnvFilter::new(format!("warn,sqlx=off,conversica_sync={level}"));
    let terminal = std::io::stderr().is_terminal();
    let pretty = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let colours = console::colours(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if pretty {
        builder.with_target(false).with_ansi(colours).try_init()
    } else {
        builder.json().flatten_event(true).with_target(false).try_init()
    };
    // Already started: in tests, and in the demo, which runs the daemon in its own process.
    drop(started);
}
