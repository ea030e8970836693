//! An opt-out arrives on a machine whose clock is behind: older consent in the CRM's row does not end it, then or later.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::engine::Engine;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wrong_clock::with_clock;

fn opt_outs(endpoint: &StandIn) -> Vec<Value> {
    endpoint.bodies_of("1").iter().map(|body| body["optOut"].clone()).collect()
}

#[test]
fn consent_that_the_row_held_before_the_opt_out_was_heard_ends_nothing_once_the_clock_is_right() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Sqlite, &endpoint.url(), 1);
    scene.crm("alter table leads add column consent_at text");
    scene.set_text("consent", "given_at", "consent_at").set_text("consent", "scope", "id");
    let given = |scene: &Scene, at: chrono::DateTime<Utc>| {
        scene.crm(&format!("update leads set consent_at = '{}'", at.format("%Y-%m-%dT%H:%M:%SZ")));
    };
    given(&scene, Utc::now() - TimeDelta::seconds(20));
    with_clock(scene.cli(), "-10m").run(&["once"]).expect_code(0);
    // The opt-out is recorded by the same clock, and has no date of its own.
    let heard = (Utc::now() - TimeDelta::minutes(10)).timestamp_micros();
    scene.state(&format!(
        "insert into consent (id, client_id, channel, given, at, heard_at, source) \
         values ('1', '', 'email', 0, {heard}, {heard}, 'conversica')"
    ));
    scene.state("update lead set row_hash = null");
    with_clock(scene.cli(), "-10m").run(&["once", "--full"]);
    scene.crm("update leads set last_name = 'Baker'");
    for _ in 0..2 {
        scene.run(&["once", "--full"]);
    }
    assert_eq!(opt_outs(&endpoint).last(), Some(&json!(true)));
    assert_eq!(opt_outs(&endpoint).iter().filter(|said| **said == json!(false)).count(), 1, "before it was heard");
    // Newer consent ends it.
    given(&scene, Utc::now());
    scene.run(&["once", "--full"]);
    assert_eq!(opt_outs(&endpoint).last(), Some(&json!(false)));
}
