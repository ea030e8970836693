//! Alerts to people: by a web address, by a command, by both, with retries until one succeeds; no log contains their
//! text.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::binary::Running;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);
/// No log may contain any text of a document or of the address.
const PERSONAL: &str = "Wilhelmina Quackenbush";
const TOKEN: &str = "hook-token-Xyzzy-77";

on_both_engines!(
    blocking: people_are_told_once_the_address_takes_it,
    what_was_under_way_at_a_kill_is_told_once_more_and_no_more,
    what_has_succeeded_in_one_way_is_not_repeated_for_the_other,
    after_a_day_it_is_given_up_aloud,
);

fn document(occasion: &str) -> String {
    json!({"kind": "hot_lead", "id": "7", "occasion": occasion, "name": PERSONAL}).to_string()
}

/// Puts an alert into the state, due at once.
fn put(scene: &Scene, occasion: &str) {
    scene.state(&format!(
        "insert into alert (kind, id, client_id, occasion, body, created_at, due_at) \
         values ('hot_lead', '7', '', '{}', '{}', {}, 0)",
        occasion.replace('\'', "''"),
        document(occasion).replace('\'', "''"),
        chrono::Utc::now().timestamp_micros()
    ));
}

fn stands(scene: &Scene) -> Vec<String> {
    scene.state(
        "select case when done_at is null then 'due ' else 'over ' end || attempts || ' ' || coalesce(detail, '') \
         from alert order by seq",
    )
}

#[track_caller]
fn wait_until_over(scene: &Scene) {
    wait_until("every alert to be over", PATIENCE, || stands(scene).iter().all(|row| row.starts_with("over")));
}

fn telling(engine: Engine) -> Scene {
    let mut scene = Scene::on(engine, "http://127.0.0.1:9/json/", 0);
    scene.set_text("receive", "listen", "127.0.0.1:0").set_text("receive", "username", "conversica");
    scene.set_text("receive", "password", "a password for Conversica").set_text("writeback", "mode", "off");
    scene.set_text("log", "level", "trace");
    scene
}

fn at(scene: &mut Scene, hook: &StandIn) {
    let url = format!("{}{TOKEN}", hook.url());
    scene.set_text("alerts", "url", &url);
}

fn ended(daemon: Running) {
    daemon.signal(Signal::Terminate);
    discreet(&daemon.wait(PATIENCE).expect_code(0).stderr);
}

