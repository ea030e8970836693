//! Writing by the user's own statements: every type, each event once, in order, and failed statements.

use serde_json::json;

use crate::support::desk::Desk;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::heard::Heard;

on_both_engines!(
    blocking: parameters_fit_columns_of_every_type,
    each_event_has_its_effect_once_although_the_note_of_it_was_lost,
    only_news_reach_a_statement,
    a_statement_that_fails_stops_its_lead_only,
    a_kind_without_a_statement_is_done_at_once,
    several_statements_of_an_event_are_one,
    a_statement_that_does_not_fit_keeps_everybody_waiting_until_it_does,
    a_trigger_that_takes_the_whole_transaction_back_stops_its_lead_only,
);

fn parameters_fit_columns_of_every_type(engine: Engine) {
    let schema = engine.pick(
        "create table odd (\"the id\" text, n integer, flag integer, yes boolean, at text, who text, doc text, short char(3), mood text)",
        "create type heat as enum ('Hot Lead', 'None'); \
         create table odd (\"the id\" varchar(40), n bigint, flag integer, yes boolean, at timestamptz, who uuid, doc jsonb, \
         heat heat, short char(3), mood jsonb)",
    );
    let heat = engine.pick(("", ""), (", heat", ", :leadStatus"));
    let insert = format!(
        "insert into odd (\"the id\", n, flag, yes, at, who, doc, short, mood{}) \
         select :id, :id, :hotLead, :hotLead, :hotLeadDate, :discoveredEmail1, :rawBody, :discoveredPhone1, :mood{} \
         where :leadAtRisk is null and ':id' <> :eventKey -- :not",
        heat.0, heat.1
    );
    let mut desk = Desk::new(engine, schema, &format!("mode = \"sql\"\nlead_update = {insert:?}"));
    desk.hear(&[Heard::update(
        "42",
        json!({"hotLead": true, "hotLeadDate": "2026-02-03T04:05:06+02:00",
        "discoveredEmail1": "0b5c9b9e-6a50-4b9e-8f3e-3f4d8f0a1b2c", "leadStatus": "Hot Lead",
        "discoveredPhone1": "abc", "mood": "so \"so\"\u{0}"}),
    )]);
    assert_eq!(desk.step(), (1, 0));
    let sql = engine.pick(
        "select \"the id\" || '|' || typeof(n) || n || '|' || flag || '|' || at || '|' || who || '|' || short from odd",
        "select \"the id\" || '|integer' || n || '|' || flag || '|' || to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS+02:00') || '|' \
         || who || '|' || short from odd where yes and doc ->> 'id' = '42' and mood #>> '{}' = 'so \"so\"\u{fffd}' and heat = 'Hot Lead'",
    );
    let at = engine.pick("2026-02-03T04:05:06+02:00", "2026-02-03T02:05:06+02:00");
    assert_eq!(desk.crm.sql(sql), [format!("42|integer42|1|{at}|0b5c9b9e-6a50-4b9e-8f3e-3f4d8f0a1b2c|abc")]);
}

/// Leads with a counter that every event of theirs raises.
fn counting(engine: Engine) -> Desk {
    let schema = "alter table leads add hot text; alter table leads add times integer not null default 0; \
                  create table notes (lead text, body text, key text)";
    let statements = "mode = \"sql\"\n\
        lead_update = \"update leads set times = times + 1, hot = coalesce(:hotLead, hot) where id = :id\"\n\
        message = \"insert into notes values (:id, :body, :eventKey)\"";
    let desk = Desk::new(engine, schema, statements);
    desk.crm.sql("insert into leads (id, name) values (1, 'Ann'), (2, 'Bob')");
    desk
}

fn times(desk: &Desk) -> String {
    desk.crm.sql("select id || ':' || times from leads order by id").join(" ")
}

fn notes(desk: &Desk) -> String {
    desk.crm.sql("select lead || ':' || body from notes").join(" ")
}

fn each_event_has_its_effect_once_although_the_note_of_it_was_lost(engine: Engine) {
    let mut desk = counting(engine);
    let hot = |hot: bool| json!({"hotLead": hot});
    desk.hear(&[Heard::update("1", hot(true)), Heard::message("1", "sent", "a"), Heard::update("2", hot(true))]);
    assert_eq!(desk.step(), (3, 0));
    for _ in 0..3 {
        desk.forget_that_anything_was_written();
        desk.restart();
        desk.hear(&[Heard::message("2", "sent", &format!("b{}", notes(&desk).len()))]);
        desk.settle();
    }
    assert_eq!(desk.queue(), (0, 0));
    assert_eq!(times(&desk), "1:1 2:1");
    assert_eq!(notes(&desk).split(' ').count(), 4);
    assert_eq!(desk.crm.sql("select cast(count(*) as text) from conversica_writeback"), ["6"]);
}

