//! Logs: on standard error, for people on a terminal, as JSON lines otherwise. Ids and counts only, never personal data.

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::console;

/// The lines of a format; for the journal, each line starts with its priority, which `journalctl --priority` uses.
struct LogLines<F> {
    format: F,
    journal: bool,
}

impl<S, N, F> FormatEvent<S, N> for LogLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.journal {
            // See sd-daemon(3).
            let priority = match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            };
            write!(writer, "<{priority}>")?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// Whether standard error leads to the journal. According to systemd.exec(5), the variable names its device and inode.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", file.st_dev, file.st_ino)
}

/// Changes the level after the start.
static LEVEL: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries stay at warnings at every level: at trace they would log statements and headers. The database driver logs nothing
    // at all: its warnings quote connection URLs, lines of ~/.pgpass, and texts that the customer's functions raise. Its failures
    // come back as errors, which are reported without data. So do those of the check of certificates, whose own warnings come with
    // every request and name files of the machine that built the program.
    EnvFilter::new(format!("warn,sqlx=off,rustls_platform_verifier=off,conversica_sync={level}"))
}

/// Logs more, or less, from now on.
pub fn set_level(level: LogLevel) {
    if let Some(set) = LEVEL.get() {
        set(filter(level));
    }
}

/// Starts the log. A second call in the same process changes nothing.
pub fn init(log: &LogSettings) {
    let terminal = std::io::stderr().is_terminal();
    let pretty = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let colours = console::colours(&std::io::stderr());
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let layer = lines::layer().with_writer(std::io::stderr);
    let journal = is_journal();
    let layer = if pretty {
        layer.with_ansi(colours).event_format(LogLines { format: lines::format().with_target(false), journal }).boxed()
    } else {
        let format = lines::format().json().flatten_event(true).with_target(false);
        layer.fmt_fields(JsonFields::new()).event_format(LogLines { format, journal }).boxed()
    };
    // Already started: in tests, and in the demo, which runs the daemon in its own process.
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = LEVEL.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
}
