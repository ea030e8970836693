//! How `check` reports the detection of changes: the index, blank and future stamps, and which open transactions are
//! visible.

use sqlx::{Connection, Executor, PgConnection};

use crate::support::binary::Output;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    check_says_whether_an_index_serves_the_polls,
    check_counts_the_blank_stamps_and_names_those_in_the_future,
    check_counts_the_stamps_that_do_not_sort_with_the_newest,
);

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    scene.set_text("source", "changed_at", "changed");
    scene.crm(&format!("alter table leads add column changed {}", engine.pick("text", "timestamptz")));
    scene.crm("update leads set changed = '2026-06-01 12:00:00'");
    scene
}

#[track_caller]
fn says(output: &Output, mark: &str, text: &str) {
    let line = output.stdout.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {output}"));
    assert!(line.starts_with(mark), "{line}");
}

fn check_says_whether_an_index_serves_the_polls(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    says(&scene.run(&["check"]).expect_code(0), "look", "no index serves changed_at");
    scene.crm("create index leads_changed on leads (changed)");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
    scene.set_text("source", "changed_at", "coalesce(changed, null)");
    says(&scene.run(&["check"]).expect_code(0), "look", "no index serves changed_at");
    scene.crm("create index leads_expression on leads (coalesce(changed, null))");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
    scene.crm("create view people as select * from leads");
    scene.set_text("source", "changed_at", "changed").set_text("source", "table", "people");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
}

fn check_counts_the_blank_stamps_and_names_those_in_the_future(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let good = scene.run(&["check"]).expect_code(0);
    says(&good, "ok", "every row has a changed_at");
    assert!(!good.stdout.contains("future"), "{good}");
    scene.crm("update leads set changed = null where id < 3");
    says(&scene.run(&["check"]).expect_code(0), "look", "2 row(s) have no changed_at: only full compares see them");
    scene.crm("update leads set changed = '2199-01-01 00:00:00' where id = 4");
    says(&scene.run(&["check"]).expect_code(0), "look", "the newest changed_at lies in the future");
    if engine == Engine::Sqlite {
        scene.crm("update leads set changed = 'soon' where id = 4");
        says(&scene.run(&["check"]).expect_code(0), "look", "no date, time or epoch number");
    }
}

#[test]
fn check_says_whose_open_transactions_are_seen_and_how_to_see_all() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Postgres, &endpoint);
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");
    scene.crm("drop role if exists \"near sighted\"; create role \"near sighted\" login; grant select on leads to \"near sighted\"");
    let url = scene.crm_store().url().replace("postgres@", "near%20sighted@");
    scene.set_text("source", "url", &url);
    let output = scene.run(&["check"]).expect_code(0);
    says(&output, "look", "only [source] lookback (5m) finds the rows of a transaction that commits late");
    assert!(output.stdout.contains("grant pg_read_all_stats to \"near sighted\""), "{output}");
    scene.crm("grant pg_read_all_stats to \"near sighted\"");
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");
}

#[test]
fn check_says_where_open_transactions_are_not_all_there_is() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Postgres, &endpoint);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut silent = runtime.block_on(PgConnection::connect(&scene.crm_store().url())).unwrap();
    runtime.block_on(silent.execute("set track_activities = off")).unwrap();
    says(&scene.run(&["check"]).expect_code(0), "look", "track_activities is off for them");
    runtime.block_on(silent.close()).unwrap();
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");

    scene.crm(
        "create extension file_fdw; create server elsewhere foreign data wrapper file_fdw; \
         create foreign table far (id integer) server elsewhere options (program 'true'); \
         create view people as select * from leads where id not in (select id from far)",
    );
    scene.set_text("source", "table", "people");
    says(&scene.run(&["check"]).expect_code(0), "look", "the source reads a foreign table");
    scene.set_text("source", "table", "leads");
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");

    scene.crm(
        "create subscription taken connection 'host=127.0.0.1 port=9 dbname=none' publication all_of_it \
         with (connect = false)",
    );
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");
    scene.crm("alter subscription taken enable");
    says(&scene.run(&["check"]).expect_code(0), "look", "this database takes rows over by a subscription");
    scene.crm("alter subscription taken disable");
    scene.crm("alter subscription taken set (slot_name = none)");
    scene.crm("drop subscription taken");
}

fn check_counts_the_stamps_that_do_not_sort_with_the_newest(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    if engine == Engine::Postgres {
        scene.crm("alter table leads alter changed type text using to_char(changed, 'YYYY-MM-DD HH24:MI:SS')");
    }
    let good = scene.run(&["check"]).expect_code(0);
    assert!(!good.stdout.contains("another form") && !good.stdout.contains("another zone"), "{good}");
    scene.crm("update leads set changed = '' where id = 1");
    scene.crm("update leads set changed = '1780318799' where id = 2");
    says(&scene.run(&["check"]).expect_code(0), "look", "2 row(s) have a changed_at of another form than the newest");
    scene.crm("update leads set changed = '2026-05-01T10:00:00+02:00' where id = 1");
    says(&scene.run(&["check"]).expect_code(0), "look", "1 row(s) have a changed_at of another zone than the newest");
    scene.crm("alter table leads drop column changed");
    scene.crm("alter table leads add column changed bigint");
    scene.crm("update leads set changed = id");
    scene.crm("update leads set changed = 1780318799 where id = 4");
    says(&scene.run(&["check"]).expect_code(0), "look", "3 row(s) have a changed_at of another form than the newest");
}

/// LATIN1 lacks some characters, and a non-ASCII key would come back longer in bytes than it was counted.
#[test]
fn a_state_that_could_not_keep_every_name_is_refused_with_its_cure() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 1);
    scene.set_text("state", "url", &cluster().database_in("LATIN1").url);
    for command in [["check"], ["once"], ["plan"], ["status"]] {
        let output = scene.run(&command).expect_code(2);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("keeps texts as LATIN1"), "{output}");
        assert!(said.contains("create database conversica encoding 'UTF8' template template0"), "{output}");
    }
    assert_eq!(endpoint.requests().len(), 0);
}

/// WIN1251 sorts letters in another order than UTF-8, so the compare could take a present lead for a gone one.
#[test]
fn text_keys_in_another_encoding_stop_the_pass_and_the_message_says_why() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 0);
    let crm = cluster().database_in("WIN1251");
    scene.set_text("source", "url", &crm.url).set_text("source", "key", "key");
    // U+0451 and U+0410: in WIN1251 U+0451 comes first.
    crm.sql(
        "create table leads (key text primary key, first_name text, last_name text, email text, owner_name text, \
             opt_out integer not null default 0); \
         insert into leads select convert_from(decode(letter, 'hex'), 'UTF8'), 'Ada', 'Byron', 'ada@example.com', 'Charles', 0 \
             from unnest(array['d191', 'd090']) as letter",
    );
    let output = scene.run(&["once", "--full"]).expect_code(2);
    assert!(output.stderr.contains("do not come in the order of their UTF-8 bytes"), "{output}");
    assert!(output.stderr.contains("a database with encoding UTF8"), "{output}");
    assert_eq!(endpoint.requests().len(), 0);
}
