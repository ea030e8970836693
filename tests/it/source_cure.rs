//! Each failure of the customer's database comes with its fix, and names a table only when the name is wrong.

use std::time::Duration;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::postgres::Cluster;
use crate::support::reading::{poll, refusal, settings};
use crate::support::scene::{Scene, Store};
use crate::support::stand_in::StandIn;
use conversica_sync::config::ServiceSettings;
use conversica_sync::error::SetupError;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::state_db::StateDb;

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

/// The same database for a new role with these `grants`; `%` is its name.
async fn seen_by(place: &Place, role: &str, grants: &str) -> Place {
    place.sql(&format!("drop role if exists {role}; create role {role} login; {}", grants.replace('%', role))).await;
    Place::at(Engine::Postgres, place.url.replace("postgres@", &format!("{role}@")))
}

/// A daemon's connection, and its state, after a successful first poll.
struct PolledSource {
    crm: ConnectedCrm,
    settings: ServiceSettings,
    state: StateDb,
    _state_place: Place,
}

impl PolledSource {
    async fn new(place: &Place) -> Self {
        let settings = settings(place, LEADS, "city = 'name'");
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let state_place = Engine::Sqlite.place();
        let polled = Self { crm, settings, state: state_place.state().await, _state_place: state_place };
        assert_eq!(poll(&polled.crm, &polled.state, &polled.settings).await.unwrap().created, 1);
        polled
    }

