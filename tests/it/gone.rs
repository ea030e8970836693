//! Rows that are deleted, or leave the filter: with `on_delete = "stop_messaging"` Conversica gets one stop, with the
//! content that it holds; otherwise nothing is sent.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::{
    at, claim, claim_one, deliver, desired, finished, held, id, invalid, record, resend, row, urgent, write,
};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::config::OnDelete;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::gone;
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;

const A: &str = r#"{"id":"1","firstName":"Ann"}"#;
const B: &str = r#"{"id":"1","firstName":"Bea"}"#;
const A_STOPPED: &str = r#"{"id":"1","firstName":"Ann","stopMessaging":true}"#;
const B_STOPPED: &str = r#"{"id":"1","firstName":"Bea","stopMessaging":true}"#;

on_both_engines!(
    whoever_was_contacted_is_stopped_wherever_the_lead_stood,
    whoever_was_never_contacted_is_just_gone,
    what_is_in_flight_ends_first_and_is_then_stopped_with_its_own_content,
    a_first_contact_that_never_arrived_leaves_nothing_to_stop,
    a_withdrawal_that_was_still_to_be_sent_goes_out_with_the_stop,
    a_stop_goes_before_all_others_and_outlives_failures_and_crashes,
    a_withdrawal_that_waits_behind_a_request_is_sent_though_its_row_has_gone,
    the_word_owed_to_leads_that_were_let_go_is_settled_by_whoever_comes_next,
);

async fn stop(db: &StateDb, seconds: i64) -> gone::StopOutcome {
    gone::stop(db, &[id("1")], at(seconds)).await.unwrap()
}

/// Claims the stop with that body and records its acceptance; then nothing more is due.
async fn expect_stop(db: &StateDb, body: &str, what: &str) {
    let word = claim_one(db, 9000).await;
    assert_eq!((word.body.as_str(), word.urgent), (body, true), "{what}");
    record(db, &[finished(&word, OutcomeClass::Accepted, NextStep::Done, 9001)]).await;
    assert_eq!(row(db, "1").await.status, "gone", "{what}");
    assert_eq!(stop(db, 9002).await, gone::StopOutcome { stopped: 0, gone: 1 }, "{what}: told once");
    assert!(claim(db, 9, 9003).await.is_empty(), "{what}");
}

async fn whoever_was_contacted_is_stopped_wherever_the_lead_stood(engine: Engine) {
    let ends = [
        ("rejected", OutcomeClass::Rejected, NextStep::Rejected, A_STOPPED),
        ("exhausted", OutcomeClass::Transient, NextStep::Exhausted, A_STOPPED),
        ("retrying", OutcomeClass::Transient, NextStep::RetryAt(at(8000)), A_STOPPED),
        // Conversica may have the newer content: an older one must not follow it.
        ("retrying", OutcomeClass::Ambiguous, NextStep::RetryAt(at(8000)), B_STOPPED),
        ("held", OutcomeClass::Ambiguous, NextStep::Hold, B_STOPPED),
        ("in_sync", OutcomeClass::Accepted, NextStep::Done, B_STOPPED),
    ];
    for (status, class, next, expected) in ends {
        let place = engine.place();
        let db = place.state().await;
        deliver(&db, desired("1", A), 0).await;
        write(&db, &[desired("1", B)], 1).await;
        let sent = claim_one(&db, 2).await;
        record(&db, &[finished(&sent, class, next, 3)]).await;
        assert_eq!(row(&db, "1").await.status, status);
        assert_eq!(stop(&db, 4).await, gone::StopOutcome { stopped: 1, gone: 0 });
        expect_stop(&db, expected, &format!("{status} after {class:?}")).await;
    }
    for (status, change) in
        [("pending", desired("1", B)), ("held", held("1", B)), ("invalid", invalid("1", "no address"))]
    {
        let place = engine.place();
        let db = place.state().await;
        deliver(&db, desired("1", A), 0).await;
        write(&db, &[change], 1).await;
        assert_eq!(row(&db, "1").await.status, status);
        stop(&db, 4).await;
        expect_stop(&db, A_STOPPED, status).await;
    }
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", A)], 0).await;
    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Baseline, at(1)).await.unwrap();
    stop(&db, 4).await;
    expect_stop(&db, A_STOPPED, "baseline means that Conversica has it").await;
}

async fn whoever_was_never_contacted_is_just_gone(engine: Engine) {
    for change in [desired("1", A), held("1", A), invalid("1", "no address")] {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[change], 0).await;
        assert_eq!(stop(&db, 1).await, gone::StopOutcome { stopped: 0, gone: 1 });
        assert_eq!(row(&db, "1").await.status, "gone");
        assert!(claim(&db, 9, 2).await.is_empty());
    }
}

