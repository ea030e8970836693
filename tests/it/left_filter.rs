//! A row that leaves `where` and is stamped for it (a soft delete) is acted on by the next incremental poll, and so large a loss
//! that it may be a mistake by a full compare.

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_soft_deleted_lead_is_stopped_by_the_next_incremental_poll,
    a_row_in_the_filter_keeps_its_lead_whatever_else_has_its_key,
    a_large_loss_is_judged_by_a_full_compare_and_held,
    a_loss_bit_by_bit_is_held_as_one,
);

/// Leads that are stamped one minute apart, so that a poll reads the newest ones only.
fn scene(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 0);
    let moment = engine.pick("text", "timestamp");
    scene.crm(&format!(
        "alter table leads add column updated_at {moment}; alter table leads add column deleted_at {moment}"
    ));
    scene.add(1, leads);
    scene.crm(engine.pick(
        "update leads set updated_at = datetime('2026-01-01 10:00:00', '+' || id || ' minutes')",
        "update leads set updated_at = timestamp '2026-01-01 10:00:00' + id * interval '1 minute'",
    ));
    scene.set_text("source", "where", "deleted_at is null -- the living").set_text(
        "source",
        "changed_at",
        "updated_at",
    );
    scene.set_text("source", "on_delete", "stop_messaging");
    scene
}

fn delete(scene: &Scene, which: &str) {
    scene.crm(&format!(
        "update leads set deleted_at = '2026-02-01 10:00:00', updated_at = '2026-02-01 10:00:00' where {which}"
    ));
}

/// Runs `once`; returns how it read.
fn once(scene: &Scene, code: i32) -> String {
    scene.run(&["once"]).expect_code(code);
    scene.status()["last_poll"]["kind"].as_str().expect("a kind").to_owned()
}

fn a_soft_deleted_lead_is_stopped_by_the_next_incremental_poll(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 20);
    scene.crm("insert into leads (id, first_name, deleted_at, updated_at) values (99, 'Never', '2026-01-01 10:00:00', '2026-02-01 10:00:00')");
    assert_eq!(once(&scene, 0), "full");
    assert_eq!(endpoint.requests().len(), 20);
    delete(&scene, "id in (3, 7)");
    assert_eq!(once(&scene, 0), "incremental");
    assert_eq!(scene.status()["leads"]["gone"], 2);
    for id in ["3", "7"] {
        let bodies = endpoint.bodies_of(id);
        assert_eq!(bodies.len(), 2, "{bodies:?}");
        assert_eq!((&bodies[1]["stopMessaging"], &bodies[1]["lastName"]), (&true.into(), &"Bell".into()));
    }
    // It is told once, and a row without a newer stamp waits for the full compare.
    scene.crm("update leads set deleted_at = '2026-02-01 10:00:00' where id = 5");
    assert_eq!(once(&scene, 0), "incremental");
    assert_eq!((endpoint.requests().len(), &scene.status()["leads"]["gone"]), (22, &2.into()));
    // It comes back.
    scene.crm("update leads set deleted_at = null, updated_at = '2026-02-01 10:01:00' where id = 7");
    assert_eq!(once(&scene, 0), "incremental");
    assert_eq!(scene.status()["leads"]["gone"], 1);
    let bodies = endpoint.bodies_of("7");
    assert!(bodies.len() == 3 && bodies[2]["stopMessaging"] != true, "{bodies:?}");
}

fn a_row_in_the_filter_keeps_its_lead_whatever_else_has_its_key(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 10);
    let kept = "create table copies as select * from leads; drop table leads; alter table copies rename to leads";
    scene.crm(kept);
    assert_eq!(once(&scene, 0), "full");
    scene.crm(
        "insert into leads (id, first_name, opt_out, deleted_at, updated_at) values (4, 'Old', 0, '2026-02-01 10:00:00', '2026-02-01 10:00:00')",
    );
    assert_eq!(once(&scene, 0), "incremental");
    assert_eq!((endpoint.requests().len(), &scene.status()["leads"]["in_sync"]), (10, &10.into()));
}

fn a_large_loss_is_judged_by_a_full_compare_and_held(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 10);
    assert_eq!(once(&scene, 0), "full");
    delete(&scene, "id <= 8");
    scene.run(&["once"]);
    assert_eq!(scene.status()["leads"]["gone"], 0);
    assert_eq!(once(&scene, 4), "full");
    let status = scene.status();
    assert_eq!(
        (&status["hold"]["reason"], &status["hold"]["leads"]),
        (&"source_shrank".into(), &8.into()),
        "{status:#}"
    );
    assert_eq!(endpoint.requests().len(), 10, "nobody was stopped");
}

fn a_loss_bit_by_bit_is_held_as_one(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 10);
    assert_eq!(once(&scene, 0), "full");
    for id in 1..=5 {
        delete(&scene, &format!("id = {id}"));
        assert_eq!(once(&scene, 0), "incremental");
        assert_eq!(scene.status()["leads"]["gone"], id);
    }
    delete(&scene, "id = 6");
    scene.run(&["once"]);
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    assert_eq!((&status["leads"]["gone"], &status["hold"]["leads"]), (&5.into(), &1.into()), "{status:#}");
}
