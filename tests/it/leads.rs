//! `leads` and `lead`: each status is produced for real, and found again with its reason while a daemon runs, on a state
//! in SQLite and in PostgreSQL.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{desired, held, id, invalid, write};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::conversica::lead::LeadId;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::store::listing::{self, ListingCounts, ListingPages, PAGE};

const SOON: Duration = Duration::from_secs(20);

fn state_on(scene: &mut Scene, engine: Engine) {
    if engine == Engine::Postgres {
        scene.set_text("state", "url", &cluster().database().url);
    }
}

fn ids(document: &Value) -> Vec<(&str, &str)> {
    let leads = document["leads"].as_array().expect("a list");
    leads.iter().map(|lead| (lead["status"].as_str().expect("text"), lead["id"].as_str().expect("text"))).collect()
}

fn every_status_is_listed_with_its_reason(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(422).body("the email \u{1b}[31mlooks odd"),
        Some("3") => Reaction::status(500).header("Retry-After", "3000").body("try later"),
        Some("5") => Reaction::status(502),
        Some("7") => Reaction::AcceptThenHang,
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 2);
    state_on(&mut scene, engine);
    scene.run(&["leads"]).expect_code(0);
    assert_eq!(scene.run(&["leads", "--json"]).expect_code(0).json(), json!({"leads": [], "total": 0}));
    let output = scene.run(&["lead", "2"]).expect_code(2);
    assert!(output.stderr.contains("no state yet") && output.stderr.contains("plan"), "{output}");

    scene.add(4, 6);
    scene.crm("update leads set email = 'nobody' where id = 4");
    scene.set_text("delivery.retry", "max_elapsed", "300ms");
    scene.run(&["once"]).expect_code(3);
    scene.crm("delete from leads where id = 6");
    scene.add(3, 3);
    scene.set("delivery.retry", "max_elapsed", "");
    scene.run(&["once", "--full", "--max-wait", "0s"]).expect_code(4);
    // Lead 7 takes the only slot, 10 waits behind it, and 8 and 9 together need approval.
    scene.add(7, 7);
    scene
        .set("delivery", "concurrency", "1")
        .set("safety", "approve_above", "1")
        .set_text("delivery", "timeout", "60s");
    let daemon = scene.daemon();
    scene.wait_for_status("7 in flight", SOON, |status| status["leads"]["in_flight"] == 1);
    scene.add(10, 10);
    scene.wait_for_status("10 waits", SOON, |status| status["leads"]["pending"] == 1);
    scene.add(8, 9);
    scene.wait_for_status("two held", SOON, |status| status["leads"]["held"] == 2);

    let document = scene.run(&["leads", "--json"]).expect_code(0).json();
    let expected = [
        ("pending", "10"),
        ("in_flight", "7"),
        ("retrying", "3"),
        ("held", "8"),
        ("held", "9"),
        ("invalid", "4"),
        ("rejected", "2"),
        ("exhausted", "5"),
    ];
    assert_eq!((ids(&document), &document["total"]), (expected.to_vec(), &json!(8)));
    let entry = |id: &str| {
        let leads = document["leads"].as_array().expect("a list");
        leads.iter().find(|lead| lead["id"] == id).unwrap_or_else(|| panic!("{id}: {document:#}"))
    };
    assert_eq!((&entry("8")["hold_reason"], &entry("8")["client_id"]), (&json!("too_many_changes"), &json!("")));
    assert!(entry("4")["invalid_reasons"][0].as_str().is_some_and(|reason| reason.contains("e-mail address")));
    let outcome = &entry("2")["last_outcome"];
    assert_eq!((&outcome["class"], &outcome["http_status"]), (&json!("rejected"), &json!(422)));
    assert!(outcome["detail"].as_str().is_some_and(|detail| detail.contains("looks odd")), "{outcome}");
    assert!(outcome["at"].is_string() && entry("3")["due_at"].is_string() && entry("2")["due_at"].is_null());
    assert_eq!((&entry("3")["attempts"], &entry("10")["last_outcome"]), (&json!(1), &Value::Null));

    let text = scene.run(&["leads"]).expect_code(0).stdout;
    for words in ["pending", "422: the email", "500: try later; tried again at", "too_many_changes", "502", "lead ID"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("client") && !text.contains(" more "), "{text}");
    let text = scene.run(&["leads", "--limit", "3"]).expect_code(0).stdout;
    assert!(text.contains("… and 5 more") && !text.contains("held"), "{text}");
    let few = scene.run(&["leads", "--limit", "3", "--json"]).expect_code(0).json();
    assert_eq!((ids(&few), &few["total"]), (expected[..3].to_vec(), &json!(8)));

    let listed = |arguments: &[&str]| {
        let document = scene.run(&[&["leads", "--json"], arguments].concat()).expect_code(0).json();
        assert_eq!(document["total"], document["leads"].as_array().expect("a list").len());
        ids(&document).iter().map(|(_, id)| id.parse().expect("a number")).collect::<Vec<u32>>()
    };
    assert_eq!(listed(&["--status", "in_sync"]), [1]);
    assert_eq!(listed(&["--status", "gone", "--status", "held"]), [8, 9, 6]);
    assert_eq!(listed(&["--reason", "TOO_MANY"]), [8, 9]);
    assert_eq!(listed(&["--reason", "E-Mail ADDRESS"]), [4]);
    assert_eq!(listed(&["--reason", "column \"email\""]), [4]);
    assert_eq!(listed(&["--reason", "422"]), [2]);
    assert_eq!(listed(&["--reason", "transient"]), [3, 5]);
    assert_eq!(listed(&["--reason", "looks_odd"]), [0; 0]);
    assert_eq!(listed(&["--reason", "looks odd", "--status", "exhausted"]), [0; 0]);
    let output = scene.run(&["leads", "--reason", "nothing like it"]).expect_code(0);
    assert!(output.stdout.contains("No lead matches"), "{output}");
    assert!(scene.run(&["leads", "--status", "lost"]).expect_code(2).stderr.contains("in_flight"));

    for (id, words) in [
        ("1", &["in_sync", "should hold, and holds", "\"Ann1\"", "accepted, status 200"][..]),
        ("2", &["rejected", "Conversica refused", "422", "looks odd", "retry ID"]),
        ("3", &["retrying", "tried again at", "transient, status 500", "try later"]),
        ("4", &["invalid", "shaped like an e-mail address", "fix the row", "none was sent before"]),
        ("5", &["exhausted", "attempt 2", "502", "retry"]),
        ("6", &["gone", "no longer in the source", "missing from the source"]),
        ("7", &["in_flight", "accepted nothing yet"]),
        ("8", &["held", "too_many_changes", "approve"]),
        ("10", &["pending", "to be sent now"]),
    ] {
        let output = scene.run(&["lead", id]).expect_code(0);
        for word in words {
            assert!(output.stdout.contains(word), "{id}, {word}: {output}");
        }
        assert!(!output.stdout.contains('\u{1b}'), "{output}");
    }
    daemon.signal(Signal::Kill);
}

