//! Rows that share a key: their lead is invalid until one row is left, all other leads continue, and a withdrawal in any
//! of the rows counts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::at;
use crate::support::reading::open;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use conversica_sync::conversica::lead::LeadId;
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::send::merge::interest::MergeInterest;
use conversica_sync::send::merge::{MergeItem, MergeRequest, RowMerge};

blocking_on_both_engines!(
    a_doubled_key_stops_nobody_and_is_sent_by_neither_row,
    a_doubled_key_is_found_where_only_one_row_has_changed,
    what_one_of_the_rows_withdraws_is_withdrawn,
    plan_reconcile_and_lead_name_the_doubled_key,
);

/// No index on the key, a stamp for each row.
const TABLE: &str = "create table leads (id text, first_name text, last_name text, email text, owner_name text, \
                     opt_out integer not null default 0, conversation text, updated_at text)";

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(TABLE);
    scene.set_text("source", "changed_at", "updated_at");
    for id in 1..=3 {
        add(&scene, id, "Ann", "2026-01-01T00:00:00Z");
    }
    scene.run(&["once"]).expect_code(0);
    scene
}

fn add(scene: &Scene, id: u32, name: &str, stamp: &str) {
    scene.crm(&format!(
        "insert into leads (id, first_name, last_name, email, owner_name, updated_at) \
         values ('{id}', '{name}', 'Bell', 'ann{id}@example.com', 'Rae Rep', '{stamp}')"
    ));
}

/// One incremental pass with that exit code: 3 while the lead is invalid.
#[track_caller]
fn incremental(scene: &Scene, code: i32) -> Value {
    let document = scene.run(&["once", "--json"]).expect_code(code).json();
    assert_eq!(document["last_poll"]["kind"], "incremental", "{document:#}");
    document
}

fn a_doubled_key_stops_nobody_and_is_sent_by_neither_row(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    add(&scene, 3, "Copy", "2026-01-01T00:01:00Z");
    add(&scene, 3, "Another", "2026-01-01T00:01:00Z");
    scene.crm("update leads set opt_out = 1, updated_at = '2026-01-01T00:02:00Z' where id = '1'");
    assert_eq!(incremental(&scene, 3)["leads"]["invalid"], 1);
    assert_eq!(endpoint.bodies_of("1")[1]["optOut"], true);
    for arguments in [&["once", "--full"][..], &["once"], &["once", "--full"]] {
        scene.run(arguments).expect_code(3);
    }
    assert_eq!(endpoint.bodies_of("3").len(), 1, "neither of the rows");
    let invalid = scene.run(&["leads", "--status", "invalid"]).expect_code(0);
    assert!(invalid.stdout.contains("3 rows of the source have this key"), "{invalid}");
    // A deleted row leaves no stamp.
    scene.crm("delete from leads where first_name in ('Copy', 'Another')");
    assert_eq!(incremental(&scene, 0)["leads"]["in_sync"], 3);
    assert_eq!(endpoint.bodies_of("3").len(), 1, "Conversica holds this already");
    scene.crm("update leads set first_name = 'Anna', updated_at = '2026-01-01T00:03:00Z' where id = '3'");
    incremental(&scene, 0);
    assert_eq!(endpoint.bodies_of("3")[1]["firstName"], "Anna");
}

fn a_doubled_key_is_found_where_only_one_row_has_changed(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    // Older than every stamp that a poll reads.
    add(&scene, 3, "Copy", "2020-01-01T00:00:00Z");
    for (minute, row) in [(1, "Ann"), (2, "Copy"), (3, "Ann"), (4, "Copy")] {
        scene.crm(&format!(
            "update leads set last_name = 'Bell {minute}', updated_at = '2026-01-0{}T00:00:00Z' where id = '3' \
             and first_name = '{row}'",
            minute + 1
        ));
        assert_eq!(incremental(&scene, 3)["leads"]["invalid"], 1, "minute {minute}");
    }
    scene.run(&["once", "--full"]).expect_code(3);
    assert_eq!(endpoint.bodies_of("3").len(), 1);
}

