//! Reading the customer's database as it is: tables, views, queries, names of every kind, order, tenants, time zones.

use serde_json::Value;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::row;
use crate::support::reading::{ids, open, poll, read, refusal, rows, settings};
use conversica_sync::conversica::lead::LeadId;
use conversica_sync::db;
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::source::read::PreparedReading;
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    a_view_is_as_good_as_a_table,
    a_table_in_another_schema_is_found_by_its_qualified_name,
    a_query_joins_renames_and_may_end_in_a_semicolon_and_a_comment,
    a_condition_keeps_its_meaning_whatever_it_contains,
    names_with_quotes_spaces_and_capitals_are_taken_as_they_are,
    rows_come_in_byte_order_whatever_the_collation,
    numbers_as_keys_are_ordered_as_text,
    the_client_is_part_of_the_identity,
    timestamps_without_a_zone_are_taken_in_the_zone_of_the_settings,
    a_missing_column_is_named_with_the_nearest_that_is_there,
    a_mistyped_table_is_answered_with_the_tables_there_are,
    a_query_that_does_not_parse_is_named,
    a_column_that_is_there_twice_is_named,
    a_blank_key_makes_an_invalid_lead_once,
    nothing_can_be_written_through_the_source,
    a_statement_that_runs_away_is_cut_off,
    time_that_we_take_over_the_rows_is_not_the_databases,
);

const LEADS: &str = "table = 'leads'\nkey = 'id'";

/// Creates `leads` with these names under the ids 1, 2, 3, …
async fn named(place: &Place, names: &[&str]) {
    let values: Vec<String> = names.iter().zip(1..).map(|(name, id)| format!("({id}, '{name}')")).collect();
    let values = values.join(", ");
    place.sql(&format!("create table leads (id integer, name text); insert into leads values {values}")).await;
}

fn plain(ids: &[LeadId]) -> Vec<&str> {
    ids.iter().map(|lead| lead.id.as_str()).collect()
}

/// The value of a key in every valid lead.
async fn values(place: &Place, source: &str, lead: &str, key: &str) -> Vec<String> {
    let rows = read(place, source, lead).await;
    let value =
        |body: String| serde_json::from_str::<Value>(&body).unwrap()[key].as_str().unwrap_or("(none)").to_owned();
    rows.into_iter().filter_map(|row| row.desired.ok()).map(value).collect()
}

async fn a_view_is_as_good_as_a_table(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann", "Bob"]).await;
    place.sql("create view good_leads as select id, upper(name) as name from leads where id > 1").await;
    let source = "table = 'good_leads'\nkey = 'id'";
    assert_eq!(values(&place, source, "lastName = 'name'", "lastName").await, ["BOB"]);
}

async fn a_table_in_another_schema_is_found_by_its_qualified_name(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    if engine == Engine::Postgres {
        place.sql("create schema \"Crm\"; create table \"Crm\".leads as select 9 as id, 'Eve' as name").await;
    }
    let (source, name) = engine.pick(("table = 'main.leads'", "Ann"), ("table = 'Crm.leads'", "Eve"));
    assert_eq!(values(&place, &format!("{source}\nkey = 'id'"), "lastName = 'name'", "lastName").await, [name]);
}

async fn a_query_joins_renames_and_may_end_in_a_semicolon_and_a_comment(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann;--", "Bob"]).await;
    place.sql("create table owners (lead integer, owner text); insert into owners values (1, 'Zoë'), (2, 'Max')").await;
    let select = "select l.id as lead_id, l.name || ' of ' || o.owner as \"Label\" from leads l \
                  join owners o on o.lead = l.id";
    for end in
        ["", ";", " ; ", " -- all of them", ";\n-- all of them", "; -- all; of 'them", " /* all */ ;", "; /* ; */\n"]
    {
        let source = format!("query = '''{select}{end}'''\nkey = 'lead_id'");
        let found = values(&place, &source, "lastName = 'Label'", "lastName").await;
        assert_eq!(found, ["Ann;-- of Zoë", "Bob of Max"], "{end:?}");
    }
    let source = "query = '''select * from leads where name = 'Ann;--' '''\nkey = 'id'";
    assert_eq!(plain(&ids(&place, source).await), ["1"]);
}

async fn a_condition_keeps_its_meaning_whatever_it_contains(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann", "Bob", "Cem"]).await;
    for (condition, found) in [
        ("name = 'Ann' or name = 'Cem'", vec!["1", "3"]),
        ("name <> 'Ann' -- not her", vec!["2", "3"]),
        ("t.id in (select max(id) from leads)", vec!["3"]),
        ("1 = 0", vec![]),
    ] {
        let source = format!("{LEADS}\nwhere = '''{condition}'''");
        assert_eq!(plain(&ids(&place, &source).await), found, "{condition}");
    }
}

