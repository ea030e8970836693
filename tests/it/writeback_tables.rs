//! Writing to our own tables in the CRM's database: their content, leads that a table refuses, and a table that is
//! created again.

use serde_json::json;

use crate::support::desk::Desk;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::heard::Heard;

on_both_engines!(
    blocking: what_conversica_sends_stands_in_the_tables,
    an_event_whose_note_was_lost_is_not_written_again,
    a_lead_that_is_refused_stops_itself_only_and_is_taken_up_again,
    a_table_that_vanishes_keeps_everybody_waiting_and_is_made_again,
    an_event_behind_one_that_is_not_due_waits_for_it,
    a_big_backlog_is_written_to_the_end,
);

fn tables(engine: Engine) -> Desk {
    Desk::new(engine, "", "mode = \"tables\"")
}

fn what_conversica_sends_stands_in_the_tables(engine: Engine) {
    let mut desk = tables(engine);
    let first = json!({"apiVersion": "7.2", "hotLead": true, "hotLeadDate": "2026-02-03T04:05:06+02:00"});
    let both = json!({"apiVersion": "7.2", "hotLead": false, "hotLeadDate": "2026-02-03T04:05:06+02:00",
        "leadStatus": "O'Neill\u{0}\"s", "mood:of day": {"x": ["Zoë"]}, "leadStatusDate": "no date"});
    let update = Heard::update("7", first);
    let second = Heard::update("7", json!({"hotLead": false, "leadStatus": "O'Neill\u{0}\"s"})).picture(both);
    let message = Heard::message("7", "received", "It's\u{0} me: \"Ann\"\nbye");
    let chat = Heard::chat_lead(json!({"firstName": "Al", "lastName": "O'Hara", "email": "al@example.com",
        "conversationHistory": [{"from": "lead", "text": "Hello"}]}));
    desk.hear(&[update, second, message.clone(), chat.clone()]);
    assert_eq!(desk.step(), (4, 0));
    assert_eq!(desk.queue(), (0, 0));

    let (truth, instant) = match engine {
        Engine::Sqlite => ("hot_lead = 0", "hot_lead_date"),
        Engine::Postgres => ("not hot_lead", "to_char(hot_lead_date, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"),
    };
    let sql = format!(
        "select id || '|' || client_id || '|' || {instant} || '|' || lead_status || '|' || other_keys \
         from conversica_leads where {truth} and action_required is null and lead_status_date is null \
         and first_heard_at < last_heard_at"
    );
    let other = r#"{"mood:of day":{"x":["Zoë"]},"leadStatusDate":"no date"}"#;
    assert_eq!(desk.crm.sql(&sql), [format!("7||2026-02-03T02:05:06.000Z|O'Neill\u{fffd}\"s|{other}")]);
    let sql = "select message_key || '|' || id || '|' || action || '|' || subject || '|' || replace(body, '\n', '/') \
               from conversica_messages where date is not null and received_at is not null";
    assert_eq!(desk.crm.sql(sql), [format!("{}|7|received|Hi|It's\u{fffd} me: \"Ann\"/bye", message.key())]);
    let sql =
        "select chat_key || '|' || last_name || '|' || email || '|' || conversation_history from conversica_chat_leads";
    let history = r#"[{"from":"lead","text":"Hello"}]"#;
    assert_eq!(desk.crm.sql(sql), [format!("{}|O'Hara|al@example.com|{history}", chat.key())]);
}

fn an_event_whose_note_was_lost_is_not_written_again(engine: Engine) {
    let mut desk = tables(engine);
    let chat = json!({"firstName": "Al", "lastName": "B", "email": "a@b.c", "conversationHistory": "x"});
    desk.hear(&[
        Heard::message("1", "sent", "a"),
        Heard::update("1", json!({"hotLead": true})),
        Heard::chat_lead(chat),
    ]);
    assert_eq!(desk.step(), (3, 0));
    desk.crm.sql("update conversica_messages set subject = 'mine'; update conversica_chat_leads set email = 'mine'");
    desk.forget_that_anything_was_written();
    desk.restart();
    assert_eq!(desk.step(), (3, 0));
    let sql = "select subject from conversica_messages union all select email from conversica_chat_leads \
               union all select id from conversica_leads";
    assert_eq!(desk.crm.sql(sql), ["mine", "mine", "1"]);
}

