//! Checks URLs: schemes, hosts, encryption, and whether two of them name the same file.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use url::Url;

use crate::config::url_engine::{self, is_mysql};
use crate::config::validate::report::ValidationReport;
use crate::config::{ChangeDetection, ServiceSettings};

pub(super) fn endpoint(endpoint: &Url, report: &mut ValidationReport<'_>) {
    const KEY: &str = "conversica.endpoint";
    let is_local = endpoint.host_str().is_some_and(is_loopback_host);
    match endpoint.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => report.problem(
            KEY,
            "`conversica.endpoint` is not HTTPS: credentials and personal data would travel in the open",
            "Write https://…; http:// is for a stand-in on this machine (127.0.0.1, localhost) only.",
        ),
        _ => report.problem(KEY, "`conversica.endpoint` is not an HTTPS URL", "Write https://…"),
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        report.problem(
            KEY,
            "`conversica.endpoint` holds a user name or password",
            "Remove the part before the @; set `username` and `password_file` under [conversica].",
        );
    }
}

/// The address for alerts: their documents contain personal data.
pub(super) fn alerts(key: &str, url: &Url, report: &mut ValidationReport<'_>) {
    let is_local = url.host_str().is_some_and(is_loopback_host);
    if url.scheme() == "https" || (url.scheme() == "http" && is_local) {
        return;
    }
    // The whole address may be a secret, so no part of it is shown.
    report.problem(
        key,
        format!("`{key}` is not HTTPS: personal data would travel in the open"),
        "Write https://…; http:// is for this machine (127.0.0.1, localhost) only.",
    );
}

/// Whether a host, as URLs write it, is this machine.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

pub(super) fn databases(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let (source, state) = (settings.source.url.expose_secret(), settings.state.url.expose_secret());
    for (key, url) in [("source.url", source), ("state.url", state)] {
        if !report.is_spoiled(key) {
            database(key, url, report);
        }
    }
    mysql_limits(settings, report);
    if let Some(writeback) = &settings.writeback.url
        && !report.is_spoiled("writeback.url")
    {
        let writeback = writeback.expose_secret();
        database("writeback.url", writeback, report);
        if sqlite_file(writeback).is_some_and(|file| sqlite_file(state) == Some(file)) {
            report.problem(
                "writeback.url",
                "`writeback.url` names the same SQLite file as `state.url`",
                "Write the URL of the CRM's database, or leave it out to use that of `source.url`.",
            );
        }
    }
    let files = (sqlite_file(source), sqlite_file(state));
    if files.0.is_some() && files.0 == files.1 && !report.is_spoiled("source.url") {
        report.problem(
            "state.url",
            "`state.url` names the same SQLite file as `source.url`",
            "Give our own tables a file of their own, like sqlite:///var/lib/conversica-sync/state.db",
        );
    }
    if state.starts_with("sqlite::memory:") {
        report.warning("state.url", "`state.url` is in memory: what was sent is forgotten when the program ends");
    }
}

/// The parts that do not work on MySQL and MariaDB.
fn mysql_limits(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    let source = settings.source.url.expose_secret();
    if is_mysql(source) && settings.source.changes == ChangeDetection::Triggers {
        report.problem(
            "source.changes",
            "`source.changes` is `triggers`, and conversica-sync makes no triggers on MySQL and MariaDB",
            "Write changes = \"poll\" and set `changed_at`: full compares find deletes there.",
        );
    }
}

fn database(key: &str, url: &str, report: &mut ValidationReport<'_>) {
    if let Some(refused) = url_engine::refuse(url) {
        return report.problem(key, format!("`{key}` {}", refused.what), refused.cure);
    }
    let scheme = url.split(':').next().unwrap_or("");
    match scheme {
        "mysql" | "mariadb" if key == "state.url" => report.problem(
            key,
            "`state.url` is on MySQL or MariaDB: the state is kept on SQLite or PostgreSQL",
            "Write it like sqlite:///var/lib/conversica-sync/state.db",
        ),
        "sqlite" if url == "sqlite:" || url == "sqlite://" => {
            report.problem(key, format!("`{key}` names no file"), "Write it like sqlite:///var/lib/crm/crm.db");
        }
        "sqlite" => {}
        "postgres" | "postgresql" | "mysql" | "mariadb" => server(key, url, report),
        _ => report.problem(
            key,
            // The value may be a misplaced password, so no part of it is shown.
            format!("`{key}` is neither a SQLite nor a PostgreSQL nor a MySQL URL"),
            "Write it like sqlite:///var/lib/crm/crm.db, postgres://user@host/database or mysql://user@host/database",
        ),
    }
}

fn server(key: &str, text: &str, report: &mut ValidationReport<'_>) {
    let Ok(url) = Url::parse(text) else {
        return report.problem(
            key,
            format!("`{key}` is not a URL that can be read"),
            "Write it like postgres://user:password@host/database or mysql://user:password@host/database; in a password, @ / ? # % : are written \
             %40 %2F %3F %23 %25 %3A",
        );
    };
    let parameter = |names: &[&str]| {
        url.query_pairs().find(|(name, _)| names.contains(&name.as_ref())).map(|(_, value)| value.into_owned())
    };
    let host = parameter(&["host", "hostaddr"]).or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default();
    // Empty, or a path (perhaps percent-encoded): a Unix socket.
    let on_mysql = is_mysql(text);
    let is_local = host.is_empty()
        || on_mysql && parameter(&["socket"]).is_some()
        || host.starts_with('/')
        || host.starts_with("%2F")
        || host.starts_with("%2f");
    let (name, strict, lax) =
        if on_mysql { ("ssl-mode", "verify-identity", "preferred") } else { ("sslmode", "verify-full", "prefer") };
    if !is_local && !is_loopback_host(&host) && parameter(&["sslmode", "ssl-mode"]).is_none() {
        report.warning(
            key,
            format!(
                "`{key}` does not say `{name}`: if the server offers no TLS, everything travels in the open. Add \
                 ?{name}={strict}, or ?{name}={lax} if that is meant"
            ),
        );
    }
}

/// The file of an SQLite URL, absolute and with links resolved as far as possible.
fn sqlite_file(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or("");
    if path.is_empty() || path == ":memory:" {
        return None;
    }
    let path = PathBuf::from(path);
    fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "::1", "[::ffff:127.0.0.1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "0.0.0.0", "[::]", ""] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn the_ways_to_write_a_sqlite_url_name_the_same_file() {
        assert_eq!(sqlite_file("sqlite:///x/crm.db"), sqlite_file("sqlite:/x/crm.db?mode=ro"));
        assert_eq!(sqlite_file("sqlite::memory:"), None);
        assert_ne!(sqlite_file("sqlite:///x/crm.db"), sqlite_file("sqlite:///x/state.db"));
    }
}
