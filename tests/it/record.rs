//! All data about a person, as one document, on both engines.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::conversica::post::PostKind;
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::record::{PERSONAL, RecordLookup};

blocking_on_both_engines!(
    an_export_has_everything_that_is_held_of_a_person,
    an_export_is_written_whole_and_for_its_owner_alone,
    what_a_version_before_has_not_kept_is_said_to_be_missing,
    the_test_lead_token_is_in_no_export,
);

/// Characters that could break a string or a document. A row with terminal control characters makes no lead.
const HOSTILE: &str = "O'Neill \"},{\\ <b>李";

fn an_export_has_everything_that_is_held_of_a_person(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1 => Reaction::status(503).body("busy now"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set("safety", "first_run", "").set_text("alerts", "command", "true").set_text("safety", "duplicates", "hold");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    scene.crm(&format!("update leads set last_name = '{}'", HOSTILE.replace('\'', "''")));
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[
        json!({"id": "1", "doNotEmail": true, "smsOptOut": "perhaps", "hotLead": true, "note": format!("{HOSTILE}\u{1b}[31m\u{202e}")}),
    ]);
    // The unclear value waits for the operator.
    scene.run(&["once"]).expect_code(4);
    let garbled = b"{\"id\": \"1\", \"body\": \"\xff\n\"".to_vec();
    let chat =
        json!({"firstName": "A", "lastName": "B", "email": "ANN1@example.com", "conversationHistory": []}).to_string();
    scene.with_state(async |db| {
        let posts = [
            PostArrival::of(PostKind::Message, garbled.clone(), false),
            PostArrival::of(PostKind::ChatLead, chat.clone().into_bytes(), false),
            PostArrival::of(PostKind::LeadUpdate, b"{\"id\": \"2\", \"hotLead\": true}".to_vec(), false),
        ];
        event::store(db, &posts, chrono::Utc::now()).await.unwrap();
    });
    let told = scene.run(&["lead", "1", "--export"]).expect_code(0).json();
    assert_eq!((&told["format"], &told["id"], &told["client_id"]), (&json!(1), &json!("1"), &json!("")));
    assert_eq!(told["lead"]["status"], "in_sync");
    assert_eq!(told["lead"]["desired"]["lastName"], HOSTILE);
    assert_eq!(told["row"]["status"], "in_sync");
    // Each request with its content, its answer and the consent known at the time.
    let sent = told["sent"].as_array().unwrap();
    let of = |key: &str| -> Vec<Value> { sent.iter().map(|sent| sent[key].clone()).collect() };
    assert_eq!(of("class"), ["transient", "accepted", "accepted", "accepted"]);
    assert_eq!(of("http_status"), [503, 200, 200, 200]);
    assert!(sent[0]["answer"].as_str().unwrap().contains("busy now"));
    let names: Vec<&Value> = sent.iter().map(|sent| &sent["body"]["lastName"]).collect();
    assert_eq!(names, ["Bell", "Bell", HOSTILE, HOSTILE]);
    for (n, body) in endpoint.bodies_of("1").iter().enumerate() {
        assert_eq!(&sent[n]["body"], body, "as it was sent");
    }
    let said: Vec<&Value> = sent.iter().map(|sent| &sent["consent"]["said"]["optOut"]).collect();
    assert_eq!(said, [false, false, false, true]);
    let knew: Vec<bool> = sent.iter().map(|sent| sent["consent"]["ledger"]["email"].is_string()).collect();
    assert_eq!(knew, [false, false, false, true]);
    assert_eq!(
        (&told["decisions"][0]["action"], &told["decisions"][0]["reason"]),
        (&json!("approve"), &json!("first_run"))
    );
    // Each post, to the byte, unreadable ones and those of the Website Chat included, and no post about others.
    let received = told["received"].as_array().unwrap();
    let kinds: Vec<&Value> = received.iter().map(|post| &post["kind"]).collect();
    assert_eq!(kinds, ["lead_update", "message", "chat_lead"]);
    assert_eq!(received[0]["encoding"], "text");
    assert!(
        serde_json::from_str::<Value>(received[0]["body"].as_str().unwrap()).unwrap()["note"]
            .as_str()
            .unwrap()
            .contains('\u{1b}')
    );
    assert_eq!(received[0]["writeback"]["status"], "waiting");
    assert!(received[0]["applied_at"].is_string() && received[0]["effect"]["hotLead"] == true);
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(received[1]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&received[1]["encoding"], bytes), (&json!("base64"), garbled));
    assert!(received[1]["problem"].is_string());
    assert_eq!(received[2]["body"], chat);
    assert_eq!(told["conversation"]["picture"]["doNotEmail"], true);
    assert_eq!(
        (&told["consent"]["ledger"][0]["channel"], &told["consent"]["ledger"][0]["given"]),
        (&json!("email"), &json!(false))
    );
    assert!(told["alerts"][0]["body"].as_str().unwrap().contains("hot_lead"));
    assert!(told["not_held_here"].as_array().is_some_and(|list| list.len() >= 4));
    // The export was tested with rows in every table of personal data.
    for (table, by, _) in PERSONAL {
        let rows = match by {
            RecordLookup::Lead => scene.state(&format!("select id from {table} where id = '1'")),
            RecordLookup::Event => scene.state(&format!("select '1' from {table}")),
        };
        assert!(!rows.is_empty(), "{table}");
    }
    assert_eq!(endpoint.answered(), 4, "a look sends nothing");
}

