//! An SQLite source between two polls: the daemon holds none of its files open. So the CRM's program closes its file as
//! usual, and a copy over the file harms neither side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::support::binary::Running;
use crate::support::engine::Engine;
use crate::support::scene::{Scene, Store, sqlite};
use crate::support::settled::settled;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use crate::triggers;

const SOON: Duration = Duration::from_secs(30);

fn file(scene: &Scene) -> PathBuf {
    let Store::File(path) = scene.crm_store() else { panic!("a file") };
    path.clone()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Whether a process has the file, or SQLite's files beside it, open.
fn is_open(daemon: &Running, path: &Path) -> bool {
    let name = path.display().to_string();
    let entries = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("the process runs");
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|open| open.starts_with(&name) || open.display().to_string().starts_with(&name))
}

/// Waits for a moment without open files. Some occur between polls; with `polls_rarely` nearly all moments are such.
fn wait_until_closed(daemon: &Running, path: &Path) {
    wait_until("nothing of the source to be open", SOON, || !is_open(daemon, path));
}

fn program(path: &Path) -> (tokio::runtime::Runtime, SqliteConnection) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = format!("sqlite://{}", path.display());
    let program = runtime.block_on(SqliteConnection::connect(&url)).expect("the CRM's program opens its file");
    (runtime, program)
}

fn run(program: &mut (tokio::runtime::Runtime, SqliteConnection), sql: &'static str) {
    program.0.block_on(program.1.execute(sql)).expect("the CRM's program writes");
}

fn close((runtime, program): (tokio::runtime::Runtime, SqliteConnection)) {
    runtime.block_on(program.close()).expect("the CRM's program closes");
}

/// The program of a CRM in WAL mode closes, and a file with other content is copied over its file.
fn a_copy_over_the_file_is_read_and_the_crm_is_whole(scene: &Scene, endpoint: &StandIn) {
    let path = file(scene);
    scene.crm("pragma journal_mode = wal");
    let mut program = program(&path);
    run(&mut program, "update leads set last_name = 'Written' where id = 1");
    let daemon = scene.daemon();
    settled(scene, &[endpoint], SOON);
    wait_until_closed(&daemon, &path);
    run(&mut program, "update leads set last_name = 'Later' where id = 2");
    settled(scene, &[endpoint], SOON);
    close(program);
    // The daemon may have been the last to close.
    wait_until("no log to be left", SOON, || !beside(&path, "-wal").exists() && !beside(&path, "-shm").exists());
    let copy = scene.directory().join("copy.db");
    std::fs::copy(&path, &copy).expect("a copy");
    sqlite(&copy, "update leads set last_name = 'Copied' where id <= 3").expect("SQLite takes the statements");
    std::fs::copy(&copy, &path).expect("copied over, in place");
    assert_eq!(scene.crm("pragma integrity_check"), ["ok"]);
    settled(scene, &[endpoint], SOON);
    assert_eq!(scene.crm("select last_name from leads where id = 3"), ["Copied"]);
    wait_until_closed(&daemon, &path);
    drop(daemon);
    assert_eq!(scene.crm("pragma integrity_check"), ["ok"]);
}

#[test]
fn a_copy_over_a_file_in_wal_mode_is_read_and_harms_nobody() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 5);
    a_copy_over_the_file_is_read_and_the_crm_is_whole(&scene, &endpoint);
}

#[test]
fn behind_triggers_the_file_is_watched_without_a_connection() {
    let endpoint = StandIn::accepting();
    let scene = triggers::scene(Engine::Sqlite, &endpoint, 5);
    a_copy_over_the_file_is_read_and_the_crm_is_whole(&scene, &endpoint);
}

#[test]
fn with_write_back_nothing_stays_open_either() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    crate::support::receiver::with_receiver(&mut scene).set_text("writeback", "mode", "tables");
    let receiver = crate::support::receiver::Receiver::start(&scene);
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"1\",\"conversationStatus\":\"Messaging\"}").status, 200);
    wait_until("the write-back", SOON, || {
        sqlite(&file(&scene), "select id from conversica_leads").is_ok_and(|rows| rows == ["1"])
    });
    wait_until_closed(&receiver.daemon, &file(&scene));
    drop(receiver);
}

#[test]
fn an_older_content_that_is_copied_over_the_file_is_compared_whole() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set_text("source", "changed_at", "changed");
    scene.crm("alter table leads add column changed text not null default '2026-01-01T00:00:00Z'");
    let (path, backup) = (file(&scene), scene.directory().join("backup.db"));
    std::fs::copy(&path, &backup).expect("a backup");
    // In the backup one row has other content without a newer stamp.
    sqlite(&backup, "update leads set last_name = 'Older' where id = 1").expect("SQLite takes the statements");
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    std::fs::copy(&backup, &path).expect("put back in place");
    let older = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    std::fs::File::options().write(true).open(&path).expect("the file").set_times(older).expect("as `cp -p` does");
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.bodies_of("1").last().expect("sent again")["lastName"], "Older");
    drop(daemon);
}