#[test]
fn every_status_is_listed_with_its_reason_on_sqlite() {
    every_status_is_listed_with_its_reason(Engine::Sqlite);
}

#[test]
fn every_status_is_listed_with_its_reason_on_postgres() {
    every_status_is_listed_with_its_reason(Engine::Postgres);
}

fn a_lead_tells_its_story_from_the_first_try_on(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1 => Reaction::status(503).body("busy"),
        2 => Reaction::accept(),
        _ => Reaction::status(400).body("no such conversation"),
    });
    let mut scene = Scene::new(&endpoint.url(), 1);
    state_on(&mut scene, engine);
    scene.run(&["once"]).expect_code(0);
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!((&told["id"], &told["client_id"], &told["status"]), (&json!("1"), &json!(""), &json!("in_sync")));
    assert_eq!((&told["desired"]["firstName"], &told["delivered"]), (&json!("Ann1"), &told["desired"]));
    assert_eq!((&told["due_at"], &told["heard"], &told["messages"]), (&Value::Null, &json!([]), &json!([])));
    assert_eq!(told["conversation"], json!({}));
    let outcome = |told: &Value, at: usize, key: &str| told["outcomes"][at][key].clone();
    assert_eq!((outcome(&told, 0, "class"), outcome(&told, 0, "http_status")), (json!("transient"), json!(503)));
    assert_eq!((outcome(&told, 0, "detail"), outcome(&told, 0, "attempt")), (json!("busy"), json!(1)));
    assert_eq!((outcome(&told, 1, "class"), outcome(&told, 1, "attempt")), (json!("accepted"), json!(2)));
    assert!(outcome(&told, 1, "duration_ms").is_u64());
    assert!(chrono::DateTime::parse_from_rfc3339(outcome(&told, 0, "at").as_str().expect("text")).is_ok());

    scene.crm("update leads set first_name = 'Zoe', last_name = null where id = 1");
    scene.run(&["once"]).expect_code(3);
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!((&told["status"], &told["desired"]["firstName"]), (&json!("rejected"), &json!("Zoe")));
    assert_eq!((&told["delivered"]["firstName"], &told["delivered_is_certain"]), (&json!("Ann1"), &json!(true)));
    let text = scene.run(&["lead", "1"]).expect_code(0).stdout;
    for words in [
        "accepted last → what it should hold",
        "\"Ann1\" → \"Zoe\"",
        "\"Bell\" → (none)",
        "no such conversation",
        "transient, status 503",
        "first took it",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(!text.contains("\"Website\" →"), "what is equal is not flagged:\n{text}");
    assert!(text.find("503") < text.find("accepted, status 200"), "in time order:\n{text}");

    scene.crm("update leads set email = '' where id = 1");
    scene.run(&["once"]).expect_code(3);
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!((&told["status"], &told["desired"]), (&json!("invalid"), &Value::Null));
    assert!(told["invalid_reasons"][0].as_str().is_some_and(|reason| reason.starts_with("email")));

    let output = scene.run(&["lead", "77"]).expect_code(2);
    assert!(output.stderr.contains("77") && output.stderr.contains("plan") && output.stdout.is_empty(), "{output}");
}

