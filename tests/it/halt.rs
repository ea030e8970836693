//! Answers of the endpoint, and their effect on the lead and on all leads. Some answers lock accounts, so the number of
//! requests matters.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn, refused_port};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(20);

fn ended(daemon: crate::support::binary::Running) -> crate::support::binary::Output {
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0)
}

#[test]
fn wrong_credentials_cost_exactly_one_request_whoever_starts_what() {
    let endpoint = StandIn::start(|_| Reaction::status(401).body("Additional failed attempts may lock the account"));
    let mut scene = Scene::new(&endpoint.url(), 20);
    let output = scene.run(&["once", "--json"]).expect_code(4);
    let halt = &output.json()["halt"];
    assert_eq!(halt["reason"], "credentials");
    assert!(
        halt["since"].is_string() && halt["detail"].as_str().is_some_and(|detail| detail.contains("lock the account"))
    );
    assert_eq!((&output.json()["leads"]["pending"], &output.json()["outcomes"]["halting"]), (&json!(20), &json!(1)));
    scene.run(&["once"]).expect_code(4);
    for _ in 0..2 {
        let mut daemon = scene.cli().spawn(&["run"]);
        daemon.wait_for_line("still halted", SOON);
        daemon.wait_for_line("\"message\":\"running\"", SOON);
        // The halted daemon continues to read.
        let polled = scene.status()["last_poll"]["at"].clone();
        scene.wait_for_status("another poll", SOON, |status| status["last_poll"]["at"] != polled);
        ended(daemon);
    }
    assert_eq!(endpoint.requests().len(), 1);
    let text = scene.run(&["status"]).expect_code(4);
    for word in ["HALTED (credentials)", "cure:", "[conversica] username and password", "resume"] {
        assert!(text.stdout.contains(word), "{word}: {text}");
    }

    scene.run(&["resume"]).expect_code(0);
    assert_eq!(scene.status()["halt"], Value::Null);
    scene.run(&["once"]).expect_code(4);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 2, "resume is worth one try");

    scene.set_text("conversica", "password", "another, also wrong");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 3, "so is a changed password");
}

#[test]
fn a_changed_password_lifts_the_halt_and_everything_is_sent() {
    let endpoint = StandIn::start(|request| {
        // "acme-api:right one", in base64
        let right = request.header("authorization") == Some("Basic YWNtZS1hcGk6cmlnaHQgb25l");
        Reaction::status(if right { 200 } else { 401 })
    });
    let mut scene = Scene::new(&endpoint.url(), 5);
    scene.run(&["once"]).expect_code(4);
    scene.set_text("conversica", "password", "right one");
    let output = scene.run(&["once", "--json"]).expect_code(0);
    assert_eq!((&output.json()["halt"], &output.json()["leads"]["in_sync"]), (&Value::Null, &json!(5)));
    assert_eq!(endpoint.requests().len(), 6);
}

#[test]
fn other_halting_answers_have_their_reasons_and_no_redirect_is_followed() {
    let target = StandIn::accepting();
    for (status, reason) in [
        (403, "forbidden"),
        (404, "endpoint"),
        (405, "endpoint"),
        (301, "endpoint"),
        (302, "endpoint"),
        (307, "endpoint"),
        (308, "endpoint"),
    ] {
        let location = target.url();
        let endpoint = StandIn::start(move |_| Reaction::status(status).header("Location", &location));
        let scene = Scene::new(&endpoint.url(), 5);
        let output = scene.run(&["once", "--json"]).expect_code(4);
        assert_eq!(output.json()["halt"]["reason"], reason, "{status}");
        scene.run(&["once"]).expect_code(4);
        assert_eq!((endpoint.requests().len(), target.connections()), (1, 0), "{status}");
    }
}

#[test]
fn a_running_daemon_notices_that_the_halt_was_lifted() {
    let endpoint = StandIn::start(|request| Reaction::status(if request.n == 1 { 403 } else { 200 }));
    let scene = Scene::new(&endpoint.url(), 3);
    let mut daemon = scene.daemon();
    daemon.wait_for_line("halted: nothing is sent", SOON);
    scene.wait_for_status("the halt on the disk", SOON, |status| status["halt"]["reason"] == "forbidden");
    scene.run(&["resume"]).expect_code(0);
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 3);
    assert_eq!(endpoint.requests().len(), 4);
    ended(daemon);
}

