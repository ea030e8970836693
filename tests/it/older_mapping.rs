//! Two instances with different mappings share a state: the one with the older mapping stands back, also after a restart, and
//! says why. Where no other instance is, going back to an earlier mapping is an ordinary change.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::binary::Running;
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use conversica_sync::store::instance::InstanceId;
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::writer;

const SOON: Duration = Duration::from_secs(60);
const STANDS_BACK: &str = "[lead] of this instance is older than the one in use";

/// Two scenes on one CRM and one state: the first with the older mapping, the second with the newer one.
fn older_and_newer(endpoint: &StandIn) -> (Scene, Scene) {
    let state = cluster().database();
    let mut older = Scene::new(&endpoint.url(), 3);
    older.set_text("state", "url", &state.url);
    let mut newer = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", older.directory().join("crm.db").display());
    newer.set_text("source", "url", &crm).set_text("state", "url", &state.url);
    newer.set("lead", "leadSource", "{ value = \"Trade fair\" }");
    (older, newer)
}

/// Both run, and every lead has been sent once with each mapping.
fn upgraded_in_turn(older: &Scene, newer: &Scene) -> (Running, Running) {
    let mut old = older.daemon();
    older.wait_for_status("the older mapping", SOON, |status| status["leads"]["in_sync"] == 3);
    let new = newer.daemon();
    old.wait_for_line(STANDS_BACK, SOON);
    newer.wait_for_status("the newer mapping", SOON, |status| status["outcomes"]["accepted"] == 6);
    newer.wait_for_status("a poll in company", SOON, |status| status["last_poll"]["instances"] == 2);
    (old, new)
}

