//! The commands as scripts use them: their JSON documents, their exit codes, the files that they write and the ones they
//! leave alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::scene::{PASSWORD, Scene};
use crate::support::stand_in::{Reaction, StandIn, refused_port};

const LEADS: [&str; 9] =
    ["exhausted", "gone", "held", "in_flight", "in_sync", "invalid", "pending", "rejected", "retrying"];
const OUTCOMES: [&str; 5] = ["accepted", "ambiguous", "halting", "rejected", "transient"];
const RECEIVED: [&str; 5] = ["chat_leads", "lead_updates", "messages", "unreadable", "waiting_writeback"];
const STATUS: [&str; 8] = ["halt", "hold", "instances", "last_poll", "leads", "outcomes", "received", "version"];
const LAST_POLL: [&str; 7] = ["at", "changed", "cure", "duration_ms", "error", "kind", "rows"];
const PLAN: [&str; 8] = ["create", "invalid", "leads", "new_people", "same_email", "stop", "unchanged", "update"];

/// A document may gain keys, and may lose none.
#[track_caller]
fn has_keys(document: &Value, wanted: &[&str]) {
    let have: BTreeSet<&str> = document.as_object().expect("an object").keys().map(String::as_str).collect();
    let missing: Vec<_> = wanted.iter().filter(|key| !have.contains(**key)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {document:#}");
}

#[track_caller]
fn is_a_status_document(status: &Value) {
    has_keys(status, &STATUS);
    has_keys(&status["leads"], &LEADS);
    has_keys(&status["outcomes"], &OUTCOMES);
    has_keys(&status["received"], &RECEIVED);
    for group in ["leads", "outcomes", "received"] {
        let counts = status[group].as_object().expect("an object");
        assert!(counts.values().all(Value::is_u64), "{group}: {counts:?}");
    }
}

#[test]
fn every_document_carries_the_version_of_its_schema() {
    let endpoint = StandIn::start(|_| Reaction::accept());
    let scene = Scene::new(&endpoint.url(), 2);
    for command in [
        &["once", "--json"][..],
        &["status", "--json"],
        &["plan", "--json"],
        &["leads", "--json"],
        &["lead", "1", "--json"],
        &["received", "--json"],
        &["check", "--json"],
        &["config", "show", "--json"],
        &["reconcile", "--format", "json"],
        &["suppress", "list", "--json"],
    ] {
        let document = scene.run(command).json();
        assert_eq!(document["schema_version"], 1, "{command:?}: {document:#}");
    }
}

#[test]
fn config_show_tells_each_value_with_its_layer_and_no_secret() {
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 0);
    scene.set_text("source", "url", &format!("postgres://reader:{PASSWORD}@db.example.com/crm"));
    let cli = scene.cli().env("CONVERSICA_SYNC__DELIVERY__CONCURRENCY", "7");
    let text = cli.run(&["config", "show"]).expect_code(0);
    let document = cli.run(&["config", "show", "--json"]).expect_code(0);
    for output in [&text, &document] {
        assert!(!format!("{output}").contains(PASSWORD), "{output}");
    }
    let document = document.json();
    let entry = |key: &str| {
        let settings = document["settings"].as_array().expect("a list");
        settings.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("{key} is missing")).clone()
    };
    assert_eq!(entry("delivery.concurrency")["value"], 7);
    let layer = |key: &str| entry(key)["layer"].as_str().unwrap_or_default().to_owned();
    assert!(layer("delivery.concurrency").contains("CONVERSICA_SYNC__DELIVERY__CONCURRENCY"));
    assert!(layer("delivery.timeout").starts_with("conversica-sync.toml:"), "{}", layer("delivery.timeout"));
    assert_eq!(
        (layer("delivery.on_ambiguous"), &entry("delivery.on_ambiguous")["value"]),
        ("default".into(), &json!("resend"))
    );
    assert_eq!(entry("conversica.password")["value"], "(hidden)");
    assert!(
        entry("source.url")["value"]
            .as_str()
            .is_some_and(|url| url.contains("reader") && url.contains("db.example.com"))
    );
    assert!(entry("conversica.test_lead_token")["value"].is_null());
    for line in ["delivery.concurrency", "conversica.password", "(hidden)", "(not set)"] {
        assert!(text.stdout.contains(line), "{line}: {text}");
    }
}

