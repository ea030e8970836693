//! `init` without a terminal: its proposals for typical databases, its output, and its refusals.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::binary::{Cli, Output};
use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::{PASSWORD, Scene};

const GIVEN: [&str; 4] = ["--username", "acme-api", "--conversation", "Inbound Leads"];

/// Runs `init` with the settings that it cannot find out; no server listens at the port of `--endpoint`.
#[track_caller]
pub fn init(scene: &Scene, more: &[&str]) -> Output {
    let url = scene.crm_store().url();
    let arguments = [&["init", "--url", &url, "--endpoint", "http://127.0.0.1:9/json/"], &GIVEN[..], more].concat();
    Cli::new(scene.directory()).run(&arguments)
}

pub fn written(scene: &Scene) -> String {
    std::fs::read_to_string(scene.directory().join("conversica-sync.toml")).expect("init has written it")
}

/// The ids of the leads that `plan` finds with the configuration from `init`.
#[track_caller]
pub fn planned(scene: &Scene) -> Value {
    std::fs::write(scene.directory().join("conversica_password"), "correct horse\n").expect("the directory is ours");
    let plan = Cli::new(scene.directory()).run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!(plan["hold"], "first_run", "nothing is sent before somebody has decided");
    let lead = |lead: &Value| {
        let changes = lead["changes"].as_object().expect("changes");
        let values = changes.iter().map(|(key, change)| (key.clone(), change[1].clone()));
        (lead["id"].as_str().expect("an id").to_owned(), Value::Object(values.collect()))
    };
    Value::Object(plan["leads"].as_array().expect("leads").iter().map(lead).collect())
}

#[track_caller]
pub fn assert_lead(leads: &Value, id: &str, expected: &Value) {
    for (key, value) in expected.as_object().expect("keys") {
        assert_eq!(&leads[id][key], value, "{key} of lead {id}: {leads:#}");
    }
}

#[test]
fn odoo_is_read_through_its_references_and_its_blacklist() {
    let scene = crms::scene(Engine::Postgres, crms::ODOO);
    let output = init(&scene, &[]).expect_code(0);
    assert!(output.stdout.contains("looks like Odoo") && output.stdout.contains("4 row(s), 3 would make"), "{output}");
    let leads = planned(&scene);
    let ann = json!({ "firstName": "Ann", "lastName": "Bell", "email": "ann@example.net", "leadSource": "Search engine",
        "leadStatus": "New", "repName": "Marc Demo", "repEmail": "marc.demo@example.com", "state": "California", "optOut": false });
    assert_lead(&leads, "1", &ann);
    assert_lead(
        &leads,
        "2",
        &json!({ "firstName": "Bo", "lastName": "van Dyck", "leadType": "opportunity", "leadStatus": "Qualified" }),
    );
    assert_lead(&leads, "3", &json!({ "email": "carl@example.net", "optOut": true }));
    assert!(leads.get("4").is_none(), "archived: {leads:#}");
    assert!(
        written(&scene).contains("greatest(l.\"write_date\", blacklist.\"write_date\")"),
        "a listing is found at once"
    );
}

#[test]
fn older_odoos_have_plain_names_and_theirs_is_found_too() {
    let plain = crms::ODOO
        .replace("name jsonb not null", "name varchar not null")
        .replace("{\"en_US\": \"New\", \"de_DE\": \"Neu\"}", "New");
    let scene = crms::scene(Engine::Postgres, &plain);
    init(&scene, &[]).expect_code(0);
    assert_lead(&planned(&scene), "1", &json!({ "leadStatus": "New", "repName": "Marc Demo" }));
}

