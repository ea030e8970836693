//! `check` as a list: its items, for people and for scripts; the items that it still checks after a failure; the data
//! that it never shows. `check_source` tests its report on how changes are found.

use std::os::unix::fs::PermissionsExt;

use chrono::{Datelike, TimeDelta, Utc};
use serde_json::Value;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::with_receiver;
use crate::support::scene::{PASSWORD, Scene, Store};
use crate::support::stand_in::{Reaction, StandIn, refused_port};
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    the_list_is_the_same_for_people_and_for_scripts,
    what_does_not_depend_on_a_failure_is_looked_at_all_the_same,
    rows_are_known_by_their_ids_only,
    who_runs_on_the_state_is_said_and_what_waits_for_a_person,
    stamps_of_another_zone_are_worth_a_look,
);

/// The items as scripts read them, whatever the exit code is.
#[track_caller]
fn items(scene: &Scene) -> Vec<Value> {
    let output = scene.run(&["check", "--json"]);
    output.json()["items"].as_array().unwrap_or_else(|| panic!("a list: {output}")).clone()
}

/// The items of that section and name.
#[track_caller]
fn named(scene: &Scene, section: &str, name: &str) -> Vec<Value> {
    let mut found = items(scene);
    found.retain(|item| item["section"] == section && item["name"] == name);
    found
}

/// The only item of that section and name: in this state, with these words in its detail or fix.
#[track_caller]
fn says(scene: &Scene, section: &str, name: &str, state: &str, words: &[&str]) {
    let found = named(scene, section, name);
    let [item] = found.as_slice() else { panic!("one {section}/{name}: {found:#?}") };
    assert_eq!(item["state"], state, "{item:#}");
    for word in words {
        assert!(item.to_string().contains(word), "`{word}`: {item:#}");
    }
}

fn the_list_is_the_same_for_people_and_for_scripts(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    let text = scene.run(&["check"]).expect_code(0).stdout;
    let output = scene.run(&["check", "--json"]).expect_code(0);
    let document = output.json();
    assert_eq!(document["ready"], true, "{output}");
    let items = document["items"].as_array().expect("a list");
    let mut lines = text.lines();
    for item in items {
        let mark = match item["state"].as_str().expect("a word") {
            "ok" => "ok",
            "warn" => "look",
            "fail" => "BAD",
            "skipped" => "skip",
            other => panic!("{other}"),
        };
        let word = |key: &str| item[key].as_str().unwrap_or_else(|| panic!("{key}: {item:#}"));
        assert!(!word("name").is_empty());
        let line = format!("{mark:<5} {:<9} {}", word("section"), word("detail"));
        // Free disk space changes between two runs, and so does the minute.
        let without_minute = |line: &str| line.split(", where it is").next().unwrap_or_default().to_owned();
        let shown = lines.next().map(without_minute);
        if word("section") != "disk" {
            assert_eq!(shown, Some(without_minute(&line)), "{text}");
        }
        if let Some(cure) = item["cure"].as_str() {
            assert_eq!(lines.next(), Some(format!("{:16}cure: {cure}", "").as_str()), "{text}");
        }
    }
    assert_eq!(lines.next(), Some(""));
    assert!(lines.next().is_some_and(|line| line.starts_with("Ready")), "{text}");
    assert_eq!(lines.next(), None);
    let wanted =
        ["settings", "secrets", "source", "rights", "changes", "mapping", "time zone", "clock", "state", "endpoint"];
    for section in wanted {
        assert!(items.iter().any(|item| item["section"] == section), "{section}: {output}");
    }
    assert!(output.stdout.contains(engine.pick("SQLite 3.", "PostgreSQL 1")), "{output}");
    assert!(text.is_ascii(), "no locale, no ticks: {text}");
    let ticks = scene.cli().env("LANG", "en_US.UTF-8").run(&["check"]).expect_code(0).stdout;
    let plain = ticks.lines().map(|line| line.trim_start_matches(['\u{2713}', '!', '-']).trim_start());
    assert!(ticks.starts_with("\u{2713} ok    settings  "), "{ticks}");
    assert_eq!(plain.clone().count(), text.lines().count(), "{ticks}");
    assert_eq!((endpoint.connections(), endpoint.requests().len()), (3, 0), "not a byte of HTTP");
}

