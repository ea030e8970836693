//! One test for each fault on the way to Conversica, with the real daemon and on both engines: in the end each lead has
//! arrived with its newest content, and the journal accounts for every request.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::binary::Running;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::request::Request;
use crate::support::scene::Scene;
use crate::support::settled::{assert_classes, assert_classes_but, settled, unsent};
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Port, Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);

on_both_engines!(
    blocking: a_refused_connection_is_tried_again_until_somebody_listens,
    a_request_that_is_never_answered_is_ambiguous_and_sent_again,
    a_connection_cut_after_the_request_is_ambiguous_and_sent_again,
    a_connection_reset_before_the_request_was_read_is_ambiguous_and_sent_again,
    a_thousand_leads_with_twenty_lost_answers_are_reported_as_exactly_that,
    an_answer_that_is_slow_but_within_the_limit_is_waited_for,
    an_answer_beyond_the_limit_is_ambiguous_and_sent_again,
    headers_that_never_end_are_ambiguous_and_sent_again,
    after_a_429_nobody_sends_before_its_seconds_are_over,
    after_a_429_nobody_sends_before_its_date_has_come,
    a_burst_of_server_errors_is_probed_by_one_lead_at_a_time_and_costs_the_others_nothing,
    a_401_in_the_middle_leaves_the_others_due_until_the_password_is_changed,
    an_accepting_status_without_a_refusal_is_accepted_whatever_comes_with_it,
    a_failing_status_fails_whatever_comes_with_it,
    an_answer_that_is_not_http_is_ambiguous_and_sent_again,
    an_answer_without_end_is_not_read_to_the_end,
    an_endpoint_that_is_down_for_a_while_is_taken_up_again,
);

fn ended(daemon: Running) -> String {
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0).stderr
}

/// Remembers which leads have been sent, for scripts that misbehave at a lead's first request only.
#[derive(Default)]
struct Seen(Mutex<HashSet<String>>);

impl Seen {
    fn first_time(&self, request: &Request) -> bool {
        let id = request.id.clone().expect("every request names its lead");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }
}

fn number(request: &Request) -> u32 {
    request.id.as_deref().and_then(|id| id.parse().ok()).expect("ids are numbers here")
}

/// Misbehaves at the first request of each fourth lead, and accepts everything else.
fn each_fourth(fault: impl Fn() -> Reaction + Send + Sync + 'static) -> StandIn {
    let seen = Seen::default();
    StandIn::start(move |request| {
        let first = seen.first_time(request);
        if first && number(request).is_multiple_of(4) { fault() } else { Reaction::accept() }
    })
}

/// Twelve leads; three of them lose their first answer by this fault, while rows change.
fn three_lost_answers(engine: Engine, timeout: &str, fault: impl Fn() -> Reaction + Send + Sync + 'static) {
    let endpoint = each_fourth(fault);
    let mut scene = Scene::on(engine, &endpoint.url(), 12);
    scene.set_text("delivery", "timeout", timeout);
    let daemon = scene.daemon();
    endpoint.wait_for_requests(4, SOON);
    scene.crm("update leads set last_name = 'Newer' where id in (2, 4, 12)");
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!((&status["outcomes"]["ambiguous"], &status["outcomes"]["transient"]), (&3.into(), &0.into()));
    ended(daemon);
}

fn a_refused_connection_is_tried_again_until_somebody_listens(engine: Engine) {
    let port = Port::reserve();
    let scene = Scene::on(engine, &port.url(), 12);
    let daemon = scene.daemon();
    scene.wait_for_status("five failures", SOON, |status| status["outcomes"]["transient"].as_u64() >= Some(5));
    scene.crm("update leads set last_name = 'Newer' where id in (2, 7)");
    let endpoint = port.start(|_| Reaction::accept());
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], unsent(&scene));
    assert_eq!(status["outcomes"]["ambiguous"], 0, "what never left is in doubt for nobody");
    ended(daemon);
}

fn a_request_that_is_never_answered_is_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "1s", || Reaction::AcceptThenHang);
}

fn a_connection_cut_after_the_request_is_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "10s", || Reaction::AcceptThenCut);
}

fn a_connection_reset_before_the_request_was_read_is_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "10s", || Reaction::CutBeforeReading);
}

fn an_answer_beyond_the_limit_is_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "1s", || Reaction::accept().after(Duration::from_secs(30)));
}

