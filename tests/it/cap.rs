//! Caps on people contacted for the first time: never more than the cap within a window, whatever restarts in between;
//! the caps slow no other lead.

use std::time::Duration;

use chrono::{Datelike, Utc};
use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::{LEASE, at, deliver, desired, finished, id, resend, urgent, write};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::{CapSpan, ClaimFilter, NewPeopleCap};
use conversica_sync::rules::billing_month::BillingMonth;
use conversica_sync::rules::lead_claim::{FinishedAttempt, LeadClaim};
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::due;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;

const HOUR: i64 = 3600;

fn cap(people: u32, seconds: i64) -> NewPeopleCap {
    NewPeopleCap { people, span: CapSpan::Sliding(Duration::from_secs(seconds.unsigned_abs())) }
}

async fn claim(db: &StateDb, caps: &[NewPeopleCap], ended: &[FinishedAttempt], seconds: i64) -> Vec<LeadClaim> {
    let admit = ClaimFilter::Capped(caps.to_vec());
    delivery::record_and_claim(
        db,
        ended,
        ClaimRequest { leads: 100, admit: &admit, ..ClaimRequest::NOTHING },
        at(seconds),
        LEASE,
    )
    .await
    .unwrap()
}

fn ids(claims: &[LeadClaim]) -> Vec<&str> {
    let mut ids: Vec<&str> = claims.iter().map(|claim| claim.lead.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

fn all(claims: &[LeadClaim], class: OutcomeClass, next: NextStep, seconds: i64) -> Vec<FinishedAttempt> {
    claims.iter().map(|claim| finished(claim, class, next, seconds)).collect()
}

async fn no_window_has_more_first_contacts_than_the_cap_and_who_waits_longest_goes_first(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for n in 0..12 {
        write(&db, &[desired(&format!("{:02}", 11 - n), "a")], n).await;
    }
    let caps = [cap(3, HOUR)];
    let mut introduced: Vec<(i64, String)> = Vec::new();
    let mut seconds = 0;
    // Uneven steps, and each claim asks for as many leads as the cap allows.
    while introduced.len() < 12 {
        seconds += 1 + (seconds * 7) % 1100;
        assert!(seconds < 30 * HOUR, "all go in the end: {introduced:?}");
        let claims = claim(&db, &caps, &[], seconds).await;
        introduced.extend(claims.iter().map(|claim| (seconds, claim.lead.id.clone())));
        claim_nothing_more(&db, &caps, &all(&claims, OutcomeClass::Accepted, NextStep::Done, seconds), seconds).await;
    }
    for (end, _) in &introduced {
        let within = introduced.iter().filter(|(at, _)| (end - HOUR..=*end).contains(at) && *at > end - HOUR).count();
        assert!(within <= 3, "{within} within the hour before {end}: {introduced:?}");
    }
    // The leads of one claim come in any order; the claims follow the order in which leads began to wait.
    introduced.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let order: Vec<String> = introduced.into_iter().map(|(_, id)| id).collect();
    assert_eq!(order, (0..12).map(|n| format!("{:02}", 11 - n)).collect::<Vec<_>>());
}

async fn claim_nothing_more(db: &StateDb, caps: &[NewPeopleCap], ended: &[FinishedAttempt], seconds: i64) {
    let used_up = claim(db, caps, ended, seconds).await;
    assert!(used_up.is_empty(), "one claim takes all that the cap leaves: {used_up:?}");
}

async fn a_refused_or_failed_first_contact_frees_its_place_and_an_unknown_one_does_not(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let leads: Vec<_> = ["1", "2", "3", "4", "5", "6"].map(|id| desired(id, "a")).into();
    write(&db, &leads, 0).await;
    let caps = [cap(2, HOUR)];
    let first = claim(&db, &caps, &[], 1).await;
    assert_eq!(ids(&first), ["1", "2"]);
    let later = NextStep::RetryAt(at(100_000));
    let ended = [
        finished(&first[0], OutcomeClass::Rejected, NextStep::Rejected, 2),
        finished(&first[1], OutcomeClass::Transient, later, 2),
    ];
    let second = claim(&db, &caps, &ended, 2).await;
    assert_eq!(ids(&second), ["3", "4"], "both places are free again");
    claim_nothing_more(&db, &caps, &all(&second, OutcomeClass::Ambiguous, later, 3), 3).await;
    let next = due::next_due_at(&db, &ClaimFilter::Capped(caps.to_vec()), at(3)).await.unwrap();
    assert_eq!((next.at, next.capped_until), (Some(at(2 + HOUR)), Some(at(2 + HOUR))));
    claim_nothing_more(&db, &caps, &[], 1 + HOUR).await;
    let third = claim(&db, &caps, &[], 2 + HOUR).await;
    assert_eq!(ids(&third), ["5", "6"]);
    // After a crash these people may have been contacted.
    assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(3 + HOUR)).await.unwrap(), 2);
    let again = claim(&db, &caps, &[], 4 + HOUR).await;
    assert_eq!(ids(&again), ["5", "6"], "nobody new: they are known by now");
}

