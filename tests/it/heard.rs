//! Stored posts and their effects: one picture a lead, in whatever batches the posts are applied; the consequences for
//! write-back, alerts and waiting leads.

use serde_json::{Value, json};

use crate::support::engine::{Engine, on_both_engines};
use crate::support::hearing::{ALL, apply_all, ask, store, update};
use crate::support::lead_row::{at, claim, claim_one, deliver, desired, finished, record, row, unknown_is, write};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    updates_of_many_leads_are_taken_into_their_pictures_once,
    what_is_news_is_kept_with_the_event,
    every_readable_post_waits_for_the_write_back_and_none_where_that_is_off,
    a_hot_lead_is_told_once_with_who_looks_after_it,
    a_word_about_a_lead_ends_the_wait_after_an_unknown_outcome,
    what_can_no_longer_be_read_blocks_nobody,
    two_that_take_in_at_once_take_each_event_once,
    a_look_that_finds_nothing_is_in_nobodys_way,
);

async fn picture(db: &StateDb, id: &str) -> Value {
    let text: String = on_state!(db, pool => {
        sqlx::query_scalar("select picture from conversation where id = $1").bind(id).fetch_one(pool).await.unwrap()
    });
    serde_json::from_str(&text).unwrap()
}

async fn updates_of_many_leads_are_taken_into_their_pictures_once(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for n in 0..700 {
        let body = json!({"id": (n % 300).to_string(), "leadStatus": format!("of {n}"), "leadStatusDate": "2026-01-01T00:00:00Z"});
        store(&db, PostKind::LeadUpdate, &body, at(n)).await;
    }
    assert_eq!(apply_all(&db, at(1000)).await.events, 500);
    assert_eq!(apply_all(&db, at(1000)).await.events, 200);
    assert_eq!(apply_all(&db, at(1000)).await.events, 0);
    assert_eq!(ask(&db, "select cast(count(*) as text) from conversation").await, ["300"]);
    assert_eq!(picture(&db, "7").await["leadStatus"], "of 7", "of equal dates the greater text");
    let heard: (i64, i64) = on_state!(&db, pool => {
        sqlx::query_as("select first_heard_at, last_heard_at from conversation where id = '7'").fetch_one(pool).await.unwrap()
    });
    assert_eq!(heard, (at(7).timestamp_micros(), at(607).timestamp_micros()));
    let message = json!({"id": "7", "action": "sent", "date": "2026-01-01T00:00:00Z", "body": "Hello"});
    let before = picture(&db, "7").await;
    store(&db, PostKind::Message, &message, at(2000)).await;
    apply_all(&db, at(2000)).await;
    assert_eq!(picture(&db, "7").await, before, "a message is no part of the picture");
    let last = ask(&db, "select cast(last_heard_at as text) from conversation where id = '7'").await;
    assert_eq!(last, [at(2000).timestamp_micros().to_string()]);
}

async fn what_is_news_is_kept_with_the_event(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let dated =
        |day: u8, yes: bool| json!({"id": "1", "hotLead": yes, "hotLeadDate": format!("2026-01-0{day}T00:00:00Z")});
    for body in [dated(2, true), dated(1, false)] {
        update(&db, body, at(1)).await;
    }
    let effects = ask(&db, "select effect from event order by seq").await;
    let effects: Vec<Value> = effects.iter().map(|effect| serde_json::from_str(effect).unwrap()).collect();
    assert_eq!(effects, [json!({"hotLead": true, "hotLeadDate": "2026-01-02T00:00:00Z"}), json!({})]);
}

async fn every_readable_post_waits_for_the_write_back_and_none_where_that_is_off(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let chat = json!({"firstName": "Ann", "lastName": "Lee", "email": "ann@example.com", "conversationHistory": "…"});
    store(&db, PostKind::LeadUpdate, &json!({"id": "1", "hotLead": true}), at(1)).await;
    store(&db, PostKind::ChatLead, &chat, at(1)).await;
    let applied = apply_all(&db, at(2)).await;
    assert!(applied.writeback);
    let waiting =
        ask(&db, "select status || ' ' || replace(lane, '\u{1f}', '/') from writeback order by event_seq").await;
    assert_eq!(waiting, ["waiting 1/", "waiting chat/2"]);
    assert_eq!(ask(&db, "select id from conversation").await, ["1"], "a chat lead has no id yet");
    store(&db, PostKind::LeadUpdate, &json!({"id": "2", "hotLead": true}), at(3)).await;
    let off = conversica_sync::store::heard::HeardPolicy { writeback: false, alerts: false, ..ALL };
    let applied = conversica_sync::store::heard::apply(&db, off, at(4)).await.unwrap();
    assert_eq!((applied.events, applied.writeback, applied.alerts), (1, false, 0));
    assert_eq!(ask(&db, "select cast(count(*) as text) from writeback").await, ["2"]);
    assert_eq!(ask(&db, "select cast(count(*) as text) from alert").await, ["1"]);
}

