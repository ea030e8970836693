//! The merge of rows and known leads: for all keys and sort orders of the source, each row finds its lead, and exactly
//! the leads without a row are missing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::{at, desired};
use crate::support::reading::open;
use conversica_sync::conversica::lead::{IdOrder, LeadId, RowHash};
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::send::merge::interest::MergeInterest;
use conversica_sync::send::merge::{MergeItem, MergeRequest, RowMerge};
use conversica_sync::store::{compare, lead};

on_both_engines!(
    single_leads_are_read_by_their_keys_whatever_type_these_have,
    a_reading_goes_on_behind_the_lead_that_it_had_come_to,
    a_page_of_the_state_comes_in_either_order,
);

/// The ids that a merge found: true for a row, false for a lead without one.
async fn merged(place: &Place, leads: &[&str], source: &str, scope: ReadScope) -> (BTreeMap<String, bool>, u64) {
    let state = place.engine.other().place().state().await;
    let changes: Vec<_> = leads.iter().map(|id| desired(id, "{}")).collect();
    lead::upsert(&state, &changes, at(0), at(0)).await.unwrap();
    let crm = open(place, source, "").await;
    let fitting = crm.fitting().await.unwrap();
    let mut merge = RowMerge::begin(
        &crm,
        &state,
        &fitting,
        MergeRequest { scope, interest: MergeInterest::Differences, now: at(0) },
    )
    .await
    .unwrap();
    let mut found = BTreeMap::new();
    while let Some(item) = merge.next().await.unwrap() {
        let (id, is_row) = match item {
            MergeItem::Row(mapped, known) => {
                assert_eq!(known.is_some(), leads.contains(&mapped.lead.id.as_str()), "{:?}", mapped.lead);
                (mapped.lead.id, true)
            }
            MergeItem::Missing(known) => (known.lead.id, false),
            MergeItem::Quiet => continue,
        };
        assert!(found.insert(id.clone(), is_row).is_none(), "{id} came twice");
    }
    (found, merge.rows())
}

fn keys(engine: Engine) -> impl Strategy<Value = (String, Vec<String>, Vec<String>)> {
    let whole = (0i64..3000).prop_map(|n| n.to_string());
    let signed = (-300i64..3000).prop_map(|n| n.to_string());
    let text = "[a-c0-9Ä-]{1,3}";
    let mixed = engine.pick("integer", "text");
    let sets = |column: &str, keys: BoxedStrategy<String>| {
        let column = column.to_owned();
        (proptest::collection::btree_set(keys.clone(), 0..40), proptest::collection::btree_set(keys, 0..40))
            .prop_map(move |(rows, leads)| (column.clone(), rows.into_iter().collect(), leads.into_iter().collect()))
    };
    prop_oneof![
        sets("integer primary key", whole.clone().boxed()),
        sets("bigint", whole.boxed()),
        sets("integer", signed.boxed()),
        sets("text", text.boxed()),
        sets("text primary key", text.boxed()),
        // In such a column SQLite turns any text that looks like a number into one.
        sets(
            mixed,
            prop_oneof!["[a-cÄ][a-c0-9Ä-]{0,2}".boxed(), (0i64..300).prop_map(|n| n.to_string()).boxed()].boxed()
        ),
    ]
}

mod law {
    use super::*;

    on_both_engines!(blocking: every_row_finds_its_lead_whatever_the_keys_are);
}

fn every_row_finds_its_lead_whatever_the_keys_are(engine: Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&keys(engine), |(column, rows, leads)| {
            runtime.block_on(async {
                let place = engine.place();
                place.sql(&format!("create table leads (id {column}, town text)")).await;
                for row in &rows {
                    place.sql(&format!("insert into leads values ('{row}', 'Ulm')")).await;
                }
                let leads: Vec<&str> = leads.iter().map(String::as_str).collect();
                let (found, read) = merged(&place, &leads, "table = 'leads'\nkey = 'id'", ReadScope::All).await;
                let mut expected: BTreeMap<String, bool> = leads.iter().map(|id| ((*id).to_owned(), false)).collect();
                expected.extend(rows.iter().map(|id| (id.clone(), true)));
                assert_eq!(found, expected, "{column}");
                assert_eq!(read, rows.len() as u64);
            });
            Ok(())
        })
        .unwrap();
}