async fn known_people_and_withdrawals_are_not_slowed_by_a_cap(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for known in ["k1", "k2", "k3"] {
        deliver(&db, desired(known, "a"), 0).await;
    }
    // Two hours later, when these first contacts count no longer.
    let later = |seconds: i64| 2 * HOUR + seconds;
    let new: Vec<_> = ["1", "2", "3"].map(|id| desired(id, "a")).into();
    write(&db, &new, later(1)).await;
    let caps = [cap(1, HOUR)];
    assert_eq!(ids(&claim(&db, &caps, &[], later(2)).await), ["1"]);
    write(&db, &[desired("k1", "b"), desired("k2", "b"), urgent("k3", "stop")], later(3)).await;
    assert_eq!(ids(&claim(&db, &caps, &[], later(3)).await), ["k1", "k2", "k3"]);
}

async fn of_two_caps_the_one_that_leaves_less_counts(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let leads: Vec<_> = (0..9).map(|n| desired(&n.to_string(), "a")).collect();
    write(&db, &leads, 0).await;
    let caps = [cap(2, HOUR), cap(5, 24 * HOUR)];
    let mut taken = Vec::new();
    for hour in 0..30 {
        let seconds = 10 + hour * HOUR;
        let claims = claim(&db, &caps, &[], seconds).await;
        taken.push(claims.len());
        claim_nothing_more(&db, &caps, &all(&claims, OutcomeClass::Accepted, NextStep::Done, seconds), seconds).await;
    }
    assert_eq!((taken[0], taken[1], taken[2], taken[3]), (2, 2, 1, 0));
    assert_eq!((taken[4..24].iter().sum::<usize>(), taken[24], taken[25]), (0, 2, 2), "a day after the first");
    let next = due::next_due_at(&db, &ClaimFilter::Capped(caps.to_vec()), at(10 + 29 * HOUR)).await.unwrap();
    assert_eq!(next.at, None);
    assert_eq!(id("x").client_id, "");
}

on_both_engines!(
    a_month_has_no_more_first_contacts_than_its_budget_and_the_next_one_begins_anew,
    no_window_has_more_first_contacts_than_the_cap_and_who_waits_longest_goes_first,
    a_refused_or_failed_first_contact_frees_its_place_and_an_unknown_one_does_not,
    known_people_and_withdrawals_are_not_slowed_by_a_cap,
    of_two_caps_the_one_that_leaves_less_counts,
);

async fn a_month_has_no_more_first_contacts_than_its_budget_and_the_next_one_begins_anew(engine: Engine) {
    const DAY: i64 = 86_400;
    let place = engine.place();
    let db = place.state().await;
    for n in 0..9 {
        write(&db, &[desired(&format!("{n}"), "a")], n).await;
    }
    // `at(0)` is 15 January 2027, 08:00 UTC: in Honolulu the 15th begins two hours later.
    let month = BillingMonth { starts_on: 15, zone: "Pacific/Honolulu".parse().unwrap() };
    let caps = [NewPeopleCap { people: 2, span: CapSpan::Month(month) }];
    let (mut ended, mut went) = (Vec::new(), Vec::new());
    for seconds in [10, 3600, 2 * 3600 - 1, 2 * 3600, 20 * DAY, 31 * DAY + 7199, 31 * DAY + 7200] {
        let claimed = claim(&db, &caps, &ended, seconds).await;
        ended = all(&claimed, OutcomeClass::Accepted, NextStep::Done, seconds);
        went.push(claimed.len());
    }
    assert_eq!(went, [2, 0, 0, 2, 0, 0, 2]);
    let next = due::next_due_at(&db, &ClaimFilter::Capped(caps.to_vec()), at(31 * DAY + 7201)).await.unwrap();
    assert_eq!(next.capped_until, Some(month.ends_at(at(31 * DAY + 7201))));
}

mod program {
    use super::*;

    blocking_on_both_engines!(
        a_cap_outlives_passes_and_kills_and_a_pass_ends_at_once_when_only_capped_people_are_left,
        a_first_contact_that_a_kill_cut_off_keeps_its_place,
        a_cap_that_is_set_later_counts_the_people_from_before,
        a_monthly_budget_is_shown_and_foretold_and_outlives_passes,
    );

