//! Changes found by triggers: each kind arrives exactly, at once, and without a poll; no change is lost when triggers,
//! sessions, servers or the program itself go away.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::Cluster;
use crate::support::scene::Scene;
use crate::support::settled::{rows, settled};
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    every_kind_of_change_arrives_without_a_poll,
    what_is_written_but_not_yet_taken_out_of_the_log_is_neither_lost_nor_sent_twice,
    a_bulk_load_in_one_statement_is_held_as_one,
    a_flood_of_single_commits_is_held_as_a_poll_would_hold_it,
    two_configurations_with_two_logs_each_see_every_change,
    triggers_that_are_not_there_are_asked_for_and_when_they_are_back_everything_is_compared,
);

const SOON: Duration = Duration::from_secs(30);

/// Polls are ten minutes apart, so a trigger found every change that arrives in a test.
pub fn scene(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), leads);
    triggered(&mut scene);
    scene
}

fn triggered(scene: &mut Scene) {
    scene.set_text("source", "changes", "triggers").set_text("source", "poll_interval", "10m");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
}

/// The number of requests for that id.
fn requests(endpoint: &StandIn, id: &str) -> usize {
    endpoint.requests().iter().filter(|received| received.request.id.as_deref() == Some(id)).count()
}

#[track_caller]
fn wait_for_gone(scene: &Scene, gone: u64) {
    scene.wait_for_status(&format!("{gone} gone"), SOON, |status| status["leads"]["gone"] == gone);
}

fn every_kind_of_change_arrives_without_a_poll(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, 6);
    scene.set_text("source", "where", "last_name <> 'Spam'");
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    let before = endpoint.requests().len();

    scene.crm("insert into leads (id, first_name, last_name, email, owner_name) values (7, 'Zoë', 'New', 'zoe@example.com', 'Rae')");
    settled(&scene, &[&endpoint], SOON);
    scene.crm("update leads set last_name = 'Multi' where id in (1, 2, 3)");
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.requests().len(), before + 4, "each change was sent once, and nothing else");

    // The key changes: one lead is gone, another one is new.
    scene.crm("update leads set id = 70 where id = 7");
    wait_until("lead 70", SOON, || requests(&endpoint, "70") == 1);
    wait_for_gone(&scene, 1);
    scene.crm("delete from leads where id in (1, 70)");
    wait_for_gone(&scene, 3);
    scene.crm("update leads set last_name = 'Spam' where id = 2");
    wait_for_gone(&scene, 4);
    scene.crm("update leads set last_name = 'Ham' where id = 2");
    wait_for_gone(&scene, 3);
    scene.wait_for_status("the others in step", SOON, |status| status["leads"]["in_sync"] == 5);

    // A rolled-back change has no effect; a change of an unmapped column sends nothing.
    scene.crm("begin; update leads set last_name = 'Never' where id = 4; rollback");
    scene.crm("update leads set conversation = 'Other' where id = 4");
    wait_until("an empty log", SOON, || log_rows(&scene, "conversica_sync_leads") == "0");
    assert_eq!((requests(&endpoint, "4"), requests(&endpoint, "5")), (1, 1));
    if engine == Engine::Postgres {
        scene.crm("truncate leads");
        // The poll reads every row, and holds so large a loss.
        scene.wait_for_status("the loss to be held", SOON, |status| {
            status["hold"]["reason"] == "source_shrank" && status["hold"]["leads"] == 5
        });
    }
    assert_eq!(scene.status()["last_poll"]["error"], serde_json::Value::Null);
    drop(daemon);
}

fn log_rows(scene: &Scene, log: &str) -> String {
    scene.crm(&format!("select cast(count(*) as text) from {log}")).concat()
}

