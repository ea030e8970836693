//! `check` names the tables that a source reads, and what of them `changed_at` or the triggers would miss, with the text to
//! write; following that finds the changes.

use serde_json::Value;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_stamp_that_changed_at_leaves_out_is_named_with_the_expression_that_takes_it_in,
    a_view_and_a_condition_are_looked_through,
    a_table_without_triggers_is_named_with_its_entry,
    one_table_is_nothing_to_look_at,
    a_table_in_unwatched_that_the_source_does_not_read_is_named,
);

const TABLES: &str = "create table contacts (id integer primary key, first_name text, last_name text, email text, updated_at $); \
    create table users (id integer primary key, name text); \
    create table opportunities (id integer primary key, contact_id integer, user_id integer, opt_out integer not null default 0, \
    updated_at $); insert into users values (1, 'Rae'); \
    insert into contacts values (1, 'Ann', 'Bell', 'ann@example.com', '2026-03-01 10:00:00'), \
    (2, 'Bo', 'Dyck', 'bo@example.com', '2026-03-01 10:00:00'); \
    insert into opportunities values (11, 1, 1, 0, '2026-03-02 10:00:00'), (12, 2, 1, 0, '2026-03-05 10:00:00')";

fn query(changed_at: &str) -> String {
    format!(
        "SELECT o.id, c.first_name, c.last_name, c.email, u.name AS owner_name, o.opt_out, {changed_at} \
         FROM opportunities AS o JOIN contacts c ON c.id = o.contact_id LEFT JOIN users u ON u.id = o.user_id"
    )
}

fn scene(engine: Engine, endpoint: &str) -> Scene {
    let mut scene = Scene::on(engine, endpoint, 0);
    scene.crm(&TABLES.replace('$', engine.pick("text", "timestamptz")));
    scene.set("source", "table", "").set_text("source", "query", &query("o.updated_at"));
    scene.set_text("source", "changed_at", "updated_at");
    scene
}

/// The items about tables: state, detail, cure.
fn tables(scene: &Scene) -> Vec<(String, String, String)> {
    let document = scene.run(&["check", "--json"]).json();
    let items = document["items"].as_array().expect("a list");
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let ours = items.iter().filter(|item| item["name"] == "tables" && item["section"] != "writeback");
    ours.map(|item| (text(item, "state"), text(item, "detail"), text(item, "cure"))).collect()
}

fn a_stamp_that_changed_at_leaves_out_is_named_with_the_expression_that_takes_it_in(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint.url());
    let found = tables(&scene);
    let states: Vec<&str> = found.iter().map(|(state, ..)| state.as_str()).collect();
    assert_eq!(states, ["ok", "warn"], "{found:#?}");
    for part in [
        "opportunities (changed_at takes in \"updated_at\")",
        "contacts (\"updated_at\", not in changed_at)",
        "users (no stamp: full compares find its changes)",
    ] {
        assert!(found[0].1.contains(part), "{found:#?}");
    }
    assert!(found[1].1.contains("changed_at does not take in \"updated_at\" of contacts"), "{found:#?}");
    let latest = engine.pick(
        "max(coalesce(o.updated_at, c.updated_at), coalesce(c.updated_at, o.updated_at)) AS changed_at",
        "greatest(o.updated_at, c.updated_at) AS changed_at",
    );
    assert!(found[1].2.contains(latest), "{found:#?}");
    // What it names is missed.
    scene.run(&["once"]).expect_code(0);
    let touch = "update contacts set last_name = 'Ball', updated_at = '2026-03-06 10:00:00' where id = 1";
    scene.crm(touch);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 2);

    let unwatched = scene.cli().env("CONVERSICA_SYNC__SOURCE__UNWATCHED", "contacts").run(&["check"]);
    assert!(!unwatched.stdout.contains("does not take in"), "{unwatched}");
    // What it says finds it.
    scene.set_text("source", "query", &query(latest)).set_text("source", "changed_at", "changed_at");
    let found = tables(&scene);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].1.contains("contacts (changed_at takes in \"updated_at\")"), "{found:#?}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 3);
    scene.crm("update contacts set last_name = 'Bull', updated_at = '2026-03-09 10:00:00' where id = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(scene.status()["last_poll"]["kind"], "incremental");
    assert_eq!(endpoint.bodies_of("11").last().expect("it was sent")["lastName"], "Bull");
    // An expression of the setting itself is looked through as well.
    let both =
        format!("{}, c.updated_at AS contact_at", query("o.updated_at").split_once(" FROM ").expect("two parts").0);
    let both = format!("{both} FROM {}", query("").split_once(" FROM ").expect("two parts").1);
    let latest = engine.pick("max(updated_at, contact_at)", "greatest(updated_at, contact_at)");
    scene.set_text("source", "query", &both).set_text("source", "changed_at", latest);
    assert_eq!(tables(&scene).len(), 1);
}

