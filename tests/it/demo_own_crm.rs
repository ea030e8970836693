//! `demo --crm`: the operator's own leads arrive at a local Conversica. Nothing else is reached or changed, whatever the settings
//! and the environment name.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::binary::Cli;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{request, send, with_receiver};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;

const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

blocking_on_both_engines!(
    nothing_of_the_operators_is_reached_or_changed,
    a_change_in_the_crm_arrives_until_a_signal_ends_the_demo,
);

/// The program with a directory for temporary files of its own.
fn in_own_place(scene: &Scene) -> (Cli, TempDir) {
    let temporary = tempfile::tempdir().expect("a directory");
    let cli = scene.cli().env("TMPDIR", temporary.path().to_str().expect("a path in UTF-8"));
    (cli, temporary)
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("the directory is there").count() == 0
}

fn nothing_of_the_operators_is_reached_or_changed(engine: Engine) {
    let (conversica, told) = (StandIn::accepting(), StandIn::accepting());
    let mut scene = Scene::on(engine, &conversica.url(), 3);
    with_receiver(&mut scene);
    scene.set_text("source", "changes", "triggers").set_text("alerts", "url", &told.url());
    scene.set_text("alerts", "backlog_older_than", "1s").set("safety", "first_run", "").set(
        "safety",
        "approve_above",
        "1",
    );
    scene.set_text("writeback", "mode", "tables").set_text("conversica", "test_lead_token", "a-token-for-tests");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("update leads set email = 'no address' where id = 2");
    scene.crm("update leads set last_name = 'Changed' where id = 3");
    let crm = || {
        let log = scene.crm("select count(*) || '' from conversica_sync_leads");
        let tables = engine.pick(
            "select name from sqlite_schema order by name",
            "select tablename from pg_tables where schemaname = 'public' order by 1",
        );
        (log, scene.crm(tables), scene.crm("select id || email || last_name from leads order by id"))
    };
    let before = crm();
    assert_ne!(before.0, ["0"], "the log has rows for the daemon");

    let credentials = tempfile::tempdir().expect("a directory");
    for (name, secret) in [("state.url", scene.state_store().url()), ("alerts.url", told.url())] {
        std::fs::write(credentials.path().join(name), secret).expect("the directory is ours");
    }
    let (cli, temporary) = in_own_place(&scene);
    let cli = cli.env("CREDENTIALS_DIRECTORY", credentials.path().to_str().expect("a path in UTF-8"));
    let cli = cli.env("CONVERSICA_SYNC__CONVERSICA__ENDPOINT", &conversica.url());
    let cli = cli.env("CONVERSICA_SYNC__STATE__URL", &scene.state_store().url());
    let output = cli.deadline(PATIENCE).run(&["demo", "--crm", "conversica-sync.toml", "--once"]).expect_code(0);
    for said in [
        "Nothing is sent to Conversica, nothing is written to your database, and no alert is sent.",
        "First pass: 2 leads delivered, 1 invalid rows left out.",
        "lead 2 is invalid: ",
        "\"lastName\": \"Bell\"",
        "nothing is left behind",
    ] {
        assert!(output.stdout.contains(said), "{said}: {output}");
    }
    assert!(is_empty(temporary.path()), "{output}");
    assert_eq!((conversica.connections(), told.connections()), (0, 0), "{output}");
    assert_eq!(crm(), before, "{output}");
    let state_is_there = match engine {
        Engine::Sqlite => scene.state_file().exists(),
        Engine::Postgres => {
            let schemas = "select count(*) || '' from pg_namespace where nspname = 'conversica_sync'";
            scene.state_store().sql(schemas) != ["0"]
        }
    };
    assert!(!state_is_there, "the operator's own state is not made: {output}");
}

fn a_change_in_the_crm_arrives_until_a_signal_ends_the_demo(engine: Engine) {
    let conversica = StandIn::accepting();
    let mut scene = Scene::on(engine, &conversica.url(), 2);
    // Nobody has an account yet, and the password's file is still to come.
    scene.set("conversica", "username", "").set("conversica", "password", "");
    scene.set_text("conversica", "password_file", "/nowhere/password");
    let (cli, temporary) = in_own_place(&scene);
    let mut demo = cli.spawn(&["demo", "--crm", "conversica-sync.toml"]);
    demo.wait_for_line("This goes on until Ctrl-C", PATIENCE);
    // The leads are real people's: other users of the machine do not see them.
    let place =
        demo.stdout().lines().find_map(|line| line.trim().strip_prefix("Conversica     http://").map(str::to_owned));
    let address = place.expect("an address").trim_end_matches("/json/").to_owned();
    for page in ["/", "/leads", "/posts"] {
        let answer = send(&address, &request("GET", page, None, b""));
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "{page}: {}", String::from_utf8_lossy(&answer));
    }
    scene.crm("update leads set last_name = 'Changed' where id = 2");
    demo.wait_for_line("→ 1 updates arrived", PATIENCE);
    demo.signal(Signal::Interrupt);
    let output = demo.wait(SOON).expect_code(0);
    assert!(output.stdout.contains("2 leads, from 3 accepted posts; 0 posts were rejected"), "{output}");
    assert!(is_empty(temporary.path()), "{output}");
    assert_eq!(conversica.connections(), 0);
}

#[test]
fn leads_that_real_sending_would_hold_by_their_names_wait_here_too() {
    let mut scene = Scene::new("http://127.0.0.1:1/json/", 2);
    scene.set("conversica", "conversations", &json!(["Inbound Leads"]).to_string());
    scene.set_text("lead", "conversationId", "conversation");
    scene.crm("update leads set conversation = 'Another' where id = 1");
    let (cli, temporary) = in_own_place(&scene);
    let output = cli.deadline(PATIENCE).run(&["demo", "--crm", "conversica-sync.toml", "--once"]).expect_code(0);
    assert!(output.stdout.contains("First pass: 1 leads delivered, 0 invalid"), "{output}");
    assert!(output.stdout.contains("1 wait for approval: unknown_conversation"), "{output}");
    assert!(is_empty(temporary.path()), "{output}");
}

#[test]
fn a_mistake_in_the_settings_or_a_crm_that_is_away_is_told_at_once() {
    let mut scene = Scene::new("http://127.0.0.1:1/json/", 1);
    let (cli, temporary) = in_own_place(&scene);
    let output = cli.run(&["demo", "--crm", "missing.toml"]).expect_code(2);
    assert!(output.stderr.contains("missing.toml cannot be read"), "{output}");
    scene.set_text("source", "key", "no_such_column");
    let (cli, _own) = in_own_place(&scene);
    let output = cli.run(&["demo", "--crm", "conversica-sync.toml"]).expect_code(2);
    assert!(output.stderr.contains("no_such_column") && output.stdout.is_empty(), "{output}");
    scene.set_text("source", "url", "postgres://nobody@127.0.0.1:1/crm?sslmode=disable");
    let (cli, _own) = in_own_place(&scene);
    let output = cli.run(&["demo", "--crm", "conversica-sync.toml", "--once"]);
    assert!(matches!(output.code, Some(1 | 2)) && output.stderr.contains("cannot be reached"), "{output}");
    assert!(is_empty(temporary.path()));
}
