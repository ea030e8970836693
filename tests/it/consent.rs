//! Withdrawals of consent: they are sent before all other leads even after a failed first try, survive the loss of their
//! row, and go only to people who have been contacted.

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::{
    LEASE, at, claim, claim_one, deliver, desired, finished, held, id, record, resend, row, unknown_is, urgent, write,
};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::ClaimFilter;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::lead;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;

const STOP: &str = r#"{"id":"1","optOut":true}"#;

on_both_engines!(
    a_withdrawal_goes_before_twenty_thousand_others_however_its_first_try_ended,
    a_withdrawal_that_comes_while_a_request_is_on_its_way_waits_for_no_retry_of_that,
    whoever_was_claimed_since_the_poll_looked_is_withdrawn_at_once_and_not_held,
    a_consent_given_again_and_taken_back_on_its_way_is_withdrawn_at_once,
    a_withdrawal_is_sent_though_its_row_has_gone,
    withdrawals_that_waited_out_an_outage_are_due_at_once,
);

async fn backlog(db: &StateDb, leads: u32, change: impl Fn(&str) -> LeadChange) {
    for first in (0..leads).step_by(2000) {
        let changes: Vec<LeadChange> = (first..first + 2000).map(|n| change(&format!("0{n}"))).collect();
        write(db, &changes, 0).await;
    }
}

async fn a_withdrawal_goes_before_twenty_thousand_others_however_its_first_try_ended(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("known", "a"), 0).await;
    backlog(&db, 20_000, |id| desired(id, "a")).await;
    backlog(&db, 20_000, |id| held(&format!("h{id}"), "a")).await;
    write(&db, &[urgent("known", "stop")], 10).await;
    let settings = unknown_is(OnAmbiguous::Hold);
    for end in 0..4 {
        let first = claim(&db, 1, 20 + end).await.remove(0);
        assert_eq!((&first.lead, first.urgent, first.body.as_str()), (&id("known"), true, "stop"), "after {end} tries");
        match end {
            0 => record(&db, &[finished(&first, OutcomeClass::Transient, NextStep::RetryAt(at(21)), 20)]).await,
            1 => record(&db, &[finished(&first, OutcomeClass::Ambiguous, NextStep::RetryAt(at(22)), 21)]).await,
            2 => assert_eq!(orphan::recover(&db, OrphanScope::All, &settings, at(22)).await.unwrap(), 1),
            _ => record(&db, &[finished(&first, OutcomeClass::Accepted, NextStep::Done, 23)]).await,
        }
    }
    assert_ne!(claim(&db, 1, 30).await[0].lead, id("known"), "then it is the others' turn");
}

async fn a_withdrawal_that_comes_while_a_request_is_on_its_way_waits_for_no_retry_of_that(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ends = [
        (OutcomeClass::Transient, NextStep::RetryAt(at(9000))),
        (OutcomeClass::Ambiguous, NextStep::RetryAt(at(9000))),
        (OutcomeClass::Ambiguous, NextStep::Hold),
        (OutcomeClass::Rejected, NextStep::Rejected),
        (OutcomeClass::Transient, NextStep::Exhausted),
    ];
    for (n, (class, next)) in (0..).zip(ends) {
        let id = format!("{n}");
        deliver(&db, desired(&id, "a"), 0).await;
        write(&db, &[desired(&id, "b")], 1).await;
        let in_flight = claim_one(&db, 2).await;
        write(&db, &[urgent(&id, "stop")], 3).await;
        record(&db, &[finished(&in_flight, class, next, 4)]).await;
        let stop = claim_one(&db, 5).await;
        assert_eq!((stop.body.as_str(), stop.urgent), ("stop", true), "{class:?} {next:?}");
        record(&db, &[finished(&stop, OutcomeClass::Accepted, NextStep::Done, 6)]).await;
    }
}

