//! A backup of the state, and its restoration: a restored state is older than the content that Conversica holds.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};

const SOON: Duration = Duration::from_secs(30);

blocking_on_both_engines!(what_a_restored_state_would_send_waits_for_a_person);

#[test]
fn a_backup_that_is_put_back_sends_nothing_unasked_but_withdrawals() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 5);
    scene.set("safety", "approve_above", "0");
    let daemon = scene.daemon();
    scene.wait_for_status("all are delivered", SOON, |status| status["leads"]["in_sync"] == json!(5));
    let backup = scene.directory().join("backup.db");
    let said = scene.run(&["backup", backup.to_str().unwrap()]).expect_code(0);
    assert!(said.stdout.contains("has the state as it is now"), "{said}");
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = scene.run(&["backup", backup.to_str().unwrap()]).expect_code(2);
    assert!(again.stderr.contains("is there already"), "{again}");

    scene.crm("update leads set last_name = 'Changed' where id = 1");
    scene.add(6, 6);
    endpoint.wait_for_requests(7, SOON);
    scene.wait_for_status("delivered again", SOON, |status| status["leads"]["in_sync"] == json!(6));
    assert_eq!(scene.status()["hold"], json!(null), "the state itself is as it was");
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);

    for file in ["state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(scene.directory().join(file));
    }
    std::fs::copy(&backup, scene.state_file()).unwrap();
    assert!(scene.files().iter().all(|name| !name.starts_with(".conversica-sync-backup")), "nothing else is left");
    scene.crm("update leads set opt_out = 1 where id = 2");
    let plan = scene.run(&["plan"]);
    assert!(plan.stdout.contains("HELD for a person (restored)"), "{plan}");
    let status = scene.run(&["status"]);
    assert!(status.stdout.contains("RESTORED from a backup at "), "{status}");
    assert!(scene.status()["restored_at"].is_string());
    let _daemon = scene.daemon();
    scene.wait_for_status("what it would send is held", SOON, |status| {
        status["hold"]["reason"] == json!("restored") && status["hold"]["leads"] == json!(2)
    });
    endpoint.wait_for_requests(8, SOON);
    assert_eq!(endpoint.bodies_of("2").last().unwrap()["optOut"], json!(true), "a withdrawal waits for nobody");
    scene.crm("update leads set last_name = 'Changed again' where id = 3");
    scene.wait_for_status("what comes later joins", SOON, |status| status["leads"]["held"] == json!(3));
    assert_eq!(endpoint.answered(), 8);
    scene.run(&["approve", "--yes"]).expect_code(0);
    endpoint.wait_for_requests(11, SOON);
    scene.wait_for_status("and the hold is over", SOON, |status| status["hold"] == json!(null));
    assert_eq!(scene.status()["restored_at"], json!(null), "everything was compared");
    scene.crm("update leads set last_name = 'Changed once more' where id = 4");
    endpoint.wait_for_requests(12, SOON);
}

fn what_a_restored_state_would_send_waits_for_a_person(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::status(503));
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.set_text("delivery.retry", "initial_interval", "1h").set_text("delivery.retry", "max_interval", "2h");
    scene.run(&["once", "--max-wait", "0s"]);
    assert_eq!(scene.status()["leads"]["retrying"], json!(2));
    let said = scene.run(&["restored"]).expect_code(0);
    assert!(said.stdout.contains("2 leads that waited to be sent are held"), "{said}");
    let status = scene.status();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("restored"), &json!(2)));
    let refused = scene.run(&["backup", "copy.db"]);
    match engine {
        Engine::Sqlite => drop(refused.expect_code(0)),
        Engine::Postgres => {
            let refused = refused.expect_code(2);
            assert!(
                refused.stderr.contains("pg_dump") && refused.stderr.contains("conversica-sync restored"),
                "{refused}"
            );
        }
    }
}
