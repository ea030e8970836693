//! Each failure of the customer's database is answered with what cures it: a table's name is named only where that is wrong.

use conversica_sync::config::Settings;
use conversica_sync::crm::Crm;
use conversica_sync::db::Db;
use conversica_sync::error::SetupError;
use conversica_sync::state::control::{self, LastPoll};

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::reading::{poll, refusal, settings};

on_both_engines!(
    a_condition_that_names_what_is_not_there_is_told_from_the_table,
    a_database_without_tables_is_not_answered_with_an_empty_list,
);

const LEADS: &str = "table = 'leads'\nkey = 'id'";
const NO_TABLE_TO_CHOOSE: &str = "that is there: none";

async fn filled(engine: Engine) -> Place {
    let place = engine.place();
    place.sql("create table leads (id integer primary key, name text); insert into leads values (1, 'Ann')").await;
    place
}

/// The same database for a role of its own, which may do what `grants` says, with `%` for its name.
async fn seen_by(place: &Place, role: &str, grants: &str) -> Place {
    place.sql(&format!("drop role if exists {role}; create role {role} login; {}", grants.replace('%', role))).await;
    Place::at(Engine::Postgres, place.url.replace("postgres@", &format!("{role}@")))
}

/// A daemon's connection, and its state, after a first poll that went well.
struct PolledSource {
    crm: Crm,
    settings: Settings,
    state: Db,
    _state_place: Place,
}

impl PolledSource {
    async fn new(place: &Place) -> Self {
        let settings = settings(place, LEADS, "city = 'name'");
        let crm = Crm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let state_place = Engine::Sqlite.place();
        let polled = Self { crm, settings, state: state_place.state().await, _state_place: state_place };
        assert_eq!(poll(&polled.crm, &polled.state, &polled.settings).await.unwrap().created, 1);
        polled
    }

    /// What the next poll says that fails; `status` says the same.
    async fn refusal(&self) -> SetupError {
        let error = poll(&self.crm, &self.state, &self.settings).await.expect_err("the poll fails");
        let last = control::read::<LastPoll>(&self.state).await.unwrap().unwrap();
        let refused = error.downcast::<SetupError>().unwrap_or_else(|other| panic!("no cure: {other:#}"));
        let said = last.error.expect("status says it");
        assert!(said.contains(&refused.cure) && !said.contains(NO_TABLE_TO_CHOOSE), "{said}");
        refused
    }
}

async fn a_condition_that_names_what_is_not_there_is_told_from_the_table(engine: Engine) {
    let place = filled(engine).await;
    let refused = refusal(&place, &format!("{LEADS}\nwhere = 'id in (select id from leads_of_today)'"), "").await;
    assert!(refused.what.contains("leads_of_today"), "{refused}");
    assert!(refused.cure.contains("[source] where") && !refused.cure.contains("set [source] table"), "{refused}");
    let refused = refusal(&place, &format!("{LEADS}\nwhere = 'nmae is not null'"), "").await;
    assert!(refused.cure.contains("did you mean \"name\"?") && refused.cure.contains("[source] where"), "{refused}");
    let refused = refusal(&place, "query = 'select * from laeds'\nkey = 'id'", "").await;
    assert!(refused.cure.contains("[source] query") && refused.cure.contains("leads"), "{refused}");
}

async fn a_database_without_tables_is_not_answered_with_an_empty_list(engine: Engine) {
    let place = filled(engine).await;
    let (theirs, words) = match engine {
        Engine::Sqlite => {
            place.sql("drop table leads").await;
            (place, vec!["[source] url", "no table"])
        }
        Engine::Postgres => {
            place.sql("revoke usage on schema public from public").await;
            let theirs = seen_by(&place, "sees_nothing", "").await;
            (theirs, vec!["grant", "search_path", "[source] url"])
        }
    };
    let refused = refusal(&theirs, LEADS, "").await;
    assert!(words.iter().all(|word| refused.cure.contains(word)), "{refused}");
    assert!(!refused.to_string().contains(": none"), "{refused}");
}

#[tokio::test]
async fn a_role_that_loses_a_right_while_polls_run_is_told_which() {
    let place = filled(Engine::Postgres).await;
    let theirs = seen_by(&place, "loses_rights", "grant select on leads to %").await;
    let polled = PolledSource::new(&theirs).await;
    place.sql("revoke select on leads from loses_rights").await;
    let refused = polled.refusal().await;
    assert!(refused.what.starts_with("[source] table leads") && refused.cure.contains("select on it"), "{refused}");
    place.sql("grant select on leads to loses_rights").await;
    assert_eq!(poll(&polled.crm, &polled.state, &polled.settings).await.unwrap().rows, 1, "it goes on by itself");

    place
        .sql(
            "alter role loses_rights nologin; \
             select pg_terminate_backend(pid) from pg_stat_activity where usename = 'loses_rights'",
        )
        .await;
    let refused = polled.refusal().await;
    assert!(refused.what.starts_with("[source] url") && refused.cure.contains("log in"), "{refused}");
}

#[tokio::test]
async fn a_table_of_another_schema_is_proposed_with_its_schema() {
    let place = Engine::Postgres.place();
    place.sql("create schema sales; create table sales.leads (id integer primary key)").await;
    let refused = refusal(&place, LEADS, "").await;
    assert!(refused.cure.contains("did you mean \"sales.leads\"?"), "{refused}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_question_of_the_url() {
    let place = filled(Engine::Postgres).await;
    let elsewhere = Place::at(Engine::Postgres, place.url.replacen("/test_", "/absent_", 1));
    let refused = refusal(&elsewhere, LEADS, "").await;
    assert!(refused.cure.contains("name a database that is there"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_overwritten_with_something_else_is_a_question_of_the_file() {
    let place = filled(Engine::Sqlite).await;
    let polled = PolledSource::new(&place).await;
    std::fs::write(place.directory().join("test.db"), "id,name\n1,Ann\n".repeat(100)).unwrap();
    polled.crm.begin_poll();
    let refused = polled.refusal().await;
    assert!(refused.what.starts_with("[source] url") && refused.cure.contains("of another kind"), "{refused}");
}
