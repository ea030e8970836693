//! The write-back to a MariaDB CRM: our own tables, the operator's statements, failures, and what `check` says.

use conversica_sync::receive::writeback::WritebackError;
use conversica_sync::source::writeback::failure::FailureReach;
use serde_json::json;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::desk::Desk;
use crate::support::heard::Heard;
use crate::support::mariadb::{MariaDatabase, mariadb};
use crate::support::scene::Scene;

const TABLES: &str = "mode = \"tables\"";

fn crm() -> MariaDatabase {
    let crm = mariadb().database();
    crm.sql("create table leads (id int primary key, name text)");
    crm
}

#[test]
fn what_conversica_sends_stands_in_the_tables() {
    let crm = crm();
    let mut desk = Desk::beside(&crm.url, TABLES);
    let both = json!({"apiVersion": "7.2", "hotLead": false, "hotLeadDate": "2026-02-03T04:05:06+02:00",
        "leadStatus": "O'Neill\u{0}\"s \\n", "mood:of day": {"x": ["Zoë"]}, "leadStatusDate": "no date"});
    let update = Heard::update("7", json!({"hotLead": false, "leadStatus": "O'Neill\u{0}\"s \\n"})).picture(both);
    let message = Heard::message("7", "received", "It's\u{0} me: \"Ann\"\nbye 😀");
    let chat = Heard::chat_lead(json!({"firstName": "Al", "lastName": "O'Hara", "email": "al@example.com",
        "conversationHistory": [{"from": "lead", "text": "Hello"}]}));
    desk.hear(&[update, message.clone(), chat.clone()]);
    assert_eq!(desk.step(), (3, 0));
    assert_eq!(desk.queue(), (0, 0));
    let sql = "select concat_ws('|', id, client_id, hot_lead_date, lead_status, other_keys) from conversica_leads \
               where not hot_lead and action_required is null and lead_status_date is null";
    let other = r#"{"mood:of day":{"x":["Zoë"]},"leadStatusDate":"no date"}"#;
    assert_eq!(crm.sql(sql), format!("7||2026-02-03 02:05:06.000|O'Neill\u{fffd}\"s \\n|{other}"));
    let sql = "select concat_ws('|', message_key, id, action, subject, replace(body, '\\n', '/')) from conversica_messages \
               where date is not null and received_at is not null";
    assert_eq!(crm.sql(sql), format!("{}|7|received|Hi|It's\u{fffd} me: \"Ann\"/bye 😀", message.key()));
    let sql = "select concat_ws('|', chat_key, last_name, email, conversation_history) from conversica_chat_leads";
    let history = r#"[{"from":"lead","text":"Hello"}]"#;
    assert_eq!(crm.sql(sql), format!("{}|O'Hara|al@example.com|{history}", chat.key()));

    desk.hear(&[Heard::update("7", json!({"hotLead": true}))]);
    assert_eq!(desk.step(), (1, 0));
    assert_eq!(crm.sql("select count(*), max(hot_lead) from conversica_leads"), "1\t1", "one row a lead");
}

#[test]
fn an_event_whose_note_was_lost_is_not_written_again() {
    let crm = crm();
    let mut desk = Desk::beside(&crm.url, TABLES);
    desk.hear(&[Heard::message("1", "sent", "a"), Heard::update("1", json!({"hotLead": true}))]);
    assert_eq!(desk.step(), (2, 0));
    crm.sql("update conversica_messages set subject = 'mine'");
    desk.forget_that_anything_was_written();
    desk.restart();
    assert_eq!(desk.step(), (2, 0));
    assert_eq!(crm.sql("select subject from conversica_messages union all select id from conversica_leads"), "mine\n1");
}

#[test]
fn a_lead_that_is_refused_stops_itself_only() {
    let crm = crm();
    let mut desk = Desk::beside(&crm.url, TABLES);
    desk.hear(&[Heard::message("0", "sent", "makes the tables")]);
    desk.step();
    crm.define(
        "create trigger picky before insert on conversica_messages for each row \
         if new.body like 'bad%' then signal sqlstate '45000' set message_text = 'ann@example.com is refused'; end if",
    );
    let bad = |id: &str| ["a good", "bad", "later"].map(|word| Heard::message(id, "sent", &format!("{word} {id}")));
    desk.hear(&bad("3"));
    desk.hear(&(10..20).map(|id| Heard::message(&id.to_string(), "sent", "good")).collect::<Vec<_>>());
    desk.hear(&[Heard::message(&"x".repeat(300), "sent", "the key is too long for the table")]);
    assert_eq!(desk.step(), (11, 2), "up to what is refused");
    desk.settle();
    assert_eq!(desk.queue(), (1, 2), "what is behind waits");
    let told = desk.state.sql("select detail from writeback where status = 'stopped' order by detail").join("\n");
    assert!(!told.contains("ann@") && told.contains("column id") && told.contains("MySQL error 1644"), "{told}");
}

#[test]
fn a_user_without_the_right_to_create_tables_is_told_so_and_nothing_is_lost() {
    let crm = crm();
    let mut desk = Desk::beside(&crm.user("select, insert, update"), TABLES);
    desk.hear(&[Heard::message("1", "sent", "a")]);
    let trouble = desk.try_step().expect_err("the table cannot be made").to_string();
    assert!(trouble.contains("creating the table `conversica_leads`"), "{trouble}");
    assert_eq!(desk.queue(), (1, 0));
}

