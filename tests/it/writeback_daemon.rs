//! The daemon's write-back to the CRM: through kills and outages, without causing sends of its own, and as people see it.

use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::json;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::heard::Heard;
use crate::support::postgres::{Cluster, cluster};
use crate::support::scene::{Scene, Store};
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

on_both_engines!(
    blocking: kills_at_any_moment_repeat_nothing_and_lose_nothing,
    what_is_written_to_unmapped_columns_sends_nothing_and_to_a_mapped_one_once,
    the_same_with_triggers,
    what_is_stopped_is_listed_and_put_back,
    check_says_whether_the_tables_can_be_made_and_makes_none,
    check_prepares_statements_and_runs_none,
    the_script_that_is_printed_makes_what_is_needed,
);

/// With a receiver, which the write-back needs.
fn receiving(scene: &mut Scene) {
    scene.set_text("receive", "listen", "127.0.0.1:0").set_text("receive", "username", "conversica");
    scene.set_text("receive", "password", "a password for Conversica");
}

fn queue(scene: &Scene) -> Vec<String> {
    scene.state("select status || ' ' || coalesce(detail, '') from writeback order by event_seq")
}

#[track_caller]
fn wait_for_empty_queue(scene: &Scene) {
    wait_until("everything to be written", PATIENCE, || queue(scene).is_empty());
}

fn ended(daemon: crate::support::binary::Running) {
    daemon.signal(Signal::Terminate);
    daemon.wait(PATIENCE).expect_code(0);
}

fn kills_at_any_moment_repeat_nothing_and_lose_nothing(engine: Engine) {
    const ROUNDS: u32 = 12;
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    receiving(&mut scene);
    scene.set_text("writeback", "mode", "sql");
    scene.set_text("writeback", "message", "insert into log (lead, body) values (:id, :body)");
    scene.crm(engine.pick(
        "create table log (n integer primary key autoincrement, lead text, body text)",
        "create table log (n bigint generated always as identity, lead text, body text)",
    ));
    scene.run(&["once"]).expect_code(0);
    let mut rng = rand::rng();
    for round in 0..ROUNDS {
        let all: Vec<Heard> =
            (0..40).map(|n| Heard::message(&(n % 4).to_string(), "sent", &format!("{:04}", round * 40 + n))).collect();
        Heard::put_all(&all, scene.state_store());
        let mut daemon = scene.cli().spawn(&["run"]);
        daemon.wait_for_line("\"message\":\"running\"", PATIENCE);
        let (start, life) = (Instant::now(), Duration::from_micros(rng.random_range(0..60_000)));
        wait_until("its time to be over", PATIENCE, || start.elapsed() >= life);
        daemon.kill();
    }
    let daemon = scene.daemon();
    wait_for_empty_queue(&scene);
    ended(daemon);
    for lead in 0..4 {
        let written = scene.crm(&format!("select body from log where lead = '{lead}' order by n"));
        let expected: Vec<String> =
            (0..ROUNDS * 40).filter(|n| n % 40 % 4 == lead).map(|n| format!("{n:04}")).collect();
        assert_eq!(written, expected, "lead {lead}: each once, in order");
    }
}

fn what_is_written_to_unmapped_columns_sends_nothing_and_to_a_mapped_one_once(engine: Engine) {
    own_writing_is_no_news(engine, "poll");
}

fn the_same_with_triggers(engine: Engine) {
    own_writing_is_no_news(engine, "triggers");
}

