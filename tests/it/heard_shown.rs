//! Conversica's posts as people and scripts see them: `lead`, `status`, `received`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::conversica::post::PostKind;

blocking_on_both_engines!(
    a_lead_tells_what_was_heard_of_it,
    a_lead_that_is_only_heard_of_has_a_story,
    what_cannot_be_read_is_shown_as_it_came_and_read_again_when_mended,
    status_counts_what_came,
    the_daemon_takes_in_what_is_stored,
);

fn message(id: &str, action: &str, day: u8, body: &str) -> Value {
    json!({"id": id, "action": action, "date": format!("2026-01-{day:02}T08:00:00Z"), "subject": "Your request", "body": body})
}

fn stopped(id: &str) -> Value {
    json!({"id": id, "conversationStage": "Lead Stopped", "conversationStatus": "Unsubscribed", "doNotEmail": true,
           "conversationStatusDate": "2026-01-05T09:00:00Z"})
}

fn a_lead_tells_what_was_heard_of_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    scene.post(
        PostKind::Message,
        &[message("1", "received", 3, "Tomorrow?\n\u{1b}[31mred"), message("1", "sent", 2, "Hello")],
    );
    scene.hear(&[stopped("1")]);
    let lead = scene.run(&["lead", "1", "--json"]).json();
    let kinds: Vec<&Value> = lead["heard"].as_array().unwrap().iter().map(|heard| &heard["kind"]).collect();
    assert_eq!(kinds, ["message", "message", "lead_update"]);
    assert_eq!(lead["heard"][2]["body"], stopped("1"), "as it was posted");
    let actions: Vec<&Value> = lead["messages"].as_array().unwrap().iter().map(|message| &message["action"]).collect();
    assert_eq!(actions, ["sent", "received"], "in the order of their dates");
    assert_eq!(lead["conversation"]["conversationStatus"], "Unsubscribed");
    assert_eq!(lead["consent"]["standing"]["email"], "2026-01-05T09:00:00Z");
    assert_eq!(lead["consent"]["ledger"].as_array().unwrap().len(), 2);
    assert_eq!((&lead["overrides"][0]["key"], &lead["overrides"][0]["value"]), (&json!("optOut"), &json!(true)));
    let text = scene.run(&["lead", "1"]).stdout;
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("the assistant wrote: Your request") < place("the lead wrote: Your request"));
    assert!(place("Hello") < place("Tomorrow?"));
    place("Lead Stopped → Unsubscribed");
    place("OPTED OUT of email on 2026-01-05 09:00:00 UTC");
    place("kept: optOut is sent as true whatever the CRM says");
    assert!(!text.contains('\u{1b}'), "harmless to a terminal");
}

fn a_lead_that_is_only_heard_of_has_a_story(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    scene.hear(&[stopped("77")]);
    let lead = scene.run(&["lead", "77", "--json"]).json();
    assert_eq!((&lead["status"], &lead["conversation"]["doNotEmail"]), (&Value::Null, &json!(true)));
    assert!(scene.run(&["lead", "77"]).stdout.contains("never sent from here"));
    assert_eq!(scene.run(&["lead", "78"]).code, Some(2));
    let listed = scene.run(&["received", "--json"]).json();
    assert_eq!((&listed["received"][0]["known"], &listed["received"][0]["id"]), (&json!(false), &json!("77")));
}

/// Stores a post as the receiver stores an unreadable one.
fn store_unreadable(engine: Engine, scene: &Scene, text: &str) {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = engine.pick(format!("x'{hex}'"), format!("'\\x{hex}'::bytea"));
    scene.state(&format!(
        "insert into event (kind, id, client_id, received_at, body, content_hash, problem) \
         values ('message', '', '', 1800000000000000, {bytes}, {bytes}, 'The body is not valid JSON')"
    ));
}