#[test]
fn a_lead_tells_its_story_from_the_first_try_on_with_sqlite() {
    a_lead_tells_its_story_from_the_first_try_on(Engine::Sqlite);
}

#[test]
fn a_lead_tells_its_story_from_the_first_try_on_with_postgres() {
    a_lead_tells_its_story_from_the_first_try_on(Engine::Postgres);
}

#[test]
fn an_id_of_several_clients_has_to_be_told_apart_and_acts_on_no_terminal() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene.crm(
        "create table leads (id text, dealer text, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    scene.crm(
        "insert into leads select i, d, 'Ann', 'Bell', 'ann@example.com', 'Rae', 0 from \
         (select 'x' as i union all select char(27) || '[2J'), (select 'north' as d union all select null)",
    );
    scene.set_text("source", "client", "dealer");
    scene.run(&["once"]).expect_code(3);
    let output = scene.run(&["lead", "x"]).expect_code(2);
    assert!(output.stderr.contains("'' (none), north") && output.stderr.contains("--client"), "{output}");
    for (client, status) in [("north", "in_sync"), ("", "in_sync")] {
        let told = scene.run(&["lead", "x", "--client", client, "--json"]).expect_code(0).json();
        assert_eq!((&told["client_id"], &told["status"]), (&json!(client), &json!(status)));
    }
    let output = scene.run(&["lead", "x", "--client", "south"]).expect_code(2);
    assert!(output.stderr.contains("south") && output.stderr.contains("north"), "{output}");
    let text = scene.run(&["leads"]).expect_code(0).stdout;
    assert!(text.contains("client") && text.contains("north"), "{text}");
    assert!(text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
    let story = scene.run(&["lead", "\u{1b}[2J", "--client", "north"]).expect_code(0).stdout;
    assert!(story.contains("\\u{1b}[2J (client north)") && !story.contains('\u{1b}'), "{story}");
    let plan = scene.run(&["plan"]).expect_code(3).stdout;
    assert!(plan.contains("\\u{1b}[2J") && !plan.contains('\u{1b}'), "{plan}");
}

on_both_engines!(both_ways_of_paging_list_the_same_leads);

async fn both_ways_of_paging_list_the_same_leads(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let number = 2 * PAGE + 345;
    let changes: Vec<LeadChange> = (0..number).map(|n| held(&format!("{n:05}"), "x")).collect();
    for part in changes.chunks(2000) {
        write(&db, part, 0).await;
    }
    write(&db, &[desired("00001b", "x"), invalid("00002b", "email: 100% \"odd\"")], 0).await;
    let mut found = Vec::new();
    // The query sorts few leads, and walks over nearly all.
    for all in [i64::MAX, number] {
        let mut pages =
            ListingPages::new(&db, LeadStatus::Held, None, ListingCounts { of_status: number, all, wanted: number });
        let mut leads: Vec<LeadId> = Vec::new();
        loop {
            let page = pages.next(i64::MAX).await.unwrap();
            if page.is_empty() {
                break;
            }
            leads.extend(page.into_iter().map(|listed| listed.lead));
        }
        found.push(leads);
    }
    let expected: Vec<LeadId> = changes.into_iter().map(|change| change.lead).collect();
    assert!(found[0] == expected && found[1] == expected, "{} and {}", found[0].len(), found[1].len());
    assert_eq!(listing::count(&db, LeadStatus::Held, "many").await.unwrap(), number);
    for (reason, matches) in [("100% \"ODD\"", 1), ("100_", 0), ("%", 1), ("!", 0)] {
        assert_eq!(listing::count(&db, LeadStatus::Invalid, reason).await.unwrap(), matches, "{reason}");
    }
    let mut pages = ListingPages::new(
        &db,
        LeadStatus::Invalid,
        Some("odd"),
        ListingCounts { of_status: 1, all: number, wanted: 10 },
    );
    let page = pages.next(10).await.unwrap();
    assert_eq!((page.len(), &page[0].lead, page[0].invalid_reasons.len()), (1, &id("00002b"), 1));
    assert!(pages.next(10).await.unwrap().is_empty());
}
