//! The metrics are well-formed, equal the numbers of `status`, and are all explained in docs/metrics.md.

use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_for;
use crate::support::watched::{Watched, metric_names, parsed};

const SOON: Duration = Duration::from_secs(20);

on_both_engines!(blocking: what_waits_says_since_when);

/// A scene with accepted, rejected and invalid leads, so that the numbers are not zero.
fn eventful(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 6);
    scene.crm("update leads set email = 'nowhere' where id = 5");
    // Without another poll, the numbers do not change during the test.
    scene.set_text("source", "poll_interval", "1h");
    scene
}

fn refusing_number_six() -> StandIn {
    StandIn::start(|request| Reaction::status(if request.id.as_deref() == Some("6") { 400 } else { 200 }))
}

fn numbers_are_those_of_status(scene: &Scene, pacing: impl FnOnce()) {
    let watched = Watched::start(scene);
    scene.wait_for_status("the first pass", SOON, |status| {
        (&status["leads"]["in_sync"], &status["leads"]["rejected"]) == (&json!(4), &json!(1))
    });
    pacing();
    let status = wait_for("the pace in the status", SOON, || {
        let status = scene.status();
        status["pacing"].is_object().then_some(status)
    });
    watched.wait_for_metric("conversica_sync_leads{status=\"rejected\"}", 1.0);
    let rate = status["pacing"]["requests_per_second"].as_f64().expect("a number");
    watched.wait_for_metric("conversica_sync_pace_requests_per_second", rate);
    let text = watched.get("/metrics").body;
    let metrics = parsed(&text);
    let metric = |name: &str| metrics[&format!("conversica_sync_{name}")];
    for (section, metric_of) in [("leads", "leads{status"), ("outcomes", "deliveries_total{class")] {
        for (name, count) in status[section].as_object().expect("counts") {
            assert_eq!(Some(metric(&format!("{metric_of}=\"{name}\"}}"))), count.as_f64(), "{name}");
        }
    }
    assert_eq!((metric("leads{status=\"invalid\"}"), metric("deliveries_total{class=\"accepted\"}")), (1.0, 4.0));
    let pacing = &status["pacing"];
    assert_eq!(Some(metric("pace_ceiling_requests_per_second")), pacing["ceiling"].as_f64());
    assert_eq!(metric("breaker_open") == 1.0, pacing["breaker"] == "open");
    let poll = &status["last_poll"];
    assert_eq!(Some(metric("last_poll_duration_seconds") * 1e3), poll["duration_ms"].as_f64());
    let at: chrono::DateTime<chrono::Utc> = poll["at"].as_str().expect("an instant").parse().expect("an instant");
    assert!((metric("last_poll_timestamp_seconds") - at.timestamp_micros() as f64 / 1e6).abs() < 1e-3);
    assert_eq!(metric(&format!("build_info{{version={}}}", status["version"])), 1.0);
    assert_eq!((metric("held_leads"), metric("last_poll_failed")), (0.0, 0.0));
    let counts = ["leads{", "deliveries_total{", "halted{"]
        .map(|family| metrics.keys().filter(|name| name.starts_with(&format!("conversica_sync_{family}"))).count());
    assert_eq!(counts, [11, 5, 3]);
    watched.end();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page");
    for name in metric_names(&text) {
        let named = [format!("`{name}`"), format!("`{name}{{")];
        assert!(named.iter().any(|name| page.contains(name)), "docs/metrics.md explains {name}");
    }
}

/// The pacing that a daemon records when Conversica fails. A pacing that the daemon itself has written takes precedence.
const PACING: &str = "insert into control (name, body, at) values ('pacing', \
    '{\"at\":\"2026-01-01T00:00:00Z\",\"requests_per_second\":2.5,\"ceiling\":5.0,\"paused_until\":null,\
    \"breaker\":\"open\",\"next_probe_at\":null,\"failures\":7,\"new_people_wait_until\":null}', 1) \
    on conflict (name) do nothing";

#[test]
fn the_numbers_are_those_of_status() {
    let endpoint = refusing_number_six();
    let scene = eventful(&endpoint);
    numbers_are_those_of_status(&scene, || drop(scene.state(&format!("{PACING} returning name"))));
}

#[test]
fn the_numbers_are_those_of_status_on_a_postgresql_state() {
    let endpoint = refusing_number_six();
    let mut scene = eventful(&endpoint);
    let database = cluster().database();
    scene.set_text("state", "url", &database.url);
    let pacing = PACING.replace("into control", "into conversica_sync.control");
    numbers_are_those_of_status(&scene, || drop(database.sql(&pacing)));
}

fn what_waits_says_since_when(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::status(503));
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("delivery.retry", "initial_interval", "1h").set_text("delivery.retry", "max_interval", "1h");
    scene.set("delivery.breaker", "failures", "1");
    let began = chrono::Utc::now();
    let daemon = scene.daemon();
    endpoint.wait_for_requests(1, SOON);
    scene.wait_for_status("one that has failed", SOON, |status| status["leads"]["retrying"] == 1);
    scene.state(
        "insert into alert (kind, id, client_id, occasion, body, created_at, due_at) \
         values ('hot_lead', '7', '', 'x', '{}', 1800000000000000, 1800000000000000), \
         ('hot_lead', '7', '', 'y', '{}', 1700000000000000, 1800000000000000)",
    );
    let status = scene.status();
    assert_eq!(status["alerts"], json!({ "waiting": 2, "since": "2023-11-14T22:13:20Z" }));
    assert!(status["state_bytes"].as_i64().is_some_and(|bytes| bytes > 8_000), "{status:#}");
    let since: chrono::DateTime<chrono::Utc> =
        status["oldest_waiting_since"].as_str().and_then(|at| at.parse().ok()).expect("an instant");
    assert!(since >= began - chrono::TimeDelta::seconds(1) && since <= chrono::Utc::now(), "{status:#}");
    let text = scene.run(&["status"]).stdout;
    assert!(
        text.contains("still to be told of 2 things by [alerts], the oldest since 2023-11-14 22:13:20 UTC"),
        "{text}"
    );
    // Leads with failed attempts count as waiting too, and these have waited longest.
    scene.state("update lead set first_failed_at = 1600000000000000 where status = 'retrying'");
    assert_eq!(scene.status()["oldest_waiting_since"], "2020-09-13T12:26:40Z");
    drop(daemon.kill());
    scene.state("update lead set status = 'in_sync' where status <> 'in_sync'");
    assert_eq!(scene.status()["oldest_waiting_since"], json!(null));
}
