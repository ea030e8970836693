//! A poll that unknowingly lost its turn to another instance writes nothing more.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

use crate::support::engine::Engine;
use crate::support::lead_row::{at, row};
use crate::support::reading::settings;
use crate::support::wait::wait_until_async;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::fence::NewestPoller;
use conversica_sync::send::poll::poll;
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::send::turn::PollTurn;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::instance::InstanceId;

#[tokio::test]
async fn what_a_poll_has_read_is_not_written_once_another_instance_has_begun_one() {
    let (crm, place) = (Engine::Postgres.place(), Engine::Postgres.place());
    let state = place.state().await;
    crm.sql("create table leads (id bigint primary key, town text); insert into leads values (1, 'First')").await;
    let settings = settings(&crm, "table = 'leads'\nkey = 'id'", "city = 'town'");
    let tally = RunTally::default();
    let source = ConnectedCrm::open(&settings).await.unwrap();
    poll(PollContext { crm: &source, state: &state, settings: &settings, tally: &tally, now: at(0) }, PollReach::AsDue)
        .await
        .unwrap();

    crm.sql("update leads set town = 'Second'").await;
    // The poll has the turn, and has not read yet.
    let mut other = PgConnection::connect(&place.url).await.unwrap();
    other.execute("begin; lock table conversica_sync.consent in access exclusive mode").await.unwrap();
    let paused = poll(
        PollContext { crm: &source, state: &state, settings: &settings, tally: &tally, now: at(60) },
        PollReach::AsDue,
    );
    let meanwhile = async {
        let waiting = "select exists (select 1 from pg_locks where relation = 'conversica_sync.consent'::regclass and not granted)";
        wait_until_async("the poll has begun", Duration::from_secs(10), async || {
            sqlx::query_scalar(waiting).fetch_one(&mut other).await.unwrap()
        })
        .await;
        control::write(&state, &NewestPoller { instance: InstanceId::default() }, at(61)).await.unwrap();
        other.execute("rollback").await.unwrap();
    };
    let (paused, ()) = tokio::join!(paused, meanwhile);
    let error = paused.expect_err("its turn is over");
    assert!(format!("{error:#}").contains("another instance has taken over polling"), "{error:#}");
    assert!(row(&state, "1").await.desired.unwrap().contains("First"));
    assert!(control::read::<LastPoll>(&state).await.unwrap().unwrap().error.is_some(), "and it is said");

    poll(
        PollContext { crm: &source, state: &state, settings: &settings, tally: &tally, now: at(120) },
        PollReach::AsDue,
    )
    .await
    .unwrap();
    assert!(row(&state, "1").await.desired.unwrap().contains("Second"), "with the turn, it goes on");
}

#[tokio::test]
async fn a_write_that_has_begun_fails_when_another_instance_takes_over_before_its_statement() {
    let (crm, place) = (Engine::Postgres.place(), Engine::Postgres.place());
    let state = place.state().await;
    crm.sql("create table leads (id bigint primary key, town text); insert into leads values (1, 'First')").await;
    let settings = settings(&crm, "table = 'leads'\nkey = 'id'", "city = 'town'");
    let tally = RunTally::default();
    let mut turn = PollTurn::new(tally.instance);
    let source = ConnectedCrm::open(&settings).await.unwrap();
    let context =
        |seconds| PollContext { crm: &source, state: &state, settings: &settings, tally: &tally, now: at(seconds) };
    assert!(turn.try_take(&state).await.unwrap());
    turn.poll(context(0), PollReach::AsDue).await.unwrap();

    crm.sql("update leads set town = 'Second'").await;
    // The poll has read and has checked the fence; its write waits.
    let mut other = PgConnection::connect(&place.url).await.unwrap();
    other.execute("begin; lock table conversica_sync.lead in share mode").await.unwrap();
    let paused = turn.poll(context(60), PollReach::AsDue);
    let meanwhile = async {
        let waiting =
            "select exists (select 1 from pg_locks where relation = 'conversica_sync.lead'::regclass and not granted)";
        wait_until_async("the poll writes", Duration::from_secs(10), async || {
            sqlx::query_scalar(waiting).fetch_one(&mut other).await.unwrap()
        })
        .await;
        control::write(&state, &NewestPoller { instance: InstanceId::default() }, at(61)).await.unwrap();
        other.execute("rollback").await.unwrap();
    };
    let (paused, ()) = tokio::join!(paused, meanwhile);
    let error = paused.expect_err("its turn is over");
    assert!(format!("{error:#}").contains("another instance has taken over polling"), "{error:#}");
    assert!(row(&state, "1").await.desired.unwrap().contains("First"));
    let last = control::read::<LastPoll>(&state).await.unwrap().unwrap();
    assert_eq!(last.at, at(0), "how it ended is for the other instance to say");

    turn.poll(context(120), PollReach::AsDue).await.unwrap();
    assert!(row(&state, "1").await.desired.unwrap().contains("Second"), "with the turn, it goes on");
}
