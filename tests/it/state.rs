//! Our own tables, the same cases on both engines: what the poll writes, what the deliverer claims and records, what a
//! crash leaves behind, what operators do about it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use conversica_sync::conversica::lead::{Fingerprint, LeadId};
use conversica_sync::conversica::outcome::{Class, HaltReason};
use conversica_sync::db::{self, Db};
use conversica_sync::error::SetupError;
use conversica_sync::on_db;
use conversica_sync::state::control::{self, Halt, Hold};
use conversica_sync::state::delivery::{self, Next, Orphans};
use conversica_sync::state::lead::{self, Change, Status};
use conversica_sync::state::outcome;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{
    at, claim, claim_one, deliver, desired, finished, held, id, invalid, record, row, urgent, write,
};

on_both_engines!(
    claims_are_disjoint_and_never_more_than_wanted,
    what_is_due_first_is_claimed_first_and_what_is_not_due_is_left,
    an_outcome_for_another_claim_changes_nothing_of_the_lead,
    after_an_ambiguous_outcome_the_old_content_is_sent_again,
    a_lead_that_waits_for_a_retry_keeps_its_time_when_its_row_changes,
    withdrawn_consent_goes_ahead_of_all_others_even_when_it_comes_in_flight,
    a_crash_is_journalled_as_ambiguous_and_its_leads_are_due_at_once,
    only_claims_whose_lease_is_over_are_taken_from_another_instance,
    what_is_held_waits_until_it_is_approved,
    what_is_taken_as_baseline_counts_as_delivered,
    a_hold_ends_with_the_content_that_was_held,
    approving_does_not_disturb_what_is_in_flight,
    rejected_and_exhausted_leads_are_put_back_and_no_others,
    what_has_gone_is_not_sent_and_rests_where_it_was_when_it_returns,
    the_journal_has_every_attempt_in_order,
    pages_are_in_byte_order_and_lose_nobody,
    a_lead_with_a_blank_key_is_found_again,
    facts_are_replaced_and_taken_away,
    a_state_from_a_newer_version_is_refused,
    an_existing_state_is_opened_again_with_what_it_holds,
);

async fn statuses(db: &Db, wanted: &[(Status, i64)]) {
    let counts = lead::counts(db).await.unwrap();
    assert_eq!(counts.len(), Status::ALL.len());
    for (status, count) in counts {
        let expected = wanted.iter().find(|(known, _)| *known == status).map_or(0, |(_, count)| *count);
        assert_eq!(count, expected, "{}", status.name());
    }
}

async fn claims_are_disjoint_and_never_more_than_wanted(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let changes: Vec<Change> = ids.iter().map(|id| desired(id, "a")).collect();
    write(&db, &changes, 0).await;
    assert_eq!(delivery::backlog(&db).await.unwrap(), (50, 0));

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
    assert_eq!(delivery::backlog(&db).await.unwrap(), (0, 50));
    statuses(&db, &[(Status::InFlight, 50)]).await;
}

async fn what_is_due_first_is_claimed_first_and_what_is_not_due_is_left(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for (seconds, id) in [(30, "c"), (10, "b"), (20, "a"), (50, "d")] {
        write(&db, &[desired(id, "x")], seconds).await;
    }
    assert_eq!(delivery::next_due_at(&db).await.unwrap(), Some(at(10)));
    assert_eq!(claim_one(&db, 10).await.lead, id("b"));
    let mut later: Vec<LeadId> = claim(&db, 10, 30).await.into_iter().map(|claim| claim.lead).collect();
    later.sort();
    assert_eq!(later, [id("a"), id("c")]);
    assert_eq!(delivery::next_due_at(&db).await.unwrap(), Some(at(50)));
    assert_eq!(claim_one(&db, 50).await.lead, id("d"));
    assert_eq!(delivery::next_due_at(&db).await.unwrap(), None);
}

async fn an_outcome_for_another_claim_changes_nothing_of_the_lead(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let late = claim_one(&db, 1).await;
    delivery::recover(&db, Orphans::All, at(2)).await.unwrap();
    let current = claim_one(&db, 3).await;
    let before = row(&db, "1").await;

    record(&db, &[finished(&late, Class::Accepted, Next::Done, 4)]).await;
    assert_eq!(row(&db, "1").await, before, "the claim at 1 is over; the one at 3 is not");

    record(&db, &[finished(&current, Class::Accepted, Next::Done, 5)]).await;
    let after = row(&db, "1").await;
    assert_eq!((after.status.as_str(), after.delivered.as_deref()), ("in_sync", Some("a")));
    record(&db, &[finished(&current, Class::Rejected, Next::Rejected, 6)]).await;
    assert_eq!(row(&db, "1").await, after, "an outcome counts once");
}