#[test]
fn config_schema_names_every_key_of_the_default_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let schema = crate::support::binary::Cli::new(directory.path()).run(&["config", "schema"]).expect_code(0).json();
    let defaults =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml")).expect("the file");
    let mut section: Vec<&str> = Vec::new();
    let mut keys = 0;
    for line in defaults.lines() {
        // A key, set or commented out, begins its line; an explanation has a blank after its #.
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_start_matches('[');
            section = name.split(']').next().expect("split yields one part").split('.').collect();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            let mut place = &schema;
            for name in &section {
                place = &place["properties"][*name];
                // An entry of a list of tables.
                place = place.get("items").unwrap_or(place);
                if let Some(named) = place["$ref"].as_str() {
                    place = schema.pointer(named.trim_start_matches('#')).expect("what a reference names");
                }
            }
            if section != ["lead", "custom"] {
                assert!(place["properties"][key].is_object(), "{section:?} {key} is not in the schema");
                keys += 1;
            }
        }
    }
    assert!(keys > 80, "only {keys} keys were found");
}

#[test]
fn status_is_whole_before_the_first_run_and_after_it() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(400),
        _ => Reaction::accept(),
    });
    let scene = Scene::new(&endpoint.url(), 3);
    scene.crm("update leads set email = 'nobody' where id = 3");
    let before = scene.run(&["status", "--json"]).expect_code(0).json();
    is_a_status_document(&before);
    assert!(before["halt"].is_null() && before["hold"].is_null() && before["last_poll"].is_null());
    assert_eq!(scene.files(), ["conversica-sync.toml", "crm.db"], "looking makes nothing");

    let once = scene.run(&["once", "--json"]).expect_code(3);
    is_a_status_document(&once.json());
    assert!(once.stderr.lines().all(|line| line.starts_with('{')), "logs are on standard error: {once}");

    let after = scene.run(&["status", "--json"]).expect_code(3).json();
    is_a_status_document(&after);
    has_keys(&after["last_poll"], &LAST_POLL);
    assert_eq!(after["version"], env!("CARGO_PKG_VERSION"));
    let (leads, outcomes) = (&after["leads"], &after["outcomes"]);
    assert_eq!((&leads["in_sync"], &leads["rejected"], &leads["invalid"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&outcomes["accepted"], &outcomes["rejected"]), (&json!(1), &json!(1)));
    assert_eq!((&after["last_poll"]["rows"], &after["last_poll"]["error"]), (&json!(3), &Value::Null));
    let text = scene.run(&["status"]).expect_code(3);
    assert!(LEADS.iter().all(|status| text.stdout.contains(status)), "{text}");
}

#[test]
fn plan_shows_what_a_pass_would_do_and_does_nothing() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 4);
    scene.crm("update leads set email = 'Shared@example.com' where id = 1");
    scene.crm("update leads set email = 'shared@example.com' where id = 2");
    scene.crm("update leads set email = '' where id = 4");
    let plan = scene.run(&["plan", "--json"]).expect_code(3).json();
    has_keys(&plan, &PLAN);
    let counts = |plan: &Value| {
        ["create", "update", "stop", "invalid", "unchanged", "new_people", "same_email"]
            .map(|key| plan[key].as_u64().expect(key))
    };
    assert_eq!(counts(&plan), [3, 0, 0, 1, 0, 3, 1]);
    let leads = plan["leads"].as_array().expect("a list");
    assert_eq!(leads.len(), 4);
    for lead in leads {
        has_keys(lead, &["id", "client_id", "action", "changes", "reasons"]);
    }
    assert_eq!(leads[0]["changes"]["firstName"], json!([null, "Ann1"]));
    assert_eq!(leads[3]["action"], "invalid");
    assert!(leads[3]["reasons"][0].as_str().is_some_and(|reason| reason.contains("email")), "{}", leads[3]);
    assert_eq!(scene.files(), ["conversica-sync.toml", "crm.db"], "nothing is stored");
    assert_eq!(endpoint.connections(), 0);

    scene.run(&["once"]).expect_code(3);
    scene.crm("update leads set first_name = 'Anna' where id = 1; ");
    scene.crm("update leads set opt_out = 1 where id = 2");
    let before = (scene.state("select group_concat(status || changed_at) from lead"), endpoint.requests().len());
    let plan = scene.run(&["plan", "--json"]).expect_code(3).json();
    assert_eq!(counts(&plan), [0, 1, 1, 1, 1, 0, 1]);
    let leads = plan["leads"].as_array().expect("a list");
    assert_eq!(
        (&leads[0]["action"], &leads[0]["changes"]),
        (&json!("update"), &json!({"firstName": ["Ann1", "Anna"]}))
    );
    assert_eq!(leads[1]["action"], "stop");
    assert_eq!(leads[1]["changes"]["optOut"][1], true);
    let after = (scene.state("select group_concat(status || changed_at) from lead"), endpoint.requests().len());
    assert_eq!(before, after, "a plan stores nothing and sends nothing");
    let text = scene.run(&["plan"]).expect_code(3);
    assert!(text.stdout.contains("firstName: \"Ann1\" → \"Anna\""), "{text}");
}