#[test]
fn a_log_that_a_dead_program_left_is_not_written_into_the_file() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let path = file(&scene);
    scene.crm("pragma journal_mode = wal");
    let mut dead = program(&path);
    run(&mut dead, "update leads set last_name = 'Logged' where id = 1");
    // The files as a crash leaves them: the database, and a log that no process has open.
    let (copy, log) = (std::fs::read(&path).expect("the file"), std::fs::read(beside(&path, "-wal")).expect("its log"));
    close(dead);
    std::fs::write(&path, &copy).expect("the file");
    std::fs::write(beside(&path, "-wal"), &log).expect("its log");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("1")[0]["lastName"], "Logged", "what was committed is read");
    assert_eq!(std::fs::read(&path).expect("the file"), copy);
    assert_eq!(std::fs::read(beside(&path, "-wal")).expect("its log"), log);
}

/// A program that was killed while it wrote leaves half of its changes in the file, and a journal that takes them back.
#[test]
fn what_a_killed_program_has_half_written_is_not_read_and_the_cure_is_named() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 2_000);
    let crm = file(&scene);
    let mut program = program(&crm);
    run(&mut program, "pragma cache_size = 1");
    run(&mut program, "begin immediate");
    run(&mut program, "update leads set first_name = 'Half'");
    let (half, journal) = (scene.directory().join("half"), scene.directory().join("half-journal"));
    std::fs::copy(&crm, &half).expect("a copy");
    std::fs::copy(beside(&crm, "-journal"), &journal).expect("a copy");
    run(&mut program, "rollback");
    close(program);
    std::fs::rename(&half, &crm).expect("the file as the kill left it");
    std::fs::rename(&journal, beside(&crm, "-journal")).expect("its journal");
    for command in [&["once"][..], &["plan"], &["check"]] {
        let output = scene.run(command).expect_code(2);
        let said = format!("{output}");
        assert!(said.contains("the CRM's program was ended while it wrote: start it"), "{said}");
    }
    assert_eq!(endpoint.requests().len(), 0);
    assert!(beside(&crm, "-journal").exists(), "only the CRM's own programs repair its file");
    let mut daemon = scene.daemon();
    let line = daemon.wait_for_line("the source is away; waiting for it", SOON);
    assert!(line.contains("cannot be read now: attempt to write") && line.contains("SQLite repairs it"), "{line}");
    scene.crm("select count(*) || '' from leads");
    wait_until("everybody, as they were before", SOON, || endpoint.answered() == 2_000);
    assert_eq!(endpoint.bodies_of("7")[0]["firstName"], "Ann7");
    drop(daemon);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    let (path, elsewhere) = (file(&scene), scene.directory().join("elsewhere.db"));
    std::fs::rename(&path, &elsewhere).expect("moved away");
    let mut daemon = scene.cli().spawn(&["run"]);
    let line = daemon.wait_for_line("the source is away; waiting for it", SOON);
    assert!(line.contains("there is no file") && line.contains("not mounted yet"), "{line}");
    std::fs::rename(&elsewhere, &path).expect("moved back");
    settled(&scene, &[&endpoint], SOON);
    drop(daemon);
    std::fs::rename(&path, &elsewhere).expect("moved away");
    std::fs::create_dir(&path).expect("a directory");
    let refused = scene.run(&["run"]).expect_code(2);
    assert!(refused.stderr.contains("is a directory") && refused.stderr.contains("cure:"), "{refused}");
}

#[test]
fn a_file_in_wal_mode_in_a_directory_that_this_user_may_not_write_is_named_with_the_cure() {
    // Root may write anywhere, so the program runs as another user.
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let (own, crm) = (scene.directory().join("own"), scene.directory().join("crm"));
    for directory in [&own, &crm] {
        std::fs::create_dir(directory).expect("a directory");
    }
    let path = crm.join("crm.db");
    std::fs::copy(file(&scene), &path).expect("a copy");
    sqlite(&path, "pragma journal_mode = wal").expect("SQLite takes the statements");
    scene.set_text("source", "url", &format!("sqlite://{}", path.display()));
    scene.set_text("state", "url", &format!("sqlite://{}", own.join("state.db").display()));
    let cli = scene.cli();
    let open = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our own file");
    };
    open(scene.directory(), 0o755);
    open(&own, 0o777);
    open(&crm, 0o755);
    open(&path, 0o644);
    open(&cli.config_file(), 0o644);
    let refused = cli.launched_by("exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"").run(&["once"]);
    let refused = refused.expect_code(2);
    for word in ["WAL mode", "crm.db-shm", &crm.display().to_string(), "cure: let the user"] {
        assert!(refused.stderr.contains(word), "{word}: {refused}");
    }
}
