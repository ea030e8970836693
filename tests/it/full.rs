//! A state without room, as on a full disk: the daemon reports it once, with its fix, sends nothing that it could not
//! record, and continues by itself when there is room.

use std::process::Command;
use std::time::Duration;

use crate::support::binary::{Cli, Running};
use crate::support::engine::{Engine, on_both_engines};
use crate::support::scene::Scene;
use crate::support::settled::{assert_classes, settled};
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};

const SOON: Duration = Duration::from_secs(60);

on_both_engines!(
    blocking: a_state_without_room_stops_the_sending_until_there_is_room,
    a_signal_while_there_is_no_room_ends_the_daemon_and_the_next_start_knows_what_was_on_its_way,
);

/// SQLite reports the file size limit as a failed write. The signal that comes with the limit would end the program, so
/// the program ignores it; a full disk sends none.
fn deaf_to_sigxfsz(scene: &Scene) -> Cli {
    scene.cli().launched_by("trap '' XFSZ; exec \"$@\"")
}

/// From now on the process may write no file beyond its first `limit` bytes.
fn limit_files(daemon: &Running, limit: &str) {
    // Only the soft limit, so that the process may raise it again.
    let arguments = [format!("--pid={}", daemon.id()), format!("--fsize={limit}:")];
    let status = Command::new("prlimit").args(arguments).status().expect("prlimit is a part of util-linux");
    assert!(status.success(), "prlimit refused");
}

fn fill(engine: Engine, scene: &Scene, daemon: &Running) {
    match engine {
        Engine::Sqlite => limit_files(daemon, "4096"),
        // The error of PostgreSQL on a full disk.
        Engine::Postgres => drop(scene.state(
            "create function conversica_sync.no_room() returns trigger language plpgsql as \
             $$ begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$; \
             create trigger no_room before insert or update on lead for each statement execute function no_room(); \
             create trigger no_room before insert or update on outcome for each statement execute function no_room(); \
             create trigger no_room before insert or update on control for each statement execute function no_room()",
        )),
    }
}

fn make_room(engine: Engine, scene: &Scene, daemon: &Running) {
    match engine {
        Engine::Sqlite => limit_files(daemon, "unlimited"),
        Engine::Postgres => drop(scene.state("drop function no_room() cascade")),
    }
}

/// A daemon with one request in flight when the room ends, and nineteen more that are due; the answer has arrived since.
fn without_room(engine: Engine) -> (Scene, StandIn, Running) {
    let gate = Gate::new();
    let held = gate.clone();
    let endpoint = StandIn::start(move |request| match request.n {
        1 => Reaction::accept().when_opened(&held),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 20);
    scene.set_text("delivery", "timeout", "5s");
    let mut daemon = deaf_to_sigxfsz(&scene).spawn(&["run"]);
    daemon.wait_for_line("\"message\":\"running\"", SOON);
    endpoint.wait_for_requests(1, SOON);
    scene.wait_for_status("the first poll", SOON, |status| status["last_poll"]["rows"] == 20);
    fill(engine, &scene, &daemon);
    gate.open();
    daemon.wait_for_line("the state cannot be written", SOON);
    (scene, endpoint, daemon)
}

fn a_state_without_room_stops_the_sending_until_there_is_room(engine: Engine) {
    let (scene, endpoint, mut daemon) = without_room(engine);
    scene.crm("update leads set last_name = 'Newer' where id in (1, 20)");
    daemon.wait_for_line("a poll failed", SOON);
    assert_eq!(endpoint.requests().len(), 1, "what could not be written down is not sent");
    make_room(engine, &scene, &daemon);
    daemon.wait_for_line("the state can be written again", SOON);
    let status = settled(&scene, &[&endpoint], SOON);
    assert_classes(&status, &[&endpoint], 0);
    assert_eq!(status["outcomes"]["ambiguous"], 0, "the answer that came meanwhile was kept");
    daemon.wait_for_line("polling works again", SOON);
    daemon.signal(Signal::Terminate);
    let log = daemon.wait(SOON).expect_code(0).stderr;
    let said: Vec<&str> = log.lines().filter(|line| line.contains("the state cannot be written")).collect();
    assert_eq!(said.len(), 1, "said once: {log}");
    assert!(said[0].contains("\"cure\""), "with a cure: {}", said[0]);
}

fn a_signal_while_there_is_no_room_ends_the_daemon_and_the_next_start_knows_what_was_on_its_way(engine: Engine) {
    let (scene, endpoint, daemon) = without_room(engine);
    daemon.signal(Signal::Terminate);
    let output = daemon.wait(SOON).expect_code(0);
    assert!(output.stderr.contains("the next start records them as ambiguous"), "{output}");
    if engine == Engine::Postgres {
        scene.state("drop function no_room() cascade");
        // Ends the leases at once, instead of after half a minute.
        scene.state("update lead set lease_until = 1 where status = 'in_flight'");
    }
    let daemon = scene.daemon();
    let status = settled(&scene, &[&endpoint], SOON);
    assert_eq!((&status["outcomes"]["ambiguous"], &status["outcomes"]["accepted"]), (&1.into(), &20.into()));
    let requests = endpoint.requests();
    let first = requests[0].request.id.clone().expect("an id");
    assert_eq!((requests.len(), endpoint.bodies_of(&first).len()), (21, 2), "the same once more, and nothing else");
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

#[test]
fn a_start_without_room_says_what_is_wrong_and_a_later_one_goes_on() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 4);
    // First without a state, then with one that is in sync.
    for leads in [5, 6] {
        let full = scene.cli().launched_by("trap '' XFSZ; ulimit -S -f 0; exec \"$@\"");
        for command in ["run", "once"] {
            let output = full.run(&[command]);
            assert_eq!(output.code, Some(2), "{output}");
            assert!(output.stderr.contains("state.db") && output.stderr.contains("cure: make room"), "{output}");
        }
        scene.add(leads, leads);
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!(status["leads"]["in_sync"], leads);
    }
    assert_eq!(endpoint.requests().len(), 6);
}
