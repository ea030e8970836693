//! Starts while the program's sessions are cut, its servers restart, or its state is locked: the program waits,
//! continues, and sends each lead once.

use std::thread::JoinHandle;
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::support::engine::Engine;
use crate::support::postgres::{Cluster, Database};
use crate::support::scene::{Scene, Store};
use crate::support::settled::settled;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(90);
const LEADS: u32 = 20;

fn database(store: &Store) -> Database {
    match store {
        Store::Database(database) => database.clone(),
        Store::File(path) => panic!("{} is no database", path.display()),
    }
}

/// Ends every session but its own, repeatedly.
fn sessions_cut(database: Database, times: u32, pause_ms: u32) -> JoinHandle<()> {
    let cut = format!(
        "do $$ begin for i in 1..{times} loop \
         perform pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
         and pid <> pg_backend_pid() and backend_type = 'client backend'; \
         perform pg_stat_clear_snapshot(); perform pg_sleep({pause_ms} / 1000.0); end loop; end $$"
    );
    std::thread::spawn(move || drop(database.sql(&cut)))
}

/// A new state, and one that is in sync; the sessions of each start end at any moment.
#[test]
fn a_start_whose_sessions_are_cut_again_and_again_waits_and_goes_on() {
    let cluster = Cluster::private();
    for pause_ms in [2, 30, 120] {
        let endpoint = StandIn::accepting();
        let scene = Scene::on_cluster(&cluster, &endpoint.url(), LEADS);
        for round in 0..2 {
            let cutting: Vec<_> = [scene.crm_store(), scene.state_store()]
                .map(|store| sessions_cut(database(store), 4_000 / pause_ms, pause_ms))
                .into();
            let mut daemon = scene.cli().spawn(&["run"]);
            cutting.into_iter().for_each(|cutting| cutting.join().expect("it cuts"));
            daemon.wait_for_line("\"message\":\"running\"", SOON);
            settled(&scene, &[&endpoint], SOON);
            assert_eq!(endpoint.requests().len(), usize::try_from(LEADS).expect("few"), "{pause_ms} ms, start {round}");
            daemon.signal(Signal::Terminate);
            daemon.wait(SOON).expect_code(0);
        }
    }
}

#[test]
fn a_start_during_which_the_server_restarts_waits_and_goes_on() {
    let cluster = Cluster::private();
    for delay_ms in [0, 60, 150, 400] {
        let endpoint = StandIn::accepting();
        let scene = Scene::on_cluster(&cluster, &endpoint.url(), LEADS);
        let mut daemon = scene.cli().spawn(&["run"]);
        let began = std::time::Instant::now();
        wait_until("the moment", SOON, || began.elapsed() >= Duration::from_millis(delay_ms));
        cluster.crash();
        cluster.start();
        daemon.wait_for_line("\"message\":\"running\"", SOON);
        settled(&scene, &[&endpoint], SOON);
        assert_eq!(endpoint.requests().len(), usize::try_from(LEADS).expect("few"), "{delay_ms} ms");
        daemon.signal(Signal::Terminate);
        daemon.wait(SOON).expect_code(0);
    }
}

/// Another process's lock on the state's file, until it is released.
struct FileLocked {
    runtime: tokio::runtime::Runtime,
    session: SqliteConnection,
}

impl FileLocked {
    fn take(scene: &Scene, begin: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let url = format!("sqlite://{}", scene.state_file().display());
        let session = runtime.block_on(async {
            let mut session = SqliteConnection::connect(&url).await.expect("the state opens");
            session.execute(sqlx::raw_sql(begin)).await.expect("the lock is free");
            session
        });
        Self { runtime, session }
    }

    fn give_back(self) {
        self.runtime.block_on(self.session.close()).expect("the lock is given back");
    }
}

#[test]
fn a_start_on_an_sqlite_state_that_is_locked_says_so_and_waits() {
    for begin in ["begin immediate", "pragma locking_mode = exclusive; begin exclusive"] {
        let endpoint = StandIn::accepting();
        let scene = Scene::on(Engine::Sqlite, &endpoint.url(), LEADS);
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set last_name = 'Newer' where id = 2");
        let lock = FileLocked::take(&scene, begin);
        let mut daemon = scene.cli().spawn(&["run"]);
        let line = daemon.wait_for_line("the state is away; waiting for it", SOON);
        assert!(line.contains("end whatever keeps the state locked"), "{begin}: {line}");
        assert_eq!(endpoint.requests().len(), usize::try_from(LEADS).expect("few"));
        lock.give_back();
        daemon.wait_for_line("\"message\":\"running\"", SOON);
        settled(&scene, &[&endpoint], SOON);
        assert_eq!(endpoint.bodies_of("2").len(), 2, "{begin}");
        drop(daemon);
    }
}

#[test]
fn a_start_in_a_file_that_is_no_state_does_not_wait() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    std::fs::write(scene.state_file(), vec![b'x'; 10_000]).expect("a file");
    let ended = scene.run(&["run"]).expect_code(2);
    assert!(ended.stderr.contains("state.db") && ended.stderr.contains("cure:"), "{ended}");
}
