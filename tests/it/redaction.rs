//! No output contains personal data or a secret, whatever fails and at every log level. The test plants distinctive texts
//! in rows, answers, URLs and settings, and searches every line of a whole run for them.
//!
//! `plan` and `lead` show data on purpose, and the test does not search their output.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;

use crate::support::binary::{Cli, Output};
use crate::support::engine::Engine;
use crate::support::postgres::{Cluster, Database};
use crate::support::scene::{PASSWORD, Scene};
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};

const SOON: Duration = Duration::from_secs(40);

/// In lower case, like the text that is searched for them.
const PERSONAL: [&str; 8] =
    ["wilhelmina", "quackenbush", "planted.example", "867-5309", "8675309", "marzipan", "likes llamas", "llama talk"];
const SOURCE_PASSWORD: &str = "src-Plover-5150";
const STATE_PASSWORD: &str = "st-Plugh-6160";
const ADMIN_TOKEN: &str = "adm-Frotz-7170-long-enough-for-a-token";
const RECEIVE_PASSWORD: &str = "rcv-Gnusto-8180";
const TEST_LEAD_TOKEN: &str = "tlt-Rezrov-9190";
const API_KEY: &str = "key-Blorb-1011";
const PASS_FILE: &str = "pgp-Zemdor-2022";

/// Columns of the CRM, all text but the key, and a row with all the texts that must not appear elsewhere.
const TABLE: &str = "create table leads (id integer, first_name text, last_name text, email text, phone text, street text, \
                     note text, conversation text, owner_name text, opt_out text, created text, stage text, extra text)";
const ROW: &str = "'Wilhelmina', 'Quackenbush', 'wilhelmina@planted.example', '+1 555 867-5309', '77 Marzipan Lane', \
                   'likes llamas', 'Llama Talk', 'Rae Rep', 'N', '2026-01-02', 'New', '{}'";

struct Life {
    scene: Scene,
    engine: Engine,
    /// PostgreSQL's servers of source and state, so that each can go away alone.
    servers: Option<[(Cluster, Database); 2]>,
    said: RefCell<Vec<(String, String)>>,
}

impl Life {
    fn new(engine: Engine, endpoint: &str, format: &str) -> Self {
        let mut scene = Scene::without_source(endpoint);
        let servers = (engine == Engine::Postgres).then(|| {
            [(); 2].map(|()| {
                let cluster = Cluster::private();
                let database = cluster.database();
                (cluster, database)
            })
        });
        if let Some([(_, source), (_, state)]) = &servers {
            scene.set_text("source", "url", &with_password(&source.url, SOURCE_PASSWORD));
            scene.set_text("state", "url", &with_password(&state.url, STATE_PASSWORD));
        }
        for (key, column) in [("conversationId", "conversation"), ("homePhone", "phone"), ("address", "street")] {
            scene.set_text("lead", key, column);
        }
        scene
            .set("lead", "leadStatus", "{ column = \"stage\", map = { New = \"New\" } }")
            .set_text("lead", "date", "created");
        scene.set_text("lead.custom", "remark", "note");
        scene.set_text("admin", "token", ADMIN_TOKEN);
        scene.set_text("receive", "listen", "127.0.0.1:0").set_text("receive", "username", "conversica");
        scene.set_text("receive", "password", RECEIVE_PASSWORD);
        scene.set_text("log", "level", "trace").set_text("log", "format", format);
        Self { scene, engine, servers, said: RefCell::default() }
    }

    fn sql(&self, statements: &str) {
        match &self.servers {
            Some([(_, source), _]) => drop(source.sql(statements)),
            None => drop(self.scene.crm(statements)),
        }
    }

    fn insert(&self, id: u32, change: &str) {
        self.sql(&format!("insert into leads values ({id}, {ROW})"));
        if !change.is_empty() {
            self.sql(&format!("update leads set {change} where id = {id}"));
        }
    }

    fn heard(&self, what: &str, output: Output) -> Output {
        self.said.borrow_mut().push((what.to_owned(), format!("{}\n{}", output.stdout, output.stderr)));
        output
    }