fn suitecrm_keeps_addresses_and_opt_outs_elsewhere(engine: Engine) {
    let scene = crms::scene(engine, &crms::suitecrm(engine));
    let output = init(&scene, &[]).expect_code(0);
    assert!(output.stdout.contains("\"do_not_call\""), "what Conversica has no key for is named: {output}");
    let leads = planned(&scene);
    assert_lead(
        &leads,
        "l1",
        &json!({ "email": "ann@example.net", "optOut": false, "repName": "Sarah Smith", "repEmail": "sarah@example.com" }),
    );
    assert_lead(&leads, "l2", &json!({ "email": "bo@example.net", "optOut": true, "leadSource": "Cold Call" }));
    assert!(leads.get("l3").is_none(), "deleted: {leads:#}");
}

#[test]
fn twenty_s_quoted_columns_and_company_owners_are_followed() {
    let scene = crms::scene(Engine::Postgres, crms::TWENTY);
    let output = init(&scene, &[]).expect_code(2);
    assert!(output.stderr.contains("--value leadSource="), "{output}");
    let output = init(&scene, &["--value", "leadSource=Website"]).expect_code(0);
    assert!(output.stdout.contains("optOut is not mapped"), "{output}");
    let leads = planned(&scene);
    let id = "20202020-1c0e-494c-a1b6-85b1c6fefaa5";
    assert_lead(
        &leads,
        id,
        &json!({ "firstName": "Christoph", "email": "christoph@example.net", "repName": "Tim Apple", "repEmail": "tim@example.com" }),
    );
    assert_eq!(leads.as_object().map(serde_json::Map::len), Some(2), "who is deleted is left out: {leads:#}");
}

fn a_hand_made_table_is_read_with_its_references(engine: Engine) {
    let scene = crms::scene(engine, crms::PLAIN);
    let output = init(&scene, &[]).expect_code(0);
    assert!(
        output.stdout.contains("CONSENT THAT IS NOT MAPPED") && output.stdout.contains("\"newsletter_ok\""),
        "{output}"
    );
    let leads = planned(&scene);
    let ann = json!({ "firstName": "Ann", "lastName": "Bell", "leadSource": "Website", "repName": "Rae Rep", "repEmail": "rae@example.com",
        "optOut": false, "state": "CA", "homePhone": "555-010-1010", "date": "2026-03-01T10:00:00+00:00" });
    assert_lead(&leads, "1", &ann);
    assert_lead(&leads, "2", &json!({ "optOut": true, "leadSource": "Fair" }));
    assert!(leads.get("4").is_none(), "deleted: {leads:#}");
}

fn columns_may_be_german_french_or_spanish(engine: Engine) {
    for (tables, expected) in [
        (
            crms::GERMAN,
            json!({ "firstName": "Jörg", "lastName": "Groß", "email": "joerg@example.net", "leadSource": "Messe", "repName": "Rita Rat", "zip": "10115", "optOut": false }),
        ),
        (
            crms::FRENCH,
            json!({ "firstName": "Zoé", "lastName": "Petit", "email": "zoe@example.net", "leadSource": "Salon", "repName": "Luc Vend", "city": "Paris", "optOut": false }),
        ),
        (
            crms::SPANISH,
            json!({ "firstName": "Inés", "lastName": "Gil Ruiz", "email": "ines@example.net", "leadSource": "Feria", "repName": "Eva Vega", "cellPhone": "612 345 678", "optOut": false }),
        ),
    ] {
        let scene = crms::scene(engine, tables);
        init(&scene, &[]).expect_code(0);
        assert!(written(&scene).contains("\ntable = "), "columns suffice, so there is no query:\n{}", written(&scene));
        assert!(written(&scene).contains("\nchanged_at = "), "{}", written(&scene));
        let leads = planned(&scene);
        assert_lead(&leads, "1", &expected);
        assert_lead(&leads, "2", &json!({ "optOut": true }));
    }
}

