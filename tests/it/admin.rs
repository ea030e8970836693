//! The admin server reports each trouble of the daemon with its fix, and no fault of the admin server stops the sending
//! of leads.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::postgres::{Cluster, cluster};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_for;
use crate::support::watched::{Watched, ask};

const SOON: Duration = Duration::from_secs(20);

/// Rejects the credentials of the scene while the switch is on; accepts others.
fn fickle() -> (StandIn, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let switch = refuses.clone();
    let endpoint = StandIn::start(move |request| {
        // "acme-api:right one", in base64
        let right = request.header("authorization") == Some("Basic YWNtZS1hcGk6cmlnaHQgb25l");
        let refused = switch.load(Ordering::SeqCst) && !right;
        if refused { Reaction::status(401).body("wrong password for Ann") } else { Reaction::status(200) }
    });
    (endpoint, refuses)
}

fn a_halt_is_not_ready(mut scene: Scene, refuses: &AtomicBool) {
    let watched = Watched::start(&scene);
    assert_eq!(watched.wait_until_ready(), json!({ "ready": true, "reasons": [] }));
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    let halted = "conversica_sync_halted{reason=\"credentials\"}";
    watched.wait_for_metric(halted, 0.0);

    refuses.store(true, Ordering::SeqCst);
    scene.crm("update leads set first_name = 'Annie' where id = 1");
    let answer = watched.wait_until_not_ready("halted");
    assert_eq!(answer["reasons"][0]["detail"], "credentials");
    assert!(answer["reasons"][0]["cure"].to_string().contains("conversica-sync resume"), "{answer}");
    watched.wait_for_metric(halted, 1.0);
    assert_eq!(watched.metrics()["conversica_sync_halted{reason=\"endpoint\"}"], 0.0);

    refuses.store(false, Ordering::SeqCst);
    scene.run(&["resume"]).expect_code(0);
    watched.wait_until_ready();
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 2);

    refuses.store(true, Ordering::SeqCst);
    scene.crm("update leads set first_name = 'Anna' where id = 1");
    watched.wait_until_not_ready("halted");
    watched.end();
    scene.set_text("conversica", "password", "right one");
    let watched = Watched::start(&scene);
    watched.wait_until_ready();
    scene.wait_for_status("all in step again", SOON, |status| status["leads"]["in_sync"] == 2);
    watched.end();
}

#[test]
fn a_halt_is_not_ready_and_says_its_cure_until_it_is_lifted() {
    let (endpoint, refuses) = fickle();
    a_halt_is_not_ready(Scene::new(&endpoint.url(), 2), &refuses);
}

#[test]
fn a_halt_is_not_ready_and_says_its_cure_until_it_is_lifted_on_a_postgresql_state() {
    let (endpoint, refuses) = fickle();
    let mut scene = Scene::new(&endpoint.url(), 2);
    let database = cluster().database();
    scene.set_text("state", "url", &database.url);
    a_halt_is_not_ready(scene, &refuses);
}

#[test]
fn a_source_that_cannot_be_polled_is_not_ready_until_it_can() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 2);
    let watched = Watched::start(&scene);
    watched.wait_until_ready();
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    scene.crm("alter table leads rename to mislaid");
    let answer = watched.wait_until_not_ready("source");
    let error = scene.status()["last_poll"]["error"].as_str().expect("an error").to_owned();
    assert!(!answer.to_string().contains(&error), "an error may quote a row: {answer}");
    watched.wait_for_metric("conversica_sync_last_poll_failed", 1.0);
    scene.crm("alter table mislaid rename to leads");
    watched.wait_until_ready();
    watched.wait_for_metric("conversica_sync_last_poll_failed", 0.0);
    watched.end();
}

#[test]
fn a_source_or_a_state_that_is_away_is_not_ready_and_a_restart_is_not_called_for() {
    let cluster = Cluster::private();
    let (crm, state) = (cluster.database(), self::cluster().database());
    crm.sql("create table leads (id int primary key, first_name text, last_name text, email text, owner_name text, opt_out int)");
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &crm.url).set_text("state", "url", &state.url);
    cluster.stop();
    let watched = Watched::start(&scene);
    let answer = watched.wait_until_not_ready("source");
    assert_eq!(answer["reasons"][0]["detail"], "not connected yet");
    cluster.start();
    watched.wait_until_ready();
    watched.end();

    let state = cluster.database();
    let mut scene = Scene::new(&endpoint.url(), 2);
    scene.set_text("state", "url", &state.url);
    let watched = Watched::start(&scene);
    watched.wait_until_ready();
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    cluster.stop();
    watched.wait_until_not_ready("state");
    let numbers = watched.get("/metrics");
    assert_eq!((numbers.status, &numbers.json()["reasons"][0]["reason"]), (503, &json!("state")));
    cluster.start();
    watched.wait_until_ready();
    assert_eq!(watched.metrics_again()["conversica_sync_leads{status=\"in_sync\"}"], 2.0);
    watched.end();
}