fn what_one_of_the_rows_withdraws_is_withdrawn(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    add(&scene, 3, "Copy", "2020-01-01T00:00:00Z");
    add(&scene, 9, "New", "2026-01-01T00:01:00Z");
    add(&scene, 9, "New", "2026-01-01T00:01:00Z");
    scene.crm(
        "update leads set last_name = 'B', updated_at = '2026-01-01T00:01:00Z' where id = '3' and first_name = 'Ann'",
    );
    assert_eq!(incremental(&scene, 3)["leads"]["invalid"], 2);
    scene.crm("update leads set opt_out = 1, updated_at = '2026-01-01T00:02:00Z' where first_name in ('Copy', 'New')");
    incremental(&scene, 3);
    let bodies = endpoint.bodies_of("3");
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    assert_eq!((&bodies[1]["firstName"], &bodies[1]["optOut"]), (&json!("Ann"), &json!(true)), "with what it holds");
    assert_eq!(endpoint.bodies_of("9").len(), 0, "nobody has written to them");
    scene.run(&["once", "--full"]).expect_code(3);
    assert_eq!((endpoint.bodies_of("3").len(), scene.status()["leads"]["invalid"].clone()), (2, json!(2)), "once");
}

fn plan_reconcile_and_lead_name_the_doubled_key(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    add(&scene, 2, "Copy", "2026-01-01T00:01:00Z");
    add(&scene, 9, "New", "2026-01-01T00:01:00Z");
    add(&scene, 9, "New", "2026-01-01T00:01:00Z");
    let why = "2 rows of the source have this key";
    let plan = scene.run(&["plan", "--json"]).expect_code(3).json();
    assert_eq!((&plan["create"], &plan["invalid"], &plan["unchanged"]), (&json!(0), &json!(2), &json!(2)), "{plan:#}");
    assert!(plan["leads"][0]["reasons"][0].as_str().is_some_and(|reason| reason.contains(why)), "{plan:#}");
    let unread = scene.run(&["lead", "9"]).expect_code(0);
    assert!(unread.stdout.contains(why), "{unread}");
    scene.run(&["once"]).expect_code(3);
    let report = scene.run(&["reconcile", "--format", "json"]).expect_code(3).json();
    assert_eq!((&report["totals"]["invalid"], &report["totals"]["matched"]), (&json!(2), &json!(2)), "{report:#}");
    let lead = scene.run(&["lead", "2"]).expect_code(0);
    assert!(lead.stdout.contains(why), "{lead}");
}

mod in_a_merge {
    use super::*;

    on_both_engines!(
        rows_of_one_key_are_one_lead_wherever_a_batch_ends,
        the_client_tells_leads_apart_and_no_client_is_a_blank_one,
    );

    type Found = BTreeMap<(String, String), Result<(), String>>;

    async fn merged(engine: Engine, table: &str, source: &str) -> (Found, u64, u64) {
        let place = engine.place();
        place.sql(table).await;
        let state = engine.other().place().state().await;
        let crm = open(&place, source, "").await;
        let fitting = crm.fitting().await.unwrap();
        let mut merge = RowMerge::begin(
            &crm,
            &state,
            &fitting,
            MergeRequest { scope: ReadScope::All, interest: MergeInterest::Differences, now: at(0) },
        )
        .await
        .unwrap();
        let mut found = Found::new();
        while let Some(item) = merge.next().await.unwrap() {
            if let MergeItem::Row(mapped, _) = item {
                let LeadId { id, client_id } = mapped.lead;
                let what = mapped.desired.map(drop).map_err(|reasons| reasons.join("; "));
                assert!(found.insert((id.clone(), client_id), what).is_none(), "{id} came twice");
            }
        }
        (found, merge.rows(), merge.leads())
    }

