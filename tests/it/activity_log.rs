//! What the log says of ordinary work: a summary while anything is sent, a line for each rejected lead, opt-outs and hot leads; ids and
//! counts only, and no flood.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);

blocking_on_both_engines!(
    each_rejected_lead_has_a_line_and_what_was_sent_a_summary,
    opt_outs_and_hot_leads_are_named_by_their_ids,
);

/// The lines with that message.
fn lines(stderr: &str, message: &str) -> Vec<Value> {
    let lines = stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

const REJECTED: &str = "a lead was rejected by Conversica";
const SUMMARY: &str = "sent since the last such line";

fn each_rejected_lead_has_a_line_and_what_was_sent_a_summary(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.json()["id"].as_str() {
        Some("2") => Reaction::status(400).body("Quackenbush is no name"),
        Some("4") => Reaction::status(200).body("{\"status\": false, \"error\": \"Quackenbush\"}"),
        _ => Reaction::accept(),
    });
    let scene = Scene::on(engine, &endpoint.url(), 5);
    let daemon = scene.daemon();
    scene.wait_for_status("all are sent", SOON, |status| {
        status["leads"]["in_sync"] == 3 && status["leads"]["rejected"] == 2
    });
    daemon.signal(Signal::Terminate);
    let stderr = daemon.wait(SOON).expect_code(0).stderr;
    let mut rejected = lines(&stderr, REJECTED);
    rejected.sort_by_key(|line| line["id"].to_string());
    let said =
        |line: &Value| (line["level"].clone(), line["id"].clone(), line["http_status"].clone(), line["reason"].clone());
    assert_eq!(
        rejected.iter().map(said).collect::<Vec<_>>(),
        [
            (json!("WARN"), json!("2"), json!(400), json!("the content is not accepted")),
            (json!("WARN"), json!("4"), json!(200), json!("the answer says that the lead was not taken")),
        ]
    );
    let summary = lines(&stderr, SUMMARY);
    assert_eq!(summary.len(), 1, "one at the end of less than a minute: {stderr}");
    for (key, count) in [("accepted", 3), ("rejected", 2), ("transient", 0), ("ambiguous", 0), ("waiting", 0)] {
        assert_eq!(summary[0][key], json!(count), "{key}: {}", summary[0]);
    }
    assert!(!stderr.contains("Quackenbush"), "{stderr}");
}

fn opt_outs_and_hot_leads_are_named_by_their_ids(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == 3);
    for body in [
        json!({"id": "1", "hotLead": true, "lastName": "Quackenbush"}),
        json!({"id": "2", "doNotEmail": true}),
        json!({"id": "3", "leadAtRisk": true}),
    ] {
        assert_eq!(receiver.post("/conversica/lead", body.to_string()).status, 200);
    }
    wait_until("all posts are taken in", SOON, || {
        scene.state("select seq || '' from event where applied_at is not null").len() == 3
    });
    receiver.daemon.signal(Signal::Terminate);
    let stderr = receiver.daemon.wait(SOON).expect_code(0).stderr;
    let ids = |message: &str| lines(&stderr, message).into_iter().map(|line| line["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("Conversica has reported a hot lead"), [json!("1")]);
    assert_eq!(ids("Conversica has reported an opt-out"), [json!("2")]);
    assert!(!stderr.contains("Quackenbush"), "{stderr}");
}

#[test]
fn many_rejected_leads_have_few_lines() {
    let endpoint = StandIn::start(|_| Reaction::status(422));
    let mut scene = Scene::new(&endpoint.url(), 60);
    scene.set("delivery", "requests_per_second", "1000");
    let daemon = scene.daemon();
    scene.wait_for_status("all are rejected", SOON, |status| status["leads"]["rejected"] == 60);
    daemon.signal(Signal::Terminate);
    let stderr = daemon.wait(SOON).expect_code(0).stderr;
    let written = lines(&stderr, REJECTED).len();
    assert!((20..=40).contains(&written), "20 in a minute, of which two may have begun: {written}");
    assert!(stderr.contains("further rejected leads of this minute have no line of their own"), "{stderr}");
    assert_eq!(lines(&stderr, SUMMARY).iter().filter_map(|line| line["rejected"].as_u64()).sum::<u64>(), 60);
}
