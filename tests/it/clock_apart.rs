//! One machine's clock, or the clock of one pass, is ahead or behind: nothing is sent twice, no pause is forgotten, and
//! no lead is given up.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};

use crate::support::binary::Running;
use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::{at, claim_one, desired, finished, record, resend, write};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::wait_until;
use crate::support::wrong_clock::with_clock;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::pause;

const SOON: Duration = Duration::from_secs(60);
const DAY: i64 = 24 * 3600;

/// The daemon of the scene; its clock is off by `offset`, or right when `offset` is empty.
fn daemon(scene: &Scene, offset: &str) -> Running {
    let cli = if offset.is_empty() { scene.cli() } else { with_clock(scene.cli(), offset) };
    let mut running = cli.spawn(&["run"]);
    running.wait_for_line("\"message\":\"running\"", SOON);
    running
}

/// One instance has a request in flight while another one, with a different clock, starts and recovers claims.
fn no_claim_is_taken_over(sender: &str, other: &str) {
    let gate = Gate::new();
    let opened = gate.clone();
    let endpoint = StandIn::start(move |request| match request.id.as_deref() {
        Some("1") => Reaction::accept().when_opened(&opened),
        _ => Reaction::accept(),
    });
    let state = cluster().database();
    let mut first = Scene::new(&endpoint.url(), 0);
    first.set_text("state", "url", &state.url).set_text("delivery", "timeout", "40s");
    let mut second = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", first.directory().join("crm.db").display());
    second.set_text("source", "url", &crm).set_text("state", "url", &state.url).set_text("delivery", "timeout", "40s");
    let _sender = daemon(&first, sender);
    first.add(2, 2);
    first.wait_for_status("the credentials to be accepted", SOON, |status| status["leads"]["in_sync"] == 1);
    first.add(1, 1);
    wait_until("the request to be on its way", SOON, || endpoint.requests().len() == 2);
    let _other = daemon(&second, other);
    let started = Instant::now();
    // It recovers claims at its start, and every two seconds.
    wait_until("the other instance to look after claims", SOON, || started.elapsed() > Duration::from_secs(5));
    let outcomes = state.sql("select class from conversica_sync.outcome where id = '1'");
    assert_eq!((endpoint.requests().len(), outcomes.as_str()), (2, ""), "nothing was sent again, nothing is unknown");
    gate.open();
    first.wait_for_status("the answer to count", SOON, |status| status["leads"]["in_sync"] == 2);
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (2, 1));
}

#[test]
fn an_instance_whose_clock_is_ahead_takes_no_claim_of_another_one() {
    no_claim_is_taken_over("", "+600s");
}

#[test]
fn nothing_is_taken_from_an_instance_whose_clock_is_behind() {
    no_claim_is_taken_over("-600s", "");
}

/// Conversica asks for a pause of some seconds; an instance with another clock keeps it, and no longer.
fn the_pause_is_kept(offset: &str) {
    const PAUSE: Duration = Duration::from_secs(6);
    let endpoint = StandIn::accepting();
    let scene = Scene::with_state_on(Engine::Postgres, &endpoint.url(), 1);
    let mut running = daemon(&scene, offset);
    scene.wait_for_status("the first lead", SOON, |status| status["leads"]["in_sync"] == 1);
    scene.with_state(async |db| {
        let now = Utc::now();
        pause::ask(db, now + TimeDelta::from_std(PAUSE).unwrap(), now).await.unwrap();
    });
    let asked = Instant::now();
    scene.add(2, 2);
    let known = "select count(*)::text from conversica_sync.lead where status = 'pending'";
    wait_until("the second lead to be waiting", SOON, || scene.state(known) == ["1"]);
    wait_until("the second lead to be sent", SOON, || endpoint.requests().len() == 2);
    let waited = asked.elapsed();
    assert!(waited >= PAUSE - Duration::from_millis(500), "{waited:?}");
    assert!(waited < PAUSE * 5, "{waited:?}");
    running.wait_for_line("this machine's clock and that of the state's server differ", SOON);
    let said = running.stderr().matches("clock and that of the state's server differ").count();
    assert_eq!(said, 1, "it is said once");
}

#[test]
fn a_pause_that_conversica_asked_for_is_kept_by_an_instance_whose_clock_is_ahead() {
    the_pause_is_kept("+120s");
}

#[test]
fn a_pause_that_conversica_asked_for_ends_in_time_for_an_instance_whose_clock_is_behind() {
    the_pause_is_kept("-120s");
}

