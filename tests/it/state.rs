//! Our own tables, with the same cases on both engines: the writes of the poll, the claims and records of the deliverer,
//! and the state after a crash.

use std::collections::BTreeSet;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{
    LEASE, at, claim, claim_one, deliver, desired, finished, held, id, invalid, next_due, record, resend, row,
    statuses, urgent, write,
};
use conversica_sync::conversica::lead::{ContentFingerprint, LeadId};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{compare, due, facts, lead, lead_record, outcome};

on_both_engines!(
    claims_are_disjoint_and_never_more_than_wanted,
    what_is_due_first_is_claimed_first_and_what_is_not_due_is_left,
    an_outcome_for_another_claim_changes_nothing_of_the_lead,
    after_an_ambiguous_outcome_the_old_content_is_sent_again,
    a_lead_that_waits_for_a_retry_keeps_its_time_when_its_row_changes,
    withdrawn_consent_goes_ahead_of_all_others_even_when_it_comes_in_flight,
    a_crash_is_journalled_as_ambiguous_and_its_leads_are_due_at_once,
    only_claims_whose_lease_is_over_are_taken_from_another_instance,
    the_journal_has_every_attempt_in_order,
    pages_are_in_byte_order_and_lose_nobody,
    a_lead_with_a_blank_key_is_found_again,
    polls_and_deliveries_at_the_same_time_lose_nothing,
);

/// Otherwise each lookup would read the whole table, by a plan that was made while the table was empty.
#[tokio::test]
async fn postgres_keeps_no_plan_for_looking_up_many_leads() {
    let place = Engine::Postgres.place();
    let db = place.state().await;
    let leads = [id("1"), id("2")];
    for _ in 0..2 {
        lead::known(&db, &leads).await.unwrap();
        facts::of(&db, &leads).await.unwrap();
        lead_record::find(&db, &leads).await.unwrap();
        compare::hashes(&db, &leads).await.unwrap();
    }
    let StateDb::Postgres(pool) = &db else { panic!("a PostgreSQL state") };
    let mut connections = Vec::new();
    for _ in 0..pool.size() {
        connections.push(pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        let kept: Vec<String> = sqlx::query_scalar("select statement from pg_prepared_statements")
            .persistent(false)
            .fetch_all(&mut **connection)
            .await
            .unwrap();
        let kept: Vec<&String> = kept.iter().filter(|statement| statement.contains("with asked")).collect();
        assert!(kept.is_empty(), "{kept:#?}");
    }
}

async fn claims_are_disjoint_and_never_more_than_wanted(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let changes: Vec<LeadChange> = ids.iter().map(|id| desired(id, "a")).collect();
    write(&db, &changes, 0).await;
    assert_eq!(due::backlog(&db).await.unwrap(), (50, 0));

    // At the same moment, over several connections.
    let claims = futures_util::future::join_all((0..8).map(|_| claim(&db, 7, 1))).await;
    let mut seen = BTreeSet::new();
    for claims in &claims {
        assert!(claims.len() <= 7, "{}", claims.len());
        for claim in claims {
            assert!(seen.insert(claim.lead.id.clone()), "{} is claimed twice", claim.lead.id);
            assert_eq!((claim.body.as_str(), claim.attempt, claim.first_failed_at), ("a", 1, None));
        }
    }
    let rest = claim(&db, 100, 1).await;
    assert_eq!(seen.len() + rest.len(), 50, "all are claimed in the end, none twice");
    assert!(claim(&db, 100, 1).await.is_empty());
    assert!(claim(&db, 0, 1).await.is_empty());
    assert_eq!(due::backlog(&db).await.unwrap(), (0, 50));
    statuses(&db, &[(LeadStatus::InFlight, 50)]).await;
}

async fn what_is_due_first_is_claimed_first_and_what_is_not_due_is_left(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for (seconds, id) in [(30, "c"), (10, "b"), (20, "a"), (50, "d")] {
        write(&db, &[desired(id, "x")], seconds).await;
    }
    assert_eq!(next_due(&db).await, Some(at(10)));
    assert_eq!(claim_one(&db, 10).await.lead, id("b"));
    let mut later: Vec<LeadId> = claim(&db, 10, 30).await.into_iter().map(|claim| claim.lead).collect();
    later.sort();
    assert_eq!(later, [id("a"), id("c")]);
    assert_eq!(next_due(&db).await, Some(at(50)));
    assert_eq!(claim_one(&db, 50).await.lead, id("d"));
    assert_eq!(next_due(&db).await, None);
}

async fn an_outcome_for_another_claim_changes_nothing_of_the_lead(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let late = claim_one(&db, 1).await;
    orphan::recover(&db, OrphanScope::All, &resend(), at(2)).await.unwrap();
    let current = claim_one(&db, 3).await;
    let before = row(&db, "1").await;

    record(&db, &[finished(&late, OutcomeClass::Accepted, NextStep::Done, 4)]).await;
    assert_eq!(row(&db, "1").await, before, "the claim at 1 is over; the one at 3 is not");

    record(&db, &[finished(&current, OutcomeClass::Accepted, NextStep::Done, 5)]).await;
    let after = row(&db, "1").await;
    assert_eq!((after.status.as_str(), after.delivered.as_deref()), ("in_sync", Some("a")));
    record(&db, &[finished(&current, OutcomeClass::Rejected, NextStep::Rejected, 6)]).await;
    assert_eq!(row(&db, "1").await, after, "an outcome counts once");
}

async fn after_an_ambiguous_outcome_the_old_content_is_sent_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", "old"), 0).await;
    write(&db, &[desired("1", "new")], 10).await;
    let claim = claim_one(&db, 20).await;
    record(&db, &[finished(&claim, OutcomeClass::Ambiguous, NextStep::RetryAt(at(40)), 30)]).await;
    write(&db, &[desired("1", "old")], 35).await;
    let waiting = row(&db, "1").await;
    assert_eq!((waiting.status.as_str(), waiting.delivered_hash), ("retrying", None));
    let claim = claim_one(&db, 40).await;
    assert_eq!((claim.body.as_str(), claim.attempt, claim.first_failed_at), ("old", 2, Some(at(30))));
    record(&db, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, 41)]).await;
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.delivered.as_deref(), row.attempts), ("in_sync", Some("old"), 0));
}