fn what_cannot_be_read_is_shown_as_it_came_and_read_again_when_mended(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    let broken = "{\"id\":\"1\",\"action\":\"sent\",\"date\":\"2026-01-02T08:00:00Z\" \"body\":\"two lines\"}";
    store_unreadable(engine, &scene, broken);
    // For instance from an older version: the current one can read it.
    let readable = message("1", "sent", 2, "Hello").to_string();
    store_unreadable(engine, &scene, &readable);
    assert_eq!(scene.status()["received"]["unreadable"], 2);
    assert!(scene.run(&["status"]).stdout.contains("received --unreadable"));
    let listed = scene.run(&["received", "--unreadable", "--json"]).json();
    assert_eq!(listed["received"][1]["problem"], "The body is not valid JSON");
    assert_eq!(scene.run(&["received", "show", "1"]).stdout, broken, "exactly as it came");
    assert_eq!(scene.run(&["received", "show", "9"]).code, Some(2));
    let replayed = scene.run(&["received", "replay", "--all"]);
    assert_eq!(replayed.code, Some(3), "{replayed}");
    assert!(replayed.stdout.contains("2: read, as 3"), "{replayed}");
    assert!(replayed.stdout.contains("1: still cannot be read"), "{replayed}");
    let file = scene.directory().join("fixed.json");
    std::fs::write(&file, broken.replace("\" \"", "\",\"")).unwrap();
    let fixed = scene.run(&["received", "replay", "1", "--body", file.to_str().unwrap()]);
    assert_eq!(fixed.code, Some(0), "{fixed}");
    assert_eq!(scene.run(&["received", "replay", "1"]).code, Some(2), "once");
    let received = &scene.status()["received"];
    assert_eq!((&received["unreadable"], &received["messages"]), (&json!(0), &json!(2)));
    let listed = scene.run(&["received"]).stdout;
    assert!(listed.contains("fixed as 4") && listed.contains("not taken in yet"), "{listed}");
    scene.hear(&[]);
    let messages = scene.run(&["lead", "1", "--json"]).json()["messages"].clone();
    assert_eq!(messages[1]["body"], "two lines");
    assert!(!scene.run(&["received", "--id", "1", "--kind", "message"]).stdout.contains("Hello"), "no message texts");
}

fn status_counts_what_came(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]);
    assert!(!scene.run(&["status"]).stdout.contains("Received"));
    scene.hear(&[stopped("1"), json!({"id": "1", "hotLead": true})]);
    scene.state(
        "insert into received_count (name, count) values ('lead_update', 2), ('repeat', 3), ('unknown_lead', 4), \
         ('outside_vocabulary', 5)",
    );
    scene.state("update writeback set status = 'stopped' where event_seq = 2");
    let received = scene.status()["received"].clone();
    let expected = json!({"lead_updates": 2, "messages": 0, "chat_leads": 0, "unreadable": 0, "possible_opt_outs": 0, "waiting_writeback": 2,
        "stopped_writeback": 1, "repeats": 3, "unknown_leads": 4, "outside_vocabulary": 5});
    assert_eq!(received, expected);
    let status = scene.run(&["status"]);
    assert!(status.stdout.contains("Received: 2 Lead Updates"), "{status}");
    assert!(status.stdout.contains("1 post cannot be written to the CRM"), "{status}");
    assert_eq!(status.code, Some(0));
}

fn the_daemon_takes_in_what_is_stored(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set_text("receive", "listen", "127.0.0.1:0");
    scene.set_text("receive", "username", "conversica").set_text("receive", "password", "a-word-for-the-receiver");
    scene.run(&["once"]);
    let daemon = scene.daemon();
    scene.post(PostKind::LeadUpdate, &[stopped("1")]);
    wait_until("the opt-out is told to Conversica", Duration::from_secs(30), || {
        endpoint.bodies_of("1").last().is_some_and(|body| body["optOut"] == true)
    });
    daemon.kill();
    let said = scene.run(&["lead", "1", "--json"]).json();
    assert_eq!(said["conversation"]["conversationStage"], "Lead Stopped");
}
