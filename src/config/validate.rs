//! Checks combinations of settings: keys that need each other, keys that exclude each other, sensible ranges, unsafe choices.
//!
//! Pure except for one file-system check (whether two paths are the same file). `[source]`, `[lead]` and the URLs have files of
//! their own below.

mod admin;
mod alerts;
mod later;
mod lead;
mod place;
pub mod report;
mod source;

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use crate::config::check::ConfigProblems;
use crate::config::merged::MergedConfig;
use crate::config::validate::report::ValidationReport;
use crate::config::{
    DeliverySettings, ReceiveSettings, SafetySettings, ServiceSettings, WritebackMode, duration, size,
};

pub use lead::{CompletedKey, complete};

/// Collects problems and warnings.
pub fn check(
    settings: &ServiceSettings,
    merged: &MergedConfig,
    problems: &mut ConfigProblems,
    warnings: &mut Vec<String>,
) {
    let mut report = ValidationReport { merged, problems, warnings };
    source::check(&settings.source, &mut report);
    lead::check(settings, &mut report);
    place::databases(settings, &mut report);
    conversica(settings, &mut report);
    delivery(&settings.delivery, &mut report);
    if let Some(receive) = &settings.receive {
        receiver(receive, &mut report);
    }
    writeback(settings, &mut report);
    alerts::check(&settings.alerts, &mut report);
    safety(&settings.safety, &mut report);
    later::check(settings, &mut report);
    admin::check(&settings.admin, &mut report);
    let state = &settings.state;
    for (key, keep) in [("state.keep_outcomes", state.keep_outcomes), ("state.keep_received", state.keep_received)] {
        if keep.is_zero() {
            report.problem(key, format!("`{key}` is zero"), "Write how long, like \"90d\".");
        }
    }
}

fn conversica(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let conversica = &settings.conversica;
    place::endpoint(&conversica.endpoint, report);
    // Never shown: a user name may be a mistyped secret.
    if conversica.username.chars().count() < 5 {
        report.problem(
            "conversica.username",
            "`conversica.username` has fewer than five characters, which Conversica refuses",
            "Write the user name as Conversica gave it to you.",
        );
    }
    if conversica.username.contains(':') {
        report.problem(
            "conversica.username",
            "`conversica.username` contains a colon, which Basic authentication cannot carry",
            "Write the user name alone; the password has a key of its own.",
        );
    }
    if conversica.password.expose_secret().is_empty() {
        report.problem("conversica.password", "`conversica.password` is empty", "Set `password_file` or `password`.");
    }
    if conversica.test_lead_token.is_some() && conversica.test_lead_limit == 0 {
        report.problem(
            "conversica.test_lead_limit",
            "`conversica.test_lead_limit` is 0, so nothing could be sent",
            "Write how many distinct leads the test may use, like 10.",
        );
    }
}

fn delivery(delivery: &DeliverySettings, report: &mut ValidationReport<'_>) {
    if !(0.01..=100_000.0).contains(&delivery.requests_per_second) {
        report.problem(
            "delivery.requests_per_second",
            format!("`delivery.requests_per_second` is {}, which is out of range", delivery.requests_per_second),
            "Write a number from 0.01 to 100000.",
        );
    }
    if !(1..=1024).contains(&delivery.concurrency) {
        report.problem(
            "delivery.concurrency",
            format!("`delivery.concurrency` is {}, which is out of range", delivery.concurrency),
            "Write a whole number from 1 to 1024.",
        );
    }
    report.duration("delivery.timeout", delivery.timeout, "1s", "10m");
    report.duration("delivery.ambiguous_wait", delivery.ambiguous_wait, "1s", "90d");
    let retry = &delivery.retry;
    if !(1.0..=10.0).contains(&retry.multiplier) {
        report.problem(
            "delivery.retry.multiplier",
            format!("`delivery.retry.multiplier` is {}, which is out of range", retry.multiplier),
            "Write a number from 1.0 to 10.0.",
        );
    }
    report.duration("delivery.retry.initial_interval", retry.initial_interval, "1ms", "365d");
    for (small, least, large, most) in [
        ("initial_interval", retry.initial_interval, "max_interval", retry.max_interval),
        ("max_interval", retry.max_interval, "max_elapsed", retry.max_elapsed),
    ] {
        if least > most && !report.is_spoiled(&format!("delivery.retry.{large}")) {
            let (least, most) = (duration::format(least), duration::format(most));
            report.problem(
                &format!("delivery.retry.{small}"),
                format!("`delivery.retry.{small}` is {least}, more than `{large}`, which is {most}"),
                format!("Write a smaller `{small}` or a larger `{large}`."),
            );
        }
    }
    if delivery.breaker.failures == 0 {
        report.problem("delivery.breaker.failures", "`delivery.breaker.failures` is 0", "Write 1 or more.");
    }
}