    /// The error of the next poll; `status` shows the same.
    async fn refusal(&self) -> SetupError {
        let error = poll(&self.crm, &self.state, &self.settings).await.expect_err("the poll fails");
        let last = control::read::<LastPoll>(&self.state).await.unwrap().unwrap();
        let refused = error.downcast::<SetupError>().unwrap_or_else(|other| panic!("no cure: {other:#}"));
        let error = last.plain_error().expect("status says it").to_owned();
        let said = (error, last.cure.expect("status says what to do"));
        assert!(!said.0.contains('\n') && !said.0.contains(NO_TABLE_TO_CHOOSE), "{said:?}");
        assert_eq!(said, (refused.what.clone(), refused.cure.clone()));
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

/// A scene whose role may not read the CRM's table.
fn scene_without_right(role: &str, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 3);
    scene.crm(&format!("drop role if exists {role}; create role {role} login"));
    let url = scene.crm_store().url().replace("postgres@", &format!("{role}@"));
    scene.set_text("source", "url", &url);
    scene
}

#[test]
fn every_command_that_reads_the_table_names_the_cure_of_a_missing_right() {
    let endpoint = StandIn::accepting();
    let scene = scene_without_right("may_not_read", &endpoint);
    for command in [&["plan"][..], &["plan", "--json"], &["reconcile"], &["once"], &["run"]] {
        let output = scene.run(command).expect_code(2);
        let cure = "\n  cure: let this user read the table: grant usage on its schema and select on it";
        assert!(output.stderr.contains("error: [source] table leads: permission denied for table leads"), "{output}");
        assert!(output.stderr.contains(cure), "{output}");
    }
    let check = scene.run(&["check", "--json"]).expect_code(2).json();
    let items = check["items"].as_array().expect("items");
    let of_state = |state: &str| items.iter().filter(|item| item["state"] == state).collect::<Vec<_>>();
    let failed = of_state("fail");
    assert_eq!(failed.len(), 1, "{check:#}");
    assert!(failed[0]["detail"].as_str().is_some_and(|text| text.contains("permission denied")), "{check:#}");
    assert!(failed[0]["cure"].as_str().is_some_and(|text| text.contains("select on it")), "{check:#}");
    let skipped = of_state("skipped");
    for (section, name) in [("source", "key"), ("mapping", "rows"), ("time zone", "stamps")] {
        let is_skipped = skipped
            .iter()
            .any(|item| item["section"] == section && item["name"] == name && item["detail"] == "needs the source");
        assert!(is_skipped, "{section} {name}: {check:#}");
    }
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_right_that_is_lost_while_the_daemon_runs_is_shown_with_its_cure_apart() {
    let endpoint = StandIn::accepting();
    let scene = scene_without_right("loses_right", &endpoint);
    scene.crm("grant select on leads to loses_right");
    let mut daemon = scene.daemon();
    let soon = Duration::from_secs(30);
    scene.wait_for_status("a poll", soon, |status| status["leads"]["in_sync"] == 3);
    scene.crm("revoke select on leads from loses_right");
    let said = daemon.wait_for_line("a poll failed", soon);
    assert!(said.contains("permission denied for table leads") && said.contains("cure"), "{said}");
    assert!(said.contains("select on it") && !said.contains("\\n"), "{said}");
    scene.wait_for_status("the failed poll", soon, |status| status["last_poll"]["error"].is_string());
    let last = scene.status()["last_poll"].clone();
    let cure = last["cure"].as_str().unwrap_or_default();
    assert!(cure.contains("select on it"), "{last:#}");
    let error = format!("[source] table leads: permission denied for table leads (cure: {cure})");
    assert_eq!(last["error"], error);
    let status = scene.run(&["status"]).stdout;
    assert!(
        status.contains("FAILED: [source] table leads: permission denied for table leads\n  cure: let this"),
        "{status}"
    );
}

/// The server goes while the daemon runs: `status`, `check` and the log say where it was, why it cannot be reached, and what to do.
#[test]
fn a_server_that_goes_while_the_daemon_runs_is_named_with_host_port_reason_and_cure() {
    let endpoint = StandIn::accepting();
    let cluster = Cluster::private_on_tcp();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    let state = format!("sqlite://{}", scene.state_file().display());
    scene.set_text("state", "url", &state);
    let mut daemon = scene.daemon();
    let soon = Duration::from_secs(60);
    scene.wait_for_status("a poll", soon, |status| status["leads"]["in_sync"] == 3);
    cluster.stop();
    scene.wait_for_status("a failed poll", soon, |status| status["last_poll"]["error"].is_string());
    let database = match scene.crm_store() {
        Store::Database(database) => database.clone(),
        Store::File(path) => panic!("{} is no database", path.display()),
    };
    let place = format!("host 127.0.0.1, port {}", database.port());
    scene.wait_for_status("the reason", soon, |status| {
        let last = &status["last_poll"];
        let (error, cure) = (last["error"].as_str().unwrap_or_default(), last["cure"].as_str().unwrap_or_default());
        assert!(!error.contains("pool timed out"), "{error}");
        error.contains(&place)
            && error.contains("Connection refused")
            && cure.contains("start the server, or correct host and port")
    });
    let said = daemon.wait_for_line("a poll failed", soon);
    assert!(!said.contains("pool timed out"), "{said}");
    for command in [&["check"][..], &["once"], &["plan"]] {
        let output = scene.run(command);
        let said = format!("{output}");
        assert!(said.contains(&place) && said.contains("Connection refused"), "{said}");
        assert!(said.contains("start the server") && !said.contains("pool timed out"), "{said}");
    }
    cluster.start();
    scene.wait_for_status("it goes on by itself", soon, |status| status["last_poll"]["error"].is_null());
}

/// A server that accepts connections and stays silent.
#[test]
fn a_server_that_is_silent_is_named_too() {
    let endpoint = StandIn::accepting();
    let cluster = Cluster::private_on_tcp();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    let state = format!("sqlite://{}", scene.state_file().display());
    scene.set_text("state", "url", &state);
    cluster.pause();
    for command in [&["check"][..], &["once"]] {
        let said = format!("{}", scene.run(command).expect_code(2));
        assert!(said.contains("(host 127.0.0.1, port") && said.contains("it does not answer"), "{said}");
        assert!(said.contains("cure: look at the server's load"), "{said}");
    }
    cluster.resume();
}
