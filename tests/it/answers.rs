//! Answers with a 2xx status that are no acceptance: web pages halt the sending, refusals stop their lead, and the
//! operator can read every answer.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::browsing::Browsing;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(20);
const REFUSAL: &str = r#"{"message":"Lead could not be saved","status":false}"#;
const PAGE: &str = "<html><title>Sign in</title><form action=/login></form></html>";

blocking_on_both_engines!(
    a_refusal_in_a_200_stops_its_lead_only_and_retry_puts_it_back,
    an_erasure_takes_the_answers_along,
);

fn answering(content_type: &'static str, body: &'static str) -> StandIn {
    StandIn::start(move |_| Reaction::accept().header("Content-Type", content_type).body(body))
}

/// The answer in these bytes; then the connection is closed.
fn raw(headers: &str, body: &[u8]) -> Reaction {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    Reaction::Raw { status: Some(200), bytes: [head.as_bytes(), body].concat().leak() }
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("it fits into the memory");
    encoder.finish().expect("it fits into the memory")
}

/// The details of a lead's outcomes, oldest first.
fn answers(scene: &Scene, id: &str) -> Vec<Value> {
    let told = scene.run(&["lead", id, "--json"]).expect_code(0).json();
    let outcomes = told["outcomes"].as_array().expect("a list").clone();
    outcomes.into_iter().map(|outcome| outcome["detail"].clone()).collect()
}

#[test]
fn a_page_in_place_of_an_answer_stops_everything_and_nothing_counts_as_delivered() {
    for (content_type, body) in [
        ("text/html", PAGE),
        ("text/html; charset=utf-8", "Please sign in"),
        ("application/xhtml+xml", "<p>Please sign in</p>"),
        ("application/json", "<html><iframe src=/_Incapsula_Resource></iframe></html>"),
        ("text/plain", " \r\n\u{feff}<!DOCTYPE HTML>\n<title>Sign in</title>"),
    ] {
        let endpoint = answering(content_type, body);
        let mut scene = Scene::new(&endpoint.url(), 4);
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["halt"]["reason"], &status["leads"]["in_sync"]), (&json!("endpoint"), &json!(0)), "{body}");
        assert_eq!((&status["leads"]["pending"], &status["outcomes"]["halting"]), (&json!(4), &json!(1)), "{body}");
        scene.run(&["once"]).expect_code(4);
        assert_eq!(endpoint.requests().len(), 1, "{body}");
        let id = endpoint.requests()[0].request.id.clone().expect("it names its lead");
        let text = scene.run(&["lead", &id]).expect_code(0).stdout;
        let shown = body.trim_start_matches(['\u{feff}', ' ', '\r', '\n']).split('\n').next().expect("a line");
        assert!(text.contains("halting, status 200") && text.contains(shown), "{text}");
        let said = scene.run(&["status"]).expect_code(4).stdout;
        assert!(said.contains("HALTED (endpoint)") && said.contains("login page"), "{said}");
        assert_eq!(scene.run(&["check", "--json"]).json()["ready"], false, "a halt is not ready");

        // Now Conversica answers.
        let honest = StandIn::accepting();
        scene.set_text("conversica", "endpoint", &honest.url());
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!((&status["halt"], &status["leads"]["in_sync"]), (&Value::Null, &json!(4)), "{body}");
    }
}

#[test]
fn a_200_that_refuses_the_credentials_costs_one_request_and_stops_everything() {
    let endpoint = answering(
        "application/json",
        r#"{"message":"Invalid username or password. Additional failed attempts may result in your account being locked."}"#,
    );
    let scene = Scene::new(&endpoint.url(), 4);
    for _ in 0..2 {
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["halt"]["reason"], &status["leads"]["pending"]), (&json!("credentials"), &json!(4)));
        assert_eq!(endpoint.requests().len(), 1);
    }
}

