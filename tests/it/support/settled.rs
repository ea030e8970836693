//! The conditions after everything is delivered, whatever happened before: each lead arrived with its newest content,
//! never two requests at a time for one lead, and the journal has a line for each request that the endpoint saw.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::scene::Scene;
use super::stand_in::{Received, StandIn};
use super::wait::wait_until;

/// Waits until every row of the CRM has arrived with its current content, at one of these endpoints (in the order in
/// which they served), and is in sync; asserts the other conditions. Returns the status document.
#[track_caller]
pub fn settled(scene: &Scene, endpoints: &[&StandIn], deadline: Duration) -> Value {
    let rows = rows(scene);
    wait_until("the newest content of every lead at the endpoint", deadline, || {
        let newest = newest(endpoints);
        rows.iter().all(|(id, row)| newest.get(id) == Some(row))
    });
    scene.wait_for_status("every lead in step", deadline, |status| status["leads"]["in_sync"] == rows.len());
    assert_eq!(newest(endpoints), rows, "and nothing came after it");
    for endpoint in endpoints {
        assert_eq!(endpoint.max_in_flight_per_lead(), 1, "never two at once for one lead");
    }
    let journalled = journalled(scene);
    for (id, requests) in requests(endpoints) {
        let lines = journalled.get(&id).copied().unwrap_or_default();
        assert!(lines >= requests, "lead {id}: {requests} requests at the endpoint, {lines} in the journal");
    }
    scene.status()
}

/// Asserts that the journal counts, in each class, exactly the endpoints' answers; a request without an answer is
/// ambiguous. `unsent` requests never reached an endpoint.
#[track_caller]
pub fn assert_classes(status: &Value, endpoints: &[&StandIn], unsent: u64) {
    assert_classes_but(status, endpoints, unsent, 0);
}

/// As [`assert_classes`]; `unread` requests may have been cut before a stopped endpoint had read them.
#[track_caller]
pub fn assert_classes_but(status: &Value, endpoints: &[&StandIn], unsent: u64, unread: u64) {
    let mut expected: BTreeMap<&str, u64> =
        ["accepted", "rejected", "transient", "ambiguous", "halting"].into_iter().map(|class| (class, 0)).collect();
    for received in endpoints.iter().flat_map(|endpoint| endpoint.requests()) {
        *expected.entry(class(&received)).or_default() += 1;
    }
    *expected.entry("transient").or_default() += unsent;
    let ambiguous = status["outcomes"]["ambiguous"].as_u64().expect("a number");
    let least = expected["ambiguous"];
    assert!((least..=least + unread).contains(&ambiguous), "{ambiguous} ambiguous, {least} unanswered at the endpoint");
    expected.insert("ambiguous", ambiguous);
    assert_eq!(status["outcomes"], serde_json::json!(expected));
}

fn class(received: &Received) -> &'static str {
    match received.answered {
        Some(200..=299) => "accepted",
        Some(401) => "halting",
        Some(400) => "rejected",
        Some(429 | 500..=599) => "transient",
        None => "ambiguous",
        Some(other) => panic!("no test answers {other}"),
    }
}

/// The CRM's rows, lead by lead.
#[track_caller]
pub fn rows(scene: &Scene) -> BTreeMap<String, String> {
    let rows = scene.crm(
        "select id || '|' || first_name || '|' || last_name || '|' || email || '|' || opt_out from leads order by id",
    );
    let rows = rows.iter().map(|row| row.split_once('|').expect("an id in front"));
    rows.map(|(id, row)| (id.to_owned(), row.to_owned())).collect()
}

/// A body in the form of [`rows`].
pub fn as_row(body: &Value) -> String {
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let opt_out = i32::from(body["optOut"] == true);
    format!("{}|{}|{}|{opt_out}", text("firstName"), text("lastName"), text("email"))
}

/// The last content that arrived, lead by lead.
fn newest(endpoints: &[&StandIn]) -> BTreeMap<String, String> {
    let received = endpoints.iter().flat_map(|endpoint| endpoint.requests());
    received.map(|received| (id(&received), as_row(&received.request.json()))).collect()
}

fn requests(endpoints: &[&StandIn]) -> BTreeMap<String, usize> {
    counted(endpoints.iter().flat_map(|endpoint| endpoint.requests()).map(|received| id(&received)))
}

/// Journal lines of requests that left: all but failed connections.
#[track_caller]
fn journalled(scene: &Scene) -> BTreeMap<String, usize> {
    counted(scene.state("select id from outcome where class <> 'transient' or http_status is not null").into_iter())
}

/// The number of attempts that never reached an endpoint.
#[track_caller]
pub fn unsent(scene: &Scene) -> u64 {
    let answer = scene.state(
        "select cast(count(*) as text) from outcome where class = 'transient' and http_status is null and id is not null",
    );
    answer[0].parse().expect("a number")
}

fn id(received: &Received) -> String {
    received.request.id.clone().expect("every request names its lead")
}

fn counted(ids: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    counts
}