fn own_writing_is_no_news(engine: Engine, changes: &str) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 5);
    receiving(&mut scene);
    let (moment, now) =
        engine.pick(("text", "strftime('%Y-%m-%d %H:%M:%f', 'now')"), ("timestamptz", "clock_timestamp()"));
    scene.crm(&format!(
        "alter table leads add hot text; alter table leads add status text; alter table leads add changed {moment}"
    ));
    scene.crm(&format!("update leads set changed = {now}"));
    scene.set_text("source", "changed_at", "changed").set_text("source", "changes", changes);
    scene.set_text("lead", "leadStatus", "status").set_text("writeback", "mode", "sql");
    let statement = format!(
        "update leads set hot = coalesce(:hotLead, hot), status = coalesce(:leadStatus, status), changed = {now} where id = :id"
    );
    scene.set_text("writeback", "lead_update", &statement);
    if changes == "triggers" {
        scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    }
    let daemon = scene.daemon();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 5);
    assert_eq!(endpoint.requests().len(), 5);

    for id in ["1", "2", "3"] {
        Heard::update(id, json!({"hotLead": true, "hotLeadDate": "2026-02-03T04:05:06+00:00"}))
            .put(scene.state_store());
    }
    wait_for_empty_queue(&scene);
    assert_eq!(scene.crm("select cast(count(*) as text) from leads where hot is not null"), ["3"]);
    two_more_polls(&scene);
    assert_eq!(endpoint.requests().len(), 5, "our own writing is no news");

    Heard::update("2", json!({"leadStatus": "Hot Lead"})).put(scene.state_store());
    endpoint.wait_for_requests(6, PATIENCE);
    assert_eq!(endpoint.bodies_of("2")[1]["leadStatus"], "Hot Lead");
    wait_for_empty_queue(&scene);
    two_more_polls(&scene);
    assert_eq!(endpoint.requests().len(), 6, "and then there is rest");
    ended(daemon);
}

#[track_caller]
fn two_more_polls(scene: &Scene) {
    for _ in 0..2 {
        let before = scene.status()["last_poll"]["at"].clone();
        scene.wait_for_status("another poll", PATIENCE, |status| status["last_poll"]["at"] != before);
    }
}

#[test]
fn a_crm_that_is_away_is_missed_aloud_and_caught_up_with() {
    let cluster = Cluster::private();
    let database = cluster.database();
    database.sql("create table log (lead text, body text)");
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    receiving(&mut scene);
    scene.set_text("writeback", "mode", "sql").set_text("writeback", "url", &database.url);
    scene.set_text("writeback", "message", "insert into log values (:id, :body)");
    let mut daemon = scene.daemon();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 1);
    Heard::message("1", "sent", "before").put(scene.state_store());
    wait_for_empty_queue(&scene);
    cluster.stop();
    Heard::message("1", "sent", "meanwhile").put(scene.state_store());
    daemon.wait_for_line("events from Conversica cannot be written to the CRM; they wait", PATIENCE);
    Heard::message("1", "sent", "later").put(scene.state_store());
    // The sending to Conversica continues.
    scene.crm("update leads set last_name = 'Newer'");
    endpoint.wait_for_requests(2, PATIENCE);
    cluster.start();
    daemon.wait_for_line("writing to the CRM works again", PATIENCE);
    wait_for_empty_queue(&scene);
    assert_eq!(database.sql("select body from log"), "before\nmeanwhile\nlater");
    let said = daemon.stderr();
    assert_eq!(said.matches("they wait").count(), 1, "said once: {said}");
    ended(daemon);
}

#[test]
fn several_instances_write_each_event_once_and_in_order() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 1);
    receiving(&mut scene);
    scene.set_text("writeback", "mode", "sql");
    scene.set_text("writeback", "message", "insert into log (lead, body) values (:id, :body)");
    scene.crm("create table log (n bigint generated always as identity, lead text, body text)");
    let daemons = [scene.daemon(), scene.daemon(), scene.daemon()];
    for round in 0..10 {
        let message = |n: u32| Heard::message(&(n % 3).to_string(), "sent", &format!("{:04}", round * 40 + n));
        Heard::put_all(&(0..40).map(message).collect::<Vec<_>>(), scene.state_store());
    }
    wait_for_empty_queue(&scene);
    for lead in 0..3 {
        let written = scene.crm(&format!("select body from log where lead = '{lead}' order by n"));
        let mut sorted = written.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(written, sorted, "lead {lead}: each once, in order");
    }
    assert_eq!(scene.crm("select count(*) from log"), ["400"]);
    daemons.into_iter().for_each(ended);
}

#[test]
fn tables_that_would_be_published_to_subscribers_without_them_are_not_made() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 1);
    receiving(&mut scene);
    scene.crm("create publication everything for all tables; create publication schemas for tables in schema public");
    let check = scene.run(&["check"]).expect_code(2);
    let said =
        check.stdout.contains("everything, schemas would publish it") && check.stdout.contains("writeback print");
    assert!(said, "{check}");
    scene.crm(&scene.run(&["writeback", "print"]).expect_code(0).stdout);
    assert!(scene.run(&["check"]).stdout.contains("conversica_chat_leads can be written"));
}