fn an_export_is_written_whole_and_for_its_owner_alone(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    let file = scene.directory().join("person.json");
    std::fs::write(&file, "an older one").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = scene.run(&["lead", "1", "--export", "--output", "person.json"]).expect_code(0);
    assert_eq!(output.stdout, "");
    let told: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(told["sent"][0]["body"]["firstName"], "Ann1");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let wrong = scene.run(&["lead", "1", "--export", "--output", "nowhere/person.json"]).expect_code(2);
    assert!(wrong.stderr.contains("--output") && wrong.stderr.contains("nowhere"), "{wrong}");
    scene.run(&["lead", "9", "--export", "--output", "nobody.json"]).expect_code(2);
    assert!(!scene.files().contains(&"nobody.json".to_owned()), "{:?}", scene.files());
    // A lead that is known from posts only.
    scene.hear(&[json!({"id": "7", "hotLead": true})]);
    let heard = scene.run(&["lead", "7", "--export"]).expect_code(0).json();
    assert_eq!(
        (&heard["row"], &heard["sent"], &heard["received"][0]["kind"]),
        (&Value::Null, &json!([]), &json!("lead_update"))
    );
}

fn what_a_version_before_has_not_kept_is_said_to_be_missing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    for name in ["Abel", "Baker", "Carter"] {
        scene.crm(&format!("update leads set last_name = '{name}'"));
        scene.run(&["once"]).expect_code(0);
    }
    let names = |told: &Value| -> Vec<Value> {
        told["sent"].as_array().unwrap().iter().map(|sent| sent["body"]["lastName"].clone()).collect()
    };
    assert_eq!(names(&scene.run(&["lead", "1", "--export"]).json()), ["Abel", "Baker", "Carter"]);
    scene.state("delete from payload");
    let told = scene.run(&["lead", "1", "--export"]).expect_code(0).json();
    assert_eq!(names(&told), [Value::Null, Value::Null, json!("Carter")]);
    assert_eq!((&told["sent"][0]["content"], &told["sent"][0]["consent"]["said"]), (&json!("not kept"), &Value::Null));
    assert!(scene.run(&["lead", "1"]).expect_code(0).stdout.contains("with an earlier content"));
}

fn the_test_lead_token_is_in_no_export(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        2 => Reaction::status(422).body("no lead of Plugh-1977"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    scene.set_text("conversica", "test_lead_token", "Plugh-1977");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Zoe'");
    scene.run(&["once"]).expect_code(3);
    let with_token = scene.run(&["lead", "1", "--export"]).expect_code(0);
    assert_eq!(with_token.json()["sent"][0]["body"]["lastName"], "(test lead token)");
    scene.set("conversica", "test_lead_token", "");
    for _ in 0..2 {
        let without = scene.run(&["lead", "1", "--export"]).expect_code(0);
        let sent = without.json()["sent"].clone();
        assert_eq!(sent[0]["body"]["lastName"], "(last name of a test lead)", "{sent:#}");
        for (name, value) in
            without.json()["contents"].as_array().into_iter().flatten().flat_map(|c| c.as_object().unwrap())
        {
            assert!(!value.to_string().contains("Plugh"), "{name}");
        }
        scene.run(&["once"]).expect_code(0);
    }
}