async fn whoever_was_claimed_since_the_poll_looked_is_withdrawn_at_once_and_not_held(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a"), desired("2", "a"), held("3", "a")], 0).await;
    let mut claims = claim(&db, 2, 1).await;
    claims.sort_by(|a, b| a.lead.cmp(&b.lead));
    record(&db, &[finished(&claims[0], OutcomeClass::Accepted, NextStep::Done, 2)]).await;
    // The poll that writes these had read the leads before they were contacted.
    write(&db, &[held("1", STOP), held("2", STOP), held("3", STOP)], 3).await;
    record(&db, &[finished(&claims[1], OutcomeClass::Accepted, NextStep::Done, 4)]).await;
    let claims = delivery::record_and_claim(
        &db,
        &[],
        ClaimRequest { leads: 10, admit: &ClaimFilter::Withdrawals, ..ClaimRequest::NOTHING },
        at(5),
        LEASE,
    )
    .await
    .unwrap();
    let mut ids: Vec<&str> = claims.iter().map(|claim| claim.lead.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"]);
    assert_eq!(row(&db, "3").await.status, "held", "nobody has written to them: there is nothing to withdraw");
}

async fn a_consent_given_again_and_taken_back_on_its_way_is_withdrawn_at_once(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for (id_, class, next) in [
        ("1", OutcomeClass::Accepted, NextStep::Done),
        ("2", OutcomeClass::Ambiguous, NextStep::Hold),
        ("3", OutcomeClass::Transient, NextStep::RetryAt(at(9))),
    ] {
        deliver(&db, desired(id_, STOP), 0).await;
        write(&db, &[desired(id_, "consent")], 1).await;
        let in_flight = claim_one(&db, 2).await;
        write(&db, &[held(id_, STOP)], 3).await;
        record(&db, &[finished(&in_flight, class, next, 4)]).await;
        let claims = delivery::record_and_claim(
            &db,
            &[],
            ClaimRequest { leads: 9, admit: &ClaimFilter::Withdrawals, ..ClaimRequest::NOTHING },
            at(5),
            LEASE,
        )
        .await
        .unwrap();
        assert_eq!(claims.len(), usize::from(class != OutcomeClass::Transient), "{class:?}: {claims:?}");
        assert!(claims.iter().all(|claim| claim.body == STOP));
    }
    assert_eq!(row(&db, "3").await.status, "in_sync", "the consent never arrived");
}

async fn a_withdrawal_is_sent_though_its_row_has_gone(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for id_ in ["1", "2", "3"] {
        deliver(&db, desired(id_, "a"), 0).await;
    }
    write(&db, &[urgent("1", "stop"), urgent("2", "stop"), desired("3", "b")], 1).await;
    let in_flight = claim(&db, 1, 2).await.remove(0);
    lead::mark_gone(&db, &["1", "2", "3"].map(id), at(3)).await.unwrap();
    record(&db, &[finished(&in_flight, OutcomeClass::Transient, NextStep::RetryAt(at(4)), 3)]).await;
    let claims = claim(&db, 10, 5).await;
    assert_eq!(claims.len(), 2, "{claims:?}");
    for claim in &claims {
        assert_eq!(claim.body, "stop");
        record(&db, &[finished(claim, OutcomeClass::Accepted, NextStep::Done, 6)]).await;
    }
    for id in ["1", "2", "3"] {
        assert_eq!(row(&db, id).await.status, "gone", "{id}");
    }
}

async fn withdrawals_that_waited_out_an_outage_are_due_at_once(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for id in ["1", "2"] {
        deliver(&db, desired(id, "a"), 0).await;
    }
    write(&db, &[urgent("1", "stop"), desired("2", "b")], 1).await;
    for claim in claim(&db, 10, 2).await {
        record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(900)), 3)]).await;
    }
    assert!(claim(&db, 10, 4).await.is_empty());
    assert_eq!(conversica_sync::store::due::hurry_withdrawals(&db, at(5)).await.unwrap(), 1);
    assert_eq!(claim_one(&db, 5).await.lead, id("1"));
    assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(6)).await.unwrap(), 1);
}

