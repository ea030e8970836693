//! Alerts about the service itself: the hook gets each change once, across restarts, and a message when the trouble ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::binary::Running;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::at;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::{wait_for, wait_until};
use conversica_sync::rules::service_alert::{AlertAccount, AlertNews};
use conversica_sync::store::alert;

const PATIENCE: Duration = Duration::from_secs(60);

on_both_engines!(
    blocking: a_halt_and_its_end_are_told_once_by_both_ways_and_a_restart_tells_nothing_again,
    what_stands_in_the_way_is_told_with_its_numbers_and_so_is_its_end,
);

/// A Conversica that answers with the status that the test sets.
fn fickle(status: u16) -> (StandIn, Arc<AtomicU16>) {
    let answers = Arc::new(AtomicU16::new(status));
    let switch = answers.clone();
    let endpoint = StandIn::start(move |_| match switch.load(Ordering::SeqCst) {
        200 => Reaction::status(200),
        status => Reaction::status(status).body("Ann is wrong"),
    });
    (endpoint, answers)
}

/// The alerts that the hook received, without those about leads.
fn told(hook: &StandIn) -> Vec<Value> {
    let told = hook.requests().into_iter().filter(|received| received.answered == Some(200));
    told.map(|received| received.request.json()).collect()
}

fn kinds(told: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told.iter().map(|document| format!("{} {}", text(&document["kind"]), text(&document["state"]))).collect()
}

#[track_caller]
fn wait_until_told(hook: &StandIn, what: &str) -> Value {
    wait_for(&format!("people to be told: {what}"), PATIENCE, || {
        let told = told(hook);
        let place = kinds(&told).iter().position(|kind| kind == what)?;
        told.get(place).cloned()
    })
}

/// Waits for another poll and for two of the checks that run every two seconds.
#[track_caller]
fn some_looks(scene: &Scene) {
    let start = std::time::Instant::now();
    let before = scene.status()["last_poll"]["at"].clone();
    wait_until("some looks", PATIENCE, || {
        start.elapsed() > Duration::from_secs(5) && scene.status()["last_poll"]["at"] != before
    });
}

fn end(daemon: Running) {
    daemon.signal(Signal::Terminate);
    let said = daemon.wait(PATIENCE).expect_code(0).stderr;
    assert!(!said.contains("Ann"), "{said}");
}

