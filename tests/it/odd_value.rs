//! Values of spreadsheets and old databases: whole numbers in floating-point columns, zero dates, line breaks. The person
//! is contacted all the same, and the program reports the conversion.

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    an_optional_value_of_no_use_keeps_nobody_from_being_contacted_and_is_noted,
    whole_numbers_in_floating_point_columns_are_sent_as_such_and_check_names_the_columns,
    a_version_that_reads_numbers_otherwise_asks_before_it_sends_them_all,
    what_is_no_telephone_number_keeps_nobody_from_being_contacted_and_is_noted,
    lines_and_tabs_in_any_key_of_one_line_become_blanks,
);

/// A table with columns of these types.
fn scene(engine: Engine, endpoint: &StandIn, columns: &str) -> Scene {
    let scene = Scene::on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(&format!(
        "create table leads (first_name text, last_name text, email text, owner_name text, opt_out integer not null default 0, \
         {columns})"
    ));
    scene
}

fn add(scene: &Scene, values: &str) {
    scene.crm(&format!("insert into leads values ('Ann', 'Bell', 'ann@example.com', 'Rae Rep', 0, {values})"));
}

fn an_optional_value_of_no_use_keeps_nobody_from_being_contacted_and_is_noted(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, "id integer primary key, created text, street text");
    scene.set_text("lead", "date", "created").set_text("lead", "address", "street");
    let broken = engine.pick("'1 Main St' || char(10) || 'Apt 4'", "E'1 Main St\\nApt 4'");
    let long = engine.pick("printf('%.*c', 3000, 'x')", "repeat('x', 3000)");
    for values in [
        "1, '0000-00-00 00:00:00', '1 Main St'",
        &format!("2, '2026-01-01 00:00:00', {broken}"),
        &format!("3, 'infinity', {long}"),
        "4, null, null",
    ] {
        add(&scene, values);
    }
    let date = "date: left out, because it is not a date and time that can be read (column \"created\")";
    let address = "address: line breaks became commas (column \"street\")";
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["create"], &plan["invalid"]), (&json!(4), &json!(0)));
    assert_eq!((&plan["notes"][0]["reason"], &plan["notes"][0]["leads"]), (&json!(date), &json!(2)), "{plan:#}");
    assert_eq!(plan["notes"][0]["first"], json!([{"id": "1", "client_id": ""}, {"id": "3", "client_id": ""}]));
    assert!(
        plan["leads"][1]["reasons"].as_array().is_some_and(|reasons| reasons.contains(&json!(address))),
        "{plan:#}"
    );
    let check = scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains("4 of 4 sample rows make a valid lead"), "{check}");
    assert!(check.stdout.contains(&format!("2 row(s): {date}; id: 1, 3")), "{check}");
    scene.run(&["once"]).expect_code(0);
    let body = |id: &str| endpoint.bodies_of(id)[0].clone();
    assert_eq!(endpoint.answered(), 4);
    assert_eq!(
        (&body("1")["date"], &body("3")["date"], &body("3")["address"]),
        (&json!(null), &json!(null), &json!(null))
    );
    assert_eq!(
        (&body("2")["address"], &body("2")["date"]),
        (&json!("1 Main St, Apt 4"), &json!("2026-01-01T00:00:00+00:00"))
    );
    let known = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!(known["notes"], json!([date]));
    let words = scene.run(&["lead", "1"]).expect_code(0);
    assert!(words.stdout.contains(&format!("note: {date}")), "{words}");
    add(&scene, &format!("5, null, {broken}"));
    let unread = scene.run(&["lead", "5"]).expect_code(0);
    assert!(unread.stdout.contains(&format!("note: {address}")), "{unread}");
    let plan = scene.run(&["plan"]).expect_code(0);
    assert!(
        plan.stdout.contains("Cleaned or left out") && plan.stdout.contains(date),
        "also of leads that rest: {plan}"
    );
}

fn what_is_no_telephone_number_keeps_nobody_from_being_contacted_and_is_noted(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, "id integer primary key, mobile text");
    scene.set_text("lead", "cellPhone", "mobile");
    let given = ["n/a", "tel: 360-555-0123 (home)", "+1 360 555 0123 x45", "3.60555E+09", "0000000000"];
    for (id, number) in (1..).zip(given) {
        add(&scene, &format!("{id}, '{number}'"));
    }
    let left_out = "cellPhone: left out, because it is not one telephone number (column \"mobile\")";
    let cleaned = "cellPhone: only the telephone number in it is sent (column \"mobile\")";
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["create"], &plan["invalid"]), (&json!(5), &json!(0)));
    assert_eq!((&plan["notes"][0]["reason"], &plan["notes"][0]["leads"]), (&json!(left_out), &json!(3)), "{plan:#}");
    let check = scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains(&format!("3 row(s): {left_out}; id: 1, 4, 5")), "{check}");
    assert!(check.stdout.contains(&format!("1 row(s): {cleaned}; id: 2")), "{check}");
    scene.run(&["once"]).expect_code(0);
    let sent: Vec<_> = (1..=5).map(|id| endpoint.bodies_of(&id.to_string())[0]["cellPhone"].clone()).collect();
    assert_eq!(json!(sent), json!([null, "360-555-0123", "+1 360 555 0123 x45", null, null]));
    assert_eq!(scene.run(&["lead", "2", "--json"]).json()["notes"], json!([cleaned]));

    scene.set("conversica", "sms", "true").set_text("lead", "smsOptOut", "opt_out");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!(plan["invalid"], 3, "a text message needs a number: {plan:#}");
}

