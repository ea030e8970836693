//! Triggers on a table that users swap, rename, drop, rewrite or replicate. No present lead is given up, no write of the
//! CRM fails, and the triggers can always be removed.

use crate::support::engine::{Engine, Place, blocking_on_both_engines};
use crate::support::lead_row::at;
use crate::support::postgres::Cluster;
use crate::support::reading::settings;
use crate::support::scene::{Scene, Store};
use crate::support::stand_in::StandIn;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::changes::ddl::ListenerWake;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{control, lead};

blocking_on_both_engines!(
    triggers_are_removed_where_the_table_is_there_no_more,
    triggers_from_before_the_table_was_renamed_are_named_and_can_be_removed,
);

const NOWHERE: &str = "http://127.0.0.1:9/json/";

fn scene(engine: Engine) -> Scene {
    let mut scene = Scene::on(engine, NOWHERE, 3);
    scene.set_text("source", "changes", "triggers");
    scene
}

/// A table with triggers, and a state that knows its leads.
struct Followed {
    place: Place,
    crm: ConnectedCrm,
    settings: conversica_sync::config::ServiceSettings,
    state: StateDb,
}

impl Followed {
    async fn new(engine: Engine, key: &str, rows: &str) -> Self {
        let place = engine.place();
        place.sql(&format!("create table leads (id {key}, name text); insert into leads values {rows}")).await;
        let source = "table = 'leads'\nkey = 'id'\nchanges = 'triggers'";
        let settings = settings(&place, source, "lastName = 'name'");
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        place.sql(&crm.log.as_ref().unwrap().design.install(None, ListenerWake::Silent)).await;
        let followed = Self { place, crm, settings, state: StateDb::open_state_in_memory().await.unwrap() };
        assert!(followed.poll().await.created > 0);
        followed
    }

