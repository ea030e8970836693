//! A user changes the CRM's tables under a running daemon: the pass stops and says why, sends no lead and gives up none,
//! and continues by itself when the column is back.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::at;
use crate::support::reading::settings;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use conversica_sync::config::ServiceSettings;
use conversica_sync::db;
use conversica_sync::error::SetupError;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::{ConnectedCrm, SourceSchema};
use conversica_sync::source::read::PreparedReading;
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{control, lead};

on_both_engines!(
    a_column_that_is_dropped_or_renamed_holds_the_pass_until_it_is_back,
    a_table_that_becomes_a_view_holds_the_pass,
    a_restart_takes_the_source_as_it_is,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// A source that was polled, and whose leads are known.
struct Watched {
    place: Place,
    settings: ServiceSettings,
    crm: ConnectedCrm,
    /// In a file: a state in memory would lose everything when a poll fails halfway.
    state: StateDb,
    _state_place: Place,
}

impl Watched {
    async fn new(engine: Engine, columns: &str, source: &str) -> Self {
        let place = engine.place();
        place.sql(&format!("create table leads (id integer primary key, town text, {columns})")).await;
        place.sql("insert into leads (id, town) values (1, 'Bonn'), (2, 'Kiel'), (3, 'Ulm')").await;
        Self::over(place, source).await
    }

    async fn over(place: Place, source: &str) -> Self {
        let settings = settings(&place, &format!("key = 'id'\n{source}"), "city = 'town'\nzip = 'zip'");
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let state_place = Engine::Sqlite.place();
        let watched = Self { place, settings, crm, state: state_place.state().await, _state_place: state_place };
        assert_eq!(watched.poll().await.unwrap().created, 3);
        watched
    }

    async fn poll(&self) -> anyhow::Result<PollOutcome> {
        poll(
            PollContext {
                crm: &self.crm,
                state: &self.state,
                settings: &self.settings,
                tally: &RunTally::default(),
                now: at(0),
            },
            PollReach::Everything,
        )
        .await
    }

    /// The error of a poll that fails and changes no lead.
    async fn refused(&self) -> SetupError {
        let before = self.leads().await;
        let error = self.poll().await.expect_err("the poll is held");
        assert_eq!(self.leads().await, before, "{error:#}");
        let last = control::read::<LastPoll>(&self.state).await.unwrap().unwrap();
        let refusal =
            error.downcast::<SetupError>().unwrap_or_else(|other| panic!("no message for a person: {other:#}"));
        assert!(last.error.is_some_and(|said| said.contains(&refusal.what)), "status says it: {refusal}");
        refusal
    }

    async fn leads(&self) -> Vec<(String, String, String)> {
        on_state!(&self.state, pool => {
            sqlx::query_as("select id, status, coalesce(desired, '') from lead order by id").fetch_all(pool).await
        })
        .unwrap()
    }

    async fn goes_on(&self) {
        let polled = self.poll().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!((polled.rows, polled.changed), (3, 0));
    }

    async fn nothing_is_gone(&self) {
        assert_eq!(lead::counts(&self.state).await.unwrap()[&LeadStatus::Gone], 0);
    }
}

async fn a_column_that_is_dropped_or_renamed_holds_the_pass_until_it_is_back(engine: Engine) {
    let mut watched = Watched::new(engine, "zip text", "table = 'leads'").await;
    watched.place.sql("alter table leads rename column zip to zips").await;
    let refused = watched.refused().await;
    let expected = "[source] table leads has changed: column \"zip\" (text), which [lead] zip asks for, is not there any more; \
                    there is \"zips\"";
    assert!(refused.what.contains(expected) && refused.cure.contains("change it back"), "{refused}");
    watched.place.sql("alter table leads rename column zips to zip").await;
    watched.goes_on().await;
    watched.place.sql("alter table leads drop column zip").await;
    assert!(watched.refused().await.what.contains("\"zip\" (text)"));
    watched.place.sql("alter table leads add column zip text").await;
    if engine == Engine::Postgres {
        // The old name now belongs to another column, and the data of the old column is lost.
        let refused = watched.refused().await;
        assert!(refused.what.contains("\"zip\"") && refused.what.contains("another column"), "{refused}");
        watched.crm = ConnectedCrm::open(&watched.settings).await.unwrap();
    }
    watched.goes_on().await;
}

async fn a_table_that_becomes_a_view_holds_the_pass(engine: Engine) {
    let watched = Watched::new(engine, "zip text", "table = 'leads'").await;
    watched
        .place
        .sql("alter table leads rename to people; create view leads as select * from people where id < 2")
        .await;
    let refused = watched.refused().await;
    assert!(refused.what.contains("it was a table and is now a view"), "{refused}");
    watched.place.sql("drop view leads").await;
    watched.refused().await;
    watched.place.sql("alter table people rename to leads").await;
    watched.goes_on().await;
}

async fn a_restart_takes_the_source_as_it_is(engine: Engine) {
    let mut watched = Watched::new(engine, "zip text", "table = 'leads'").await;
    watched.place.sql("alter table leads drop column zip").await;
    watched.place.sql("alter table leads add column zip integer").await;
    let refused = watched.refused().await;
    let expected = format!("was of type text and is now of type {}", engine.pick("integer", "int4"));
    assert!(refused.what.contains(&expected), "{refused}");
    watched.crm = ConnectedCrm::open(&watched.settings).await.unwrap();
    watched.goes_on().await;
}

#[tokio::test]
async fn a_type_of_another_family_holds_the_pass_and_a_wider_one_does_not() {
    let columns = "zip varchar(50), changed timestamp";
    let watched = Watched::new(Engine::Postgres, columns, "table = 'leads'\nchanged_at = 'changed'").await;
    for same in ["zip type text", "zip type varchar(70)", "id type bigint"] {
        watched.place.sql(&format!("alter table leads alter {same}")).await;
        watched.goes_on().await;
    }
    for (column, was, other, back) in [
        ("zip", "varchar", "integer using zip::integer", "text"),
        ("changed", "timestamp", "timestamptz", "timestamp"),
        ("id", "int4", "text", "bigint using id::bigint"),
    ] {
        watched.place.sql(&format!("alter table leads alter {column} type {other}")).await;
        let refused = watched.refused().await;
        let now = other.split(' ').next().unwrap().replace("integer", "int4");
        let expected = format!("was of type {was} and is now of type {now}");
        assert!(refused.what.contains(&expected) && refused.what.contains(column), "{refused}");
        watched.place.sql(&format!("alter table leads alter {column} type {back}")).await;
        watched.goes_on().await;
    }
}

/// The key 7 would become 7.00, another lead.
#[tokio::test]
async fn a_key_whose_numbers_are_given_other_digits_holds_the_pass() {
    let place = Engine::Postgres.place();
    place
        .sql(
            "create domain whole as numeric(8,0); create table leads (id numeric(10,0) primary key, town text, zip whole); \
             insert into leads (id, town) values (1, 'Bonn'), (2, 'Kiel'), (3, 'Ulm')",
        )
        .await;
    let watched = Watched::over(place, "table = 'leads'").await;
    watched.place.sql("alter table leads alter id type numeric(12,0)").await;
    watched.goes_on().await;
    for (column, other, back) in
        [("id", "numeric(12,2)", "numeric(10,0)"), ("id", "float8", "numeric(10,0)"), ("zip", "numeric(8,1)", "whole")]
    {
        watched.place.sql(&format!("alter table leads alter {column} type {other}")).await;
        let refused = watched.refused().await;
        assert!(
            refused.what.contains(column) && refused.what.contains("with 0 digit(s) behind the point"),
            "{refused}"
        );
        watched.place.sql(&format!("alter table leads alter {column} type {back}")).await;
        watched.goes_on().await;
    }
}

#[tokio::test]
async fn a_table_that_takes_the_name_of_another_holds_no_pass_where_its_columns_are_alike() {
    let watched = Watched::new(Engine::Postgres, "zip text", "table = 'leads'").await;
    let swap = "create table leads_new (zip text, town text, id int primary key); \
                insert into leads_new select zip, town, id from leads; alter table leads rename to leads_old; \
                alter table leads_new rename to leads";
    watched.place.sql(swap).await;
    watched.goes_on().await;
}

/// According to their change stamps, no row has changed.
#[tokio::test]
async fn a_column_that_was_made_again_between_two_runs_has_every_row_compared() {
    let source = "table = 'leads'\nchanged_at = 'changed'";
    let mut watched = Watched::new(Engine::Postgres, "zip text, changed timestamp default '2020-01-01'", source).await;
    watched.place.sql("alter table leads drop zip; alter table leads add zip text default '12345'").await;
    watched.crm = ConnectedCrm::open(&watched.settings).await.unwrap();
    let as_due = async || {
        poll(
            PollContext {
                crm: &watched.crm,
                state: &watched.state,
                settings: &watched.settings,
                tally: &RunTally::default(),
                now: at(0),
            },
            PollReach::AsDue,
        )
        .await
    };
    assert_eq!(as_due().await.unwrap().changed, 3);
    as_due().await.unwrap();
    assert_eq!(control::read::<LastPoll>(&watched.state).await.unwrap().unwrap().kind, "incremental");
}

/// All kinds of sources: a table, views on it, a query, a condition, a table with rights on some columns only.
#[tokio::test]
async fn a_table_that_is_being_rewritten_is_waited_for_and_nobody_is_gone() {
    let sources = [
        "table = 'leads'",
        "table = 'people'",
        "table = 'older'",
        "query = 'select l.* from leads l join towns on towns.name = l.town'",
        "table = 'leads'\nwhere = 'town in (select name from towns)'",
        "table = 'some_columns'",
    ];
    let place = Engine::Postgres.place();
    place
        .sql(
            "create table leads (id integer primary key, town text, zip text); create table towns (name text); \
             insert into leads values (1, 'Bonn'), (2, 'Kiel'), (3, 'Ulm'); insert into towns select town from leads; \
             create view people as select * from leads; \
             create view older as select * from people where town in (select name from towns); \
             create table some_columns (id integer, town text, zip text, secret text); \
             insert into some_columns select * from leads; \
             drop role if exists reader; create role reader login; \
             grant select on leads, people, older, towns to reader; grant select (id, town, zip) on some_columns to reader",
        )
        .await;
    let theirs = || Place::at(Engine::Postgres, place.url.replace("postgres@", "reader@"));
    for source in sources {
        let watched = Watched::over(theirs(), source).await;
        let table = if source.contains("some_columns") { "some_columns" } else { "leads" };
        let mut tables = vec![table];
        if source.contains("towns") || source.contains("older") {
            tables.push("towns");
        }
        for table in tables {
            // The poll meets the lock at the schema check before it reads, or at the read itself.
            let mut somebody = rewriting(&place, table).await;
            let (polled, ()) = tokio::join!(watched.poll(), commit(&place, &mut somebody));
            let polled = polled.unwrap_or_else(|error| panic!("{source}: {error:#}"));
            assert_eq!((polled.rows, polled.gone, polled.changed), (3, 0, 0), "{source} {table}");
            watched.nothing_is_gone().await;

            let fitting = watched.crm.fitting().await.unwrap();
            let mut somebody = rewriting(&place, table).await;
            let mut batches = PreparedReading::new(&watched.crm, &fitting, ReadScope::All).start(&watched.crm.db);
            let (batch, ()) = tokio::join!(batches.next(), commit(&place, &mut somebody));
            assert_eq!(batch.unwrap().unwrap_or_default().len(), 3, "{source} {table}");
        }
    }
}

/// A transaction that has emptied the table and filled it again, and has not ended.
async fn rewriting(place: &Place, table: &str) -> PgConnection {
    let mut somebody = PgConnection::connect(&place.url).await.unwrap();
    let reload = format!(
        "begin; create temp table kept as select * from {table}; truncate {table}; insert into {table} select * from kept"
    );
    somebody.execute(sqlx::raw_sql(db::trusted(reload))).await.unwrap();
    somebody
}

/// Ends the transaction as soon as another session waits for its locks.
async fn commit(place: &Place, somebody: &mut PgConnection) {
    wait_for_somebody_to_wait(place).await;
    somebody.execute("commit").await.unwrap();
}

#[tokio::test]
async fn a_column_that_is_retyped_while_the_pass_waits_for_it_is_not_read_as_the_new_type() {
    let watched = Watched::new(Engine::Postgres, "zip text", "table = 'leads'").await;
    watched.place.sql("update leads set zip = '0' || id").await;
    assert_eq!(watched.poll().await.unwrap().changed, 3);
    let mut somebody = PgConnection::connect(&watched.place.url).await.unwrap();
    somebody.execute("begin").await.unwrap();
    somebody.execute("alter table leads alter zip type integer using zip::integer").await.unwrap();
    let (refused, ()) = tokio::join!(watched.refused(), commit(&watched.place, &mut somebody));
    assert!(refused.what.contains("was of type text and is now of type int4"), "{refused}");
    watched.nothing_is_gone().await;
}

async fn wait_for_somebody_to_wait(place: &Place) {
    let mut connection = PgConnection::connect(&place.url).await.unwrap();
    let sql = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    let deadline = std::time::Instant::now() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap() == 0 {
        assert!(std::time::Instant::now() < deadline, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The schema as a poll reads it, in its transaction.
async fn schema_read_by(watched: &Watched) -> SourceSchema {
    let mut connection = PgConnection::connect(&watched.place.url).await.unwrap();
    sqlx::raw_sql("begin").execute(&mut connection).await.unwrap();
    SourceSchema::read(&mut connection, &watched.crm.source).await.unwrap()
}

/// The poll reads the schema before the pass and again in it. A change between the two must not reach a Lead object.
#[tokio::test]
async fn a_column_that_changes_after_the_look_fails_the_pass_which_is_tried_again() {
    let watched = Watched::new(Engine::Postgres, "zip text", "table = 'leads'").await;
    let fitting = watched.crm.fitting().await.unwrap();
    watched.crm.still(&fitting, Some(&schema_read_by(&watched).await)).await.unwrap();
    watched.place.sql("alter table leads add column note text").await;
    let schema = schema_read_by(&watched).await;
    let error = watched.crm.still(&fitting, Some(&schema)).await.expect_err("not what the pass began with");
    assert!(db::is_away(&error), "it passes by itself: {error:#}");
    watched.goes_on().await;
}

/// A statement that fails on one row, halfway.
#[tokio::test]
async fn a_read_that_fails_leaves_everything_as_it_was() {
    let query = "query = 'select id, town, (10 / (id - 5))::text as zip from leads'";
    let watched = Watched::new(Engine::Postgres, "spare text", query).await;
    watched.place.sql("delete from leads where id = 1; insert into leads (id, town) values (5, 'Trier')").await;
    let before = watched.leads().await;
    watched.poll().await.expect_err("a division by zero");
    assert_eq!(watched.leads().await, before);
    watched.place.sql("delete from leads where id = 5").await;
    assert_eq!(watched.poll().await.unwrap().gone, 1);
}

#[test]
fn a_lock_is_waited_for_aloud_and_a_dropped_column_holds_the_daemon_only_until_it_is_back() {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(Engine::Postgres, &endpoint.url(), 5);
    let mut daemon = scene.daemon();
    endpoint.wait_for_requests(5, PATIENCE);
    scene.crm("alter table leads rename column opt_out to do_not_contact");
    // A poll that had begun may first say that the columns changed meanwhile.
    let said = daemon.wait_for_line("[lead] optOut", PATIENCE);
    assert!(said.contains("opt_out") && said.contains("a poll failed"), "{said}");
    scene.wait_for_status("the poll is held", PATIENCE, |status| {
        status["last_poll"]["error"].as_str().is_some_and(|error| error.contains("opt_out"))
    });
    scene.crm("alter table leads rename column do_not_contact to opt_out");
    daemon.wait_for_line("polling works again", PATIENCE);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = scene.crm_store().url();
    let mut somebody = runtime.block_on(async {
        let mut somebody = PgConnection::connect(&url).await.unwrap();
        somebody.execute("begin").await.unwrap();
        somebody.execute("lock table leads in access exclusive mode").await.unwrap();
        somebody
    });
    let said = daemon.wait_for_line("is locked by another session; waiting for it", PATIENCE);
    assert!(said.contains("[source] table leads"), "{said}");
    runtime.block_on(somebody.execute("commit")).unwrap();
    daemon.wait_for_line("polling works again", PATIENCE);
    scene.add(6, 6);
    endpoint.wait_for_requests(6, PATIENCE);
    let status = scene.status();
    assert_eq!(status["leads"]["gone"], 0, "{status:#}");
    assert_eq!(endpoint.requests().len(), 6, "nothing is sent twice");
    drop(daemon);
}
