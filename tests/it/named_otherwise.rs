//! An opt-out counts for its lead also with another spelling of the id, without the client or by `leadId`. An opt-out for
//! no known lead waits for the operator. Through the real program.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    an_id_in_another_way_of_writing_is_that_leads_and_others_are_left_alone,
    a_uuid_is_known_in_every_way_of_writing_it,
    a_post_without_a_client_or_with_another_one_is_found_by_its_id,
    an_opt_out_of_a_lead_that_is_not_known_waits_for_an_operator,
);

const SOON: Duration = Duration::from_secs(30);

fn scene(engine: Engine, endpoint: &StandIn, key: &str, rows: &[(String, &str)]) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(&format!(
        "create table leads (id {key}, first_name text, last_name text, email text, owner_name text, \
         opt_out integer not null default 0, dealer text)"
    ));
    for (n, (id, dealer)) in rows.iter().enumerate() {
        scene.crm(&format!(
            "insert into leads values ('{id}', 'Ann', 'Bell', 'ann{n}@example.com', 'Rae Rep', 0, '{dealer}')"
        ));
    }
    with_receiver(&mut scene);
    scene
}

fn start(scene: &Scene, endpoint: &StandIn, leads: usize) -> Receiver {
    let receiver = Receiver::start(scene);
    wait_until("all leads are sent", SOON, || endpoint.answered() == leads);
    receiver
}

fn told(endpoint: &StandIn, id: &str) {
    wait_until(&format!("the opt-out of {id} is told to Conversica"), SOON, || {
        endpoint.bodies_of(id).last().is_some_and(|body| body["optOut"] == true)
    });
}

fn post(receiver: &Receiver, body: &Value) {
    assert_eq!(receiver.post("/conversica/lead", body.to_string()).status, 200, "{body}");
}

fn an_id_in_another_way_of_writing_is_that_leads_and_others_are_left_alone(engine: Engine) {
    let endpoint = StandIn::accepting();
    let ids: Vec<(String, &str)> = (101..=112).map(|id| (id.to_string(), "")).collect();
    let scene = scene(engine, &endpoint, "integer primary key", &ids);
    let receiver = start(&scene, &endpoint, 12);
    let ways = ["101.0", "00102", "\u{feff}103", "104\u{200b}", "\"105\"", "\u{ff11}\u{ff10}\u{ff16}", "+107", "#108"];
    for way in ways {
        post(&receiver, &json!({"id": way, "doNotEmail": true}));
    }
    post(&receiver, &json!({"id": "c0ffee", "leadId": "109", "doNotEmail": true}));
    post(&receiver, &json!({"id": "c0ffee", "leadId": "110", "conversationStage": "Lead Stopped"}));
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"0111","doNotEmail":tru"#).status, 400);
    (101..=111).for_each(|id| told(&endpoint, &id.to_string()));
    receiver.end();
    assert_eq!(endpoint.bodies_of("112").len(), 1, "no post means it");
    // The operator dismisses one: the CRM's value counts again.
    let status = scene.run(&["status", "--json"]).expect_code(4).json();
    assert_eq!(status["received"]["possible_opt_outs"], json!(11));
    let lead = scene.run(&["lead", "101"]).stdout;
    assert!(lead.contains("may be an opt-out of email") && lead.contains("received dismiss"), "{lead}");
    let listed = scene.run(&["received", "--possible-opt-outs", "--json"]).json();
    let seqs: Vec<String> =
        listed["received"].as_array().unwrap().iter().map(|event| event["seq"].to_string()).collect();
    let (dismissed, confirmed) = seqs.split_first().expect("there are some");
    scene.run(&["received", "dismiss", dismissed]).expect_code(0);
    confirmed.iter().for_each(|seq| _ = scene.run(&["received", "confirm", seq]).expect_code(0));
    scene.run(&["status"]).expect_code(0);
    scene.crm("update leads set last_name = 'Changed'");
    scene.run(&["once", "--full"]);
    let said = |id: u32| endpoint.bodies_of(&id.to_string()).last().expect("it was sent")["optOut"].clone();
    assert_eq!((said(111), said(110), said(101)), (json!(false), json!(true), json!(true)));
}

