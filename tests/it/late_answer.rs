//! Answers to claims that this instance has lost: their lease is over, and another instance has sent since.

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{at, claim, claim_one, deliver, desired, finished, record, resend, row, write};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::send::test_lead;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::outcome;
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    after_a_late_answer_the_newest_content_is_sent_again,
    a_late_answer_while_the_newest_content_is_on_its_way_has_it_sent_again_afterwards,
    a_late_answer_to_the_newest_content_has_nothing_sent_again,
    a_late_refusal_changes_nothing_of_the_lead,
    an_answer_to_the_test_lead_is_no_late_answer,
);

async fn journal(db: &StateDb) -> Vec<String> {
    on_state!(db, pool => {
        let sql = "select class || ' ' || coalesce(detail, '') from outcome order by seq";
        sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
    })
}

/// An instance claims lead 1 with its old content, and its lease ends. Another instance has recovered the claim, and the
/// CRM's newest content is due.
async fn overtaken(db: &StateDb, newest: &str) -> LeadClaim {
    deliver(db, desired("1", "first"), 0).await;
    write(db, &[desired("1", "old")], 1).await;
    let late = claim_one(db, 2).await;
    assert_eq!(orphan::recover(db, OrphanScope::Expired, &resend(), at(63)).await.unwrap(), 1);
    write(db, &[desired("1", newest)], 64).await;
    late
}

async fn after_a_late_answer_the_newest_content_is_sent_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let late = overtaken(&db, "new").await;
    let current = claim_one(&db, 65).await;
    record(&db, &[finished(&current, OutcomeClass::Accepted, NextStep::Done, 66)]).await;
    assert_eq!(row(&db, "1").await.status, "in_sync");

    record(&db, &[finished(&late, OutcomeClass::Accepted, NextStep::Done, 70)]).await;
    let after = row(&db, "1").await;
    assert_eq!((after.status.as_str(), after.delivered_hash.as_ref()), ("pending", None), "which was last is unknown");
    let again = claim_one(&db, 71).await;
    assert_eq!(again.body, "new");
    record(&db, &[finished(&again, OutcomeClass::Accepted, NextStep::Done, 72)]).await;
    assert_eq!(row(&db, "1").await.status, "in_sync");
    let entries = journal(&db).await;
    assert_eq!(entries.len(), 5, "{entries:?}");
    assert!(entries[3].starts_with("ambiguous this answer came after the lease of its claim"), "{entries:?}");
    assert_eq!(outcome::counts(&db).await.unwrap()[&OutcomeClass::Accepted], 3, "counted as it is journalled");
}

async fn a_late_answer_while_the_newest_content_is_on_its_way_has_it_sent_again_afterwards(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let late = overtaken(&db, "new").await;
    let current = claim_one(&db, 65).await;
    record(&db, &[finished(&late, OutcomeClass::Accepted, NextStep::Done, 66)]).await;
    assert_eq!(row(&db, "1").await.status, "in_flight", "the request that is on its way ends first");
    assert!(claim(&db, 5, 67).await.is_empty());
    record(&db, &[finished(&current, OutcomeClass::Accepted, NextStep::Done, 68)]).await;
    let again = claim_one(&db, 69).await;
    assert_eq!(again.body, "new");
    record(&db, &[finished(&again, OutcomeClass::Accepted, NextStep::Done, 70)]).await;
    assert!(claim(&db, 5, 1000).await.is_empty());
}

async fn a_late_answer_to_the_newest_content_has_nothing_sent_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let late = overtaken(&db, "old").await;
    let current = claim_one(&db, 65).await;
    assert_eq!(current.body, "old", "whether it had arrived was unknown");
    record(&db, &[finished(&current, OutcomeClass::Accepted, NextStep::Done, 66)]).await;
    record(&db, &[finished(&late, OutcomeClass::Accepted, NextStep::Done, 70)]).await;
    assert_eq!(row(&db, "1").await.status, "in_sync");
    assert!(claim(&db, 5, 1000).await.is_empty());
}

async fn a_late_refusal_changes_nothing_of_the_lead(engine: Engine) {
    for class in [OutcomeClass::Rejected, OutcomeClass::Transient, OutcomeClass::Halting] {
        let place = engine.place();
        let db = place.state().await;
        let late = overtaken(&db, "new").await;
        let current = claim_one(&db, 65).await;
        record(&db, &[finished(&current, OutcomeClass::Accepted, NextStep::Done, 66)]).await;
        let before = row(&db, "1").await;
        record(&db, &[finished(&late, class, NextStep::Rejected, 70)]).await;
        assert_eq!(row(&db, "1").await, before, "{class:?}");
        assert_eq!(journal(&db).await.len(), 4, "and it is journalled");
    }
}

/// The test lead never has a claim. A lead of the CRM with its id stays as it is.
async fn an_answer_to_the_test_lead_is_no_late_answer(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired(test_lead::ID, "first"), 0).await;
    write(&db, &[desired(test_lead::ID, "second")], 1).await;
    let claim_of_lead = claim_one(&db, 2).await;
    let in_flight = row(&db, test_lead::ID).await;
    for (number, class) in (1_u8..).zip([OutcomeClass::Accepted, OutcomeClass::Ambiguous]) {
        let mut test = finished(&claim_of_lead, class, NextStep::Done, 3 + i64::from(number));
        test.sent_hash = vec![number; 16];
        outcome::record_test(&db, &test).await.unwrap();
    }
    assert_eq!(row(&db, test_lead::ID).await, in_flight);
    record(&db, &[finished(&claim_of_lead, OutcomeClass::Accepted, NextStep::Done, 9)]).await;
    assert_eq!(row(&db, test_lead::ID).await.status, "in_sync");
    assert_eq!(
        journal(&db).await,
        ["accepted said accepted", "accepted said accepted", "ambiguous said ambiguous", "accepted said accepted"]
    );
    assert_eq!(outcome::counts(&db).await.unwrap()[&OutcomeClass::Accepted], 3);
}
