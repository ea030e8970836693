//! An opt-out in a damaged post is never lost: what can be read is read, and what may be an opt-out counts as one until an
//! operator has looked. Through the real program.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::hearing::{apply_all, ask, store};
use crate::support::lead_row::{at, claim_one, deliver, desired, row};
use crate::support::receiver::{Receiver, connect, request, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::state_db::StateDb;

const SOON: Duration = Duration::from_secs(30);
const FALSE: &str = r#"{"id":"1","optOut":false,"smsOptOut":false}"#;

on_both_engines!(
    a_damaged_post_withdraws_consent_and_no_later_word_gives_it_again,
    many_posts_that_name_leads_in_another_way_of_writing_are_matched_by_one_look,
    an_event_that_the_state_does_not_take_loses_no_opt_out_and_holds_up_no_other,
);

mod through_the_program {
    use super::*;

    blocking_on_both_engines!(
        a_damaged_post_is_read_and_its_opt_out_told_to_conversica,
        what_cannot_be_read_counts_as_an_opt_out_until_an_operator_has_looked,
        the_list_names_the_leads_that_a_damaged_post_may_be_about,
    );
}

/// Stores the body as the receiver does, and applies it.
async fn arrive(db: &StateDb, body: &[u8], second: i64) {
    event::store(db, &[PostArrival::of(PostKind::LeadUpdate, body.to_vec(), false)], at(second)).await.unwrap();
    apply_all(db, at(second)).await;
}

async fn a_damaged_post_withdraws_consent_and_no_later_word_gives_it_again(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", FALSE), 0).await;
    arrive(&db, br#"{"id":"1","doNotEmail":true,"smsOptOut":"#, 10).await;
    let next = claim_one(&db, 11).await;
    assert_eq!((next.body.as_str(), next.urgent), (r#"{"id":"1","optOut":true,"smsOptOut":true}"#, true));
    arrive(&db, br#"{"id":"1","doNotEmail":false}"#, 20).await;
    let standing = conversica_sync::store::consent::stands(&db, std::slice::from_ref(&next.lead)).await.unwrap();
    assert!(standing[&next.lead].email.is_some() && standing[&next.lead].sms.is_some());
    assert_eq!(ask(&db, "select cast(count(*) as text) from possible_opt_out where settled_at is null").await, ["2"]);
    // Long afterwards, when all expired data has been deleted.
    let until = at(1_000_000_000);
    conversica_sync::store::prune::step(&db, conversica_sync::store::prune::PrunedKind::Posts, 0, until).await.unwrap();
    let kept = ask(&db, "select problem from event where problem is not null").await;
    assert_eq!(kept.len(), 1, "it waits for an operator");
}

async fn many_posts_that_name_leads_in_another_way_of_writing_are_matched_by_one_look(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    for n in 1..=15 {
        deliver(&db, desired(&format!("Lead{n}"), &format!(r#"{{"id":"Lead{n}","optOut":false}}"#)), n * 2).await;
    }
    for n in 1..=15 {
        store(&db, PostKind::LeadUpdate, &json!({"id": format!("LEAD{n}"), "doNotEmail": true}), at(50 + n)).await;
        store(&db, PostKind::LeadUpdate, &json!({"id": format!("stranger{n}"), "doNotEmail": true}), at(50 + n)).await;
    }
    for id in ["-", "?"] {
        store(&db, PostKind::LeadUpdate, &json!({"id": id, "doNotEmail": true}), at(70)).await;
    }
    apply_all(&db, at(80)).await;
    for n in 1..=15 {
        let body = row(&db, &format!("Lead{n}")).await.desired.unwrap_or_default();
        assert!(body.contains(r#""optOut":true"#), "{n}: {body}");
    }
    let unknown = "select cast(count(*) as text) from possible_opt_out where id = '' and settled_at is null";
    assert_eq!(ask(&db, unknown).await, ["17"], "those that are like no lead wait for the operator");
}

async fn an_event_that_the_state_does_not_take_loses_no_opt_out_and_holds_up_no_other(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", FALSE), 0).await;
    deliver(&db, desired("2", r#"{"id":"2","optOut":false}"#), 2).await;
    let refusal = match engine {
        Engine::Sqlite => {
            "create trigger refuse before insert on conversation when new.id = '1' begin select raise(abort, 'no'); end"
        }
        Engine::Postgres => "alter table conversation add check (id <> '1')",
    };
    on_state!(&db, pool => { sqlx::query(refusal).execute(pool).await.unwrap(); });
    store(&db, PostKind::LeadUpdate, &json!({"id": "1", "doNotEmail": true}), at(10)).await;
    store(&db, PostKind::LeadUpdate, &json!({"id": "2", "doNotEmail": true}), at(11)).await;
    for second in 12..16 {
        apply_all(&db, at(second)).await;
    }
    for id in ["1", "2"] {
        let body = row(&db, id).await.desired.unwrap_or_default();
        assert!(body.contains(r#""optOut":true"#), "{id}: {body}");
    }
    assert_eq!(
        ask(&db, "select id from event where problem is not null").await,
        ["1"],
        "the rest waits for an operator"
    );
}

fn scene(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), leads);
    with_receiver(&mut scene);
    scene
}

/// Waits until the last request for that lead contains its opt-out.
fn told(endpoint: &StandIn, id: &str) {
    wait_until(&format!("the opt-out of {id} is told to Conversica"), SOON, || {
        endpoint.bodies_of(id).last().is_some_and(|body| body["optOut"] == true)
    });
}

fn a_damaged_post_is_read_and_its_opt_out_told_to_conversica(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 9);
    let receiver = Receiver::start(&scene);
    let ids: Vec<String> = (1..=9).map(|id| id.to_string()).collect();
    wait_until("all leads are sent", SOON, || ids.iter().all(|id| !endpoint.bodies_of(id).is_empty()));
    let bodies: [&[u8]; 9] = [
        br#"{"id":"1","doNotEmail":true,"hotLead":"maybe"}"#,
        br#"{"id":"2","doNotEmail":true,"leadStatus":"Thanks \ud83d"}"#,
        b"{\"id\":\"3\",\"conversationStatus\":\"Unsubscribed\",\"leadStatus\":\"two\nlines\"}",
        b"\xef\xbb\xbf{\"id\":\"4\",\"doNotEmail\":true}",
        br#"{"id":"5","doNotEmail":true,"score":1e400}"#,
        br#"{"id":"6","doNotEmail":"yes"}"#,
        br#"{"id":"7","doNotEmail":1}"#,
        b"{\"id\":\"8\",\"doNotEmail\":true,\"leadStatus\":\"caf\xe9\"}",
        br#"{"id":"9","doNotEmail":true,"leadStatusDate":1764300000}"#,
    ];
    for body in bodies {
        assert_eq!(receiver.post("/conversica/lead", body).status, 200, "{}", String::from_utf8_lossy(body));
    }
    ids.iter().for_each(|id| told(&endpoint, id));
    receiver.end();
    let listed = scene.run(&["received", "--json", "--id", "1"]).json();
    assert_eq!(listed["received"][0]["notes"], json!(["hotLead was left out: it is not a boolean"]));
    assert!(scene.run(&["received"]).stdout.contains("note: hotLead was left out"));
    let lead = scene.run(&["lead", "4", "--json"]).json();
    assert_eq!(lead["heard"][0]["body"], json!({"id": "4", "doNotEmail": true}));
    assert_eq!(lead["heard"][0]["notes"], json!(["a byte order mark was passed over"]));
    assert!(scene.run(&["lead", "1"]).stdout.contains("(note: hotLead was left out: it is not a boolean)"));
    let status = scene.run(&["status"]);
    assert!(!status.stdout.contains("POSSIBLE"), "{status}");
    assert_eq!(status.code, Some(0), "{status}");
}

fn what_cannot_be_read_counts_as_an_opt_out_until_an_operator_has_looked(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 3);
    let receiver = Receiver::start(&scene);
    wait_until("all leads are sent", SOON, || (1..=3).all(|id| !endpoint.bodies_of(&id.to_string()).is_empty()));
    let post = |body: &str, status: u16| assert_eq!(receiver.post("/conversica/lead", body).status, status, "{body}");
    post(r#"{"id":"1","doNotEmail":true,"leadStatus":"cut"#, 400);
    post("id=2&doNotEmail=true", 400);
    post(r#"{"id":"3","doNotEmail":false,"leadStatus":"cut"#, 400);
    post(r#"{"id":"3","doNotEmail":"perhaps"}"#, 200);
    ["1", "2", "3"].into_iter().for_each(|id| told(&endpoint, id));
    receiver.end();
    let status = scene.run(&["status"]);
    assert!(status.stdout.contains("POSSIBLE OPT-OUTS in 3 damaged posts"), "{status}");
    assert!(status.stdout.contains("received --possible-opt-outs"), "{status}");
    assert_eq!(status.code, Some(4));
    let status = scene.run(&["status", "--json"]).json();
    assert_eq!((&status["received"]["unreadable"], &status["received"]["possible_opt_outs"]), (&json!(3), &json!(3)));
    let listed = scene.run(&["received", "--possible-opt-outs", "--json"]).json();
    let seqs: Vec<&Value> = listed["received"].as_array().unwrap().iter().map(|event| &event["seq"]).collect();
    assert_eq!(seqs, [4, 2, 1]);
    let lead = scene.run(&["lead", "1"]).stdout;
    assert!(lead.contains("OPTED OUT of email") && lead.contains("received confirm 1"), "{lead}");
    scene.run(&["received", "confirm", "1"]).expect_code(0);
    scene.run(&["received", "confirm", "1"]).expect_code(2);
    scene.run(&["received", "dismiss", "2", "3", "4"]).expect_code(0);
    scene.run(&["received", "confirm", "9"]).expect_code(2);
    let status = scene.run(&["status", "--json"]);
    assert_eq!(status.code, Some(0), "{status}");
    let status = status.json();
    assert_eq!((&status["received"]["unreadable"], &status["received"]["possible_opt_outs"]), (&json!(0), &json!(0)));
    // A confirmed opt-out stays; after a dismissal the CRM's value counts again.
    scene.crm("update leads set last_name = 'Changed'");
    scene.run(&["once", "--full"]);
    let last = |id: &str| endpoint.bodies_of(id).last().expect("it was sent")["optOut"].clone();
    assert_eq!([last("1"), last("2"), last("3")], [json!(true), json!(false), json!(false)]);
    let lead = scene.run(&["lead", "1", "--json"]).json();
    assert_eq!(lead["possible_opt_outs"][0]["decision"], "confirmed");
}

fn the_list_names_the_leads_that_a_damaged_post_may_be_about(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 2);
    let receiver = Receiver::start(&scene);
    wait_until("all leads are sent", SOON, || (1..=2).all(|id| !endpoint.bodies_of(&id.to_string()).is_empty()));
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"2","conversationStatus":"Unsubscri"#).status, 400);
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"1","doNotEmail":"perhaps"}"#).status, 200);
    ["1", "2"].into_iter().for_each(|id| told(&endpoint, id));
    receiver.end();
    let status = scene.run(&["status"]).stdout;
    assert!(
        status.contains("1 post cannot be read") && status.contains("POSSIBLE OPT-OUTS in 2 damaged posts"),
        "{status}"
    );
    let lead_of = |text: &str, kind: &str| {
        let line = text.lines().find(|line| line.contains(kind)).unwrap_or_else(|| panic!("{kind}: {text}")).to_owned();
        line.split("lead_update").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    let text = scene.run(&["received", "--possible-opt-outs"]).stdout;
    assert_eq!(lead_of(&text, "UNREADABLE").as_deref(), Some("2?"), "{text}");
    assert_eq!(lead_of(&text, "note:").as_deref(), Some("1"), "{text}");
    let listed = scene.run(&["received", "--possible-opt-outs", "--json"]).json();
    assert_eq!(listed["received"][1]["may_be_about"], json!([{"id": "2", "client_id": ""}]), "{listed:#}");
    assert_eq!(listed["received"][0]["may_be_about"], json!([]), "{listed:#}");
    scene.run(&["received", "dismiss", "1"]).expect_code(0);
    let status = scene.run(&["status"]).stdout;
    assert!(status.contains("POSSIBLE OPT-OUTS in 1 damaged post: nothing but an opt-out is sent"), "{status}");
    let listed = scene.run(&["received", "--json"]).json();
    assert_eq!(listed["received"][1]["may_be_about"], json!([]), "{listed:#}");
}

#[test]
fn strangers_who_fill_all_places_keep_out_nobody_with_credentials() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Sqlite, &endpoint, 1);
    let receiver = Receiver::start(&scene);
    let mut strangers: Vec<_> = (0..300)
        .map(|_| {
            let mut stranger = connect(&receiver.address);
            let _ = stranger.write_all(b"POST /conversica/lead HTTP/1.1\r\nHost: x\r\n");
            stranger
        })
        .collect();
    for n in 0..5 {
        let answer = receiver.post("/conversica/lead", format!(r#"{{"id":"1","leadStatus":"{n}"}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut rest = Vec::new();
    let _ = strangers[0].read_to_end(&mut rest);
    assert_eq!(rest, b"", "the oldest was closed");
    // An answer to a request without credentials ends its connection, even when the client asks to keep it.
    for (method, path, status) in
        [("GET", "/", 404), ("GET", "/conversica/lead", 405), ("POST", "/conversica/lead", 401)]
    {
        let asked = String::from_utf8(request(method, path, None, b"")).unwrap().replace("Connection: close\r\n", "");
        let answer = receiver.ask(asked.as_bytes());
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    drop(strangers);
    let log = receiver.end();
    let said = log.matches("connections without credentials take all places").count();
    assert_eq!(said, 1, "{log}");
}