async fn after_an_ambiguous_outcome_the_old_content_is_sent_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", "old"), 0).await;
    write(&db, &[desired("1", "new")], 10).await;
    let claim = claim_one(&db, 20).await;
    record(&db, &[finished(&claim, Class::Ambiguous, Next::RetryAt(at(40)), 30)]).await;
    write(&db, &[desired("1", "old")], 35).await;
    let waiting = row(&db, "1").await;
    assert_eq!((waiting.status.as_str(), waiting.delivered_hash), ("retrying", None));
    let claim = claim_one(&db, 40).await;
    assert_eq!((claim.body.as_str(), claim.attempt, claim.first_failed_at), ("old", 2, Some(at(30))));
    record(&db, &[finished(&claim, Class::Accepted, Next::Done, 41)]).await;
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.delivered.as_deref(), row.attempts), ("in_sync", Some("old"), 0));
}

async fn a_lead_that_waits_for_a_retry_keeps_its_time_when_its_row_changes(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let claimed = claim_one(&db, 1).await;
    record(&db, &[finished(&claimed, Class::Transient, Next::RetryAt(at(60)), 2)]).await;
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
    let many: Vec<Change> = (0..20).map(|n| desired(&format!("a{n}"), "x")).collect();
    write(&db, &many, 2).await;
    write(&db, &[held("held", "x")], 2).await;
    write(&db, &[urgent("known", "stop"), urgent("held", "stop"), urgent("z", "stop")], 3).await;
    record(&db, &[finished(&in_flight, Class::Accepted, Next::Done, 4)]).await;
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

    assert_eq!(delivery::recover(&db, Orphans::All, at(3)).await.unwrap(), 5);
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
    assert_eq!(delivery::recover(&db, Orphans::All, at(4)).await.unwrap(), 0, "once is enough");
}

async fn only_claims_whose_lease_is_over_are_taken_from_another_instance(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    assert_eq!(claim_one(&db, 0).await.lead, id("1"));
    write(&db, &[desired("2", "a")], 30).await;
    assert_eq!(claim_one(&db, 30).await.lead, id("2"));
    assert_eq!(delivery::recover(&db, Orphans::Expired, at(59)).await.unwrap(), 0);
    assert_eq!(delivery::recover(&db, Orphans::Expired, at(60)).await.unwrap(), 1);
    assert_eq!((row(&db, "1").await.status.as_str(), row(&db, "2").await.status.as_str()), ("pending", "in_flight"));
}

async fn what_is_held_waits_until_it_is_approved(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", "a"), held("2", "a")], 0).await;
    assert!(claim(&db, 10, 100).await.is_empty());
    write(&db, &[desired("1", "b")], 1).await;
    let waiting = row(&db, "1").await;
    assert_eq!((waiting.status.as_str(), waiting.desired.as_deref()), ("held", Some("b")), "a change joins the hold");
    assert_eq!(waiting.hold_reason.as_deref(), Some("too_many_changes"));
    lead::mark_gone(&db, &[id("2")], at(2)).await.unwrap();

    assert_eq!(lead::approve_held(&db, at(3)).await.unwrap(), 2);
    let claimed = claim_one(&db, 3).await;
    assert_eq!((claimed.lead, claimed.body.as_str()), (id("1"), "b"));
    assert_eq!(row(&db, "2").await.status, "gone", "nobody approves what is not there");
}

async fn what_is_taken_as_baseline_counts_as_delivered(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", "a"), desired("2", "a")], 0).await;
    assert_eq!(lead::baseline_held(&db, at(1)).await.unwrap(), 1);
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.delivered.as_deref()), ("in_sync", Some("a")));
    assert_eq!((row.delivered_hash, row.contacted), (Some(row.desired_hash), true));
    assert_eq!(claim_one(&db, 2).await.lead, id("2"));
    assert_eq!(outcome::counts(&db).await.unwrap().values().sum::<i64>(), 0, "nothing was sent");
    let bodies = lead::delivered(&db, &[id("1"), id("2"), id("3")]).await.unwrap();
    assert_eq!(bodies, [(id("1"), "a".to_owned())].into());
}