    /// Runs a command and remembers its output.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Output {
        self.run_as(self.scene.cli(), arguments, code)
    }

    #[track_caller]
    fn run_as(&self, cli: Cli, arguments: &[&str], code: i32) -> Output {
        self.heard(&arguments.join(" "), cli.run(arguments)).expect_code(code)
    }

    /// Runs all commands that show the status.
    #[track_caller]
    fn look(&self, code: i32) {
        self.run(&["status"], code);
        self.run(&["status", "--json"], code);
    }

    /// A mistake in the source: records the output of `check`, `once` and `run`, and of `status` afterwards.
    fn mistake(&self, words: &[&str]) {
        let check = self.heard("check", self.scene.cli().run(&["check"]));
        let once = self.heard("once", self.scene.cli().run(&["once", "--full", "--max-wait", "0s"]));
        let run = self.heard("run", self.scene.cli().run(&["run"]));
        assert!(once.code != Some(0) && once.code == run.code, "{once}\n{run}");
        for word in words {
            assert!(once.stderr.contains(word) && run.stderr.contains(word), "{word}: {once}\n{run}");
        }
        assert!(check.stdout.contains("settings"), "{check}");
        self.heard("status", self.scene.cli().run(&["status", "--json"]));
    }

    /// Runs the daemon until it has logged all of these words, and records the status.
    fn daemon(&self, meanwhile: impl FnOnce(), words: &[&str]) {
        let last_poll = self.scene.status()["last_poll"]["at"].clone();
        let mut daemon = self.scene.cli().spawn(&["run"]);
        let listening = daemon.wait_for_line("admin listening", SOON);
        daemon.wait_for_line("running", SOON);
        self.scene.wait_for_status("a first poll", SOON, |status| status["last_poll"]["at"] != last_poll);
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.id())).expect("Linux's /proc");
        self.said.borrow_mut().push(("the arguments".to_owned(), arguments));
        meanwhile();
        for word in words {
            daemon.wait_for_line(word, SOON);
        }
        self.heard("status", self.scene.cli().run(&["status"]));
        for path in ["/metrics", "/readyz", "/healthz"] {
            let answer = fetch(&listening, path);
            assert!(!answer.is_empty());
            self.said.borrow_mut().push((path.to_owned(), answer));
        }
        daemon.signal(Signal::Terminate);
        // A daemon that is stopped while its state is unreachable ends with an error.
        self.heard("run", daemon.wait(SOON));
    }

    /// The purpose of the whole run.
    fn nothing_has_leaked(&self) {
        let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text).to_lowercase();
        let secrets = [
            PASSWORD,
            SOURCE_PASSWORD,
            STATE_PASSWORD,
            ADMIN_TOKEN,
            RECEIVE_PASSWORD,
            TEST_LEAD_TOKEN,
            API_KEY,
            PASS_FILE,
        ];
        let mut planted: Vec<String> = PERSONAL.map(str::to_owned).into();
        planted.extend(secrets.map(str::to_lowercase));
        planted.extend([base64(format!("acme-api:{PASSWORD}")), base64(format!("conversica:{RECEIVE_PASSWORD}"))]);
        for (what, said) in self.said.borrow().iter() {
            for line in said.lines().filter(|line| !lists_conversations(line)) {
                let lower = line.to_lowercase();
                let leak = planted.iter().find(|text| lower.contains(text.as_str()));
                assert!(leak.is_none(), "`{what}` says {}: {line}", leak.expect("there is one"));
            }
        }
    }

    fn all_that_was_said(&self) -> String {
        self.said.borrow().iter().map(|(_, said)| said.as_str()).collect()
    }
}

/// `check` and `status` list the conversations of the account by their names, which name no person.
fn lists_conversations(line: &str) -> bool {
    line.contains("conversations in the sample: ") || line.trim() == r#""name": "Llama Talk","#
}

/// The answer of the admin server; its address is in that log line.
fn fetch(listening: &str, path: &str) -> String {
    let at = listening.find("127.0.0.1:").expect("an address");
    let address: String = listening[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(format!("http://{address}{path}")).send().await.expect("an answer");
        answer.text().await.expect("a text")
    })
}

fn with_password(url: &str, password: &str) -> String {
    url.replace("postgres://postgres@", &format!("postgres://postgres:{password}@"))
}

