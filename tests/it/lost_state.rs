//! An SQLite state whose file is removed or replaced under a running program: it sends nothing, acknowledges nothing, says so,
//! and stays up, because a restart would begin with an empty state.

use std::time::{Duration, Instant};

use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const UPDATE: &str = "{\"id\":\"1\",\"conversationStatus\":\"Messaging\"}";
const LOST: &str = "the state cannot be written; nothing is sent until it can";

fn renamed(scene: &Scene, from: &str, to: &str) {
    std::fs::rename(scene.directory().join(from), scene.directory().join(to)).expect("a file to move");
}

/// Two seconds are two polls and twenty looks for what is due.
fn sends_nothing_more(endpoint: &StandIn, sent: usize) {
    let began = Instant::now();
    wait_until("two seconds without a request", SOON, || {
        assert_eq!(endpoint.requests().len(), sent, "nothing is sent");
        began.elapsed() >= Duration::from_secs(2)
    });
}

fn status_of(scene: &Scene) -> serde_json::Value {
    scene.run(&["status", "--json"]).expect_code(4).json()
}

#[test]
fn with_its_state_removed_the_daemon_sends_and_acknowledges_nothing_and_goes_on_when_the_file_is_back() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    with_receiver(&mut scene);
    let mut receiver = Receiver::start(&scene);
    settled(&scene, &[&endpoint], SOON);
    renamed(&scene, "state.db", "away.db");
    assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 500, "at once");
    let line = receiver.daemon.wait_for_line(LOST, SOON);
    assert!(line.contains("was removed") && line.contains("restored"), "{line}");
    scene.crm("update leads set last_name = 'Newer'");
    sends_nothing_more(&endpoint, 3);
    let status = status_of(&scene);
    let detail = status["state_lost"]["detail"].as_str().expect("the loss is told");
    assert!(detail.contains("removed") && detail.contains(&receiver.daemon.id().to_string()), "{detail}");
    for command in [["plan"].as_slice(), &["approve", "--yes"], &["once"], &["leads"]] {
        let refused = scene.run(command).expect_code(2);
        assert!(refused.stderr.contains(&receiver.daemon.id().to_string()), "it names the process: {refused}");
    }
    assert!(!scene.state_file().exists(), "no command makes a new one: {:?}", scene.files());
    assert!(!receiver.daemon.is_over(), "it stays up");
    renamed(&scene, "away.db", "state.db");
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.requests().len(), 6);
    assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 200);
    drop(receiver);
}

#[test]
fn with_its_state_replaced_the_daemon_is_not_ready_and_healthy_and_sends_nothing() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let watched = Watched::start(&scene);
    settled(&scene, &[&endpoint], SOON);
    scene.run(&["backup", &scene.directory().join("backup.db").display().to_string()]).expect_code(0);
    renamed(&scene, "backup.db", "state.db");
    let reasons = watched.wait_until_not_ready("state");
    assert!(reasons.to_string().contains("another file has taken the place"), "{reasons}");
    assert_eq!(watched.get("/healthz").status, 200, "a restart is not asked for");
    scene.crm("update leads set last_name = 'Newer'");
    sends_nothing_more(&endpoint, 3);
    assert!(status_of(&scene)["state_lost"]["detail"].as_str().is_some_and(|detail| detail.contains("another file")));
    drop(watched);
}

#[test]
fn a_log_that_is_removed_beside_the_state_stops_the_sending_and_a_stop_keeps_what_it_held() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let mut daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    std::fs::remove_file(scene.directory().join("state.db-wal")).expect("a log");
    let line = daemon.wait_for_line(LOST, SOON);
    assert!(line.contains("-wal"), "{line}");
    daemon.signal(crate::support::signal::Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    assert_eq!(scene.status()["leads"]["in_sync"], 3);
}

#[test]
fn a_lock_that_is_removed_is_taken_again_and_admits_no_second_sender() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let mut daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    std::fs::remove_file(scene.directory().join("state.db.lock")).expect("a lock file");
    daemon.wait_for_line("the lock is taken again", SOON);
    let refused = scene.run(&["once"]).expect_code(2);
    assert!(refused.stderr.contains(&format!("process {}", daemon.id())), "{refused}");
    scene.crm("update leads set last_name = 'Newer'");
    settled(&scene, &[&endpoint], SOON);
    drop(daemon);
}

#[test]
fn a_pass_that_loses_its_state_stops_sending() {
    let endpoint = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(100)));
    let mut scene = Scene::new(&endpoint.url(), 200);
    scene.set("delivery", "concurrency", "1");
    let once = scene.cli().spawn(&["once"]);
    endpoint.wait_for_requests(3, SOON);
    std::fs::remove_file(scene.state_file()).expect("a state");
    let ended = once.wait(SOON).expect_code(1);
    assert!(ended.stderr.contains("removed") && ended.stderr.contains("cure:"), "{ended}");
    assert!(endpoint.requests().len() < 50, "{}", endpoint.requests().len());
    assert_eq!(endpoint.in_flight(), 0, "what was on its way was waited for");
    wait_until("no new state", SOON, || !scene.state_file().exists());
}