async fn a_hold_ends_with_the_content_that_was_held(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    // Back to what was delivered.
    deliver(&db, desired("1", "a"), 0).await;
    write(&db, &[held("1", "b")], 1).await;
    write(&db, &[held("1", "a")], 2).await;
    // Back to what is on its way, and accepted.
    write(&db, &[desired("2", "a")], 0).await;
    let in_flight = claim_one(&db, 1).await;
    write(&db, &[held("2", "b")], 2).await;
    write(&db, &[held("2", "a")], 3).await;
    record(&db, &[finished(&in_flight, Class::Accepted, Next::Done, 4)]).await;
    // Invalid: there is nothing to send.
    write(&db, &[held("3", "b")], 1).await;
    write(&db, &[invalid("3", "no address")], 2).await;
    for (id, status) in [("1", "in_sync"), ("2", "in_sync"), ("3", "invalid")] {
        let row = row(&db, id).await;
        assert_eq!((row.status.as_str(), row.hold_reason), (status, None), "{id}");
        write(&db, &[desired(id, "c")], 10).await;
    }
    assert_eq!(claim(&db, 10, 10).await.len(), 3, "the next change is not held for the sake of an old one");
}

async fn approving_does_not_disturb_what_is_in_flight(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let in_flight = claim_one(&db, 1).await;
    write(&db, &[held("1", "b")], 2).await;
    lead::baseline_held(&db, at(3)).await.unwrap();
    assert_eq!(row(&db, "1").await.status, "in_flight", "what is on its way is not taken as delivered");
    lead::approve_held(&db, at(4)).await.unwrap();
    record(&db, &[finished(&in_flight, Class::Halting, Next::Untried, 5)]).await;
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.attempts), ("pending", 0));
    let claim = claim_one(&db, 6).await;
    assert_eq!((claim.body.as_str(), claim.attempt), ("b", 1));
}

async fn rejected_and_exhausted_leads_are_put_back_and_no_others(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids = ["rejected 1", "rejected 2", "exhausted"];
    write(&db, &ids.map(|id| desired(id, "a")), 0).await;
    for claim in claim(&db, 10, 1).await {
        let (class, next) = match claim.lead.id.as_str() {
            "exhausted" => (Class::Transient, Next::Exhausted),
            _ => (Class::Rejected, Next::Rejected),
        };
        record(&db, &[finished(&claim, class, next, 2)]).await;
    }
    write(&db, &[held("held", "a"), invalid("invalid", "no address")], 3).await;
    deliver(&db, desired("in sync", "a"), 3).await;
    for status in Status::ALL.into_iter().filter(|status| !matches!(status, Status::Rejected | Status::Exhausted)) {
        assert_eq!(lead::requeue(&db, status, None, at(4)).await.unwrap(), 0, "{}", status.name());
    }
    assert_eq!(lead::requeue(&db, Status::Rejected, Some("nobody"), at(4)).await.unwrap(), 0);
    assert_eq!(lead::requeue(&db, Status::Rejected, Some("rejected 1"), at(4)).await.unwrap(), 1);
    assert_eq!(claim_one(&db, 4).await.lead, id("rejected 1"));
    assert_eq!(lead::requeue(&db, Status::Exhausted, None, at(5)).await.unwrap(), 1);
    let claim = claim_one(&db, 5).await;
    assert_eq!((claim.lead, claim.attempt, claim.first_failed_at), (id("exhausted"), 1, None), "a new series");
    let expected =
        [(Status::InFlight, 2), (Status::Rejected, 1), (Status::Held, 1), (Status::Invalid, 1), (Status::InSync, 1)];
    statuses(&db, &expected).await;
}

async fn what_has_gone_is_not_sent_and_rests_where_it_was_when_it_returns(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("in sync", "a"), 0).await;
    write(&db, &[desired("pending", "a"), held("held", "a"), invalid("invalid", "no address")], 1).await;
    let all = ["in sync", "pending", "held", "invalid"].map(id);
    lead::mark_gone(&db, &all, at(2)).await.unwrap();
    statuses(&db, &[(Status::Gone, 4)]).await;
    assert_eq!(row(&db, "pending").await.gone_at, Some(2));
    assert!(claim(&db, 10, 100).await.is_empty());
    assert_eq!(lead::approve_held(&db, at(3)).await.unwrap(), 1);
    lead::mark_returned(&db, &all, at(4)).await.unwrap();
    statuses(&db, &[(Status::InSync, 1), (Status::Pending, 2), (Status::Invalid, 1)]).await;

    // A row that comes back with other content.
    lead::mark_gone(&db, &[id("in sync")], at(5)).await.unwrap();
    write(&db, &[desired("in sync", "b")], 6).await;
    let back = row(&db, "in sync").await;
    assert_eq!((back.status.as_str(), back.gone_at), ("pending", None));
}