    async fn poll(&self) -> PollOutcome {
        let (crm, settings) = (&self.crm, &self.settings);
        let polled = poll(
            PollContext { crm, state: &self.state, settings, tally: &RunTally::default(), now: at(0) },
            PollReach::AsDue,
        )
        .await;
        polled.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs the statements and a poll: how it read (by name or every row), and how many leads changed. No lead may be
    /// gone.
    async fn after(&self, statements: &str) -> (String, u64) {
        self.place.sql(statements).await;
        let changed = self.poll().await.changed;
        assert_eq!(lead::counts(&self.state).await.unwrap()[&LeadStatus::Gone], 0, "{statements}");
        (control::read::<LastPoll>(&self.state).await.unwrap().unwrap().kind, changed)
    }
}

fn read_by_name(changed: u64) -> (String, u64) {
    ("incremental".to_owned(), changed)
}

#[tokio::test]
async fn a_key_that_sqlite_holds_as_bytes_is_found_when_it_is_touched() {
    for key in ["text primary key", "integer", "varchar(20) primary key", "blob", "real"] {
        let followed = Followed::new(Engine::Sqlite, key, "('a', 'x'), (cast('b' as blob), 'x'), (7, 'x')").await;
        assert_eq!(followed.after("update leads set name = 'y'").await, read_by_name(3), "{key}");
        let touched = "update leads set name = 'z' where id = cast('b' as blob)";
        assert_eq!(followed.after(touched).await, read_by_name(1), "{key}");
    }
}

#[tokio::test]
async fn a_key_of_sqlite_that_is_no_utf_8_or_a_fraction_is_found_when_it_is_touched() {
    let rows = "(cast(x'61ff' as text), 'x'), (0.1 + 0.2, 'x'), ('c', 'x')";
    for key in ["text primary key", "int primary key"] {
        let followed = Followed::new(Engine::Sqlite, key, rows).await;
        // The first row makes no lead, before and after.
        assert_eq!(followed.after("update leads set name = 'y'").await, read_by_name(2), "{key}");
    }
}

#[tokio::test]
async fn a_key_of_any_type_of_postgres_is_found_when_it_is_touched() {
    let rows = [
        ("char(18)", "'a', 'b '"),
        ("numeric", "7.00, -0.5"),
        ("numeric(12,2)", "7, 8"),
        ("numeric", "7, 'NaN'"),
        ("amount", "1.50, 2"),
        ("code", "'a', 'b'"),
        ("stage", "'New', 'Sold'"),
        ("float8", "0.1::float8 + 0.2::float8, 7"),
        ("float4", "0.1, 1e20"),
        ("date", "'2026-01-01', 'infinity'"),
        ("timestamptz", "'2026-01-01 10:00:00.123456+02', '2026-01-02'"),
        ("uuid", "'0189D0A3-5A2F-7C3E-8000-00000000000A', gen_random_uuid()"),
        ("\"char\"", "'a', 'b'"),
        ("name", "'a', 'b'"),
        ("oid", "1, 4000000000"),
        ("boolean", "true, false"),
        ("inet", "'10.0.0.1', '10.0.0.0/8'"),
    ];
    for (kind, keys) in rows {
        let (one, two) = keys.split_once(", ").unwrap();
        let types = "create type stage as enum ('New', 'Sold'); create domain amount as numeric(9,2); \
                     create domain code as char(5);";
        let place = Engine::Postgres.place();
        place.sql(types).await;
        place
            .sql(&format!(
                "create table leads (id {kind}, name text); insert into leads values ({one}, 'x'), ({two}, 'x')"
            ))
            .await;
        let source = "table = 'leads'\nkey = 'id'\nchanges = 'triggers'";
        let settings = settings(&place, source, "lastName = 'name'");
        let crm = ConnectedCrm::open(&settings).await.unwrap();
        place.sql(&crm.log.as_ref().unwrap().design.install(None, ListenerWake::Silent)).await;
        let followed = Followed { place, crm, settings, state: StateDb::open_state_in_memory().await.unwrap() };
        assert_eq!(followed.poll().await.created, 2, "{kind}");
        let statements = "set extra_float_digits = 0; set datestyle = 'German'; update leads set name = 'y'";
        assert_eq!(followed.after(statements).await, read_by_name(2), "{kind}");
    }
}

#[tokio::test]
async fn what_the_log_holds_from_before_the_key_was_given_another_type_stops_no_poll() {
    let uuid = "0189d0a3-5a2f-7c3e-8000-00000000000a";
    for (other, good) in [("uuid", uuid), ("numeric", "7"), ("bigint", "7"), ("char(40)", uuid)] {
        let rows = format!("('{good}', 'x'), ('not one of those', 'x')");
        let followed = Followed::new(Engine::Postgres, "text primary key", &rows).await;
        let deleted = "delete from leads where id like 'not%'";
        followed.place.sql(deleted).await;
        followed.place.sql(&format!("alter table leads alter id type {other} using id::{other}")).await;
        // The daemon restarts with the log from before the restart; it knows the table's new files already.
        let crm = ConnectedCrm::open(&followed.settings).await.unwrap();
        let followed = Followed { crm, ..followed };
        followed.poll().await;
        let log = &followed.crm.log.as_ref().unwrap().design.log.name;
        let touched = format!(
            "insert into {log} (key) values ('not one of those'), ('1e9'), (' 7'), ('{{{uuid}}}'); update leads set name = 'y'"
        );
        followed.place.sql(&touched).await;
        assert_eq!(followed.poll().await.changed, 1, "{other}");
    }
}

#[tokio::test]
async fn what_ddl_does_to_the_values_is_compared_at_once() {
    let followed = Followed::new(Engine::Postgres, "int primary key", "(1, 'ann'), (2, 'bea')").await;
    assert_eq!(followed.after("update leads set name = 'ada' where id = 1").await, read_by_name(1));
    for (statements, changed) in [
        ("alter table leads alter name type text using initcap(name)", 2),
        ("alter table leads add column other text default 'x', add column note text", 0),
        ("alter table leads rename name to was; alter table leads rename other to name", 2),
        ("vacuum full leads", 0),
    ] {
        // Other columns hold the poll until a restart.
        followed.place.sql(statements).await;
        let crm = ConnectedCrm::open(&followed.settings).await.unwrap();
        let kind = async || control::read::<LastPoll>(&followed.state).await.unwrap().unwrap().kind;
        let polled = poll(
            PollContext {
                crm: &crm,
                state: &followed.state,
                settings: &followed.settings,
                tally: &RunTally::default(),
                now: at(0),
            },
            PollReach::AsDue,
        )
        .await;
        assert_eq!((kind().await.as_str(), polled.unwrap().changed), ("full", changed), "{statements}");
        followed.place.sql("update leads set name = name").await;
        poll(
            PollContext {
                crm: &crm,
                state: &followed.state,
                settings: &followed.settings,
                tally: &RunTally::default(),
                now: at(0),
            },
            PollReach::AsDue,
        )
        .await
        .unwrap();
        assert_eq!(kind().await, "incremental", "{statements}");
    }
}

#[tokio::test]
async fn partitions_that_come_and_go_are_compared_at_once() {
    let place = Engine::Postgres.place();
    place
        .sql(
            "create table leads (id int primary key, name text) partition by range (id); \
             create table low partition of leads for values from (0) to (10); insert into leads values (1, 'a'); \
             create table high (like leads); insert into high values (11, 'b')",
        )
        .await;
    let settings = settings(&place, "table = 'leads'\nkey = 'id'\nchanges = 'triggers'", "lastName = 'name'");
    let crm = ConnectedCrm::open(&settings).await.unwrap();
    place.sql(&crm.log.as_ref().unwrap().design.install(None, ListenerWake::Silent)).await;
    let followed = Followed { place, crm, settings, state: StateDb::open_state_in_memory().await.unwrap() };
    assert_eq!(followed.poll().await.created, 1);
    let attached = "alter table leads attach partition high for values from (10) to (20)";
    assert_eq!(followed.after(attached).await, ("full".to_owned(), 1));
}

fn triggers_are_removed_where_the_table_is_there_no_more(engine: Engine) {
    let scene = scene(engine);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("drop table leads");
    let printed = scene.run(&["triggers", "print", "--remove"]).expect_code(0).stdout;
    assert!(printed.contains("drop table if exists"), "{printed}");
    let removed = scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert!(removed.stdout.contains("Removed."), "{removed}");
    assert_eq!(left(&scene, engine), Vec::<String>::new());
    let nothing = scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert!(nothing.stdout.contains("nothing to remove"), "{nothing}");
}

/// Our own names in the database.
fn left(scene: &Scene, engine: Engine) -> Vec<String> {
    scene.crm(engine.pick(
        "select name from sqlite_master where name like 'conversica%'",
        "select relname::text from pg_class where relname like 'conversica%' union all \
         select proname::text from pg_proc where proname like 'conversica%' union all \
         select tgname::text from pg_trigger where tgname like 'conversica%'",
    ))
}

fn triggers_from_before_the_table_was_renamed_are_named_and_can_be_removed(engine: Engine) {
    let mut scene = scene(engine);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("alter table leads rename to people");
    scene.set_text("source", "table", "people");
    for arguments in [&["triggers", "remove", "--yes"][..], &["triggers", "install", "--yes"]] {
        let output = scene.run(arguments).expect_code(0);
        assert!(output.stdout.contains("conversica_sync_leads") && output.stdout.contains("change_log"), "{output}");
    }
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("fill another change log too"), "{check}");
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert!(!left(&scene, engine).is_empty());
    scene.set_text("source", "change_log", "conversica_sync_leads");
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert_eq!(left(&scene, engine), Vec::<String>::new());
}

