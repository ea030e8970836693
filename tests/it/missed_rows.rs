//! No row is missed: transactions of any length and order, stamps of every kind, clocks that step, and polls in between.
//! The first poll after a commit finds every change that is not back-dated; the next full compare finds the others.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::engine::{Engine, Place};
use crate::support::postgres::Cluster;
use crate::support::reading::settings;
use conversica_sync::config::ServiceSettings;
use conversica_sync::rules::cursor::PollCursor;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::state_db::StateDb;

/// One row in each of the id ranges of the writers, so that no writer waits for another one's row lock.
const ROWS: i64 = 4;

#[derive(Debug, Clone, Copy)]
enum Stamp {
    /// The start of the transaction, as `now()` and most triggers write it.
    Start,
    /// The moment of writing.
    Moment,
    BackDated,
    Null,
    Future,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A writer with a transaction of several statements begins, writes, or ends.
    Begin(usize),
    Write(usize, i64, Stamp),
    End(usize, bool),
    /// A write in its own transaction.
    Alone(i64, Stamp),
    Poll {
        /// The offset of our own clock.
        skew_seconds: i64,
        reach: PollReach,
    },
}

fn event(max_skew_seconds: i64) -> impl Strategy<Value = Event> {
    let stamp = || {
        prop_oneof![
            5 => Just(Stamp::Start),
            3 => Just(Stamp::Moment),
            1 => Just(Stamp::BackDated),
            1 => Just(Stamp::Null),
            1 => Just(Stamp::Future),
        ]
    };
    let skew = prop_oneof![4 => Just(0), 1 => -max_skew_seconds..=max_skew_seconds];
    prop_oneof![
        3 => (0..WRITERS).prop_map(Event::Begin),
        4 => (0..WRITERS, 0..ROWS, stamp()).prop_map(|(writer, row, stamp)| Event::Write(writer, row, stamp)),
        2 => (0..WRITERS, prop::bool::weighted(0.85)).prop_map(|(writer, commits)| Event::End(writer, commits)),
        4 => (0..ROWS, stamp()).prop_map(|(row, stamp)| Event::Alone(row, stamp)),
        5 => (skew, prop::bool::weighted(0.1)).prop_map(|(skew_seconds, full)| Event::Poll {
            skew_seconds,
            reach: if full { PollReach::Everything } else { PollReach::AsDue },
        }),
    ]
}

const WRITERS: usize = 3;

/// A row's content, and whether an incremental poll has to find it.
#[derive(Debug, Clone)]
struct Written {
    town: String,
    found_soon: bool,
}

/// The rows that a transaction has written.
type Rows = Vec<(i64, Written)>;

/// The committed rows, and the state under test.
struct Model {
    crm: ConnectedCrm,
    state: StateDb,
    settings: ServiceSettings,
    committed: BTreeMap<i64, Written>,
    versions: u32,
}

impl Model {
    async fn new(place: &Place, lookback: &str) -> Self {
        let source = format!("table = 'leads'\nkey = 'id'\nchanged_at = 'changed'\nlookback = '{lookback}'");
        let settings = settings(place, &source, "city = 'town'");
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let state = StateDb::open_state_in_memory().await.unwrap();
        Self { crm, state, settings, committed: BTreeMap::new(), versions: 0 }
    }

    fn next(&mut self, stamp: Stamp) -> Written {
        self.versions += 1;
        let found_soon = !matches!(stamp, Stamp::BackDated | Stamp::Null);
        Written { town: format!("Version {} of all", self.versions), found_soon }
    }

