//! `reconcile` on both engines: each verdict is produced for real and found, and every repair arrives in Conversica.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, on_both_engines};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};

const SOON: Duration = Duration::from_secs(20);

on_both_engines!(
    blocking:
    every_verdict_is_brought_about_and_told_with_its_evidence,
    what_no_poll_has_seen_is_found_repaired_and_then_matches,
    a_running_daemon_reads_anew_what_is_repaired_beside_it,
    an_unknown_answer_is_sent_again_at_once_when_repaired,
    a_changed_mapping_makes_every_lead_stale,
    before_the_first_pass_everybody_is_never_sent_and_no_state_is_made,
    a_baseline_is_no_difference_and_is_not_missed_when_nothing_is_heard,
);

/// Verdict → leads, without verdicts that no lead has.
fn totals(document: &Value) -> Vec<(&str, u64)> {
    let totals = document["totals"].as_object().expect("totals");
    assert_eq!(totals.len(), 14, "every verdict has its place: {document:#}");
    let totals = totals.iter().map(|(verdict, leads)| (verdict.as_str(), leads.as_u64().expect("a number")));
    totals.filter(|(_, leads)| *leads > 0).collect()
}

/// The leads that were listed, with their verdicts.
fn listed(document: &Value) -> Vec<(&str, &str)> {
    let leads = document["leads"].as_array().expect("a list");
    leads.iter().map(|lead| (lead["id"].as_str().expect("a text"), lead["verdict"].as_str().expect("a text"))).collect()
}

fn detail(document: &Value, id: &str) -> String {
    let leads = document["leads"].as_array().expect("a list");
    let lead = leads.iter().find(|lead| lead["id"] == id).unwrap_or_else(|| panic!("{id}: {document:#}"));
    lead["detail"].as_str().expect("a text").to_owned()
}

fn reconciled(scene: &Scene, arguments: &[&str], code: i32) -> Value {
    let all: Vec<&str> = ["reconcile", "--format", "json"].iter().chain(arguments).copied().collect();
    scene.run(&all).expect_code(code).json()
}

fn every_verdict_is_brought_about_and_told_with_its_evidence(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(422).body("looks odd"),
        Some("3") => Reaction::status(503).header("Retry-After", "3000"),
        Some("4") => Reaction::status(502),
        Some("5") => Reaction::AcceptThenHang,
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.add(4, 4);
    scene.add(6, 9);
    scene.crm("update leads set email = 'nobody' where id = 6");
    scene.set_text("delivery.retry", "max_elapsed", "300ms");
    scene.run(&["once"]).expect_code(3);
    scene.set("delivery.retry", "max_elapsed", "").set_text("delivery", "timeout", "1s");
    scene.set_text("delivery", "on_ambiguous", "wait");
    scene.crm("delete from leads where id = 7");
    scene.add(3, 3);
    scene.add(5, 5);
    scene.run(&["once", "--full", "--max-wait", "0s"]).expect_code(4);
    scene.hear(&[json!({"apiVersion": "7.2", "id": "8", "clientId": "", "conversationStage": "Unworkable",
        "conversationStatus": "Bounced", "conversationStageDate": "2026-05-10T05:57:44+00:00"})]);
    scene.set("safety", "approve_above", "1");
    scene.add(11, 12);
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    scene.crm("update leads set first_name = 'Somebody Else' where id = 9");
    scene.add(10, 10);

    let sent = endpoint.requests().len();
    let document = reconciled(&scene, &[], 3);
    let expected = [
        ("matched", 1),
        ("never_sent", 1),
        ("stale", 1),
        ("pending", 1),
        ("held", 2),
        ("invalid", 1),
        ("rejected", 1),
        ("exhausted", 1),
        ("ambiguous", 1),
        ("gone", 1),
        ("not_worked", 1),
    ];
    assert_eq!(totals(&document), expected);
    let expected = [
        ("2", "rejected"),
        ("3", "pending"),
        ("4", "exhausted"),
        ("5", "ambiguous"),
        ("6", "invalid"),
        ("7", "gone"),
        ("8", "not_worked"),
        ("9", "stale"),
        ("10", "never_sent"),
        ("11", "held"),
        ("12", "held"),
    ];
    assert_eq!(listed(&document), expected);
    assert!(document["generated_at"].is_string() && document["repaired"].is_null());
    for (id, words) in [
        ("2", "status 422: looks odd"),
        ("3", "status 503"),
        ("4", "status 502"),
        ("5", "ambiguous"),
        ("6", "e-mail address"),
        ("7", "no longer in the CRM; last accepted"),
        ("8", "Unworkable: Bounced"),
        ("9", "firstName differs; changed since it was last read; accepted"),
        ("10", "not read yet"),
        ("11", "too_many_changes"),
    ] {
        assert!(detail(&document, id).contains(words), "{id}: {document:#}");
    }
    let groups = document["groups"].as_array().expect("groups");
    let of = |verdict: &str| groups.iter().find(|group| group["verdict"] == verdict).expect("a group");
    assert_eq!((&of("held")["leads"], &of("held")["reason"]), (&json!(2), &json!("too_many_changes")));
    assert_eq!(of("held")["examples"], json!([{"id": "11", "client_id": ""}, {"id": "12", "client_id": ""}]));
    assert!(groups.iter().all(|group| group["cure"].as_str().is_some_and(|cure| !cure.is_empty())), "{groups:#?}");

    // Conversica has posted nothing about the lead that matched.
    let document = reconciled(&scene, &["--unconfirmed-after", "0s"], 3);
    assert!(totals(&document).contains(&("unconfirmed", 1)) && !totals(&document).iter().any(|(v, _)| *v == "matched"));
    assert!(detail(&document, "1").contains("nothing heard"));

    let text = scene.run(&["reconcile"]).expect_code(3);
    for words in [
        "12 leads; 11 need a look.",
        "What to do",
        "rejected: refused: status 422",
        "retry --status rejected",
        "1 lead: 9",
        "2 leads: 11, 12",
        "not_worked: Unworkable: Bounced",
    ] {
        assert!(text.stdout.contains(words), "{words}\n{text}");
    }
    assert_eq!(endpoint.requests().len(), sent, "looking sends nothing");
}