#[test]
fn after_a_swap_of_tables_the_triggers_are_made_on_the_new_one_and_removed_from_both() {
    let scene = scene(Engine::Postgres);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let swap = "create table leads_new (like leads including all); insert into leads_new select * from leads; \
                alter table leads rename to leads_old; alter table leads_new rename to leads";
    scene.crm(swap);
    let installed = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(installed.stdout.contains("on \"public\".\"leads_old\""), "{installed}");
    scene.crm("update leads set last_name = 'New'");
    assert_eq!(scene.crm("select count(*)::text from conversica_sync_leads where key is not null"), ["3"]);
    scene.crm("drop table leads_old");
    scene.crm(swap);
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert_eq!(left(&scene, Engine::Postgres), Vec::<String>::new());

    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("create view backlog as select count(*) from conversica_sync_leads");
    let refused = scene.run(&["triggers", "remove", "--yes"]).expect_code(2);
    assert!(refused.stderr.contains("something else in the database uses"), "{refused}");
}

#[test]
fn a_table_with_a_foreign_table_below_it_is_refused_before_a_write_of_the_crm_fails() {
    let scene = scene(Engine::Postgres);
    scene.crm(
        "drop table leads; create table leads (id integer, first_name text, last_name text, email text, owner_name text, \
         opt_out integer, conversation text) partition by range (id); \
         create table low partition of leads for values from (0) to (100); \
         create foreign data wrapper elsewhere; create server there foreign data wrapper elsewhere; \
         create table middle partition of leads for values from (100) to (200) partition by range (id)",
    );
    let foreign = "create foreign table far partition of middle for values from (100) to (150) server there";
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm(foreign);
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("has a foreign table below it, far"), "{check}");
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    for command in ["install", "print"] {
        let refused = scene.run(&["triggers", command]).expect_code(2);
        assert!(refused.stderr.contains("far") && refused.stderr.contains("changes = \"poll\""), "{refused}");
    }
    scene.crm("update leads set last_name = 'Written' where id < 100");
}

#[test]
fn a_server_with_two_phase_commit_is_not_notified_unless_somebody_insists() {
    let cluster = Cluster::private_with(&["max_prepared_transactions=5"]);
    let mut scene = Scene::on_cluster(&cluster, NOWHERE, 3);
    scene.set_text("source", "changes", "triggers");
    let printed = scene.run(&["triggers", "print"]).expect_code(0).stdout;
    assert!(printed.starts_with("-- Without NOTIFY") && !printed.contains("pg_notify"), "{printed}");
    let installed = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(installed.stdout.contains("Without NOTIFY: max_prepared_transactions"), "{installed}");
    scene.crm("begin; update leads set last_name = 'Both'; prepare transaction 'both'");
    let Store::Database(crm) = scene.crm_store() else { panic!("the CRM is on PostgreSQL") };
    crm.sql("commit prepared 'both'");
    assert!(scene.run(&["check"]).stdout.contains("triggers install --notify"));
    scene.run(&["triggers", "install", "--notify", "--yes"]).expect_code(0);
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("PREPARE TRANSACTION fails"), "{check}");
}

