//! Changes in other tables than that of the leads: triggers on the watched tables name the leads concerned, however the row
//! that they depend on was changed, and a wrong entry is found before it is part of a trigger.

use std::time::Duration;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    whatever_changes_a_joined_row_reaches_the_leads_of_it_without_a_poll,
    a_table_that_a_condition_reads_is_watched_beside_the_table_of_the_leads,
    leads_of_several_customers_are_named_with_their_client,
    a_wrong_entry_is_named_with_its_fault_and_nothing_is_installed,
    changed_entries_ask_for_an_installation_which_leaves_nothing_of_the_earlier_ones,
    an_entry_that_is_wrong_by_now_does_not_prevent_the_removal,
    a_query_that_begins_with_with_finds_the_leads,
);

const SOON: Duration = Duration::from_secs(30);
const NOWHERE: &str = "http://127.0.0.1:9/json/";

const TABLES: &str = "create table contacts (id integer primary key, first_name text, last_name text, email text, note text); \
    create table opportunities (id integer primary key, contact_id integer, owner_name text, opt_out integer not null default 0); \
    insert into contacts (id, first_name, last_name, email) values (1, 'Ann', 'Bell', 'ann@example.com'), \
    (2, 'Bo', 'Dyck', 'bo@example.com'), (3, 'Cy', 'Poe', 'cy@example.com'); \
    insert into opportunities (id, contact_id, owner_name) values (11, 1, 'Rae'), (12, 1, 'Rae'), (13, 2, 'Rae'), (14, 3, 'Rae')";
const QUERY: &str = "SELECT o.id, c.first_name, c.last_name, c.email, o.owner_name, o.opt_out FROM opportunities o \
    JOIN contacts c ON c.id = o.contact_id -- the end";
const OF_CONTACT: &str = "SELECT o.id FROM opportunities o WHERE o.contact_id = :id -- any";

/// Entries of `[[source.watch]]`.
fn entries(list: &[(&str, &str)]) -> String {
    let entries: Vec<String> =
        list.iter().map(|(table, leads)| format!("{{ table = {table:?}, leads = {leads:?} }}")).collect();
    format!("[{}]", entries.join(", "))
}

/// Four opportunities of three contacts; polls are ten minutes apart.
fn joined(engine: Engine, endpoint: &str) -> Scene {
    let mut scene = Scene::on(engine, endpoint, 0);
    scene.crm(TABLES);
    scene.set("source", "table", "").set_text("source", "query", QUERY).set_text("source", "poll_interval", "10m");
    scene.set_text("source", "changes", "triggers").set("safety", "source_shrinks_below", "0.0");
    scene.set("source", "watch", &entries(&[("opportunities", "SELECT :id"), ("contacts", OF_CONTACT)]));
    scene
}