fn lines_and_tabs_in_any_key_of_one_line_become_blanks(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, "id integer primary key, note text");
    scene.set_text("lead", "city", "note").set_text("lead.custom", "remark", "note").set_text(
        "lead",
        "firstName",
        "note",
    );
    let text = engine.pick("'Ann' || char(9) || 'Lee' || char(13) || char(10) || 'May'", "E'Ann\\tLee\\r\\nMay'");
    add(&scene, &format!("1, {text}"));
    scene.run(&["once"]).expect_code(0);
    let body = endpoint.bodies_of("1")[0].clone();
    for key in ["city", "remark", "firstName"] {
        assert_eq!(body[key], "Ann Lee May", "{key}");
    }
    let notes = scene.run(&["lead", "1", "--json"]).expect_code(0).json()["notes"].clone();
    assert_eq!(notes.as_array().map(Vec::len), Some(3), "{notes}");
}

const NUMBERS: &str = "id integer primary key, phone double precision, code double precision, dealer double precision";

fn whole_numbers_in_floating_point_columns_are_sent_as_such_and_check_names_the_columns(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, NUMBERS);
    scene.set_text("lead", "cellPhone", "phone").set_text("lead", "zip", "code").set_text("source", "client", "dealer");
    add(&scene, "1, 3605550123, 98607, 12");
    add(&scene, "2, null, 0.5, null");
    let check = scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains("column(s) \"phone\", \"code\" hold whole numbers"), "{check}");
    scene.run(&["once"]).expect_code(0);
    let (first, second) = (endpoint.bodies_of("1")[0].clone(), endpoint.bodies_of("2")[0].clone());
    assert_eq!((&first["cellPhone"], &first["zip"]), (&json!("3605550123"), &json!("98607")));
    assert_eq!((&first["clientId"], &second["zip"]), (&json!("12"), &json!("0.5")));
}

/// Makes the state look as if an earlier version of the mapping had written it.
fn upgraded(scene: &Scene) {
    scene.state("update control set body = '{\"fingerprint\":\"earlier\"}' where name = 'mapping_in_use'");
}

fn a_version_that_reads_numbers_otherwise_asks_before_it_sends_them_all(engine: Engine) {
    let endpoint = StandIn::accepting();
    // A key that is no code keeps its decimals.
    let mut scene = scene(engine, &endpoint, "id integer primary key, phone text");
    scene.set_text("lead", "city", "phone").set("safety", "approve_above", "2");
    (1..=3).for_each(|id| add(&scene, &format!("{id}, '360555012{id}.0'")));
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("1")[0]["city"], "3605550121.0");
    scene.crm("update leads set phone = replace(phone, '.0', '')");
    upgraded(&scene);
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("mapping_changed"), &json!(3)));
    assert_eq!(endpoint.answered(), 3);
}

#[test]
fn a_lead_keeps_the_name_under_which_conversica_knows_it() {
    let endpoint = StandIn::accepting();
    for (is_known, id, client) in [(true, "7.0", "12.0"), (false, "7", "12")] {
        let mut scene = scene(Engine::Sqlite, &endpoint, "id real, dealer real");
        scene.set_text("source", "client", "dealer").set_text("source", "on_delete", "stop_messaging");
        add(&scene, "7, 12");
        add(&scene, "8, 12");
        if is_known {
            // Keys as an earlier version wrote them.
            let sent = "select 'Ann' as first_name, 'Bell' as last_name, 'ann@example.com' as email, 'Rae Rep' as owner_name, \
                        0 as opt_out, k || '.0' as id, '12.0' as dealer from (select '7' as k union all select '8')";
            scene.crm(&format!("create table earlier as {sent}"));
            scene.set_text("source", "table", "earlier");
            scene.run(&["once"]).expect_code(0);
            scene.set_text("source", "table", "leads");
            upgraded(&scene);
        }
        let sent = endpoint.answered();
        scene.run(&["once", "--full"]).expect_code(0);
        let sends = if is_known { 0 } else { 2 };
        assert_eq!(endpoint.answered() - sent, sends, "{id}");
        let lead = scene.run(&["lead", id, "--json"]).expect_code(0).json();
        assert_eq!((&lead["status"], &lead["client_id"]), (&json!("in_sync"), &json!(client)), "{id}");
        scene.set_text("source", "changes", "triggers");
        scene.run(&["triggers", "install", "--yes"]).expect_code(0);
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set last_name = 'Changed' where id = 7");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.bodies_of(id).last().expect("sent")["lastName"], "Changed");
        assert_eq!(endpoint.answered() - sent, sends + 1, "{id}");
    }
}
