//! Rows without a valid key, and texts with an invalid encoding: each affects its own row only, and no lead counts as
//! gone because of it.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    rows_without_a_usable_key_stop_nobody_and_are_counted,
    a_lead_whose_row_may_have_lost_its_key_is_not_gone,
    the_change_log_counts_rows_without_a_key,
);

const TABLE: &str = "create table leads (id text, first_name text, last_name text, email text, owner_name text, \
                     opt_out integer not null default 0, conversation text)";

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(TABLE);
    (1..=5).for_each(|id| add(&scene, &format!("'{id}'")));
    scene.set_text("source", "on_delete", "stop_messaging");
    scene
}

/// Each row is another person: an opt-out of one of them holds for no other.
const ADDRESS: &str = "'ann' || (select count(*) from leads) || '@example.com'";

fn add(scene: &Scene, key: &str) {
    scene.crm(&format!(
        "insert into leads (id, first_name, last_name, email, owner_name) \
         values ({key}, 'Ann', 'Bell', {ADDRESS}, 'Rae Rep')"
    ));
}

fn unnamed(status: &Value) -> Value {
    status["last_poll"]["unnamed"].clone()
}

fn rows_without_a_usable_key_stop_nobody_and_are_counted(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    add(&scene, "null");
    add(&scene, &format!("'{}'", "long".repeat(300)));
    if engine == Engine::Sqlite {
        add(&scene, "'a' || char(0) || 'b'");
        add(&scene, "cast(x'4dfc' as text)");
        add(&scene, "cast(x'4dff' as text)");
    }
    let expected = engine.pick(5, 2);
    let document = scene.run(&["once", "--json"]).expect_code(3).json();
    assert_eq!((&document["pass"]["polled"]["unnamed"], unnamed(&document)), (&json!(expected), json!(expected)));
    assert_eq!((endpoint.answered(), &document["leads"]["in_sync"]), (5, &json!(5)));
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(0).json()["unnamed"], expected);
    let status = scene.run(&["status"]).expect_code(3);
    assert!(status.stdout.contains(&format!("{expected} rows of the source have no key")), "{status}");
    let check = scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("1 row(s) have no value in the key column \"id\""), "{check}");
    assert!(check.stdout.contains("longer than 1,000 bytes or hold a NUL"), "{check}");
    assert_eq!(check.stdout.contains("2 row(s) are not valid UTF-8 text"), engine == Engine::Sqlite, "{check}");
    scene.crm("delete from leads where id is null or id not in ('1', '2', '3', '4', '5')");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((unnamed(&scene.status()), endpoint.answered()), (json!(0), 5));
}

fn a_lead_whose_row_may_have_lost_its_key_is_not_gone(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set id = null where id = '2'");
    for _ in 0..2 {
        scene.run(&["once", "--full"]).expect_code(3);
    }
    assert_eq!((endpoint.answered(), &scene.status()["leads"]["gone"]), (5, &json!(0)), "nobody is told to stop");
    scene.crm("update leads set id = '2' where id is null");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 5);
    scene.crm("delete from leads where id = '2'");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2")[1]["stopMessaging"], true, "without such rows who is missing is gone");
}

fn the_change_log_counts_rows_without_a_key(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    scene.set_text("source", "changes", "triggers");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set id = null where id = '2'");
    if engine == Engine::Sqlite {
        add(&scene, "cast(x'4dfc' as text)");
    }
    scene.crm("update leads set opt_out = 1 where id = '3'");
    scene.run(&["once"]).expect_code(3);
    assert_eq!(endpoint.bodies_of("3")[1]["optOut"], true);
    scene.run(&["once"]).expect_code(3);
    assert_eq!(unnamed(&scene.status()), engine.pick(2, 1));
    assert_eq!((endpoint.answered(), &scene.status()["leads"]["gone"]), (6, &json!(0)));
    scene.crm("delete from leads where id is null or id not in ('1', '3', '4', '5')");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2")[1]["stopMessaging"], true);
}

#[test]
fn a_database_in_sql_ascii_is_read_as_it_is() {
    for changes in ["poll", "triggers"] {
        let database = cluster().database_in("SQL_ASCII");
        database.sql(&TABLE.replace("id text", "id text primary key").replace("conversation text", "updated_at text"));
        let endpoint = StandIn::accepting();
        let mut scene = Scene::without_source(&endpoint.url());
        scene.set_text("source", "url", &database.url).set_text("source", "changes", changes);
        scene.set_text("source", "on_delete", "stop_messaging");
        if changes == "poll" {
            scene.set_text("source", "changed_at", "updated_at");
        } else {
            scene.run(&["triggers", "install", "--yes"]).expect_code(0);
        }
        let add = |key: &str, name: &str, stamp: &str| {
            database.sql(&format!(
                "insert into leads values (E'{key}', E'{name}', 'Bell', {ADDRESS}, 'Rae', 0, E'{stamp}')"
            ));
        };
        add("1", "Zo\\xc3\\xab", "2026-01-01 00:00:00");
        add("2", "M\\xfcller", "2026-01-01 00:00:00");
        add("M\\xfcnchen", "Ann", "2026-01-01 00:00:00");
        add("4", "Ann", "2026-01-01 00:00:00\\xfc");
        let document = scene.run(&["once", "--json"]).expect_code(3).json();
        assert_eq!((&document["leads"]["in_sync"], &document["leads"]["invalid"]), (&json!(2), &json!(1)), "{changes}");
        assert_eq!((unnamed(&document), endpoint.answered()), (json!(1), 2), "{changes}");
        assert_eq!(endpoint.bodies_of("1")[0]["firstName"], "Zoë");
        let invalid = scene.run(&["leads", "--status", "invalid"]).expect_code(0);
        assert!(invalid.stdout.contains("firstName: is not valid UTF-8 text (column \"first_name\")"), "{invalid}");
        let check = scene.run(&["check"]).expect_code(2);
        assert!(check.stdout.contains("1 row(s) are not valid UTF-8 text in the key column"), "{check}");
        database.sql("update leads set opt_out = 1, updated_at = '2026-01-02 00:00:00' where id = '1'");
        database.sql("update leads set first_name = E'M\\xfc', updated_at = '2026-01-02 00:00:00' where id = '4'");
        database.sql("update leads set last_name = 'Bell', updated_at = '2026-01-02 00:00:00' where id > '4'");
        scene.run(&["once"]).expect_code(3);
        assert_eq!(endpoint.bodies_of("1")[1]["optOut"], true, "{changes}");
        assert_eq!((scene.status()["leads"]["invalid"].clone(), endpoint.answered()), (json!(2), 3), "{changes}");
    }
}