    fn distinct(endpoint: &StandIn) -> Vec<String> {
        let mut ids: Vec<String> = endpoint.requests().into_iter().filter_map(|received| received.request.id).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    fn a_cap_outlives_passes_and_kills_and_a_pass_ends_at_once_when_only_capped_people_are_left(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 8);
        scene.set("safety", "new_leads_per_hour", "3").set("safety", "new_leads_per_day", "6");
        let output = scene.run(&["once"]).expect_code(0);
        assert!(output.stderr.contains("a cap on first contacts is reached"), "{output}");
        assert!(output.stdout.contains("5 leads still to be sent"), "{output}");
        let status = scene.run(&["status", "--json"]).expect_code(0).json();
        assert_eq!((&status["leads"]["pending"], &status["leads"]["in_sync"]), (&json!(5), &json!(3)));
        assert!(status["pacing"]["new_people_wait_until"].is_string(), "{status:#}");
        scene.run(&["once"]).expect_code(0);
        let polled = status["last_poll"]["at"].clone();
        scene.killed_daemon("another poll", || scene.status()["last_poll"]["at"] != polled);
        assert_eq!(distinct(&endpoint), ["1", "2", "3"]);

        scene.crm("update leads set first_name = 'Zoe' where id in (1, 2)");
        scene.crm("update leads set opt_out = 1 where id = 3");
        scene.run(&["once"]).expect_code(0);
        assert_eq!((endpoint.answered(), distinct(&endpoint).len()), (6, 3), "known people are not slowed");

        // An hour later.
        scene.state("update lead set introduced_at = introduced_at - 3600000000 where introduced_at is not null");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(distinct(&endpoint), ["1", "2", "3", "4", "5", "6"]);
        scene.state("update lead set introduced_at = introduced_at - 3600000000 where introduced_at is not null");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(distinct(&endpoint).len(), 6, "six a day");
        scene.state("update lead set introduced_at = introduced_at - 86400000000 where introduced_at is not null");
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!(
            (&status["leads"]["in_sync"], &status["pacing"]["new_people_wait_until"]),
            (&json!(8), &json!(null))
        );
    }

    fn a_first_contact_that_a_kill_cut_off_keeps_its_place(engine: Engine) {
        let endpoint =
            StandIn::start(|request| if request.n == 1 { Reaction::AcceptThenHang } else { Reaction::accept() });
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 6);
        scene.set("safety", "new_leads_per_hour", "2");
        scene.killed_daemon("a request on its way", || !endpoint.requests().is_empty());
        scene.run(&["once"]).expect_code(0);
        scene.run(&["once"]).expect_code(0);
        assert_eq!(distinct(&endpoint), ["1", "2"]);
        assert_eq!(scene.status()["outcomes"]["ambiguous"], 1);
    }
    fn a_cap_that_is_set_later_counts_the_people_from_before(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 4);
        scene.run(&["once"]).expect_code(0);
        scene.set("safety", "new_leads_per_day", "6").add(5, 9);
        scene.run(&["once"]).expect_code(0);
        assert_eq!(distinct(&endpoint).len(), 6);
    }
    fn a_monthly_budget_is_shown_and_foretold_and_outlives_passes(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::with_state_on(engine, &endpoint.url(), 8);
        scene.set("safety", "month_starts_on", "29");
        let refused = scene.run(&["plan"]).expect_code(2);
        assert!(refused.stderr.contains("`safety.month_starts_on` is 29"), "{refused}");
        // No month begins while this runs.
        let today = Utc::now().day();
        let starts_on = if today < 15 { 20 } else { 10 };
        scene.set("safety", "month_starts_on", &starts_on.to_string()).set("safety", "new_leads_per_month", "5");
        let plan = scene.run(&["plan"]).expect_code(0);
        assert!(plan.stdout.contains("At 5 new people a month the last of them is written to on"), "{plan}");
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        let budget = &status["new_leads_budget"];
        assert_eq!((&budget["people"], &budget["used"], endpoint.answered()), (&json!(5), &json!(5), 5), "{status:#}");
        assert_eq!(status["pacing"]["new_people_wait_until"], budget["until"]);
        scene.crm("update leads set first_name = 'Zoe' where id = 1; update leads set opt_out = 1 where id = 2");
        scene.run(&["once"]).expect_code(0);
        assert_eq!((endpoint.answered(), distinct(&endpoint).len()), (7, 5), "known people go on");
        let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
        assert_eq!(
            (&plan["forecast"]["last_new_person_at"], &plan["create"]),
            (&budget["until"], &json!(3)),
            "{plan:#}"
        );
        let said = scene.run(&["status"]).expect_code(0).stdout;
        assert!(said.contains("New people this month: 5 of 5 ([safety] new_leads_per_month)"), "{said}");
        // A month later.
        scene.state("update lead set introduced_at = introduced_at - 2764800000000 where introduced_at is not null");
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!((&status["new_leads_budget"]["used"], distinct(&endpoint).len()), (&json!(3), 8), "{status:#}");
        scene.set("safety", "new_leads_per_month", "0");
        assert_eq!(scene.run(&["once", "--json"]).expect_code(0).json()["new_leads_budget"], json!(null));
    }
}
