//! The history of one lead as a person reads it: in the order of time, with requests, posts and their outcomes.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::conversica::post::PostKind;

blocking_on_both_engines!(
    the_story_is_told_in_the_order_of_time_with_what_was_sent,
    a_conversation_can_be_read_and_says_what_became_of_it,
    a_hold_and_a_baseline_are_told,
    a_lead_that_was_not_read_yet_is_looked_for_in_the_source,
);

/// Each word comes after the one before.
#[track_caller]
fn in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for words in words {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words}:\n{text}"));
        rest = &rest[at + words.len()..];
    }
}

fn the_story_is_told_in_the_order_of_time_with_what_was_sent(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1 | 4 => Reaction::status(503).body("busy"),
        5 => Reaction::status(422).body("no"),
        _ => Reaction::accept(),
    });
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Zoe' where id = 1");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Mia' where id = 1");
    scene.run(&["once"]).expect_code(3);
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    let contents: Vec<&Value> =
        told["outcomes"].as_array().unwrap().iter().map(|outcome| &outcome["content"]).collect();
    assert_eq!(contents, ["earlier", "earlier", "delivered", "desired", "desired"]);
    assert_eq!(told["outcomes"][1]["body"]["firstName"], "Ann1");
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    in_order(
        &text,
        &[
            "What happened",
            "attempt 1 (first contact, with an earlier content): transient, status 503",
            "firstName: \"Ann1\"",
            "attempt 2 (first contact, with an earlier content): accepted, status 200",
            "Conversica first took it",
            "attempt 1 (update, with what was accepted last): accepted",
            "its content last changed",
            "attempt 1 (update, with what it should hold now): transient",
            "attempt 2 (update, with what it should hold now): rejected, status 422",
        ],
    );
    scene.crm("update leads set email = '' where id = 1");
    scene.run(&["once"]).expect_code(3);
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    in_order(
        &text,
        &["rejected, status 422", "since then the row makes no valid lead\n      email: is required, but blank"],
    );
}

fn a_conversation_can_be_read_and_says_what_became_of_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    let long = format!("{} \u{1b}]0;title\u{7}end", "words ".repeat(60));
    let message = |action: &str, day: u8, body: &str| json!({"id": "1", "action": action, "date": format!("2026-01-{day:02}T08:00:00Z"), "subject": "Your request", "body": body});
    scene.post(PostKind::Message, &[message("received", 3, "Tomorrow?"), message("sent", 2, &long)]);
    scene.hear(&[json!({"id": "1", "hotLead": true, "hotLeadDate": "2026-01-04T08:00:00Z"})]);
    scene.state("update writeback set status = 'stopped', attempts = 5, detail = 'violates check' where event_seq = 1");
    scene.state("update alert set done_at = 1800000000000000, attempts = 1, detail = '{\"url\":\"told\"}'");
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    let writeback = |at: usize| told["heard"][at]["writeback"]["status"].clone();
    assert_eq!((writeback(0), writeback(1)), (json!("stopped"), json!("waiting")));
    assert_eq!((&told["alerts"][0]["kind"], &told["messages"][0]["body"]), (&json!("hot_lead"), &json!(long)));
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    in_order(
        &text,
        &[
            "the assistant wrote: Your request\n      words words",
            "\\u{1b}]0;title\\u{7}end",
            "(not in the CRM yet: waits)",
            "the lead wrote: Your request\n      Tomorrow?\n      (not in the CRM: stopped after 5 tries: violates check",
            "heard: hot lead",
            "alert hot_lead: told at 2027-01-15 08:00:00 UTC",
        ],
    );
    let body: Vec<&str> = text.lines().filter(|line| line.starts_with("      words")).collect();
    assert!(body.len() == 4 && body.iter().all(|line| line.chars().count() <= 100), "wrapped:\n{text}");
}

fn a_hold_and_a_baseline_are_told(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    let held = scene.run(&["lead", "1"]).expect_code(0).stdout;
    in_order(&held, &["What happened", "waiting for approval: first_run\n      `approve` contacts everybody"]);
    assert!(scene.run(&["lead", "1", "--json"]).json()["held_at"].is_string());
    scene.run(&["baseline", "--yes"]).expect_code(0);
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    in_order(&text, &["What happened", "assumed known to Conversica, as a baseline: nothing was sent"]);
    assert!(
        text.contains("taken as delivered, nothing sent (baseline) by") && text.contains("; held for first_run"),
        "{text}"
    );
    let decisions = scene.run(&["lead", "1", "--json"]).json()["decisions"].clone();
    assert_eq!((&decisions[0]["action"], &decisions[0]["leads"]), (&json!("baseline"), &json!(1)), "{decisions}");
    assert!(!text.contains("waiting for approval"), "{text}");
}

fn a_lead_that_was_not_read_yet_is_looked_for_in_the_source(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    let output = scene.run(&["lead", "1"]).expect_code(2);
    assert!(output.stderr.contains("no state yet") && output.stderr.contains("makes a valid lead"), "{output}");
    scene.run(&["once"]).expect_code(0);
    scene.add(2, 3);
    scene.crm("update leads set email = '' where id = 3");
    let told = scene.run(&["lead", "2", "--json"]).expect_code(0).json();
    assert_eq!((&told["status"], &told["outcomes"], &told["messages"]), (&Value::Null, &json!([]), &json!([])));
    assert_eq!((&told["source"]["valid"], &told["source"]["lead"]["firstName"]), (&json!(true), &json!("Ann2")));
    in_order(
        &scene.run(&["lead", "2"]).expect_code(0).stdout,
        &["Lead 2: not known to the state yet", "valid lead", "\"Ann2\""],
    );
    let told = scene.run(&["lead", "3", "--json"]).expect_code(0).json();
    assert!(told["source"]["invalid_reasons"][0].as_str().is_some_and(|reason| reason.starts_with("email")), "{told}");
    assert!(scene.run(&["lead", "3"]).expect_code(0).stdout.contains("which makes no valid lead: email"));
    assert!(scene.run(&["lead", "9"]).expect_code(2).stderr.contains("not known to the state"));
    // Conversica posts about the lead before a poll has read it.
    scene.hear(&[json!({"id": "2", "hotLead": true})]);
    assert_eq!(scene.run(&["lead", "2", "--json"]).expect_code(0).json()["source"]["valid"], true);
    assert!(
        scene.run(&["lead", "2"]).expect_code(0).stdout.contains("the source has its row, which makes a valid lead")
    );
    // An unreachable source does no harm.
    let away = engine.pick("sqlite:///nowhere/crm.db", "postgres://nobody@127.0.0.1:1/crm");
    scene.set_text("source", "url", away);
    assert!(scene.run(&["lead", "3"]).expect_code(2).stderr.contains("not known to the state"));
    assert_eq!(scene.run(&["lead", "1", "--json"]).expect_code(0).json()["status"], "in_sync");
    assert_eq!(endpoint.answered(), 1, "a look sends nothing");
}