fn a_refusal_in_a_200_stops_its_lead_only_and_retry_puts_it_back(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::accept().body(REFUSAL),
        Some("3") => Reaction::status(202).body(r#"{"data":{"success":false}}"#),
        Some("4") => {
            Reaction::status(201).body(r#"{"status":"429","message":"Too many leads"}"#).header("Retry-After", "60")
        }
        _ => Reaction::accept().body(r#"{"message":"Lead accepted","status":true}"#),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 6);
    let status = scene.run(&["once", "--json"]).expect_code(3).json();
    let (leads, outcomes) = (&status["leads"], &status["outcomes"]);
    assert_eq!((&leads["in_sync"], &leads["rejected"], &status["halt"]), (&json!(3), &json!(3), &Value::Null));
    assert_eq!(
        (&outcomes["accepted"], &outcomes["rejected"], &outcomes["transient"]),
        (&json!(3), &json!(3), &json!(0))
    );
    let told = scene.run(&["lead", "2", "--json"]).expect_code(0).json();
    assert_eq!((&told["status"], &told["delivered"]), (&json!("rejected"), &Value::Null));
    let text = scene.run(&["lead", "2"]).expect_code(0).stdout;
    assert!(
        text.contains("refused this content (200: {\"message\":\"Lead could not be saved\"") && text.contains("retry"),
        "{text}"
    );
    let listed = scene.run(&["leads", "--status", "rejected", "--reason", "could not be saved", "--json"]).json();
    assert_eq!(listed["leads"].as_array().map(Vec::len), Some(1), "{listed:#}");
    scene.run(&["once"]).expect_code(3);
    assert_eq!(endpoint.requests().len(), 6, "a refused lead is not sent again by itself");

    let honest = StandIn::accepting();
    scene.set_text("conversica", "endpoint", &honest.url());
    scene.run(&["retry", "--status", "rejected"]).expect_code(0);
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["leads"]["in_sync"], honest.requests().len()), (&json!(6), 3));
}

#[test]
fn only_an_acceptance_proves_the_credentials() {
    let endpoint = StandIn::start(|request| {
        let refused = request.id.as_deref().is_some_and(|id| ["1", "2", "3", "4"].contains(&id));
        Reaction::accept().body(if refused { REFUSAL } else { "{}" }).after(Duration::from_millis(50))
    });
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set("delivery", "concurrency", "4");
    let known = "select name from control where name = 'verified_account'";
    scene.run(&["once"]).expect_code(3);
    assert_eq!((endpoint.max_in_flight(), scene.state(known).len()), (1, 0), "one at a time, and nothing is proven");
    scene.add(5, 12);
    scene.run(&["once"]).expect_code(3);
    assert_eq!(scene.state(known).len(), 1);
    assert!(endpoint.max_in_flight() > 1);
}

#[test]
fn what_was_said_is_shown_of_every_answer_and_never_more_than_a_line() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("1") => {
            Reaction::accept().body("{\r\n\t\"message\": \"Lead\u{1b}[31m accepted\",\u{0}\r\n\"status\": true }")
        }
        Some("2") => Reaction::accept().body(&format!("{{\"status\":true,\"note\":\"{}\"}}", "é".repeat(90_000))),
        Some("3") => Reaction::accept().body(""),
        _ => raw("", b"OK \xff\xfe\x80"),
    });
    let scene = Scene::new(&endpoint.url(), 4);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(answers(&scene, "1"), [json!("{ \"message\": \"Lead [31m accepted\", \"status\": true }")]);
    let long = answers(&scene, "2");
    assert_eq!(long[0].as_str().map(|said| said.chars().count()), Some(200), "{long:?}");
    assert_eq!(answers(&scene, "3"), [Value::Null]);
    assert!(answers(&scene, "4")[0].as_str().is_some_and(|said| said.starts_with("OK")));
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    assert!(text.contains("accepted, status 200") && text.contains("Lead [31m accepted"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let kept = scene.state("select coalesce(last_detail, 'nothing') from lead where status = 'in_sync'");
    assert_eq!(kept, ["nothing"; 4], "one copy, in the journal");

    let watched = Watched::start(&scene);
    let page = Browsing::signed_in(&scene, &watched.address).get("/leads/1");
    assert!(page.text().contains("{ \"message\": \"Lead [31m accepted\", \"status\": true }"), "{}", page.body);
}

#[test]
fn a_compressed_answer_is_read_and_one_that_would_fill_the_memory_does_no_harm() {
    let bomb = gzipped(&vec![b' '; 300 << 20]);
    let was_asked = AtomicBool::new(false);
    let endpoint = StandIn::start(move |request| match request.id.as_deref() {
        Some("1") => raw("content-encoding: gzip\r\n", &gzipped(REFUSAL.as_bytes())),
        // No header declares the compression.
        Some("2") => raw("", &gzipped(REFUSAL.as_bytes())),
        Some("3") => raw("content-encoding: gzip\r\n", &gzipped(b"{\"message\":\"Lead accepted\",\"status\":true}")),
        Some("4") => raw("content-encoding: gzip\r\n", &bomb),
        Some("5") if !was_asked.swap(true, Ordering::Relaxed) => {
            raw("content-encoding: br\r\n", &[0x8b, 0x02, 0x80, 0x7b, 0x7d, 0x03])
        }
        Some("5") => Reaction::accept(),
        _ => raw("content-encoding: gzip\r\ncontent-type: text/html\r\n", &gzipped(PAGE.as_bytes())),
    });
    let scene = Scene::new(&endpoint.url(), 4);
    let daemon = scene.daemon();
    scene.wait_for_status("all four answers", SOON, |status| {
        status["leads"]["in_sync"] == 2 && status["leads"]["rejected"] == 2
    });
    let memory = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak").trim().to_owned();
    let kib: u64 = peak.split(' ').next().and_then(|number| number.parse().ok()).expect("in kB");
    assert!(kib < 250_000, "{peak}");
    for id in ["1", "2"] {
        assert_eq!(answers(&scene, id), [json!(REFUSAL)]);
    }
    assert_eq!(answers(&scene, "3"), [json!("{\"message\":\"Lead accepted\",\"status\":true}")]);
    scene.add(5, 5);
    scene.wait_for_status("an encoding that nobody asked for", SOON, |status| status["halt"]["reason"] == "endpoint");
    assert!(answers(&scene, "5")[0].as_str().is_some_and(|said| said.contains("encoding br")));
    scene.run(&["resume"]).expect_code(0);
    scene.wait_for_status("lead 5 once more", SOON, |status| status["leads"]["in_sync"] == 3);
    scene.add(6, 6);
    scene.wait_for_status("the page", SOON, |status| status["halt"]["reason"] == "endpoint");
    assert_eq!(answers(&scene, "6"), [json!(PAGE)]);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

fn an_erasure_takes_the_answers_along(engine: Engine) {
    let endpoint =
        StandIn::start(|request| Reaction::accept().body(&format!("{{\"status\":true,\"lead\":{}}}", request.body)));
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    let kept = "select detail from outcome where detail like '%ann1@example.com%'";
    assert_eq!(scene.state(kept).len(), 1, "the answer quotes them");
    scene.crm("delete from leads where id = 1");
    scene.run(&["lead", "1", "--erase", "--conversica-told", "--yes"]).expect_code(0);
    assert_eq!(scene.state(kept), Vec::<String>::new());
    assert_eq!(scene.state("select detail from outcome where detail like '%ann2@example.com%'").len(), 1);
}

#[test]
fn a_test_lead_is_judged_in_the_same_way_and_its_token_is_never_shown() {
    const TOKEN: &str = "TOKEN12345";
    for (content_type, body, code, word) in [
        ("text/html", PAGE, 4, "halting (status 200)"),
        ("application/json", REFUSAL, 3, "rejected (status 200)"),
        ("application/json", r#"{"status":true,"lastName":"TOKEN12345"}"#, 0, "accepted (status 200)"),
    ] {
        let endpoint = answering(content_type, body);
        let mut scene = Scene::new(&endpoint.url(), 0);
        scene.set_text("conversica", "test_lead_token", TOKEN);
        let output = scene.run(&["check", "--send-test-lead"]).expect_code(code);
        assert!(output.stdout.contains(word) && !format!("{output}").contains(TOKEN), "{output}");
    }
}