#[test]
fn a_state_that_can_be_read_and_not_written_is_not_ready_until_it_can() {
    let endpoint = StandIn::start(|_| Reaction::status(503));
    let scene = Scene::new(&endpoint.url(), 2);
    let watched = Watched::start(&scene);
    scene.wait_for_status("leads to be tried again", SOON, |status| status["leads"]["retrying"] == 2);
    watched.wait_until_ready();
    watched.wait_for_metric("conversica_sync_state_writable", 1.0);
    let somebody = rusqlite::Connection::open(scene.state_file()).expect("the state");
    somebody.busy_timeout(SOON).expect("a time limit");
    somebody.execute_batch("begin immediate").expect("a lock");
    let answer = watched.wait_until_not_ready("state");
    assert_eq!(answer["reasons"][0]["detail"], "it cannot be written");
    watched.wait_for_metric("conversica_sync_state_writable", 0.0);
    watched.wait_for_metric("conversica_sync_ready", 0.0);
    somebody.execute_batch("rollback").expect("no lock");
    watched.wait_until_ready();
    watched.wait_for_metric("conversica_sync_state_writable", 1.0);
    watched.end();
}

fn a_hold_is_shown(mut scene: Scene) {
    scene.set("safety", "first_run", "");
    let watched = Watched::start(&scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 4);
    watched.wait_for_metric("conversica_sync_held_leads", 4.0);
    let answer = wait_for("the hold", SOON, || {
        let answer = watched.wait_until_ready();
        answer.get("held").is_some().then_some(answer)
    });
    assert_eq!(
        answer,
        json!({ "ready": true, "reasons": [], "held": { "reason": "first_run", "leads": 4, "new_people": 4 } })
    );
    scene.run(&["approve", "--yes"]).expect_code(0);
    watched.wait_for_metric("conversica_sync_held_leads", 0.0);
    wait_for("no hold", SOON, || watched.wait_until_ready().get("held").is_none().then_some(()));
    watched.end();
}

#[test]
fn a_hold_is_shown_and_is_no_fault() {
    let endpoint = StandIn::accepting();
    a_hold_is_shown(Scene::new(&endpoint.url(), 4));
    assert_eq!(endpoint.requests().len(), 4);
}

#[test]
fn a_hold_is_shown_and_is_no_fault_on_a_postgresql_state() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    let database = cluster().database();
    scene.set_text("state", "url", &database.url);
    a_hold_is_shown(scene);
}

#[test]
fn there_is_nothing_else_and_nothing_to_be_changed() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let watched = Watched::start(&scene);
    watched.wait_until_ready();
    assert_eq!(watched.get("/healthz").json(), json!({ "healthy": true }));
    for path in ["/healthz/", "/readyz/x", "/nothing", "/api", "/assets/../x"] {
        let answer = watched.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["cure"].to_string().contains("/healthz"), "{path}: {}", answer.body);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = watched.ask(Method::HEAD, path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = watched.ask(method, path);
            assert_eq!((answer.status, answer.allow.as_str()), (405, "GET,HEAD"), "{path}");
            assert!(answer.json()["error"].is_string());
        }
    }
    // An idle connection does not delay the daemon's end.
    let _idle = TcpStream::connect(&watched.address).expect("a connection");
    let start = Instant::now();
    watched.end();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_address_that_is_taken_stops_no_delivery_and_is_taken_over_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("admin", "listen", &address);
    let mut daemon = scene.daemon();
    let line = daemon.wait_for_line("the admin server cannot listen", SOON);
    assert!(line.contains("\"ERROR\"") && line.contains("[admin] listen") && line.contains(&address), "{line}");
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 3);
    drop(taken);
    daemon.wait_for_line("admin listening", SOON);
    assert_eq!(ask(&address, Method::GET, "/healthz").status, 200);
    daemon.signal(Signal::Terminate);
    let output = daemon.wait(SOON).expect_code(0);
    assert_eq!(output.stderr.matches("cannot listen").count(), 1, "{output}");
}