fn a_halt_and_its_end_are_told_once_by_both_ways_and_a_restart_tells_nothing_again(engine: Engine) {
    let (endpoint, answers) = fickle(401);
    // The hook fails at first.
    let hook = StandIn::start(|request| Reaction::status(if request.n == 1 { 503 } else { 200 }));
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    let file = scene.directory().join("told");
    scene.set_text("alerts", "url", &hook.url());
    scene.set_text("alerts", "command", &format!("cat >> {0}; echo >> {0}", file.display()));
    let daemon = scene.daemon();
    let document = wait_until_told(&hook, "halted begun");
    let halt = scene.status()["halt"].clone();
    assert_eq!((&document["reason"], &document["since"]), (&json!("credentials"), &halt["since"]));
    assert_eq!((&document["cure"], &document["version"]), (&halt["cure"], &json!(env!("CARGO_PKG_VERSION"))));
    assert!(document["host"].as_str().is_some_and(|host| !host.is_empty()), "{document}");
    assert!(!document.to_string().contains("Ann"), "{document}");
    wait_until("the command to be told", PATIENCE, || lines(&file).len() == 1);
    assert_eq!(serde_json::from_str::<Value>(&lines(&file)[0]).expect("a document"), document);
    wait_until("the alert to be over", PATIENCE, || scene.status()["alerts"]["waiting"] == 0);
    some_looks(&scene);
    end(daemon);
    let daemon = scene.daemon();
    some_looks(&scene);
    assert_eq!(kinds(&told(&hook)), ["halted begun"], "told once, whoever restarts what");

    answers.store(200, Ordering::SeqCst);
    scene.run(&["resume"]).expect_code(0);
    let document = wait_until_told(&hook, "halted ended");
    assert_eq!((&document["since"], &document["cure"]), (&halt["since"], &json!(null)));
    wait_until("the command to be told", PATIENCE, || lines(&file).len() == 2);
    some_looks(&scene);
    assert_eq!(kinds(&told(&hook)), ["halted begun", "halted ended"]);
    end(daemon);
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn what_stands_in_the_way_is_told_with_its_numbers_and_so_is_its_end(engine: Engine) {
    let (endpoint, answers) = fickle(400);
    let hook = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.set_text("alerts", "url", &hook.url()).set("safety", "approve_above", "3");
    let daemon = scene.daemon();
    let count = wait_until_told(&hook, "rejected begun")["count"].as_i64().expect("a count");
    assert!((1..=2).contains(&count), "{count}");

    // A bulk change is held.
    scene.add(10, 14);
    let document = wait_until_told(&hook, "held begun");
    assert_eq!((&document["reason"], &document["count"]), (&json!("too_many_changes"), &json!(5)));
    scene.run(&["baseline", "--yes"]).expect_code(0);
    wait_until_told(&hook, "held ended");

    answers.store(200, Ordering::SeqCst);
    scene.run(&["retry", "--all"]).expect_code(0);
    wait_until_told(&hook, "rejected ended");

    // The source fails, and has failed for longer than a moment.
    scene.crm("alter table leads rename to mislaid");
    scene.wait_for_status("a poll that fails", PATIENCE, |status| status["last_poll"]["failing_since"].is_string());
    let since = "2026-01-02T03:04:05Z";
    wait_until("an old failure", PATIENCE, || {
        let mut poll = scene.status()["last_poll"].clone();
        poll["failing_since"] = json!(since);
        let poll = poll.to_string().replace('\'', "''");
        scene.state(&format!("update control set body = '{poll}' where name = 'last_poll'"));
        kinds(&told(&hook)).contains(&"poll_failing begun".to_owned())
    });
    let document = wait_until_told(&hook, "poll_failing begun");
    assert_eq!((&document["since"], &document["reason"]), (&json!(since), &json!("the last poll failed")));
    scene.crm("alter table mislaid rename to leads");
    wait_until_told(&hook, "poll_failing ended");

    // A lead has waited for a long time.
    answers.store(503, Ordering::SeqCst);
    scene.crm("update leads set first_name = 'Annie' where id = 1");
    scene.wait_for_status("a lead that waits", PATIENCE, |status| status["oldest_waiting_since"].is_string());
    let an_hour_ago = (chrono::Utc::now() - chrono::TimeDelta::hours(2)).timestamp_micros();
    wait_until("an old backlog", PATIENCE, || {
        scene.state(&format!("update lead set first_failed_at = {an_hour_ago} where status = 'retrying'"));
        kinds(&told(&hook)).contains(&"backlog_old begun".to_owned())
    });
    answers.store(200, Ordering::SeqCst);
    wait_until_told(&hook, "backlog_old ended");

    some_looks(&scene);
    let told = kinds(&told(&hook));
    let mut once = told.clone();
    once.sort();
    once.dedup();
    assert_eq!((told.len(), once.len()), (8, 8), "each once: {told:?}");
    end(daemon);
}

#[test]
fn of_several_instances_one_tells() {
    let (endpoint, answers) = fickle(401);
    let hook = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 2);
    scene.set_text("alerts", "url", &hook.url());
    let daemons = [scene.daemon(), scene.daemon(), scene.daemon()];
    wait_until_told(&hook, "halted begun");
    some_looks(&scene);
    answers.store(200, Ordering::SeqCst);
    scene.run(&["resume"]).expect_code(0);
    wait_until_told(&hook, "halted ended");
    some_looks(&scene);
    assert_eq!(kinds(&told(&hook)), ["halted begun", "halted ended"]);
    daemons.into_iter().for_each(end);
}

mod in_order {
    use super::*;

    on_both_engines!(the_end_waits_until_people_have_been_told_of_the_beginning);

    async fn the_end_waits_until_people_have_been_told_of_the_beginning(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        let mut account = AlertAccount::default();
        for (revision, state) in [(1, "begun"), (2, "ended")] {
            let before = alert::noted(&db).await.unwrap();
            account.revision = revision;
            let news = AlertNews { kind: "halted", document: json!({ "state": state }) };
            assert!(alert::tell(&db, &before, &account, &[news], at(revision as i64)).await.unwrap());
        }
        let taken = alert::take(&db, 5, at(30), at(10)).await.unwrap();
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert!(taken[0].body.contains("begun"));
        alert::again(&db, taken[0].seq, "down", at(900)).await.unwrap();
        assert_eq!(alert::take(&db, 5, at(130), at(100)).await.unwrap(), [], "the end must not overtake it");
        let taken = alert::take(&db, 5, at(930), at(900)).await.unwrap();
        alert::over(&db, taken[0].seq, "told", at(901)).await.unwrap();
        let taken = alert::take(&db, 5, at(950), at(902)).await.unwrap();
        assert!(taken.len() == 1 && taken[0].body.contains("ended"), "{taken:?}");
    }
}