fn nothing_leaks(engine: Engine, format: &str) {
    let locked = Arc::new(AtomicBool::new(false));
    let is_locked = locked.clone();
    let endpoint = StandIn::start(move |request| {
        // The answer quotes the lead, whatever its status is.
        let quoting = |status| Reaction::status(status).body(&format!("refused: {}", request.body));
        let first = request.body.contains("Quackenbush\"");
        match request.id.as_deref() {
            _ if is_locked.load(Ordering::SeqCst) => quoting(401),
            Some("1002") => quoting(422),
            Some("1003") if first => Reaction::AcceptThenCut,
            Some("1004") if first => quoting(503).header("Retry-After", "1"),
            _ => Reaction::accept().body(&format!("taken: {}", request.body)),
        }
    });
    let mut life = Life::new(engine, &endpoint.url(), format);
    life.sql(TABLE);
    life.run(&["config", "show"], 0);
    life.run(&["config", "show", "--json"], 0);
    life.look(0);
    good_and_bad_rows(&life, format);
    databases_that_quote(&mut life);
    keys(&mut life);

    locked.store(true, Ordering::SeqCst);
    life.insert(1020, "");
    life.run(&["once", "--json"], 4);
    life.look(4);
    let told = life.scene.run(&["lead", "1020"]).expect_code(0);
    assert!(told.stdout.contains("refused: {") && told.stdout.contains("wilhelmina@planted.example"), "{told}");
    let status = life.run(&["status"], 4);
    assert!(status.stdout.contains("may quote the lead: `conversica-sync lead 1020` shows it"), "{status}");
    life.daemon(|| {}, &["still halted"]);

    settings(&mut life);
    databases_that_are_away(&mut life);
    life.nothing_has_leaked();
}

fn good_and_bad_rows(life: &Life, format: &str) {
    for id in 1001..=1004 {
        life.insert(id, "");
    }
    for (id, change) in [
        (1005, "email = 'wilhelmina at planted.example'"),
        (1006, "opt_out = 'likes llamas'"),
        (1007, "created = 'Llama Talk'"),
        (1008, "stage = 'Marzipan'"),
        (1009, "note = replace('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', 'x', replace('xxxxxxxxxx', 'x', 'likes llamas'))"),
        (1010, "street = 'Marzipan' || chr(10) || 'Lane'"),
        (1011, "first_name = null, owner_name = ''"),
    ] {
        let change = if life.engine == Engine::Sqlite { change.replace("chr(", "char(") } else { change.to_owned() };
        life.insert(id, &change);
    }
    life.run(&["check"], 0);
    let once = life.run(&["once", "--max-wait", "0s"], 3);
    assert!(once.stdout.contains("Read 11 rows: 7 new, 0 changed, 4 invalid"), "{once}");
    life.look(3);
    let rows = if format == "json" { "\"rows\":12" } else { "rows=12" };
    let changes = || {
        life.sql("update leads set last_name = 'Quackenbush-Smith' where id in (1003, 1004)");
        life.insert(1012, "");
    };
    life.daemon(changes, &[rows, "polled"]);
    let said = life.all_that_was_said();
    for words in ["running", "stopped", "rejected", "answers unknown", "polled"] {
        assert!(said.contains(words), "{words}");
    }
}

/// Statements of the operator that fail on a value, in a different way on each engine.
fn databases_that_quote(life: &mut Life) {
    let by_hand = ["not shown", "by hand"];
    let (filter, lines): (_, &[(&str, &str, &[&str])]) = match life.engine {
        Engine::Sqlite => (
            "json_extract(extra, note) is null",
            &[
                ("where", "fts_words(note)", &["no such function"]),
                ("where", "json(note) is null", &["malformed JSON"]),
            ],
        ),
        Engine::Postgres => {
            life.sql(
                "create function shout(text) returns boolean language plpgsql as \
                 $$ begin raise warning 'warned of %', $1; return true; end $$; \
                 create function fail(text, text) returns boolean language plpgsql as \
                 $$ begin raise exception 'no lead %', $1 using errcode = $2; end $$; \
                 create function wander(text) returns boolean language plpgsql as \
                 $$ begin execute 'select ' || quote_ident($1); return true; end $$",
            );
            (
                "note::integer > 0",
                &[
                    ("where", "fail(email, 'P0001')", &["P0001", "raised by a function"]),
                    ("where", "fail(email, '42P01')", &["42P01", "not shown"]),
                    ("where", "wander(last_name)", &["42703", "not shown"]),
                    ("where", "1 / (length(note) - 12) >= 0", &["22012"]),
                    ("changed_at", "note::timestamp", &["22007", "data exception"]),
                    ("where", "opt_out = 5", &["operator does not exist"]),
                ],
            )
        }
    };
    life.scene.set_text("source", "where", filter);
    life.mistake(&by_hand);
    life.scene.set("source", "where", "");
    for (key, text, words) in lines {
        life.scene.set_text("source", key, text);
        life.mistake(words);
        life.scene.set("source", key, "");
    }
    if life.engine == Engine::Postgres {
        life.scene.set_text("source", "where", "shout(email)");
        life.run(&["once", "--max-wait", "0s"], 3);
    }
    // The same filter during a run: the poll succeeds until a bad row comes.
    life.scene.set_text("source", "where", &format!("id < 2000 or {filter}"));
    life.daemon(|| life.insert(2001, ""), &["a poll failed", "not shown"]);
    life.sql("delete from leads where id = 2001");
    life.scene.set("source", "where", "");
}