fn a_uuid_is_known_in_every_way_of_writing_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let uuid = |n: u32| format!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a{n}");
    let ids: Vec<(String, &str)> = (11..=16).map(|n| (uuid(n), "")).collect();
    let scene = scene(engine, &endpoint, "text primary key", &ids);
    let receiver = start(&scene, &endpoint, 6);
    for way in [
        uuid(11).to_uppercase(),
        format!("{{{}}}", uuid(12)),
        uuid(13).replace('-', ""),
        format!("urn:uuid:{}", uuid(14)),
    ] {
        post(&receiver, &json!({"id": way, "doNotEmail": true}));
    }
    let damaged = format!(r#"{{"id":"{}","doNotEmail":tru"#, uuid(15).to_uppercase());
    assert_eq!(receiver.post("/conversica/lead", damaged).status, 400);
    (11..=15).for_each(|n| told(&endpoint, &uuid(n)));
    receiver.end();
    assert_eq!(endpoint.bodies_of(&uuid(16)).len(), 1);
}

fn a_post_without_a_client_or_with_another_one_is_found_by_its_id(engine: Engine) {
    let endpoint = StandIn::accepting();
    let ids =
        ["A", "A", "A", "A", "7", "A", "A", "A"].into_iter().zip(1..).map(|(dealer, id)| (id.to_string(), dealer));
    let mut ids: Vec<(String, &str)> = ids.collect();
    ids.push(("9".to_owned(), "A"));
    ids.push(("9".to_owned(), "B"));
    let mut scene = scene(engine, &endpoint, "integer", &ids);
    scene.set_text("source", "client", "dealer");
    let receiver = start(&scene, &endpoint, 10);
    for body in [
        json!({"id": "1", "doNotEmail": true}),
        json!({"id": "2", "clientId": "", "doNotEmail": true}),
        json!({"id": "3", "clientId": "a", "doNotEmail": true}),
        json!({"id": "4", "client_id": "A", "doNotEmail": true}),
        json!({"id": "5", "clientId": 7, "doNotEmail": true}),
        json!({"id": "6", "clientId": "Acme Motors", "doNotEmail": true}),
        json!({"id": "007", "clientId": "A\u{200b}", "doNotEmail": true}),
        json!({"id": "9", "doNotEmail": true}),
    ] {
        post(&receiver, &body);
    }
    (1..=7).for_each(|id| told(&endpoint, &id.to_string()));
    wait_until("both leads of id 9 are told", SOON, || {
        let told = endpoint.bodies_of("9").into_iter().filter(|body| body["optOut"] == true);
        told.map(|body| body["clientId"].to_string()).collect::<std::collections::BTreeSet<_>>().len() == 2
    });
    receiver.end();
    assert_eq!(endpoint.bodies_of("8").len(), 1);
    // The ids are right, and no other lead has them, so these opt-outs are certain.
    let status = scene.run(&["status", "--json"]).expect_code(4).json();
    assert_eq!(status["received"]["possible_opt_outs"], json!(4), "{status}");
    let lead = scene.run(&["lead", "1", "--client", "A"]).expect_code(0).stdout;
    assert!(lead.contains("OPTED OUT of email") && !lead.contains("may be an opt-out"), "{lead}");
}

fn an_opt_out_of_a_lead_that_is_not_known_waits_for_an_operator(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, "text primary key", &[("1".to_owned(), "")]);
    let receiver = start(&scene, &endpoint, 1);
    post(&receiver, &json!({"id": "nobody", "doNotEmail": true}));
    post(&receiver, &json!({"id": "other", "hotLead": true}));
    wait_until("the post is taken in", SOON, || scene.status()["received"]["possible_opt_outs"] == json!(1));
    receiver.end();
    scene.run(&["status"]).expect_code(4);
    let listed = scene.run(&["received", "--possible-opt-outs", "--json"]).json();
    let seq = listed["received"][0]["seq"].to_string();
    scene.run(&["received", "confirm", &seq]).expect_code(0);
    scene.run(&["status"]).expect_code(0);
    // The opt-out counts once the CRM has the lead.
    scene.crm("insert into leads values ('nobody', 'Ann', 'Bell', 'ann@example.com', 'Rae Rep', 0, '')");
    scene.run(&["once", "--full"]);
    assert_eq!(endpoint.bodies_of("nobody")[0]["optOut"], json!(true));
}