fn headers_that_never_end_are_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "1s", || Reaction::SlowHeaders { every: Duration::from_millis(100) });
}

fn an_answer_that_is_not_http_is_ambiguous_and_sent_again(engine: Engine) {
    three_lost_answers(engine, "10s", || Reaction::Raw { status: None, bytes: b"SSH-2.0-OpenSSH_9.2\r\n" });
}

fn a_thousand_leads_with_twenty_lost_answers_are_reported_as_exactly_that(engine: Engine) {
    let seen = Seen::default();
    let endpoint = StandIn::start(move |request| {
        let dropped = seen.first_time(request) && number(request).is_multiple_of(50);
        if dropped { Reaction::AcceptThenCut } else { Reaction::accept() }
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 1000);
    scene.set("delivery", "requests_per_second", "100000").set("delivery", "concurrency", "16");
    let output = scene.run(&["once", "--json"]).expect_code(0).json();
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    for counts in [&output["outcomes"], &output["pass"], &status["outcomes"]] {
        assert_eq!((&counts["accepted"], &counts["ambiguous"]), (&1000.into(), &20.into()), "{output:#}");
    }
    let text = scene.run(&["status"]).expect_code(0).stdout;
    assert!(text.contains("accepted 1000") && text.contains("ambiguous 20"), "{text}");
}

fn an_answer_that_is_slow_but_within_the_limit_is_waited_for(engine: Engine) {
    let endpoint = each_fourth(|| Reaction::accept().after(Duration::from_millis(1200)));
    let scene = Scene::on(engine, &endpoint.url(), 12);
    let daemon = scene.daemon();
    wait_until("a slow answer to be waited for", SOON, || {
        endpoint.requests().iter().any(|received| received.request.id.as_deref() == Some("4"))
    });
    // The older content is in flight.
    scene.crm("update leads set last_name = 'Newer' where id = 4");
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!(status["outcomes"]["accepted"], 13, "each once, and the change");
    ended(daemon);
}

/// Four requests are in flight when one of them gets a 429; the others are answered after the 429 is recorded.
fn nobody_sends_before(engine: Engine, retry_after: impl Fn() -> String + Send + Sync + 'static) {
    let (pause, others) = (Gate::new(), Gate::new());
    let gates = (pause.clone(), others.clone());
    let date = Arc::new(Mutex::new(None));
    let written = date.clone();
    let endpoint = StandIn::start(move |request| match request.n {
        10 => {
            let header = retry_after();
            if let Ok(date) = httpdate::parse_http_date(&header) {
                let ahead = date.duration_since(SystemTime::now()).expect("it lies ahead");
                *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + ahead);
            }
            Reaction::status(429).header("Retry-After", &header).when_opened(&gates.0)
        }
        11..=13 => Reaction::accept().when_opened(&gates.1),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 60);
    scene.set("delivery", "concurrency", "4");
    let daemon = scene.daemon();
    wait_until("four requests in flight", SOON, || endpoint.in_flight() == 4 && endpoint.requests().len() == 13);
    pause.open();
    scene.wait_for_status("the 429 in the journal", SOON, |status| status["outcomes"]["transient"] == 1);
    others.open();
    scene.crm("update leads set last_name = 'Newer' where id in (1, 60)");
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    let requests = endpoint.requests();
    let refused = requests[9].over_at.expect("it was answered");
    let waited = requests[13..].iter().map(|received| received.request.arrived_at - refused).min();
    let waited = waited.expect("more came later");
    let date = date.lock().unwrap_or_else(PoisonError::into_inner).take();
    let wanted = date.map_or(Duration::from_secs(2), |date| date - refused);
    // The two clocks of a machine are not read at the same moment.
    assert!(waited + Duration::from_millis(50) >= wanted, "somebody sent after {waited:?} instead of {wanted:?}");
    ended(daemon);
}

fn after_a_429_nobody_sends_before_its_seconds_are_over(engine: Engine) {
    nobody_sends_before(engine, || "2".to_owned());
}

fn after_a_429_nobody_sends_before_its_date_has_come(engine: Engine) {
    nobody_sends_before(engine, || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(4)));
}