fn what_does_not_depend_on_a_failure_is_looked_at_all_the_same(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("source", "table", "missing");
    let output = scene.run(&["check", "--json"]).expect_code(2);
    let document = output.json();
    assert_eq!(document["ready"], false);
    let items = document["items"].as_array().expect("a list");
    let state = |section: &str| items.iter().find(|item| item["section"] == section).map(|item| item["state"].clone());
    for (section, wanted) in [
        ("settings", "ok"),
        ("source", "fail"),
        ("rights", "skipped"),
        ("changes", "skipped"),
        ("mapping", "skipped"),
        ("state", "ok"),
        ("endpoint", "ok"),
        ("receiver", "ok"),
    ] {
        assert_eq!(state(section).expect(section), wanted, "{section}: {output}");
    }
    for item in items {
        assert!(item["state"] != "fail" || item["cure"].is_string(), "a failure has its cure: {item:#}");
        assert!(item["state"] != "skipped" || item["detail"] != "", "{item:#}");
    }
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{output}");
    let text = scene.run(&["check"]).expect_code(2);
    assert!(text.stdout.contains("skip  mapping   needs the source"), "{text}");
    assert!(text.stdout.trim_end().ends_with("1 thing to fix, 1 to look at."), "{text}");

    // `check` reads sample rows even when the triggers are missing.
    scene.set_text("source", "table", "leads").set_text("source", "changes", "triggers");
    says(&scene, "triggers", "log", "fail", &["not installed", "conversica-sync triggers install"]);
    says(&scene, "mapping", "rows", "ok", &["3 of 3 sample rows"]);
}

fn rows_are_known_by_their_ids_only(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 9);
    scene.crm(
        "update leads set email = 'quagga at example', first_name = 'Quagga' where id in (2, 4, 6, 8); \
         update leads set owner_name = '' where id = 9",
    );
    for arguments in [&["check"][..], &["check", "--json"]] {
        let output = scene.run(arguments).expect_code(0);
        let said = format!("{output}").to_lowercase();
        assert!(!said.contains("quagga"), "{output}");
        // Names of reps are no names of leads, and one item lists them.
        let naming: Vec<&str> = said.lines().filter(|line| line.contains("rae rep")).collect();
        assert!(naming.len() == 1 && naming[0].contains("reps in the sample"), "{output}");
        for words in ["4 of 9 sample rows make a valid lead", "4 row(s): email: ", "the first: 2, 4, 6", "id: 9"] {
            assert!(output.stdout.contains(words), "`{words}`: {output}");
        }
    }
    // Unmapped keys that the operator would miss.
    assert!(named(&scene, "mapping", "optOut").is_empty());
    scene.set("lead", "optOut", "").set("lead", "conversationId", "");
    scene.set("conversica", "require_conversation_id", "false");
    says(&scene, "mapping", "optOut", "warn", &["opted out in the CRM", "optOut ="]);
    let warnings = named(&scene, "settings", "warning");
    assert!(warnings.iter().any(|item| item["detail"].to_string().contains("`lead.conversationId` is not mapped")));
}

