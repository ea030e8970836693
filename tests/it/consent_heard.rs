//! Opt-outs that Conversica reports, against a CRM that says otherwise: through the real program.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::hearing::{apply_all, store, update};
use crate::support::lead_row::{LEASE, at, claim_one, deliver, desired, finished, held, id, record, row, write};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::rules::suppression_ground::SuppressionScope;
use conversica_sync::send::consent::{self, LedgerUse};
use conversica_sync::store::consent as ledger;
use conversica_sync::store::delivery::{self, ClaimRequest, OptOuts};
use conversica_sync::store::event::{self, PostArrival};

on_both_engines!(
    whatever_was_written_a_claim_leaves_with_the_opt_out,
    who_is_on_the_way_as_an_opt_out_is_heard_is_told_of_it_at_once_afterwards,
    what_is_held_is_kept_too_and_an_ignored_opt_out_changes_nothing,
    whichever_comes_first_a_poll_or_an_opt_out_the_opt_out_stands_in_the_end,
    until_a_post_is_taken_in_nothing_is_sent_to_its_lead_but_a_withdrawal,
);

const FALSE: &str = r#"{"id":"1","optOut":false,"smsOptOut":false,"smsOptIn":true}"#;
const TRUE: &str = r#"{"id":"1","optOut":true,"smsOptOut":false,"smsOptIn":true}"#;

fn opted_out() -> Value {
    json!({"id": "1", "doNotEmail": true})
}

async fn whatever_was_written_a_claim_leaves_with_the_opt_out(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    update(&db, opted_out(), at(1)).await;
    // Written as by a poll that does not know of the opt-out.
    write(&db, &[desired("1", FALSE), desired("2", FALSE)], 2).await;
    let claims = delivery::record_and_claim(&db, &[], ClaimRequest::up_to(9), at(3), LEASE).await.unwrap();
    let body = |id_: &str| claims.iter().find(|claim| claim.lead == id(id_)).unwrap().body.clone();
    assert_eq!((body("1").as_str(), body("2").as_str()), (TRUE, FALSE));
    for claim in &claims {
        record(&db, &[finished(claim, OutcomeClass::Accepted, NextStep::Done, 4)]).await;
    }
    let sent = row(&db, "1").await;
    assert_eq!(
        (sent.status.as_str(), sent.desired.as_deref(), sent.delivered.as_deref()),
        ("in_sync", Some(TRUE), Some(TRUE))
    );
}

async fn until_a_post_is_taken_in_nothing_is_sent_to_its_lead_but_a_withdrawal(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", r#"{"id":"1","optOut":false}"#), 0).await;
    write(&db, &[desired("1", FALSE), desired("2", FALSE)], 1).await;
    store(&db, PostKind::LeadUpdate, &opted_out(), at(1)).await;
    let claims = delivery::record_and_claim(&db, &[], ClaimRequest::up_to(9), at(2), LEASE).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.lead.clone()).collect::<Vec<_>>(), [id("2")]);
    apply_all(&db, at(3)).await;
    let claim = claim_one(&db, 4).await;
    assert_eq!(claim.body, TRUE);
    // A withdrawal is claimed although a newer post of the lead is not applied yet.
    record(&db, &[finished(&claim, OutcomeClass::Transient, NextStep::RetryAt(at(5)), 5)]).await;
    store(&db, PostKind::LeadUpdate, &json!({"id": "1", "hotLead": true}), at(5)).await;
    assert_eq!(claim_one(&db, 6).await.lead, id("1"));
}