async fn the_journal_has_every_attempt_in_order(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a"), desired("2", "a")], 0).await;
    let retry = Next::RetryAt(at(0));
    let series = [(Class::Transient, retry), (Class::Ambiguous, retry), (Class::Accepted, Next::Done)];
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
    assert_eq!(Class::ALL.map(|class| counts[&class]), [2, 0, 2, 2, 0]);
    let attempts: Vec<i64> = on_db!(&db, pool => {
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
    let changes: Vec<Change> = leads.iter().map(|lead| Change { lead: lead.clone(), ..desired("", "a") }).collect();
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
    assert_eq!((rest[0].status, rest[0].contacted, rest[0].delivered_hash), (Status::Pending, false, None));
    assert_eq!(rest[0].desired_hash, Fingerprint::of(b"a"));
}

async fn facts_are_replaced_and_taken_away(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    assert_eq!(control::read::<Halt>(&db).await.unwrap(), None);
    let halt = |detail: &str| Halt {
        reason: HaltReason::Credentials,
        since: at(1),
        detail: Some(detail.to_owned()),
        account: "f".to_owned(),
    };
    control::write(&db, &halt("first"), at(1)).await.unwrap();
    control::write(&db, &halt("second — naïve \"quoted\""), at(2)).await.unwrap();
    control::write(&db, &Hold { reason: "first_run".to_owned(), since: at(1) }, at(1)).await.unwrap();
    assert_eq!(control::read::<Halt>(&db).await.unwrap(), Some(halt("second — naïve \"quoted\"")));
    assert!(control::clear::<Halt>(&db).await.unwrap());
    assert!(!control::clear::<Halt>(&db).await.unwrap());
    assert!(control::read::<Hold>(&db).await.unwrap().is_some());
}

async fn a_state_from_a_newer_version_is_refused(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let version = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                   values (9999, 'from the future', true, $1, 0)";
    on_db!(&db, pool => sqlx::query(version).bind(vec![0_u8]).execute(pool).await.map(drop)).unwrap();
    db.close().await;
    for refused in [Db::open_state(&place.url).await.err(), Db::open_state_read_only(&place.url).await.err()] {
        let error = refused.expect("it is refused");
        let setup = error.downcast_ref::<SetupError>().expect("a mistake that a person can mend: exit code 2");
        assert!(setup.what.contains("newer") && setup.what.contains("9999"), "{setup}");
        assert!(setup.cure.contains("[state] url"), "{setup}");
    }
}

async fn an_existing_state_is_opened_again_with_what_it_holds(engine: Engine) {
    let place = engine.place();
    if engine == Engine::Sqlite {
        assert!(Db::open_state_read_only(&place.url).await.unwrap().is_none(), "looking creates nothing");
        assert!(!db::sqlite_path(&place.url).unwrap().exists());
    }
    let first = place.state().await;
    deliver(&first, desired("1", "a"), 0).await;
    first.close().await;
    let again = place.state().await;
    assert_eq!(row(&again, "1").await.status, "in_sync");
    let looking = Db::open_state_read_only(&place.url).await.unwrap().expect("there is a state now");
    assert!(lead::any(&looking).await.unwrap());
}

#[tokio::test]
async fn the_state_file_belongs_to_its_owner_alone() {
    let place = Engine::Sqlite.place();
    let db = place.state().await;
    deliver(&db, desired("1", "a"), 0).await;
    let files: Vec<_> = std::fs::read_dir(place.directory()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() > 1, "the state and its log");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn sqlite_is_new_enough_to_keep_its_log_whole() {
    let db = Db::open_state_in_memory().await.unwrap();
    let Db::Sqlite(pool) = &db else { panic!("in memory is SQLite") };
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await.unwrap();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
}

#[test]
fn every_migration_in_the_folder_is_compiled_in() {
    let files = |engine: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
        std::fs::read_dir(folder).unwrap().count()
    };
    assert_eq!(db::embedded_migrations(), (files("sqlite"), files("postgres")));
}
