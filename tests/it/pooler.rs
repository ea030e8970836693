//! PgBouncer between the program and a database: the CRM's own statements through the same pooler find no settings of the
//! program, however it ends. The program refuses a state in shared sessions before it sets anything in one.

use std::time::{Duration, Instant};

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Cluster, Database, cluster};
use crate::support::scene::{Scene, Store};
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

/// Everything that a session may keep for its next client.
const LEFT_BEHIND: &str = "select concat_ws(' ', current_setting('default_transaction_read_only'), \
     current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('client_min_messages'), \
     current_setting('bytea_output'), current_setting('IntervalStyle'), current_setting('search_path'), \
     current_setting('synchronous_commit'), (select count(*) from pg_prepared_statements), \
     (select count(*) from pg_listening_channels()), \
     (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'))";

fn database(store: &Store) -> &Database {
    match store {
        Store::Database(database) => database,
        Store::File(path) => panic!("{} is no database", path.display()),
    }
}

/// A CRM behind a pooler, a state in a file.
fn scene_behind_a_pooler(endpoint: &StandIn, cluster: &Cluster, settings: &[&str]) -> (Scene, PgBouncer) {
    let mut scene = Scene::on_cluster(cluster, &endpoint.url(), 30);
    let state = format!("sqlite://{}", scene.state_file().display());
    let pooler = PgBouncer::before(database(scene.crm_store()), settings);
    scene.set_text("source", "url", &pooler.url()).set_text("state", "url", &state);
    (scene, pooler)
}

fn the_crm_meets_nothing_of_ours(settings: &[&str], connections: usize) {
    let endpoint = StandIn::accepting();
    let (mut scene, pooler) = scene_behind_a_pooler(&endpoint, cluster(), settings);
    scene.crm("alter table leads add column updated_at timestamptz default now()");
    scene.set_text("source", "changed_at", "updated_at");
    let before = pooler.ask_all(connections, LEFT_BEHIND);

    for command in [&["check"][..], &["plan"], &["once"], &["triggers", "print"]] {
        let output = scene.run(command);
        assert!(matches!(output.code, Some(0 | 2 | 3)), "{output}");
    }
    assert_eq!(pooler.ask_all(connections, LEFT_BEHIND), before, "after commands");

    let daemon = scene.daemon();
    scene.wait_for_status("everything sent", SOON, |status| {
        status["leads"]["pending"] == 0 && status["leads"]["in_flight"] == 0
    });
    scene.crm("update leads set last_name = 'Bee', updated_at = now() where id = 3");
    wait_until("the change", SOON, || endpoint.bodies_of("3").len() == 2);
    let output = daemon.kill();
    assert_eq!(pooler.ask_all(connections, LEFT_BEHIND), before, "{output}");
    let written =
        "with w as (insert into leads (id, first_name) values (901, 'Own') returning id) select id::text from w";
    assert_eq!(pooler.ask_all(1, written), ["901"], "the CRM writes");
}

#[test]
fn behind_a_transaction_pooler_the_crm_meets_nothing_of_ours() {
    the_crm_meets_nothing_of_ours(&["pool_mode = transaction", "default_pool_size = 2"], 2);
}

#[test]
fn behind_a_session_pooler_the_crm_meets_nothing_of_ours() {
    the_crm_meets_nothing_of_ours(&["pool_mode = session", "default_pool_size = 20"], 3);
}

#[test]
fn no_statement_keeps_a_name_in_the_customers_database() {
    let cluster = Cluster::private_with(&["log_statement=all", "log_min_duration_statement=0"]);
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 5);
    let state = format!("sqlite://{}", scene.state_file().display());
    scene.set_text("state", "url", &state).set_text("source", "changes", "triggers");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.run(&["check"]);
    scene.run(&["once"]).expect_code(0);
    let daemon = scene.daemon();
    scene.crm("update leads set last_name = 'Bee' where id = 3");
    wait_until("the change", SOON, || endpoint.bodies_of("3").len() == 2);
    drop(daemon);
    let log = cluster.log();
    assert!(log.contains("set local statement_timeout"), "the statements are logged");
    let named: Vec<&str> = log.lines().filter(|line| line.contains("execute sqlx_s_")).collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
    let ours = log.lines().filter(|line| line.contains("statement: set ") && !line.contains("set local"));
    // The scene itself sets the search path.
    let lasting: Vec<&str> = ours.filter(|line| !line.contains("set search_path = public, conversica_sync;")).collect();
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

