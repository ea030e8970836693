//! `status`, the dashboard and the metrics name the processes that may send from the state.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use conversica_sync::store::instance::{self, InstanceId};
use conversica_sync::store::writer;

use crate::instance::pair;
use crate::support::binary::Running;
use crate::support::engine::Engine;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::{wait_for, wait_until};
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(60);

fn listed(status: &Value) -> &[Value] {
    status["instances"].as_array().expect("a list")
}

/// The names end with the numbers of these processes, in this order.
fn are(status: &Value, processes: &[&Running]) -> bool {
    let ends: Vec<String> = processes.iter().map(|running| format!(":{}", running.id())).collect();
    let names: Vec<&str> = listed(status).iter().map(|one| one["name"].as_str().expect("a name")).collect();
    names.len() == ends.len() && names.iter().zip(&ends).all(|(name, end)| name.ends_with(end))
}

fn time(instance: &Value, key: &str) -> DateTime<Utc> {
    instance[key].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key}: {instance}"))
}

#[test]
fn instances_on_postgres_are_listed_while_they_run_and_one_of_them_polls() {
    let endpoint = StandIn::accepting();
    let (first, second, state) = pair(&endpoint, 3);
    let one = first.daemon();
    first.wait_for_status("the first", SOON, |status| are(status, &[&one]));
    let two = second.daemon();
    first.wait_for_status("both, and one that polls", SOON, |status| {
        are(status, &[&one, &two]) && listed(status).iter().filter(|one| one["polls"] == true).count() == 1
    });
    let before = first.status();
    for instance in listed(&before) {
        assert!(time(instance, "since") <= time(instance, "last_seen"), "{instance}");
    }
    let text = first.run(&["status"]).stdout;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Instance ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines.iter().filter(|line| line.ends_with("; it polls")).count(), 1, "{text}");
    // As after a crash of the server, which empties the table.
    state.sql("truncate conversica_sync.instance");
    first.wait_for_status("both again", SOON, |status| are(status, &[&one, &two]));
    for (was, is) in listed(&before).iter().zip(listed(&first.status())) {
        assert_eq!((&was["name"], &was["since"]), (&is["name"], &is["since"]));
        assert!(time(was, "last_seen") < time(is, "last_seen"));
    }
    one.signal(Signal::Terminate);
    one.wait(SOON).expect_code(0);
    assert!(are(&first.status(), &[&two]), "it has taken itself off the list");
    assert_eq!(state.sql("select count(*) from conversica_sync.instance"), "1");
    drop(two.kill());
    first.wait_for_status("none", SOON, |status| are(status, &[]));
    state.sql("update conversica_sync.instance set last_seen = last_seen - 25 * 3600 * 1000000::bigint");
    first.run(&["once"]).expect_code(0);
    assert_eq!(state.sql("select count(*) from conversica_sync.instance"), "1", "`once` has taken itself off");
    let three = first.daemon();
    first.wait_for_status("the third", SOON, |status| are(status, &[&three]));
    wait_until("the row of the killed one to go", SOON, || {
        state.sql("select count(*) from conversica_sync.instance") == "1"
    });
    drop(three.kill());
}

#[test]
fn an_instance_that_stands_still_is_left_out_after_a_minute_and_is_back_when_it_goes_on() {
    let endpoint = StandIn::accepting();
    let (first, _second, state) = pair(&endpoint, 0);
    let one = first.daemon();
    first.wait_for_status("it", SOON, |status| are(status, &[&one]));
    one.signal(Signal::Stop);
    assert!(are(&first.status(), &[&one]));
    // A minute passes.
    state.sql("update conversica_sync.instance set last_seen = last_seen - 60000000");
    assert!(are(&first.status(), &[]));
    one.signal(Signal::Continue);
    first.wait_for_status("it again", SOON, |status| are(status, &[&one]));
    drop(one.kill());
}

#[test]
fn an_sqlite_state_has_one_instance_while_the_daemon_runs() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 2);
    assert!(are(&scene.status(), &[]), "there is no state yet");
    scene.run(&["once"]).expect_code(0);
    assert!(are(&scene.status(), &[]));
    let began = Utc::now() - Duration::from_secs(1);
    let one = scene.daemon();
    scene.wait_for_status("it", SOON, |status| are(status, &[&one]));
    let status = scene.status();
    let [instance] = listed(&status) else { panic!("{status:#}") };
    assert_eq!(instance["polls"], true);
    assert!(time(instance, "since") >= began && time(instance, "since") <= time(instance, "last_seen"), "{instance}");
    assert!(!scene.run(&["status"]).stdout.contains("Instance"));
    assert_eq!(scene.state("select cast(count(*) as text) from instance"), ["0"]);
    one.signal(Signal::Terminate);
    one.wait(SOON).expect_code(0);
    assert!(are(&scene.status(), &[]));
    let two = scene.daemon();
    scene.wait_for_status("another", SOON, |status| are(status, &[&two]));
    drop(two.kill());
    assert!(are(&scene.status(), &[]), "its lock has gone with it");
}

fn sample_of(watched: &Watched) -> String {
    wait_for("the sample of the instance", SOON, || {
        let is_it = |name: &String| name.starts_with("conversica_sync_instance_last_seen_seconds{name=");
        watched.metrics().into_keys().find(is_it)
    })
}

#[test]
fn dashboard_and_metrics_name_the_instances() {
    let endpoint = StandIn::accepting();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let scene = Scene::with_state_on(engine, &endpoint.url(), 1);
        let watched = Watched::start(&scene);
        let sample = sample_of(&watched);
        assert!(sample.ends_with(&format!(":{}\"}}", watched.daemon.id())), "{sample}");
        let name = sample.split('"').nth(1).expect("a name");
        let page = wait_for("the overview", SOON, || {
            let page = watched.get("/");
            (page.status == 200).then_some(page.body)
        });
        assert_eq!(page.contains("id=\"instances\""), engine == Engine::Postgres);
        assert_eq!(page.contains(&format!("<code>{name}</code>")), engine == Engine::Postgres);
        watched.end();
    }
}

#[tokio::test]
async fn two_instances_of_one_name_are_told_apart_and_the_name_of_one_that_ended_is_free() {
    let place = Engine::Postgres.place();
    let state = place.state().await;
    let names = async || {
        let listed = instance::list(&state, Utc::now()).await.unwrap();
        listed.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    let (mut one, _) = writer::acquire(&state, InstanceId::default(), "a").await.unwrap();
    let plain = names().await;
    assert!(plain[0].ends_with(&format!(":{}", std::process::id())), "{plain:?}");
    let (two, _) = writer::acquire(&state, InstanceId::default(), "a").await.unwrap();
    assert_eq!(names().await, [plain[0].clone(), format!("{}#2", plain[0])]);
    one.leave().await;
    assert_eq!(names().await, [format!("{}#2", plain[0])]);
    // Its session ends, and its row stays.
    drop((one, two));
    crate::support::wait::wait_until_async("the sessions to end", SOON, async || names().await.is_empty()).await;
    let (mut three, _) = writer::acquire(&state, InstanceId::default(), "a").await.unwrap();
    assert_eq!(names().await, plain);
    three.leave().await;
}
