//! The write-ahead log beside an SQLite state, emptied, removed, replaced or copied over, under a running program or
//! after a crash: the program sends and acknowledges nothing, because committed facts would be lost. SQLite's own work on
//! its log never counts as a loss.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::{Scene, sqlite};
use crate::support::settled::settled;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const UPDATE: &str = "{\"id\":\"1\",\"conversationStatus\":\"Messaging\"}";
const OPT_OUT: &str = "{\"id\":\"1\",\"doNotEmail\":true}";
const LOST: &str = "the state cannot be written; nothing is sent until it can";

fn log(scene: &Scene) -> PathBuf {
    scene.directory().join("state.db-wal")
}

fn content(scene: &Scene) -> Vec<u8> {
    std::fs::read(log(scene)).expect("a log")
}

fn emptied(scene: &Scene, _earlier: &[u8]) {
    std::fs::write(log(scene), []).expect("a log");
}

fn copied_over(scene: &Scene, earlier: &[u8]) {
    std::fs::write(log(scene), earlier).expect("a log");
}

fn cut(scene: &Scene, _earlier: &[u8]) {
    let file = std::fs::File::options().write(true).open(log(scene)).expect("a log");
    // A log may have frames of an earlier round after the newest frame, so cutting a few bytes would not always lose
    // data.
    file.set_len(1000).expect("a shorter log");
}

fn removed(scene: &Scene, _earlier: &[u8]) {
    std::fs::remove_file(log(scene)).expect("a log");
}

fn replaced_by_an_empty_file(scene: &Scene, earlier: &[u8]) {
    removed(scene, earlier);
    emptied(scene, earlier);
}

fn replaced_by_its_copy(scene: &Scene, _earlier: &[u8]) {
    let copy = scene.directory().join("copy");
    std::fs::copy(log(scene), &copy).expect("a copy");
    std::fs::rename(copy, log(scene)).expect("a log");
}

type Harm = fn(&Scene, &[u8]);

/// The state has sent the leads of two imports and acknowledged one opt-out after the returned copy of the log.
fn with_log(endpoint: &StandIn) -> (Scene, Receiver, Vec<u8>) {
    let mut scene = Scene::new(&endpoint.url(), 3);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    settled(&scene, &[endpoint], SOON);
    let earlier = content(&scene);
    scene.add(4, 6);
    settled(&scene, &[endpoint], SOON);
    assert_eq!(receiver.post("/conversica/lead", OPT_OUT).status, 200);
    endpoint.wait_for_requests(7, SOON);
    assert_eq!(endpoint.bodies_of("1").last().expect("a request")["optOut"], true);
    scene.wait_for_status("the opt-out to be passed on", SOON, |status| status["outcomes"]["accepted"] == 7);
    (scene, receiver, earlier)
}

fn sends_nothing(endpoint: &StandIn, sent: usize) {
    let began = Instant::now();
    wait_until("two seconds without a request", SOON, || {
        assert_eq!(endpoint.requests().len(), sent, "nothing is sent");
        began.elapsed() >= Duration::from_secs(2)
    });
}

/// No command opens the state, and none sends.
fn is_refused(scene: &Scene, endpoint: &StandIn, what: &str) {
    let sent = endpoint.requests().len();
    for arguments in [["run"].as_slice(), &["once"], &["status"], &["plan"], &["approve", "--yes"], &["check"]] {
        let refused = scene.run(arguments).expect_code(2);
        let words = format!("{}{}", refused.stdout, refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["state.db-wal", "emptied, removed, replaced or copied over", "restored"] {
            assert!(words.contains(part), "{what}: {part}: {refused}");
        }
    }
    assert_eq!(endpoint.requests().len(), sent, "{what}: nothing is sent");
}

/// The operator continues with the content of the file.
fn goes_on_when_the_operator_says_so(scene: &Scene, endpoint: &StandIn) {
    let sent = endpoint.requests().len();
    scene.run(&["restored"]).expect_code(0);
    let daemon = scene.daemon();
    wait_until("what the file lacks to be held", SOON, || {
        let held = scene.status()["leads"]["held"].as_u64();
        held.is_some_and(|held| held > 0)
    });
    assert_eq!(endpoint.requests().len(), sent, "nothing is sent before the operator approves");
    drop(daemon);
}

#[test]
fn a_log_that_is_damaged_under_the_daemon_stops_sending_and_acknowledging_and_the_next_start() {
    let harms: [(&str, Harm); 3] = [("emptied", emptied), ("an earlier copy", copied_over), ("cut", cut)];
    for (what, harm) in harms {
        let endpoint = StandIn::accepting();
        let (scene, mut receiver, earlier) = with_log(&endpoint);
        let sent = endpoint.requests().len();
        harm(&scene, &earlier);
        assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 500, "{what}: at once");
        let line = receiver.daemon.wait_for_line(LOST, SOON);
        assert!(line.contains("was emptied or copied over") && line.contains("restored"), "{what}: {line}");
        scene.crm("update leads set last_name = 'Newer'");
        sends_nothing(&endpoint, sent);
        let status = scene.run(&["status", "--json"]).expect_code(4).json();
        assert!(status["state_lost"]["detail"].as_str().is_some_and(|detail| detail.contains("-wal")), "{status}");
        assert!(!receiver.daemon.is_over(), "{what}: it stays up");
        receiver.daemon.kill();
        is_refused(&scene, &endpoint, what);
        goes_on_when_the_operator_says_so(&scene, &endpoint);
    }
}