fn with_change_column(scene: &mut Scene) {
    scene.crm("alter table leads add column updated_at timestamp");
    scene.crm("update leads set updated_at = '2026-01-02 03:04:05'");
    scene.set_text("source", "changed_at", "updated_at").set_text("source", "lookback", "0s");
}

fn what_no_poll_has_seen_is_found_repaired_and_then_matches(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 5);
    with_change_column(&mut scene);
    scene.run(&["once"]).expect_code(0);
    let agrees = scene.run(&["reconcile"]).expect_code(0);
    assert!(agrees.stdout.contains("All 5 leads agree."), "{agrees}");
    assert!(agrees.stdout.contains("was not judged"), "nothing is received here: {agrees}");

    // A job writes rows with old stamps, so the change column shows nothing.
    scene.crm("update leads set email = 'new@example.com', updated_at = '2020-01-01 00:00:00' where id = 2");
    scene.crm("delete from leads where id = 5");
    scene.add(6, 6);
    scene.crm("update leads set updated_at = '2020-01-01 00:00:00' where id = 6");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 5, "nothing was found");
    let document = reconciled(&scene, &[], 3);
    assert_eq!(listed(&document), [("2", "stale"), ("5", "gone"), ("6", "never_sent")]);
    assert!(detail(&document, "2").starts_with("email differs"), "{document:#}");

    let repaired = scene.run(&["reconcile", "--repair"]).expect_code(3);
    assert!(repaired.stdout.contains("2 leads will be read anew"), "{repaired}");
    assert_eq!(endpoint.requests().len(), 5, "a repair sends nothing itself");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 7);
    assert_eq!(endpoint.bodies_of("2").last().expect("a body")["email"], "new@example.com");
    assert_eq!(listed(&reconciled(&scene, &[], 3)), [("5", "gone")]);
    reconciled(&scene, &["--ignore", "gone,not_worked"], 0);
    // The requested full compare has run, and does not run again.
    scene.run(&["once"]).expect_code(0);
    assert_eq!(scene.status()["last_poll"]["kind"], "incremental");
}

fn a_running_daemon_reads_anew_what_is_repaired_beside_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    with_change_column(&mut scene);
    let daemon = scene.daemon();
    scene.wait_for_status("all delivered", SOON, |status| status["leads"]["in_sync"] == 3);
    scene.crm("update leads set first_name = 'Backdated', updated_at = '2020-01-01 00:00:00' where id = 3");
    let document = reconciled(&scene, &["--repair"], 3);
    assert_eq!((listed(&document), &document["repaired"]["read_again"]), (vec![("3", "stale")], &json!(1)));
    endpoint.wait_for_requests(4, SOON);
    scene.wait_for_status("settled", SOON, |status| status["leads"]["in_sync"] == 3);
    reconciled(&scene, &[], 0);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

