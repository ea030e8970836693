//! A write-ahead log that an earlier file has left beside another file: the program opens neither, so that it destroys
//! neither. After a crash the log is the file's own, and its content is kept.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::support::binary::Output;
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;

const SOON: Duration = Duration::from_secs(30);
const BEFORE: &str = "belongs to the file that was there before";

fn place(scene: &Scene, name: &str) -> PathBuf {
    scene.directory().join(name)
}

fn moved(scene: &Scene, from: &str, to: &str) {
    std::fs::rename(place(scene, from), place(scene, to)).expect("a file to move");
}

fn log_bytes(scene: &Scene) -> u64 {
    std::fs::metadata(place(scene, "state.db-wal")).map_or(0, |log| log.len())
}

/// Sends three leads before the backup `backup.db`, and again after it; returns the files of the killed or stopped
/// daemon.
fn with_backup(endpoint: &StandIn, end: impl FnOnce(&Scene)) -> Scene {
    let scene = Scene::new(&endpoint.url(), 3);
    let daemon = scene.daemon();
    settled(&scene, &[endpoint], SOON);
    let backup = place(&scene, "backup.db").display().to_string();
    let said = scene.run(&["backup", &backup]).expect_code(0);
    assert!(said.stdout.contains("-wal") && said.stdout.contains("-shm"), "{said}");
    scene.crm("update leads set last_name = 'Newer'");
    settled(&scene, &[endpoint], SOON);
    assert_eq!(endpoint.requests().len(), 6);
    end(&scene);
    if scene.state_file().exists() {
        daemon.kill();
    } else {
        daemon.signal(Signal::Terminate);
        daemon.wait(SOON);
    }
    assert!(log_bytes(&scene) > 0, "the log is left: {:?}", scene.files());
    scene
}

fn refused(scene: &Scene, arguments: &[&str]) -> Output {
    let refused = scene.run(arguments).expect_code(2);
    let words = format!("{}{}", refused.stdout, refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [BEFORE, "state.db-wal", "state.db-shm", "restored"] {
        assert!(words.contains(part), "{part}: {refused}");
    }
    refused
}

/// No command opens the file beside the stray log; without the log it is an ordinary backup.
fn is_refused_until_the_log_is_moved_away(scene: &Scene, endpoint: &StandIn) {
    let backup = std::fs::read(place(scene, "backup.db")).expect("a backup");
    let copy = place(scene, "copy.db").display().to_string();
    let log = std::fs::read(place(scene, "state.db-wal")).expect("a log");
    // The second round shows that a refused start keeps the content of the lock file.
    for _ in 0..2 {
        for arguments in [
            ["run"].as_slice(),
            &["once"],
            &["restored"],
            &["status"],
            &["plan"],
            &["leads"],
            &["approve", "--yes"],
            &["backup", &copy],
            &["check"],
        ] {
            refused(scene, arguments);
        }
    }
    assert_eq!(std::fs::read(scene.state_file()).expect("a state"), backup, "the file is as it was put there");
    assert_eq!(std::fs::read(place(scene, "state.db-wal")).expect("a log"), log, "and so is the log");
    assert_eq!(endpoint.requests().len(), 6, "nothing is sent");

    moved(scene, "state.db-wal", "old-wal");
    moved(scene, "state.db-shm", "old-shm");
    scene.run(&["restored"]).expect_code(0);
    let killed = scene.killed_daemon("what the backup lacks is held", || scene.status()["leads"]["held"] == json!(3));
    drop(killed);
    assert!(log_bytes(scene) > 0, "a crash leaves a log, which is that of the restored file");
    scene.run(&["approve", "--yes"]).expect_code(0);
    let daemon = scene.daemon();
    endpoint.wait_for_requests(9, SOON);
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == json!(3));
    drop(daemon);
}

#[test]
fn a_backup_in_place_of_a_removed_file_is_not_opened_beside_the_old_log() {
    let endpoint = StandIn::accepting();
    let scene = with_backup(&endpoint, |scene| std::fs::remove_file(scene.state_file()).expect("a state"));
    std::fs::copy(place(&scene, "backup.db"), scene.state_file()).expect("a copy");
    is_refused_until_the_log_is_moved_away(&scene, &endpoint);
}

