//! The sandbox plays Conversica's part: after it accepts a lead, it posts a conversation to the receiver.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until_async;
use conversica_sync::sandbox::play::{self, PlayReceiver};
use conversica_sync::sandbox::{RunningSandbox, SandboxOptions, start};

const SOON: Duration = Duration::from_secs(20);

async fn sandbox(receiver: &StandIn, repeated: u8, disordered: u8) -> RunningSandbox {
    let receiver = PlayReceiver {
        url: receiver.url().parse().unwrap(),
        username: "conversica".into(),
        password: "s3cret".into(),
        certificate: None,
    };
    start(SandboxOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        username: "sandbox".into(),
        password: "sandbox".into(),
        faults: Default::default(),
        seed: 1,
        play: Some(play::PlayOptions { receiver, beat: Duration::from_millis(5), repeated, disordered }),
    })
    .await
    .unwrap()
}

async fn post(sandbox: &RunningSandbox, id: &str, opt_out: bool) {
    let body = json!({"apiVersion": "7.2", "id": id, "firstName": "Ann", "email": "ann@example.com",
        "leadSource": "Website", "repName": "John", "optOut": opt_out});
    let request =
        reqwest::Client::builder().build().unwrap().post(sandbox.endpoint()).basic_auth("sandbox", Some("sandbox"));
    assert_eq!(request.body(body.to_string()).send().await.unwrap().status(), 200);
}

/// Waits until no post has arrived for ten beats.
async fn over(receiver: &StandIn, at_least: usize) {
    wait_until_async("the conversations are over", SOON, async || {
        let before = receiver.answered();
        tokio::time::sleep(Duration::from_millis(100)).await;
        before >= at_least && receiver.answered() == before
    })
    .await;
}

fn stages(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().filter_map(|body| body["conversationStage"].as_str()).collect()
}

#[tokio::test]
async fn every_accepted_lead_is_answered_with_one_conversation_in_order_at_the_published_paths() {
    let receiver = StandIn::accepting();
    let sandbox = sandbox(&receiver, 0, 0).await;
    for id in ["1", "2", "3", "4", "5"] {
        post(&sandbox, id, false).await;
        post(&sandbox, id, false).await;
    }
    over(&receiver, 10).await;
    for id in ["1", "2", "3", "4", "5"] {
        let bodies = receiver.bodies_of(id);
        assert_eq!(stages(&bodies)[0], "Preparing Lead", "{id}: {bodies:?}");
        assert_eq!(bodies.iter().filter(|body| body.get("dateAdded").is_some()).count(), 1, "one conversation");
        let dates: Vec<&str> =
            bodies.iter().map(|b| b["date"].as_str().or(b["conversationStageDate"].as_str()).unwrap_or("~")).collect();
        assert!(dates.iter().filter(|date| **date != "~").is_sorted(), "{dates:?}");
    }
    for received in receiver.requests() {
        let request = received.request;
        let path = if request.json().get("action").is_some() { "/conversica/message" } else { "/conversica/lead" };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
        assert_eq!(request.header("authorization"), Some("Basic Y29udmVyc2ljYTpzM2NyZXQ="));
    }
    assert_eq!(sandbox.played().acknowledged, receiver.answered() as u64);
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_and_what_is_called_wrong_does_not() {
    let receiver = StandIn::start(|request| match request.n {
        1 => Reaction::status(500),
        2 => Reaction::CutBeforeReading,
        3 => Reaction::accept(),
        _ => Reaction::status(401),
    });
    let sandbox = sandbox(&receiver, 0, 0).await;
    post(&sandbox, "1", false).await;
    over(&receiver, 3).await;
    let bodies: Vec<Value> = receiver.requests().into_iter().map(|received| received.request.json()).collect();
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2] && bodies[2] != bodies[3], "{bodies:?}");
    let played = sandbox.played();
    assert_eq!((played.posts, played.acknowledged, played.refused), (bodies.len() as u64, 1, bodies.len() as u64 - 3));
}

#[tokio::test]
async fn repeats_and_disorder_come_on_request() {
    let plain = StandIn::accepting();
    let (all_twice, disordered) = (StandIn::accepting(), StandIn::accepting());
    for (receiver, repeated, swapped) in [(&plain, 0, 0), (&all_twice, 100, 0), (&disordered, 0, 100)] {
        let sandbox = sandbox(receiver, repeated, swapped).await;
        post(&sandbox, "1", false).await;
        over(receiver, 2).await;
    }
    // Dates differ from run to run.
    let said = |receiver: &StandIn| -> Vec<String> {
        let texts = receiver.bodies_of("1").into_iter();
        texts.map(|body| format!("{}{}", body["conversationStatus"], body["body"])).collect()
    };
    let (plain, twice, swapped) = (said(&plain), said(&all_twice), said(&disordered));
    assert_eq!(twice, plain.iter().flat_map(|text| [text.clone(), text.clone()]).collect::<Vec<_>>());
    assert_ne!(swapped, plain);
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    assert_eq!(sorted(swapped), sorted(plain));
}

#[tokio::test]
async fn consent_that_is_withdrawn_ends_the_conversation() {
    let receiver = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(50)));
    let sandbox = sandbox(&receiver, 0, 0).await;
    post(&sandbox, "1", false).await;
    post(&sandbox, "1", true).await;
    post(&sandbox, "1", true).await;
    over(&receiver, 1).await;
    let bodies = receiver.bodies_of("1");
    assert_eq!(stages(&bodies).last(), Some(&"Client Stopped"), "{bodies:?}");
    assert_eq!(stages(&bodies).iter().filter(|stage| **stage == "Client Stopped").count(), 1);
    assert!(bodies.len() < 5, "{bodies:?}");
}