#[test]
fn the_check_says_that_clocks_differ_and_agreeing_clocks_are_not_reported() {
    let endpoint = StandIn::accepting();
    let scene = Scene::with_state_on(Engine::Postgres, &endpoint.url(), 1);
    let once = scene.run(&["once"]).expect_code(0);
    assert!(!format!("{once}").contains("clock"), "{once}");
    let check = with_clock(scene.cli(), "+120s").run(&["check"]);
    assert!(check.stdout.contains("s behind ours"), "{check}");
    assert!(check.stdout.contains("let both machines follow a time server"), "{check}");
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("the clock of the state's server and ours agree"), "{check}");
}

blocking_on_both_engines!(a_lead_that_failed_while_the_clock_was_behind_is_tried_on_once_it_is_right);

fn a_lead_that_failed_while_the_clock_was_behind_is_tried_on_once_it_is_right(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::status(503));
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
    scene.set_text("delivery.retry", "max_elapsed", "1h");
    scene.set_text("delivery.retry", "initial_interval", "1s").set_text("delivery.retry", "max_interval", "2s");
    let _ = with_clock(scene.cli(), "-700d").run(&["once", "--max-wait", "0s"]);
    let before = endpoint.requests().len();
    assert!(before > 0, "some were tried");
    let _ = scene.run(&["once", "--max-wait", "3s"]);
    assert!(endpoint.requests().len() > before, "they are tried again");
    let status = scene.status();
    assert_eq!((&status["leads"]["exhausted"], &status["leads"]["retrying"]), (&0.into(), &3.into()), "{status}");
}

mod of_the_state {
    use super::*;

    on_both_engines!(
        a_lease_that_lies_further_ahead_than_any_can_blocks_its_lead_for_minutes_at_most,
        time_in_which_a_lead_was_not_tried_does_not_count_as_failure,
        time_that_a_lead_was_to_wait_counts_as_failure,
        a_first_failure_that_lies_ahead_counts_as_of_now,
    );

    pub(super) async fn a_lease_that_lies_further_ahead_than_any_can_blocks_its_lead_for_minutes_at_most(
        engine: Engine,
    ) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", "a")], 0).await;
        claim_one(&db, 0).await;
        let ahead = at(30 * 60).timestamp_micros();
        on_state!(&db, pool => sqlx::query("update lead set lease_until = $1").bind(ahead).execute(pool).await.map(drop).unwrap());
        let settings = resend();
        assert!(orphan::any_expired(&db, &settings, at(10)).await.unwrap());
        assert_eq!(
            orphan::recover(&db, OrphanScope::Expired, &settings, at(10)).await.unwrap(),
            0,
            "it may still be sending"
        );
        let over = 12 + 60 + 2 * i64::try_from(settings.timeout.as_secs()).unwrap();
        assert!(orphan::any_expired(&db, &settings, at(over)).await.unwrap());
        assert_eq!(orphan::recover(&db, OrphanScope::Expired, &settings, at(over)).await.unwrap(), 1);
    }

    pub(super) async fn time_in_which_a_lead_was_not_tried_does_not_count_as_failure(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", "a")], 0).await;
        let claim = claim_one(&db, 1).await;
        assert_eq!(claim.failing_for(), Duration::ZERO, "the first attempt");
        record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(12)), 2)]).await;
        // The program did not run for a day.
        let claim = claim_one(&db, DAY + 12).await;
        assert_eq!((claim.attempt, claim.failing_for()), (2, Duration::from_secs(10 + 60)));
        record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(DAY + 40)), DAY + 20)]).await;
        let claim = claim_one(&db, DAY + 45).await;
        assert_eq!(claim.failing_for(), Duration::from_secs(70 + 33), "a few seconds late");
    }

    pub(super) async fn time_that_a_lead_was_to_wait_counts_as_failure(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", "a")], 0).await;
        for hour in 0..25 {
            let claim = claim_one(&db, hour * 3600).await;
            assert_eq!(claim.failing_for(), Duration::from_secs(hour.unsigned_abs() * 3600));
            let next = NextStep::RetryAt(at((hour + 1) * 3600));
            record(&db, &[finished(&claim, OutcomeClass::Transient, next, hour * 3600)]).await;
        }
    }

    pub(super) async fn a_first_failure_that_lies_ahead_counts_as_of_now(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", "a")], 0).await;
        let claim = claim_one(&db, 1).await;
        // The clock was a year ahead while this request was in flight.
        record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(10)), 365 * DAY)]).await;
        let claim = claim_one(&db, 10).await;
        assert_eq!(claim.failing_for(), Duration::ZERO);
        record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(20)), 11)]).await;
        assert_eq!(claim_one(&db, 20).await.failing_for(), Duration::from_secs(10));
    }
}