async fn a_hot_lead_is_told_once_with_who_looks_after_it(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let body = r#"{"id":"1","firstName":"Sally","email":"sally@example.com","repName":"Rae Rep","repEmail":"rae@example.com"}"#;
    deliver(&db, desired("1", body), 0).await;
    let hot = |day: u8, more: &str| json!({"id": "1", "hotLead": true, "hotLeadDate": format!("2026-01-0{day}T00:00:00Z"), "discoveredPhone1": more});
    for (n, body) in (1..).zip([hot(1, "555"), hot(1, "556"), hot(2, "557"), hot(1, "558")]) {
        update(&db, body, at(n)).await;
    }
    let occasions = ask(&db, "select occasion from alert order by seq").await;
    assert_eq!(occasions, ["hot_lead/1//2026-01-01T00:00:00Z", "hot_lead/1//2026-01-02T00:00:00Z"]);
    let bodies = ask(&db, "select body from alert order by seq").await;
    let body: Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(
        (&body["kind"], &body["rep_name"], &body["rep_email"]),
        (&json!("hot_lead"), &json!("Rae Rep"), &json!("rae@example.com"))
    );
    for personal in ["Sally", "sally@", "555"] {
        assert!(!bodies[0].contains(personal), "{}", bodies[0]);
    }
}

async fn a_word_about_a_lead_ends_the_wait_after_an_unknown_outcome(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a"), desired("2", "a"), desired("3", "a")], 0).await;
    let claims = claim(&db, 10, 1).await;
    for one in &claims {
        let class = if one.lead.id == "3" { OutcomeClass::Transient } else { OutcomeClass::Ambiguous };
        record(&db, &[finished(one, class, NextStep::RetryAt(at(3600)), 10)]).await;
    }
    let earlier = update(&db, json!({"id": "1", "hotLead": true}), at(5)).await;
    assert_eq!((earlier.due, row(&db, "1").await.due_at), (0, Some(3600)), "heard before it was sent");
    let message = |id: &str| json!({"id": id, "action": "sent", "date": "2026-01-01T00:00:00Z", "body": "Hello"});
    for id in ["1", "3"] {
        store(&db, PostKind::Message, &message(id), at(20)).await;
    }
    assert_eq!(apply_all(&db, at(21)).await.due, 1);
    assert_eq!(claim_one(&db, 21).await.lead.id, "1");
    let settings = unknown_is(OnAmbiguous::Wait);
    assert_eq!(orphan::recover(&db, OrphanScope::All, &settings, at(22)).await.unwrap(), 1);
    update(&db, json!({"id": "1", "hotLead": false}), at(30)).await;
    assert_eq!(claim_one(&db, 31).await.lead.id, "1", "the end of the program is an unknown outcome too");
}

async fn what_can_no_longer_be_read_blocks_nobody(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    store(&db, PostKind::LeadUpdate, &json!({"id": "1", "hotLead": true}), at(1)).await;
    let broken = engine.pick("update event set body = x'7b'", "update event set body = '\\x7b'");
    match engine {
        Engine::Sqlite => place.sql(broken).await,
        Engine::Postgres => place.sql(&broken.replace("event", "conversica_sync.event")).await,
    }
    let applied = update(&db, json!({"id": "2", "hotLead": true}), at(2)).await;
    assert_eq!((applied.events, applied.unreadable), (2, 1));
    assert_eq!(ask(&db, "select id from conversation").await, ["2"]);
    assert_eq!(ask(&db, "select id from event where problem like '%not valid JSON%'").await, ["1"]);
    // The event was searched for a trace of an opt-out with the others, and is not applied again.
    assert_eq!(ask(&db, "select id from event where examined_at is not null").await, ["1"]);
    assert_eq!(apply_all(&db, at(3)).await.events, 0);
}

async fn two_that_take_in_at_once_take_each_event_once(engine: Engine) {
    let place = engine.place();
    let (one, other) = (place.state().await, place.state().await);
    for n in 0..1500 {
        store(&one, PostKind::LeadUpdate, &json!({"id": "1", "hotLead": n % 2 == 0, "mood": n}), at(n)).await;
    }
    let take = async |db: &StateDb| {
        let mut events = 0;
        while ask(db, "select 'x' from event where applied_at is null limit 1").await.len() == 1 {
            events += apply_all(db, at(2000)).await.events;
        }
        events
    };
    let (a, b) = tokio::join!(take(&one), take(&other));
    assert_eq!(a + b, 1500);
    assert_eq!(picture(&one, "1").await["mood"], 1499);
    assert_eq!(ask(&one, "select cast(count(*) as text) from alert").await, ["750"]);
}

async fn a_look_that_finds_nothing_is_in_nobodys_way(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for n in 0..100 {
        assert_eq!(apply_all(&db, at(n)).await.events, 0);
        assert_eq!(update(&db, json!({"id": "1", "mood": n}), at(n)).await.events, 1, "look {n}");
    }
}