#[test]
fn once_sends_everything_and_a_second_one_sends_nothing() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 5);
    let document = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&document["pass"]["accepted"], &document["leads"]["in_sync"]), (&json!(5), &json!(5)));
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 5);
    scene.crm("update leads set first_name = 'Zoe' where id = 3");
    let text = scene.run(&["once"]).expect_code(0);
    assert!(text.stdout.contains("1 changed") && text.stdout.contains("1 accepted"), "{text}");
    assert_eq!(endpoint.bodies_of("3").last().expect("it was sent")["firstName"], "Zoe");
    assert_eq!(endpoint.answered(), 6);
}

#[test]
fn check_says_ready_and_not_a_byte_of_http_reaches_the_endpoint() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let output = scene.run(&["check"]).expect_code(0);
    for subject in ["settings", "source", "mapping", "state", "endpoint", "Ready"] {
        assert!(output.stdout.contains(subject), "{subject}: {output}");
    }
    assert!(!output.stdout.contains("BAD"), "{output}");
    assert_eq!((endpoint.connections(), endpoint.requests().len()), (1, 0));
    assert_eq!(scene.files(), ["conversica-sync.toml", "crm.db"], "a check makes nothing");
}

#[test]
fn check_goes_through_every_point_even_after_a_bad_one() {
    let endpoint = format!("http://127.0.0.1:{}/json/", refused_port());
    let mut scene = Scene::new(&endpoint, 3);
    let bad = |output: &crate::support::binary::Output| {
        let lines = output.stdout.lines().filter(|line| line.starts_with("BAD"));
        lines.map(|line| line.split_whitespace().nth(1).expect("a subject").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bad(&scene.run(&["check"]).expect_code(2)), ["endpoint"]);
    scene.crm("update leads set owner_name = null");
    let output = scene.run(&["check"]).expect_code(2);
    assert_eq!(bad(&output), ["mapping", "endpoint"]);
    assert!(output.stdout.contains("0 of 3 sample rows") && output.stdout.contains("3 row(s): "), "{output}");
    let state = format!("sqlite://{}/missing/state.db", scene.directory().display());
    scene.set_text("state", "url", &state).set_text("source", "table", "missing");
    assert_eq!(bad(&scene.run(&["check"]).expect_code(2)), ["source", "state", "endpoint"]);
}

#[test]
fn retry_puts_back_what_was_refused_and_names_are_honoured() {
    let endpoint = StandIn::start(|request| if request.n <= 3 { Reaction::status(422) } else { Reaction::accept() });
    let scene = Scene::new(&endpoint.url(), 3);
    scene.run(&["once"]).expect_code(3);
    scene.run(&["once"]).expect_code(3);
    assert_eq!(endpoint.answered(), 3, "a rejected lead is not sent again by itself");
    let output = scene.run(&["retry", "77"]).expect_code(2);
    assert!(output.stderr.contains("no lead with the id 77 is rejected or exhausted"), "{output}");
    let output = scene.run(&["retry", "2", "77"]).expect_code(2);
    assert!(output.stdout.contains("1 lead back in the queue"), "{output}");
    assert!(output.stderr.contains("no lead with the id 77 is rejected or exhausted; the others are"), "{output}");
    scene.run(&["once"]).expect_code(3);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (4, 2));
    let output = scene.run(&["retry", "--status", "exhausted"]).expect_code(0);
    assert!(output.stdout.contains("0 leads"), "{output}");
    scene.run(&["retry", "--all"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 6);
}

#[test]
fn without_a_user_name_in_the_environment_a_decision_names_the_account() {
    let endpoint = StandIn::start(|request| if request.n == 1 { Reaction::status(422) } else { Reaction::accept() });
    let scene = Scene::new(&endpoint.url(), 1);
    scene.run(&["once"]).expect_code(3);
    let nameless = scene.cli().env("SUDO_USER", "").env("LOGNAME", "").env("USER", "");
    nameless.run(&["retry", "1"]).expect_code(0);
    let account = std::process::Command::new("id").arg("-un").output().expect("id is on the path").stdout;
    let by = format!("{} (command line)", String::from_utf8_lossy(&account).trim());
    let told = scene.run(&["lead", "1"]).expect_code(0);
    assert!(told.stdout.contains(&by), "{by}: {told}");
}

#[test]
fn with_nothing_to_decide_the_commands_say_so() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    for (command, said) in [("approve", "Nothing is held"), ("baseline", "Nothing is held"), ("resume", "no halt")] {
        let output = scene.run(&[command]).expect_code(0);
        assert!(output.stdout.contains(said), "{output}");
    }
}

