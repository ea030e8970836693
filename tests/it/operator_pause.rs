//! `pause` and `unpause`: what an operator pauses is not sent, by any instance and after any restart, until the pause ends.
//! Withdrawals of consent are sent all the same.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browsing::Browsing;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::{Database, cluster};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);

blocking_on_both_engines!(
    only_withdrawals_of_consent_are_sent_until_unpause,
    a_pause_survives_a_restart_and_ends_at_its_time,
    one_conversation_waits_and_the_others_are_sent,
    a_pass_says_that_it_could_send_nothing,
    a_new_pause_of_a_scope_replaces_the_earlier_one,
);

fn ended(daemon: crate::support::binary::Running) {
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

/// Leads of two conversations: odd ids in Fall, even ids in Spring.
fn two_conversations(scene: &mut Scene) {
    scene.set_text("lead", "conversationId", "conversation");
    scene.crm("update leads set conversation = case when id % 2 = 0 then 'Spring' else 'Fall' end");
}

fn only_withdrawals_of_consent_are_sent_until_unpause(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    let mut daemon = scene.daemon();
    scene.wait_for_status("the first three", SOON, |status| status["leads"]["in_sync"] == 3);
    let said = scene.run(&["pause", "--reason", "wrong prices"]).expect_code(0);
    assert!(said.stdout.contains("Paused until a person ends it: everybody."), "{said}");
    daemon.wait_for_line("paused by an operator", SOON);
    scene.add(4, 5);
    scene.crm("update leads set first_name = 'Anna' where id = 1");
    scene.wait_for_status("they wait", SOON, |status| status["leads"]["pending"] == 3);
    // It is claimed after the others are due.
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.wait_for_status("the opt-out", SOON, |status| status["outcomes"]["accepted"] == 4);
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 4, "no first contact and no update");
    let last = requests[3].request.json();
    assert_eq!((&last["id"], &last["optOut"]), (&json!("2"), &json!(true)));

    let status = scene.run(&["status", "--json"]).expect_code(4).json();
    let pause = &status["pause"];
    assert_eq!((&pause["reason"], &pause["until"]), (&json!("wrong prices"), &Value::Null), "{pause}");
    assert_eq!(pause["conversations"], json!([]));
    assert!(pause["since"].is_string() && pause["who"].as_str().is_some_and(|who| who.contains("(command line)")));
    assert_eq!(status["oldest_waiting_since"], Value::Null, "a paused lead is not late");
    let text = scene.run(&["status"]).expect_code(4).stdout;
    for words in ["PAUSED (everybody) since", "reason: wrong prices", "to end it: conversica-sync unpause"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(scene.run(&["plan"]).stdout.contains("PAUSED (everybody)"));
    assert_eq!(scene.run(&["plan", "--json"]).json()["pause"]["reason"], "wrong prices");
    scene.run(&["reconcile"]);

    let said = scene.run(&["unpause"]).expect_code(0);
    assert!(said.stdout.contains("The pause is ended: everybody."), "{said}");
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 5);
    assert_eq!(scene.status()["pause"], Value::Null);
    scene.run(&["status"]).expect_code(0);
    daemon.wait_for_line("the pause by an operator is over", SOON);
    assert_eq!(endpoint.requests().len(), 7);
    let decided = scene.state("select action || ' ' || reason from decision order by seq");
    assert_eq!(decided, ["pause everybody: wrong prices", "unpause everybody"]);
    ended(daemon);
}

fn a_pause_survives_a_restart_and_ends_at_its_time(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["pause", "--until", "1h"]).expect_code(0);
    scene.add(3, 4);
    for restart in 1..=2 {
        let mut daemon = scene.daemon();
        scene.wait_for_status("they wait", SOON, |status| status["leads"]["pending"] == 2);
        scene.crm(&format!("update leads set opt_out = 1 where id = {restart}"));
        scene.wait_for_status("the opt-out", SOON, |status| status["outcomes"]["accepted"] == 2 + restart);
        assert!(daemon.wait_for_line("paused by an operator", SOON).contains("everybody"));
        ended(daemon);
    }
    assert_eq!(endpoint.requests().len(), 4);
    let daemon = scene.daemon();
    let paused_at = Instant::now();
    scene.run(&["pause", "--until", "4s"]).expect_code(0);
    assert!(scene.status()["pause"]["until"].is_string());
    endpoint.wait_for_requests(5, SOON);
    assert!(paused_at.elapsed() > Duration::from_secs(3), "{:?}", paused_at.elapsed());
    scene.wait_for_status("the end of the pause", SOON, |status| status["leads"]["in_sync"] == 4);
    assert_eq!(scene.status()["pause"], Value::Null);
    scene.run(&["status"]).expect_code(0);
    scene.run(&["unpause"]).expect_code(2);
    ended(daemon);
}

