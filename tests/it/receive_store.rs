//! Storing posts, on both engines: each content once, every arrival counted, also with concurrent writers.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::postgres::cluster;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::state_db::StateDb;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).expect("an instant")
}

fn update(id: &str, more: &str) -> PostArrival {
    PostArrival::of(PostKind::LeadUpdate, format!("{{\"id\":\"{id}\"{more}}}").into_bytes(), false)
}

/// Each event's id, repeats, and the second of its newest repeat.
async fn events(db: &StateDb) -> Vec<(String, i64, Option<i64>)> {
    let sql = "select id, repeats, repeated_at from event order by seq";
    let rows: Vec<(String, i64, Option<i64>)> =
        on_state!(db, pool => sqlx::query_as(sql).fetch_all(pool).await).expect("rows");
    let second = |micros: i64| micros / 1_000_000 - 1_800_000_000;
    rows.into_iter().map(|(id, repeats, repeated_at)| (id, repeats, repeated_at.map(second))).collect()
}

async fn counts(db: &StateDb) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = on_state!(db, pool => {
        sqlx::query_as("select name, count from received_count").fetch_all(pool).await
    })
    .expect("rows");
    rows.into_iter().collect()
}

fn counted<const N: usize>(counts: [(&str, i64); N]) -> BTreeMap<String, i64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

async fn repeats_are_counted_on_the_event_that_they_repeat(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    event::store(&db, &[], at(0)).await.expect("nothing is stored");
    let first = [update("b", ""), update("a", ""), update("b", "")];
    event::store(&db, &first, at(1)).await.expect("stored");
    assert_eq!(events(&db).await, [("b".to_owned(), 1, Some(1)), ("a".to_owned(), 0, None)], "in their order");
    let again = [update("c", ""), update("a", ""), update("a", ""), update("b", "")];
    event::store(&db, &again, at(2)).await.expect("stored");
    let expected = [("b".to_owned(), 2, Some(2)), ("a".to_owned(), 2, Some(2)), ("c".to_owned(), 0, None)];
    assert_eq!(events(&db).await, expected);
    assert_eq!(counts(&db).await, counted([("lead_update", 3), ("repeat", 4), ("unknown_lead", 3)]));
}

async fn what_is_worth_a_look_is_counted_once(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    // The minimum of a lead row that makes the lead known.
    let table = engine.pick("lead", "conversica_sync.lead");
    let hash = engine.pick("x'00'", "'\\x00'");
    place
        .sql(&format!(
            "insert into {table} (id, client_id, status, desired_hash, attempts, changed_at) \
             values ('1', '', 'in_sync', {hash}, 0, 0)"
        ))
        .await;
    let chat = br#"{"firstName":"A","lastName":"B","email":"C","conversationHistory":[]}"#.to_vec();
    let batch = [
        update("1", r#","clientId":"c","leadStatus":"Lukewarm""#),
        update("2", r#","leadStatus":"Hot Lead""#),
        PostArrival::of(PostKind::ChatLead, chat, false),
        PostArrival::of(PostKind::Message, b"\0\xff".to_vec(), false),
        update("1", r#","clientId":"c","leadStatus":"Lukewarm""#),
    ];
    for second in 0..2 {
        event::store(&db, &batch, at(second)).await.expect("stored");
    }
    let expected = [
        ("chat_lead", 1),
        ("lead_update", 2),
        ("outside_vocabulary", 1),
        ("repeat", 6),
        ("unknown_lead", 1),
        ("unreadable", 1),
    ];
    assert_eq!(counts(&db).await, counted(expected));
}

async fn whoever_stores_the_same_at_the_same_time_none_fails(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let mut tasks = tokio::task::JoinSet::new();
    for instance in 0..4_usize {
        let other = if engine == Engine::Postgres { place.state().await } else { db.clone() };
        tasks.spawn(async move {
            for round in 0..20_usize {
                let mut batch: Vec<PostArrival> = (0..30).map(|n| update(&format!("{round}-{n}"), "")).collect();
                batch.rotate_left(instance * 7);
                if instance % 2 == 1 {
                    batch.reverse();
                }
                event::store(&other, &batch, at(0)).await.expect("stored");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no store fails");
    }
    let events = events(&db).await;
    assert_eq!(events.len(), 600);
    assert!(events.iter().all(|(_, repeats, _)| *repeats == 3));
    assert_eq!(counts(&db).await, counted([("lead_update", 600), ("repeat", 1800), ("unknown_lead", 600)]));
}

/// For all posts in all batches: each content is stored once, and the arrivals add up.
async fn every_arrival_is_an_event_or_a_repeat(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let batches = prop::collection::vec(prop::collection::vec((0..8_u8, 0..3_u8), 0..12), 0..5);
    for _ in 0..40 {
        let batches = batches.new_tree(&mut runner).expect("a value").current();
        place
            .sql(engine.pick(
                "delete from event; delete from received_count",
                "delete from conversica_sync.event; delete from conversica_sync.received_count",
            ))
            .await;
        let mut distinct = BTreeSet::new();
        let mut arrivals = 0;
        for batch in &batches {
            let batch: Vec<PostArrival> = batch
                .iter()
                .map(|(id, shape)| {
                    arrivals += 1;
                    distinct.insert((*id, *shape / 2));
                    // Two shapes of the same content, and a third that cannot be read.
                    let body = match shape {
                        0 => format!("{{\"id\":\"{id}\",\"hotLead\":true}}"),
                        1 => format!("{{\"hotLead\":true,\"leadId\":{id}}}"),
                        _ => format!("unreadable {id}"),
                    };
                    PostArrival::of(PostKind::LeadUpdate, body.into_bytes(), false)
                })
                .collect();
            event::store(&db, &batch, at(0)).await.expect("stored");
        }
        let events = events(&db).await;
        assert_eq!(events.len(), distinct.len(), "{batches:?}");
        let repeats: i64 = events.iter().map(|(_, repeats, _)| repeats).sum();
        assert_eq!(events.len() as i64 + repeats, arrivals, "{batches:?}");
        let counts = counts(&db).await;
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        assert_eq!((count("lead_update") + count("unreadable"), count("repeat")), (events.len() as i64, repeats));
    }
}

on_both_engines! {
    repeats_are_counted_on_the_event_that_they_repeat,
    what_is_worth_a_look_is_counted_once,
    whoever_stores_the_same_at_the_same_time_none_fails,
    every_arrival_is_an_event_or_a_repeat,
}

#[tokio::test]
async fn a_commit_is_on_the_disk_whatever_the_server_is_used_to() {
    let database = cluster().database();
    database.sql(&format!("alter database {} set synchronous_commit = off", database.name));
    let place = Place::at(Engine::Postgres, database.url);
    let StateDb::Postgres(pool) = place.state().await else { panic!("a PostgreSQL state") };
    let in_force: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&pool).await.expect("a setting");
    assert_eq!(in_force, "on");
}