    async fn poll(&self, reach: PollReach, now: DateTime<Utc>) -> PollOutcome {
        poll(
            PollContext {
                crm: &self.crm,
                state: &self.state,
                settings: &self.settings,
                tally: &RunTally::default(),
                now,
            },
            reach,
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn poll_and_check(&self, reach: PollReach, now: DateTime<Utc>) {
        self.poll(reach, now).await;
        let known: Vec<(String, String)> = on_state!(&self.state, pool => {
            sqlx::query_as("select id, desired from lead").fetch_all(pool).await.unwrap()
        });
        let known: BTreeMap<i64, String> = known.into_iter().map(|(id, body)| (id.parse().unwrap(), body)).collect();
        let last = control::read::<LastPoll>(&self.state).await.unwrap().unwrap();
        for (id, written) in &self.committed {
            let is_known = known.get(id).is_some_and(|body| body.contains(&written.town));
            assert!(is_known || !written.found_soon && last.kind == "incremental", "row {id} was missed: {written:?}");
        }
    }
}

/// The type of the change column. For timestamps the bound is cut to the second, which hides a narrow miss.
#[derive(Debug, Clone, Copy)]
enum Column {
    Timestamp,
    Microseconds,
}

impl Column {
    fn kind(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamptz",
            Self::Microseconds => "bigint",
        }
    }

    fn value(self, moment: &str) -> String {
        match self {
            Self::Timestamp => moment.to_owned(),
            Self::Microseconds => format!("(extract(epoch from {moment}) * 1000000)::bigint"),
        }
    }
}

/// PostgreSQL: the transactions are real, and so are their clocks.
async fn play_on_postgres(place: &Place, column: Column, events: Vec<Event>) {
    let kind = column.kind();
    place
        .sql(&format!(
            "drop table if exists leads; create table leads (id bigint primary key, town text, changed {kind})"
        ))
        .await;
    let mut model = Model::new(place, "0s").await;
    let mut writers: Vec<(PgConnection, Option<Rows>)> = Vec::new();
    for _ in 0..WRITERS {
        writers.push((PgConnection::connect(&place.url).await.unwrap(), None));
    }
    let mut alone = PgConnection::connect(&place.url).await.unwrap();
    let statement = |id: i64, written: &Written, stamp: Stamp| {
        let changed = column.value(match stamp {
            Stamp::Start => "now()",
            Stamp::Moment => "clock_timestamp()",
            Stamp::BackDated => "now() - interval '30 days'",
            Stamp::Null => "null::timestamptz",
            Stamp::Future => "now() + interval '70 years'",
        });
        AssertSqlSafe(format!(
            "insert into leads values ({id}, '{}', {changed}) \
             on conflict (id) do update set town = excluded.town, changed = excluded.changed",
            written.town
        ))
    };
    for event in events {
        match event {
            Event::Begin(writer) => {
                let (connection, open) = &mut writers[writer];
                if open.is_none() {
                    connection.execute("begin").await.unwrap();
                    *open = Some(Vec::new());
                }
            }
            Event::Write(writer, row, stamp) => {
                let (connection, open) = &mut writers[writer];
                if let Some(written) = open {
                    let (id, now) = (writer as i64 * ROWS + row, model.next(stamp));
                    connection.execute(statement(id, &now, stamp)).await.unwrap();
                    written.push((id, now));
                }
            }
            Event::End(writer, commits) => {
                let (connection, open) = &mut writers[writer];
                if let Some(written) = open.take() {
                    connection.execute(if commits { "commit" } else { "rollback" }).await.unwrap();
                    model.committed.extend(written.into_iter().filter(|_| commits));
                }
            }
            Event::Alone(row, stamp) => {
                let (id, now) = (WRITERS as i64 * ROWS + row, model.next(stamp));
                alone.execute(statement(id, &now, stamp)).await.unwrap();
                model.committed.insert(id, now);
            }
            Event::Poll { skew_seconds, reach } => {
                model.poll_and_check(reach, Utc::now() + TimeDelta::seconds(skew_seconds)).await;
            }
        }
    }
    for (connection, _) in writers {
        connection.close().await.unwrap();
    }
    model.poll_and_check(PollReach::AsDue, Utc::now()).await;
    model.poll_and_check(PollReach::Everything, Utc::now()).await;
    model.crm.db.close().await;
}

/// SQLite has one writer at a time and no server clock: the test sets the time, ten seconds an event.
async fn play_on_sqlite(place: &Place, events: Vec<Event>) {
    place
        .sql("pragma journal_mode = wal; drop table if exists leads; create table leads (id integer primary key, town text, changed datetime)")
        .await;
    let mut model = Model::new(place, "5m").await;
    let mut writer = SqliteConnection::connect(&place.url).await.unwrap();
    let mut open: Option<(DateTime<Utc>, Rows)> = None;
    let mut now: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
    for event in events {
        now += TimeDelta::seconds(10);
        // A writer must not block the others for longer than the look-back less the offset of our clock.
        let is_over = open.as_ref().is_some_and(|(since, _)| now - *since > TimeDelta::seconds(200));
        let event = if is_over { Event::End(0, true) } else { event };
        match (event, &mut open) {
            (Event::Begin(_), None) => {
                writer.execute("begin immediate").await.unwrap();
                open = Some((now, Vec::new()));
            }
            (Event::Write(_, row, stamp), Some((since, written))) => {
                let version = model.next(stamp);
                writer.execute(sqlite_statement(row, &version, stamp, *since, now)).await.unwrap();
                written.push((row, version));
            }
            (Event::End(_, commits), Some(_)) => {
                writer.execute(if commits { "commit" } else { "rollback" }).await.unwrap();
                let (_, written) = open.take().unwrap();
                model.committed.extend(written.into_iter().filter(|_| commits));
            }
            (Event::Alone(row, stamp), None) => {
                let version = model.next(stamp);
                writer.execute(sqlite_statement(row, &version, stamp, now, now)).await.unwrap();
                model.committed.insert(row, version);
            }
            (Event::Poll { skew_seconds, reach }, _) => {
                model.poll_and_check(reach, now + TimeDelta::seconds(skew_seconds)).await;
            }
            _ => {}
        }
    }
    writer.close().await.unwrap();
    now += TimeDelta::seconds(10);
    model.poll_and_check(PollReach::AsDue, now).await;
    model.poll_and_check(PollReach::Everything, now).await;
    model.crm.db.close().await;
}

/// Mixed forms, as in a CRM with a history: two of text, and seconds since 1970.
fn sqlite_statement(
    row: i64,
    written: &Written,
    stamp: Stamp,
    start: DateTime<Utc>,
    now: DateTime<Utc>,
) -> AssertSqlSafe<String> {
    let at = match stamp {
        Stamp::Start => start,
        Stamp::Moment => now,
        Stamp::BackDated => now - TimeDelta::days(30),
        Stamp::Future => now + TimeDelta::days(30_000),
        Stamp::Null => return insert(row, written, "null"),
    };
    let changed = match (row, stamp) {
        (0, _) => format!("'{}'", at.format("%Y-%m-%d %H:%M:%S")),
        (1, _) => format!("'{}'", at.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
        (2, Stamp::Start | Stamp::Moment) => at.timestamp().to_string(),
        _ => format!("'{}'", at.format("%Y-%m-%d %H:%M:%S%.6f")),
    };
    insert(row, written, &changed)
}

fn insert(row: i64, written: &Written, changed: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("insert or replace into leads values ({row}, '{}', {changed})", written.town))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn no_row_is_missed_in_postgresql_however_its_transactions_interleave() {
    let place = Engine::Postgres.place();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let column = || prop_oneof![3 => Just(Column::Microseconds), 1 => Just(Column::Timestamp)];
    proptest!(config, |(column in column(), events in prop::collection::vec(event(7200), 1..50))| {
        block_on(play_on_postgres(&place, column, events));
    });
}

#[test]
fn no_row_is_missed_in_sqlite_whatever_its_stamps_look_like() {
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in prop::collection::vec(event(60), 1..60))| {
        block_on(play_on_sqlite(&Engine::Sqlite.place(), events));
    });
}