fn a_view_and_a_condition_are_looked_through(engine: Engine) {
    let mut scene = scene(engine, "http://127.0.0.1:9/json/");
    scene.crm(&format!("create view people as {}", query("o.updated_at")));
    scene.crm(&format!(
        "create table blocked (address text primary key, modified_at {})",
        engine.pick("text", "timestamptz")
    ));
    scene.set("source", "query", "").set_text("source", "table", "people");
    scene.set_text("source", "where", "email not in (select address from blocked)");
    let found = tables(&scene);
    let missed: Vec<&str> =
        found.iter().filter(|(state, ..)| state == "warn").map(|(_, detail, _)| detail.as_str()).collect();
    assert_eq!(missed.len(), 2, "{found:#?}");
    assert!(missed[0].contains("\"modified_at\" of blocked") && missed[1].contains("\"updated_at\" of contacts"));
    scene.set("source", "unwatched", "[\"blocked\", \"contacts\"]");
    assert_eq!(tables(&scene).len(), 1);
}

fn a_table_without_triggers_is_named_with_its_entry(engine: Engine) {
    let mut scene = scene(engine, "http://127.0.0.1:9/json/");
    scene.set("source", "changed_at", "").set_text("source", "changes", "triggers");
    let entry = |table: &str, leads: &str| format!("{{ table = {table:?}, leads = {leads:?} }}");
    let own = entry("opportunities", "SELECT :id");
    let of_contact = entry("contacts", "SELECT o.id FROM opportunities o WHERE o.contact_id = :id");
    scene.set("source", "watch", &format!("[{own}]"));
    let found = tables(&scene);
    let missed: Vec<&str> = found.iter().map(|(_, detail, _)| detail.as_str()).collect();
    assert_eq!(missed.len(), 2, "{found:#?}");
    assert!(missed[0].contains("also reads contacts") && missed[1].contains("also reads users"), "{found:#?}");
    assert!(found[0].2.contains("add [[source.watch]] table = \"contacts\", leads = \"SELECT …\""), "{found:#?}");
    scene.set("source", "watch", &format!("[{own}, {of_contact}]")).set("source", "unwatched", "[\"users\"]");
    let found = tables(&scene);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].0 == "ok" && found[0].1.contains("opportunities, users"), "{found:#?}");
}

fn a_table_in_unwatched_that_the_source_does_not_read_is_named(engine: Engine) {
    let mut scene = scene(engine, "http://127.0.0.1:9/json/");
    scene.set("source", "unwatched", "[\"usres\", \"contacts\"]");
    let found = tables(&scene);
    let (state, detail, cure) = found.last().expect("an item");
    assert!(state == "warn" && detail.contains("unwatched names usres (did you mean users?), which"), "{found:#?}");
    assert!(["contacts", "opportunities", "users"].iter().all(|name| cure.contains(name)), "{found:#?}");
    scene.set("source", "unwatched", "[\"users\"]");
    assert!(!tables(&scene).iter().any(|(_, detail, _)| detail.contains("does not read")));
}

fn one_table_is_nothing_to_look_at(engine: Engine) {
    let scene = Scene::on(engine, "http://127.0.0.1:9/json/", 1);
    assert_eq!(tables(&scene), []);
}