async fn names_with_quotes_spaces_and_capitals_are_taken_as_they_are(engine: Engine) {
    let place = engine.place();
    place
        .sql(r#"create table "My ""odd"" Leads" ("The ""Key""" integer, "E-Mail; drop" text, "Größe" text, "select" text);
               insert into "My ""odd"" Leads" values (1, 'a@example.com', 'XL', 'x')"#)
        .await;
    let source = r#"table = '"My ""odd"" Leads"'
key = 'The "Key"'"#;
    let lead = "lastName = 'E-Mail; drop'\ncity = 'Größe'\nzip = 'select'";
    let rows = read(&place, source, lead).await;
    let body: Value = serde_json::from_str(rows[0].desired.as_ref().unwrap()).unwrap();
    assert_eq!(body["lastName"], "a@example.com");
    assert_eq!((&body["city"], &body["zip"], &body["id"]), (&"XL".into(), &"x".into(), &"1".into()));
}

async fn rows_come_in_byte_order_whatever_the_collation(engine: Engine) {
    let place = engine.place();
    let collation = engine.pick("nocase", "\"und-x-icu\"");
    let keys = ["a", "B", "Z", "é", "e", "z", "ß", "-", "_", "10", "9", "ab", "a b", "\u{fffd}", "\u{1f600}", "Ä"];
    let list = keys.map(|key| format!("('{key}')")).join(", ");
    place.sql(&format!("create table leads (id text collate {collation}); insert into leads values {list}")).await;
    let mut sorted = keys;
    sorted.sort_unstable();
    assert_eq!(plain(&ids(&place, LEADS).await), sorted);
}

async fn numbers_as_keys_are_ordered_as_text(engine: Engine) {
    let place = engine.place();
    place.sql("create table leads (id bigint primary key); insert into leads values (9), (10), (-1), (100), (2)").await;
    assert_eq!(plain(&ids(&place, LEADS).await), ["-1", "10", "100", "2", "9"]);
}

async fn the_client_is_part_of_the_identity(engine: Engine) {
    let place = engine.place();
    place
        .sql(
            "create table leads (id integer, dealer text); insert into leads values \
              (1, 'b'), (1, 'a'), (2, 'a'), (1, null), (3, null), (4, ' a')",
        )
        .await;
    let source = format!("{LEADS}\nclient = 'dealer'");
    let config = settings(&place, &source, "");
    let crm = open(&place, &source, "").await;
    let rows = rows(&crm).await;
    let found: Vec<(&str, &str)> = rows.iter().map(|row| (row.lead.id.as_str(), row.lead.client_id.as_str())).collect();
    assert_eq!(found, [("1", ""), ("1", "a"), ("1", "b"), ("2", "a"), ("3", ""), ("4", " a")]);
    let client =
        |n: usize| serde_json::from_str::<Value>(rows[n].desired.as_ref().unwrap()).unwrap()["clientId"].clone();
    assert_eq!((client(0), client(1), client(2)), (Value::Null, "a".into(), "b".into()));
    let reasons = rows[5].desired.as_ref().expect_err("\" a\" would be sent as \"a\", which is somebody else");
    assert!(reasons[0].starts_with("clientId: "), "{reasons:?}");

    let state = StateDb::open_state_in_memory().await.unwrap();
    assert_eq!(poll(&crm, &state, &config).await.unwrap().rows, 6);
}

async fn timestamps_without_a_zone_are_taken_in_the_zone_of_the_settings(engine: Engine) {
    let place = engine.place();
    let aware = engine.pick("text", "timestamptz");
    place
        .sql(&format!("create table leads (id integer, naive timestamp, aware {aware}); insert into leads values \
                       (1, '2026-07-01 12:00:00', '2026-07-01 12:00:00+00'), (2, '2026-01-01 12:00:00', '2026-01-01 12:00:00+02')"))
        .await;
    let source = format!("{LEADS}\ntime_zone = 'America/New_York'");
    let naive = values(&place, &source, "date = 'naive'", "date").await;
    assert_eq!(naive, ["2026-07-01T16:00:00+00:00", "2026-01-01T17:00:00+00:00"]);
    let aware = values(&place, &source, "date = 'aware'", "date").await;
    assert_eq!(aware, ["2026-07-01T12:00:00+00:00", "2026-01-01T10:00:00+00:00"]);
}

async fn a_missing_column_is_named_with_the_nearest_that_is_there(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    let refused = refusal(&place, LEADS, "lastName = 'nmae'\ncity = 'town_of_birth'").await;
    assert!(
        refused.what.contains("no column \"nmae\", which [lead] lastName asks for (did you mean \"name\"?)"),
        "{refused}"
    );
    assert!(refused.what.contains("no column \"town_of_birth\", which [lead] city asks for"), "{refused}");
    assert!(refused.cure.contains("id, name"), "{refused}");
    let refused = refusal(&place, "table = 'leads'\nkey = 'idd'\nclient = 'dealer'", "").await;
    assert!(refused.what.contains("[source] key") && refused.what.contains("[source] client"), "{refused}");
    let refused = refusal(&place, &format!("{LEADS}\nchanged_at = 'updated_at'"), "").await;
    assert!(refused.what.contains("[source] changed_at"), "{refused}");
}

async fn a_mistyped_table_is_answered_with_the_tables_there_are(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    place.sql("create view contacts as select * from leads").await;
    let refused = refusal(&place, "table = 'laeds'\nkey = 'id'", "").await;
    assert!(refused.what.contains("[source] table laeds"), "{refused}");
    assert!(refused.cure.contains("did you mean \"leads\"?") && refused.cure.contains("contacts, leads"), "{refused}");
    let refused = refusal(&place, &format!("{LEADS}\nwhere = 'nmae = 1'"), "").await;
    assert!(refused.what.contains("nmae") && refused.cure.contains("[source] where"), "{refused}");
}

async fn a_query_that_does_not_parse_is_named(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    let refused = refusal(&place, "query = 'selct * from leads'\nkey = 'id'", "").await;
    assert!(refused.what.starts_with("[source] query") && refused.what.contains("syntax error"), "{refused}");
}

async fn a_column_that_is_there_twice_is_named(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    place.sql("create table owners (id integer, lead integer); insert into owners values (5, 1)").await;
    let source = "query = 'select * from leads l join owners o on o.lead = l.id'\nkey = 'id'";
    match engine {
        // SQLite renames the second column.
        Engine::Sqlite => assert_eq!(plain(&ids(&place, source).await), ["1"]),
        Engine::Postgres => {
            let refused = refusal(&place, source, "").await;
            assert!(refused.what.contains("2 columns are called \"id\", which [source] key asks for"), "{refused}");
        }
    }
}

async fn a_blank_key_makes_an_invalid_lead_once(engine: Engine) {
    let place = engine.place();
    place.sql("create table leads (id text); insert into leads values ('a'), (''), (' b')").await;
    let (crm, config) = (open(&place, LEADS, "").await, settings(&place, LEADS, ""));
    let state = StateDb::open_state_in_memory().await.unwrap();
    let first = poll(&crm, &state, &config).await.unwrap();
    assert_eq!((first.rows, first.created, first.invalid), (3, 1, 2));
    assert_eq!(row(&state, "").await.status, "invalid");
    assert_eq!(poll(&crm, &state, &config).await.unwrap().changed, 0);
    place.sql("delete from leads where id = ''").await;
    assert_eq!(poll(&crm, &state, &config).await.unwrap().gone, 1);
}

async fn nothing_can_be_written_through_the_source(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    let crm = open(&place, LEADS, "").await;
    for statement in ["insert into leads values (2, 'Bob')", "delete from leads", "create table mine (id integer)"] {
        let done = on_source!(&crm.db, pool => sqlx::query(statement).execute(pool).await.map(drop));
        let said = done.expect_err("the session is read-only").to_string();
        assert!(said.contains("read-only") || said.contains("readonly"), "{statement}: {said}");
    }
    assert_eq!(ids(&place, LEADS).await.len(), 1);
}

async fn a_statement_that_runs_away_is_cut_off(engine: Engine) {
    let place = engine.place();
    named(&place, &["Ann"]).await;
    let query = engine.pick(
        "with recursive n (i) as (select 1 union all select i + 1 from n) select i as id from n where i < 0",
        "select 1 as id from pg_sleep(600)",
    );
    let crm = open(&place, &format!("query = '{query}'\nkey = 'id'\nstatement_timeout = '1s'"), "").await;
    let fitting = crm.fitting().await.unwrap();
    let started = std::time::Instant::now();
    let error = PreparedReading::new(&crm, &fitting, ReadScope::All).start(&crm.db).next().await.unwrap_err();
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(db::is_away(&anyhow::Error::from(error)), "a later poll may have more luck");
    let one: i64 = on_source!(&crm.db, pool => {
        sqlx::query_scalar("select cast(1 as bigint)").fetch_one(pool).await
    })
    .expect("the connection serves on");
    assert_eq!(one, 1);
}

async fn time_that_we_take_over_the_rows_is_not_the_databases(engine: Engine) {
    let place = engine.place();
    // More than all buffers between the database and the program hold.
    let rows = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 40000)";
    let wide = engine.pick("printf('%0500d', i)", "lpad(i::text, 500, '0')");
    place.sql("create table leads (id integer, name text)").await;
    place.sql(&format!("insert into leads {rows} select i, {wide} from n")).await;
    let crm = open(&place, "table = 'leads'\nkey = 'id'\nstatement_timeout = '3s'", "lastName = 'name'").await;
    let fitting = crm.fitting().await.unwrap();
    let mut batches = PreparedReading::new(&crm, &fitting, ReadScope::All).start(&crm.db);
    let mut read = batches.next().await.unwrap().expect("rows").len();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    while let Some(batch) = batches.next().await.expect("the database was not silent: nobody asked it") {
        read += batch.len();
    }
    assert_eq!(read, 40_000);
}