/// A row that is updated over the connection, stamped with its transaction's start.
async fn update(connection: &mut PgConnection, id: i64, town: &str) {
    let now = Column::Microseconds.value("now()");
    let sql = format!("update leads set town = '{town}', changed = {now} where id = {id}");
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

async fn three_rows(place: &Place, column: Column) {
    let (kind, changed) = (column.kind(), column.value("now() - interval '1 hour'"));
    place
        .sql(&format!(
            "create table leads (id bigint primary key, town text, changed {kind}); \
             insert into leads select i, 'Town ' || i, {changed} from generate_series(1, 3) i"
        ))
        .await;
}

#[tokio::test]
async fn a_transaction_that_was_prepared_is_waited_for_from_its_start() {
    let cluster = Cluster::private();
    cluster.database().sql("alter system set max_prepared_transactions = 5");
    cluster.stop();
    cluster.start();
    let place = Place::at(Engine::Postgres, cluster.database().url);
    three_rows(&place, Column::Microseconds).await;
    let mut model = Model::new(&place, "0s").await;
    model.poll(PollReach::AsDue, Utc::now()).await;

    let mut slow = PgConnection::connect(&place.url).await.unwrap();
    slow.execute("begin").await.unwrap();
    update(&mut slow, 1, "Slow").await;
    let mut quick = PgConnection::connect(&place.url).await.unwrap();
    update(&mut quick, 2, "Quick").await;
    assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, 1);
    slow.execute("prepare transaction 'slow'").await.unwrap();
    update(&mut quick, 3, "Quick").await;
    for _ in 0..2 {
        model.poll(PollReach::AsDue, Utc::now()).await;
    }
    quick.execute("commit prepared 'slow'").await.unwrap();
    model.committed.insert(1, Written { town: "Slow".to_owned(), found_soon: true });
    model.poll_and_check(PollReach::AsDue, Utc::now()).await;

    // Prepared before the first poll: it may have begun at any time.
    slow.execute("begin").await.unwrap();
    update(&mut slow, 1, "Slower").await;
    update(&mut quick, 2, "Quicker").await;
    slow.execute("prepare transaction 'slower'").await.unwrap();
    let mut model = Model::new(&place, "0s").await;
    for _ in 0..2 {
        model.poll(PollReach::AsDue, Utc::now()).await;
    }
    quick.execute("commit prepared 'slower'").await.unwrap();
    model.committed.insert(1, Written { town: "Slower".to_owned(), found_soon: true });
    model.poll_and_check(PollReach::AsDue, Utc::now()).await;
}