async fn single_leads_are_read_by_their_keys_whatever_type_these_have(engine: Engine) {
    let types: Vec<(&str, [&str; 3])> = engine.pick(
        vec![
            ("integer", ["7", "12", "3"]),
            ("bigint primary key", ["7", "12", "3"]),
            ("text", ["7", "o'Neill", "a\"b"]),
            ("", ["7", "x", "y"]),
            ("decimal(9)", ["7", "12", "3"]),
        ],
        vec![
            ("smallint", ["7", "12", "3"]),
            ("bigint primary key", ["7", "12", "3"]),
            ("text", ["7", "o'Neill", "a\\b"]),
            ("varchar(9)", ["7", "o'Neill", "a\\b"]),
            ("char(5)", ["7", "12", "3"]),
            ("numeric", ["7", "12", "3"]),
            (
                "uuid",
                [
                    "00000000-0000-4000-8000-000000000007",
                    "00000000-0000-4000-8000-000000000012",
                    "00000000-0000-4000-8000-000000000003",
                ],
            ),
        ],
    );
    for (column, [a, b, c]) in types {
        let place = engine.place();
        place.sql(&format!("create table leads (id {column}, town text)")).await;
        for key in [a, b, c] {
            place.sql(&format!("insert into leads values ('{}', 'Ulm')", key.replace('\'', "''"))).await;
        }
        place.sql(&format!("delete from leads where id = '{}'", c.replace('\'', "''"))).await;
        let lead = |id: &str| LeadId { id: id.to_owned(), client_id: String::new() };
        let scope = ReadScope::Keys(vec![lead(b), lead(c), lead(b)]);
        let (found, _) = merged(&place, &[a, b, c], "table = 'leads'\nkey = 'id'", scope).await;
        assert_eq!(found, BTreeMap::from([(b.to_owned(), true), (c.to_owned(), false)]), "{column}");
    }
}

async fn a_reading_goes_on_behind_the_lead_that_it_had_come_to(engine: Engine) {
    for (column, order) in [("integer", IdOrder::ByLength), ("text", IdOrder::Bytes)] {
        let place = engine.place();
        place.sql(&format!("create table leads (id {column}, town text)")).await;
        place.sql("insert into leads values (3, 'Ulm'), (8, 'Ulm'), (9, 'Ulm'), (10, 'Ulm'), (20, 'Ulm')").await;
        let after = LeadId { id: "9".to_owned(), client_id: String::new() };
        let scope = ReadScope::From(order, after.clone());
        let (found, read) = merged(&place, &["1", "5", "9", "15", "95"], "table = 'leads'\nkey = 'id'", scope).await;
        let expected: &[(&str, bool)] = match order {
            IdOrder::ByLength => &[("10", true), ("15", false), ("20", true), ("95", false)],
            IdOrder::Bytes => &[("95", false)],
        };
        assert_eq!(found, expected.iter().map(|(id, is_row)| ((*id).to_owned(), *is_row)).collect(), "{column}");
        assert_eq!(read as usize, expected.iter().filter(|(_, is_row)| *is_row).count());
        // The position says nothing about another order, so the source reads everything.
        let other = if order == IdOrder::Bytes { IdOrder::ByLength } else { IdOrder::Bytes };
        let (_, read) = merged(&place, &[], "table = 'leads'\nkey = 'id'", ReadScope::From(other, after)).await;
        assert_eq!(read, 5);
    }
}

async fn a_page_of_the_state_comes_in_either_order(engine: Engine) {
    let state = engine.place().state().await;
    let ids = ["", "10", "9", "a b", "-", "Ä", "0 0 - ."];
    let changes: Vec<_> = ids.iter().map(|id| desired(id, "{}")).collect();
    lead::upsert(&state, &changes, at(0), at(0)).await.unwrap();
    let hash = (changes[1].lead.clone(), RowHash(i64::MIN));
    compare::remember(&state, std::slice::from_ref(&hash)).await.unwrap();
    lead::mark_gone(&state, &[changes[2].lead.clone()], at(1)).await.unwrap();
    for (order, expected) in [
        (IdOrder::Bytes, ["", "-", "0 0 - .", "10", "9", "a b", "Ä"]),
        (IdOrder::ByLength, ["", "-", "9", "10", "Ä", "a b", "0 0 - ."]),
    ] {
        let mut leads = Vec::new();
        while let Some(page) =
            Some(compare::page(&state, order, leads.last(), 2, None).await.unwrap()).filter(|p| !p.is_empty())
        {
            for known in page {
                assert_eq!(known.row_hash, (known.lead == hash.0).then_some(hash.1));
                assert_eq!(known.gone, known.lead.id == "9");
                leads.push(known.lead);
            }
        }
        assert_eq!(leads.iter().map(|lead| lead.id.as_str()).collect::<Vec<_>>(), expected);
    }
}
