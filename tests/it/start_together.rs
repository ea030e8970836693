//! Several processes that start at the same moment on a new state, and starts while a database is away.

use std::time::Duration;

use crate::support::postgres::cluster;
use crate::support::scene::{Scene, Store};
use crate::support::settled::settled;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);
const TOGETHER: usize = 5;

#[test]
fn of_several_that_start_on_a_new_sqlite_state_one_runs_and_the_others_say_who() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 20);
    let cli = scene.cli();
    let mut running: Vec<_> = (0..TOGETHER).map(|_| cli.spawn(&["run"])).collect();
    wait_until("all but one to end", SOON, || {
        running.iter_mut().filter_map(|one| one.is_over().then_some(())).count() == TOGETHER - 1
    });
    let (ended, alive): (Vec<_>, Vec<_>) =
        running.into_iter().map(|mut one| (one.is_over(), one)).partition(|(over, _)| *over);
    let runs = format!("process {} on ", alive[0].1.id());
    for (_, one) in ended {
        let output = one.wait(SOON).expect_code(2);
        assert!(output.stderr.contains(&runs) && output.stderr.contains("(conversica-sync run)"), "{output}");
        assert!(output.stderr.contains("cure:"), "{output}");
    }
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.requests().len(), 20);
    drop(alive);
}

#[test]
fn several_that_start_on_a_new_postgresql_state_all_run() {
    for _ in 0..3 {
        let state = cluster().database();
        let endpoint = StandIn::accepting();
        let mut scene = Scene::new(&endpoint.url(), 20);
        scene.set_text("state", "url", &state.url);
        let cli = scene.cli();
        let mut running: Vec<_> = (0..TOGETHER).map(|_| cli.spawn(&["run"])).collect();
        for one in &mut running {
            one.wait_for_line("\"message\":\"running\"", SOON);
        }
        scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 20);
        for mut one in running {
            assert!(!one.is_over());
            let output = one.kill();
            assert!(!output.stderr.contains("already exists") && !output.stderr.contains("duplicate"), "{output}");
        }
    }
}

#[test]
fn a_schema_that_another_process_is_making_is_waited_for() {
    let state = cluster().database();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("state", "url", &state.url);
    let other = {
        let database = state.clone();
        // An older version does this without our lock.
        std::thread::spawn(move || database.sql("begin; create schema conversica_sync; select pg_sleep(3); commit"))
    };
    wait_until("the schema to be under way", SOON, || {
        state.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(3)%' and pid <> pg_backend_pid()")
            != "0"
    });
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("\"message\":\"running\"", SOON);
    other.join().expect("it commits");
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 3);
    drop(daemon);
}

#[test]
fn a_directory_of_the_state_that_is_not_there_yet_is_waited_for_and_not_made() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    let directory = scene.directory().join("mnt");
    let state = Store::File(directory.join("state.db"));
    scene.set_text("state", "url", &state.url());
    let refused = scene.run(&["once"]).expect_code(2);
    assert!(refused.stderr.contains("mnt") && refused.stderr.contains("cure:"), "{refused}");
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("the state is away; waiting for it", SOON);
    assert!(!directory.exists(), "a mount point is not ours to make");
    std::fs::create_dir(&directory).expect("mounted");
    endpoint.wait_for_requests(3, SOON);
    drop(daemon);
}