fn safety(safety: &SafetySettings, report: &mut ValidationReport<'_>) {
    if !(1..=28).contains(&safety.month_starts_on) {
        report.problem(
            "safety.month_starts_on",
            format!("`safety.month_starts_on` is {}, which is not a day that every month has", safety.month_starts_on),
            "Write a day from 1 to 28.",
        );
    }
    report.duration("safety.new_lead_older_than", safety.new_lead_older_than, "0s", "36500d");
    if !(0.0..=1.0).contains(&safety.source_shrinks_below) {
        report.problem(
            "safety.source_shrinks_below",
            format!("`safety.source_shrinks_below` is {}, which is no share", safety.source_shrinks_below),
            "Write a number from 0 (off) to 1, like 0.5.",
        );
    }
}

fn receiver(receive: &ReceiveSettings, report: &mut ValidationReport<'_>) {
    let missing = match (&receive.tls_certificate, &receive.tls_key) {
        (Some(_), None) => Some(("tls_key", "tls_certificate")),
        (None, Some(_)) => Some(("tls_certificate", "tls_key")),
        _ => None,
    };
    if let Some((missing, present)) = missing {
        report.problem(
            &format!("receive.{missing}"),
            format!("`receive.{present}` is set, but `receive.{missing}` is not"),
            "Set both, or none.",
        );
    }
    if missing.is_none() && receive.tls_key.is_none() && !receive.behind_proxy && !is_loopback(receive.listen) {
        report.problem(
            "receive.listen",
            format!("`receive.listen` is {}, open to other machines, but there is no TLS", receive.listen),
            "Set `tls_certificate` and `tls_key`, listen on 127.0.0.1, or set behind_proxy = true if a proxy does TLS.",
        );
    }
    if receive.username.contains(':') {
        report.problem(
            "receive.username",
            "`receive.username` contains a colon, which Basic authentication cannot carry",
            "Choose a user name without one.",
        );
    }
    if receive.max_body.as_deref().and_then(|text| size::parse(text).ok()).is_some_and(|bytes| bytes < 1024) {
        report.problem(
            "receive.max_body",
            "`receive.max_body` is less than 1KiB, too little for any message",
            "Write something like \"1MiB\".",
        );
    }
    receiver_paths(receive, report);
}

fn receiver_paths(receive: &ReceiveSettings, report: &mut ValidationReport<'_>) {
    let own = [&receive.lead_update_path, &receive.message_path, &receive.chat_lead_path];
    let keys = ["receive.lead_update_path", "receive.message_path", "receive.chat_lead_path"];
    for (key, path) in keys.into_iter().zip(own).filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        let fits = |c: char| {
            c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
        };
        if !path.starts_with('/') || !path.chars().all(fits) {
            report.problem(
                key,
                format!("`{key}` is `{path}`, which is not the path of a web address"),
                "Write it from its first slash on, without host and query, like \"/hooks/conversica/lead\".",
            );
        }
    }
    let paths = receive.paths();
    for (n, (_, mine)) in paths.iter().enumerate() {
        for (m, (_, others)) in paths.iter().enumerate().take(n) {
            // The message names the path that is configured.
            let key = if own[n].is_some() { keys[n] } else { keys[m] };
            if let Some(path) = mine.iter().find(|path| others.contains(path)) {
                report.problem(
                    key,
                    format!("`{path}` is the path of two kinds of posts: `{}` and `{}`", keys[m], keys[n]),
                    "Give each kind a path of its own; a kind without one has the published paths.",
                );
            }
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn writeback(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let writeback = &settings.writeback;
    let statements = [
        ("writeback.lead_update", &writeback.lead_update),
        ("writeback.message", &writeback.message),
        ("writeback.chat_lead", &writeback.chat_lead),
    ];
    let is_sql = writeback.mode == WritebackMode::Sql;
    if is_sql && statements.iter().all(|(_, statement)| statement.is_none()) {
        report.problem(
            "writeback.mode",
            "`writeback.mode` is `sql`, but no statement is set",
            "Set `lead_update`, `message` or `chat_lead` under [writeback], or another mode.",
        );
    }
    for (key, _) in statements.iter().filter(|(_, statement)| !is_sql && statement.is_some()) {
        report.warning(key, format!("`{key}` has no effect unless `writeback.mode` is `sql`"));
    }
}