async fn who_is_on_the_way_as_an_opt_out_is_heard_is_told_of_it_at_once_afterwards(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", FALSE)], 0).await;
    let in_flight = claim_one(&db, 1).await;
    assert_eq!(update(&db, opted_out(), at(2)).await.due, 1);
    record(&db, &[finished(&in_flight, OutcomeClass::Accepted, NextStep::Done, 3)]).await;
    let next = claim_one(&db, 4).await;
    assert_eq!((next.body.as_str(), next.urgent), (TRUE, true));
    record(&db, &[finished(&next, OutcomeClass::Accepted, NextStep::Done, 5)]).await;
    update(&db, json!({"id": "1", "smsOptOut": true}), at(6)).await;
    let next = claim_one(&db, 7).await;
    assert_eq!(next.body, r#"{"id":"1","optOut":true,"smsOptOut":true,"smsOptIn":false}"#);
}

async fn what_is_held_is_kept_too_and_an_ignored_opt_out_changes_nothing(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", FALSE)], 0).await;
    update(&db, opted_out(), at(1)).await;
    let waits = row(&db, "1").await;
    assert_eq!(
        (waits.status.as_str(), waits.desired.as_deref()),
        ("held", Some(TRUE)),
        "the person was never contacted"
    );
    deliver(&db, desired("2", FALSE), 2).await;
    write(&db, &[desired("1", FALSE)], 3).await;
    conversica_sync::store::held::release_all(
        &db,
        &Default::default(),
        conversica_sync::store::held::ReleaseKind::Send,
        at(4),
    )
    .await
    .unwrap();
    let wanted = ClaimRequest { opt_outs: OptOuts::Ignore, ..ClaimRequest::up_to(9) };
    let claims = delivery::record_and_claim(&db, &[], wanted, at(5), LEASE).await.unwrap();
    assert_eq!(claims[0].body, FALSE);
}

async fn whichever_comes_first_a_poll_or_an_opt_out_the_opt_out_stands_in_the_end(engine: Engine) {
    let place = engine.place();
    let (db, other) = (place.state().await, place.state().await);
    let ids: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let body = |n: usize| format!(r#"{{"id":"x","city":"{n}","optOut":false}}"#);
    let all = |n: usize| ids.iter().map(|id| desired(id, &body(n))).collect::<Vec<_>>();
    write(&db, &all(0), 0).await;
    for claim in delivery::record_and_claim(&db, &[], ClaimRequest::up_to(100), at(1), LEASE).await.unwrap() {
        record(&db, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, 2)]).await;
    }
    let polls = async {
        for n in 1..60 {
            let words = ledger::newest(&db).await.unwrap();
            let rows = all(n).into_iter().map(|change| {
                let LeadChange { lead, desired, .. } = change;
                (
                    MappedRow {
                        lead,
                        desired,
                        withdrawn: Vec::new(),
                        row_hash: None,
                        odd: Vec::new(),
                        grounds: Vec::new(),
                        kept: Vec::new(),
                        notes: Vec::new(),
                    },
                    None,
                )
            });
            let rows =
                consent::keep(&db, rows.collect(), LedgerUse::Leave, SuppressionScope::Person, at(3)).await.unwrap();
            tokio::task::yield_now().await;
            let changes: Vec<LeadChange> =
                rows.into_iter().map(|mapped| desired(&mapped.lead.id, &mapped.desired.unwrap())).collect();
            ledger::upsert(&db, &changes, words, at(3), at(3)).await.unwrap();
        }
    };
    let opt_outs = async {
        for id in &ids {
            update(&other, json!({"id": id, "doNotEmail": true}), at(4)).await;
        }
    };
    tokio::join!(polls, opt_outs);
    for id in &ids {
        let row = row(&db, id).await;
        assert_eq!(row.status, "pending", "{row:?}");
        assert!(row.desired.as_ref().unwrap().contains("\"optOut\":true"), "{row:?}");
    }
}

mod program {
    use super::*;

    blocking_on_both_engines!(
        a_post_that_no_receiver_lives_to_take_in_is_taken_in_by_whoever_sends,
        a_stop_that_is_posted_after_a_later_dated_echo_stands,
        a_stop_that_is_posted_once_more_after_consent_was_given_counts_again,
        a_stale_value_of_the_crm_does_not_end_an_opt_out,
        consent_that_was_given_later_ends_an_opt_out,
        consent_dated_in_the_future_ends_no_opt_out,
        with_keep_opt_outs_off_the_crm_has_its_way,
    );
}

fn opt_outs_of(endpoint: &StandIn, id: &str) -> Vec<Value> {
    endpoint.bodies_of(id).iter().map(|body| body["optOut"].clone()).collect()
}

fn a_stale_value_of_the_crm_does_not_end_an_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    scene.run(&["once"]);
    scene.hear(&[opted_out()]);
    scene.crm("update leads set last_name = 'Baker'");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!((&plan["stop"], &plan["update"], &plan["kept_opt_outs"]), (&json!(1), &json!(2), &json!(1)));
    let reasons =
        plan["leads"].as_array().unwrap().iter().find(|lead| lead["id"] == "1").unwrap()["reasons"].to_string();
    assert!(reasons.contains("kept: optOut true, heard on") && reasons.contains("(the CRM says false)"), "{reasons}");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(true)]);
    assert_eq!(endpoint.bodies_of("1")[1]["lastName"], "Baker");
    // A full compare sends nothing again, and a changed row leaves the opt-out in place.
    scene.run(&["once", "--full"]);
    scene.crm("update leads set last_name = 'Carter' where id = 1");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(true), json!(true)]);
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!((&plan["stop"], &plan["update"], &plan["kept_opt_outs"]), (&json!(0), &json!(0), &json!(1)));
    let lead = scene.run(&["lead", "1", "--json"]).json();
    assert_eq!((&lead["status"], &lead["overrides"][0]["key"]), (&json!("in_sync"), &json!("optOut")));
    // A later post of Conversica changes it.
    scene.hear(&[json!({"id": "1", "doNotEmail": false})]);
    scene.run(&["once", "--full"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(false)));
}