fn what_is_written_but_not_yet_taken_out_of_the_log_is_neither_lost_nor_sent_twice(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 3);
    scene.run(&["once"]).expect_code(0);
    // This trigger makes the log refuse deletions: the program gets no further before the kill.
    scene.crm(engine.pick(
        "create trigger stuck before delete on conversica_sync_leads begin select raise(abort, 'stuck'); end",
        "create function stuck() returns trigger language plpgsql as 'begin raise ''stuck''; end'; \
         create trigger stuck before delete on conversica_sync_leads for each row execute function stuck()",
    ));
    let output = scene.killed_daemon("the change at the endpoint", {
        let mut changed = false;
        let (scene, endpoint) = (&scene, &endpoint);
        move || {
            if !std::mem::replace(&mut changed, true) {
                scene.crm("update leads set last_name = 'Once' where id = 2");
            }
            requests(endpoint, "2") == 2
        }
    });
    assert_eq!(log_rows(&scene, "conversica_sync_leads"), "1", "{output}");
    scene.crm(engine.pick("drop trigger stuck", "drop trigger stuck on conversica_sync_leads"));
    let once = scene.run(&["once"]);
    assert!(matches!(once.code, Some(0)), "{once}");
    settled(&scene, &[&endpoint], SOON);
    assert!(requests(&endpoint, "2") <= 3, "at most the request that was in flight is repeated");
    assert_eq!((requests(&endpoint, "1"), requests(&endpoint, "3")), (1, 1));
    assert_eq!(log_rows(&scene, "conversica_sync_leads"), "0");
}

fn a_bulk_load_in_one_statement_is_held_as_one(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 2);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    scene.add(1001, 101_000);
    scene.wait_for_status("all held", Duration::from_secs(180), |status| status["hold"]["leads"] == 100_000);
    wait_until("an empty log", Duration::from_secs(180), || log_rows(&scene, "conversica_sync_leads") == "0");
    assert_eq!(scene.status()["hold"]["reason"], "too_many_changes");
    assert_eq!(endpoint.requests().len(), 2, "nobody was written to");
    drop(daemon);
}

fn a_flood_of_single_commits_is_held_as_a_poll_would_hold_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, 2);
    scene.set("safety", "approve_above", "5");
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    for id in 10..30 {
        scene.add(id, id);
        wait_until("a drained log", SOON, || log_rows(&scene, "conversica_sync_leads") == "0");
    }
    let held = |status: &serde_json::Value| status["leads"]["held"].as_u64().unwrap_or(0);
    scene.wait_for_status("everybody sent or held", SOON, |status| {
        held(status) + status["leads"]["in_sync"].as_u64().unwrap_or(0) == 22
    });
    assert!(held(&scene.status()) >= 15, "{:#}", scene.status());
    assert!(endpoint.requests().len() <= 7);
    drop(daemon);
}

fn two_configurations_with_two_logs_each_see_every_change(engine: Engine) {
    let (one, two) = (StandIn::accepting(), StandIn::accepting());
    let first = scene(engine, &one, 3);
    let mut second = Scene::without_source(&two.url());
    second.set_text("source", "url", &first.crm_store().url());
    second.set_text("source", "change_log", "second_log");
    triggered(&mut second);
    let daemons = (first.daemon(), second.daemon());
    let settled = |last_name: &str| {
        let statement = format!("update leads set last_name = '{last_name}'");
        first.crm(&statement);
        for endpoint in [&one, &two] {
            wait_until("every row at both", SOON, || {
                let requests = endpoint.requests();
                let arrived = requests.iter().filter(|received| received.request.json()["lastName"] == last_name);
                arrived.count() == 3
            });
        }
    };
    settled("Alpha");
    settled("Beta");
    // One instance removes its triggers, the other keeps its own.
    first.run(&["triggers", "remove", "--yes"]).expect_code(0);
    first.crm("update leads set last_name = 'Gamma'");
    wait_until("every row at the second", SOON, || {
        two.requests().iter().filter(|received| received.request.json()["lastName"] == "Gamma").count() == 3
    });
    drop(daemons);
}