/// The last names that were sent for that id, in order.
fn sent(endpoint: &StandIn, id: &str) -> Vec<String> {
    endpoint.bodies_of(id).iter().map(|body| body["lastName"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn wait_for_sent(endpoint: &StandIn, id: &str, names: &[&str]) {
    wait_until(&format!("{names:?} of {id}"), SOON, || sent(endpoint, id) == names);
}

#[track_caller]
fn wait_for_in_step(scene: &Scene, leads: u64) {
    scene.wait_for_status(&format!("{leads} in step"), SOON, |status| status["leads"]["in_sync"] == leads);
}

#[track_caller]
fn wait_for_gone(scene: &Scene, gone: u64) {
    scene.wait_for_status(&format!("{gone} gone"), SOON, |status| status["leads"]["gone"] == gone);
}

fn whatever_changes_a_joined_row_reaches_the_leads_of_it_without_a_poll(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = joined(engine, &endpoint.url());
    let installed = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(installed.stdout.contains("conversica_sync_changes_watch2_update"), "{installed}");
    let daemon = scene.daemon();
    wait_for_in_step(&scene, 4);
    assert_eq!(endpoint.requests().len(), 4);

    // Two leads of one contact.
    scene.crm("update contacts set last_name = 'Ball' where id = 1");
    for id in ["11", "12"] {
        wait_for_sent(&endpoint, id, &["Bell", "Ball"]);
    }
    // A lead moves to another contact.
    scene.crm("update opportunities set contact_id = 2 where id = 12");
    wait_for_sent(&endpoint, "12", &["Bell", "Ball", "Dyck"]);
    // The reference leads nowhere any more: only the old row names the leads.
    scene.crm("update contacts set id = 30 where id = 3");
    wait_for_gone(&scene, 1);
    scene.crm("insert into contacts (id, first_name, last_name, email) values (3, 'Cy', 'Poole', 'cy@example.com')");
    wait_for_sent(&endpoint, "14", &["Poe", "Poole"]);
    wait_for_gone(&scene, 0);
    scene.crm("delete from contacts where id = 2");
    wait_for_gone(&scene, 2);
    scene.crm("delete from opportunities where id = 11");
    wait_for_gone(&scene, 3);
    scene.crm("insert into opportunities (id, contact_id, owner_name) values (15, 1, 'Rae')");
    wait_for_sent(&endpoint, "15", &["Ball"]);

    // What is rolled back, or not mapped, sends nothing.
    let before = endpoint.requests().len();
    scene.crm("begin; update contacts set last_name = 'Never'; rollback");
    scene.crm("update contacts set note = 'called'");
    wait_until("an empty log", SOON, || {
        scene.crm("select cast(count(*) as text) from conversica_sync_changes") == ["0"]
    });
    wait_for_in_step(&scene, 2);
    assert_eq!(endpoint.requests().len(), before);
    if engine == Engine::Postgres {
        scene.crm("truncate contacts");
        wait_for_gone(&scene, 5);
    }
    assert_eq!(scene.status()["last_poll"]["error"], serde_json::Value::Null);
    drop(daemon);
}

fn a_table_that_a_condition_reads_is_watched_beside_the_table_of_the_leads(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.crm("create table blocked (address text primary key)");
    scene.set_text("source", "where", "email not in (select address from blocked)");
    scene.set_text("source", "changes", "triggers").set_text("source", "poll_interval", "10m");
    scene.set("source", "watch", &entries(&[("blocked", "select id from leads where email = :address")]));
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let daemon = scene.daemon();
    wait_for_in_step(&scene, 3);
    scene.crm("insert into blocked values ('ann2@example.com')");
    wait_for_gone(&scene, 1);
    scene.crm("update leads set last_name = 'Own' where id = 1");
    wait_for_sent(&endpoint, "1", &["Bell", "Own"]);
    scene.crm("update blocked set address = 'ann3@example.com'");
    let status = |id: &str| scene.run(&["lead", id, "--json"]).json()["status"].clone();
    wait_until("one for the other", SOON, || status("3") == "gone" && status("2") == "in_sync");
    scene.crm("delete from blocked");
    wait_for_gone(&scene, 0);
    drop(daemon);
}

fn leads_of_several_customers_are_named_with_their_client(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("create table owners (name text primary key, dealer text, shown text); insert into owners values ('Rae Rep', 'north', 'Rae')");
    scene.set("source", "table", "").set_text(
        "source",
        "query",
        "select l.id, l.first_name, l.last_name, l.email, w.shown as owner_name, l.opt_out, w.dealer from leads l join owners w on w.name = l.owner_name",
    );
    scene.set_text("source", "client", "dealer").set_text("source", "changes", "triggers");
    scene.set("safety", "source_shrinks_below", "0.0");
    scene.set_text("source", "poll_interval", "10m");
    let of_owner = "select l.id, :dealer from leads l where l.owner_name = :name";
    let of_lead = "select :id, w.dealer from owners w where w.name = :owner_name";
    scene.set("source", "watch", &entries(&[("leads", of_lead), ("owners", of_owner)]));
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let daemon = scene.daemon();
    wait_for_in_step(&scene, 2);
    // The client is part of the name: two leads are gone, and two are new.
    scene.crm("update owners set dealer = 'south'");
    wait_for_gone(&scene, 2);
    wait_for_in_step(&scene, 2);
    scene.crm("update owners set shown = 'Robin'");
    wait_until("the new name", SOON, || {
        endpoint.bodies_of("1").last().is_some_and(|body| body["repName"] == "Robin" && body["clientId"] == "south")
    });
    drop(daemon);
}

fn a_wrong_entry_is_named_with_its_fault_and_nothing_is_installed(engine: Engine) {
    let mut scene = joined(engine, NOWHERE);
    scene.crm("create view people as select * from contacts");
    let mut wrong = vec![
        ("nothing", "SELECT :id", "`source.watch.0.table` = \"nothing\": there is no such table"),
        ("contact", "SELECT :id", "there is no such table (did you mean contacts?)"),
        ("people", "SELECT :id", "`source.watch.0.table` = \"people\" is a view"),
        ("contacts", "SELECT :idd", "no column \"idd\", which :idd asks for (did you mean :id?)"),
        ("contacts", "SELECT 1; SELECT 2", "there are several statements"),
        ("contacts", "SELECT o.id, :id FROM opportunities o", "it returns 2 column(s)"),
        ("contacts", "SELECT o.idd FROM opportunities o", "idd"),
        ("contacts", "SELECT id FROM opportunitys WHERE contact_id = :id", "opportunitys"),
        ("contacts", "SELECT id FROM opportunities WHERE", "syntax"),
        ("contacts", "SELECT id FROM opportunities WHERE contact_id = $1", "parameters are written `:name`"),
        ("contacts", "delete from contacts", "syntax"),
        ("contacts", "SELECT '$conversica_sync$' FROM contacts", "it contains $conversica_sync$"),
        (" ", "SELECT 1", "`source.watch.0.table` is empty"),
        ("contacts", " ", "`source.watch.0.leads` is empty"),
    ];
    if engine == Engine::Postgres {
        wrong.push(("contacts", "SELECT :id::numeric", "as numeric, but \"id\" of the source is int4"));
        wrong.push(("contacts", "SELECT :first_name", "as text, but \"id\" of the source is int4"));
    }
    for (table, leads, fault) in wrong {
        scene.set("source", "watch", &entries(&[(table, leads)]));
        for arguments in [&["triggers", "install", "--yes"][..], &["check"], &["once"]] {
            let refused = scene.run(arguments).expect_code(2);
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert!(said.contains(fault) && said.contains("source.watch.0"), "{leads}: {refused}");
        }
    }
    scene.set("source", "watch", &entries(&[("contacts", OF_CONTACT), ("Contacts", "SELECT :id")]));
    let refused = scene.run(&["check"]).expect_code(2);
    assert!(refused.stdout.contains("is `Contacts`, which `source.watch.0.table` names too"), "{refused}");
    scene.set("source", "watch", &entries(&[("nothing", "SELECT :id")]));
    let refused = scene.run(&["check"]).expect_code(2);
    assert!(refused.stdout.contains("name a table that is there: contacts, "), "{refused}");
    scene.set("source", "watch", "");
    let refused = scene.run(&["check"]).expect_code(2);
    assert!(refused.stdout.contains("there is no [[source.watch]]"), "{refused}");
    assert!(refused.stdout.contains("that the query reads (it names opportunities, contacts)"), "{refused}");
    let named = engine.pick("select name from sqlite_master", "select relname::text from pg_class");
    assert!(!scene.crm(named).iter().any(|name| name.contains("conversica_sync")));
}

/// Everything of ours in the database.
fn made(scene: &Scene, engine: Engine) -> Vec<String> {
    scene.crm(engine.pick(
        "select type || ' ' || name from sqlite_master where name like 'conversica_sync%' order by 1",
        "select 'table ' || relname from pg_class where relname like 'conversica_sync%' and relkind = 'r' \
         union all select 'function ' || proname from pg_proc where proname like 'conversica_sync%' \
         union all select 'trigger ' || tgname from pg_trigger where tgname like 'conversica_sync%' order by 1",
    ))
}

fn changed_entries_ask_for_an_installation_which_leaves_nothing_of_the_earlier_ones(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = joined(engine, &endpoint.url());
    let said = scene.run(&["once"]).expect_code(2);
    assert!(said.stderr.contains("its triggers are not installed"), "{said}");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    let both = made(&scene, engine);
    let again = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(again.stdout.contains("Installed already"), "{again}");

    let with_note = "SELECT o.id FROM opportunities o WHERE o.contact_id = :id AND o.id > 0";
    let changed = entries(&[("opportunities", "SELECT :id"), ("contacts", with_note)]);
    let one = entries(&[("opportunities", "SELECT :id")]);
    for (entries, fault) in [(changed, "not as these settings want it"), (one, "which these settings do not ask for")] {
        scene.set("source", "watch", &entries);
        for command in ["once", "check"] {
            let refused = scene.run(&[command]).expect_code(2);
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert!(said.contains(fault) && said.contains("conversica-sync triggers install"), "{refused}");
        }
        scene.run(&["triggers", "install", "--yes"]).expect_code(0);
        scene.run(&["once"]).expect_code(0);
    }
    let left = made(&scene, engine);
    assert!(left.len() < both.len() && !left.iter().any(|name| name.contains("watch2")), "{left:?}");
    // The log names another key now: what another configuration has made is still found and named.
    scene.set_text("source", "change_log", "own_log");
    let other = scene.cli().env("CONVERSICA_SYNC__SOURCE__CHANGES", "poll").run(&["check"]);
    assert!(other.stdout.contains("fill another change log too"), "{other}");
    scene.set("source", "change_log", "");
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert_eq!(made(&scene, engine), Vec::<String>::new());
}

fn an_entry_that_is_wrong_by_now_does_not_prevent_the_removal(engine: Engine) {
    let scene = joined(engine, NOWHERE);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.crm("drop table contacts");
    let check = scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("contacts"), "{check}");
    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert_eq!(made(&scene, engine), Vec::<String>::new());
}

fn a_query_that_begins_with_with_finds_the_leads(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = joined(engine, &endpoint.url());
    let of_contact = "WITH found AS (SELECT o.id FROM opportunities o WHERE o.contact_id = :id) SELECT id FROM found";
    scene.set("source", "watch", &entries(&[("opportunities", "SELECT :id"), ("contacts", of_contact)]));
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let checked = scene.run(&["check"]);
    assert!(checked.stdout.contains("wait in the change log") && !checked.stdout.contains("0ns"), "{checked}");
    let _daemon = scene.daemon();
    wait_for_in_step(&scene, 4);
    scene.crm("update contacts set last_name = 'Ball' where id = 1");
    for id in ["11", "12"] {
        wait_for_sent(&endpoint, id, &["Bell", "Ball"]);
    }
}