fn one_conversation_waits_and_the_others_are_sent(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    two_conversations(&mut scene);
    scene.run(&["once"]).expect_code(0);
    let said = scene.run(&["pause", "--conversation", "Spring", "--conversation", "50%_\"Off\""]).expect_code(0);
    assert!(said.stdout.contains("No lead of the state has the conversationId 50%_\"Off\""), "{said}");
    assert!(!said.stdout.contains("conversationId Spring"), "{said}");
    assert_eq!(scene.status()["pause"]["conversations"], json!(["50%_\"Off\"", "Spring"]));
    scene.crm("update leads set first_name = 'Anna'");
    let passed = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&passed["pass"]["accepted"], &passed["pass"]["waiting"]), (&json!(2), &json!(2)));
    let conversations: Vec<Value> =
        endpoint.requests()[4..].iter().map(|received| received.request.json()["conversationId"].clone()).collect();
    assert_eq!(conversations, ["Fall", "Fall"]);
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests()[6].request.json()["id"], "2");

    let refused = scene.run(&["unpause", "--conversation", "Fall"]).expect_code(2);
    assert!(refused.stderr.contains("Fall") && refused.stderr.contains("Spring"), "{refused}");
    scene.run(&["pause"]).expect_code(0);
    let refused = scene.run(&["unpause", "--conversation", "Fall"]).expect_code(2);
    assert!(refused.stderr.contains("everybody is paused"), "{refused}");
    scene.run(&["unpause", "--conversation", "Spring"]).expect_code(0);
    assert_eq!(scene.status()["pause"]["conversations"], json!([]), "everybody is still paused");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["unpause"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 8);
}

fn a_pass_says_that_it_could_send_nothing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    let refused = scene.run(&["pause"]).expect_code(2);
    assert!(refused.stderr.contains("no state yet"), "{refused}");
    scene.run(&["unpause"]).expect_code(2);
    scene.run(&["once"]).expect_code(0);
    let refused = scene.run(&["unpause"]).expect_code(2);
    assert!(refused.stderr.contains("nothing is paused"), "{refused}");
    for end in ["2020-01-01T00:00:00Z", "0s", "yesterday"] {
        let refused = scene.run(&["pause", "--until", end]).expect_code(2);
        assert!(refused.stderr.contains("cure: give a date with a time"), "{refused}");
    }
    assert_eq!(scene.status()["pause"], Value::Null);
    scene.run(&["pause"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["status"]).expect_code(4);
    scene.add(2, 2);
    let started = Instant::now();
    let passed = scene.run(&["once"]).expect_code(4);
    assert!(passed.stdout.contains("Nothing was delivered: 1 lead waits; an operator has paused sending."), "{passed}");
    assert!(started.elapsed() < SOON, "a pass does not wait for the end of a pause");
    assert_eq!(endpoint.requests().len(), 1);
}

fn a_new_pause_of_a_scope_replaces_the_earlier_one(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["pause", "--reason", "first", "--until", "1h"]).expect_code(0);
    scene.run(&["pause", "--reason", "second"]).expect_code(0);
    let pause = scene.status()["pause"].clone();
    assert_eq!((&pause["reason"], &pause["until"]), (&json!("second"), &Value::Null));
    assert_eq!(pause["scopes"].as_array().map(Vec::len), Some(1));
    scene.run(&["pause", "--conversation", "Spring", "--reason", "third"]).expect_code(0);
    let pause = scene.status()["pause"].clone();
    assert_eq!((&pause["reason"], pause["scopes"].as_array().map(Vec::len)), (&json!("second"), Some(2)));
    scene.run(&["unpause"]).expect_code(0);
    assert_eq!(scene.status()["pause"], Value::Null);
}

#[test]
fn posts_are_received_while_everybody_is_paused() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    with_receiver(&mut scene);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["pause"]).expect_code(0);
    let receiver = Receiver::start(&scene);
    let update = json!({"apiVersion": "7.2", "id": "1", "clientId": "", "optOut": true});
    assert_eq!(receiver.post("/conversica/lead", update.to_string()).status, 200);
    scene.wait_for_status("the update", SOON, |status| status["received"]["lead_updates"] == 1);
    receiver.end();
}

fn pair(endpoint: &StandIn) -> (Scene, Scene, Database) {
    let state = cluster().database();
    let mut first = Scene::new(&endpoint.url(), 2);
    first.set_text("state", "url", &state.url);
    let mut second = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", first.directory().join("crm.db").display());
    second.set_text("source", "url", &crm).set_text("state", "url", &state.url);
    (first, second, state)
}

