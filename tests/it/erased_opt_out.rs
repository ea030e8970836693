//! An opt-out of a person who was erased is not lost: it counts if the person comes back, on both engines.

use serde_json::json;

use crate::erase::{erased, somebody};
use crate::support::engine::{Engine, on_both_engines};
use crate::support::hearing::{ALL, ask, update};
use crate::support::lead_row::{at, claim_one, deliver, desired, id, write};
use conversica_sync::conversica::post::PostKind;
use conversica_sync::store::erase;
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::heard::replay::{ReplayOutcome, replay};
use conversica_sync::store::heard::{reading, search_unreadable};
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    an_opt_out_that_is_posted_after_the_erasure_counts_if_the_person_comes_back,
    an_opt_out_in_a_damaged_post_about_an_erased_person_counts_too,
    an_opt_out_that_waits_to_be_taken_in_is_not_erased_with_the_person,
    an_opt_out_that_waits_for_an_operator_is_not_erased_with_the_person,
    an_opt_out_in_a_post_that_an_operator_corrects_counts_too,
    what_else_is_posted_about_an_erased_person_withdraws_nothing,
);

const MAY_BE_CONTACTED: &str = r#"{"id":"1","optOut":false,"smsOptOut":false}"#;

async fn arrive(db: &StateDb, body: &str, second: i64) {
    event::store(db, &[PostArrival::of(PostKind::LeadUpdate, body.as_bytes().to_vec(), false)], at(second))
        .await
        .unwrap();
}

/// What is sent once the person is allowed back.
async fn sent_when_back(db: &StateDb) -> String {
    assert!(erase::allow(db, &id("1"), &somebody(), at(50)).await.unwrap());
    write(db, &[desired("1", MAY_BE_CONTACTED)], 51).await;
    claim_one(db, 52).await.body
}

async fn an_opt_out_that_is_posted_after_the_erasure_counts_if_the_person_comes_back(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    erased(&db, &id("1"), 2).await;
    arrive(&db, r#"{"id":"1","doNotEmail":true}"#, 3).await;
    arrive(&db, r#"{"id":"1","smsOptOut":true}"#, 4).await;
    assert_eq!(ask(&db, "select id from event").await, [""; 0], "of the posts themselves nothing is kept");
    assert_eq!(sent_when_back(&db).await, r#"{"id":"1","optOut":true,"smsOptOut":true}"#);
}

async fn an_opt_out_in_a_damaged_post_about_an_erased_person_counts_too(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    erased(&db, &id("1"), 2).await;
    arrive(&db, r#"{"id":"1","doNotEmail":tr"#, 3).await;
    assert_eq!(ask(&db, "select id from event").await, [""; 0]);
    assert_eq!(sent_when_back(&db).await, r#"{"id":"1","optOut":true,"smsOptOut":false}"#);
}

async fn an_opt_out_that_waits_to_be_taken_in_is_not_erased_with_the_person(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    arrive(&db, r#"{"id":"1","doNotEmail":true}"#, 1).await;
    erased(&db, &id("1"), 2).await;
    assert_eq!(sent_when_back(&db).await, r#"{"id":"1","optOut":true,"smsOptOut":false}"#);
}

async fn an_opt_out_that_waits_for_an_operator_is_not_erased_with_the_person(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    arrive(&db, r#"{"id":"1","smsOptOut":true,"leadStatus":"cut"#, 1).await;
    search_unreadable(&db, ALL, at(2)).await.unwrap();
    erased(&db, &id("1"), 3).await;
    assert_eq!(sent_when_back(&db).await, r#"{"id":"1","optOut":false,"smsOptOut":true}"#);
}

async fn an_opt_out_in_a_post_that_an_operator_corrects_counts_too(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    // It names no lead.
    arrive(&db, r#"{"doNotEmail":true"#, 1).await;
    let waits = reading::list(&db, &reading::EventFilter::default(), 9).await.unwrap().remove(0);
    erased(&db, &id("1"), 2).await;
    let corrected = br#"{"id":"1","doNotEmail":true}"#;
    assert_eq!(replay(&db, &waits, Some(corrected), false, at(3)).await.unwrap(), ReplayOutcome::Erased);
    assert_eq!(sent_when_back(&db).await, r#"{"id":"1","optOut":true,"smsOptOut":false}"#);
}

async fn what_else_is_posted_about_an_erased_person_withdraws_nothing(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", MAY_BE_CONTACTED), 0).await;
    update(&db, json!({"id": "1", "hotLead": true}), at(1)).await;
    erased(&db, &id("1"), 2).await;
    arrive(&db, r#"{"id":"1","hotLead":true,"doNotEmail":false}"#, 3).await;
    let message =
        json!({"id": "1", "action": "received", "date": "2026-01-01T00:00:00Z", "body": "Please stop by on Monday"});
    event::store(&db, &[PostArrival::of(PostKind::Message, message.to_string().into_bytes(), false)], at(4))
        .await
        .unwrap();
    assert_eq!(sent_when_back(&db).await, MAY_BE_CONTACTED);
}