fn who_runs_on_the_state_is_said_and_what_waits_for_a_person(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::status(401));
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    let daemon = scene.daemon();
    scene.wait_for_status("a hold", std::time::Duration::from_secs(30), |status| !status["hold"].is_null());
    says(&scene, "state", "place", "ok", &["is there and can be read", "schema ", "3 lead(s)"]);
    says(
        &scene,
        "state",
        "company",
        "ok",
        engine.pick(&["in use by process", "run"], &["in use by 1 instance(s): ", &format!(":{}", daemon.id())]),
    );
    says(&scene, "state", "hold", "warn", &["held (first_run)", "3 leads", "conversica-sync plan"]);
    drop(daemon.kill());
    // A server needs a moment to notice that a session has gone.
    wait_until("nobody is there", std::time::Duration::from_secs(30), || {
        named(&scene, "state", "company")[0]["detail"] == "no instance sends from it at present"
    });
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    says(&scene, "state", "halt", "warn", &["halted (credentials)", "nothing is sent"]);
    let output = scene.run(&["check"]).expect_code(0);
    assert!(output.stdout.contains("a person has to decide.") && !output.stdout.contains("Ready"), "{output}");
    assert_eq!(scene.run(&["check", "--json"]).json()["ready"], false);
}

fn stamps_of_another_zone_are_worth_a_look(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.crm(&format!("alter table leads add column changed {}", engine.pick("text", "timestamp")));
    scene.set_text("source", "changed_at", "changed");
    let local = |hours: i64| (Utc::now() + TimeDelta::hours(hours)).format("%F %T").to_string();
    scene.crm(&format!("update leads set changed = '{}'", local(-2)));
    says(&scene, "time zone", "stamps", "ok", &["UTC"]);
    scene.crm(&format!("update leads set changed = '{}' where id = 2", local(9)));
    says(&scene, "time zone", "stamps", "warn", &["later than now", "[source] time_zone"]);
    scene.set_text("source", "time_zone", "Asia/Tokyo");
    says(&scene, "time zone", "stamps", "ok", &["Asia/Tokyo"]);
}

#[test]
fn settings_that_cannot_be_used_leave_everything_else_unseen() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("conversica", "usernam", "acme").set_text("source", "poll_interval", "often");
    let output = scene.run(&["check", "--json"]).expect_code(2);
    let document = output.json();
    let items = document["items"].as_array().expect("a list");
    let (failed, skipped): (Vec<&Value>, Vec<&Value>) = items.iter().partition(|item| item["state"] == "fail");
    assert!(failed.len() == 2 && failed.iter().all(|item| item["section"] == "settings"), "{output}");
    assert!(skipped.len() > 5 && skipped.iter().all(|item| item["state"] == "skipped"), "{output}");
    assert_eq!(endpoint.connections(), 0);
    let text = scene.run(&["check"]).expect_code(2);
    assert!(text.stdout.contains("did you mean") || text.stdout.contains("username"), "{text}");
    assert!(text.stdout.trim_end().ends_with("2 things to fix."), "{text}");
}

#[test]
fn secrets_are_named_with_their_layer_and_their_file_and_never_shown() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let file = scene.directory().join("password");
    std::fs::write(&file, PASSWORD).expect("the directory is writable");
    let mode = |mode: u32| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    scene.set("conversica", "password", "").set_text("conversica", "password_file", &file.display().to_string());
    mode(0o600);
    says(
        &scene,
        "secrets",
        "secret",
        "ok",
        &["conversica.password", "/password, named by conversica-sync.toml:", "mode 0600"],
    );
    assert!(named(&scene, "secrets", "permissions").is_empty());
    assert!(named(&scene, "settings", "warning").is_empty());
    mode(0o644);
    says(&scene, "settings", "warning", "warn", &["can be read by every user", "chmod 600"]);
    mode(0o606);
    says(&scene, "secrets", "permissions", "warn", &["can be changed by every user", "chmod o-w"]);
    let output =
        scene.cli().env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "Llama-secret-1").run(&["check"]).expect_code(0);
    assert!(output.stdout.contains("conversica.password is set: environment variable"), "{output}");
    assert!(!format!("{output}").contains("Llama-secret-1"), "{output}");
}

#[test]
fn a_directory_in_which_everybody_may_replace_the_configuration_is_named() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    for (mode, named_as_open) in [(0o700, false), (0o777, true), (0o1777, false)] {
        std::fs::set_permissions(scene.directory(), std::fs::Permissions::from_mode(mode)).expect("it is ours");
        if named_as_open {
            says(&scene, "settings", "permissions", "warn", &["can be changed by every user", "chmod o-w"]);
        } else {
            assert!(named(&scene, "settings", "permissions").is_empty(), "{mode:o}");
        }
    }
}