fn discreet(said: &str) {
    for secret in ["Wilhelmina", "Quackenbush", TOKEN, "/json/hook"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

fn people_are_told_once_the_address_takes_it(engine: Engine) {
    let elsewhere = StandIn::accepting();
    let target = elsewhere.url();
    let hook = StandIn::start(move |request| match request.n {
        1 => Reaction::status(503).body(PERSONAL),
        2 => Reaction::status(302).header("location", &target),
        _ => Reaction::status(204).body(""),
    });
    let mut scene = telling(engine);
    at(&mut scene, &hook);
    let mut daemon = scene.daemon();
    put(&scene, "it's hot");
    wait_until_over(&scene);
    assert_eq!(stands(&scene), ["over 3 {\"url\":\"told\"}"]);
    let requests = hook.requests();
    assert_eq!(requests.len(), 3);
    for received in requests {
        assert_eq!(received.request.body, document("it's hot"));
        assert_eq!(received.request.header("content-type"), Some("application/json"));
        assert_eq!(received.request.path, format!("/json/{TOKEN}"));
    }
    assert!(elsewhere.requests().is_empty(), "nobody is sent elsewhere");
    let line = daemon.wait_for_line("an alert could not be delivered; retrying", PATIENCE);
    assert!(
        line.contains("\"kind\":\"hot_lead\"") && line.contains("\"id\":\"7\"") && line.contains("status 503"),
        "{line}"
    );
    ended(daemon);
}

fn what_was_under_way_at_a_kill_is_told_once_more_and_no_more(engine: Engine) {
    let gate = Gate::new();
    let held = gate.clone();
    let hook = StandIn::start(move |_| Reaction::accept().when_opened(&held));
    let mut scene = telling(engine);
    at(&mut scene, &hook);
    let daemon = scene.daemon();
    put(&scene, "one");
    hook.wait_for_requests(1, PATIENCE);
    discreet(&daemon.kill().stderr);
    gate.open();
    let daemon = scene.daemon();
    put(&scene, "two");
    hook.wait_for_requests(2, PATIENCE);
    wait_until("the second to be over", PATIENCE, || stands(&scene)[1].starts_with("over"));
    assert_eq!(stands(&scene)[0], "due 1 ", "whoever took it is given time");
    // The lease of the first alert is over.
    scene.state("update alert set due_at = 0 where done_at is null");
    wait_until_over(&scene);
    assert_eq!(hook.requests().len(), 3);
    ended(daemon);
}

fn what_has_succeeded_in_one_way_is_not_repeated_for_the_other(engine: Engine) {
    let hook = StandIn::accepting();
    let mut scene = telling(engine);
    at(&mut scene, &hook);
    let told = scene.directory().join("told");
    let tries = scene.directory().join("tries");
    let command = format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ] && cat >> {1}", tries.display(), told.display());
    scene.set_text("alerts", "command", &command);
    let daemon = scene.daemon();
    put(&scene, "both");
    wait_until_over(&scene);
    assert_eq!(stands(&scene), ["over 3 {\"command\":\"told\",\"url\":\"told\"}"]);
    assert_eq!((hook.requests().len(), read(&told)), (1, document("both")));
    ended(daemon);
}

fn after_a_day_it_is_given_up_aloud(engine: Engine) {
    let hook = StandIn::start(|_| Reaction::status(500));
    let mut scene = telling(engine);
    at(&mut scene, &hook);
    let mut daemon = scene.daemon();
    put(&scene, "old");
    hook.wait_for_requests(1, PATIENCE);
    wait_until("it to be tried again", PATIENCE, || stands(&scene)[0].contains("status 500"));
    scene.state("update alert set created_at = created_at - 90000000000, attempts = 50, due_at = 0");
    let line = daemon.wait_for_line("given up", PATIENCE);
    assert!(
        line.contains("\"level\":\"ERROR\"") && line.contains("\"id\":\"7\"") && line.contains("hot_lead"),
        "{line}"
    );
    wait_until_over(&scene);
    ended(daemon);
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_command_is_given_the_document_and_none_of_our_secrets() {
    let mut scene = telling(Engine::Sqlite);
    let (told, seen) = (scene.directory().join("told"), scene.directory().join("seen"));
    let command = format!("cat > {}; env > {}; echo {PERSONAL}; echo {PERSONAL} >&2", told.display(), seen.display());
    scene.set_text("alerts", "command", &command);
    let cli = scene.cli().env("CONVERSICA_SYNC__CONVERSICA__USERNAME", "acme-secret").env("HANDED_ON", "yes");
    let cli = cli.env("CREDENTIALS_DIRECTORY", &scene.directory().display().to_string());
    let mut daemon = cli.spawn(&["run"]);
    daemon.wait_for_line("\"message\":\"running\"", PATIENCE);
    put(&scene, "it's \"quoted\"");
    wait_until_over(&scene);
    assert_eq!(read(&told), document("it's \"quoted\""));
    let seen = read(&seen);
    assert!(seen.contains("HANDED_ON=yes"), "{seen}");
    assert!(!seen.contains("CONVERSICA_SYNC__") && !seen.contains("CREDENTIALS_DIRECTORY"), "{seen}");
    ended(daemon);
}

#[test]
fn a_command_that_hangs_is_killed_with_all_it_has_started_and_keeps_no_other_waiting() {
    let mut scene = telling(Engine::Sqlite);
    let (told, hung) = (scene.directory().join("told"), scene.directory().join("hung"));
    let command = format!(
        "read -r line; case $line in *hang*) sleep 1000 & echo $! > {}; wait;; *) echo \"$line\" >> {};; esac",
        hung.display(),
        told.display()
    );
    scene.set_text("alerts", "command", &command).set_text("alerts", "timeout", "5s");
    let daemon = scene.daemon();
    put(&scene, "hang 1");
    for occasion in ["a", "b", "c", "d", "e", "f"] {
        put(&scene, occasion);
    }
    wait_until("the others to be told", PATIENCE, || read(&told).lines().count() == 6);
    assert_eq!(stands(&scene)[0], "due 1 ", "it still hangs");
    let pid = read(&hung).trim().to_owned();
    assert!(is_alive(&pid), "it is there to be killed");
    wait_until("it to be killed", PATIENCE, || stands(&scene)[0].contains("killed"));
    wait_until("its child to be gone", PATIENCE, || !is_alive(&pid));
    ended(daemon);
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn several_instances_tell_each_thing_once() {
    let hook = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(5)));
    let mut scene = telling(Engine::Postgres);
    at(&mut scene, &hook);
    let daemons = [scene.daemon(), scene.daemon(), scene.daemon()];
    for n in 0..20 {
        put(&scene, &format!("occasion {n}"));
    }
    wait_until_over(&scene);
    let mut bodies: Vec<String> = hook.requests().into_iter().map(|received| received.request.body).collect();
    assert_eq!(bodies.len(), 20);
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20);
    daemons.into_iter().for_each(ended);
}

#[test]
fn an_address_in_the_open_is_refused() {
    let mut scene = telling(Engine::Sqlite);
    scene.set_text("alerts", "url", &format!("http://hooks.example.com/{TOKEN}"));
    let refused = scene.run(&["run"]).expect_code(2);
    assert!(refused.stderr.contains("`alerts.url` is not HTTPS"), "{refused}");
    discreet(&refused.stderr);
    scene.set_text("alerts", "url", &format!("https://hooks.example.com/{TOKEN}"));
    discreet(&scene.run(&["config", "show"]).expect_code(0).stdout);
}
