//! Polls of a MariaDB source: by `changed_at`, by full compares, in one snapshot, with transactions that commit late.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::support::mariadb::{MariaDatabase, mariadb};
use crate::support::reading::{open, settings};
use crate::support::wait::wait_until;
use conversica_sync::config::ServiceSettings;
use conversica_sync::db::{self, discreet};
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::source::read::PreparedReading;
use conversica_sync::source::settled::TransactionSight;
use conversica_sync::store::control;
use conversica_sync::store::state_db::StateDb;

use crate::support::engine::{Engine, Place};

const SOON: Duration = Duration::from_secs(20);

struct MariaScene {
    crm: MariaDatabase,
    settings: ServiceSettings,
    state: StateDb,
    _place: Place,
}

impl MariaScene {
    async fn new(table: &str, source: &str) -> Self {
        let crm = mariadb().database();
        crm.sql(table);
        Self::of(crm, source).await
    }

    async fn of(crm: MariaDatabase, source: &str) -> Self {
        let place = Engine::Sqlite.place();
        let settings = settings(&crm.place(), source, "city = 'town'");
        Self { crm, settings, state: place.state().await, _place: place }
    }

    async fn poll_reaching(&self, reach: PollReach, now: DateTime<Utc>) -> PollOutcome {
        let crm = ConnectedCrm::open(&self.settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let tally = RunTally::default();
        let context = PollContext { crm: &crm, state: &self.state, settings: &self.settings, tally: &tally, now };
        poll(context, reach).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn poll(&self) -> PollOutcome {
        self.poll_reaching(PollReach::AsDue, Utc::now()).await
    }

    async fn kind(&self) -> String {
        control::read::<LastPoll>(&self.state).await.unwrap().unwrap().kind
    }
}

/// The program's own clock reads the present, so stamps are near it.
const STAMPED: &str = "create table leads (id int primary key, town text, changed KIND, index (changed))";
const SOURCE: &str = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'\nlookback = '1m'";

#[tokio::test]
async fn a_poll_reads_what_changed_and_what_the_lookback_covers() {
    for (kind, moment) in [
        ("timestamp(6) null", "now(6) - interval AGO second"),
        ("datetime(6)", "utc_timestamp(6) - interval AGO second"),
        ("datetime", "utc_timestamp() - interval AGO second"),
        ("bigint", "unix_timestamp() - AGO"),
        ("varchar(40)", "date_format(utc_timestamp() - interval AGO second, '%Y-%m-%dT%H:%i:%sZ')"),
    ] {
        let at = |ago: &str| moment.replace("AGO", ago);
        let scene = MariaScene::new(&STAMPED.replace("KIND", kind), SOURCE).await;
        let rows = |from: u32, to: u32, ago: &str| {
            let rows: Vec<_> = (from..=to).map(|id| format!("({id}, 'Town {id}', {})", at(ago))).collect();
            format!("insert into leads values {}", rows.join(", "))
        };
        scene.crm.sql(&format!("{}; {}", rows(1, 50, "7200"), rows(51, 60, "150")));
        let first = scene.poll().await;
        assert_eq!((first.rows, first.created, scene.kind().await.as_str()), (60, 60, "full"), "{kind}");
        let again = scene.poll().await;
        assert_eq!((again.rows, again.changed, scene.kind().await.as_str()), (10, 0, "incremental"), "{kind}");
        scene.crm.sql(&format!("update leads set town = 'Else', changed = {} where id in (3, 55)", at("5")));
        let next = scene.poll().await;
        assert_eq!((next.changed, scene.kind().await.as_str()), (2, "incremental"), "{kind}");
        assert!(next.rows < 15, "{kind}: {} rows", next.rows);
    }
}

#[tokio::test]
async fn a_full_compare_finds_what_is_backdated_and_what_is_deleted() {
    for key in ["int", "varchar(20) character set latin1", "char(36) collate utf8mb4_unicode_ci"] {
        let table = STAMPED.replace("KIND", "datetime").replace("id int", &format!("id {key}"));
        let scene = MariaScene::new(&table, SOURCE).await;
        let rows: Vec<_> = (1..=2500).map(|id| format!("({id}, 'Town', '2026-06-01 10:00:00')")).collect();
        scene.crm.sql(&format!("insert into leads values {}", rows.join(", ")));
        assert_eq!(scene.poll().await.created, 2500, "{key}");
        scene.crm.sql("update leads set town = 'Else' where id = '7'; delete from leads where id in ('9', '1000')");
        let full = scene.poll_reaching(PollReach::Everything, Utc::now()).await;
        assert_eq!((full.rows, full.gone, scene.kind().await.as_str()), (2498, 2, "full"), "{key}");
        assert_eq!(full.changed - full.gone, 1, "{key}");
    }
}

#[tokio::test]
async fn a_poll_sees_the_moment_at_which_it_began() {
    let scene = MariaScene::new(&STAMPED.replace("KIND", "datetime"), SOURCE).await;
    let rows: Vec<_> = (1..=3000).map(|id| format!("({id}, 'Old', '2026-06-01 10:00:00')")).collect();
    scene.crm.sql(&format!("insert into leads values {}", rows.join(", ")));
    let crm = open(&scene.crm.place(), SOURCE, "city = 'town'").await;
    let fitting = crm.fitting().await.expect("the source fits");
    let mut batches = PreparedReading::new(&crm, &fitting, ReadScope::All).start(&crm.db);
    let opened = batches.opened().await.expect("the snapshot is taken");
    assert_eq!(opened.newest.expect("a stamp").text, "2026-06-01 10:00:00");
    scene.crm.sql("update leads set town = 'New'; delete from leads where id < 100; insert into leads values (9999, 'New', now())");
    let (mut read, mut new) = (0, 0);
    while let Some(batch) = batches.next().await.expect("it goes on") {
        read += batch.len();
        new += batch
            .lines()
            .filter(|line| crm.mapping.map(&line.row()).desired.unwrap_or_default().contains("New"))
            .count();
    }
    assert_eq!((read, new), (3000, 0));
}

/// A table that is emptied after the snapshot gives an error and no rows: its leads must not seem to be gone.
#[tokio::test]
async fn a_table_that_is_emptied_or_altered_after_the_snapshot_is_waited_for() {
    for change in ["truncate table leads", "alter table leads add column more int default 1, algorithm=copy"] {
        let crm = mariadb().database();
        crm.sql(
            "create table leads (id int primary key); insert into leads values (1), (2); create table other (id int)",
        );
        let options: MySqlConnectOptions = crm.url.parse().expect("a URL");
        let mut session = options.connect().await.expect("the server answers");
        session.execute("start transaction with consistent snapshot, read only").await.expect("a snapshot");
        crm.sql(change);
        let error = session.fetch_all("select id from leads").await.expect_err("the snapshot has no such table");
        assert!(db::is_outage(&discreet::of_source(error)), "{change}");
    }
}

/// Waits until the server's clock is past that.
fn pass(crm: &MariaDatabase, seconds: u32) {
    let from = crm.sql("select unix_timestamp()");
    let passed = format!("select unix_timestamp() > {from} + {seconds}");
    wait_until("the server's clock to go on", SOON, || crm.sql(&passed) == "1");
}

const SHORT: &str = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'\nlookback = '0s'";

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let table = STAMPED.replace("KIND", "timestamp(6) null");
    let scene = MariaScene::new(&table, SHORT).await;
    scene
        .crm
        .sql("insert into leads values (1, 'Old', now(6) - interval 1 hour), (2, 'Old', now(6) - interval 1 hour)");
    scene.poll().await;
    let mut late = scene.crm.session();
    late.sql("start transaction; update leads set town = 'Late', changed = now(6) where id = 1");
    pass(&scene.crm, 2);
    scene.crm.sql("update leads set town = 'Early', changed = now(6) where id = 2");
    assert_eq!(scene.poll().await.changed, 1);
    late.sql("commit");
    let next = scene.poll().await;
    assert_eq!((next.changed, scene.kind().await.as_str()), (1, "incremental"), "what was stamped before is found");
}

/// InnoDB begins the transaction of such a statement after the wait, and its `now()` is the moment before.
#[tokio::test]
async fn a_statement_that_waits_for_a_lock_on_the_table_is_not_skipped() {
    let scene = MariaScene::new(&STAMPED.replace("KIND", "timestamp(6) null"), SHORT).await;
    scene.crm.sql(
        "insert into leads values (1, 'Old', now(6) - interval 1 hour), (2, 'Old', now(6) - interval 1 hour); \
         create table other (id int primary key)",
    );
    scene.poll().await;
    let mut locking = scene.crm.session();
    locking.sql("lock tables other write, leads read");
    let crm = scene.crm.clone();
    // It writes to a locked table as well, so that it waits, and stays open after that.
    let waiting = std::thread::spawn(move || {
        let mut late = crm.session();
        late.sql(
            "start transaction; update leads, other set leads.town = 'Late', leads.changed = now(6) where leads.id = 1",
        );
        late
    });
    let waits = "select count(*) from information_schema.processlist where state like 'Waiting%lock' and info like 'update leads%'";
    wait_until("the statement to wait", SOON, || scene.crm.sql(waits) == "1");
    pass(&scene.crm, 3);
    let crm = open(&scene.crm.place(), SHORT, "city = 'town'").await;
    let now = Utc::now();
    let outlook = crm.outlook(None, now).await.expect("the server answers");
    let held_back = (now - outlook.settled.before).num_milliseconds();
    assert!((3_000..60_000).contains(&held_back), "{held_back} ms");
    locking.sql("unlock tables");
    drop(waiting.join().expect("the statement ends"));
}

// The test waits while the poll goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_table_that_another_one_replaces_while_the_poll_waits_for_its_lock_is_read_whole() {
    let crm = mariadb().database();
    crm.sql(
        "create table leads (id int primary key, town text); insert into leads values (1, 'A'), (2, 'B'); \
         create table fresh like leads",
    );
    let source = open(&crm.place(), "table = 'leads'\nkey = 'id'", "city = 'town'").await;
    let fitting = source.fitting().await.expect("it fits");
    let mut locking = crm.session();
    locking.sql("lock tables leads write, fresh write");
    let mut batches = PreparedReading::new(&source, &fitting, ReadScope::All).start(&source.db);
    let waits = "select count(*) from information_schema.processlist where db = database() and state like 'Waiting%lock' \
         and info like 'select%leads%'";
    wait_until("the poll to wait", SOON, || crm.sql(waits) == "1");
    locking.sql("insert into fresh select * from leads; insert into fresh values (3, 'C'); unlock tables");
    // The rename may come before the poll or after it: both see every row.
    crm.sql("rename table leads to old, fresh to leads");
    let mut rows = 0;
    while let Some(batch) = batches.next().await.expect("it goes on") {
        rows += batch.len();
    }
    assert!([2, 3].contains(&rows), "{rows} rows");
}