/// An opt-in is not the opposite of an opt-out until the operator says so.
fn an_opt_in_is_never_taken_for_an_opt_out_unasked(engine: Engine) {
    let tables = "create table leads (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner_name varchar(9), email_opt_in integer);\n\
                  insert into leads values (1, 'Ann', 'ann@example.net', 'Web', 'Rae', 1), (2, 'Bo', 'bo@example.net', 'Web', 'Rae', 0), (3, 'Cy', 'cy@example.net', 'Web', 'Rae', null);\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &[]).expect_code(0);
    assert!(output.stdout.contains("\"email_opt_in\"") && output.stdout.contains("optOut is not mapped"), "{output}");
    assert!(
        written(&scene).contains("\n#optOut = { column = \"email_opt_in\""),
        "the way to map it is there:\n{}",
        written(&scene)
    );
    assert_eq!(planned(&scene)["2"].get("optOut"), None);
    init(&scene, &["--map", "optOut=!email_opt_in", "--force"]).expect_code(0);
    let leads = planned(&scene);
    for (id, opted_out) in [("1", false), ("2", true), ("3", true)] {
        assert_lead(&leads, id, &json!({ "optOut": opted_out }));
    }
}

/// Any of several opt-outs is enough, and so is the time of one.
fn several_opt_outs_and_times_become_one(engine: Engine) {
    let tables = "create table leads (id integer primary key, name varchar(30), email varchar(40), source varchar(9), owner_name varchar(9), unsubscribed_at timestamp, do_not_contact varchar(5));\n\
                  insert into leads values (1, 'Ann Bell', 'ann@example.net', 'Web', 'Rae', null, 'N'), (2, 'Bo', 'bo@example.net', 'Web', 'Rae', '2026-01-01 00:00:00', 'N'), \
                  (3, 'Cy von Ask', 'cy@example.net', 'Web', 'Rae', null, 'Y');\n";
    let scene = crms::scene(engine, tables);
    init(&scene, &[]).expect_code(0);
    let leads = planned(&scene);
    for (id, first, opted_out) in [("1", "Ann", false), ("2", "Bo", true), ("3", "Cy", true)] {
        assert_lead(&leads, id, &json!({ "firstName": first, "optOut": opted_out }));
    }
    assert_lead(&leads, "3", &json!({ "lastName": "von Ask" }));
}

fn what_only_a_person_knows_is_asked_for_in_one_message(engine: Engine) {
    let tables = "create table leads (id integer primary key, vorname varchar(9), mailto varchar(40));\ninsert into leads values (1, 'Ann', 'ann@example.net');\n";
    let scene = crms::scene(engine, tables);
    let url = scene.crm_store().url();
    let cli = Cli::new(scene.directory());
    let output = cli.run(&["init", "--url", &url]).expect_code(2);
    for flag in ["--value leadSource=", "--value repName=", "--conversation", "--username"] {
        assert!(output.stderr.contains(flag), "{flag}: {output}");
    }
    assert!(!scene.directory().join("conversica-sync.toml").exists());
    let output = cli.run(&["init"]).expect_code(2);
    assert!(output.stderr.contains("--url"), "{output}");
    let output = init(&scene, &["--map", "frstName=vorname"]).expect_code(2);
    assert!(output.stderr.contains("did you mean firstName?"), "{output}");
    let output = init(&scene, &["--map", "firstName=vornam"]).expect_code(2);
    assert!(output.stderr.contains("did you mean \"vorname\"?"), "{output}");
    let output = init(&scene, &["--table", "lead"]).expect_code(2);
    assert!(output.stderr.contains("did you mean leads?"), "{output}");
    // `init` recognises an e-mail address by its values.
    let output = init(&scene, &["--value", "leadSource=Web", "--value", "repName=Rae"]).expect_code(0);
    assert!(output.stdout.contains("sample values look like e-mail addresses"), "{output}");
}

fn of_several_likely_tables_none_is_taken_unasked(engine: Engine) {
    let table = |name: &str| {
        format!(
            "create table {name} (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner varchar(9));\ninsert into {name} values (1, 'Ann', 'ann@example.net', 'Web', 'Rae');\n"
        )
    };
    let scene = crms::scene(engine, &format!("{}{}", table("leads"), table("prospects")));
    let output = init(&scene, &[]).expect_code(2);
    assert!(output.stderr.contains("--table") && output.stderr.contains("prospects"), "{output}");
    init(&scene, &["--table", "prospects"]).expect_code(0);
    assert!(written(&scene).contains("table = \"prospects\""));
}