#[test]
fn a_certificate_that_ends_soon_is_worth_a_look_and_one_that_has_ended_must_be_mended() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let (certificate, key) = (scene.directory().join("receiver.crt"), scene.directory().join("receiver.key"));
    let text = |path: &std::path::Path| path.display().to_string();
    with_receiver(&mut scene);
    scene.set_text("receive", "tls_certificate", &text(&certificate)).set_text("receive", "tls_key", &text(&key));
    let valid_until = |days: i64| {
        let day = |days: i64| {
            let day = Utc::now() + TimeDelta::days(days);
            let number = |number: u32| u8::try_from(number).expect("a small number");
            rcgen::date_time_ymd(day.year(), number(day.month()), number(day.day()))
        };
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (wanted.not_before, wanted.not_after) = (day(-90), day(days));
        let pair = rcgen::KeyPair::generate().expect("a key");
        std::fs::write(&certificate, wanted.self_signed(&pair).expect("a certificate").pem()).expect("a file");
        std::fs::write(&key, pair.serialize_pem()).expect("a file");
    };
    valid_until(60);
    says(&scene, "receiver", "dates", "ok", &["is valid until", "days are left"]);
    valid_until(10);
    says(&scene, "receiver", "dates", "warn", &["9 day(s) are left", "renewed"]);
    valid_until(-3);
    says(&scene, "receiver", "dates", "fail", &["has been invalid since", "renewed"]);
    scene.run(&["check"]).expect_code(2);
    // Without an alert, no salesperson would learn of a hot lead.
    says(&scene, "alerts", "ways", "warn", &["[alerts] url"]);
    scene.set_text("alerts", "command", "true");
    says(&scene, "alerts", "ways", "ok", &["[alerts] command"]);
}

#[test]
fn a_role_that_may_more_than_read_is_worth_a_look_and_one_that_may_make_no_state_must_be_mended() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 2);
    says(&scene, "rights", "role", "warn", &["is a superuser", "grant select on"]);
    says(&scene, "clock", "source", "ok", &["agree"]);
    let role = format!("reader_{}", scene.crm("select current_database()").concat());
    scene.crm(&format!("create role {role} login; grant select, update on leads to {role}"));
    let as_reader = |store: &Store| store.url().replacen("postgres@", &format!("{role}@"), 1);
    let url = as_reader(scene.crm_store());
    scene.set_text("source", "url", &url);
    says(&scene, "rights", "role", "warn", &["may write to", "leads"]);
    scene.crm(&format!("revoke update on leads from {role}"));
    says(&scene, "rights", "role", "ok", &["read-only"]);
    let url = as_reader(scene.state_store());
    scene.set_text("state", "url", &url);
    says(&scene, "state", "place", "fail", &["may not make the schema", "create schema conversica_sync authorization"]);
    let script = format!("create schema conversica_sync authorization {role}");
    scene.state(&script);
    says(&scene, "state", "place", "ok", &["can be made"]);
    scene.run(&["once"]).expect_code(0);
    says(&scene, "state", "writable", "ok", &["it can be written"]);
    says(&scene, "clock", "state", "ok", &["agree"]);
}

#[test]
fn an_endpoint_that_is_away_is_one_thing_to_mend() {
    let scene = Scene::new(&format!("http://127.0.0.1:{}/json/", refused_port()), 1);
    says(&scene, "endpoint", "connect", "fail", &["cannot be reached", "firewall"]);
    let output = scene.run(&["check"]).expect_code(2);
    assert!(output.stdout.contains("1 thing to fix"), "{output}");
    assert!(output.stderr.contains("1 of the points above must be fixed"), "{output}");
    let refused = scene.run(&["check", "--json", "--send-test-lead"]).expect_code(2);
    assert!(refused.stderr.contains("cannot be used with"), "{refused}");
}