#[test]
fn until_the_first_acceptance_one_request_at_a_time_and_then_as_many_as_allowed() {
    let (first, others) = (Gate::new(), Gate::new());
    let gates = (first.clone(), others.clone());
    let endpoint =
        StandIn::start(move |request| Reaction::accept().when_opened(if request.n == 1 { &gates.0 } else { &gates.1 }));
    let mut scene = Scene::new(&endpoint.url(), 12);
    scene.set("delivery", "concurrency", "3");
    let daemon = scene.daemon();
    endpoint.wait_for_requests(1, SOON);
    // Two more polls give a second request enough time to arrive.
    for _ in 0..2 {
        let polled = scene.status()["last_poll"]["at"].clone();
        scene.wait_for_status("another poll", SOON, |status| status["last_poll"]["at"] != polled);
    }
    assert_eq!(endpoint.requests().len(), 1);
    first.open();
    wait_until("three requests in flight", SOON, || endpoint.in_flight() == 3);
    others.open();
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 12);
    assert_eq!((endpoint.max_in_flight(), endpoint.max_in_flight_per_lead()), (3, 1));
    ended(daemon);
}

#[test]
fn a_401_in_the_middle_leaves_the_other_leads_due_and_untouched() {
    let endpoint = StandIn::start(|request| match request.n {
        6 => Reaction::status(401),
        // The requests in flight beside the 401 are answered well after it, so that no answer makes room before it.
        7..=9 => Reaction::accept().after(Duration::from_secs(3)),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 30);
    scene.set("delivery", "concurrency", "4");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    // No request starts after the 401.
    let answered = endpoint.answered();
    assert!((6..=9).contains(&answered), "{answered} requests");
    assert_eq!(status["leads"]["in_sync"], answered - 1);
    assert_eq!((&status["leads"]["pending"], &status["leads"]["rejected"]), (&json!(31 - answered), &json!(0)));
    let attempts = scene.state("select cast(max(attempts) as text) from lead where status = 'pending'");
    assert_eq!(attempts, ["0"], "no attempt is counted against them");
    scene.run(&["resume"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), answered + 31 - answered);
}

#[test]
fn a_refused_lead_stops_alone_and_its_change_is_sent_again() {
    for status in [400, 413, 415, 422] {
        let endpoint = StandIn::start(move |request| {
            let refused = request.id.as_deref() == Some("3") && !request.body.contains("Fixed");
            Reaction::status(if refused { status } else { 200 }).body("the email looks odd")
        });
        let scene = Scene::new(&endpoint.url(), 5);
        let counts = scene.run(&["once", "--json"]).expect_code(3).json();
        assert_eq!(
            (&counts["leads"]["rejected"], &counts["leads"]["in_sync"], &counts["halt"]),
            (&json!(1), &json!(4), &Value::Null)
        );
        scene.run(&["once"]).expect_code(3);
        assert_eq!(endpoint.requests().len(), 5, "{status}");
        scene.crm("update leads set last_name = 'Fixed' where id = 3");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.requests().len(), 6, "{status}");
    }
}

/// The time between the first answer, with that header, and the second request.
fn waited_after(status: u16, retry_after: impl Fn() -> String + Send + Sync + 'static) -> Duration {
    let endpoint = StandIn::start(move |request| match request.n {
        1 => Reaction::status(status).header("Retry-After", &retry_after()),
        _ => Reaction::accept(),
    });
    let scene = Scene::new(&endpoint.url(), 3);
    let counts = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&counts["leads"]["in_sync"], &counts["outcomes"]["transient"]), (&json!(3), &json!(1)));
    let requests = endpoint.requests();
    requests[1].request.arrived_at - requests[0].over_at.expect("it was answered")
}

