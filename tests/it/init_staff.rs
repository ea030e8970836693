//! `init` never proposes to contact the users of the CRM, whatever their table is called, and no text advises it.

use serde_json::json;

use crate::init::{assert_lead, init, planned, written};
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::{crm_shapes, crms};

const COMPANIES: &str = "create table companies (id integer primary key, name varchar(30));\ninsert into companies values (1, 'Bell Ltd');\n";

fn where_only_staff_have_addresses_no_table_is_advised(engine: Engine) {
    for name in [
        "users",
        "\"User\"",
        "auth_user",
        "res_users",
        "employee",
        "staff",
        "admins",
        "account_user",
        "party_user",
        "operators",
        "agents",
        "sales_rep",
        "benutzer",
        "usuarios",
    ] {
        let table = format!(
            "{COMPANIES}create table {name} (id integer primary key, first_name varchar(9), last_name varchar(9), email varchar(40), source varchar(9), owner varchar(9), updated_at timestamp);\n\
             insert into {name} values (1, 'Rae', 'Rep', 'rae@staff.example', 'x', 'Boss', '2026-01-01 00:00:00');\n"
        );
        let scene = crms::scene(engine, &table);
        let bare = name.trim_matches('"');
        for more in [&[][..], &["--table", &bare[..bare.len() - 1]], &["--yes"]] {
            let output = init(&scene, more).expect_code(2);
            let named = format!("{output}")
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| *word == bare)
                .count();
            let allowed = usize::from(bare == "users") + usize::from(bare == "staff");
            assert!(named <= allowed, "{bare} is not advised: {output}");
            assert!(output.stderr.contains("--table"), "{output}");
        }
        let output = init(&scene, &[]).expect_code(2);
        assert!(output.stderr.contains("look like tables of users or staff"), "{output}");
        assert!(output.stderr.contains("companies"), "other tables are named: {output}");
        // The operator may know better.
        let output = init(&scene, &["--table", bare]).expect_code(0);
        assert!(output.stdout.contains("looks like one of users or staff"), "{output}");
    }
}

/// `init` recognises staff by the columns, or because leads belong to them.
fn staff_under_any_name_is_known(engine: Engine) {
    let logins = "create table t_147 (id integer primary key, name varchar(30), email varchar(40), password_hash varchar(40), updated_at timestamp);\n\
         insert into t_147 values (1, 'Rae Rep', 'rae@staff.example', 'x', '2026-01-01 00:00:00');\n";
    let owners = "create table crew (id integer primary key, name varchar(30), email varchar(40));\n\
         create table deals (id integer primary key, title varchar(30), owner_id integer references crew (id));\n\
         insert into crew values (1, 'Rae Rep', 'rae@staff.example');\n\
         insert into deals values (1, 'Ten desks', 1);\n";
    let addresses = "create table auth_user (id integer primary key, username varchar(30), password varchar(40));\n\
         create table account_emailaddress (id integer primary key, email varchar(40), verified boolean, user_id integer not null references auth_user (id));\n\
         insert into auth_user values (1, 'rae', 'x');\n\
         insert into account_emailaddress values (1, 'rae@staff.example', TRUE, 1);\n";
    for (tables, staff) in [(logins, "t_147"), (owners, "crew"), (addresses, "account_emailaddress")] {
        let scene = crms::scene(engine, tables);
        let output = init(&scene, &[]).expect_code(2);
        assert!(!format!("{output}").contains(staff), "{staff}: {output}");
        assert!(output.stderr.contains("look like tables of users or staff"), "{output}");
    }
}

/// Customers of a shop have passwords too, and a fuller table of staff still counts as staff.
fn customers_win_over_staff(engine: Engine) {
    let tables = "create table employees (id integer primary key, first_name varchar(9), last_name varchar(9), email varchar(40), phone varchar(20), source varchar(9), owner varchar(9), optout boolean, updated_at timestamp);\n\
         create table customers (id integer primary key, mail varchar(40), first_name varchar(9), password varchar(40), channel varchar(9), owner_name varchar(9));\n\
         insert into employees values (1, 'Rae', 'Rep', 'rae@staff.example', '555 010 1010', 'x', 'Boss', FALSE, '2026-01-01 00:00:00');\n\
         insert into customers values (1, 'ann@example.net', 'Ann', 'x', 'Web', 'Rae');\n";
    let scene = crms::scene(engine, tables);
    init(&scene, &[]).expect_code(0);
    assert_lead(&planned(&scene), "1", &json!({ "email": "ann@example.net" }));
    assert!(!written(&scene).contains("employees"), "{}", written(&scene));
}

fn django_s_users_are_no_leads(engine: Engine) {
    let scene = crms::scene(engine, crm_shapes::DJANGO);
    init(&scene, &[]).expect_code(0);
    let leads = planned(&scene);
    assert!(!leads.to_string().contains("\"email\":\"rae@staff.example\""), "{leads:#}");
    assert!(!written(&scene).contains("FROM \"auth_user\""), "{}", written(&scene));
    // `init` does not correct a misspelt table to one of staff.
    let output = init(&scene, &["--table", "auth_usr", "--force"]).expect_code(2);
    assert!(!output.stderr.contains("auth_user"), "{output}");
}

fn tryton_s_users_and_employees_are_no_leads(engine: Engine) {
    let scene = crms::scene(engine, crm_shapes::TRYTON);
    let texts = ["--value", "leadSource=Website", "--value", "repName=The Sales Team"];
    let output = init(&scene, &texts);
    for staff in ["res_user", "company_employee"] {
        assert!(!output.stderr.contains(staff), "{staff}: {output}");
    }
    assert!(!format!("{output}").contains("staff.example"), "{output}");
}

/// Staff who are also persons are left out of the persons.
fn an_employee_who_is_a_person_is_left_out(engine: Engine) {
    let tables = "create table person (id integer primary key, first_name varchar(9), email varchar(40), source varchar(9), owner_name varchar(9));\n\
         create table employee (person_ptr_id integer primary key references person (id), salary integer);\n\
         create table login (id integer primary key, password varchar(9), person_id integer references person (id));\n\
         insert into person values (1, 'Ann', 'ann@example.net', 'Web', 'Rae'), (2, 'Rae', 'rae@staff.example', 'Web', 'Rae'), (3, 'Sam', 'sam@staff.example', 'Web', 'Rae');\n\
         insert into employee values (2, 10);\n\
         insert into login values (1, 'x', 3), (2, 'x', null);\n";
    let scene = crms::scene(engine, tables);
    let output = init(&scene, &["--table", "person"]).expect_code(0);
    assert!(output.stdout.contains("those people are staff"), "{output}");
    let leads = planned(&scene);
    assert_eq!(leads.as_object().map(|all| all.keys().cloned().collect()), Some(vec!["1".to_owned()]), "{leads:#}");
}

blocking_on_both_engines!(
    an_employee_who_is_a_person_is_left_out,
    where_only_staff_have_addresses_no_table_is_advised,
    staff_under_any_name_is_known,
    customers_win_over_staff,
    django_s_users_are_no_leads,
    tryton_s_users_and_employees_are_no_leads,
);
