//! `run`: its work, its end by signals and by force, and its exclusive right to send from its state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::request::Request;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(20);

fn in_step(leads: u32) -> impl Fn(&Value) -> bool {
    move |status| status["leads"]["in_sync"] == leads
}

#[test]
fn run_delivers_what_is_there_and_every_change_as_it_comes() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 10);
    let daemon = scene.daemon();
    scene.wait_for_status("the first pass", SOON, in_step(10));
    scene.crm("update leads set first_name = 'Zoe' where id = 4");
    endpoint.wait_for_requests(11, SOON);
    scene.add(11, 12);
    scene.wait_for_status("the new leads", SOON, in_step(12));
    assert_eq!(endpoint.bodies_of("4")[1]["firstName"], "Zoe");
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (13, 1));
    daemon.signal(Signal::Terminate);
    let output = daemon.wait(SOON).expect_code(0);
    assert!(output.stderr.contains("\"message\":\"stopped\"") && output.stdout.is_empty(), "{output}");
}

#[test]
fn a_claim_that_lost_its_request_is_taken_up_again_when_its_lease_is_over() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let daemon = scene.daemon();
    scene.wait_for_status("the first pass", SOON, in_step(3));
    scene.state(
        "update lead set status = 'in_flight', sent_hash = desired_hash, claimed_at = 1, lease_until = 1 \
         where id = '2' returning id",
    );
    endpoint.wait_for_requests(4, SOON);
    scene.wait_for_status("all in step again", SOON, in_step(3));
    assert_eq!((endpoint.bodies_of("2").len(), &scene.status()["outcomes"]["ambiguous"]), (2, &json!(1)));
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

#[test]
fn a_signal_lets_what_is_in_flight_finish_and_begins_nothing() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let gate = Gate::new();
        let held = gate.clone();
        let endpoint = StandIn::start(move |_| Reaction::accept().when_opened(&held));
        let scene = Scene::new(&endpoint.url(), 5);
        let mut daemon = scene.daemon();
        endpoint.wait_for_requests(1, SOON);
        daemon.signal(signal);
        daemon.wait_for_line("stopping: finishing", SOON);
        gate.open();
        daemon.wait(SOON).expect_code(0);
        let status = scene.status();
        let (leads, outcomes) = (&status["leads"], &status["outcomes"]);
        assert_eq!((&leads["in_sync"], &leads["pending"], &leads["in_flight"]), (&json!(1), &json!(4), &json!(0)));
        assert_eq!(
            (&outcomes["accepted"], &outcomes["ambiguous"], endpoint.requests().len()),
            (&json!(1), &json!(0), 1)
        );
    }
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_start_knows_what_was_in_flight() {
    let endpoint = StandIn::start(|request| if request.n == 1 { Reaction::AcceptThenHang } else { Reaction::accept() });
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("delivery", "timeout", "60s");
    let mut daemon = scene.daemon();
    endpoint.wait_for_requests(1, SOON);
    daemon.signal(Signal::Terminate);
    daemon.wait_for_line("stopping: finishing", SOON);
    assert_eq!(scene.status()["leads"]["in_flight"], 1);
    let start = Instant::now();
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    let output = scene.run(&["once", "--json"]).expect_code(0);
    assert!(output.stderr.contains("in flight when the program last ended as ambiguous"), "{output}");
    let outcomes = &output.json()["outcomes"];
    assert_eq!((&outcomes["ambiguous"], &outcomes["accepted"]), (&json!(1), &json!(3)));
    let first = endpoint.requests()[0].request.id.clone().expect("an id");
    let bodies = endpoint.bodies_of(&first);
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]), "the same id and content once more");
}

#[test]
fn an_endpoint_that_never_answers_keeps_nobody_longer_than_the_time_limit() {
    let endpoint = StandIn::start(|_| Reaction::AcceptThenHang);
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("delivery", "timeout", "2s");
    let daemon = scene.daemon();
    endpoint.wait_for_requests(1, SOON);
    daemon.signal(Signal::Terminate);
    let start = Instant::now();
    daemon.wait(SOON).expect_code(0);
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    let status = scene.status();
    assert_eq!((&status["outcomes"]["ambiguous"], &status["leads"]["in_flight"]), (&json!(1), &json!(0)));
}

#[test]
fn once_too_finishes_what_is_in_flight_at_a_signal_and_says_that_it_was_interrupted() {
    let gate = Gate::new();
    let held = gate.clone();
    let endpoint = StandIn::start(move |_| Reaction::accept().when_opened(&held));
    let scene = Scene::new(&endpoint.url(), 5);
    let mut once = scene.cli().spawn(&["once"]);
    endpoint.wait_for_requests(1, SOON);
    once.signal(Signal::Interrupt);
    once.wait_for_line("stopping: finishing", SOON);
    gate.open();
    let output = once.wait(SOON).expect_code(1);
    assert!(output.stderr.contains("what was not sent stays due"), "{output}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 5, "nothing is lost and nothing is sent twice");
}

/// Two instances want to send from one state: the second is refused; commands that only read are not.
fn one_writer(scene: &Scene, holder: &[&str]) {
    let daemon = scene.daemon();
    scene.wait_for_status("all in step", SOON, in_step(3));
    let pid = daemon.id().to_string();
    for command in ["run", "once"] {
        let output = scene.run(&[command]).expect_code(2);
        assert!(output.stderr.contains("is in use by process") && output.stderr.contains("since"), "{output}");
        for word in holder {
            let word = if *word == "PID" { &pid } else { *word };
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
    }
    for arguments in [&["status"][..], &["plan"], &["check"], &["config", "show"], &["approve"], &["retry", "--all"]] {
        scene.run(arguments).expect_code(0);
    }
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    scene.run(&["once"]).expect_code(0);
}

#[test]
fn a_second_sender_on_an_sqlite_state_is_told_who_holds_it() {
    let endpoint = StandIn::accepting();
    one_writer(&Scene::new(&endpoint.url(), 3), &["PID", "conversica-sync run", "state.db"]);
    assert_eq!(endpoint.requests().len(), 3);
}

/// A backlog waits when a person withdraws consent, and the endpoint fails that request once.
#[test]
fn a_withdrawn_consent_that_failed_once_still_goes_before_the_others() {
    let stops = |request: &Request| request.id.as_deref() == Some("1") && request.body.contains("\"optOut\":true");
    let failed = AtomicBool::new(false);
    let endpoint = StandIn::start(move |request| {
        if stops(request) && !failed.swap(true, Ordering::Relaxed) {
            return Reaction::status(500);
        }
        Reaction::accept().after(Duration::from_millis(30))
    });
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set("delivery", "concurrency", "1");
    let daemon = scene.daemon();
    scene.wait_for_status("the first lead", SOON, in_step(1));
    scene.add(2, 150);
    endpoint.wait_for_requests(5, SOON);
    scene.crm("update leads set opt_out = 1 where id = 1");
    let places = || -> Vec<usize> {
        let requests = endpoint.requests();
        requests.iter().enumerate().filter(|(_, received)| stops(&received.request)).map(|(place, _)| place).collect()
    };
    wait_until("the stop to arrive", SOON, || places().len() == 2);
    let places = places();
    assert!(places[1] - places[0] < 20, "requests {places:?} of 151");
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}