#[tokio::test]
async fn a_role_that_may_not_see_transactions_has_the_look_back_and_may_be_given_sight() {
    let place = Engine::Postgres.place();
    three_rows(&place, Column::Microseconds).await;
    place
        .sql("drop role if exists shortsighted; create role shortsighted login; grant select on leads to shortsighted")
        .await;
    let theirs = Place::at(Engine::Postgres, place.url.replace("postgres@", "shortsighted@"));
    let mut slow = PgConnection::connect(&place.url).await.unwrap();
    let mut quick = PgConnection::connect(&place.url).await.unwrap();
    for (round, (grant, seen)) in
        [("", false), ("grant pg_read_all_stats to shortsighted", true)].into_iter().enumerate()
    {
        quick.execute(grant).await.unwrap();
        let model = Model::new(&theirs, "0s").await;
        model.poll(PollReach::AsDue, Utc::now()).await;
        slow.execute("begin").await.unwrap();
        update(&mut slow, 1, &format!("Slow {round}")).await;
        update(&mut quick, 2, &format!("Quick {round}")).await;
        assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, 1);
        slow.execute("commit").await.unwrap();
        assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, u64::from(seen), "{grant}");
        assert_eq!(model.poll(PollReach::Everything, Utc::now()).await.changed, u64::from(!seen), "{grant}");
    }
}

/// All facts in the state except the record of the last poll.
async fn everything_written(state: &StateDb) -> (Vec<(String, String, i64)>, Option<PollCursor>) {
    let leads = on_state!(state, pool => {
        sqlx::query_as("select id, status || coalesce(desired, ''), changed_at from lead order by id").fetch_all(pool).await
    });
    (leads.unwrap(), control::read::<PollCursor>(state).await.unwrap())
}

#[tokio::test]
async fn reading_the_look_back_again_writes_nothing() {
    let place = Engine::Postgres.place();
    three_rows(&place, Column::Timestamp).await;
    let model = Model::new(&place, "5m").await;
    assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.created, 3);
    // The second poll writes once since when the newest value has been the newest.
    assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, 0);
    let before = everything_written(&model.state).await;
    for _ in 0..3 {
        let polled = model.poll(PollReach::AsDue, Utc::now()).await;
        assert_eq!((polled.rows, polled.changed), (3, 0));
    }
    assert_eq!(everything_written(&model.state).await, before);
}

#[tokio::test]
async fn a_value_in_the_future_hides_nothing_that_is_written_while_nobody_polls() {
    let place = Engine::Postgres.place();
    three_rows(&place, Column::Timestamp).await;
    place.sql("insert into leads values (9, 'Typing mistake', '2099-01-01')").await;
    let model = Model::new(&place, "1s").await;
    model.poll(PollReach::AsDue, Utc::now()).await;
    place.sql("update leads set town = 'Else', changed = now() where id = 2").await;
    // An hour later, by our own clock.
    assert_eq!(model.poll(PollReach::AsDue, Utc::now() + TimeDelta::hours(1)).await.changed, 1);
    let last = control::read::<LastPoll>(&model.state).await.unwrap().unwrap();
    assert_eq!(last.kind, "incremental");
}

#[tokio::test]
async fn another_type_of_change_value_after_a_restart_is_followed_from_the_start() {
    let place = Engine::Postgres.place();
    three_rows(&place, Column::Timestamp).await;
    let mut model = Model::new(&place, "1s").await;
    model.poll(PollReach::AsDue, Utc::now()).await;
    place.sql("alter table leads alter changed type bigint using extract(epoch from changed)::bigint").await;
    model.crm = ConnectedCrm::open(&model.settings).await.unwrap();
    for expected in ["full", "incremental"] {
        assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, 0);
        let last = control::read::<LastPoll>(&model.state).await.unwrap().unwrap();
        assert_eq!(last.kind, expected);
    }
}

#[tokio::test]
async fn a_value_in_the_future_hides_nothing_whatever_the_clock_that_the_stamps_are_of() {
    for zone in ["America/Los_Angeles", "UTC", "Asia/Tokyo"] {
        let place = Engine::Postgres.place();
        let now = format!("now() at time zone '{zone}'");
        place
            .sql(&format!(
                "create table leads (id bigint primary key, town text, changed timestamp); \
                 insert into leads select i, 'Town ' || i, {now} from generate_series(1, 3) i; \
                 insert into leads values (9, 'Typing mistake', '2099-01-01')"
            ))
            .await;
        let model = Model::new(&place, "1s").await;
        model.poll(PollReach::AsDue, Utc::now()).await;
        place.sql(&format!("update leads set town = 'Else', changed = {now} where id = 2")).await;
        assert_eq!(model.poll(PollReach::AsDue, Utc::now()).await.changed, 1, "{zone}");
        let last = control::read::<LastPoll>(&model.state).await.unwrap().unwrap();
        assert_eq!(last.kind, "incremental");
    }
}