async fn a_lead_that_waits_for_a_retry_keeps_its_time_when_its_row_changes(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let claimed = claim_one(&db, 1).await;
    record(&db, &[finished(&claimed, OutcomeClass::Transient, NextStep::RetryAt(at(60)), 2)]).await;
    write(&db, &[desired("1", "b")], 10).await;
    let waiting = row(&db, "1").await;
    assert_eq!((waiting.status.as_str(), waiting.due_at, waiting.attempts), ("retrying", Some(60), 1));
    assert_eq!(waiting.first_failed_at, Some(2));
    assert!(claim(&db, 10, 59).await.is_empty());
    let claimed = claim_one(&db, 60).await;
    assert_eq!((claimed.body.as_str(), claimed.attempt), ("b", 2));
}

async fn withdrawn_consent_goes_ahead_of_all_others_even_when_it_comes_in_flight(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("known", "a")], 0).await;
    let in_flight = claim_one(&db, 1).await;
    let many: Vec<LeadChange> = (0..20).map(|n| desired(&format!("a{n}"), "x")).collect();
    write(&db, &many, 2).await;
    write(&db, &[held("held", "x")], 2).await;
    write(&db, &[urgent("known", "stop"), urgent("held", "stop"), urgent("z", "stop")], 3).await;
    record(&db, &[finished(&in_flight, OutcomeClass::Accepted, NextStep::Done, 4)]).await;
    let first: BTreeSet<String> = claim(&db, 3, 5).await.into_iter().map(|claim| claim.lead.id).collect();
    assert_eq!(first, ["held", "known", "z"].map(str::to_owned).into());
}

