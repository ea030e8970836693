//! `init` never skips a column that may exclude a person from messages: its file asks about it.

use crate::init::{init, written};
use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};

blocking_on_both_engines!(
    columns_that_may_exclude_a_person_are_named,
    tables_that_may_list_excluded_people_are_named,
    a_table_of_deleted_rows_is_not_proposed_unasked,
);

const LEADS: &str = "create table leads (id integer primary key, first_name varchar(20), last_name varchar(20), email varchar(40), \
     owner varchar(20), source varchar(20), updated_at timestamp);\n\
     insert into leads values (1, 'Ann', 'Bell', 'ann@example.com', 'Rae', 'Web', '2026-01-02 00:00:00'), \
     (2, 'Cy', 'Dow', 'cy@example.com', 'Rae', 'Web', '2026-01-02 00:00:00');\n";

fn columns_that_may_exclude_a_person_are_named(engine: Engine) {
    let columns = [
        "marketing_status",
        "email_status",
        "merged_into_id",
        "anonymized_at",
        "send_emails",
        "ok_to_email",
        "valid",
        "ban",
        "robinson",
    ];
    let mut tables = LEADS.to_owned();
    for column in columns {
        tables.push_str(&format!("alter table leads add column {column} varchar(20);\n"));
    }
    let scene = crms::scene(engine, &tables);
    init(&scene, &[]).expect_code(0);
    let text = written(&scene);
    let (_, after) = text.split_once("CONSENT THAT IS NOT MAPPED").expect("there are questions");
    let (questions, _) = after.split_once("[source]").expect("the source follows");
    for column in columns {
        assert!(questions.contains(&format!("\"{column}\"")), "{column}: {text}");
    }
}

fn tables_that_may_list_excluded_people_are_named(engine: Engine) {
    let others = ["unsubscribes", "email_blacklist", "deleted_leads", "suppression_list"];
    let mut tables = LEADS.to_owned();
    for table in others {
        tables.push_str(&format!(
            "create table {table} (id integer primary key, lead_id integer, reason varchar(20));\n"
        ));
    }
    tables.push_str("create table invoices (id integer primary key, lead_id integer);\n");
    let scene = crms::scene(engine, &tables);
    init(&scene, &[]).expect_code(0);
    let text = written(&scene);
    let words = text.replace("\n#", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    for table in others {
        assert!(words.contains(&format!("{table} may list people who want no messages")), "{table}: {text}");
    }
    assert!(!text.contains("invoices"), "{text}");
}

fn a_table_of_deleted_rows_is_not_proposed_unasked(engine: Engine) {
    for name in ["contacts_deleted", "leads_trash", "deleted_contacts"] {
        let scene = crms::scene(engine, &LEADS.replace("leads", name));
        let output = init(&scene, &["--yes"]).expect_code(2);
        assert!(output.stderr.contains("--table"), "{name}: {output}");
        let output = init(&scene, &["--table", name]).expect_code(0);
        assert!(!format!("{output}").contains("nothing is made of it"), "the operator knows better: {output}");
    }
}
