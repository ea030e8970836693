//! Data with a retention time is deleted when the time is over, during all other work, and data that still counts is
//! kept.

use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::lead_row::at;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::store::prune::{self, PrunedKind};

on_both_engines!(a_step_is_small_and_goes_on_where_the_last_one_ended);

mod program {
    use super::*;

    blocking_on_both_engines!(what_is_old_goes_while_the_daemon_runs_and_what_still_counts_stays);
}

const DAY: i64 = 86_400_000_000;

/// A daemon whose state has data of 100 days ago and of one day ago.
fn what_is_old_goes_while_the_daemon_runs_and_what_still_counts_stays(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.set_text("state", "keep_outcomes", "90d").set_text("state", "keep_received", "30d");
    scene.run(&["once"]).expect_code(0);
    let now = chrono::Utc::now().timestamp_micros();
    let (old, new) = (now - 100 * DAY, now - DAY);
    let numbers = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 1200)";
    let hash = |text: &str| match engine {
        Engine::Sqlite => format!("cast({text} as blob)"),
        Engine::Postgres => format!("cast({text} as bytea)"),
    };
    scene.state(&format!(
        "insert into outcome (id, client_id, at, class, attempt) \
         {numbers} select '1', '', case when i <= 1100 then {old} else {new} end, 'accepted', 1 from n"
    ));
    scene.state(&format!(
        "insert into decision (at, action, who, leads) values ({old}, 'approve', 'Ann', 2), ({new}, 'retry', 'Bob', 1)"
    ));
    scene.state(&format!(
        "insert into decided (id, client_id, decision_seq) {numbers} \
         select cast(i as text), '', (select min(seq) from decision) from n"
    ));
    scene.state("insert into decided (id, client_id, decision_seq) select '1', '', max(seq) from decision");
    scene.state(&format!(
        "insert into alert (kind, id, client_id, occasion, body, created_at, due_at, done_at) values \
         ('hot_lead', '1', '', 'old, told', '{{}}', {old}, {old}, {old}), \
         ('hot_lead', '1', '', 'old, waits', '{{}}', {old}, {far}, null), \
         ('hot_lead', '1', '', 'new, told', '{{}}', {new}, {new}, {new})",
        far = now + DAY,
    ));
    for (what, received_at, applied_at, problem) in [
        ("done", old, "1", "null"),
        ("unreadable", old, "null", "'not JSON'"),
        ("waits for the CRM", old, "1", "null"),
        ("new", new, "1", "null"),
    ] {
        let hash = hash(&format!("'{what}'"));
        scene.state(&format!(
            "insert into event (kind, id, client_id, received_at, body, content_hash, problem, applied_at) \
             values ('message', '1', '', {received_at}, {body}, {hash}, {problem}, {applied_at})",
            body = self::body(engine),
        ));
    }
    let waits = hash("'waits for the CRM'");
    scene.state(&format!(
        "insert into writeback (event_seq, lane, status, due_at) \
         select seq, '1', 'stopped', 0 from event where content_hash = {waits}"
    ));
    scene.state(&format!(
        "insert into payload (id, client_id, body, at) {numbers} \
         select '1', '', cast(i as text), case when i <= 1100 then {old} else {new} end from n"
    ));
    scene.state(&format!(
        "insert into outcome_minute (minute, class, count) values ({}, 'accepted', 7)",
        old / 60_000_000
    ));

    let daemon = scene.daemon();
    let count = |table: &str| scene.state(&format!("select cast(count(*) as text) from {table}"))[0].clone();
    wait_until("the old posts have gone, which come last", Duration::from_secs(60), || count("event") == "3");
    assert_eq!(count("outcome"), "102", "those of the last day, and the two of today");
    assert_eq!(count("payload"), "100");
    assert_eq!(count("outcome_minute where count = 7"), "0");
    assert_eq!((count("decision"), count("decided")), ("1".to_owned(), "1".to_owned()));
    assert_eq!(scene.state("select occasion from alert order by occasion"), ["new, told", "old, waits"]);
    assert_eq!(count("lead"), "2");
    assert_eq!(scene.status()["outcomes"]["accepted"], json!(2), "what there was in all is known for ever");
    drop(daemon);
    assert_eq!(endpoint.answered(), 2, "and nothing is sent for it");
}

fn body(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "cast('{}' as blob)",
        Engine::Postgres => "cast('{}' as bytea)",
    }
}

async fn a_step_is_small_and_goes_on_where_the_last_one_ended(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    // Not in the order of time: one clock was set back, and one was wrong.
    let insert = "insert into outcome (id, client_id, at, class, attempt) \
                  with recursive n (i) as (select 1 union all select i + 1 from n where i < 1700) \
                  select cast(i as text), '', case when i <= 600 then 10 when i <= 1200 then $1 else 20 end, 'accepted', 1 from n";
    let far = at(1_000_000).timestamp_micros();
    on_state!(&db, pool => sqlx::query(insert).bind(far).execute(pool).await.map(drop)).unwrap();
    let (mut after, mut steps) = (Some(0), Vec::new());
    while let Some(seq) = after {
        let step = prune::step(&db, PrunedKind::Outcomes, seq, at(0)).await.unwrap();
        steps.push(step.rows);
        after = step.next;
    }
    assert_eq!(steps, [500, 100, 300, 200, 0], "those of a clock that was wrong are passed over");
    let again = prune::step(&db, PrunedKind::Outcomes, 0, at(2_000_000)).await.unwrap();
    assert_eq!(again.rows, 500, "and go in their time");
}
