//! Databases that go away and come back, under the daemon's feet: it says so, waits, sends nothing that it could not
//! write down, and goes on.

use std::time::Duration;

use serde_json::Value;

use crate::support::binary::Running;
use crate::support::postgres::{Cluster, Database};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;

/// Connecting is given ten seconds, and pauses lie between two tries.
const PATIENCE: Duration = Duration::from_secs(60);

fn ended(daemon: Running) {
    daemon.signal(Signal::Terminate);
    daemon.wait(PATIENCE).expect_code(0);
}

fn crm_in(database: &Database) {
    database.sql(
        "create table leads (id bigint primary key, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    database.sql("insert into leads select i, 'Ann', 'Bell', 'ann' || i || '@example.com', 'Rae', 0 from generate_series(1, 3) i");
}

#[test]
fn a_source_that_is_away_at_the_start_is_waited_for() {
    let cluster = Cluster::private();
    let database = cluster.database();
    crm_in(&database);
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &database.url);
    cluster.stop();
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("the source is away; waiting for it", PATIENCE);
    cluster.start();
    endpoint.wait_for_requests(3, PATIENCE);
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 3);
    ended(daemon);
}

#[test]
fn a_signal_ends_the_waiting_for_a_source_at_once() {
    let cluster = Cluster::private();
    let database = cluster.database();
    cluster.stop();
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", &database.url);
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("waiting for it", PATIENCE);
    daemon.signal(Signal::Terminate);
    daemon.wait(Duration::from_secs(5)).expect_code(0);
}

#[test]
fn a_source_that_goes_away_is_missed_aloud_and_taken_up_again() {
    let cluster = Cluster::private();
    let database = cluster.database();
    crm_in(&database);
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &database.url);
    let mut daemon = scene.daemon();
    endpoint.wait_for_requests(3, PATIENCE);
    cluster.stop();
    daemon.wait_for_line("a poll failed", PATIENCE);
    scene.wait_for_status("the error in the status", PATIENCE, |status| status["last_poll"]["error"].is_string());
    cluster.start();
    database.sql("update leads set first_name = 'Zoe' where id = 2");
    endpoint.wait_for_requests(4, PATIENCE);
    daemon.wait_for_line("polling works again", PATIENCE);
    scene.wait_for_status("no error any more", PATIENCE, |status| status["last_poll"]["error"] == Value::Null);
    assert_eq!(endpoint.bodies_of("2")[1]["firstName"], "Zoe");
    ended(daemon);
}

#[test]
fn a_state_that_goes_away_stops_the_sending_and_is_taken_up_again() {
    let cluster = Cluster::private();
    let database = cluster.database();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("state", "url", &database.url);
    let mut daemon = scene.daemon();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 3);
    cluster.stop();
    scene.crm("update leads set first_name = 'Zoe'");
    daemon.wait_for_line("nothing is sent until it can", PATIENCE);
    assert_eq!(endpoint.requests().len(), 3);
    cluster.start();
    daemon.wait_for_line("the state can be written again", PATIENCE);
    scene.wait_for_status("all in step again", PATIENCE, |status| status["outcomes"]["accepted"] == 6);
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (6, 1));
    ended(daemon);
}
