//! A scene for the program: its own directory with a small CRM, a configuration that a test changes key by key, and the
//! state that the program makes. No output of the program in a scene may contain the password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

use super::binary::{Cli, Output, Running};
use super::engine::Engine;
use super::postgres::{Cluster, Database, cluster};
use super::wait::wait_until;

/// Occurs in no other text, so that any appearance is a leak.
pub const PASSWORD: &str = "Xyzzy-never-to-be-seen-42";

const TABLE: &str = "create table leads (id integer primary key, first_name text, last_name text, email text, \
                     owner_name text, opt_out integer not null default 0, conversation text)";

pub struct Scene {
    directory: TempDir,
    crm: Store,
    state: Store,
    settings: Vec<(&'static str, &'static str, String)>,
}

/// A database of the scene, with direct access to it.
#[derive(Clone, Debug)]
pub enum Store {
    File(PathBuf),
    Database(Database),
}

impl Store {
    pub fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
            Self::Database(database) => database.url.clone(),
        }
    }

    /// One text a row. The state's tables are found under their bare names.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<String> {
        match self {
            Self::File(path) => sqlite(path, statements).expect("SQLite takes the statements"),
            Self::Database(database) => {
                let answer = database.sql(&format!("set search_path = public, conversica_sync; {statements}"));
                answer.lines().map(str::to_owned).collect()
            }
        }
    }
}

impl Scene {
    /// As [`Scene::new`], with CRM and state on that engine.
    pub fn on(engine: Engine, endpoint: &str, leads: u32) -> Self {
        match engine {
            Engine::Sqlite => Self::new(endpoint, leads),
            Engine::Postgres => Self::on_cluster(cluster(), endpoint, leads),
        }
    }

    /// As [`Scene::new`], with CRM and state in databases of that cluster.
    pub fn on_cluster(cluster: &Cluster, endpoint: &str, leads: u32) -> Self {
        let mut scene = Self::without_source(endpoint);
        scene.crm = Store::Database(cluster.database());
        scene.state = Store::Database(cluster.database());
        let (crm, state) = (scene.crm.url(), scene.state.url());
        scene.set_text("source", "url", &crm).set_text("state", "url", &state);
        scene.crm(TABLE);
        scene.add(1, leads);
        scene
    }

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
        let crm = Store::File(directory.path().join("crm.db"));
        let state = Store::File(directory.path().join("state.db"));
        let text = |value: &str| format!("{value:?}");
        let settings = vec![
            ("source", "url", text(&crm.url())),
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
            ("state", "url", text(&state.url())),
            ("admin", "listen", text("127.0.0.1:0")),
        ];
        Self { directory, crm, state, settings }
    }

    /// The same as [`Scene::new`] with the state on that engine.
    pub fn with_state_on(engine: Engine, endpoint: &str, leads: u32) -> Self {
        let mut scene = Self::new(endpoint, leads);
        if engine == Engine::Postgres {
            scene.state = Store::Database(cluster().database());
            let url = scene.state.url();
            scene.set_text("state", "url", &url);
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

    /// The program, with the current configuration written to its file.
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

    /// Runs a command to its end; the output must not contain the password.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.cli().run(arguments);
        assert!(!format!("{output}").contains(PASSWORD), "the password is printed");
        output
    }

    /// Starts the daemon and waits until it reports that it runs.
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
        // A server cannot know that the process is gone, so the claims would wait for their leases; this ends the leases
        // at once.
        if matches!(self.state, Store::Database(_)) {
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

    /// Runs statements in the CRM database, made on first use; one text a row.
    #[track_caller]
    pub fn crm(&self, statements: &str) -> Vec<String> {
        self.crm.sql(statements)
    }

    pub fn crm_store(&self) -> &Store {
        &self.crm
    }

    pub fn state_store(&self) -> &Store {
        &self.state
    }

    /// The state is in that database from now on.
    pub fn move_state(&mut self, state: Store) {
        let url = state.url();
        self.state = state;
        self.set_text("state", "url", &url);
    }

    /// Runs a query on the state; one text a row.
    #[track_caller]
    pub fn state(&self, query: &str) -> Vec<String> {
        self.state.sql(query)
    }
}

/// Runs statements in an SQLite file; returns the first column, which has to be text.
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
