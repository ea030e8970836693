//! `init` and yes/no columns: it names the columns about consent or about inactive rows with the line to write, and never
//! inverts one unasked. A proposal that makes no lead does not count as a success.

use serde_json::{Value, json};

use crate::init::{assert_lead, init, planned, written};
use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;

/// Names in several languages, of each kind.
const PERMISSIONS: [&str; 14] = [
    "massmail",
    "mass_mail",
    "mailing",
    "newsletter",
    "subscribed",
    "email_opt_in",
    "contactable",
    "gdpr",
    "consent",
    "marketing",
    "email_ok",
    "allow_email",
    "toestemming",
    "iscritto",
];
const REFUSALS: [&str; 6] =
    ["do_not_call", "refus", "baja", "no_contact_by_post", "unsubscribed_reason_known", "werbewiderspruch"];
const OUT_OF_USE: [&str; 12] = [
    "bounced",
    "disqualified",
    "inactive",
    "blocked",
    "banned",
    "is_test",
    "deceased",
    "spam",
    "junk",
    "gesperrt",
    "bloqueado",
    "verstorben",
];

/// A table with these flags, each of them yes for lead 1 and no for lead 2.
fn tables(names: &[&str], declared: &str, yes: &str, no: &str) -> String {
    let columns: String = names.iter().map(|name| format!(", \"{name}\" {declared}")).collect();
    let values = |value: &str| format!(", {value}").repeat(names.len());
    format!(
        "create table leads (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner_name varchar(9), hobby varchar(9){columns});\n\
         insert into leads values (1, 'Ann', 'ann@example.net', 'Web', 'Rae', 'chess'{}), (2, 'Bo', 'bo@example.net', 'Web', 'Rae', null{});\n",
        values(yes),
        values(no)
    )
}

fn no_flag_of_consent_or_disuse_is_passed_over(engine: Engine) {
    let all: Vec<&str> = PERMISSIONS.iter().chain(&REFUSALS).chain(&OUT_OF_USE).copied().collect();
    for (declared, yes, no) in [("boolean", "TRUE", "FALSE"), ("smallint", "1", "0"), ("varchar(4)", "'yes'", "'no'")] {
        let scene = crms::scene(engine, &tables(&all, declared, yes, no));
        let said = init(&scene, &["--json"]).expect_code(0).json();
        assert_eq!(said["not_used"], json!(["hobby"]), "{declared}: {said:#}");
        let named = |name: &str| {
            let all = said["consent_not_mapped"].as_array().expect("columns").iter();
            all.into_iter().find(|entry| entry["column"] == name).cloned()
        };
        for name in &all {
            let entry = named(name).unwrap_or_else(|| panic!("{name} ({declared}) is named: {said:#}"));
            let lines = entry["lines"].as_array().expect("lines");
            assert!(!lines.is_empty(), "{name}: the line to write is there: {entry:#}");
            for line in lines {
                let line = line["write"].as_str().expect("a line");
                assert!(
                    written(&scene).contains(&format!("\n#{line}\n")),
                    "{line} is in the file:\n{}",
                    written(&scene)
                );
            }
        }
        assert_eq!(said["lead"].get("optOut"), None, "no yes is turned into an opt-out: {said:#}");
    }
}

/// The file with one of its commented lines enabled.
#[track_caller]
fn with_line(scene: &Scene, start: &str) {
    let text = written(scene);
    assert!(text.contains(&format!("\n#{start}")), "#{start} is there:\n{text}");
    let text = text.replacen(&format!("\n#{start}"), &format!("\n{start}"), 1);
    std::fs::write(scene.directory().join("conversica-sync.toml"), text).expect("the directory is ours");
}

fn the_lines_that_are_offered_work_as_they_are(engine: Engine) {
    for (name, start, expected) in [
        ("newsletter", "optOut = ", json!({ "1": false, "2": true })),
        ("refus", "optOut = ", json!({ "1": true, "2": false })),
        ("newsletter", "where = ", json!({ "1": null })),
        ("disqualified", "where = ", json!({ "2": null })),
    ] {
        for (declared, yes, no) in
            [("boolean", "TRUE", "FALSE"), ("integer", "1", "0"), ("varchar(4)", "'ja'", "'nein'")]
        {
            let scene = crms::scene(engine, &tables(&[name], declared, yes, no));
            init(&scene, &[]).expect_code(0);
            with_line(&scene, start);
            let leads = planned(&scene);
            let found = leads.as_object().expect("leads").iter();
            let found: Value =
                found.map(|(id, lead)| (id.clone(), lead.get("optOut").cloned().unwrap_or_default())).collect();
            assert_eq!(found, expected, "{name} {declared}: {}", written(&scene));
        }
    }
}