fn nothing_personal_is_written_and_nothing_is_replaced_unasked(engine: Engine) {
    let scene = crms::scene(engine, crms::PLAIN);
    let before = scene.crm("select count(*) || '' from leads");
    let output = init(&scene, &[]).expect_code(0);
    let file = scene.directory().join("conversica-sync.toml");
    let text = written(&scene);
    for personal in ["ann@", "Ann", "Bell", "Rae", "555", "Oakland", "secret note"] {
        assert!(!text.contains(personal), "{personal}:\n{text}");
        assert!(!format!("{output}").contains(personal), "off a terminal the sample is masked: {personal}: {output}");
    }
    assert!(init(&scene, &["--force", "--no-sample"]).expect_code(0).stdout.contains("would make a valid lead"));
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    let output = init(&scene, &["--value", "repName=Somebody"]).expect_code(2);
    assert!(output.stderr.contains("--force"), "{output}");
    assert_eq!(written(&scene), text, "left as it is");
    assert_eq!(scene.crm("select count(*) || '' from leads"), before);
    // Safe defaults stay unless the operator changes them.
    let effective = Cli::new(scene.directory())
        .env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "correct horse")
        .run(&["config", "show"]);
    let effective = effective.expect_code(0).stdout;
    assert!(!text.contains("\nfirst_run") && text.contains("\nkeep_opt_outs = true"), "{text}");
    assert!(effective.contains("approve_above") && effective.contains("1000"), "{effective}");
}

#[test]
fn a_password_in_a_url_goes_into_a_file_of_its_own_and_is_never_shown() {
    let scene = crms::scene(Engine::Postgres, crms::PLAIN);
    let url = scene.crm_store().url().replacen("postgres://postgres@", &format!("postgres://postgres:{PASSWORD}@"), 1);
    let cli = Cli::new(scene.directory());
    let run = |more: &[&str]| {
        let output = cli.run(&[&["init"], &GIVEN[..], more].concat());
        assert!(!format!("{output}").contains(PASSWORD), "{output}");
        output
    };
    run(&["--url", &url]).expect_code(0);
    assert!(!written(&scene).contains(PASSWORD));
    let secret = scene.directory().join("conversica_source_url");
    assert_eq!(std::fs::metadata(&secret).expect("the file").permissions().mode() & 0o777, 0o600);
    planned(&scene);
    run(&["--url-file", &secret.display().to_string(), "--force"]).expect_code(0);
    planned(&scene);
    run(&["--url", &url.replace("test_", "gone_"), "--force"]).expect_code(2);
    let environment = cli.env("CONVERSICA_SYNC__SOURCE__URL", &url);
    let output = environment.run(&[&["init", "--force"], &GIVEN[..]].concat()).expect_code(0);
    assert!(
        !format!("{output}").contains(PASSWORD) && written(&scene).contains("# The URL comes from the environment"),
        "{output}"
    );
    std::fs::remove_file(secret).expect("it was there");
    let plan = environment.run(&["plan", "--json"]);
    assert_eq!(plan.code, Some(4), "{plan}");
}

fn what_is_proposed_is_said_in_json_without_a_row(engine: Engine) {
    let scene = crms::scene(engine, crms::PLAIN);
    let output = init(&scene, &["--json", "--output", "other.toml"]).expect_code(0);
    let said = output.json();
    assert_eq!(
        (&said["version"], &said["table"], &said["key"], &said["changed_at"]),
        (&json!(1), &json!("leads"), &json!("id"), &json!("updated_at"))
    );
    assert_eq!(said["lead"]["firstName"]["column"], "fname");
    assert_eq!((&said["rows"]["looked_at"], &said["rows"]["valid"]), (&json!(3), &json!(2)));
    assert_eq!(said["consent_not_mapped"][0]["column"], "newsletter_ok");
    assert!(!output.stdout.contains("ann@"), "{output}");
    assert!(scene.directory().join("other.toml").exists());
}