#[tokio::test]
async fn texts_of_a_day_alone_count_as_changed_on_that_day() {
    let scene = MariaScene::new(&STAMPED.replace("KIND", "varchar(40)"), SOURCE).await;
    scene.crm.sql(
        "insert into leads values (1, 'Old', date_format(utc_timestamp(), '%Y-%m-%d %H:%i:%s')), (2, 'Old', '2026-01-01')",
    );
    scene.poll().await;
    scene.crm.sql("update leads set town = 'Else', changed = date_format(utc_timestamp() - interval 1 minute, '%Y-%m-%d') where id = 2");
    let next = scene.poll().await;
    assert_eq!((next.changed, scene.kind().await.as_str()), (1, "incremental"));
}

#[tokio::test]
async fn open_transactions_are_seen_with_the_right_to() {
    let crm = mariadb().database();
    crm.sql(&STAMPED.replace("KIND", "datetime"));
    let mut session = crm.session();
    session.sql("insert into leads values (1, 'A', now()); start transaction; update leads set town = 'B'");
    pass(&crm, 2);
    let now = Utc::now();
    for (grant, sight) in [
        (format!("grant select on {}.* to", crm.name), TransactionSight::OwnOnly),
        ("grant select, process on *.* to".to_owned(), TransactionSight::Everybodys),
    ] {
        let place = Place::at(Engine::Postgres, crm.user_with(&grant));
        let source = open(&place, SOURCE, "city = 'town'").await;
        let outlook = source.outlook(None, now).await.expect("the server answers");
        assert_eq!(outlook.sight, sight);
        let held_back = (now - outlook.settled.before).num_milliseconds();
        if sight == TransactionSight::Everybodys {
            assert!((2_000..60_000).contains(&held_back), "{held_back} ms");
        } else {
            assert_eq!(held_back, 0);
        }
    }
}