#[test]
fn a_role_that_may_not_write_is_told_what_to_grant_and_then_goes_on() {
    let database = cluster().database();
    let role = format!("role_{}", database.name);
    database.sql(&format!(
        "create role {role} login; create schema crm; grant usage on schema crm to {role}; create table crm.leads \
        (id integer, first_name text, last_name text, email text, owner_name text, opt_out integer); \
        grant select on crm.leads to {role}"
    ));
    let url = database.url.replacen("postgres@", &format!("{role}@"), 1);
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    receiving(&mut scene);
    scene.set_text("source", "url", &url).set_text("source", "table", "crm.leads");
    let check = scene.run(&["check"]).expect_code(2);
    assert!(
        check.stdout.contains("BAD   writeback creating the table \"crm\".\"conversica_leads\": permission denied"),
        "{check}"
    );
    assert!(check.stdout.contains("conversica-sync writeback print"), "{check}");
    let mut daemon = scene.daemon();
    scene.wait_for_status("a poll", PATIENCE, |status| status["last_poll"]["rows"] == 0);
    Heard::message("1", "received", "Ann is personal").put(scene.state_store());
    let line = daemon.wait_for_line("they wait", PATIENCE);
    assert!(line.contains("permission denied for schema crm") && line.contains("writeback print"), "{line}");
    assert_eq!(queue(&scene), ["waiting "]);
    // The fix in the message works.
    let script = scene.run(&["writeback", "print"]).expect_code(0).stdout;
    assert!(script.contains(&format!("grant select, insert, update on \"crm\".\"conversica_leads\", \"crm\".\"conversica_messages\", \"crm\".\"conversica_chat_leads\" to \"{role}\"")), "{script}");
    database.sql(&script);
    wait_for_empty_queue(&scene);
    assert_eq!(database.sql("select body from crm.conversica_messages"), "Ann is personal");
    assert!(!daemon.stderr().contains("Ann is"));
    ended(daemon);
    let check = scene.run(&["check"]);
    assert!(
        check
            .stdout
            .contains("ok    writeback conversica_leads, conversica_messages, conversica_chat_leads can be written"),
        "{check}"
    );
}

fn what_is_stopped_is_listed_and_put_back(engine: Engine) {
    let mut scene = Scene::on(engine, "http://127.0.0.1:9/json/", 0);
    receiving(&mut scene);
    scene.set_text("writeback", "mode", "sql");
    scene.set_text("writeback", "message", "insert into log (lead, body) values (:id, :body)");
    scene.crm("create table log (lead text, body text check (body not like 'Ann%'))");
    assert!(scene.run(&["writeback", "stopped"]).expect_code(0).stdout.contains("Nothing is stopped."));
    let mut daemon = scene.daemon();
    scene.wait_for_status("a poll", PATIENCE, |status| status["last_poll"]["rows"] == 0);
    let message = |id: &str, body: &str| Heard::message(id, "received", body);
    let all = [message("7", "Ann one"), message("7", "two"), message("8", "Ann three"), message("9", "four")];
    Heard::put_all(&all, scene.state_store());
    daemon.wait_for_line("given up", PATIENCE);
    wait_until("both to be stopped", PATIENCE, || {
        queue(&scene).iter().filter(|row| row.starts_with("stopped")).count() == 2
    });
    let stopped = scene.run(&["writeback", "stopped", "--json"]).expect_code(0).json();
    assert_eq!(stopped["total"], 2);
    let first = &stopped["stopped"][0];
    assert_eq!(
        (&first["id"], &first["kind"], &first["attempts"], &first["behind"]),
        (&json!("7"), &json!("message"), &json!(5), &json!(1))
    );
    assert!(
        first["since"].is_string()
            && first["detail"].as_str().is_some_and(|detail| detail.contains("running [writeback] message"))
    );
    let list = scene.run(&["writeback", "stopped"]).expect_code(0);
    assert!(list.stdout.contains("message") && !list.stdout.contains("Ann"), "{list}");
    assert!(!daemon.stderr().contains("Ann"), "{}", daemon.stderr());
    scene.run(&["writeback", "retry"]).expect_code(2);
    for misspelt in [&["writeback", "retry", "999"][..], &["writeback", "retry", "--event", "999999"]] {
        assert!(scene.run(misspelt).expect_code(2).stderr.contains("none of these events is stopped"));
    }

    scene.crm(engine.pick(
        "drop table log; create table log (lead text, body text)",
        "alter table log drop constraint log_body_check",
    ));
    let retry = scene.run(&["writeback", "retry", "7"]).expect_code(0);
    assert!(retry.stdout.contains("1 event back in the queue."), "{retry}");
    wait_until("lead 7 to arrive", PATIENCE, || {
        scene.crm("select body from log where lead = '7'") == ["Ann one", "two"]
    });
    let event = &stopped["stopped"][1]["event"];
    let retry = scene.run(&["writeback", "retry", "--event", &event.to_string()]).expect_code(0);
    assert!(retry.stdout.contains("1 event back"), "{retry}");
    wait_for_empty_queue(&scene);
    assert!(scene.run(&["writeback", "retry", "--all"]).expect_code(0).stdout.contains("0 events back"));
    ended(daemon);
}