#[test]
fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    for status in [429, 503] {
        let waited = waited_after(status, || "2".to_owned());
        assert!(waited >= Duration::from_millis(1900), "{status}: {waited:?}");
    }
    // A date has no fractions: three seconds ahead is at least two.
    let waited = waited_after(429, || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3)));
    assert!(waited >= Duration::from_millis(1800), "{waited:?}");
}

#[test]
fn a_lead_that_fails_for_too_long_is_exhausted_and_the_others_are_not() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(500),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set_text("delivery.retry", "max_elapsed", "300ms");
    let counts = scene.run(&["once", "--json"]).expect_code(3).json();
    assert_eq!((&counts["leads"]["exhausted"], &counts["leads"]["in_sync"]), (&json!(1), &json!(3)));
    let tries = endpoint.bodies_of("2").len();
    assert!(tries > 2, "{tries} tries");
    assert_eq!(counts["outcomes"]["transient"], tries);
    scene.run(&["once"]).expect_code(3);
    assert_eq!(endpoint.bodies_of("2").len(), tries, "an exhausted lead waits for a person");
}

#[test]
fn a_restart_keeps_attempts_and_the_due_time() {
    let endpoint = StandIn::start(|_| Reaction::status(500).header("Retry-After", "1000"));
    let scene = Scene::new(&endpoint.url(), 2);
    let query = "select id || ' ' || status || ' ' || attempts || ' ' || due_at || ' ' || first_failed_at from lead order by id";
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    let before = scene.state(query);
    assert!(before.iter().all(|lead| lead.contains("retrying 1")), "{before:?}");
    let daemon = scene.daemon();
    let polled = scene.status()["last_poll"]["at"].clone();
    scene.wait_for_status("another poll", SOON, |status| status["last_poll"]["at"] != polled);
    ended(daemon);
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    assert_eq!((scene.state(query), endpoint.requests().len()), (before, 2));
}

#[test]
fn an_endpoint_that_takes_a_lead_and_never_answers_is_ambiguous() {
    let endpoint = StandIn::start(|request| if request.n == 1 { Reaction::AcceptThenHang } else { Reaction::accept() });
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("delivery", "timeout", "1s");
    let counts = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&counts["outcomes"]["ambiguous"], &counts["outcomes"]["accepted"]), (&json!(1), &json!(1)));
    let bodies = endpoint.bodies_of("1");
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]), "the same id and content once more");
}

#[test]
fn a_connection_cut_after_the_request_is_ambiguous() {
    let endpoint = StandIn::start(|request| if request.n == 1 { Reaction::AcceptThenCut } else { Reaction::accept() });
    let scene = Scene::new(&endpoint.url(), 1);
    let counts = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&counts["outcomes"]["ambiguous"], &counts["outcomes"]["transient"]), (&json!(1), &json!(0)));
}

#[test]
fn a_port_that_refuses_is_transient() {
    let mut scene = Scene::new(&format!("http://127.0.0.1:{}/json/", refused_port()), 2);
    scene.set_text("delivery.retry", "max_elapsed", "200ms");
    let start = Instant::now();
    let counts = scene.run(&["once", "--json"]).expect_code(3).json();
    assert!(start.elapsed() < SOON);
    let outcomes = &counts["outcomes"];
    assert_eq!(
        (&outcomes["ambiguous"], &outcomes["halting"], &counts["leads"]["exhausted"]),
        (&json!(0), &json!(0), &json!(2))
    );
    assert!(outcomes["transient"].as_u64().is_some_and(|failures| failures > 2), "{outcomes}");
}

#[test]
fn an_outage_is_probed_by_one_lead_at_a_time() {
    let endpoint = StandIn::start(|_| Reaction::status(500));
    let mut scene = Scene::new(&endpoint.url(), 50);
    scene.set("delivery.breaker", "failures", "3").set_text("delivery.retry", "max_interval", "1s");
    scene.set_text("delivery.retry", "initial_interval", "500ms");
    let output = scene.run(&["once", "--max-wait", "3s"]).expect_code(4);
    assert!(output.stderr.contains("one lead at a time"), "{output}");
    let requests = endpoint.requests().len();
    assert!((4..=20).contains(&requests), "{requests} requests in three seconds of outage, with fifty leads due");
}