/// MySQL has the same SQLSTATE for it as for a mistyped statement.
#[test]
fn a_user_with_too_many_sessions_is_waited_for() {
    let crm = crm();
    let url = crm.user("select, insert, update, create");
    let user = url.trim_start_matches("mysql://").split(':').next().expect("a user");
    crm.sql(&format!("grant usage on *.* to {user}@'127.0.0.1' with max_user_connections 1"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options: MySqlConnectOptions = url.parse().expect("a URL");
    let other = runtime.block_on(options.connect()).expect("the server answers");
    let mut desk = Desk::beside(&url, TABLES);
    desk.hear(&[Heard::message("1", "sent", "a")]);
    let Err(WritebackError::Crm(failure)) = desk.try_step() else { panic!("the user has no session left") };
    assert_eq!(failure.reach, FailureReach::Away, "{failure}");
    runtime.block_on(other.close()).expect("it ends");
    desk.settle();
    assert_eq!(desk.queue(), (0, 0));
}

/// Leads with a counter that every event of theirs raises.
fn counting() -> (MariaDatabase, Desk) {
    let crm = crm();
    crm.sql(
        "alter table leads add hot boolean, add heard datetime(3), add times int not null default 0; \
         create table notes (lead_id varchar(20), body varchar(5), event_key text); insert into leads (id) values (1), (2)",
    );
    let statements = "mode = \"sql\"\n\
        lead_update = \"update leads set times = times + 1, hot = coalesce(:hotLead, hot), heard = :hotLeadDate where id = :id # :no\"\n\
        message = \"insert into notes values (:id, :body, :eventKey)\"";
    let desk = Desk::beside(&crm.url, statements);
    (crm, desk)
}

#[test]
fn each_event_has_its_effect_once_although_the_note_of_it_was_lost() {
    let (crm, mut desk) = counting();
    let hot = json!({"hotLead": true, "hotLeadDate": "2026-02-03T04:05:06+02:00"});
    desk.hear(&[Heard::update("1", hot.clone()), Heard::message("1", "sent", "a"), Heard::update("2", hot)]);
    assert_eq!(desk.step(), (3, 0));
    for number in 0..3 {
        desk.forget_that_anything_was_written();
        desk.restart();
        desk.hear(&[Heard::message("2", "sent", &format!("b{number}"))]);
        desk.settle();
    }
    assert_eq!(desk.queue(), (0, 0));
    let leads = crm.sql("select id, times, hot, heard from leads order by id");
    assert_eq!(leads, "1\t1\t1\t2026-02-03 02:05:06.000\n2\t1\t1\t2026-02-03 02:05:06.000");
    assert_eq!(crm.sql("select count(*) from notes"), "4");
    assert_eq!(crm.sql("select count(*) from conversica_writeback"), "6");
}

#[test]
fn a_statement_that_fails_stops_its_lead_only() {
    let (crm, mut desk) = counting();
    let message = |id: &str, body: &str| Heard::message(id, "sent", body);
    desk.hear(&[message("1", "a"), message("1", "too long"), message("1", "c"), message("2", "d")]);
    assert_eq!(desk.step(), (2, 1));
    assert_eq!(crm.sql("select group_concat(body order by body) from notes"), "a,d");
    assert_eq!(crm.sql("select count(*) from conversica_writeback"), "2", "the refused ones are not marked");
    crm.sql("alter table notes modify body text");
    desk.state.sql("update writeback set status = 'waiting', due_at = 0");
    desk.settle();
    assert_eq!(crm.sql("select group_concat(body order by body) from notes"), "a,c,d,too long");
}

#[test]
fn a_statement_that_the_server_does_not_understand_keeps_everybody_waiting() {
    let (crm, mut desk) = counting();
    crm.sql("drop table notes");
    desk.hear(&[Heard::message("1", "sent", "a")]);
    let trouble = desk.try_step().expect_err("there is no such table").to_string();
    assert!(trouble.contains("preparing [writeback] message"), "{trouble}");
    assert_eq!(desk.queue(), (1, 0));
}

#[test]
fn check_looks_at_tables_and_rights_and_leaves_nothing_behind() {
    let crm = crm();
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    for key in ["firstName", "lastName", "email", "repName"] {
        scene.set_text("lead", key, "name");
    }
    scene.set("lead", "optOut", "").set_text("receive", "listen", "127.0.0.1:0").set_text("receive", "username", "c");
    scene.set_text("receive", "password", "receiver-password-of-this-test");
    for (rights, words) in [
        ("select, insert, update, create", "can be made and written; made at first use"),
        ("select, insert, update", "no right to create tables"),
    ] {
        let url = crm.user(rights);
        scene.set_text("source", "url", &url);
        let text = scene.run(&["check"]).to_string();
        assert!(text.contains(words), "{rights}: {text}");
        assert_eq!(crm.sql("show tables"), "leads");
    }
    let printed = scene.run(&["writeback", "print"]).expect_code(0).stdout;
    crm.sql(&printed);
    assert_eq!(crm.sql("show tables"), "conversica_chat_leads\nconversica_leads\nconversica_messages\nleads");
    let text = scene.run(&["check"]).to_string();
    assert!(text.contains("conversica_chat_leads can be written"), "{text}");
}