async fn what_is_in_flight_ends_first_and_is_then_stopped_with_its_own_content(engine: Engine) {
    let ends = [
        (OutcomeClass::Accepted, NextStep::Done),
        (OutcomeClass::Ambiguous, NextStep::Hold),
        (OutcomeClass::Ambiguous, NextStep::RetryAt(at(8000))),
        (OutcomeClass::Transient, NextStep::RetryAt(at(8000))),
        (OutcomeClass::Transient, NextStep::Exhausted),
        (OutcomeClass::Halting, NextStep::Untried),
        (OutcomeClass::Rejected, NextStep::Rejected),
    ];
    for (class, next) in ends {
        let place = engine.place();
        let db = place.state().await;
        deliver(&db, desired("1", A), 0).await;
        write(&db, &[desired("1", B)], 1).await;
        let sent = claim_one(&db, 2).await;
        assert_eq!(stop(&db, 3).await, gone::StopOutcome { stopped: 1, gone: 0 });
        assert!(claim(&db, 9, 4).await.is_empty(), "one request a lead at any time");
        record(&db, &[finished(&sent, class, next, 5)]).await;
        expect_stop(&db, B_STOPPED, &format!("{class:?} {next:?}")).await;
    }
}

async fn a_first_contact_that_never_arrived_leaves_nothing_to_stop(engine: Engine) {
    for (class, next, told) in [
        (OutcomeClass::Transient, NextStep::RetryAt(at(8)), false),
        (OutcomeClass::Rejected, NextStep::Rejected, false),
        (OutcomeClass::Halting, NextStep::Untried, false),
        (OutcomeClass::Ambiguous, NextStep::Hold, true),
        (OutcomeClass::Accepted, NextStep::Done, true),
    ] {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", A)], 0).await;
        let sent = claim_one(&db, 1).await;
        stop(&db, 2).await;
        record(&db, &[finished(&sent, class, next, 3)]).await;
        if told {
            expect_stop(&db, A_STOPPED, &format!("{class:?}")).await;
        } else {
            assert_eq!(row(&db, "1").await.status, "gone", "{class:?}");
            assert!(claim(&db, 9, 9000).await.is_empty(), "{class:?}");
        }
    }
}