async fn a_crash_is_journalled_as_ambiguous_and_its_leads_are_due_at_once(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids = ["same", "changed", "invalid", "gone", "held"];
    write(&db, &ids.map(|id| desired(id, "a")), 0).await;
    assert_eq!(claim(&db, 10, 1).await.len(), 5);
    write(&db, &[desired("changed", "b"), invalid("invalid", "no address"), held("held", "b")], 2).await;
    lead::mark_gone(&db, &[id("gone")], at(2)).await.unwrap();
    write(&db, &[desired("idle", "a")], 2).await;

    assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(3)).await.unwrap(), 5);
    for (id, status) in
        [("same", "pending"), ("changed", "pending"), ("invalid", "invalid"), ("gone", "gone"), ("held", "held")]
    {
        let row = row(&db, id).await;
        assert_eq!(row.status, status, "{id}");
        assert_eq!((row.delivered_hash, row.contacted, row.attempts), (None, true, 1), "{id}");
        assert_eq!((row.first_failed_at, row.claimed_at, row.sent_hash), (Some(3), None, None), "{id}");
        assert_eq!(row.last_outcome.as_deref(), Some("ambiguous"), "{id}");
        let journal = outcome::of_lead(&db, id, "").await.unwrap();
        assert_eq!(journal.len(), 1, "{id}");
        assert_eq!((journal[0].class.as_str(), journal[0].http_status, journal[0].at), ("ambiguous", None, at(3)));
    }
    assert_eq!(row(&db, "same").await.due_at, Some(3));
    assert_eq!(row(&db, "idle").await.last_outcome, None);
    assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(4)).await.unwrap(), 0, "once is enough");
}

async fn only_claims_whose_lease_is_over_are_taken_from_another_instance(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    assert_eq!(claim_one(&db, 0).await.lead, id("1"));
    write(&db, &[desired("2", "a")], 30).await;
    assert_eq!(claim_one(&db, 30).await.lead, id("2"));
    assert_eq!(orphan::recover(&db, OrphanScope::Expired, &resend(), at(59)).await.unwrap(), 0);
    assert_eq!(orphan::recover(&db, OrphanScope::Expired, &resend(), at(60)).await.unwrap(), 1);
    assert_eq!((row(&db, "1").await.status.as_str(), row(&db, "2").await.status.as_str()), ("pending", "in_flight"));
    // The other instance may still run; only where this process is the sole sender has it certainly ended.
    let told = outcome::of_lead(&db, "1", "").await.unwrap().remove(0).detail.unwrap();
    assert!(told.starts_with("the lease of this request ended without an answer"), "{told}");
    assert_eq!(orphan::recover(&db, OrphanScope::All, &resend(), at(61)).await.unwrap(), 1);
    let told = outcome::of_lead(&db, "2", "").await.unwrap().remove(0).detail.unwrap();
    assert_eq!(told, "the program ended while this request was on its way");
}

async fn the_journal_has_every_attempt_in_order(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a"), desired("2", "a")], 0).await;
    let retry = NextStep::RetryAt(at(0));
    let series =
        [(OutcomeClass::Transient, retry), (OutcomeClass::Ambiguous, retry), (OutcomeClass::Accepted, NextStep::Done)];
    for (seconds, (class, next)) in (1..).zip(series) {
        let claims = claim(&db, 2, seconds).await;
        let outcomes: Vec<_> = claims.iter().map(|claim| finished(claim, class, next, seconds)).collect();
        record(&db, &outcomes).await;
    }
    let journal = outcome::of_lead(&db, "1", "").await.unwrap();
    let told: Vec<_> = journal.iter().map(|line| (line.class.as_str(), line.http_status, line.at)).collect();
    let expected = [("transient", Some(499), at(1)), ("ambiguous", None, at(2)), ("accepted", Some(499), at(3))];
    assert_eq!(told, expected);
    assert_eq!((journal[0].detail.as_deref(), journal[0].duration_ms), (Some("said transient"), Some(12)));
    let counts = outcome::counts(&db).await.unwrap();
    assert_eq!(OutcomeClass::ALL.map(|class| counts[&class]), [2, 0, 2, 2, 0]);
    let attempts: Vec<i64> = on_state!(&db, pool => {
        sqlx::query_scalar("select attempt from outcome where id = '2' order by seq").fetch_all(pool).await.unwrap()
    });
    assert_eq!(attempts, [1, 2, 3]);
    assert!(outcome::of_lead(&db, "1", "another client").await.unwrap().is_empty());
}