fn tables(scene: &Scene) -> Vec<String> {
    let sql = match scene.crm_store() {
        Store::File(_) => {
            "select name from sqlite_master where name like 'conversica%' and type = 'table' order by name"
        }
        Store::Database(_) => {
            "select table_name from information_schema.tables where table_name like 'conversica%' order by 1"
        }
    };
    scene.crm(sql)
}

fn check_says_whether_the_tables_can_be_made_and_makes_none(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    assert!(
        !scene.run(&["check"]).expect_code(0).stdout.contains("writeback"),
        "without a receiver there is no way back"
    );
    receiving(&mut scene);
    let check = scene.run(&["check"]).expect_code(0);
    let line = "ok    writeback conversica_leads, conversica_messages, conversica_chat_leads can be made and written; made at first use";
    assert!(check.stdout.contains(line), "{check}");
    assert!(tables(&scene).is_empty());
}

fn check_prepares_statements_and_runs_none(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    receiving(&mut scene);
    scene.set_text("writeback", "mode", "sql");
    scene.set_text("writeback", "lead_update", "delete from leads where id = :id or first_name = :leadStatsu");
    let check = scene.run(&["check"]).expect_code(0);
    for line in [
        "ok    writeback conversica_writeback can be made and written; made at first use",
        "ok    writeback lead_update is understood by the database; it was not run",
        "look  writeback lead_update: no published key is called :leadStatsu, so it is NULL unless Conversica sends it; did you mean :leadStatus?",
        "look  writeback there is no message: such events are not written",
    ] {
        assert!(check.stdout.contains(line), "{line}: {check}");
    }
    assert_eq!(scene.crm("select id || '' from leads"), ["1"]);
    assert!(tables(&scene).is_empty());

    scene.set_text("writeback", "lead_update", "update leads set first_name = :leadStatus, wrong = 1 where id = :id");
    let check = scene.run(&["check"]).expect_code(2);
    let what = engine.pick(
        "preparing [writeback] lead_update: no such column: wrong",
        "preparing [writeback] lead_update (at character 44): column \"wrong\" of relation \"leads\" does not exist",
    );
    assert!(check.stdout.contains(what), "{check}");
    scene.set_text("writeback", "lead_update", "update leads set first_name = 'half");
    for command in ["check", "run"] {
        let refused = scene.run(&[command]).expect_code(2);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("[writeback] lead_update: a text in quotes has no end, at character 31"), "{refused}");
    }
}

fn the_script_that_is_printed_makes_what_is_needed(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    receiving(&mut scene);
    let script = scene.run(&["writeback", "print"]).expect_code(0).stdout;
    scene.crm(&script);
    scene.crm(&script);
    assert_eq!(tables(&scene), ["conversica_chat_leads", "conversica_leads", "conversica_messages"]);
    assert!(scene.run(&["check"]).expect_code(0).stdout.contains("conversica_chat_leads can be written"));
    scene.set_text("writeback", "mode", "sql").set_text("writeback", "message", "select :id");
    let script = scene.run(&["writeback", "print"]).expect_code(0).stdout;
    scene.crm(&script);
    assert!(tables(&scene).contains(&"conversica_writeback".to_owned()));
    assert!(scene.run(&["check"]).expect_code(0).stdout.contains("conversica_writeback can be written"));
}
