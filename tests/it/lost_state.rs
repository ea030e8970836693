//! The file of an SQLite state is removed, replaced or copied over under a running program: the program sends and
//! acknowledges nothing, reports it, and stays up, because a restart would begin with an empty state.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::binary::Running;
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const UPDATE: &str = "{\"id\":\"1\",\"conversationStatus\":\"Messaging\"}";
const LOST: &str = "the state cannot be written; nothing is sent until it can";

fn renamed(scene: &Scene, from: &str, to: &str) {
    std::fs::rename(scene.directory().join(from), scene.directory().join(to)).expect("a file to move");
}

/// Two seconds are two polls and twenty checks for due leads.
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
    daemon.signal(Signal::Terminate);
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

/// Truncates and rewrites the file, which keeps its inode.
fn copied_over(content: &[u8], file: &Path) {
    let before = std::fs::metadata(file).expect("a state").ino();
    std::fs::write(file, content).expect("a file to write");
    assert_eq!(std::fs::metadata(file).expect("a state").ino(), before);
}

fn stopped(daemon: &Running) {
    daemon.signal(Signal::Terminate);
}

fn a_content_that_is_copied_over_the_state_is_noticed(what: &str, content: impl FnOnce(&Scene, &[u8]) -> Vec<u8>) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    settled(&scene, &[&endpoint], SOON);
    stopped(&receiver.daemon);
    receiver.daemon.wait(SOON).expect_code(0);
    let earlier = std::fs::read(scene.state_file()).expect("a state");
    let mut receiver = Receiver::start(&scene);
    settled(&scene, &[&endpoint], SOON);
    copied_over(&content(&scene, &earlier), &scene.state_file());
    assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 500, "{what}: at once");
    let line = receiver.daemon.wait_for_line(LOST, SOON);
    assert!(line.contains("another content was copied over") && line.contains("restored"), "{what}: {line}");
    scene.crm("update leads set last_name = 'Newer'");
    sends_nothing_more(&endpoint, 3);
    let status = status_of(&scene);
    let detail = status["state_lost"]["detail"].as_str().expect("the loss is told");
    assert!(
        detail.contains("another content") && detail.contains(&receiver.daemon.id().to_string()),
        "{what}: {detail}"
    );
    for command in [["approve", "--yes"].as_slice(), &["once"], &["leads"]] {
        let refused = scene.run(command).expect_code(2);
        assert!(refused.stderr.contains(&receiver.daemon.id().to_string()), "{what}: {refused}");
    }
    assert!(!receiver.daemon.is_over(), "{what}: it stays up");
    assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 500, "{what}: still");
}

#[test]
fn another_state_that_is_copied_over_this_one_is_noticed() {
    a_content_that_is_copied_over_the_state_is_noticed("another state", |_, _| {
        let endpoint = StandIn::accepting();
        let other = Scene::new(&endpoint.url(), 3);
        other.run(&["once"]).expect_code(0);
        std::fs::read(other.state_file()).expect("its state")
    });
}

#[test]
fn a_backup_that_is_copied_over_the_state_is_noticed() {
    a_content_that_is_copied_over_the_state_is_noticed("a backup", |scene, _| {
        let backup = scene.directory().join("backup.db");
        scene.run(&["backup", &backup.display().to_string()]).expect_code(0);
        std::fs::read(backup).expect("a backup")
    });
}

#[test]
fn a_copy_of_the_state_as_it_was_before_this_start_is_noticed() {
    a_content_that_is_copied_over_the_state_is_noticed("an earlier copy", |_, earlier| earlier.to_vec());
}

#[test]
fn a_state_that_is_emptied_or_overwritten_with_anything_is_noticed() {
    a_content_that_is_copied_over_the_state_is_noticed("nothing", |_, _| Vec::new());
    a_content_that_is_copied_over_the_state_is_noticed("text", |_, _| vec![b'x'; 100_000]);
}

fn checkpointed_by_another(scene: &Scene) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let url = format!("sqlite://{}", scene.state_file().display());
        let mut connection = SqliteConnection::connect(&url).await.expect("the state opens");
        let checkpoint = sqlx::raw_sql("pragma busy_timeout = 10000; pragma wal_checkpoint(full)");
        connection.execute(checkpoint).await.expect("a checkpoint");
        connection.close().await.expect("a connection ends");
    });
}

#[test]
fn what_the_program_and_its_commands_write_themselves_is_never_taken_for_another_content() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    // Several checkpoints, by the daemon and by other processes.
    for round in 0..4 {
        scene.add(3 + round * 300, 2 + (round + 1) * 300);
        settled(&scene, &[&endpoint], SOON * 3);
        assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 200);
        scene.run(&["retry", "--all"]);
        scene.run(&["backup", &scene.directory().join(format!("backup{round}")).display().to_string()]).expect_code(0);
        checkpointed_by_another(&scene);
    }
    assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 200);
    assert!(!receiver.end().contains(LOST));
}

#[test]
fn a_backup_that_is_put_in_place_as_the_cure_says_is_used() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let mut daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    let backup = scene.directory().join("backup.db");
    scene.run(&["backup", &backup.display().to_string()]).expect_code(0);
    let content = std::fs::read(&backup).expect("a backup");
    copied_over(&content, &scene.state_file());
    daemon.wait_for_line(LOST, SOON);
    stopped(&daemon);
    daemon.wait(SOON);
    for end in ["-wal", "-shm"] {
        drop(std::fs::remove_file(scene.directory().join(format!("state.db{end}"))));
    }
    copied_over(&content, &scene.state_file());
    scene.run(&["restored"]).expect_code(0);
    scene.crm("update leads set last_name = 'Newer'");
    let daemon = scene.daemon();
    scene.wait_for_status("what is new to be held", SOON, |status| status["leads"]["held"] == 3);
    assert!(scene.status()["state_lost"].is_null());
    scene.run(&["approve", "--yes"]).expect_code(0);
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.requests().len(), 6);
    drop(daemon);
}

#[test]
fn the_loss_of_the_state_and_its_end_are_told() {
    let (endpoint, hook) = (StandIn::accepting(), StandIn::accepting());
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("alerts", "url", &hook.url());
    let told = |state: &str| {
        let documents = hook.requests().into_iter().map(|received| received.request.json());
        documents.filter(|document| document["kind"] == "state_lost" && document["state"] == state).collect::<Vec<_>>()
    };
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    renamed(&scene, "state.db", "away.db");
    wait_until("the loss to be told", SOON, || !told("begun").is_empty());
    let document = told("begun").remove(0);
    assert!(document["reason"].as_str().is_some_and(|reason| reason.contains("was removed")), "{document}");
    assert!(document["cure"].as_str().is_some_and(|cure| cure.contains("do not restart")), "{document}");
    assert!(told("ended").is_empty());
    renamed(&scene, "away.db", "state.db");
    wait_until("its end to be told", SOON, || !told("ended").is_empty());
    assert_eq!((told("begun").len(), told("ended").len()), (1, 1));
    assert_eq!(told("ended")[0]["since"], document["since"]);
    drop(daemon);
}
