//! Databases that go away and come back under a running daemon: it reports it, waits, sends nothing that it could not
//! record, and continues.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};

use crate::support::binary::Running;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::postgres::{Cluster, Database};
use crate::support::scene::Scene;
use crate::support::settled::{assert_classes, settled};
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::wait_until;

/// A connection has a time limit of ten seconds, and the program pauses between two attempts.
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
fn a_state_that_is_away_at_the_start_is_waited_for_and_a_signal_ends_the_waiting() {
    let cluster = Cluster::private();
    let database = cluster.database();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("state", "url", &database.url);
    cluster.stop();
    let mut daemon = scene.cli().spawn(&["run"]);
    let line = daemon.wait_for_line("the state is away; waiting for it", PATIENCE);
    assert!(line.contains("\"cure\":\"check that the"), "{line}");
    daemon.signal(Signal::Terminate);
    daemon.wait(Duration::from_secs(5)).expect_code(0);
    let once = scene.run(&["once"]).expect_code(2);
    assert!(once.stderr.contains("cure: check that the"), "{once}");
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("waiting for it", PATIENCE);
    cluster.start();
    endpoint.wait_for_requests(3, PATIENCE);
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 3);
    ended(daemon);
}

#[test]
fn what_is_due_is_delivered_while_the_source_is_away() {
    let cluster = Cluster::private();
    let database = cluster.database();
    crm_in(&database);
    let endpoint = StandIn::start(|request| match request.n {
        1..=3 => Reaction::status(503),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &database.url);
    scene.run(&["once", "--max-wait", "0s"]);
    cluster.stop();
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("the source is away; waiting for it", PATIENCE);
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

/// CRM and state on one server, which goes away while four requests are in flight.
struct InTheMiddle {
    cluster: Cluster,
    scene: Scene,
    endpoint: StandIn,
    daemon: Running,
    gate: Gate,
}

impl InTheMiddle {
    fn of_sending(timeout: &str) -> Self {
        let cluster = Cluster::private();
        let gate = Gate::new();
        let held = gate.clone();
        let endpoint = StandIn::start(move |request| match request.n {
            11..=14 => Reaction::accept().when_opened(&held),
            _ => Reaction::accept(),
        });
        let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 40);
        scene.set("delivery", "concurrency", "4").set_text("delivery", "timeout", timeout);
        let daemon = scene.daemon();
        wait_until("four requests in flight", PATIENCE, || {
            endpoint.in_flight() == 4 && endpoint.requests().len() == 14
        });
        // The program writes claims before their requests leave, so the server has no work of ours now.
        Self { cluster, scene, endpoint, daemon, gate }
    }

    fn answers_come_to_nobody(&self) {
        self.gate.open();
        wait_until("the answers", PATIENCE, || self.endpoint.answered() == 14);
    }

    /// Everything arrives, and nothing twice: the program kept the answers of the outage.
    fn assert_all_is_well(self) {
        assert_eq!(self.endpoint.requests().len(), 14, "nothing is sent that cannot be written down");
        self.cluster.start_or_resume();
        self.scene.crm("update leads set last_name = 'Newer' where id in (1, 40)");
        let status = settled(&self.scene, &[&self.endpoint], PATIENCE);
        assert_classes(&status, &[&self.endpoint], 0);
        assert_eq!(status["outcomes"]["ambiguous"], 0);
        ended(self.daemon);
    }
}

#[test]
fn a_server_of_source_and_state_that_stops_in_the_middle_of_sending_costs_no_request_twice() {
    let mut middle = InTheMiddle::of_sending("10s");
    middle.cluster.stop();
    middle.answers_come_to_nobody();
    middle.daemon.wait_for_line("the state cannot be written; nothing is sent until it can", PATIENCE);
    middle.daemon.wait_for_line("a poll failed", PATIENCE);
    middle.assert_all_is_well();
}

#[test]
fn a_server_of_source_and_state_that_drops_dead_in_the_middle_of_sending_costs_no_request_twice() {
    let mut middle = InTheMiddle::of_sending("10s");
    middle.cluster.crash();
    middle.answers_come_to_nobody();
    middle.daemon.wait_for_line("the state cannot be written; nothing is sent until it can", PATIENCE);
    middle.assert_all_is_well();
}

#[test]
fn a_server_of_source_and_state_that_falls_silent_in_the_middle_of_sending_costs_no_request_twice() {
    let middle = InTheMiddle::of_sending("10s");
    middle.cluster.pause();
    middle.answers_come_to_nobody();
    middle.assert_all_is_well();
}

#[test]
fn a_signal_ends_the_daemon_although_the_state_has_fallen_silent() {
    let middle = InTheMiddle::of_sending("1s");
    middle.cluster.pause();
    middle.gate.open();
    wait_until("the end of all that was on its way", PATIENCE, || middle.endpoint.in_flight() == 0);
    middle.daemon.signal(Signal::Terminate);
    middle.daemon.wait(PATIENCE).expect_code(0);
    middle.cluster.resume();
}

on_both_engines!(blocking: a_state_that_somebody_keeps_locked_is_missed_aloud_and_a_signal_still_ends_the_daemon);

/// Another session in the state, which locks the leads until this is dropped.
struct Lock {
    _session: Box<dyn Send>,
    _runtime: tokio::runtime::Runtime,
}

impl Lock {
    fn taken(engine: Engine, url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let session: Box<dyn Send> = runtime.block_on(async {
            match engine {
                Engine::Sqlite => {
                    let mut session = SqliteConnection::connect(url).await.expect("the state opens");
                    let sql = "pragma busy_timeout = 10000; begin immediate";
                    session.execute(sqlx::raw_sql(sql)).await.expect("the lock is free");
                    Box::new(session) as Box<dyn Send>
                }
                Engine::Postgres => {
                    let mut session = PgConnection::connect(url).await.expect("the state answers");
                    let sql = "begin; lock table conversica_sync.lead";
                    session.execute(sqlx::raw_sql(sql)).await.expect("the lock is free");
                    Box::new(session)
                }
            }
        });
        Self { _session: session, _runtime: runtime }
    }
}

fn a_state_that_somebody_keeps_locked_is_missed_aloud_and_a_signal_still_ends_the_daemon(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("delivery", "timeout", "1s");
    let mut daemon = scene.daemon();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 3);
    let lock = Lock::taken(engine, &scene.state_store().url());
    scene.crm("update leads set last_name = 'Newer' where id = 2");
    daemon.wait_for_line("the state cannot be written", PATIENCE);
    assert_eq!(endpoint.requests().len(), 3);
    drop(lock);
    let status = settled(&scene, &[&endpoint], PATIENCE);
    assert_classes(&status, &[&endpoint], 0);
    daemon.wait_for_line("the state can be written again", PATIENCE);

    let lock = Lock::taken(engine, &scene.state_store().url());
    scene.crm("update leads set last_name = 'Newest' where id = 2");
    daemon.signal(Signal::Terminate);
    daemon.wait(PATIENCE).expect_code(0);
    drop(lock);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], PATIENCE);
    ended(daemon);
}

#[test]
fn a_signal_ends_the_daemon_although_the_state_fell_silent_in_the_middle_of_a_statement() {
    let cluster = Cluster::private();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    scene.set_text("delivery", "timeout", "1s");
    let daemon = scene.daemon();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 3);
    // Statements that wait for a lock are under way when the server falls silent.
    let lock = Lock::taken(Engine::Postgres, &scene.state_store().url());
    let waiting = "select cast(count(*) as text) from pg_locks where not granted";
    wait_until("poll and delivery to wait for the lock", PATIENCE, || scene.state(waiting) == ["2"]);
    cluster.pause();
    daemon.signal(Signal::Terminate);
    daemon.wait(Duration::from_secs(30)).expect_code(0);
    cluster.resume();
    drop(lock);
}
