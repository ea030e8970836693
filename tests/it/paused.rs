//! A paused instance, as on a suspended machine, does not stop the others, and does no harm when it wakes. Conversica's
//! pauses for one instance apply to all.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::binary::Running;
use crate::support::postgres::{Database, cluster};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(60);

fn pair(endpoint: &StandIn, leads: u32) -> (Scene, Scene, Database) {
    let state = cluster().database();
    let mut first = Scene::new(&endpoint.url(), leads);
    first.set_text("state", "url", &state.url);
    let mut second = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", first.directory().join("crm.db").display());
    second.set_text("source", "url", &crm).set_text("state", "url", &state.url);
    (first, second, state)
}

#[test]
fn an_instance_that_is_paused_while_it_writes_is_replaced_within_20_seconds_and_writes_nothing_old_when_it_wakes() {
    let endpoint = StandIn::accepting();
    let (first, second, state) = pair(&endpoint, 3);
    let one = first.daemon();
    first.wait_for_status("the first three", SOON, |status| status["leads"]["in_sync"] == 3);
    // When the signal stops it, its poll has begun the transaction that writes the old names.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(PgConnection::connect(&state.url)).unwrap();
    runtime.block_on(other.execute("begin; lock table conversica_sync.tombstone in access exclusive mode")).unwrap();
    first.crm("update leads set first_name = 'Old'");
    let waiting =
        "select count(*) from pg_locks where relation = 'conversica_sync.tombstone'::regclass and not granted";
    wait_until("the poll to write", SOON, || state.sql(waiting) != "0");
    one.signal(Signal::Stop);
    let stopped = Instant::now();
    runtime.block_on(other.execute("rollback")).unwrap();
    first.crm("update leads set first_name = 'New'");
    let two = second.daemon();
    wait_until("the other one to send what is new", SOON, || endpoint.requests().len() == 6);
    assert!(stopped.elapsed() < Duration::from_secs(20), "{:?}", stopped.elapsed());
    one.signal(Signal::Continue);
    let before = second.status()["last_poll"]["at"].clone();
    second.wait_for_status("polls after that", SOON, |status| status["last_poll"]["at"] != before);
    // The instance continues to work.
    two.signal(Signal::Terminate);
    two.wait(SOON).expect_code(0);
    first.crm("update leads set first_name = 'Newest'");
    first.wait_for_status("the newest", SOON, |status| status["outcomes"]["accepted"] == 9);
    let names: Vec<String> = endpoint.requests().iter().map(|r| r.request.json()["firstName"].to_string()).collect();
    assert!(!names.iter().any(|name| name.contains("Old")), "{names:?}");
    assert_eq!(names[3..], [["\"New\""; 3], ["\"Newest\""; 3]].concat());
    one.signal(Signal::Terminate);
    one.wait(SOON).expect_code(0);
}

#[test]
fn a_turn_ends_with_the_process_that_has_it() {
    let endpoint = StandIn::accepting();
    let (first, second, state) = pair(&endpoint, 3);
    let one = first.daemon();
    first.wait_for_status("the first three", SOON, |status| status["leads"]["in_sync"] == 3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(PgConnection::connect(&state.url)).unwrap();
    runtime.block_on(other.execute("begin; lock table conversica_sync.tombstone in access exclusive mode")).unwrap();
    first.crm("update leads set first_name = 'New'");
    let waiting =
        "select count(*) from pg_locks where relation = 'conversica_sync.tombstone'::regclass and not granted";
    wait_until("the poll to write", SOON, || state.sql(waiting) != "0");
    let holder = state.sql("select holder from conversica_sync.turn where name = 'poll'");
    drop(one.kill());
    runtime.block_on(other.execute("rollback")).unwrap();
    let mut once = second.cli().spawn(&["once"]);
    // The lease of the killed process never ends: only the end of its process gives the turn to another process.
    let renew = format!(
        "update conversica_sync.turn set expires_at = clock_timestamp() + interval '10 seconds' where holder = '{holder}'"
    );
    wait_until("a pass of another process", SOON, || {
        state.sql(&renew);
        once.is_over()
    });
    once.wait(SOON).expect_code(0);
    assert_eq!(endpoint.requests().len(), 6);
}

#[test]
fn an_instance_that_is_refused_the_turn_for_long_says_so() {
    let endpoint = StandIn::accepting();
    let (first, second, state) = pair(&endpoint, 3);
    let (mut one, mut two) = (first.daemon(), second.daemon());
    one.wait_for_line("instances share this state", SOON);
    two.wait_for_line("instances share this state", SOON);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(PgConnection::connect(&state.url)).unwrap();
    runtime.block_on(other.execute("begin; lock table conversica_sync.tombstone in access exclusive mode")).unwrap();
    first.crm("update leads set first_name = 'New'");
    let said = "another instance has had the turn to poll for three intervals";
    let (warning, holder) = wait_for("one of them to warn", SOON, || {
        let of = |daemon: &Running, other: &Running| {
            let logs = [daemon.stderr(), daemon.stdout()];
            let line = logs.iter().flat_map(|log| log.lines()).find(|line| line.contains(said))?;
            Some((line.to_owned(), other.id()))
        };
        of(&one, &two).or_else(|| of(&two, &one))
    });
    runtime.block_on(other.execute("rollback")).unwrap();
    first.wait_for_status("the changes", SOON, |status| status["outcomes"]["accepted"] == 6);
    // It names the other one as `status` does.
    let warning: Value = serde_json::from_str(&warning).expect("a line of the log");
    let status = first.status();
    let mut names = status["instances"].as_array().expect("a list").iter().map(|one| &one["name"]);
    let name = names.find(|name| name.as_str().is_some_and(|name| name.ends_with(&format!(":{holder}"))));
    assert_eq!(Some(&warning["holder"]), name, "{warning}");
    drop(one.kill());
    drop(two.kill());
}

#[test]
fn a_pause_that_conversica_asks_of_one_instance_holds_for_all() {
    let asked: &'static Mutex<Option<Instant>> = Box::leak(Box::default());
    let armed: &'static Mutex<bool> = Box::leak(Box::default());
    let endpoint = StandIn::start(move |_| {
        if std::mem::take(&mut *armed.lock().unwrap()) {
            *asked.lock().unwrap() = Some(Instant::now());
            return Reaction::status(429).header("Retry-After", "4");
        }
        Reaction::accept().after(Duration::from_millis(20))
    });
    let (mut first, mut second, _state) = pair(&endpoint, 0);
    for scene in [&mut first, &mut second] {
        scene.set("delivery", "requests_per_second", "60").set("delivery", "concurrency", "4");
    }
    let (mut one, mut two) = (first.daemon(), second.daemon());
    one.wait_for_line("instances share this state", SOON);
    two.wait_for_line("instances share this state", SOON);
    first.add(1, 600);
    endpoint.wait_for_requests(60, SOON);
    *armed.lock().unwrap() = true;
    wait_until("Conversica to ask for a pause", SOON, || asked.lock().unwrap().is_some());
    let asked_at = asked.lock().unwrap().unwrap();
    let resumed = || endpoint.requests().iter().any(|r| r.request.arrived_at > asked_at + Duration::from_millis(3900));
    wait_until("the pause to be over", SOON, resumed);
    let within: Vec<Duration> = endpoint
        .requests()
        .iter()
        .map(|received| received.request.arrived_at.saturating_duration_since(asked_at))
        .filter(|after| *after > Duration::from_millis(500) && *after < Duration::from_millis(3900))
        .collect();
    assert!(within.is_empty(), "{within:?}");
    drop(one.kill());
    drop(two.kill());
}