#[test]
fn a_log_that_is_replaced_under_the_daemon_stops_it_and_a_stop_keeps_what_it_held() {
    let harms: [(&str, Harm); 2] = [("empty", replaced_by_an_empty_file), ("a copy", replaced_by_its_copy)];
    for (what, harm) in harms {
        let endpoint = StandIn::accepting();
        let (scene, mut receiver, earlier) = with_log(&endpoint);
        let sent = endpoint.requests().len();
        harm(&scene, &earlier);
        assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 500, "{what}: at once");
        let line = receiver.daemon.wait_for_line(LOST, SOON);
        assert!(line.contains("has taken the place of the write-ahead log"), "{what}: {line}");
        let status = scene.run(&["status", "--json"]).expect_code(4).json();
        assert!(status["state_lost"]["detail"].as_str().is_some_and(|detail| detail.contains("-wal")), "{status}");
        receiver.daemon.signal(Signal::Terminate);
        receiver.daemon.wait(SOON).expect_code(0);
        let daemon = scene.daemon();
        sends_nothing(&endpoint, sent);
        assert_eq!(scene.status()["leads"]["in_sync"], 6, "{what}");
        scene.crm("update leads set last_name = 'Newer' where id = 1");
        wait_until("the change to be sent", SOON, || endpoint.requests().len() > sent);
        assert_eq!(endpoint.bodies_of("1").last().unwrap()["optOut"], true, "{what}: the opt-out is known");
        drop(daemon);
    }
}

#[test]
fn a_log_that_is_lost_after_a_crash_is_noticed_by_the_next_start() {
    let harms: [(&str, Harm); 5] = [
        ("emptied", emptied),
        ("removed", removed),
        ("an empty file", replaced_by_an_empty_file),
        ("an earlier copy", copied_over),
        ("cut", cut),
    ];
    for (what, harm) in harms {
        let endpoint = StandIn::accepting();
        let (scene, receiver, earlier) = with_log(&endpoint);
        let sent = endpoint.requests().len();
        let known = std::fs::read_to_string(scene.directory().join("state.db.lock")).expect("a lock file");
        assert!(known.contains("\nlog "), "{known}");
        receiver.daemon.kill();
        let whole = content(&scene);
        harm(&scene, &earlier);
        is_refused(&scene, &endpoint, what);
        // With its log back, the state is whole.
        std::fs::write(log(&scene), whole).expect("a log");
        let daemon = scene.daemon();
        sends_nothing(&endpoint, sent);
        assert_eq!(scene.status()["leads"]["in_sync"], 6, "{what}");
        drop(daemon);
    }
}

#[test]
fn crashes_checkpoints_backups_and_commands_are_never_taken_for_a_lost_log() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    with_receiver(&mut scene);
    for round in 0..12_u32 {
        let receiver = Receiver::start(&scene);
        // Every third round writes more than one round of the log holds.
        let leads = if round % 3 == 0 { 400 } else { 5 };
        scene.add(2 + round * 1000, 1 + round * 1000 + leads);
        settled(&scene, &[&endpoint], SOON * 3);
        if round % 2 == 0 {
            sqlite(&scene.state_file(), "pragma wal_checkpoint(truncate)").expect_err("it returns numbers, not texts");
        }
        assert_eq!(receiver.post("/conversica/lead", UPDATE).status, 200);
        scene.add(2 + round * 1000 + leads, 2 + round * 1000 + leads);
        settled(&scene, &[&endpoint], SOON);
        receiver.daemon.kill();
        match round % 4 {
            0 => drop(scene.run(&["status"]).expect_code(0)),
            1 => {
                let backup = scene.directory().join(format!("backup{round}")).display().to_string();
                scene.run(&["backup", &backup]).expect_code(0);
            }
            2 => drop(sqlite(&scene.state_file(), "select 'a look by another program'").expect("an answer")),
            _ => {}
        }
    }
    let once = scene.run(&["once"]).expect_code(0);
    assert!(!format!("{once}").contains("log"), "{once}");
    let sent = endpoint.requests().len();
    assert_eq!(scene.status()["leads"]["in_sync"], u32::try_from(sent).expect("a small number"), "each once");
}