#[test]
fn a_log_that_would_be_published_is_refused_unless_somebody_insists() {
    for publication in ["for all tables", "for tables in schema public"] {
        let mut scene = scene(Engine::Postgres);
        scene.crm(&format!("create publication everything {publication}"));
        for command in ["install", "print"] {
            let refused = scene.run(&["triggers", command]).expect_code(2);
            assert!(refused.stderr.contains("everything") && refused.stderr.contains("--published"), "{refused}");
        }
        scene.run(&["triggers", "install", "--published", "--yes"]).expect_code(0);
        let check = scene.run(&["check"]);
        assert!(check.stdout.contains("is published by everything"), "{check}");
        scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
        scene.crm("create schema quiet");
        scene.set_text("source", "change_log", "quiet.log");
        let code = if publication.contains("schema") { 0 } else { 2 };
        scene.run(&["triggers", "install", "--yes"]).expect_code(code);
    }
}

#[test]
fn default_privileges_give_nobody_a_right_to_the_log() {
    let scene = scene(Engine::Postgres);
    let name = format!("app_{}", scene.crm("select current_database()").concat());
    scene.crm(&format!(
        "create role {name}; alter default privileges grant all on tables to {name}; alter default privileges grant select \
         on tables to public; alter default privileges grant usage on sequences to {name}"
    ));
    let reader = format!("reader_{name}");
    scene.crm(&format!("create role {reader}; grant select on leads to {reader}"));
    let installed = scene.run(&["triggers", "install", "--role", &reader, "--yes"]).expect_code(0);
    let grantees = "select distinct a.grantee::regrole::text || ' ' || a.privilege_type from pg_class c \
                    cross join aclexplode(c.relacl) a where c.relname like 'conversica%' and a.grantee <> c.relowner \
                    order by 1";
    assert_eq!(scene.crm(grantees), [format!("{reader} DELETE"), format!("{reader} SELECT")]);
    // `install` names the right that a dump needs.
    let (_, grant) = installed.stdout.split_once("pg_dump").expect("a word about dumps");
    let (_, grant) = grant.split_once("without: ").expect("the statement");
    let (grant, _) = grant.split_once(" to it").expect("its end");
    scene.crm(&format!("{grant} to {name}"));
}

#[test]
fn a_function_that_rounds_floating_keys_is_made_anew() {
    let scene = scene(Engine::Postgres);
    scene.crm("alter table leads alter id type float8");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("alter function conversica_sync_leads() reset extra_float_digits");
    let check = scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("may log keys rounded"), "{check}");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("alter table leads alter id type int");
    scene.crm("alter function conversica_sync_leads() reset extra_float_digits");
    assert!(scene.run(&["check"]).stdout.contains("triggers  installed"));
}

#[test]
fn row_level_security_that_is_switched_on_hides_nobody_from_conversica() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 3);
    let owner = scene.crm_store().url();
    let reader = format!("limited_{}", scene.crm("select current_database()").concat());
    scene.crm(&format!("create role {reader} login; grant select on leads to {reader}"));
    let file = scene.directory().join("owner-url");
    std::fs::write(&file, &owner).unwrap();
    let url = owner.replacen("postgres@", &format!("{reader}@"), 1);
    scene.set_text("source", "changes", "triggers").set_text("source", "url", &url);
    scene.set_text("source", "on_delete", "stop_messaging");
    scene.run(&["triggers", "install", "--yes", "--url-file", &file.display().to_string()]).expect_code(0);
    let daemon = scene.daemon();
    let patience = std::time::Duration::from_secs(60);
    endpoint.wait_for_requests(3, patience);
    scene.crm("alter table leads enable row level security; update leads set last_name = 'Hidden'");
    scene.wait_for_status("the poll is held", patience, |status| {
        status["last_poll"]["error"].as_str().is_some_and(|error| error.contains("row level security"))
    });
    scene.crm("alter table leads disable row level security");
    endpoint.wait_for_requests(6, patience);
    scene.wait_for_status("what was sent is written down", patience, |status| status["leads"]["in_sync"] == 3);
    drop(daemon);
    assert_eq!(scene.status()["leads"]["gone"], 0);
    // A change while no daemon runs needs a full compare, which holds so large a loss.
    scene.crm("alter table leads enable row level security; update leads set last_name = 'Seen' where id = 1");
    let once = scene.run(&["once"]);
    assert_eq!(
        (scene.status()["hold"]["reason"].as_str(), endpoint.requests().len()),
        (Some("source_shrank"), 6),
        "{once}"
    );
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("row level security applies"), "{check}");
}
