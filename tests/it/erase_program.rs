//! A person is erased beside the real program: no poll, no command and no restart contacts them again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;
use conversica_sync::conversica::post::PostKind;

blocking_on_both_engines!(
    who_was_erased_is_never_sent_again_whatever_is_done,
    beside_a_daemon_conversica_is_told_to_stop_first,
    with_triggers_a_change_of_their_row_sends_nothing,
    an_erasure_needs_a_word_and_says_what_it_deletes,
    who_is_allowed_back_is_sent_as_somebody_new,
);

const SOON: Duration = Duration::from_secs(30);

#[track_caller]
fn erase(scene: &Scene, id: &str) {
    let output = scene.run(&["lead", id, "--erase", "--conversica-told", "--yes"]).expect_code(0);
    assert!(output.stdout.contains("Erased:") && output.stdout.contains("never written to again"), "{output}");
}

fn who_was_erased_is_never_sent_again_whatever_is_done(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(422).body("no"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    scene.run(&["once"]).expect_code(3);
    // One lead is known, one was rejected, one was never read.
    for id in ["1", "2", "5"] {
        erase(&scene, id);
    }
    scene.add(5, 6);
    let sent = |id: &str| endpoint.bodies_of(id).len();
    let nobody_was_sent = |what: &str| assert_eq!((sent("1"), sent("2"), sent("5")), (1, 1, 0), "{what}");
    scene.crm("update leads set last_name = 'Baker'");
    for arguments in [&["once"][..], &["once", "--full"], &["retry", "--all"], &["approve", "--yes"], &["once"]] {
        scene.run(arguments).expect_code(0);
        nobody_was_sent(&arguments.join(" "));
    }
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(
        (&plan["erased"], &plan["create"], &plan["unchanged"], &plan["leads"]),
        (&json!(3), &json!(0), &json!(3), &json!([]))
    );
    assert!(scene.run(&["plan"]).stdout.contains("3  erased: never written to again"));
    let report = scene.run(&["reconcile", "--format", "json", "--repair"]).expect_code(0).json();
    assert_eq!((&report["erased"], &report["totals"]["matched"], &report["leads"]), (&json!(3), &json!(3), &json!([])));
    assert!(scene.run(&["reconcile"]).expect_code(0).stdout.contains("(erased)"));
    scene.run(&["once"]).expect_code(0);
    nobody_was_sent("reconcile --repair");
    // A changed mapping sends all leads again, and the hold covers all of them.
    scene.set("lead", "leadStatus", "{ value = \"New\" }").set("safety", "approve_above", "1");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    nobody_was_sent("a changed mapping");
    assert_eq!(sent("3"), 3, "others are sent as ever");
    let told = scene.run(&["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!((&told["status"], told["erased_at"].is_string()), (&json!("erased"), true), "{told}");
    assert!(scene.run(&["lead", "1"]).expect_code(0).stdout.contains("erased on"));
    assert!(scene.run(&["leads", "--json"]).json().to_string().find("\"1\"").is_none());
    // A new daemon.
    let daemon = scene.daemon();
    scene.crm("update leads set last_name = 'Carter'");
    settled_others(&scene, &endpoint, "3", 4);
    daemon.kill();
    nobody_was_sent("a daemon");
}

#[track_caller]
fn settled_others(scene: &Scene, endpoint: &StandIn, id: &str, requests: usize) {
    scene.run(&["approve", "--yes"]);
    wait_until("the others are sent", SOON, || {
        scene.run(&["approve", "--yes"]);
        endpoint.bodies_of(id).len() == requests
    });
}

fn beside_a_daemon_conversica_is_told_to_stop_first(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    let refused = scene.run(&["lead", "1", "--erase", "--yes"]).expect_code(2);
    assert!(refused.stderr.contains("--stop-first") && refused.stderr.contains("--conversica-told"), "{refused}");
    scene.crm("update leads set last_name = 'Baker' where id = 1");
    scene.run(&["lead", "1", "--erase", "--stop-first", "--yes"]).expect_code(0);
    scene.crm("update leads set last_name = 'Carter'");
    wait_until("the other one is sent", SOON, || endpoint.bodies_of("2").len() == 2);
    daemon.kill();
    let bodies = endpoint.bodies_of("1");
    assert_eq!(bodies.last().unwrap()["stopMessaging"], true, "{bodies:?}");
    assert!(bodies.iter().all(|body| body["lastName"] != "Carter"), "{bodies:?}");
    assert_eq!(scene.state("select id from lead"), ["2"]);
    assert_eq!(scene.state("select id from outcome group by id"), ["2"]);
}

fn with_triggers_a_change_of_their_row_sends_nothing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = crate::triggers::scene(engine, &endpoint, 3);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    erase(&scene, "1");
    scene.crm("update leads set last_name = 'Baker'");
    wait_until("the others are sent", SOON, || {
        endpoint.bodies_of("3").len() == 2 && endpoint.bodies_of("2").len() == 2
    });
    scene.crm("delete from leads where id = 1");
    scene.add(1, 1);
    scene.crm("update leads set last_name = 'Carter' where id = 2");
    wait_until("the others are sent", SOON, || endpoint.bodies_of("2").len() == 3);
    daemon.kill();
    assert_eq!(endpoint.bodies_of("1").len(), 1);
}

fn an_erasure_needs_a_word_and_says_what_it_deletes(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    assert!(scene.run(&["lead", "1", "--erase", "--yes"]).expect_code(2).stderr.contains("no state yet"));
    scene.run(&["once"]).expect_code(0);
    scene.post(PostKind::LeadUpdate, &[json!({"id": "1", "hotLead": true})]);
    let asked = scene.run(&["lead", "1", "--erase", "--conversica-told"]).expect_code(2);
    for words in ["1  posts of Conversica", "1  attempts to send", "--yes", "never written to again"] {
        assert!(asked.stderr.contains(words), "{words}: {asked}");
    }
    assert_eq!(scene.run(&["lead", "1", "--json"]).json()["status"], "in_sync", "nothing was done");
    for wrong in [
        &["lead", "1", "--stop-first"][..],
        &["lead", "1", "--erase", "--stop-first", "--conversica-told"],
        &["lead", "1", "--erase", "--allow"],
        &["lead", "1", "--output", "x"],
    ] {
        scene.run(wrong).expect_code(2);
    }
    assert!(scene.run(&["lead", "1", "--allow", "--yes"]).expect_code(2).stderr.contains("was not erased"));
    // No daemon runs: the state has the stop, and the report says that it has not arrived.
    erase(&scene, "1");
    assert_eq!(scene.state("select name from received_count where name = 'erased'"), Vec::<String>::new());
    let nothing = scene.run(&["lead", "1", "--export"]).expect_code(0).json();
    assert_eq!(nothing["status"], "erased");
}

fn who_is_allowed_back_is_sent_as_somebody_new(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.set_text("source", "full_compare_interval", "24h");
    scene.run(&["once"]).expect_code(0);
    erase(&scene, "1");
    scene.run(&["once", "--full"]).expect_code(0);
    assert!(scene.run(&["lead", "1", "--allow"]).expect_code(2).stderr.contains("was erased on"));
    scene.run(&["lead", "1", "--allow", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    let bodies: Vec<Value> = endpoint.bodies_of("1");
    assert_eq!(bodies.len(), 2);
    let told = scene.run(&["lead", "1", "--json"]).json();
    assert_eq!((&told["status"], told["outcomes"].as_array().map(Vec::len)), (&json!("in_sync"), Some(1)), "{told}");
    let actions = scene.state("select action from decision order by seq");
    assert_eq!(actions, ["erase", "allow"]);
}
