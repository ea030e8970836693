//! A scene for the program: a directory of its own with a small CRM, a configuration that a test changes key by key, and
//! the state that comes of it. Whatever the program says in a scene, it never says the password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

use super::binary::{Cli, Output, Running};
use super::engine::Engine;
use super::postgres::{Database, cluster};
use super::wait::wait_until;

/// Stands in no other text, so that any appearance is a leak.
pub const PASSWORD: &str = "Xyzzy-never-to-be-seen-42";

const TABLE: &str = "create table leads (id integer primary key, first_name text, last_name text, email text, \
                     owner_name text, opt_out integer not null default 0, conversation text)";

pub struct Scene {
    directory: TempDir,
    /// Where the state is, if not in the directory.
    database: Option<Database>,
    settings: Vec<(&'static str, &'static str, String)>,
}

impl Scene {
    /// An SQLite CRM with that many good leads, to be sent to `endpoint` without being asked, and fast.
    pub fn new(endpoint: &str, leads: u32) -> Self {
        let scene = Self::without_source(endpoint);
        scene.crm(TABLE);
        scene.add(1, leads);
        scene
    }

    /// The same with the CRM still to be made, by the test.
    pub fn without_source(endpoint: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let text = |value: &str| format!("{value:?}");
        let settings = vec![
            ("source", "url", format!("\"sqlite://{}\"", directory.path().join("crm.db").display())),
            ("source", "table", text("leads")),
            ("source", "key", text("id")),
            ("source", "poll_interval", text("100ms")),
            ("lead", "conversationId", "{ value = \"Inbound Leads\" }".to_owned()),
            ("lead", "firstName", text("first_name")),
            ("lead", "lastName", text("last_name")),
            ("lead", "email", text("email")),
            ("lead", "leadSource", "{ value = \"Website\" }".to_owned()),
            ("lead", "repName", text("owner_name")),
            ("lead", "optOut", text("opt_out")),
            ("conversica", "endpoint", text(endpoint)),
            ("conversica", "username", text("acme-api")),
            ("conversica", "password", text(PASSWORD)),
            ("delivery", "requests_per_second", "1000".to_owned()),
            ("delivery", "timeout", text("10s")),
            ("delivery.retry", "initial_interval", text("10ms")),
            ("delivery.retry", "max_interval", text("50ms")),
            ("delivery.breaker", "failures", "1000".to_owned()),
            ("safety", "first_run", text("send")),
            ("state", "url", format!("\"sqlite://{}\"", directory.path().join("state.db").display())),
            ("admin", "listen", text("127.0.0.1:0")),
        ];
        Self { directory, database: None, settings }
    }

    /// The same as [`Scene::new`] with the state on that engine.
    pub fn with_state_on(engine: Engine, endpoint: &str, leads: u32) -> Self {
        let mut scene = Self::new(endpoint, leads);
        if engine == Engine::Postgres {
            let database = cluster().database();
            scene.set_text("state", "url", &database.url);
            scene.database = Some(database);
        }
        scene
    }

    /// Sets a key to a value as TOML writes it; leaves the key out when the value is blank.
    pub fn set(&mut self, section: &'static str, key: &'static str, value: &str) -> &mut Self {
        self.settings.retain(|(s, k, _)| (*s, *k) != (section, key));
        if !value.is_empty() {
            self.settings.push((section, key, value.to_owned()));
        }
        self
    }

    /// As [`Scene::set`], for a text.
    pub fn set_text(&mut self, section: &'static str, key: &'static str, value: &str) -> &mut Self {
        self.set(section, key, &format!("{value:?}"))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn state_file(&self) -> PathBuf {
        self.directory().join("state.db")
    }

    /// What is in the directory, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory()).expect("the directory is there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The program, with the configuration written as it now stands.
    pub fn cli(&self) -> Cli {
        Cli::new(self.directory()).config(&self.config_text())
    }

    pub fn config_text(&self) -> String {
        let mut sections: Vec<&str> = self.settings.iter().map(|(section, _, _)| *section).collect();
        sections.sort_unstable();
        sections.dedup();
        let mut text = String::new();
        for section in sections {
            text.push_str(&format!("[{section}]\n"));
            for (_, key, value) in self.settings.iter().filter(|(s, _, _)| *s == section) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }

    /// Runs a command to its end; the password must not be in what it says.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.cli().run(arguments);
        assert!(!format!("{output}").contains(PASSWORD), "the password is printed");
        output
    }

    /// Starts the daemon and waits until it says that it runs.
    #[track_caller]
    pub fn daemon(&self) -> Running {
        let mut running = self.cli().spawn(&["run"]);
        running.wait_for_line("\"message\":\"running\"", Duration::from_secs(30));
        running
    }

    /// The status document, whatever the exit code is.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(&["status", "--json"]).json()
    }

    /// As [`Scene::daemon`], then `kill -9` as soon as `reason` is true.
    #[track_caller]
    pub fn killed_daemon(&self, what: &str, reason: impl FnMut() -> bool) -> Output {
        let daemon = self.daemon();
        wait_until(what, Duration::from_secs(30), reason);
        let output = daemon.kill();
        // Where a server cannot know that the process is gone, the claims wait for their leases; here, no longer.
        if self.database.is_some() {
            self.state("update lead set lease_until = 0 where status = 'in_flight'");
        }
        output
    }

    /// Waits until the status document is as wanted.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, deadline: Duration, wanted: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let start = std::time::Instant::now();
        wait_until(what, deadline + Duration::from_secs(1), || {
            last = self.status();
            assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}; the status is {last:#}");
            wanted(&last)
        });
    }

    /// Adds good leads with the ids `first` to `last`.
    pub fn add(&self, first: u32, last: u32) {
        if first > last {
            return;
        }
        self.crm(&format!(
            "with recursive n (i) as (select {first} union all select i + 1 from n where i < {last}) \
             insert into leads (id, first_name, last_name, email, owner_name, conversation) \
             select i, 'Ann' || i, 'Bell', 'ann' || i || '@example.com', 'Rae Rep', 'Inbound Leads' from n"
        ));
    }

    /// Runs statements in the CRM database, made on first use.
    #[track_caller]
    pub fn crm(&self, statements: &str) {
        let file = self.directory().join("crm.db");
        sqlite(&file, statements).expect("the CRM takes the statement");
    }

    /// One text a row: what a query finds in the state.
    #[track_caller]
    pub fn state(&self, query: &str) -> Vec<String> {
        if let Some(database) = &self.database {
            let found = database.sql(&format!("set search_path = conversica_sync; {query}"));
            return found.lines().filter(|line| *line != "SET").map(str::to_owned).collect();
        }
        sqlite(&self.state_file(), query).expect("the state takes the query")
    }
}

/// Runs statements in an SQLite file; hands back the first column, which has to be text.
pub fn sqlite(file: &Path, statements: &str) -> sqlx::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await?;
        sqlx::raw_sql("pragma busy_timeout = 10000").execute(&mut connection).await?;
        let rows = sqlx::query_scalar(AssertSqlSafe(statements.to_owned())).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows)
    })
}