async fn pages_are_in_byte_order_and_lose_nobody(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids = ["10", "9", "Z", "a", "B", "_", "-", "é", "e", "\u{fffd}", "\u{1f600}", "Ä", "ß", "o'neill", "a b", "ab"];
    let clients = ["", "x", "é", "\u{1f600}"];
    let mut leads: Vec<LeadId> = ids
        .iter()
        .flat_map(|id| clients.map(|client| LeadId { id: (*id).to_owned(), client_id: client.to_owned() }))
        .collect();
    let changes: Vec<LeadChange> =
        leads.iter().map(|lead| LeadChange { lead: lead.clone(), ..desired("", "a") }).collect();
    write(&db, &changes, 0).await;
    let mut paged = Vec::new();
    loop {
        let page = lead::page(&db, paged.last(), 5).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 5);
        paged.extend(page.into_iter().map(|known| known.lead));
    }
    leads.sort();
    assert_eq!(paged, leads);
}

async fn a_lead_with_a_blank_key_is_found_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[invalid("", "id: is required"), desired("1", "a")], 0).await;
    let page = lead::page(&db, None, 10).await.unwrap();
    assert_eq!(page.iter().map(|known| known.lead.id.as_str()).collect::<Vec<_>>(), ["", "1"]);
    let rest = lead::page(&db, Some(&id("")), 10).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].status, rest[0].contacted, rest[0].delivered_hash), (LeadStatus::Pending, false, None));
    assert_eq!(rest[0].desired_hash, ContentFingerprint::of(b"a"));
}

async fn polls_and_deliveries_at_the_same_time_lose_nothing(engine: Engine) {
    const LEADS: usize = 300;
    const ROUNDS: usize = 30;
    let place = engine.place();
    let db = place.state().await;
    let changes = |round: usize| -> Vec<LeadChange> {
        (0..LEADS).map(|n| desired(&format!("{n:03}"), &format!("{n} in round {round}"))).collect()
    };
    write(&db, &changes(0), 0).await;
    let poll = async {
        for round in 1..=ROUNDS {
            write(&db, &changes(round), 0).await;
        }
    };
    let deliver = async {
        let mut ended = Vec::new();
        for seconds in 1_i64.. {
            // Outcomes arrive in any order.
            ended.reverse();
            let claims =
                delivery::record_and_claim(&db, &ended, ClaimRequest::up_to(64), at(seconds), LEASE).await.unwrap();
            if claims.is_empty() && ended.is_empty() && seconds > 100 {
                return;
            }
            ended =
                claims.iter().map(|claim| finished(claim, OutcomeClass::Accepted, NextStep::Done, seconds)).collect();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(poll, deliver);
    for claim in claim(&db, LEADS, 100_000).await {
        record(&db, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, 100_000)]).await;
    }
    statuses(&db, &[(LeadStatus::InSync, LEADS as i64)]).await;
    let leads: Vec<LeadId> = changes(0).into_iter().map(|change| change.lead).collect();
    let delivered = lead::delivered(&db, &leads).await.unwrap();
    for change in changes(ROUNDS) {
        assert_eq!(delivered.get(&change.lead), change.desired.as_ref().ok());
    }
}
