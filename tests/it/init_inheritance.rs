//! `init` where several tables hold one record: the parent's soft delete, stamps, owner and consent count, and no
//! reference becomes a text.

use serde_json::json;

use crate::init::{assert_lead, init, planned, written};
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::{crm_shapes, crms};

/// The query that `init` wrote.
fn query(scene: &Scene) -> String {
    let text = written(scene);
    let query = text.split_once("query = '''\n").and_then(|(_, rest)| rest.split_once("\n'''"));
    query.unwrap_or_else(|| panic!("there is a query:\n{text}")).0.to_owned()
}

/// `changed_at` of a row, as the query computes it, to the second.
#[track_caller]
fn changed_at(scene: &Scene, key: &str, id: u32) -> String {
    let sql =
        format!("select substr(cast(q.changed_at as text), 1, 19) from ({}) as q where q.{key} = {id}", query(scene));
    scene.crm(&sql).concat()
}

fn a_lead_that_is_a_person_is_read_with_that_person(engine: Engine) {
    let scene = crms::scene(engine, crm_shapes::DJANGO);
    let output = init(&scene, &[]).expect_code(0);
    let leads = planned(&scene);
    let ann = json!({ "firstName": "Ann", "email": "ann@example.net", "leadSource": "Web", "repName": "Rae Rep", "optOut": false });
    assert_lead(&leads, "1", &ann);
    assert!(leads.get("2").is_none(), "the person is in the trash: {leads:#}");
    assert_lead(&leads, "3", &json!({ "optOut": true }));
    // The latest of both stamps, each alone where the other is missing.
    for (id, stamp) in
        [(1, "2026-03-09 10:00:00"), (3, "2026-03-04 10:00:00"), (4, "2026-03-05 10:00:00"), (5, "2026-03-02 10:00:00")]
    {
        assert_eq!(changed_at(&scene, "person_ptr_id", id), stamp, "lead {id}: {}", query(&scene));
    }
    for named in ["\"massmail\"", "\"disqualified\""] {
        assert!(output.stdout.contains(named) && written(&scene).contains(named), "{named}: {output}");
    }
}

/// Two levels up, all with keys named `id`; columns of one name count at each level.
fn every_level_counts(engine: Engine) {
    let tables = "create table record (id integer primary key, deleted_at timestamp, updated_at timestamp);\n\
         create table person (id integer primary key references record (id), name varchar(30), email varchar(40), do_not_email boolean, archived boolean, updated_at timestamp);\n\
         create table lead (id integer primary key references person (id), source varchar(9), owner_name varchar(9), archived boolean, do_not_email boolean, updated_at timestamp);\n\
         insert into record values (1, null, '2026-03-09 10:00:00'), (2, '2026-01-01 00:00:00', null), (3, null, null), (4, null, null), (5, null, null), (6, null, null);\n\
         insert into person values (1, 'Ann Bell', 'ann@example.net', FALSE, FALSE, null), (2, 'Bo Dyck', 'bo@example.net', FALSE, FALSE, null), (3, 'Cy Ask', 'cy@example.net', FALSE, TRUE, null), \
         (4, 'Di Elk', 'di@example.net', FALSE, FALSE, '2026-03-08 10:00:00'), (5, 'Ed Fox', 'ed@example.net', TRUE, FALSE, null), (6, 'Flo Gil', 'flo@example.net', FALSE, FALSE, null);\n\
         insert into lead values (1, 'Web', 'Rae', FALSE, FALSE, '2026-03-01 10:00:00'), (2, 'Web', 'Rae', FALSE, FALSE, '2026-03-01 10:00:00'), (3, 'Web', 'Rae', FALSE, FALSE, '2026-03-01 10:00:00'), \
         (4, 'Web', 'Rae', TRUE, FALSE, '2026-03-01 10:00:00'), (5, 'Web', 'Rae', FALSE, FALSE, '2026-03-01 10:00:00'), (6, 'Web', 'Rae', FALSE, TRUE, '2026-03-01 10:00:00');\n";
    let scene = crms::scene(engine, tables);
    init(&scene, &[]).expect_code(0);
    let leads = planned(&scene);
    for (id, opted_out) in [("1", false), ("5", true), ("6", true)] {
        assert_lead(&leads, id, &json!({ "optOut": opted_out }));
    }
    assert_lead(&leads, "1", &json!({ "firstName": "Ann", "lastName": "Bell", "email": "ann@example.net" }));
    for gone in ["2", "3", "4"] {
        assert!(leads.get(gone).is_none(), "{gone} is out of use: {leads:#}");
    }
    assert_eq!(changed_at(&scene, "id", 1), "2026-03-09 10:00:00");
    assert_eq!(changed_at(&scene, "id", 5), "2026-03-01 10:00:00");
}