/// Rows with duplicate or missing keys, and columns that do not fit.
fn keys(life: &mut Life) {
    life.sql(&format!("insert into leads values (1001, {ROW})"));
    life.run(&["check"], 2);
    life.run(&["once", "--full", "--max-wait", "0s"], 3);
    life.look(3);
    life.sql(&format!("update leads set id = null where id = 1001; insert into leads values (1001, {ROW})"));
    life.run(&["check"], 2);
    life.run(&["once", "--full", "--max-wait", "0s"], 3);
    life.look(3);
    life.sql("delete from leads where id is null");
    life.scene.set_text("lead", "city", "town");
    life.mistake(&["no column \"town\""]);
    life.scene.set("lead", "city", "");
    if life.engine == Engine::Postgres {
        life.sql("alter table leads add column tags text[] default '{likes llamas}'");
        life.scene.set_text("lead", "city", "tags");
        life.mistake(&["\"tags\"", "text[]"]);
        life.scene.set("lead", "city", "");
    }
}

/// Secrets in rejected settings, and in messages of the database driver.
fn settings(life: &mut Life) {
    life.scene.set_text("conversica", "test_lead_token", TEST_LEAD_TOKEN);
    life.run(&["check"], 0);
    life.run(&["config", "show"], 0);
    life.scene.set("conversica", "test_lead_token", "");
    let password = format!("{PASSWORD:?}");
    for wrong in [&password[..password.len() - 1], &format!("[{password}]"), &format!("{{ a = {password} }}"), PASSWORD]
    {
        life.scene.set("conversica", "password", wrong);
        life.run(&["check"], 2);
    }
    life.scene.set("conversica", "password", &password);
    let Some([(_, source), _]) = &life.servers else { return };
    let pass_file = life.scene.directory().join("pgpass");
    std::fs::write(&pass_file, format!("{PASS_FILE}\n")).expect("the directory is writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&pass_file, mode).expect("the file is ours");
    let with_parameter = format!("{}&apikey={API_KEY}", source.url);
    life.scene.set_text("source", "url", &with_parameter);
    let cli = life.scene.cli().env("PGPASSFILE", &pass_file.display().to_string());
    life.run_as(cli.clone(), &["check"], 0);
    life.run_as(cli, &["once"], 4);
    let url = with_password(&source.url, SOURCE_PASSWORD);
    life.scene.set_text("source", "url", &url);
}

fn databases_that_are_away(life: &mut Life) {
    let missing = format!("sqlite://{}/missing/x.db", life.scene.directory().display());
    let Some([(source_server, _), (state_server, _)]) = &life.servers else {
        life.scene.set_text("state", "url", &missing);
        life.run(&["once"], 2);
        life.run(&["check"], 2);
        life.scene.set_text("source", "url", &missing);
        life.run(&["once"], 2);
        life.run(&["run"], 2);
        return;
    };
    life.daemon(
        || {
            source_server.stop();
            state_server.stop();
        },
        &["nothing is sent until it can"],
    );
    life.run(&["status"], 2);
    life.run(&["once"], 2);
    life.run(&["check"], 2);
    state_server.start();
    run_waits(life);
}

fn run_waits(life: &mut Life) {
    let mut waiting = life.scene.cli().spawn(&["run"]);
    waiting.wait_for_line("is away; waiting for it", SOON);
    waiting.signal(Signal::Terminate);
    life.heard("run", waiting.wait(SOON)).expect_code(0);
}

#[test]
fn nothing_leaks_with_sqlite_and_json_logs() {
    nothing_leaks(Engine::Sqlite, "json");
}

#[test]
fn nothing_leaks_with_sqlite_and_logs_for_people() {
    nothing_leaks(Engine::Sqlite, "pretty");
}

#[test]
fn nothing_leaks_with_postgres_and_json_logs() {
    nothing_leaks(Engine::Postgres, "json");
}

#[test]
fn nothing_leaks_with_postgres_and_logs_for_people() {
    nothing_leaks(Engine::Postgres, "pretty");
}
