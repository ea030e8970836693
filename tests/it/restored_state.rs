//! A PostgreSQL state that is restored from a dump is older than what Conversica holds. The program recognises it by itself.

use std::time::Duration;

use serde_json::json;

use crate::support::engine::Engine;
use crate::support::postgres::{Cluster, Database};
use crate::support::scene::{Scene, Store};
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const DROP_SCHEMA: &str = "drop schema conversica_sync cascade";

fn state(scene: &Scene) -> Database {
    match scene.state_store() {
        Store::Database(database) => database.clone(),
        Store::File(_) => unreachable!("the state is in PostgreSQL"),
    }
}

/// Three leads are delivered before the dump, and three more after it, beside a change of lead 1.
fn deliver_after_dump(scene: &Scene, endpoint: &StandIn, dump: impl FnOnce(&Database) -> String) -> String {
    scene.wait_for_status("the first leads are delivered", SOON, |status| status["leads"]["in_sync"] == json!(3));
    let dump = dump(&state(scene));
    scene.add(4, 6);
    scene.crm("update leads set last_name = 'Changed' where id = 1");
    endpoint.wait_for_requests(7, SOON);
    scene.wait_for_status("all are delivered", SOON, |status| status["leads"]["in_sync"] == json!(6));
    dump
}

/// What was sent after the dump is held, and is sent once it is approved. Later changes go their way.
fn expect_hold(scene: &Scene, endpoint: &StandIn) {
    scene.wait_for_status("what the state has lost is held", SOON, |status| {
        status["hold"]["reason"] == json!("restored") && status["leads"]["held"] == json!(4)
    });
    scene.crm("update leads set opt_out = 1 where id = 2");
    endpoint.wait_for_requests(8, SOON);
    assert_eq!(endpoint.bodies_of("2").last().unwrap()["optOut"], json!(true), "a withdrawal is sent all the same");
    assert_eq!(endpoint.answered(), 8, "nothing is sent a second time");
    scene.run(&["approve", "--yes"]).expect_code(0);
    endpoint.wait_for_requests(12, SOON);
    scene.wait_for_status("the hold is over", SOON, |status| status["hold"] == json!(null));
    scene.crm("update leads set last_name = 'Changed again' where id = 3");
    endpoint.wait_for_requests(13, SOON);
}

fn open_scene(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 3);
    scene.set("safety", "approve_above", "0");
    scene
}

#[test]
fn a_dump_restored_under_a_running_daemon_holds_what_it_would_send_again() {
    let endpoint = StandIn::accepting();
    let scene = open_scene(&endpoint);
    let mut daemon = scene.daemon();
    let dump = deliver_after_dump(&scene, &endpoint, |database| database.dump(&[]));
    state(&scene).restore(DROP_SCHEMA, &dump);
    expect_hold(&scene, &endpoint);
    daemon.wait_for_line("the state was restored from a backup", SOON);
}

#[test]
fn a_dump_restored_before_a_start_holds_what_it_would_send_again() {
    let endpoint = StandIn::accepting();
    let scene = open_scene(&endpoint);
    let daemon = scene.daemon();
    let dump = deliver_after_dump(&scene, &endpoint, |database| database.dump(&[]));
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    state(&scene).restore(DROP_SCHEMA, &dump);
    let _daemon = scene.daemon();
    expect_hold(&scene, &endpoint);
}

#[test]
fn rows_restored_into_the_tables_that_are_there_hold_what_they_would_send_again() {
    let endpoint = StandIn::accepting();
    let scene = open_scene(&endpoint);
    let daemon = scene.daemon();
    let dump = deliver_after_dump(&scene, &endpoint, |database| database.dump(&["--data-only"]));
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    let tables = state(&scene).sql("select string_agg(format('%I.%I', schemaname, tablename), ', ') from pg_tables where schemaname = 'conversica_sync'");
    state(&scene).restore(&format!("truncate {tables}; set session_replication_role = replica"), &dump);
    let _daemon = scene.daemon();
    expect_hold(&scene, &endpoint);
}

#[test]
fn a_dump_restored_in_another_database_holds_what_it_would_send_again() {
    let endpoint = StandIn::accepting();
    let mut scene = open_scene(&endpoint);
    let daemon = scene.daemon();
    let dump = deliver_after_dump(&scene, &endpoint, |database| database.dump(&[]));
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    let other = Cluster::private();
    let database = other.database();
    database.restore("select 1", &dump);
    scene.move_state(Store::Database(database));
    let _daemon = scene.daemon();
    expect_hold(&scene, &endpoint);
}

#[test]
fn numbers_that_have_gone_back_under_a_running_daemon_are_a_restored_state() {
    let endpoint = StandIn::accepting();
    let mut scene = open_scene(&endpoint);
    scene.set_text("source", "poll_interval", "1h");
    let _daemon = scene.daemon();
    scene.wait_for_status("all are delivered", SOON, |status| status["leads"]["in_sync"] == json!(3));
    // As after a snapshot of the server's files: rows and transactions are those of an earlier time. The daemon looks every second.
    wait_until("the daemon recognises it", SOON, || {
        for number in [1000, 1] {
            scene.state(&format!("select setval('outcome_seq_seq', {number})"));
            scene.status();
        }
        scene.state("select action from decision") == ["restored"]
    });
    scene.crm("update leads set last_name = 'Changed'");
    // The numbers may have gone back once more since the daemon looked. While it recognises that, it ends the poll of `once`.
    wait_until("what `once` finds is held", SOON, || scene.run(&["once"]).code == Some(4));
    assert_eq!(scene.status()["hold"]["reason"], json!("restored"));
    assert_eq!(endpoint.answered(), 3);
}

#[test]
fn a_server_that_crashes_or_rewrites_its_tables_has_the_same_state() {
    let endpoint = StandIn::accepting();
    let cluster = Cluster::private_with(&["fsync=on"]);
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    scene.set("safety", "approve_above", "0");
    let daemon = scene.daemon();
    scene.wait_for_status("all are delivered", SOON, |status| status["leads"]["in_sync"] == json!(3));
    state(&scene).sql("vacuum (full, freeze)");
    cluster.crash();
    cluster.start();
    scene.crm("update leads set last_name = 'Changed'");
    endpoint.wait_for_requests(6, SOON);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    cluster.stop();
    cluster.start();
    let _daemon = scene.daemon();
    scene.crm("update leads set last_name = 'Changed again'");
    endpoint.wait_for_requests(9, SOON);
    wait_until("nothing is held", SOON, || scene.status()["hold"] == json!(null));
}

#[test]
fn a_restored_state_is_held_once() {
    let endpoint = StandIn::accepting();
    let scene = open_scene(&endpoint);
    let daemon = scene.daemon();
    let dump = deliver_after_dump(&scene, &endpoint, |database| database.dump(&[]));
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    state(&scene).restore(DROP_SCHEMA, &dump);
    scene.run(&["restored"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    let _daemon = scene.daemon();
    endpoint.wait_for_requests(11, SOON);
    scene.wait_for_status("the hold is over", SOON, |status| status["hold"] == json!(null));
    assert_eq!(scene.state("select count(*) from decision where action = 'restored'"), ["1"]);
}