/// What the requests since the first `before` said about where the leads come from.
fn origins(endpoint: &StandIn, before: usize) -> Vec<String> {
    let requests = endpoint.requests().split_off(before);
    requests.iter().map(|received| received.request.json()["leadSource"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_polls(scene: &Scene, polls: usize) {
    for poll in 0..polls {
        let before = scene.status()["last_poll"]["at"].clone();
        scene.wait_for_status(&format!("poll {poll}"), SOON, |status| status["last_poll"]["at"] != before);
    }
}

#[test]
fn an_instance_with_the_older_mapping_that_is_restarted_sends_nobody_its_old_content() {
    let endpoint = StandIn::accepting();
    let (older, newer) = older_and_newer(&endpoint);
    let (old, new) = upgraded_in_turn(&older, &newer);
    drop(old.kill());
    let mut old = older.daemon();
    let said = old.wait_for_line(STANDS_BACK, SOON);
    for part in ["set_by\":\"process ", "set_at\":\"2", "give this instance the new configuration"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    wait_for_polls(&newer, 3);
    assert_eq!(endpoint.requests().len(), 6, "nobody is sent again");
    // The newer one goes on, and its restart changes nothing.
    older.crm("update leads set first_name = 'Zoe' where id = 1");
    newer.wait_for_status("the change", SOON, |status| status["outcomes"]["accepted"] == 7);
    drop(new.kill());
    let new = newer.daemon();
    wait_for_polls(&newer, 3);
    older.crm("update leads set first_name = 'Kim' where id = 1");
    newer.wait_for_status("the next change", SOON, |status| status["outcomes"]["accepted"] == 8);
    assert_eq!(origins(&endpoint, 3), ["Trade fair"; 5]);

    let report = older.run(&["check"]);
    assert!(report.stdout.contains(STANDS_BACK) && report.stdout.contains(", which process "), "{report}");
    let report = newer.run(&["check"]);
    assert!(!report.stdout.contains(STANDS_BACK), "{report}");
    let refused = older.run(&["once"]).expect_code(2);
    assert!(refused.stderr.contains(STANDS_BACK) && refused.stderr.contains("cure: "), "{refused}");
    newer.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 8);
    assert_eq!(old.stderr().matches(STANDS_BACK).count(), 1, "it says so once");
    drop((old.kill(), new.kill()));
}

#[test]
fn an_instance_with_the_older_mapping_that_starts_first_after_a_crash_of_both_waits_for_the_other() {
    let endpoint = StandIn::accepting();
    let (older, newer) = older_and_newer(&endpoint);
    let (old, new) = upgraded_in_turn(&older, &newer);
    drop((old.kill(), new.kill()));
    let mut old = older.daemon();
    old.wait_for_line("no instance has the [lead] in use now", SOON);
    let new = newer.daemon();
    wait_for_polls(&newer, 3);
    assert_eq!(endpoint.requests().len(), 6, "nobody is sent again");
    drop((old.kill(), new.kill()));
}

#[test]
fn an_older_mapping_takes_over_a_minute_after_the_last_instance_with_the_newer_one_has_ended() {
    let endpoint = StandIn::accepting();
    let (older, newer) = older_and_newer(&endpoint);
    let (mut old, new) = upgraded_in_turn(&older, &newer);
    // A second one with the older mapping: they do not wait for each other.
    let mut other = older.daemon();
    other.wait_for_line(STANDS_BACK, SOON);
    let ended_at = Instant::now();
    new.signal(Signal::Terminate);
    new.wait(SOON).expect_code(0);
    let all = |status: &serde_json::Value| status["outcomes"]["accepted"] == 9;
    older.wait_for_status("the older mapping", Duration::from_secs(120), all);
    assert!(ended_at.elapsed() > Duration::from_secs(55), "{:?}", ended_at.elapsed());
    assert_eq!(origins(&endpoint, 6), ["Website"; 3]);
    let told = format!("{}{}", old.stderr(), other.stderr());
    assert!(told.contains("this instance polls again with its own [lead]"), "{told}");
    assert!(!old.is_over() && !other.is_over());
    drop((old.kill(), other.kill()));
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_see_which_mapping_the_others_have_and_take_an_unknown_one_for_the_newest() {
    let state = cluster().database();
    let db = StateDb::open_state(&state.url).await.unwrap();
    let count = async |mapping| writer::instances_that_may_have(&db, mapping).await.unwrap();
    let (first, _) = writer::acquire(&db, InstanceId::default(), "a").await.unwrap();
    let (_second, _) = writer::acquire(&db, InstanceId::default(), "b").await.unwrap();
    let (_third, _) = writer::acquire(&db, InstanceId::default(), "b").await.unwrap();
    assert_eq!((count("a").await, count("b").await, count("c").await), (1, 2, 0));
    assert_eq!(writer::other_instances(&db).await.unwrap(), 2);
    // An instance of an earlier version has only the first of the two locks.
    let mut earlier = PgConnection::connect(&state.url).await.unwrap();
    sqlx::query("select pg_advisory_lock_shared(7166204947098727017)").execute(&mut earlier).await.unwrap();
    assert_eq!((count("a").await, count("b").await, count("c").await), (2, 3, 1));
    earlier.close().await.unwrap();
    drop(first);
    let start = Instant::now();
    while count("a").await > 0 {
        assert!(start.elapsed() < SOON, "the locks end with the session");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count("b").await, 2);
}

#[test]
fn the_only_instance_goes_back_to_an_earlier_mapping_at_once_and_with_the_usual_question() {
    let endpoint = StandIn::accepting();
    let (mut older, newer) = older_and_newer(&endpoint);
    let run = |scene: &Scene, accepted: u32| {
        let daemon = scene.daemon();
        scene.wait_for_status("all in step", SOON, |status| status["outcomes"]["accepted"] == accepted);
        daemon.signal(Signal::Terminate);
        daemon.wait(SOON).expect_code(0)
    };
    run(&older, 3);
    run(&newer, 6);
    let began_at = Instant::now();
    let output = run(&older, 9);
    assert!(began_at.elapsed() < Duration::from_secs(40), "without a wait: {:?}", began_at.elapsed());
    assert!(!output.stderr.contains(STANDS_BACK), "{output}");
    run(&newer, 12);
    assert_eq!(origins(&endpoint, 6), [["Website"; 3], ["Trade fair"; 3]].concat());

    older.set("safety", "approve_above", "2");
    let daemon = older.daemon();
    older.wait_for_status("the question", SOON, |status| status["leads"]["held"] == 3);
    assert_eq!(older.status()["hold"]["reason"], json!("mapping_changed"));
    assert_eq!(endpoint.requests().len(), 12);
    drop(daemon.kill());
}