fn consent_that_was_given_later_ends_an_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm(
        engine.pick(
            "alter table leads add column consent_at text",
            "alter table leads add column consent_at timestamptz",
        ),
    );
    // An opt-out of a person is not ended by a row: tests/it/person_consent.rs.
    scene.set_text("consent", "scope", "id");
    scene.set_text("consent", "given_at", "consnt_at");
    let refused = scene.run(&["once"]);
    assert_eq!(refused.code, Some(2));
    for words in ["[consent] given_at", "consnt_at", "consent_at"] {
        assert!(refused.stderr.contains(words), "{words}: {refused}");
    }
    scene.set_text("consent", "given_at", "consent_at");
    scene.crm("update leads set consent_at = '2026-01-01T00:00:00Z'");
    scene.run(&["once"]);
    assert!(endpoint.bodies_of("1")[0].get("consent_at").is_none());
    let out = |id: &str| json!({"id": id, "doNotEmail": true, "lastResponseDate": "2026-02-01T00:00:00Z"});
    scene.hear(&[out("1"), out("2")]);
    scene.run(&["once"]);
    scene.crm("update leads set consent_at = '2026-01-15T00:00:00Z' where id = 1");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(true)], "given before");
    scene.crm("update leads set consent_at = '2026-03-01T00:00:00Z' where id = 1");
    scene.run(&["plan"]);
    assert!(scene.state("select 'x' from consent where source = 'crm'").is_empty(), "`plan` stores nothing");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(true), json!(false)]);
    assert_eq!(opt_outs_of(&endpoint, "2"), [json!(false), json!(true)]);
    let ledger = scene.state(
        "select channel || ' ' || cast(given as text) || ' ' || source from consent where id = '1' order by seq",
    );
    assert_eq!(ledger, ["email 0 conversica", "email 1 crm"]);
    let again = json!({"id": "1", "doNotEmail": true, "lastResponseDate": "2026-03-02T00:00:00Z"});
    scene.hear(&[again]);
    scene.run(&["once", "--full"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(true)), "withdrawn once more");
}

fn consent_dated_in_the_future_ends_no_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.crm(
        engine.pick(
            "alter table leads add column consent_at text",
            "alter table leads add column consent_at timestamptz",
        ),
    );
    scene.set_text("consent", "given_at", "consent_at");
    scene.hear(&[opted_out()]);
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(true)));
    // A typing mistake, or a date that means "never again".
    scene.crm("update leads set consent_at = '2199-12-31T00:00:00Z', last_name = 'Baker'");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(true)), "the opt-out stands");
    assert!(scene.state("select 'x' from consent where source = 'crm'").is_empty());
}

fn with_keep_opt_outs_off_the_crm_has_its_way(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set("consent", "keep_opt_outs", "false");
    scene.hear(&[opted_out()]);
    scene.run(&["once"]);
    scene.crm("update leads set last_name = 'Baker'");
    assert_eq!(scene.run(&["plan", "--json"]).json()["kept_opt_outs"], 0);
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(false)]);
    scene.set("consent", "keep_opt_outs", "true");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(true)), "from the next look on");
}

/// Stores posts as the receiver does, without applying them.
fn receive(scene: &Scene, posts: &[Value]) {
    scene.with_state(async |db| {
        for post in posts {
            let arrival = PostArrival::of(PostKind::LeadUpdate, post.to_string().into_bytes(), false);
            event::store(db, &[arrival], chrono::Utc::now()).await.unwrap();
        }
    });
}

fn a_post_that_no_receiver_lives_to_take_in_is_taken_in_by_whoever_sends(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]);
    receive(&scene, &[opted_out()]);
    scene.crm("update leads set last_name = 'Baker'");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1"), [json!(false), json!(true)]);
    receive(&scene, &[json!({"id": "2", "doNotEmail": true})]);
    scene.crm("update leads set last_name = 'Smith'");
    let daemon = scene.daemon();
    let patience = std::time::Duration::from_secs(60);
    wait_until("the opt-out to be sent", patience, || opt_outs_of(&endpoint, "2").contains(&json!(true)));
    drop(daemon);
    let said = opt_outs_of(&endpoint, "2");
    assert!(said[..2] == [json!(false), json!(false)] && said[2..].iter().all(|out| out == true), "{said:?}");
}

fn a_stop_that_is_posted_after_a_later_dated_echo_stands(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    let ago = |seconds| (chrono::Utc::now() - chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    receive(&scene, &[json!({"id": "1", "hotLead": true, "hotLeadDate": ago(20), "doNotEmail": false})]);
    scene.run(&["once"]);
    let stop = json!({"id": "1", "doNotEmail": true, "conversationStage": "Lead Stopped",
        "conversationStatus": "Unsubscribed", "conversationStatusDate": ago(40), "lastResponseDate": ago(40)});
    receive(&scene, &[stop]);
    scene.crm("update leads set last_name = 'Baker'");
    scene.run(&["once"]);
    assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(true)));
}

fn a_stop_that_is_posted_once_more_after_consent_was_given_counts_again(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    let said = |stop: bool| json!({"id": "1", "doNotEmail": stop});
    for (stop, expected) in [(true, true), (false, false), (true, true), (true, true)] {
        receive(&scene, &[said(stop)]);
        scene.crm("update leads set last_name = last_name || 'x'");
        scene.run(&["once"]);
        assert_eq!(opt_outs_of(&endpoint, "1").last(), Some(&json!(expected)));
    }
    let words = scene.state("select cast(given as text) from consent order by seq");
    assert_eq!(words, ["0", "1", "0"], "what is only a repetition adds no word");
}
