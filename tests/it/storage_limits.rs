//! What posts may take of the disk, and other things that strangers and senders in trouble cannot do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{PASSWORD, Receiver, USERNAME, basic, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

blocking_on_both_engines!(unreadable_posts_have_a_limit_of_their_own,);

fn lead_update(id: &str) -> String {
    json!({"apiVersion": "7.2", "id": id, "clientId": "", "hotLead": true}).to_string()
}

fn unreadable_posts_have_a_limit_of_their_own(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    with_receiver(&mut scene).set_text("receive", "keep_unreadable", "1KiB");
    let receiver = Receiver::start(&scene);
    let odd = |n: u8| format!("{{\"id\": \"1\", \"odd {n}\": {}", "x".repeat(600));
    assert_eq!(receiver.post("/conversica/lead", odd(1)).status, 400);
    assert_eq!(receiver.post("/conversica/lead", odd(2)).status, 500, "the second would be too much");
    assert_eq!(receiver.post("/conversica/lead", lead_update("1")).status, 200, "readable posts are taken");
    let log = receiver.end();
    assert!(log.contains("unreadable posts take") && log.contains("received --unreadable"), "{log}");
}

#[test]
fn with_less_room_than_the_reserve_posts_are_refused_and_leads_are_sent() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    with_receiver(&mut scene).set_text("receive", "free_disk", "999999GiB");
    let receiver = Receiver::start(&scene);
    assert_eq!(receiver.post("/conversica/lead", lead_update("1")).status, 500);
    let opt_out = json!({"apiVersion": "7.2", "id": "2", "clientId": "", "doNotEmail": true}).to_string();
    assert_eq!(
        receiver.post("/conversica/lead", opt_out).status,
        200,
        "an opt-out is stored as long as anything can be"
    );
    wait_until("the leads are sent", Duration::from_secs(20), || endpoint.answered() == 2);
    let status = scene.run(&["status", "--json"]).expect_code(4).json();
    assert!(status["disk_short"]["free"].is_u64(), "{status:#}");
    let said = scene.run(&["status"]).expect_code(4).stdout;
    assert!(said.starts_with("DISK: ") && said.contains("Posts are answered 500"), "{said}");
    let log = receiver.end();
    assert!(log.contains("posts cannot be stored") && log.contains("[receive] free_disk"), "{log}");
    scene.set_text("receive", "free_disk", "1MiB");
    let receiver = Receiver::start(&scene);
    assert_eq!(receiver.post("/conversica/lead", lead_update("1")).status, 200);
    receiver.end();
    assert_eq!(scene.run(&["status", "--json"]).json()["disk_short"], Value::Null);
}

#[test]
fn a_request_to_another_server_is_refused_before_its_password_counts() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    let body = lead_update("1");
    let ask = |target: &str| {
        let authorization = basic(USERNAME, PASSWORD);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: crm.example.com\r\nAuthorization: {authorization}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        receiver.ask(head.as_bytes())
    };
    let refused = ask("http://other.example.com/conversica/lead");
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("no proxy"));
    assert_eq!(ask("http://crm.example.com/conversica/lead").status, ask("/conversica/lead").status);
    receiver.end();
}

#[test]
fn no_cell_of_a_report_is_a_formula() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 0);
    scene.crm(
        "create table odd (id text primary key, email text, first_name text, last_name text, owner_name text, opt_out integer, \
         conversation text, updated_at text)",
    );
    scene.crm(
        "insert into odd values ('=1+1', 'a@example.com', 'Ann', 'Lee', 'Rae', 0, 'A', '2026-01-01 00:00:00'), \
         ('@cmd', 'b@example.com', 'Bo', 'Ek', 'Rae', 0, 'A', '2026-01-01 00:00:00')",
    );
    let mut scene = scene;
    scene.set_text("source", "table", "odd");
    let report = scene.run(&["reconcile", "--format", "csv"]).expect_code(3).stdout;
    assert!(report.contains("\n'=1+1,") && report.contains("\n'@cmd,"), "{report}");
}