#[test]
fn a_pause_holds_for_both_instances_of_a_state() {
    let endpoint = StandIn::accepting();
    let (first, second, _state) = pair(&endpoint);
    let (mut one, mut two) = (first.daemon(), second.daemon());
    one.wait_for_line("instances share this state", SOON);
    two.wait_for_line("instances share this state", SOON);
    first.wait_for_status("the first two", SOON, |status| status["leads"]["in_sync"] == 2);
    second.run(&["pause"]).expect_code(0);
    first.add(3, 42);
    first.wait_for_status("they wait", SOON, |status| status["leads"]["pending"] == 40);
    first.crm("update leads set opt_out = 1 where id = 1");
    first.wait_for_status("the opt-out", SOON, |status| status["outcomes"]["accepted"] == 3);
    assert_eq!(endpoint.requests().len(), 3);
    first.run(&["unpause"]).expect_code(0);
    let ended_at = Instant::now();
    endpoint.wait_for_requests(4, SOON);
    assert!(ended_at.elapsed() < Duration::from_secs(5), "{:?}", ended_at.elapsed());
    first.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 42);
    ended(one);
    ended(two);
}

#[test]
fn a_paused_backlog_waits_quietly_and_goes_on_soon_after_unpause() {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(Engine::Postgres, &endpoint.url(), 1);
    let daemon = scene.daemon();
    scene.wait_for_status("the first one", SOON, |status| status["leads"]["in_sync"] == 1);
    let in_five_seconds = || {
        let transactions = || -> i64 {
            let count = "select sum(xact_commit)::text from pg_stat_database where datname = current_database()";
            scene.state(count)[0].parse().expect("a number")
        };
        let pass = |seconds| {
            let start = Instant::now();
            wait_until("time to pass", SOON, || start.elapsed() > Duration::from_secs(seconds));
        };
        // The server counts a second late.
        pass(2);
        let before = transactions();
        pass(5);
        transactions() - before
    };
    scene.run(&["pause"]).expect_code(0);
    scene.add(2, 200);
    scene.wait_for_status("they wait", SOON, |status| status["leads"]["pending"] == 199);
    let paused = in_five_seconds();
    scene.run(&["unpause"]).expect_code(0);
    let ended_at = Instant::now();
    endpoint.wait_for_requests(2, SOON);
    assert!(ended_at.elapsed() < Duration::from_secs(5), "{:?}", ended_at.elapsed());
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 200);
    // The same rows are within the look-back, and none waits.
    let idle = in_five_seconds();
    // A claim ten times a second would be more than a hundred further transactions.
    assert!(paused < idle + idle / 20 + 40, "{paused} transactions with a paused backlog, {idle} without");
    ended(daemon);
}

#[test]
fn the_dashboard_shows_the_pause_and_ends_it_and_begins_it() {
    const TOKEN: &str = "a token of forty characters, or nearly so";
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("admin", "token", TOKEN);
    let watched = Watched::start(&scene);
    let mut browsing = Browsing::of(&watched.address);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 1);
    browsing.sign_in(TOKEN);
    browsing.wait_for("/", "Pause sending…");
    let asked = browsing.get("/act/pause");
    asked.is_strict();
    assert!(asked.text().contains("Stop all first contacts and updates?"), "{}", asked.body);
    let form = asked.form("/act/pause");
    let (token, shown) = (form.value("form_token").to_owned(), form.value("shown").to_owned());
    let fields = |until: &'static str, token: &str, shown: &str| {
        vec![
            ("form_token".to_owned(), token.to_owned()),
            ("shown".to_owned(), shown.to_owned()),
            ("reason".to_owned(), "<b>prices</b>".to_owned()),
            ("until".to_owned(), until.to_owned()),
        ]
    };
    let post = |deed: &str, fields: &[(String, String)]| {
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browsing.post(deed, &pairs, &[])
    };
    assert_ne!(post("/act/pause", &fields("", "wrong", &shown)).status, 303, "the form is protected");
    let again = post("/act/pause", &fields("0s", &token, &shown));
    assert!(again.status == 409 && again.text().contains("in the past"), "{}", again.body);
    assert!(again.body.contains("value=\"&#60;b&#62;prices&#60;/b&#62;\""), "{}", again.body);
    assert_eq!(scene.status()["pause"], Value::Null);
    assert_eq!(post("/act/pause", &fields("2h", &token, &shown)).status, 303);
    let page = browsing.wait_for("/", "Paused: everybody");
    page.is_strict();
    assert!(
        page.text().contains("by dashboard, 127.0.0.1") && page.body.contains("&#60;b&#62;prices"),
        "{}",
        page.body
    );
    assert!(page.text().contains("Paused by an operator: no first contact and no update is sent"), "{}", page.text());
    assert_eq!(browsing.get("/readyz").status, 200, "a pause is no failure");
    let metrics = browsing.get("/metrics").body;
    assert!(metrics.contains("conversica_sync_operator_pause{scope=\"everybody\"} 1"), "{metrics}");
    let asked = browsing.get("/act/unpause");
    assert!(asked.text().contains("End the pause of everybody?"), "{}", asked.body);
    assert_eq!(browsing.post("/act/unpause", &asked.form("/act/unpause").pairs(), &[]).status, 303);
    assert_eq!(scene.status()["pause"], Value::Null);
    assert!(browsing.get("/act/unpause").text().contains("Nothing is paused."));
    watched.end();
}