fn a_burst_of_server_errors_is_probed_by_one_lead_at_a_time_and_costs_the_others_nothing(engine: Engine) {
    const GOOD: usize = 10;
    const LAST: usize = 25;
    let (down, gate) = (Arc::new(AtomicBool::new(true)), Gate::new());
    let (is_down, held) = (down.clone(), gate.clone());
    let endpoint = StandIn::start(move |request| match request.n {
        n if n <= GOOD || !is_down.load(Ordering::Relaxed) => Reaction::accept(),
        LAST => Reaction::status(500).when_opened(&held),
        n => Reaction::status([500, 502, 503, 504][n % 4]).after(Duration::from_millis(30)),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 40);
    scene.set("delivery", "concurrency", "4").set("delivery.breaker", "failures", "3");
    scene.set_text("delivery.retry", "initial_interval", "100ms").set_text("delivery.retry", "max_interval", "300ms");
    let mut daemon = scene.daemon();
    daemon.wait_for_line("trying one lead at a time", SOON);
    scene.crm("update leads set last_name = 'Newer' where id in (1, 20, 40)");
    wait_until("the last probe to be held", SOON, || endpoint.requests().len() == LAST && endpoint.in_flight() == 1);
    let requests = endpoint.requests();
    // Three failures open the breaker; up to three more requests are in flight by then.
    for pair in requests[GOOD + 6..].windows(2) {
        let over = pair[0].over_at.expect("answered before the next");
        assert!(pair[1].request.arrived_at >= over, "a probe left while another was on its way");
    }
    let attempts = scene.state("select cast(sum(attempts) as text) from lead");
    assert_eq!(attempts, [(LAST - GOOD).to_string()], "an attempt is counted for a request, and for nothing else");
    down.store(false, Ordering::Relaxed);
    gate.open();
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!((&status["leads"]["exhausted"], &status["outcomes"]["ambiguous"]), (&0.into(), &0.into()));
    assert!(ended(daemon).contains("Conversica answers again"));
}

fn a_401_in_the_middle_leaves_the_others_due_until_the_password_is_changed(engine: Engine) {
    let endpoint = StandIn::start(|request| {
        // "acme-api:right one", in base64
        let right = request.header("authorization") == Some("Basic YWNtZS1hcGk6cmlnaHQgb25l");
        Reaction::status(if right || request.n <= 10 { 200 } else { 401 })
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 40);
    scene.set("delivery", "concurrency", "4");
    let mut daemon = scene.daemon();
    daemon.wait_for_line("halted: nothing is sent", SOON);
    // One lead is in sync, and one waits.
    scene.crm("update leads set last_name = 'Newer' where id in (1, 40)");
    scene.wait_for_status("all that was on its way is written down", SOON, |status| {
        status["leads"]["in_flight"] == 0
            && status["halt"]["reason"] == "credentials"
            && status["leads"]["in_sync"] == 9
    });
    let refused = endpoint.requests().len() - 10;
    assert!((1..=4).contains(&refused), "{refused} refused");
    for _ in 0..2 {
        let polled = scene.status()["last_poll"]["at"].clone();
        scene.wait_for_status("another poll", SOON, |status| status["last_poll"]["at"] != polled);
    }
    let status = scene.status();
    assert_eq!(
        (&status["leads"]["pending"], &status["outcomes"]["halting"], endpoint.requests().len()),
        (&31.into(), &refused.into(), 10 + refused)
    );
    let touched = scene.state("select id from lead where attempts > 0 or (status = 'pending' and first_failed_at > 0)");
    assert_eq!(touched, Vec::<String>::new(), "no attempt is counted against them");
    ended(daemon);

    scene.set_text("conversica", "password", "right one");
    let daemon = scene.daemon();
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!((&status["halt"], endpoint.requests().len()), (&Value::Null, 41 + refused));
    ended(daemon);
}

fn an_accepting_status_without_a_refusal_is_accepted_whatever_comes_with_it(engine: Engine) {
    let endpoint = StandIn::start(|request| match number(request) % 7 {
        0 => Reaction::accept().header("Content-Type", "text/plain").body("Thank you!"),
        1 => Reaction::accept().body(""),
        2 => Reaction::accept().body("\u{0}\u{1}{\"error\": \u{fffd} true"),
        3 => Reaction::status(201).body("[[[[[[[["),
        4 => Reaction::status(202).body("{\"errors\":[],\"error\":null}"),
        // A body that ends too early, and a body where none is allowed.
        5 => Reaction::Raw { status: Some(200), bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"a" },
        _ => Reaction::Raw { status: Some(204), bytes: b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n{}" },
    });
    let scene = Scene::on(engine, &endpoint.url(), 42);
    let daemon = scene.daemon();
    endpoint.wait_for_requests(20, SOON);
    scene.crm("update leads set last_name = 'Newer' where id in (1, 5, 6, 40)");
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!(status["outcomes"]["accepted"], endpoint.requests().len());
    ended(daemon);
}

fn a_failing_status_fails_whatever_comes_with_it(engine: Engine) {
    let seen = Seen::default();
    let endpoint = StandIn::start(move |request| {
        if !seen.first_time(request) {
            return Reaction::accept();
        }
        let html = "<html><body>".repeat(2000);
        match number(request) % 6 {
            0 => Reaction::status(502).header("Content-Type", "text/html").body(&html),
            1 => Reaction::status(503).body(""),
            2 => Reaction::status(500).body("{\"success\":true}"),
            3 => Reaction::status(429).body("\u{0}\u{7f}\u{fffd}"),
            4 => Reaction::Raw { status: Some(500), bytes: b"HTTP/1.1 500 Oh\r\ncontent-length: 99\r\n\r\n{" },
            _ => Reaction::status(400).body(&html),
        }
    });
    let scene = Scene::on(engine, &endpoint.url(), 30);
    let daemon = scene.daemon();
    scene.wait_for_status("all but the refused", SOON, |status| {
        status["leads"]["in_sync"] == 25 && status["leads"]["rejected"] == 5
    });
    scene.crm("update leads set last_name = 'Fixed' where id % 6 = 5");
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    let details = scene.state("select detail from outcome where class = 'rejected' order by length(detail) desc");
    assert!(details.len() == 5 && details[0].starts_with("<html>") && details[0].len() <= 300, "{details:?}");
    ended(daemon);
}

fn an_answer_without_end_is_not_read_to_the_end(engine: Engine) {
    const BYTES: u64 = 1 << 40;
    let seen = Seen::default();
    let endpoint = StandIn::start(move |request| match (seen.first_time(request), number(request) % 6) {
        (true, 0) => Reaction::HugeBody { status: 500, bytes: BYTES },
        (_, 3) => Reaction::HugeBody { status: 200, bytes: BYTES },
        _ => Reaction::accept(),
    });
    let scene = Scene::on(engine, &endpoint.url(), 18);
    let daemon = scene.daemon();
    let status = settled(&scene, &[&endpoint], SOON);
    let outcomes = &status["outcomes"];
    assert_eq!((&outcomes["accepted"], &outcomes["transient"]), (&18.into(), &3.into()), "{outcomes}");
    let memory = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak").trim().to_owned();
    let kib: u64 = peak.split(' ').next().and_then(|number| number.parse().ok()).expect("in kB");
    assert!(kib < 300_000, "{peak}");
    ended(daemon);
}

fn an_endpoint_that_is_down_for_a_while_is_taken_up_again(engine: Engine) {
    let port = Port::reserve();
    let first = port.start(|request| Reaction::accept().after(Duration::from_millis(request.n as u64 % 7)));
    let mut scene = Scene::on(engine, &port.url(), 200);
    scene.set("delivery.breaker", "failures", "5").set_text("delivery.retry", "max_interval", "300ms");
    let mut daemon = scene.daemon();
    let mut endpoints = vec![first];
    for outage in 1..=3_u32 {
        let endpoint = endpoints.last_mut().expect("one serves");
        endpoint.wait_for_requests(20, SOON);
        endpoint.stop();
        scene.crm(&format!("update leads set last_name = 'Outage {outage}' where id % 10 = {outage}"));
        let failures = unsent(&scene);
        wait_until("failures to connect", SOON, || unsent(&scene) >= failures + 3);
        endpoints.push(port.start(|request| Reaction::accept().after(Duration::from_millis(request.n as u64 % 7))));
    }
    let endpoints: Vec<&StandIn> = endpoints.iter().collect();
    let status = settled(&scene, &endpoints, SOON);
    assert_classes_but(&status, &endpoints, unsent(&scene), 3 * 4);
    daemon.wait_for_line("Conversica answers again", SOON);
    ended(daemon);
}