#[test]
fn a_backup_that_is_copied_over_the_file_after_a_crash_is_not_opened_beside_the_old_log() {
    let endpoint = StandIn::accepting();
    let scene = with_backup(&endpoint, |_| {});
    std::fs::copy(place(&scene, "backup.db"), scene.state_file()).expect("a copy");
    is_refused_until_the_log_is_moved_away(&scene, &endpoint);
}

#[test]
fn a_backup_that_is_moved_over_the_file_after_a_crash_is_not_opened_beside_the_old_log() {
    let endpoint = StandIn::accepting();
    let scene = with_backup(&endpoint, |_| {});
    std::fs::copy(place(&scene, "backup.db"), place(&scene, "second.db")).expect("a copy");
    moved(&scene, "second.db", "state.db");
    is_refused_until_the_log_is_moved_away(&scene, &endpoint);
}

#[test]
fn after_a_crash_the_log_is_replayed_also_where_the_file_was_moved_away_and_back() {
    let endpoint = StandIn::accepting();
    let scene = with_backup(&endpoint, |_| {});
    moved(&scene, "state.db", "away.db");
    for arguments in [["run"].as_slice(), &["once"], &["restored"], &["check"]] {
        refused(&scene, arguments);
    }
    assert!(!scene.state_file().exists() && log_bytes(&scene) > 0, "nothing is made, and the log is kept");
    moved(&scene, "away.db", "state.db");
    assert_eq!(scene.status()["leads"]["in_sync"], json!(3));
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 6, "all that was sent is known");
}

#[test]
fn a_state_that_was_copied_here_with_its_own_log_starts_once_the_lock_file_is_removed() {
    let endpoint = StandIn::accepting();
    let scene = with_backup(&endpoint, |_| {});
    for name in ["state.db", "state.db-wal"] {
        std::fs::copy(place(&scene, name), place(&scene, "copy")).expect("a copy");
        std::fs::remove_file(place(&scene, name)).expect("a file");
        // The filler takes the old file's inode number, so that the copy gets another one.
        std::fs::write(place(&scene, &format!("{name}.filler")), "").expect("a file to write");
        moved(&scene, "copy", name);
    }
    let said = refused(&scene, &["once"]);
    assert!(said.stderr.contains("state.db.lock"), "{said}");
    std::fs::remove_file(place(&scene, "state.db.lock")).expect("a lock file");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 6, "all that was sent is known");
}

#[test]
fn a_damaged_state_is_told_with_its_cure() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    let mut content = std::fs::read(scene.state_file()).expect("a state");
    for page in content.chunks_mut(4096).skip(1) {
        page.fill(0xff);
    }
    std::fs::write(scene.state_file(), content).expect("a file to write");
    for arguments in [["once"].as_slice(), &["run"], &["status"], &["restored"]] {
        let failed = scene.run(arguments);
        assert!(failed.code != Some(0), "{failed}");
        for part in ["cure:", "backup", "-wal", "-shm", "restored"] {
            assert!(failed.stderr.contains(part), "{arguments:?}: {part}: {failed}");
        }
    }
}

#[test]
fn status_says_that_there_is_no_file_and_shows_no_numbers() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    moved(&scene, "state.db", "away.db");
    let said = scene.run(&["status"]).expect_code(4);
    assert!(said.stdout.contains("STATE LOST") && said.stdout.contains("There is no file now"), "{said}");
    assert!(!said.stdout.contains("numbers below") && !said.stdout.contains("in_sync"), "{said}");
    assert!(said.stdout.contains("-wal"), "the cure names the log: {said}");
    let json = scene.run(&["status", "--json"]).expect_code(4).json();
    assert_eq!(json["leads"]["in_sync"], json!(0), "the keys are kept");
    drop(daemon);
}

#[test]
fn status_warns_where_the_directory_of_the_state_does_not_exist() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    let mistyped = place(&scene, "mistyped");
    scene.set_text("state", "url", &format!("sqlite://{}/state.db", mistyped.display()));
    for arguments in [["status"].as_slice(), &["status", "--json"]] {
        let said = scene.run(arguments).expect_code(0);
        let words = format!("{}{}", said.stdout, said.stderr);
        assert!(words.contains(&format!("{}, does not exist", mistyped.display())), "{said}");
        assert!(words.contains("[state] url"), "{said}");
    }
}