mod program {
    use super::*;

    blocking_on_both_engines!(
        a_row_wiped_together_with_its_consent_withdraws_it_once_and_is_invalid_afterwards,
        a_row_wiped_while_its_first_contact_is_on_its_way_withdraws_all_the_same,
        a_withdrawal_cut_off_by_a_kill_is_the_first_to_go_afterwards,
        before_the_first_contact_there_is_nothing_to_withdraw,
    );

    fn a_row_wiped_together_with_its_consent_withdraws_it_once_and_is_invalid_afterwards(engine: Engine) {
        let refusing = std::sync::atomic::AtomicUsize::new(0);
        let endpoint = StandIn::start(move |request| {
            let stop = request.body.contains("\"optOut\":true");
            let first = stop && refusing.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            Reaction::status(if first { 503 } else { 200 })
        });
        let scene = Scene::with_state_on(engine, &endpoint.url(), 3);
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set email = null, first_name = null, opt_out = 1 where id = 2");
        let plan = scene.run(&["plan", "--json"]).json();
        assert_eq!((&plan["stop"], &plan["invalid"]), (&json!(1), &json!(0)), "{plan:#}");
        scene.run(&["once"]);
        for _ in 0..2 {
            let status = scene.run(&["once", "--json"]).expect_code(3).json();
            assert_eq!((&status["leads"]["invalid"], &status["leads"]["in_sync"]), (&json!(1), &json!(2)));
        }
        let bodies = endpoint.bodies_of("2");
        assert_eq!(bodies.len(), 3, "the first contact, the withdrawal that failed, and the same again");
        assert_eq!((&bodies[2]["optOut"], &bodies[2]["email"]), (&json!(true), &bodies[0]["email"]));
        assert_eq!(bodies[1], bodies[2]);
    }

    fn a_row_wiped_while_its_first_contact_is_on_its_way_withdraws_all_the_same(engine: Engine) {
        let endpoint = StandIn::start(|request| match request.n {
            1 => Reaction::AcceptThenHang,
            _ => Reaction::accept(),
        });
        let scene = Scene::with_state_on(engine, &endpoint.url(), 1);
        scene.killed_daemon("the first contact on its way", || !endpoint.requests().is_empty());
        scene.crm("update leads set email = null, opt_out = 1");
        scene.run(&["once"]);
        scene.run(&["once"]).expect_code(3);
        let bodies = endpoint.bodies_of("1");
        assert_eq!((bodies.len(), &bodies[1]["optOut"]), (2, &json!(true)), "the address is only in what was sent");
    }

    fn a_withdrawal_cut_off_by_a_kill_is_the_first_to_go_afterwards(engine: Engine) {
        let first = std::sync::Once::new();
        let endpoint = StandIn::start(move |request| {
            let mut reaction = Reaction::accept();
            if request.body.contains("\"optOut\":true") {
                first.call_once(|| reaction = Reaction::AcceptThenHang);
            }
            reaction
        });
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
        scene.set_text("delivery", "on_ambiguous", "hold").set("delivery", "concurrency", "1");
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set opt_out = 1 where id = 5");
        scene.killed_daemon("the withdrawal on its way", || endpoint.requests().len() == 6);
        scene.crm("update leads set first_name = 'Zoe' where id < 5");
        scene.add(10, 60);
        scene.run(&["once"]).expect_code(0);
        let after = &endpoint.requests()[6].request;
        assert_eq!((after.id.as_deref(), endpoint.bodies_of("5").len()), (Some("5"), 3));
    }

    fn before_the_first_contact_there_is_nothing_to_withdraw(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
        scene.set("safety", "first_run", "");
        scene.run(&["once"]).expect_code(4);
        scene.crm("update leads set opt_out = 1 where id = 2");
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["leads"]["held"], endpoint.connections()), (&json!(3), 0));
    }
}