/// Names that would break out of SQL, TOML or a comment, if they were not quoted.
fn names_of_any_characters_are_written_as_they_are(engine: Engine) {
    let tables = "create table \"my \"\"odd\"\".leads\" (\"the id\" integer primary key, \"first\nname\" varchar(9), \"e'''mail\" varchar(40), \"source\" varchar(9), \"ow\\ner\" varchar(9), \"note\n[lead]\" varchar(9));\n\
                  insert into \"my \"\"odd\"\".leads\" values (1, 'Ann', 'ann@example.net', 'Web', 'Rae', null);\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &["--map", "repName=ow\\ner"]).expect_code(0);
    assert!(output.stdout.contains("1 would make a valid lead"), "{output}");
    assert_lead(&planned(&scene), "1", &json!({ "firstName": "Ann", "email": "ann@example.net", "repName": "Rae" }));
}

fn a_view_has_no_key_in_the_catalog_and_is_read_all_the_same(engine: Engine) {
    let tables = format!(
        "{}create view crm_leads_v as select id as lead_id, fname as first_name, email, 'Web' as source, 'Rae' as owner_name, updated_at from leads;\n",
        crms::PLAIN
    );
    let scene = crms::scene(engine, &tables);
    let output = init(&scene, &["--table", "crm_leads_v"]).expect_code(0);
    assert!(output.stdout.contains("nothing in the database enforces it"), "{output}");
    assert_lead(&planned(&scene), "1", &json!({ "firstName": "Ann", "leadSource": "Web" }));
}

/// No reference is declared, no key is primary, day and month of the dates are ambiguous, and names have the family name
/// first.
fn what_the_database_does_not_declare_is_found_by_names_and_values(engine: Engine) {
    let tables = "create table users (id integer primary key, first_name varchar(9), last_name varchar(9));\n\
                  insert into users values (1, 'Rae', 'Rep');\n\
                  create table leads (nr integer not null unique, name varchar(30), email varchar(40), source varchar(9), owner_id integer, dealer varchar(9), updated varchar(20));\n\
                  insert into leads values (7, 'Bell, Ann', 'ann@example.net', 'Web', 1, 'north', '05/06/2019'), (8, 'Dyck, Bo', 'bo@example.net', 'Web', 1, 'south', '25/06/2019'), \
                  (9, 'Ask, Cy', 'cy@example.net', 'Web', null, 'south', '26/06/2019');\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &["--client", "DEALER", "--value", "repName=The Sales Team"]).expect_code(0);
    for said in [
        "only unique NOT NULL integer",
        "\"updated\" is not proposed as changed_at",
        "the database declares no reference",
        "what follows the comma",
    ] {
        assert!(output.stdout.contains(said), "{said}: {output}");
    }
    let leads = planned(&scene);
    let ann =
        json!({ "firstName": "Ann", "lastName": "Bell", "repName": "Rae Rep", "repId": "1", "clientId": "north" });
    assert_lead(&leads, "7", &ann);
    assert_lead(&leads, "9", &json!({ "repName": "The Sales Team" }));
}

blocking_on_both_engines!(
    what_the_database_does_not_declare_is_found_by_names_and_values,
    suitecrm_keeps_addresses_and_opt_outs_elsewhere,
    a_hand_made_table_is_read_with_its_references,
    columns_may_be_german_french_or_spanish,
    an_opt_in_is_never_taken_for_an_opt_out_unasked,
    several_opt_outs_and_times_become_one,
    what_only_a_person_knows_is_asked_for_in_one_message,
    of_several_likely_tables_none_is_taken_unasked,
    nothing_personal_is_written_and_nothing_is_replaced_unasked,
    what_is_proposed_is_said_in_json_without_a_row,
    names_of_any_characters_are_written_as_they_are,
    a_view_has_no_key_in_the_catalog_and_is_read_all_the_same,
);