#[test]
fn once_does_not_wait_for_retries_longer_than_it_is_told() {
    let endpoint = StandIn::start(|_| Reaction::status(500).header("Retry-After", "3000"));
    let scene = Scene::new(&endpoint.url(), 2);
    let start = std::time::Instant::now();
    let output = scene.run(&["once", "--max-wait", "1s", "--json"]).expect_code(4);
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!((&output.json()["leads"]["retrying"], &output.json()["pass"]["waiting"]), (&json!(2), &json!(2)));
}

#[test]
fn commands_that_decide_make_no_state_where_there_is_none() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 2);
    for command in [&["approve", "--yes"][..], &["baseline", "--yes"], &["resume"], &["retry", "--all"], &["status"]] {
        scene.run(command).expect_code(0);
    }
    assert!(!scene.state_file().exists());
}

#[test]
fn what_people_try_first_works_or_says_what_does() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("1") => Reaction::status(400).body(r#"{"message": "repName is unknown"}"#),
        Some("2") => Reaction::status(400).body(r#"{"message": "bad zip"}"#),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 3);
    let refused = scene.run(&["run", "--dry-run"]).expect_code(2);
    assert!(refused.stderr.contains("conversica-sync plan"), "{refused}");
    scene.run(&["once"]).expect_code(3);
    let none = scene.run(&["retry", "--reason", "no such words"]).expect_code(2);
    assert!(none.stderr.contains("nothing was changed"), "{none}");
    let requeued = scene.run(&["retry", "--reason", "REPNAME"]).expect_code(0);
    assert!(requeued.stdout.starts_with("1 lead"), "{requeued}");
    scene.run(&["retry", "--reason", "x", "1"]).expect_code(2);
    scene.run(&["retry", "--reason", ""]).expect_code(2);
    // One post by its number.
    scene.hear(&[serde_json::json!({"apiVersion": "7.2", "id": "3", "hotLead": true})]);
    let seq = scene.run(&["received", "--json"]).json()["received"][0]["seq"].to_string();
    let (short, long) = (scene.run(&["received", &seq]).expect_code(0), scene.run(&["received", "show", &seq]));
    assert!(short.stdout.contains("hotLead"), "{short}");
    assert_eq!(short.stdout, long.stdout);
    // Addresses.
    scene.set_text("admin", "listen", "http://localhost:0/");
    scene.run(&["status"]).expect_code(3);
    scene.set_text("admin", "listen", "crm.example.com:80");
    let odd = scene.run(&["status"]).expect_code(2);
    assert!(odd.stderr.contains("a port alone for this machine"), "{odd}");
}
