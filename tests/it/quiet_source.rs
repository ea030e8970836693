//! A bulk load whose rows share one stamp, and then silence: the polls stop reading these rows, polls that find nothing
//! write nothing, and later changes are found.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::reading::settings;
use conversica_sync::config::ServiceSettings;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::state_db::StateDb;

on_both_engines!(a_bulk_load_with_one_stamp_is_left_alone_once_it_is_old);

const PATIENCE: Duration = Duration::from_secs(120);
const ROWS: u64 = 20_000;

/// A source, and a state in a file, for a daemon that goes on polling.
struct QuietSource {
    place: Place,
    settings: ServiceSettings,
    crm: ConnectedCrm,
    state: StateDb,
    state_place: Place,
    tally: RunTally,
}

impl QuietSource {
    async fn new(engine: Engine) -> Self {
        let place = engine.place();
        let kind = engine.pick("text", "timestamptz");
        place.sql(&format!("create table leads (id integer primary key, town text, changed {kind})")).await;
        let source = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'\nlookback = '2s'";
        let settings = settings(&place, source, "city = 'town'");
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        let state_place = Engine::Sqlite.place();
        let state = state_place.state().await;
        Self { place, settings, crm, state, state_place, tally: RunTally::default() }
    }

    /// Inserts rows with a stamp of `seconds_ago`.
    async fn insert(&self, from: u64, to: u64, seconds_ago: u32) {
        let stamp = self.place.engine.pick(
            format!("strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-{seconds_ago} seconds')"),
            format!("now() - interval '{seconds_ago} seconds'"),
        );
        let rows = format!(
            "with recursive number (n) as (select {from} union all select n + 1 from number where n < {to}) \
             insert into leads select n, 'Town ' || n, {stamp} from number"
        );
        let rows = match self.place.engine {
            Engine::Sqlite => rows,
            Engine::Postgres => {
                format!("insert into leads select n, 'Town ' || n, {stamp} from generate_series({from}, {to}) n")
            }
        };
        self.place.sql(&rows).await;
    }

    async fn poll(&self) -> PollOutcome {
        poll(
            PollContext {
                crm: &self.crm,
                state: &self.state,
                settings: &self.settings,
                tally: &self.tally,
                now: Utc::now(),
            },
            PollReach::AsDue,
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The state's file and its log. The index of the log is shared memory and holds no facts.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.state_place.directory()).unwrap().map(|entry| entry.unwrap());
        let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
        named
            .filter(|(name, _)| !name.ends_with("-shm"))
            .map(|(name, path)| (name, std::fs::read(path).unwrap()))
            .collect()
    }
}

async fn a_bulk_load_with_one_stamp_is_left_alone_once_it_is_old(engine: Engine) {
    let source = QuietSource::new(engine).await;
    source.insert(1, ROWS, 3600).await;
    assert_eq!(source.poll().await.created, ROWS);
    let start = Instant::now();
    loop {
        let polled = source.poll().await;
        assert_eq!(polled.changed, 0);
        if polled.rows == 0 {
            break;
        }
        assert_eq!(polled.rows, ROWS, "all of them, until they are old enough");
        assert!(start.elapsed() < PATIENCE, "they are read for ever");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let before = source.files();
    for _ in 0..5 {
        let polled = source.poll().await;
        assert_eq!((polled.rows, polled.changed), (0, 0));
    }
    assert!(source.files() == before, "a poll that finds nothing writes nothing");
    let last = control::read::<LastPoll>(&source.state).await.unwrap().unwrap();
    assert_eq!((last.kind.as_str(), last.rows), ("incremental", 0), "and nothing seems to be lost");

    source.insert(ROWS + 1, ROWS + 1, 0).await;
    let polled = source.poll().await;
    assert_eq!((polled.rows, polled.created), (1, 1), "a new row is found at once");
    // A row committed later with an earlier stamp, and a row older than all others.
    source.insert(ROWS + 2, ROWS + 2, 1).await;
    source.insert(ROWS + 3, ROWS + 3, 3601).await;
    let polled = source.poll().await;
    assert_eq!(
        (polled.rows, polled.created),
        (ROWS + 3, 2),
        "a late row is found, and once again all of the look-back is read"
    );
    let polled = source.poll().await;
    assert!(polled.rows <= 2 && polled.changed == 0, "{polled:?}");
}
