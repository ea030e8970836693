//! SIGHUP: the changed settings that a running daemon applies, and its messages about the others.

use std::time::Duration;

use serde_json::json;

use crate::support::receiver::{self, Receiver};
use crate::support::scene::{PASSWORD, Scene};
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

/// A Conversica that accepts only [`PASSWORD`].
fn strict() -> StandIn {
    use base64::Engine as _;
    let right = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("acme-api:{PASSWORD}")));
    StandIn::start(move |request| {
        let shown = request.header("authorization");
        Reaction::status(if shown == Some(right.as_str()) { 200 } else { 401 })
    })
}

#[test]
fn a_right_password_lifts_the_halt_without_a_restart() {
    let endpoint = strict();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("conversica", "password", "not the right one");
    let mut daemon = scene.daemon();
    scene.wait_for_status("the halt", SOON, |status| status["halt"]["reason"] == json!("credentials"));
    scene.set_text("conversica", "password", PASSWORD);
    scene.cli();
    daemon.signal(Signal::Hangup);
    let said = daemon.wait_for_line("settings read again", SOON);
    assert!(said.contains("\"taken\":\"conversica.password\""), "{said}");
    scene.wait_for_status("all three are delivered", SOON, |status| status["leads"]["in_sync"] == json!(3));
    assert_eq!(endpoint.answered(), 4, "one refused, and three accepted");
    assert_eq!(scene.status()["halt"], json!(null));
}

#[test]
fn what_cannot_be_taken_over_is_named_and_a_mistake_changes_nothing() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let mut daemon = scene.daemon();
    scene.set_text("source", "poll_interval", "150ms").set_text("log", "level", "debug");
    scene.set("delivery", "requests_per_second", "7");
    scene.cli();
    daemon.signal(Signal::Hangup);
    let left = daemon.wait_for_line("need a restart", SOON);
    assert!(left.contains("\"keys\":\"source.poll_interval\""), "{left}");
    let said = daemon.stderr();
    assert!(said.contains("delivery.requests_per_second") && said.contains("log.level"), "{said}");
    scene.wait_for_status("the new pace", SOON, |status| status["pacing"]["ceiling"] == json!(7.0));

    scene.set("delivery", "requests_per_second", "-1");
    scene.cli();
    daemon.signal(Signal::Hangup);
    let refused = daemon.wait_for_line("the old ones stay", SOON);
    assert!(refused.contains("requests_per_second") && refused.contains("cure"), "{refused}");
    scene.add(2, 2);
    endpoint.wait_for_requests(2, SOON);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

#[test]
fn who_may_post_changes_without_a_restart() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    receiver::with_receiver(&mut scene);
    let mut receiver = Receiver::start(&scene);
    let update =
        |n: u32| json!({"id": "1", "apiVersion": "7.2", "hotLead": true, "comment": n.to_string()}).to_string();
    assert_eq!(receiver.post("/conversica/lead", update(1)).status, 200);
    scene.set_text("receive", "password", "Another-receiver-password-1");
    scene.cli();
    receiver.daemon.signal(Signal::Hangup);
    let said = receiver.daemon.wait_for_line("settings read again", SOON);
    assert!(said.contains("receive.password"), "{said}");
    wait_until("the old password is refused", SOON, || receiver.post("/conversica/lead", update(2)).status == 401);
    let shown = receiver::basic(receiver::USERNAME, "Another-receiver-password-1");
    let post = receiver::request("POST", "/conversica/lead", Some(&shown), update(3).as_bytes());
    assert_eq!(receiver.ask(&post).status, 200);
}
