//! Free text of people and mail templates is no opt-out: a Lead Update that contains it changes nothing at Conversica. A
//! post that leaves consent in doubt holds its lead until the operator has decided. Through the real program.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);
const LEADS: u32 = 30;

blocking_on_both_engines!(
    thirty_posts_with_a_footer_tell_conversica_of_no_opt_out,
    a_post_that_leaves_consent_in_doubt_holds_its_lead_until_an_operator_has_looked,
);

fn started(engine: Engine, endpoint: &StandIn, leads: u32) -> (Scene, Receiver) {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), leads);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    wait_until("all leads are sent", SOON, || (1..=leads).all(|id| !endpoint.bodies_of(&id.to_string()).is_empty()));
    (scene, receiver)
}

fn post(receiver: &Receiver, body: &Value) {
    assert_eq!(receiver.post("/conversica/lead", body.to_string()).status, 200, "{body}");
}

/// The last name and the opt-out of the last request for that lead.
fn told(endpoint: &StandIn, id: u32) -> (Value, Value) {
    let body = endpoint.bodies_of(&id.to_string()).pop().expect("the lead was sent");
    (body["lastName"].clone(), body["optOut"].clone())
}

fn thirty_posts_with_a_footer_tell_conversica_of_no_opt_out(engine: Engine) {
    let footers = [
        "Hi Ann,\nthanks for your request.\n--\nUnsubscribe: https://go.example.com/u?id=77",
        "Text STOP to end",
        "Reply STOP to unsubscribe",
        "<p>Hi</p><a href=\"https://x.example/unsubscribe\">Unsubscribe</a>",
        "Assistant: Hi!\nLead: Sure, tomorrow.\nTo opt out, reply STOP",
    ];
    let keys = ["conversationHistory", "lastMessageBody", "notes", "footer", "furtherAction", "history"];
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, LEADS);
    let all = keys.iter().flat_map(|key| footers.iter().map(move |footer| (*key, *footer)));
    for (id, (key, footer)) in (1..=LEADS).zip(all) {
        let mut body = json!({"id": id.to_string(), "hotLead": true});
        body[key] = match key {
            "history" => json!([{"from": "assistant", "body": footer}, {"from": "lead", "body": "ok"}]),
            _ => json!(footer),
        };
        post(&receiver, &body);
    }
    wait_until("all posts are taken in", SOON, || {
        scene.state("select seq || '' from event where applied_at is not null").len() == LEADS as usize
    });
    receiver.end();
    let status = scene.run(&["status", "--json"]).expect_code(0).json();
    assert_eq!(status["received"]["possible_opt_outs"], json!(0), "{status:#}");
    scene.crm("update leads set last_name = 'Changed'");
    scene.run(&["once", "--full"]);
    for id in 1..=LEADS {
        assert_eq!(told(&endpoint, id), (json!("Changed"), json!(false)), "lead {id}");
    }
}

fn a_post_that_leaves_consent_in_doubt_holds_its_lead_until_an_operator_has_looked(engine: Engine) {
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, 4);
    post(&receiver, &json!({"id": "1", "contactList": "Do Not Contact"}));
    post(&receiver, &json!({"id": "2", "dncScrubDate": "2026-11-01"}));
    post(&receiver, &json!({"id": "3", "leadStatus": "Lease opt out"}));
    wait_until("the posts are taken in", SOON, || scene.status()["received"]["possible_opt_outs"] == json!(3));
    receiver.end();
    scene.run(&["status"]).expect_code(4);
    scene.crm("update leads set last_name = 'Changed'");
    scene.run(&["once", "--full"]);
    assert_eq!(told(&endpoint, 4), (json!("Changed"), json!(false)));
    for id in 1..=3 {
        assert_eq!(endpoint.bodies_of(&id.to_string()).len(), 1, "lead {id} is held");
    }
    let lead = scene.run(&["lead", "1"]).stdout;
    assert!(lead.contains("HELD: nothing is sent") && !lead.contains("OPTED OUT"), "{lead}");
    // A clear stop is sent at once, even for a held lead.
    let receiver = Receiver::start(&scene);
    post(&receiver, &json!({"id": "3", "doNotEmail": true}));
    wait_until("the opt-out of lead 3 is told", SOON, || told(&endpoint, 3).1 == json!(true));
    receiver.end();
    scene.run(&["received", "confirm", "1"]).expect_code(0);
    scene.run(&["received", "dismiss", "2", "3"]).expect_code(0);
    scene.run(&["once"]);
    assert_eq!(told(&endpoint, 1), (json!("Changed"), json!(true)), "confirmed");
    assert_eq!(told(&endpoint, 2), (json!("Changed"), json!(false)), "dismissed");
    assert_eq!(told(&endpoint, 3).1, json!(true));
    scene.run(&["status"]).expect_code(0);
}