fn only_news_reach_a_statement(engine: Engine) {
    let mut desk = counting(engine);
    let all = json!({"hotLead": true, "leadStatus": "Hot Lead"});
    desk.hear(&[
        Heard::update("1", all.clone()).news(json!({"leadStatus": "Hot Lead"})),
        // All keys are stale, so there is nothing to report.
        Heard::update("2", all).news(json!({})),
    ]);
    assert_eq!(desk.step(), (2, 0));
    assert_eq!(times(&desk), "1:1 2:0");
    assert_eq!(desk.crm.sql("select coalesce(hot, 'null') from leads where id = 1"), ["null"]);
}

fn a_statement_that_fails_stops_its_lead_only(engine: Engine) {
    let mut desk = counting(engine);
    desk.crm.sql(engine.pick(
        "create trigger picky before insert on notes when new.body = 'bad' begin select raise(abort, 'ann@example.com'); end",
        "alter table notes add constraint picky check (body <> 'bad')",
    ));
    let message = |id: &str, body: &str| Heard::message(id, "sent", body);
    desk.hear(&[message("1", "a"), message("1", "bad"), message("1", "c"), message("2", "d"), message("2", "e")]);
    assert_eq!(desk.step(), (3, 1));
    assert_eq!(notes(&desk), "1:a 2:d 2:e");
    desk.settle();
    assert_eq!(desk.queue(), (1, 1));
    let detail = desk.state.sql("select detail from writeback where status = 'stopped'").join("");
    let what =
        engine.pick("running [writeback] message: ", "running [writeback] message (constraint picky of notes): ");
    assert!(detail.starts_with(what) && !detail.contains("ann@"), "{detail}");
    desk.crm.sql(engine.pick("drop trigger picky", "alter table notes drop constraint picky"));
    desk.state.sql("update writeback set status = 'waiting', due_at = 0");
    assert_eq!(desk.step(), (2, 0));
    assert_eq!(notes(&desk), "1:a 2:d 2:e 1:bad 1:c");
}

fn a_kind_without_a_statement_is_done_at_once(engine: Engine) {
    let mut desk = counting(engine);
    let keys = json!({"firstName": "Al", "lastName": "B", "email": "a@b.c", "conversationHistory": "x"});
    desk.hear(&[Heard::chat_lead(keys)]);
    assert_eq!((desk.step(), desk.queue()), ((1, 0), (0, 0)));
}

fn several_statements_of_an_event_are_one(engine: Engine) {
    let statements =
        "mode = \"sql\"\nmessage = \"insert into log values (:id, ';'); insert into twice values (:id, :body); \"";
    let mut desk = Desk::new(
        engine,
        "create table log (lead text, x text); create table twice (lead text, body text unique)",
        statements,
    );
    desk.hear(&[Heard::message("1", "sent", "a"), Heard::message("2", "sent", "a"), Heard::message("3", "sent", "b")]);
    assert_eq!(desk.step(), (2, 1));
    assert_eq!(desk.crm.sql("select lead from log order by lead"), ["1", "3"], "all of it, or nothing");
}

fn a_statement_that_does_not_fit_keeps_everybody_waiting_until_it_does(engine: Engine) {
    let mut desk = Desk::new(engine, "", "mode = \"sql\"\nmessage = \"insert into notes (body) values (:body)\"");
    desk.hear(&[Heard::message("1", "sent", "a")]);
    for _ in 0..7 {
        let trouble = desk.try_step().expect_err("there is no such table").to_string();
        assert!(trouble.starts_with("preparing [writeback] message") && trouble.contains("notes"), "{trouble}");
    }
    assert_eq!(desk.queue(), (1, 0), "that is not the event's fault");
    desk.crm.sql("create table notes (body text)");
    assert_eq!(desk.step(), (1, 0));
    // The same again with prepared statements.
    desk.crm.sql("drop table notes");
    desk.hear(&[Heard::message("1", "sent", "b")]);
    desk.try_step().expect_err("it has gone");
    assert_eq!(desk.queue(), (1, 0));
    desk.crm.sql("create table notes (id integer, body text)");
    assert_eq!(desk.step(), (1, 0));
    assert_eq!(desk.crm.sql("select body from notes"), ["b"]);
}

fn a_trigger_that_takes_the_whole_transaction_back_stops_its_lead_only(engine: Engine) {
    let mut desk = counting(engine);
    // PostgreSQL has no trigger that rolls back; there it is an ordinary failure.
    desk.crm.sql(engine.pick(
        "create trigger harsh before insert on notes when new.body = 'bad' begin select raise(rollback, 'no'); end",
        "alter table notes add constraint harsh check (body <> 'bad')",
    ));
    desk.hear(&[
        Heard::message("1", "sent", "a"),
        Heard::message("2", "sent", "bad"),
        Heard::message("3", "sent", "c"),
    ]);
    desk.settle();
    assert_eq!(desk.queue(), (0, 1));
    let mut written: Vec<String> = notes(&desk).split(' ').map(str::to_owned).collect();
    written.sort();
    assert_eq!(written, ["1:a", "3:c"]);
}