    async fn rows_of_one_key_are_one_lead_wherever_a_batch_ends(engine: Engine) {
        let numbered = engine.pick("printf('k%04d', i)", "'k' || lpad(i::text, 4, '0')");
        for first in [996, 998, 999, 1000] {
            let rows = format!(
                "create table leads (id text); insert into leads with recursive n (i) as (select 1 union all select i + 1 from n \
                 where i < 2100) select {numbered} from n; \
                 insert into leads with recursive n (i) as (select 1 union all select i + 1 from n where i < 2500) \
                 select 'k2050' from n; \
                 insert into leads select id from leads where id in ('k{first:04}', 'k{:04}'); \
                 insert into leads select id from leads where id = 'k{first:04}'",
                first + 1
            );
            let (found, read, leads) = merged(engine, &rows, "table = 'leads'\nkey = 'id'").await;
            assert_eq!((read, leads, found.len()), (2100 + 2500 + 4, 2100, 2100), "{first}");
            let invalid: Vec<(&str, &str)> = found
                .iter()
                .filter_map(|((id, _), what)| Some((id.as_str(), what.as_ref().err()?.split(' ').nth(1)?)))
                .collect();
            let (a, b) = (format!("k{first:04}"), format!("k{:04}", first + 1));
            assert_eq!(invalid, [(a.as_str(), "4"), (b.as_str(), "2"), ("k2050", "2501")], "{first}");
        }
    }

    async fn the_client_tells_leads_apart_and_no_client_is_a_blank_one(engine: Engine) {
        let table = "create table leads (id text, dealer text); insert into leads values ('a', 'x'), ('b', 'x'), ('b', 'y'), \
                     ('c', 'z'), ('c', 'z'), ('c', 'z'), ('d', null), ('d', ''), ('d', 'x')";
        let (found, read, leads) = merged(engine, table, "table = 'leads'\nkey = 'id'\nclient = 'dealer'").await;
        assert_eq!((read, leads), (9, 6));
        let invalid: Vec<&(String, String)> =
            found.iter().filter(|(_, what)| what.is_err()).map(|(lead, _)| lead).collect();
        assert_eq!(invalid, [&("c".to_owned(), "z".to_owned()), &("d".to_owned(), String::new())]);
        let (found, ..) = merged(engine, table, "table = 'leads'\nkey = 'id'").await;
        let valid: Vec<&str> = found.iter().filter(|(_, what)| what.is_ok()).map(|((id, _), _)| id.as_str()).collect();
        assert_eq!(valid, ["a"]);
    }

    #[tokio::test]
    async fn keys_that_are_equal_as_texts_are_equal() {
        let table = "create table leads (id); insert into leads values (7), ('7'), (7.0), (x'37'), (8.0), ('9')";
        let (found, ..) = merged(Engine::Sqlite, table, "table = 'leads'\nkey = 'id'").await;
        let reason = found[&("7".to_owned(), String::new())].as_ref().unwrap_err();
        assert!(reason.contains("4 rows of the source have this key"), "{reason}");
        assert_eq!(found.len(), 3);
        let table = "create table leads (id jsonb); insert into leads values ('7'), ('\"7\"'), ('8')";
        let (found, ..) = merged(Engine::Postgres, table, "table = 'leads'\nkey = 'id'").await;
        assert!(found[&("7".to_owned(), String::new())].is_err() && found[&("8".to_owned(), String::new())].is_ok());
        let table = "create table people (id integer primary key); create table leads () inherits (people); \
                     insert into people values (1), (2); insert into leads values (2), (3)";
        let (found, ..) = merged(Engine::Postgres, table, "table = 'people'\nkey = 'id'").await;
        let valid: Vec<&str> = found.iter().filter(|(_, what)| what.is_ok()).map(|((id, _), _)| id.as_str()).collect();
        assert_eq!(valid, ["1", "3"], "a key of one table says nothing of those that inherit from it");
    }
}