/// The column that a line names can be read in a query too.
fn the_lines_that_are_offered_work_beside_a_query(engine: Engine) {
    let tables = "create table users (id integer primary key, name varchar(30));\n\
         create table leads (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner_id integer references users (id), mailing boolean, bounced boolean);\n\
         insert into users values (1, 'Rae Rep');\n\
         insert into leads values (1, 'Ann', 'ann@example.net', 'Web', 1, TRUE, FALSE), (2, 'Bo', 'bo@example.net', 'Web', 1, FALSE, TRUE);\n";
    let scene = crms::scene(engine, tables);
    init(&scene, &[]).expect_code(0);
    with_line(&scene, "optOut = { column = \"mailing\"");
    let leads = planned(&scene);
    assert_lead(&leads, "1", &json!({ "optOut": false }));
    assert_lead(&leads, "2", &json!({ "optOut": true }));
    // The condition goes to the end of the query.
    let text = written(&scene);
    let is_condition = |line: &&str| line.starts_with("#WHERE ") && line.contains("bounced");
    let line = text.lines().find(is_condition).expect("the condition").trim_start_matches('#');
    let text = text.replacen("\n'''\n", &format!("\n{line}\n'''\n"), 1);
    std::fs::write(scene.directory().join("conversica-sync.toml"), text).expect("the directory is ours");
    let leads = planned(&scene);
    assert!(leads.get("1").is_some() && leads.get("2").is_none(), "{leads:#}");
}

/// The proposal leaves out inactive rows and people marked as staff, and `init` says so.
fn rows_out_of_use_and_marked_staff_are_left_out(engine: Engine) {
    for (column, declared, kept, left_out) in [
        ("is_active", "boolean", "TRUE", "FALSE"),
        ("active", "integer", "1", "0"),
        ("aktiv", "varchar(4)", "'ja'", "'nein'"),
        ("is_user", "boolean", "FALSE", "TRUE"),
        ("is_staff", "integer", "0", "1"),
        ("archived", "varchar(4)", "'no'", "'yes'"),
        ("trashed", "boolean", "FALSE", "TRUE"),
        ("gelöscht_am", "timestamp", "null", "'2026-01-01 00:00:00'"),
        ("verwijderd", "integer", "0", "1"),
    ] {
        let scene = crms::scene(engine, &tables(&[column], declared, kept, left_out));
        let output = init(&scene, &[]).expect_code(0);
        assert!(output.stdout.contains(&format!("\"{column}\"")), "{output}");
        let leads = planned(&scene);
        assert!(
            leads.get("1").is_some() && leads.get("2").is_none(),
            "{column} {declared}: {leads:#}\n{}",
            written(&scene)
        );
    }
}

/// `init` recognises a plain opt-out in several languages.
fn plain_refusals_fill_opt_out(engine: Engine) {
    for column in [
        "do_not_email",
        "no_contact",
        "dnc",
        "werbesperre",
        "abgemeldet",
        "désabonné",
        "descadastrado",
        "disiscritto",
        "afgemeld",
    ] {
        let scene = crms::scene(engine, &tables(&[column], "boolean", "TRUE", "FALSE"));
        init(&scene, &[]).expect_code(0);
        let leads = planned(&scene);
        assert_lead(&leads, "1", &json!({ "optOut": true }));
        assert_lead(&leads, "2", &json!({ "optOut": false }));
    }
}

fn what_makes_no_lead_is_not_done(engine: Engine) {
    let file = |scene: &Scene| scene.directory().join("conversica-sync.toml").exists();
    let table = "create table leads (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner_name varchar(9), deleted boolean);\n";
    let bad = format!(
        "{table}insert into leads values (1, 'Ann', 'none', 'Web', 'Rae', FALSE), (2, 'Bo', 'none', 'Web', 'Rae', FALSE);\n"
    );
    let deleted = format!("{table}insert into leads values (1, 'Ann', 'ann@example.net', 'Web', 'Rae', TRUE);\n");
    for (tables, said) in [
        (table.to_owned(), "The table has no rows yet: nothing could be tried."),
        (bad, "NO ROW MAKES A VALID LEAD"),
        (deleted, "No row is left by what takes rows out"),
    ] {
        let scene = crms::scene(engine, &tables);
        let output = init(&scene, &[]).expect_code(3);
        assert!(output.stdout.contains(said) && output.stdout.contains("Nothing was written"), "{output}");
        assert!(!output.stdout.contains("Written:") && !file(&scene), "{output}");
        assert_eq!(init(&scene, &["--json"]).expect_code(3).json()["rows"]["valid"], 0);
        assert!(!file(&scene), "nobody has said so");
        let output = init(&scene, &["--yes"]).expect_code(3);
        assert!(output.stdout.contains(said) && !output.stdout.contains("Written:"), "{output}");
        assert!(file(&scene), "the operator has said so: {output}");
    }
}

blocking_on_both_engines!(
    no_flag_of_consent_or_disuse_is_passed_over,
    the_lines_that_are_offered_work_as_they_are,
    the_lines_that_are_offered_work_beside_a_query,
    rows_out_of_use_and_marked_staff_are_left_out,
    plain_refusals_fill_opt_out,
    what_makes_no_lead_is_not_done,
);