fn creme_s_entities_addresses_and_users_are_understood(engine: Engine) {
    let scene = crms::scene(engine, crm_shapes::CREME);
    let output = init(&scene, &["--value", "leadSource=Website"]).expect_code(0);
    let leads = planned(&scene);
    let ann = json!({ "firstName": "Ann", "email": "ann@example.net", "repName": "Rae Rep", "repEmail": "rae@staff.example",
        "address": "1 Main St", "city": "Oakland", "state": "California", "zip": "94016" });
    assert_lead(&leads, "2", &ann);
    assert!(leads.get("3").is_none(), "in the trash: {leads:#}");
    assert!(leads.get("4").is_none(), "a user of the CRM: {leads:#}");
    assert!(leads.get("5").is_some(), "{leads:#}");
    assert!(output.stdout.contains("\"is_user_id\""), "{output}");
    assert!(written(&scene).contains("changed_at = \"modified\""), "{}", written(&scene));
}

fn prisma_s_quoted_names_are_understood(engine: Engine) {
    let scene = crms::scene(engine, &crm_shapes::prisma(engine));
    let output = init(&scene, &[]).expect_code(0);
    let leads = planned(&scene);
    assert_lead(&leads, "l1", &json!({ "firstName": "Ann", "repName": "Rae Rep", "optOut": false }));
    assert_lead(&leads, "l2", &json!({ "optOut": true }));
    assert_eq!(leads.as_object().map(serde_json::Map::len), Some(2), "deleted and archived are left out: {leads:#}");
    assert!(written(&scene).contains("changed_at = \"updatedAt\""), "{}", written(&scene));
    for named in ["\"newsletter\"", "\"isTest\""] {
        assert!(output.stdout.contains(named), "{named}: {output}");
    }
}

/// An id is no street, no city and no name; the text of the referenced table is used, where there is one.
fn a_reference_or_a_number_never_fills_a_text(engine: Engine) {
    let tables = "create table places (id integer primary key, street varchar(30), city varchar(30), zip varchar(9));\n\
         create table origins (code varchar(9) primary key, label varchar(30));\n\
         create table codes (id integer primary key, amount integer);\n\
         create table leads (id integer primary key, first_name varchar(9), email varchar(40), address integer references places (id), lead_source varchar(9) references origins (code), \
         status integer references codes (id), state integer, city integer, owner integer, phone bigint, zip integer, updated_at timestamp);\n\
         insert into places values (7, '1 Main St', 'Oakland', '94016');\n\
         insert into origins values ('w', 'Website');\n\
         insert into codes values (3, 30);\n\
         insert into leads values (1, 'Ann', 'ann@example.net', 7, 'w', 3, 5, 12, 4, 15550101010, 10115, '2026-03-01 10:00:00'), (2, 'Bo', 'bo@example.net', 7, 'w', 3, 5, 12, 4, 15550101011, 10115, '2026-03-01 10:00:00');\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &["--value", "repName=The Sales Team"]).expect_code(0);
    let leads = planned(&scene);
    let ann = json!({ "address": "1 Main St", "leadSource": "Website", "homePhone": "15550101010", "zip": "10115", "repName": "The Sales Team" });
    assert_lead(&leads, "1", &ann);
    for key in ["leadStatus", "state", "leadSubStatus"] {
        assert!(leads["1"].get(key).is_none(), "{key}: {leads:#}");
    }
    assert_ne!(leads["1"]["city"], "12", "{leads:#}");
    for column in ["status", "state", "city", "owner"] {
        let said = output.stdout.lines().any(|line| line.trim_start().starts_with(&format!("\"{column}\" ")));
        assert!(said, "{column} is left out, and init says so: {output}");
    }
}

