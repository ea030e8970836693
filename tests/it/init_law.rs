//! Rules for the proposals for any database: they name only columns that exist, each key once, and never panic.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use conversica_sync::config::FieldRule;
use conversica_sync::conversica::lead::LeadKey;
use conversica_sync::db;
use conversica_sync::rules::source_column::{RelationKind, TypeFamily};
use conversica_sync::setup::introspect::table::{ForeignKey, InspectedTable, TableColumn, UniqueKey};
use conversica_sync::setup::propose::proposal::{GivenValue, OperatorWishes, RowsPlace};
use conversica_sync::setup::propose::{SqlDialect, ancestors, names, propose, rank};

/// Names with a known meaning, and names without one.
fn name() -> impl Strategy<Value = String> {
    let lists = [names::FULL_NAME, names::CHANGED_AT, names::DELETED, names::OPT_IN, names::OTHER_CONSENT];
    let lists = LeadKey::ALL.iter().map(|key| names::of(*key)).chain(lists);
    let known: Vec<&str> = lists.flat_map(|list| list.split(' ')).filter(|name| !name.is_empty()).collect();
    prop_oneof![4 => select(known).prop_map(str::to_owned), 1 => "\\PC{1,12}", 1 => "[a-z\"' \n.]{1,6}"]
}

fn value() -> impl Strategy<Value = Option<String>> {
    let usual = [
        "1",
        "0",
        "ja",
        "nein",
        "ann@example.net",
        "2026-01-02 03:04:05",
        "Ann Bell",
        "Bell, Ann",
        "+1 555 0101",
        "{\"en_US\":\"New\"}",
        "",
    ];
    prop_oneof![1 => Just(None), 4 => select(usual.to_vec()).prop_map(|text| Some(text.to_owned())), 1 => "\\PC{0,9}".prop_map(Some)]
}

fn column() -> impl Strategy<Value = TableColumn> {
    let families = vec![
        TypeFamily::Text,
        TypeFamily::Integer,
        TypeFamily::Number,
        TypeFamily::Boolean,
        TypeFamily::Date,
        TypeFamily::Timestamp,
        TypeFamily::TimestampTz,
        TypeFamily::Uuid,
        TypeFamily::Json,
        TypeFamily::Other("inet".to_owned()),
    ];
    (name(), select(families), proptest::bool::weighted(0.9), any::<bool>(), vec(value(), 0..6)).prop_map(
        |(name, family, readable, not_null, samples)| TableColumn {
            name,
            type_name: "any".to_owned(),
            family,
            readable,
            not_null,
            samples,
        },
    )
}

fn table() -> impl Strategy<Value = InspectedTable> {
    let names =
        vec!["leads", "users", "crm_lead", "res_users", "mail_blacklist", "email_addresses", "sources", "odd \"name\""];
    let indices =
        (vec(any::<prop::sample::Index>(), 0..3), vec((any::<prop::sample::Index>(), select(names.clone())), 0..4));
    (select(names), vec(column(), 1..14), indices).prop_map(|(name, mut columns, (unique, references))| {
        let mut seen = BTreeSet::new();
        columns.retain(|column| seen.insert(column.name.to_lowercase()));
        let pick = |index: &prop::sample::Index| index.get(&columns).name.clone();
        let unique = unique.iter().enumerate();
        InspectedTable {
            schema: None,
            name: name.to_owned(),
            relation: RelationKind::Table,
            unique: unique
                .map(|(place, index)| UniqueKey { columns: vec![pick(index)], primary: place == 0 })
                .collect(),
            references: references
                .iter()
                .map(|(index, table)| ForeignKey {
                    column: pick(index),
                    schema: None,
                    table: (*table).to_owned(),
                    target: None,
                })
                .collect(),
            rows: Some(5),
            sampled: columns.iter().map(|column| column.samples.len()).max().unwrap_or(0),
            columns,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_proposal_names_only_what_is_there_and_each_key_once(
        catalog in vec(table(), 1..5),
        postgres: bool,
        inverted: bool,
    ) {
        let dialect = if postgres { SqlDialect::Postgres } else { SqlDialect::Sqlite };
        let base = &catalog[0];
        let given = if inverted { vec![(LeadKey::OptOut, GivenValue::Inverted(base.columns[0].name.clone()))] } else { Vec::new() };
        let proposal = propose(&catalog, 0, dialect, &OperatorWishes { given, ..OperatorWishes::default() });
        rank::candidates(&catalog);
        // Inherited columns count as the table's own.
        let record: Vec<&InspectedTable> = std::iter::once(0).chain(ancestors(&catalog, 0)).map(|index| &catalog[index]).collect();
        let is_there = |name: &str| record.iter().any(|table| table.columns.iter().any(|column| column.name == name));
        // A query names its columns; a table has its own.
        let offered = |name: &str| match &proposal.place {
            RowsPlace::Table { .. } => is_there(name),
            RowsPlace::Query(query) => query.contains(&format!(" AS {}", db::quote(name))) || (is_there(name) && query.contains(&format!(".{}", db::quote(name)))),
        };
        prop_assert!(proposal.key.iter().all(|key| offered(&key.what)));
        let mut keys = BTreeSet::new();
        for field in &proposal.fields {
            prop_assert!(keys.insert(field.key), "{} twice", field.key);
            if let FieldRule::Column { column, .. } = &field.rule {
                prop_assert!(offered(column), "{}: {column} in {proposal:#?}", field.key);
            }
        }
        for name in proposal.unmapped.iter().chain(proposal.consent.iter().map(|unmapped| &unmapped.column)) {
            prop_assert!(is_there(name));
        }
        // An opt-in column fills optOut only after the operator's decision.
        if let (false, Some(field)) = (inverted, proposal.field(LeadKey::OptOut))
            && let FieldRule::Column { column, .. } = &field.rule
        {
            prop_assert!(names::likeness(column, names::OPT_IN).is_none(), "{column}");
        }
        // The proposal mentions every column about consent.
        for column in base.columns.iter().filter(|column| names::likeness(&column.name, names::of(LeadKey::OptOut)).is_some()) {
            let mapped = !proposal.unmapped.contains(&column.name);
            prop_assert!(mapped, "{} is neither mapped nor named", column.name);
        }
    }
}
