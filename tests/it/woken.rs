//! An instance that was suspended between its claim and its request, or longer than its lease, sends no old content after
//! newer content of another instance; and no start takes over the claims of an instance that it does not see.

use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::engine::Engine;
use crate::support::postgres::{Cluster, Database, cluster};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);

/// A second scene on the CRM of the first, and both on that state.
fn pair(endpoint: &StandIn, leads: u32, state: &Database) -> (Scene, Scene) {
    let mut first = Scene::new(&endpoint.url(), leads);
    first.set_text("state", "url", &state.url);
    let mut second = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", first.directory().join("crm.db").display());
    second.set_text("source", "url", &crm).set_text("state", "url", &state.url);
    (first, second)
}

fn first_names(endpoint: &StandIn) -> Vec<String> {
    endpoint.bodies_of("1").iter().map(|body| body["firstName"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Ends the lease of every claim, so that a test need not wait for it.
const END_LEASES: &str = "update conversica_sync.lead set lease_until = claimed_at where status = 'in_flight'";

/// A claim's commit waits for this lock, so that a test can stop the instance between the commit and its answer.
const HOLD_COMMITS: &str = "create function conversica_sync.hold_commit() returns trigger language plpgsql as $$ \
     begin perform pg_advisory_xact_lock_shared(4711); return null; end $$; \
     create constraint trigger hold_commit after update on conversica_sync.lead deferrable initially deferred for each row \
     when (old.status = 'pending' and new.status = 'in_flight') execute function conversica_sync.hold_commit()";
const RELEASE_COMMITS: &str = "drop trigger hold_commit on conversica_sync.lead";

#[test]
fn a_claim_whose_instance_was_stopped_before_its_request_is_dropped_when_the_instance_wakes() {
    let endpoint = StandIn::accepting();
    let state = cluster().database();
    let (mut first, mut second) = pair(&endpoint, 1, &state);
    for scene in [&mut first, &mut second] {
        scene.set_text("delivery", "timeout", "1s");
    }
    // A lease is one and a half times that, plus 20 seconds.
    let third_of_lease = Duration::from_millis(21_500 / 3);
    let mut one = first.daemon();
    first.wait_for_status("the first content", SOON, |status| status["leads"]["in_sync"] == 1);
    state.sql(HOLD_COMMITS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(PgConnection::connect(&state.url)).unwrap();
    runtime.block_on(other.execute("select pg_advisory_lock(4711)")).unwrap();
    first.crm("update leads set first_name = 'Old'");
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted \
         and database = (select oid from pg_database where datname = current_database())";
    wait_until("the claim to be committed", SOON, || state.sql(waiting) == "1");
    one.signal(Signal::Stop);
    let stopped = Instant::now();
    runtime.block_on(other.execute("select pg_advisory_unlock(4711)")).unwrap();
    let claimed = "select count(*) from conversica_sync.lead where status = 'in_flight'";
    wait_until("the claim to be on the disk", SOON, || state.sql(claimed) == "1");
    state.sql(RELEASE_COMMITS);
    assert_eq!(first_names(&endpoint), ["Ann1"], "its request has not left");

    first.crm("update leads set first_name = 'New'");
    state.sql(END_LEASES);
    let two = second.daemon();
    let is_sent = || first_names(&endpoint).last().is_some_and(|name| name == "New");
    wait_until("the other instance to send what is new", SOON, is_sent);
    wait_until("a third of the lease to be over", SOON, || stopped.elapsed() > third_of_lease);
    let sent = first_names(&endpoint);
    one.signal(Signal::Continue);
    one.wait_for_line("a claim was too old when its request was to leave: nothing was sent", SOON);
    // Both instances continue to work.
    first.crm("update leads set first_name = 'Newest'");
    let is_sent = || first_names(&endpoint).last().is_some_and(|name| name == "Newest");
    wait_until("the newest", SOON, is_sent);
    first.wait_for_status("nothing more to send", SOON, |status| status["leads"]["in_sync"] == 1);
    assert_eq!(first_names(&endpoint)[sent.len()..], ["Newest"]);
    drop(one.kill());
    drop(two.kill());
}

#[test]
fn an_answer_that_comes_after_another_instance_has_taken_over_has_the_newest_content_sent_again() {
    let gate = Gate::new();
    let endpoint = {
        let gate = gate.clone();
        StandIn::start(move |request| match request.json()["firstName"].as_str() {
            Some("Old") => Reaction::accept().when_opened(&gate),
            _ => Reaction::accept(),
        })
    };
    let state = cluster().database();
    let (first, second) = pair(&endpoint, 1, &state);
    let one = first.daemon();
    first.wait_for_status("the first content", SOON, |status| status["leads"]["in_sync"] == 1);
    first.crm("update leads set first_name = 'Old'");
    wait_until("the old content to be on its way", SOON, || first_names(&endpoint).len() == 2);
    one.signal(Signal::Stop);
    first.crm("update leads set first_name = 'New'");
    state.sql(END_LEASES);
    let two = second.daemon();
    second.wait_for_status("the other instance to send what is new", SOON, |status| {
        status["leads"]["in_sync"] == 1 && first_names(&endpoint).last().is_some_and(|name| name == "New")
    });
    let sent = first_names(&endpoint).len();
    // The order in which Conversica has seen the two is unknown.
    gate.open();
    one.signal(Signal::Continue);
    wait_until("the newest content once more", SOON, || first_names(&endpoint).len() > sent);
    first.wait_for_status("nothing more to send", SOON, |status| status["leads"]["in_sync"] == 1);
    assert_eq!(first_names(&endpoint)[sent..], ["New"]);
    let late =
        "select class from conversica_sync.outcome where detail like 'this answer came after the lease of its claim%'";
    assert_eq!(state.sql(late), "ambiguous");
    drop(one.kill());
    drop(two.kill());
}

#[test]
fn a_start_that_sees_no_other_instance_takes_over_no_claim_before_its_lease_is_over() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 3);
    scene.set_text("delivery", "timeout", "1s");
    scene.run(&["once"]).expect_code(0);
    // Claims of an instance whose session with the state was cut just now.
    let now = Utc::now();
    let claim = "update lead set status = 'in_flight', sent_hash = desired_hash, claimed_at = $1, lease_until = $2, attempts = 1";
    scene.with_state(async |db| {
        let lease_until = now + Duration::from_secs(300);
        on_state!(db, pool => {
            let claim = sqlx::query(claim).bind(now.timestamp_micros()).bind(lease_until.timestamp_micros());
            claim.execute(pool).await.map(drop).unwrap();
        });
    });
    let daemon = scene.daemon();
    scene.add(4, 4);
    scene.wait_for_status("a new lead", SOON, |status| status["leads"]["in_sync"] == 1);
    assert_eq!(scene.status()["leads"]["in_flight"], json!(3));
    assert_eq!(endpoint.requests().len(), 4, "the three, and the new one");
    scene.state(END_LEASES);
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 4);
    assert_eq!(endpoint.requests().len(), 7);
    drop(daemon.kill());
}

#[test]
fn a_start_beside_a_server_that_restarts_sends_no_lead_twice() {
    let gate = Gate::new();
    let endpoint = {
        let gate = gate.clone();
        StandIn::start(move |request| match request.json()["firstName"].as_str() {
            Some("New") => Reaction::accept().when_opened(&gate),
            _ => Reaction::accept(),
        })
    };
    let cluster = Cluster::private();
    let state = cluster.database();
    let (mut first, mut second) = pair(&endpoint, 8, &state);
    for scene in [&mut first, &mut second] {
        scene.set("delivery", "concurrency", "8").set_text("delivery", "timeout", "60s");
    }
    let one = first.daemon();
    first.wait_for_status("the first content", SOON, |status| status["leads"]["in_sync"] == 8);
    first.crm("update leads set first_name = 'New'");
    wait_until("all to be on their way", SOON, || endpoint.in_flight() == 8);
    cluster.stop();
    cluster.start();
    let two = second.daemon();
    // After its poll, the instance has reported all that it has to report about claims.
    let before = second.status()["last_poll"]["at"].clone();
    first.crm("update leads set first_name = 'New', last_name = 'Poll' where id = 8");
    second.wait_for_status("a poll after the restart", SOON, |status| status["last_poll"]["at"] != before);
    assert_eq!(endpoint.requests().len(), 16, "nothing is sent beside what is on its way");
    gate.open();
    first.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 8);
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (17, 1));
    drop(one.kill());
    drop(two.kill());
}