/// The opportunity has neither address nor name: they are in its party and in the party's contact mechanisms.
fn tryton_s_opportunities_are_read_through_their_parties(engine: Engine) {
    let scene = crms::scene(engine, crm_shapes::TRYTON);
    init(&scene, &["--value", "leadSource=Website"]).expect_code(0);
    let leads = planned(&scene);
    let ann = json!({ "firstName": "Ann", "lastName": "Bell", "email": "ann@example.net", "repName": "Rae Rep", "leadStatus": "lead",
        "homePhone": "+1 555 010 1010", "address": "1 Main St", "city": "Oakland", "zip": "94016" });
    assert_lead(&leads, "1", &ann);
    assert!(leads.get("2").is_none(), "the party is not active: {leads:#}");
    assert_eq!(changed_at(&scene, "id", 1), "2026-03-05 10:00:00", "{}", query(&scene));
}

/// The contact behind the record decides: its opt-out, trash and employment count.
fn the_contact_of_an_opportunity_decides(engine: Engine) {
    let tables = "create table contacts (id integer primary key, first_name varchar(9), last_name varchar(9), email varchar(40), unsubscribed boolean, bounced boolean, deleted_at timestamp, updated_at timestamp);\n\
         create table employees (id integer primary key, contact_id integer references contacts (id));\n\
         create table opportunities (id integer primary key, contact_id integer references contacts (id), lead_source varchar(9), owner_name varchar(9), do_not_contact boolean, updated_at timestamp);\n\
         insert into contacts values (1, 'Ann', 'Bell', 'ann@example.net', FALSE, FALSE, null, '2026-03-09 10:00:00'), (2, 'Bo', 'Dyck', 'bo@example.net', TRUE, FALSE, null, null), \
         (3, 'Cy', 'Ask', 'cy@example.net', FALSE, FALSE, '2026-01-01 00:00:00', null), (4, 'Rae', 'Rep', 'rae@staff.example', FALSE, FALSE, null, null), (5, 'Di', 'Elk', 'di@example.net', FALSE, FALSE, null, null);\n\
         insert into employees values (1, 4);\n\
         insert into opportunities values (11, 1, 'Web', 'Rae', FALSE, '2026-03-01 10:00:00'), (12, 2, 'Web', 'Rae', FALSE, '2026-03-01 10:00:00'), (13, 3, 'Web', 'Rae', FALSE, '2026-03-01 10:00:00'), \
         (14, 4, 'Web', 'Rae', FALSE, '2026-03-01 10:00:00'), (15, 5, 'Web', 'Rae', TRUE, '2026-03-01 10:00:00');\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &["--table", "opportunities"]).expect_code(0);
    let leads = planned(&scene);
    for (id, opted_out) in [("11", false), ("12", true), ("15", true)] {
        assert_lead(&leads, id, &json!({ "optOut": opted_out }));
    }
    assert_lead(&leads, "11", &json!({ "firstName": "Ann", "email": "ann@example.net" }));
    assert!(leads.get("13").is_none() && leads.get("14").is_none(), "in the trash, and staff: {leads:#}");
    assert!(output.stdout.contains("\"bounced\" of contacts"), "{output}");
    assert_eq!(changed_at(&scene, "id", 11), "2026-03-09 10:00:00", "{}", query(&scene));
}

blocking_on_both_engines!(
    tryton_s_opportunities_are_read_through_their_parties,
    the_contact_of_an_opportunity_decides,
    a_lead_that_is_a_person_is_read_with_that_person,
    every_level_counts,
    creme_s_entities_addresses_and_users_are_understood,
    prisma_s_quoted_names_are_understood,
    a_reference_or_a_number_never_fills_a_text,
);