fn a_lead_that_is_refused_stops_itself_only_and_is_taken_up_again(engine: Engine) {
    let mut desk = tables(engine);
    desk.hear(&[Heard::message("0", "sent", "makes the tables")]);
    desk.step();
    desk.crm.sql(engine.pick(
        "create trigger picky before insert on conversica_messages when new.body like 'bad%' \
         begin select raise(abort, 'ann@example.com is refused'); end",
        "create function picky() returns trigger language plpgsql as $$ begin \
         raise exception 'ann@example.com is refused'; end $$; \
         create trigger picky before insert on conversica_messages for each row when (new.body like 'bad%') \
         execute function picky()",
    ));
    let bad = |id: &str| ["a good", "bad", "later"].map(|word| Heard::message(id, "sent", &format!("{word} {id}")));
    desk.hear(&bad("3"));
    desk.hear(&(10..40).map(|id| Heard::message(&id.to_string(), "sent", &format!("good {id}"))).collect::<Vec<_>>());
    desk.hear(&bad("99"));
    assert_eq!(desk.step(), (32, 2), "up to what is refused");
    assert_eq!(desk.queue(), (4, 0));
    desk.settle();
    assert_eq!(desk.queue(), (2, 2), "what is behind waits");
    let told = desk.state.sql("select attempts || ' ' || detail from writeback where status = 'stopped'").join("\n");
    assert!(told.starts_with("5 ") && !told.contains("ann@"), "{told}");

    let bodies = "select body from conversica_messages where id in ('3', '99') order by body";
    assert_eq!(desk.crm.sql(bodies), ["a good 3", "a good 99"]);
    desk.crm.sql(engine.pick("drop trigger picky", "drop trigger picky on conversica_messages"));
    desk.settle();
    assert_eq!(desk.queue(), (2, 2), "a person has to say so");
    desk.state.sql("update writeback set status = 'waiting', due_at = 0");
    desk.settle();
    assert_eq!(desk.queue(), (0, 0));
    assert_eq!(desk.crm.sql(bodies), ["a good 3", "a good 99", "bad 3", "bad 99", "later 3", "later 99"]);
}

fn a_table_that_vanishes_keeps_everybody_waiting_and_is_made_again(engine: Engine) {
    let mut desk = tables(engine);
    desk.hear(&[Heard::message("0", "sent", "makes the tables")]);
    desk.step();
    desk.crm.sql("drop table conversica_messages; create table conversica_messages (id integer)");
    desk.hear(&[Heard::message("1", "sent", "a"), Heard::update("2", json!({"hotLead": true}))]);
    let trouble = desk.try_step().expect_err("the table does not fit").to_string();
    assert!(trouble.contains("conversica_messages") || trouble.contains("message_key"), "{trouble}");
    let trouble = desk.try_step().expect_err("it still does not").to_string();
    assert!(trouble.contains("conversica_messages"), "{trouble}");
    assert_eq!(desk.queue(), (2, 0));
    desk.crm.sql("drop table conversica_messages");
    assert_eq!(desk.step(), (2, 0));
    assert_eq!(desk.crm.sql("select body from conversica_messages"), ["a"]);
}

fn an_event_behind_one_that_is_not_due_waits_for_it(engine: Engine) {
    let mut desk = tables(engine);
    let message = |id: &str, body: &str| Heard::message(id, "sent", body);
    desk.hear(&[message("1", "a"), message("2", "b"), message("1", "c"), message("3", "d"), message("3", "e")]);
    let soon = desk.now.timestamp_micros() + 1;
    desk.state.sql(&format!("update writeback set due_at = {soon} where event_seq = 1"));
    desk.state.sql("update writeback set status = 'stopped' where event_seq = 5");
    assert_eq!(desk.step(), (2, 0));
    assert_eq!(desk.crm.sql("select body from conversica_messages order by body"), ["b", "d"]);
    desk.settle();
    assert_eq!(desk.crm.sql("select body from conversica_messages order by body"), ["a", "b", "c", "d"]);
    assert_eq!(desk.queue(), (0, 1));
}

fn a_big_backlog_is_written_to_the_end(engine: Engine) {
    let mut desk = tables(engine);
    desk.hear(&[Heard::message("1", "sent", "first")]);
    // Bodies of ten megabytes in all: more than one batch takes.
    desk.hear(&(0..10).map(|n| Heard::message("1", "sent", &format!("{n} LONG"))).collect::<Vec<_>>());
    desk.state.sql(engine.pick(
        "update event set body = convert_to(replace(convert_from(body, 'utf8'), 'LONG', repeat('x', 1000000)), 'utf8')",
        "update event set body = cast(replace(cast(body as text), 'LONG', printf('%.*c', 1000000, 'x')) as blob)",
    ));
    let (written, _) = desk.step();
    assert!((2..11).contains(&written), "{written}");
    desk.settle();
    assert_eq!(desk.queue(), (0, 0));
    assert_eq!(desk.crm.sql("select cast(count(*) as text) from conversica_messages"), ["11"]);
}
