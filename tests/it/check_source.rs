//! What `check` says of how changes are found: the index, blank and future stamps, and which open transactions are seen.

use crate::support::binary::Output;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    check_says_whether_an_index_serves_the_polls,
    check_counts_the_blank_stamps_and_names_those_in_the_future,
);

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    scene.set_text("source", "changed_at", "changed");
    scene.crm(&format!("alter table leads add column changed {}", engine.pick("text", "timestamptz")));
    scene.crm("update leads set changed = '2026-06-01 12:00:00'");
    scene
}

#[track_caller]
fn says(output: &Output, mark: &str, text: &str) {
    let line = output.stdout.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {output}"));
    assert!(line.starts_with(mark), "{line}");
}

fn check_says_whether_an_index_serves_the_polls(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    says(&scene.run(&["check"]).expect_code(0), "look", "no index serves changed_at");
    scene.crm("create index leads_changed on leads (changed)");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
    scene.set_text("source", "changed_at", "coalesce(changed, null)");
    says(&scene.run(&["check"]).expect_code(0), "look", "no index serves changed_at");
    scene.crm("create index leads_expression on leads (coalesce(changed, null))");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
    scene.crm("create view people as select * from leads");
    scene.set_text("source", "changed_at", "changed").set_text("source", "table", "people");
    says(&scene.run(&["check"]).expect_code(0), "ok", "an index serves changed_at");
}

fn check_counts_the_blank_stamps_and_names_those_in_the_future(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let good = scene.run(&["check"]).expect_code(0);
    says(&good, "ok", "every row has a changed_at");
    assert!(!good.stdout.contains("future"), "{good}");
    scene.crm("update leads set changed = null where id < 3");
    says(&scene.run(&["check"]).expect_code(0), "look", "2 row(s) have no changed_at: only full compares see them");
    scene.crm("update leads set changed = '2199-01-01 00:00:00' where id = 4");
    says(&scene.run(&["check"]).expect_code(0), "look", "the newest changed_at lies in the future");
    if engine == Engine::Sqlite {
        scene.crm("update leads set changed = 'soon' where id = 4");
        says(&scene.run(&["check"]).expect_code(0), "look", "no date, time or epoch number");
    }
}

#[test]
fn check_says_whose_open_transactions_are_seen_and_how_to_see_all() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Postgres, &endpoint);
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");
    scene.crm("drop role if exists \"near sighted\"; create role \"near sighted\" login; grant select on leads to \"near sighted\"");
    let url = scene.crm_store().url().replace("postgres@", "near%20sighted@");
    scene.set_text("source", "url", &url);
    let output = scene.run(&["check"]).expect_code(0);
    says(&output, "look", "only [source] lookback (5m) finds the rows of a transaction that commits late");
    assert!(output.stdout.contains("grant pg_read_all_stats to \"near sighted\""), "{output}");
    scene.crm("grant pg_read_all_stats to \"near sighted\"");
    says(&scene.run(&["check"]).expect_code(0), "ok", "open transactions can be seen");
}