fn an_unknown_answer_is_sent_again_at_once_when_repaired(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1 => Reaction::AcceptThenHang,
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set_text("delivery", "timeout", "1s").set_text("delivery", "on_ambiguous", "wait");
    scene.run(&["once", "--max-wait", "0s"]);
    assert_eq!(listed(&reconciled(&scene, &[], 3)), [("1", "ambiguous")]);
    let document = reconciled(&scene, &["--repair"], 3);
    assert_eq!(document["repaired"], json!({"read_again": 0, "send_again": 1}));
    scene.run(&["once", "--max-wait", "0s"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 2);
    reconciled(&scene, &[], 0);
}

fn a_changed_mapping_makes_every_lead_stale(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    scene.set("lead", "leadSource", "{ value = \"Fair\" }");
    let document = reconciled(&scene, &[], 3);
    assert_eq!(totals(&document), [("stale", 2)]);
    assert!(detail(&document, "1").starts_with("leadSource differs"), "{document:#}");
}

fn before_the_first_pass_everybody_is_never_sent_and_no_state_is_made(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    scene.crm("update leads set email = null where id = 2");
    let document = reconciled(&scene, &["--repair"], 3);
    assert_eq!(totals(&document), [("never_sent", 2), ("invalid", 1)]);
    if engine == Engine::Sqlite {
        assert!(!scene.state_file().exists(), "looking makes nothing");
    }
    assert!(endpoint.requests().is_empty());
}

fn a_baseline_is_no_difference_and_is_not_missed_when_nothing_is_heard(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.set_text("safety", "first_run", "baseline");
    scene.run(&["once"]).expect_code(0);
    let document = reconciled(&scene, &["--unconfirmed-after", "0s"], 0);
    assert_eq!(totals(&document), [("assumed", 2)], "{document:#}");
    scene.crm("update leads set first_name = 'Other' where id = 1");
    scene.run(&["once"]).expect_code(0);
    let document = reconciled(&scene, &["--unconfirmed-after", "0s"], 3);
    let expected = [("1", "unconfirmed"), ("2", "assumed")];
    assert_eq!(listed(&document), expected, "what was sent ought to be heard of");
}

#[test]
fn a_lead_is_confirmed_by_anything_that_is_heard_of_it() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    crate::support::receiver::with_receiver(&mut scene);
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"apiVersion": "7.2", "id": "2", "clientId": "", "dateAdded": "2026-05-10T05:57:44+00:00"})]);
    let document = reconciled(&scene, &["--unconfirmed-after", "0s"], 3);
    assert_eq!(listed(&document), [("1", "unconfirmed")]);
    // The default is a week; `never` turns the verdict off.
    let week = reconciled(&scene, &[], 0);
    assert!(week["silent_since"].is_string());
    assert!(reconciled(&scene, &["--unconfirmed-after", "never"], 0)["silent_since"].is_null());
    reconciled(&scene, &["--unconfirmed-after", "36000d"], 0);
}

#[test]
fn a_list_for_a_spreadsheet_and_a_page_are_written_whole_to_a_file_of_the_owner() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(400).body("first, \"second\"\nline <script>alert(1)</script>"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("source", "client", "last_name");
    scene.crm("update leads set last_name = 'Acme <b>, Inc.'");
    scene.run(&["once"]).expect_code(3);
    let list = scene.directory().join("leads.csv");
    let list_name = list.to_str().expect("a path");
    let output = scene.run(&["reconcile", "--format", "csv", "--output", list_name]).expect_code(3);
    assert_eq!(output.stdout, "");
    let mut reader = csv::Reader::from_path(&list).expect("a file");
    assert_eq!(reader.headers().expect("a header"), vec!["id", "client_id", "verdict", "detail"]);
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0][0], &records[0][1], &records[0][2]), ("2", "Acme <b>, Inc.", "rejected"));
    assert!(records[0][3].contains("status 400: first, \"second\""), "{:?}", &records[0][3]);

    let page = scene.directory().join("report.html");
    let page_name = page.to_str().expect("a path");
    scene.run(&["reconcile", "--format", "html", "--output", page_name]).expect_code(3);
    let html = std::fs::read_to_string(&page).expect("a file");
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    for words in [
        "1 of 3 leads needs a look",
        "rejected",
        "refused: status 400",
        "Acme &#60;b&#62;, Inc.",
        "<svg",
        "rect class=\"accepted\"",
    ] {
        assert!(html.contains(words), "{words}\n{html}");
    }
    for foreign in ["<script", "http://", "https://", "src=", "url(", "example.com"] {
        assert!(!html.contains(foreign), "{foreign}\n{html}");
    }
    for file in [&list, &page] {
        assert_eq!(std::fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    let nowhere = scene.run(&["reconcile", "--output", "/nowhere/at/all.csv"]).expect_code(2);
    assert!(nowhere.stderr.contains("--output: /nowhere/at/all.csv cannot be written"), "{nowhere}");
    let all = scene.run(&["reconcile", "--ignore", "rejected", "--format", "html"]).expect_code(0);
    assert!(all.stdout.contains("All 3 leads agree"), "{all}");
}

#[test]
fn words_of_conversica_that_quote_the_test_lead_token_are_shown_without_it() {
    let endpoint = StandIn::start(|_| Reaction::status(400).body("lastName T0kenTested is odd"));
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("conversica", "test_lead_token", "T0kenTested");
    scene.run(&["once"]).expect_code(3);
    for arguments in [
        &["leads"][..],
        &["leads", "--json"],
        &["lead", "1"],
        &["reconcile", "--format", "csv"],
        &["reconcile", "--format", "json"],
        &["reconcile", "--format", "html"],
        &["reconcile"],
    ] {
        let output = scene.run(arguments);
        assert!(!output.stdout.contains("T0kenTested"), "{arguments:?}\n{output}");
    }
    let list = scene.run(&["reconcile", "--format", "csv"]).expect_code(3).stdout;
    assert!(list.contains("lastName (test lead token) is odd"), "{list}");
}