fn triggers_that_are_not_there_are_asked_for_and_when_they_are_back_everything_is_compared(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("source", "changes", "triggers").set_text("source", "poll_interval", "100ms");
    for command in ["run", "once", "check"] {
        let output = scene.run(&[command]).expect_code(2);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("not installed") && said.contains("conversica-sync triggers install"), "{output}");
    }
    assert_eq!(endpoint.requests().len(), 0);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let check = scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains("triggers  installed; 1 row(s) wait"), "{check}");

    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    assert!(scene.run(&["check"]).stdout.contains("the change log"), "there is a line");
    let dropped = engine.pick(
        "drop trigger conversica_sync_leads_update",
        "alter table leads disable trigger conversica_sync_leads_update",
    );
    scene.crm(dropped);
    scene.crm("update leads set last_name = 'Unseen' where id = 2");
    scene.wait_for_status("the poll says so", SOON, |status| {
        let error = status["last_poll"]["error"].as_str().unwrap_or_default();
        error.contains("conversica_sync_leads_update") && error.contains("triggers install")
    });
    assert_eq!(requests(&endpoint, "2"), 1);
    match engine {
        Engine::Sqlite => drop(scene.run(&["triggers", "install", "--yes"]).expect_code(0)),
        // The administrator who disabled the trigger enables it again, without the program.
        Engine::Postgres => drop(scene.crm("alter table leads enable trigger conversica_sync_leads_update")),
    }
    settled(&scene, &[&endpoint], SOON);
    assert_eq!((requests(&endpoint, "1"), requests(&endpoint, "2")), (1, 2));
    drop(daemon);
}

#[test]
fn a_transaction_that_commits_late_has_lower_numbers_and_is_not_lost() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Postgres, &endpoint, 4);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut late = runtime.block_on(async {
        let mut late = PgConnection::connect(&scene.crm_store().url()).await.unwrap();
        late.execute("begin").await.unwrap();
        late.execute("update leads set last_name = 'Late' where id = 1").await.unwrap();
        late
    });
    // The program reads and removes later changes from the log while this transaction is still open.
    scene.crm("update leads set last_name = 'Early' where id = 2");
    wait_until("the later change", SOON, || requests(&endpoint, "2") == 2);
    wait_until("an empty log", SOON, || log_rows(&scene, "conversica_sync_leads") == "0");
    runtime.block_on(late.execute("commit")).unwrap();
    wait_until("the late change", SOON, || requests(&endpoint, "1") == 2);
    settled(&scene, &[&endpoint], SOON);
    drop(daemon);
}

#[test]
fn instances_that_share_a_state_share_the_log_and_send_each_change_once() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Postgres, &endpoint, 5);
    let (one, two) = (scene.daemon(), scene.daemon());
    settled(&scene, &[&endpoint], SOON);
    for change in 0..20 {
        scene.crm(&format!("update leads set last_name = 'Change {change}' where id = {}", 1 + change % 5));
    }
    settled(&scene, &[&endpoint], SOON);
    wait_until("an empty log", SOON, || log_rows(&scene, "conversica_sync_leads") == "0");
    // The other instance continues alone.
    drop(one.kill());
    scene.crm("update leads set last_name = 'Alone' where id = 3");
    settled(&scene, &[&endpoint], SOON);
    let requests = endpoint.requests().len();
    assert!(requests <= 5 + 20 + 1, "{requests} requests for 20 changes");
    drop(two);
}

#[test]
fn sessions_that_are_cut_and_servers_that_restart_are_listened_to_again() {
    let cluster = Cluster::private();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    triggered(&mut scene);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    scene.crm("update leads set last_name = 'Heard' where id = 1");
    settled(&scene, &[&endpoint], SOON);
    let listening = "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'";
    scene.crm(&format!("select pg_terminate_backend(pid) from ({listening}) l"));
    scene.crm("update leads set last_name = 'Cut' where id = 2");
    settled(&scene, &[&endpoint], SOON);
    cluster.stop();
    cluster.start();
    scene.crm("update leads set last_name = 'Restarted' where id = 3");
    settled(&scene, &[&endpoint], Duration::from_secs(60));
    assert_eq!(rows(&scene).len(), 3);
    drop(daemon);
}