#[test]
fn with_triggers_behind_a_transaction_pooler_changes_are_found_at_the_poll_and_nobody_listens() {
    let endpoint = StandIn::accepting();
    let (mut scene, pooler) =
        scene_behind_a_pooler(&endpoint, cluster(), &["pool_mode = transaction", "default_pool_size = 4"]);
    let before = pooler.ask_all(4, LEFT_BEHIND);
    scene.set_text("source", "changes", "triggers");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let mut daemon = scene.daemon();
    daemon.wait_for_line("through which no notification comes", SOON);
    wait_until("the first pass", SOON, || endpoint.bodies_of("3").len() == 1);
    scene.crm("update leads set last_name = 'Bee' where id = 3");
    wait_until("the change", SOON, || endpoint.bodies_of("3").len() == 2);
    assert_eq!(pooler.ask_all(4, LEFT_BEHIND), before, "while it runs");
    drop(daemon);
}

#[test]
fn a_state_behind_a_pooler_that_shares_sessions_is_refused_before_anything_is_set() {
    let endpoint = StandIn::accepting();
    for mode in ["transaction", "statement"] {
        for (size, in_turn) in [(1, 0), (2, 0), (2, 1), (20, 0), (20, 1)] {
            let database = cluster().database();
            let (mode, size_line) = (format!("pool_mode = {mode}"), format!("default_pool_size = {size}"));
            let in_turn = format!("server_round_robin = {in_turn}");
            let pooler = PgBouncer::before(&database, &[&mode, &size_line, &in_turn]);
            let mut scene = Scene::new(&endpoint.url(), 2);
            scene.set_text("state", "url", &pooler.url());
            if mode.contains("transaction") {
                pooler.ask_all(size.min(2), "select 'the pool has sessions'");
            }
            for command in [&["run"][..], &["once"], &["status"], &["leads"], &["check"]] {
                let output = scene.run(command);
                let said = format!("{output}");
                assert!(
                    said.contains("connection pooler") && said.contains("pool_mode = session"),
                    "{mode} {size}: {said}"
                );
                if command != ["check"] {
                    assert_eq!(output.code, Some(2), "{mode} {size}: {output}");
                }
            }
            assert_eq!(database.sql("select count(*) from pg_namespace where nspname = 'conversica_sync'").trim(), "0");
            let left = "select concat(current_setting('search_path'), current_setting('lock_timeout'))";
            if mode.contains("transaction") {
                assert_eq!(pooler.ask_all(1, left), ["\"$user\", public0"]);
            }
        }
    }
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_state_behind_a_session_pooler_works() {
    let endpoint = StandIn::accepting();
    let database = cluster().database();
    let pooler = PgBouncer::before(&database, &["pool_mode = session", "default_pool_size = 20"]);
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set_text("state", "url", &pooler.url());
    scene.run(&["once"]).expect_code(0);
    let daemon = scene.daemon();
    scene.wait_for_status("everything sent", SOON, |status| {
        status["leads"]["pending"] == 0 && status["leads"]["in_flight"] == 0
    });
    drop(daemon);
    assert_eq!(endpoint.requests().len(), 4);
}

/// A poll that reads more rows than fit in memory, over the only session of the pooler.
#[test]
fn a_pooler_with_one_server_session_is_enough_for_a_source() {
    const MANY: u32 = 9_000;
    for (mode, changes) in [("transaction", "poll"), ("transaction", "triggers"), ("session", "poll")] {
        let endpoint = StandIn::accepting();
        let mode_line = format!("pool_mode = {mode}");
        let (mut scene, pooler) = scene_behind_a_pooler(&endpoint, cluster(), &[&mode_line, "default_pool_size = 1"]);
        scene.add(31, MANY);
        scene.set_text("safety", "first_run", "baseline").set_text("source", "changes", changes);
        if changes == "triggers" {
            scene.run(&["triggers", "install", "--yes"]).expect_code(0);
        }
        let began = Instant::now();
        let read = scene.run(&["once", "--json"]);
        assert_eq!(read.json()["last_poll"]["rows"], MANY, "{mode} {changes}: {read}");
        assert!(began.elapsed() < SOON * 2, "{mode} {changes}: {:?}", began.elapsed());
        for command in [&["plan"][..], &["check"]] {
            let output = scene.run(command);
            assert!(matches!(output.code, Some(0 | 3 | 4)), "{mode} {changes}: {output}");
        }
        let daemon = scene.daemon();
        scene.crm("update leads set last_name = 'Bee' where id = 3");
        wait_until("the change", SOON * 2, || endpoint.bodies_of("3").len() == 1);
        let log = daemon.kill();
        assert!(!log.stderr.contains("a poll failed"), "{mode} {changes}: {log}");
        drop(pooler);
    }
}

#[test]
fn a_pooler_that_refuses_transactions_is_refused_with_the_cure() {
    let endpoint = StandIn::accepting();
    for size in ["default_pool_size = 1", "default_pool_size = 20"] {
        let (mut scene, pooler) = scene_behind_a_pooler(&endpoint, cluster(), &["pool_mode = statement", size]);
        for changes in ["poll", "triggers"] {
            scene.set_text("source", "changes", changes);
            for command in [&["run"][..], &["once"], &["plan"], &["check"], &["triggers", "install", "--yes"]] {
                let output = scene.run(command);
                let said = format!("{output}");
                let cure = ["pool_mode = transaction", "pool_mode = session", "the PostgreSQL server itself"];
                assert!(cure.iter().all(|part| said.contains(part)), "{size} {command:?}: {said}");
                assert!(said.contains("refuses transactions"), "{size} {command:?}: {said}");
                assert!(!said.contains("error with configuration"), "{size} {command:?}: {said}");
                assert_ne!(output.code, Some(0), "{size} {command:?}: {said}");
                if command != ["check"] {
                    assert_eq!(output.code, Some(2), "{size} {command:?}: {said}");
                }
            }
        }
        let init = scene.run(&["init", "--url", &pooler.url(), "--output", "other.toml"]);
        assert!(init.stderr.contains("pool_mode = transaction"), "{init}");
    }
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn check_says_whether_notifications_come() {
    let endpoint = StandIn::accepting();
    let items = |scene: &Scene| -> Vec<(String, String)> {
        let list = scene.run(&["check", "--json"]).json();
        let items = list["items"].as_array().expect("a list").iter();
        let of_notifications = items.filter(|item| item["section"] == "triggers" && item["name"] == "notify");
        of_notifications
            .map(|item| {
                let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
                (text("state"), format!("{} {}", text("detail"), text("cure")))
            })
            .collect()
    };
    for (settings, state, words) in [
        (["pool_mode = transaction", "default_pool_size = 4"], "warn", "found at the next poll"),
        (["pool_mode = transaction", "default_pool_size = 1"], "warn", "found at the next poll"),
        (["pool_mode = session", "default_pool_size = 20"], "ok", "a change is read at once"),
    ] {
        let (mut scene, pooler) = scene_behind_a_pooler(&endpoint, cluster(), &settings);
        scene.set_text("source", "changes", "triggers");
        scene.run(&["triggers", "install", "--yes"]).expect_code(0);
        let before = pooler.ask_all(1, LEFT_BEHIND);
        let found = items(&scene);
        assert_eq!(found.len(), 1, "{settings:?}: {found:?}");
        assert!(found[0].0 == state && found[0].1.contains(words), "{settings:?}: {found:?}");
        assert_eq!(state == "warn", found[0].1.contains("pool_mode = session"), "{settings:?}: {found:?}");
        if settings[0].contains("transaction") {
            assert_eq!(pooler.ask_all(1, LEFT_BEHIND), before);
        }
        scene.run(&["triggers", "install", "--yes", "--no-notify"]);
        scene.set_text("source", "changes", "poll");
        assert_eq!(items(&scene), [], "{settings:?}: polling waits for no notification");
    }
}