#[tokio::test]
async fn a_statement_that_runs_away_is_cut_off() {
    let crm = mariadb().database();
    let source = "query = 'select a.seq as id from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < 0'\nkey = 'id'\n\
                  statement_timeout = '1s'";
    let source = open(&crm.place(), source, "").await;
    let fitting = source.fitting().await.expect("it fits");
    let error = PreparedReading::new(&source, &fitting, ReadScope::All).start(&source.db).next().await;
    assert!(db::is_outage(&error.expect_err("it is cut off")), "a later poll may have more luck");
    let running = "select count(*) from information_schema.processlist where info like '%seq_1_to_1000000%' and id <> connection_id()";
    wait_until("the server to end the statement", SOON, || crm.sql(running) == "0");
    assert_eq!(source.db.fetch_number("select 1".to_owned()).await.expect("the server answers"), 1);
}

#[tokio::test]
async fn a_statement_is_ended_though_the_server_lets_no_further_session_in() {
    let crm = mariadb().database();
    crm.sql("create table leads (id int primary key)");
    let url = crm.user_with(&format!("grant select on {}.* to", crm.name));
    let user = url.trim_start_matches("mysql://").split(':').next().expect("a user").to_owned();
    let source = "query = 'select a.seq as id from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < -1'\nkey = 'id'\n\
                  statement_timeout = '1s'";
    crm.sql(&format!("grant usage on *.* to {user}@'127.0.0.1' with max_user_connections 2"));
    let source = open(&Place::at(Engine::Postgres, url), source, "").await;
    let fitting = source.fitting().await.expect("it fits");
    let error = PreparedReading::new(&source, &fitting, ReadScope::All).start(&source.db).next().await;
    assert!(db::is_outage(&error.expect_err("it is cut off")));
    let running =
        "select count(*) from information_schema.processlist where info like '%b.seq < -1%' and id <> connection_id()";
    wait_until("the server to end the statement", SOON, || crm.sql(running) == "0");
}