async fn a_withdrawal_that_was_still_to_be_sent_goes_out_with_the_stop(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", A), 0).await;
    write(&db, &[urgent("1", r#"{"id":"1","firstName":"Ann","optOut":true}"#)], 1).await;
    stop(&db, 2).await;
    expect_stop(&db, r#"{"id":"1","firstName":"Ann","optOut":true,"stopMessaging":true}"#, "both").await;
}

async fn a_stop_goes_before_all_others_and_outlives_failures_and_crashes(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", A), 0).await;
    write(&db, &[desired("0", "x"), desired("2", "x")], 1).await;
    stop(&db, 2).await;
    for end in 0..3 {
        let first = claim(&db, 1, 10 + end).await.remove(0);
        assert_eq!((first.lead.id.as_str(), first.body.as_str()), ("1", A_STOPPED), "after {end} tries");
        match end {
            0 => record(&db, &[finished(&first, OutcomeClass::Transient, NextStep::RetryAt(at(11)), 10)]).await,
            1 => assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(12)).await.unwrap(), 1),
            _ => record(&db, &[finished(&first, OutcomeClass::Accepted, NextStep::Done, 12)]).await,
        }
    }
    assert_eq!(row(&db, "1").await.status, "gone");
}

async fn a_withdrawal_that_waits_behind_a_request_is_sent_though_its_row_has_gone(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", A), 0).await;
    write(&db, &[desired("1", B)], 1).await;
    let sent = claim_one(&db, 2).await;
    let out = r#"{"id":"1","optOut":true}"#;
    write(&db, &[urgent("1", out)], 3).await;
    conversica_sync::store::lead::mark_gone(&db, &[id("1")], at(4)).await.unwrap();
    record(&db, &[finished(&sent, OutcomeClass::Accepted, NextStep::Done, 5)]).await;
    assert_eq!(claim_one(&db, 6).await.body, out, "the answer was for the content before");
}

async fn the_word_owed_to_leads_that_were_let_go_is_settled_by_whoever_comes_next(engine: Engine) {
    for (on_delete, told) in [(OnDelete::StopMessaging, 1), (OnDelete::Ignore, 0)] {
        let place = engine.place();
        let db = place.state().await;
        deliver(&db, desired("1", A), 0).await;
        write(&db, &[desired("2", A)], 1).await;
        assert_eq!(gone::withhold(&db, &[id("1"), id("2")], at(2), at(2)).await.unwrap(), 2);
        held::release_all(&db, &HeldSelection::default(), ReleaseKind::Send, at(3)).await.unwrap();
        assert!(claim(&db, 9, 4).await.is_empty(), "nothing of what the rows said is sent");
        // A kill after the release left this step undone.
        assert_eq!(gone::settle(&db, on_delete, at(5)).await.unwrap(), told);
        assert_eq!(gone::settle(&db, OnDelete::StopMessaging, at(6)).await.unwrap(), 0, "settled once");
        if told == 1 {
            expect_stop(&db, A_STOPPED, "owed").await;
        }
        assert_eq!(row(&db, "2").await.status, "gone");
    }
}

mod program {
    use super::*;

    blocking_on_both_engines!(
        deleted_rows_and_rows_that_leave_the_filter_are_stopped_once_with_what_conversica_holds,
        by_default_nothing_is_sent_for_a_row_that_is_gone,
        a_row_that_returns_is_a_lead_like_others,
        a_stop_is_tried_again_after_failures_and_kills_until_it_has_arrived,
        a_refused_stop_is_shown_and_not_sent_at_each_compare,
        a_poll_that_fails_half_way_takes_nobody_for_gone,
        a_poll_that_is_cut_off_takes_nobody_for_gone,
    );

    fn stopping(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
        let mut scene = Scene::on(engine, &endpoint.url(), leads);
        scene.set_text("source", "on_delete", "stop_messaging");
        scene.set_text("source", "where", "conversation <> 'Spam'");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.answered(), leads as usize);
        scene
    }

    /// The last body equals the one before it, plus the stop.
    #[track_caller]
    fn assert_stopped(bodies: &[Value]) {
        let [.., before, stop] = bodies else { panic!("{bodies:?}") };
        let mut expected = before.clone();
        expected["stopMessaging"] = json!(true);
        assert_eq!(stop, &expected);
    }

    fn deleted_rows_and_rows_that_leave_the_filter_are_stopped_once_with_what_conversica_holds(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = stopping(engine, &endpoint, 10);
        scene.set("delivery", "concurrency", "1");
        scene.crm("update leads set first_name = 'Zoe' where id = 4");
        scene.run(&["once"]).expect_code(0);
        scene.crm(
            "delete from leads where id = 3; update leads set conversation = 'Spam', first_name = 'X' where id = 4",
        );
        scene.add(11, 12);
        let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
        assert_eq!(
            (&plan["stop"], &plan["create"], &plan["gone"], &plan["hold"]),
            (&json!(2), &json!(2), &json!(2), &Value::Null)
        );
        let ids: Vec<&str> =
            plan["leads"].as_array().unwrap().iter().map(|lead| lead["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["3", "4", "11", "12"], "in order: {plan:#}");
        assert_eq!(plan["leads"][0]["action"], "stop");
        assert_eq!(plan["leads"][0]["changes"], json!({"stopMessaging": [null, true]}));
        for _ in 0..3 {
            scene.run(&["once"]).expect_code(0);
        }
        assert_eq!((endpoint.bodies_of("3").len(), endpoint.bodies_of("4").len()), (2, 3), "once each");
        assert_stopped(&endpoint.bodies_of("3"));
        assert_stopped(&endpoint.bodies_of("4"));
        assert_eq!(endpoint.bodies_of("4")[2]["firstName"], "Zoe", "what Conversica holds, not what the row became");
        let status = scene.status();
        assert_eq!((&status["leads"]["gone"], &status["leads"]["in_sync"]), (&json!(2), &json!(10)));
        let first: Vec<_> =
            endpoint.requests()[11..13].iter().map(|received| received.request.id.clone().unwrap()).collect();
        assert!(first.contains(&"3".to_owned()) && first.contains(&"4".to_owned()), "before all others: {first:?}");
    }

    fn by_default_nothing_is_sent_for_a_row_that_is_gone(engine: Engine) {
        let endpoint = StandIn::accepting();
        let scene = Scene::on(engine, &endpoint.url(), 5);
        scene.run(&["once"]).expect_code(0);
        scene.crm("delete from leads where id = 3");
        assert_eq!(scene.run(&["plan", "--json"]).expect_code(0).json()["stop"], 0);
        scene.run(&["once"]).expect_code(0);
        assert_eq!((endpoint.answered(), &scene.status()["leads"]["gone"]), (5, &json!(1)));
    }

    fn a_row_that_returns_is_a_lead_like_others(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = stopping(engine, &endpoint, 4);
        let mut sent = endpoint.bodies_of("2").len();
        for _ in 0..2 {
            scene.crm("create table away as select * from leads where id = 2; delete from leads where id = 2");
            scene.run(&["once"]).expect_code(0);
            assert_stopped(&endpoint.bodies_of("2"));
            scene.crm("insert into leads select * from away; drop table away");
            scene.run(&["once"]).expect_code(0);
            sent += 2;
            let bodies = endpoint.bodies_of("2");
            assert_eq!(
                (bodies.len(), &bodies[sent - 1]),
                (sent, &bodies[0]),
                "the CRM's content again, without the stop"
            );
        }
        assert_eq!(scene.status()["leads"]["in_sync"], 4);
        // A lead that returns before its stop is sent, or that was never sent, counts as any other row.
        scene.set("safety", "approve_above", "1");
        scene.crm("create table away as select * from leads where id < 3; delete from leads where id < 3");
        scene.run(&["once"]).expect_code(0);
        scene.crm("insert into leads select * from away; drop table away");
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("too_many_changes"), &json!(2)));
    }

    fn a_stop_is_tried_again_after_failures_and_kills_until_it_has_arrived(engine: Engine) {
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let endpoint = StandIn::start(move |request| {
            if !request.body.contains("\"stopMessaging\":true") {
                return Reaction::accept();
            }
            match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => Reaction::AcceptThenHang,
                1 | 2 => Reaction::status(503),
                _ => Reaction::accept(),
            }
        });
        let scene = stopping(engine, &endpoint, 3);
        scene.crm("delete from leads where id = 2");
        scene.killed_daemon("the stop on its way", || endpoint.requests().len() == 4);
        scene.run(&["once"]).expect_code(0);
        scene.run(&["once"]).expect_code(0);
        let bodies = endpoint.bodies_of("2");
        assert_eq!(bodies.len(), 5, "unanswered, failed twice, arrived");
        assert!(bodies[1..].iter().all(|body| body == &bodies[1]));
        assert_stopped(&bodies[..2]);
        assert_eq!(scene.status()["leads"]["gone"], 1);
    }

    fn a_refused_stop_is_shown_and_not_sent_at_each_compare(engine: Engine) {
        let endpoint = StandIn::start(|request| {
            Reaction::status(if request.body.contains("\"stopMessaging\":true") { 400 } else { 200 })
        });
        let scene = stopping(engine, &endpoint, 3);
        scene.crm("delete from leads where id = 2");
        for _ in 0..3 {
            scene.run(&["once"]).expect_code(3);
        }
        assert_eq!((endpoint.bodies_of("2").len(), &scene.status()["leads"]["rejected"]), (2, &json!(1)));
        scene.run(&["retry", "2"]).expect_code(0);
        scene.run(&["once"]).expect_code(3);
        assert_eq!(endpoint.bodies_of("2").len(), 3);
    }

    fn a_poll_that_fails_half_way_takes_nobody_for_gone(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::without_source(&endpoint.url());
        if engine == Engine::Postgres {
            scene = Scene::on(engine, &endpoint.url(), 0);
            scene.crm("drop table leads");
        }
        scene.crm(
            "create table leads (id text, first_name text, last_name text, email text, owner_name text, opt_out integer); \
             insert into leads with recursive n (i) as (select 10000 union all select i + 1 from n where i < 13999) \
             select cast(i as text), 'Ann', 'Bell', 'ann@example.com', 'Rae Rep', 0 from n",
        );
        scene.set_text("source", "on_delete", "stop_messaging").set_text("safety", "first_run", "baseline");
        scene.run(&["once"]).expect_code(0);
        // A key that is too long for the state, at the end: by then the poll has read the rows before it.
        let unusable = "z".repeat(2000);
        scene.crm("delete from leads where id < '10500'");
        scene.crm(&format!("update leads set id = '{unusable}' where id = '13999'"));
        let failed = scene.run(&["once"]);
        assert_ne!(failed.code, Some(0), "{failed}");
        let status = scene.status();
        assert_eq!((&status["leads"]["gone"], &status["leads"]["assumed"]), (&json!(0), &json!(4000)), "{status:#}");
        scene.crm("update leads set id = '13999' where id > 'z'");
        scene.run(&["once"]).expect_code(0);
        assert_eq!((endpoint.answered(), &scene.status()["leads"]["gone"]), (500, &json!(500)));
        assert!(endpoint.requests().iter().all(|received| received.request.json()["stopMessaging"] == true));
    }

    fn a_poll_that_is_cut_off_takes_nobody_for_gone(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = stopping(engine, &endpoint, 5);
        scene.crm("delete from leads where id = 2");
        let endless = engine.pick(
            "(with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n) > 0",
            "pg_sleep(60) is not null",
        );
        scene.set_text("source", "where", endless).set_text("source", "statement_timeout", "1s");
        let failed = scene.run(&["once"]);
        assert_ne!(failed.code, Some(0), "{failed}");
        assert_eq!((&scene.status()["leads"]["gone"], endpoint.answered()), (&json!(0), 5));
        scene.set_text("source", "where", "conversation <> 'Spam'").set("source", "statement_timeout", "");
        scene.run(&["once"]).expect_code(0);
        assert_eq!((&scene.status()["leads"]["gone"], endpoint.bodies_of("2").len()), (&json!(1), 2));
    }
}
