//! Triggers in trouble: a row that is no lead, a network that swallows packets, a log that cannot be drained, a table
//! that is gone. The program reports each once, with its fix, and limits the cost.

use std::time::Duration;

use serde_json::Value;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::Cluster;
use crate::support::relay::Relay;
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use crate::triggers;

blocking_on_both_engines!(
    a_doubled_key_costs_no_comparison_and_stops_nobody,
    what_cannot_be_taken_out_of_the_log_is_said_with_its_cure,
    a_table_that_is_gone_or_has_become_a_view_is_what_is_said,
);

const SOON: Duration = Duration::from_secs(30);

fn error_of(status: &Value) -> &str {
    status["last_poll"]["error"].as_str().unwrap_or_default()
}

fn waiting(scene: &Scene) -> String {
    scene.crm("select cast(count(*) as text) from conversica_sync_leads").concat()
}

fn a_doubled_key_costs_no_comparison_and_stops_nobody(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("source", "key", "email");
    scene.set_text("source", "changes", "triggers").set_text("source", "poll_interval", "200ms");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let daemon = scene.daemon();
    scene.wait_for_status("all sent", SOON, |status| status["leads"]["in_sync"] == 3);
    let compared_at = scene.status()["last_poll"]["succeeded_at"]["full"].clone();
    scene.crm("insert into leads (id, first_name, email, owner_name) values (9, 'Eve', 'ann2@example.com', 'Rae')");
    scene.wait_for_status("the doubled key", SOON, |status| status["leads"]["invalid"] == 1);
    scene.crm("update leads set opt_out = 1 where id = 3");
    wait_until("the opt-out", SOON, || endpoint.bodies_of("ann3@example.com").len() == 2);
    assert_eq!(endpoint.bodies_of("ann3@example.com")[1]["optOut"], true);
    scene.crm("delete from leads where id = 9");
    scene.wait_for_status("one row left", SOON, |status| status["leads"]["in_sync"] == 3);
    assert_eq!(scene.status()["last_poll"]["succeeded_at"]["full"], compared_at, "nothing was compared for it");
    assert_eq!(endpoint.bodies_of("ann2@example.com").len(), 1, "what Conversica holds is not sent again");
    drop(daemon);
}

fn what_cannot_be_taken_out_of_the_log_is_said_with_its_cure(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = triggers::scene(engine, &endpoint, 3);
    let cure = "cannot be taken out of the change log";
    if engine == Engine::Sqlite {
        // No user, not even root, can write over this URL.
        let url = scene.crm_store().url();
        scene.set_text("source", "url", &format!("{url}?immutable=true"));
        for command in ["run", "once"] {
            let refused = scene.run(&[command]).expect_code(2);
            assert!(refused.stderr.contains(cure) && refused.stderr.contains("writable"), "{refused}");
        }
        assert_eq!(endpoint.connections(), 0, "said before anything is sent");
        scene.set_text("source", "url", &url);
    }
    scene.run(&["once"]).expect_code(0);
    scene.crm(engine.pick(
        "create trigger stuck before delete on conversica_sync_leads begin select raise(abort, 'stuck'); end",
        "create function stuck() returns trigger language plpgsql as 'begin raise ''stuck''; end'; \
         create trigger stuck before delete on conversica_sync_leads for each row execute function stuck()",
    ));
    scene.crm("update leads set last_name = 'Changed' where id = 2");
    let refused = scene.run(&["once"]).expect_code(2);
    assert!(refused.stderr.contains(cure), "{refused}");
}

fn a_table_that_is_gone_or_has_become_a_view_is_what_is_said(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = triggers::scene(engine, &endpoint, 3);
    scene.set_text("source", "poll_interval", "100ms");
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    scene.crm("alter table leads rename to people; create view leads as select * from people");
    scene.wait_for_status("the view", SOON, |status| error_of(status).contains("has changed"));
    scene.crm("drop view leads");
    scene.wait_for_status("no table", SOON, |status| {
        let error = error_of(status);
        !error.is_empty() && !error.contains("has changed") && !error.contains("triggers install")
    });
    scene.crm("alter table people rename to leads");
    if engine == Engine::Sqlite {
        // Renaming back rewrites the triggers' text.
        scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    }
    scene.crm("update leads set last_name = 'Back' where id = 1");
    settled(&scene, &[&endpoint], SOON);
    drop(daemon);
}

#[test]
fn a_listening_connection_that_is_swallowed_does_not_keep_the_log_from_being_drained() {
    let cluster = Cluster::private_on_tcp();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on_cluster(&cluster, &endpoint.url(), 3);
    let url = scene.crm_store().url();
    let (before, rest) = url.split_once("127.0.0.1:").expect("over TCP");
    let (port, rest) = rest.split_once('/').expect("a database");
    let relay = Relay::to(port.parse().expect("a port"));
    scene.set_text("source", "url", &format!("{before}127.0.0.1:{}/{rest}", relay.port()));
    scene.set_text("source", "changes", "triggers").set_text("source", "poll_interval", "1s");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    wait_until("somebody who listens", SOON, || relay.listening() == 1);
    assert_eq!(relay.swallow_listening(), 1);
    // The program tests the connection after half a minute, and drops it soon after.
    wait_until("another who listens", Duration::from_secs(90), || relay.listening() == 1);
    for name in ["One", "Two", "Three"] {
        scene.crm(&format!("update leads set last_name = '{name}' where id = 2"));
        settled(&scene, &[&endpoint], SOON);
        wait_until("a drained log", SOON, || waiting(&scene) == "0");
    }
    assert_eq!(scene.status()["last_poll"]["error"], Value::Null);
    drop(daemon);
}
