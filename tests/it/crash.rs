//! One run with a hundred `kill -9` at random moments, while a user goes on changing the CRM: no lead is lost, no stale
//! content is sent, no two requests for a lead overlap, and only requests that were in flight are repeated.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::binary::Running;
use crate::support::engine::{Engine, on_both_engines};
use crate::support::scene::Scene;
use crate::support::settled::settled;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;
use conversica_sync::conversica::lead::ContentFingerprint;

const KILLS: usize = 100;
/// Ten more kills before the first request: while the program creates the state and writes the first poll.
const KILLS_AT_THE_START: usize = 10;
const CONCURRENCY: usize = 4;
const LEADS: u32 = 80;
const SOON: Duration = Duration::from_secs(60);
/// On PostgreSQL the claims of a killed sender return when their lease is over: 30 seconds after the time limit.
const LEASES: Duration = Duration::from_secs(120);

on_both_engines!(
    blocking: a_hundred_kills_while_leads_change_lose_nothing_and_repeat_only_what_was_in_flight,
    what_a_killed_sender_left_comes_back_although_the_next_one_is_busy,
);

fn a_hundred_kills_while_leads_change_lose_nothing_and_repeat_only_what_was_in_flight(engine: Engine) {
    let seed = rand::random::<u64>();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let endpoint = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(5)));
    let mut scene = Scene::on(engine, &endpoint.url(), LEADS);
    scene.set("delivery", "concurrency", &CONCURRENCY.to_string()).set_text("delivery", "timeout", "1s");
    scene.set("safety", "approve_above", "0");
    scene.crm("update leads set last_name = 'v0'");

    let somebody = Somebody::at_work(engine, &scene.crm_store().url(), rng.random());
    for _ in 0..KILLS_AT_THE_START {
        let daemon = scene.cli().spawn(&["run"]);
        lives_for(Duration::from_micros(rng.random_range(0..80_000)));
        kill(daemon, &endpoint);
    }
    let mut starting = Duration::ZERO;
    for _ in 0..KILLS {
        let daemon = active(&scene, &endpoint, &mut starting);
        lives_for(Duration::from_micros(rng.random_range(10_000..150_000)));
        kill(daemon, &endpoint);
    }
    eprintln!("from start to first request: {:?} on average", starting / KILLS as u32);
    let changes = somebody.goes_home();
    assert!(changes > 500, "{changes} changes are no work worth the name");

    let daemon = scene.daemon();
    let status = settled(&scene, &[&endpoint], LEASES);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    assert!(endpoint.max_in_flight() <= CONCURRENCY, "{} in flight", endpoint.max_in_flight());
    assert_eq!((&status["outcomes"]["rejected"], &status["outcomes"]["halting"]), (&0.into(), &0.into()));
    assert_nothing_goes_back(&endpoint);
    let repeats = assert_repeats_were_in_doubt(engine, &scene, &endpoint);
    let ambiguous = status["outcomes"]["ambiguous"].as_u64().expect("a number") as usize;
    let most = (KILLS + KILLS_AT_THE_START) * CONCURRENCY;
    assert!(repeats <= ambiguous && ambiguous <= most, "{repeats} repeats, {ambiguous} ambiguous, {most} at most");
    // A lead whose content changes before its claim is over is not repeated, so this counts the requests that kills
    // interrupted.
    assert!(ambiguous > 0, "kills that never met a request on its way prove nothing");
    eprintln!("{changes} changes, {} requests, {ambiguous} ambiguous, {repeats} repeats", endpoint.requests().len());
}

/// A withdrawal of consent was in flight when its sender was killed. The next sender always has other requests in flight.
fn what_a_killed_sender_left_comes_back_although_the_next_one_is_busy(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(100)));
    let mut scene = Scene::on(engine, &endpoint.url(), 100);
    scene.set("delivery", "concurrency", "2");
    let daemon = scene.daemon();
    endpoint.wait_for_requests(5, SOON);
    scene.state(
        "update lead set status = 'in_flight', sent_hash = desired_hash, claimed_at = 1, lease_until = 1, urgent = 1 \
         where id = '99'",
    );
    let place = || endpoint.requests().iter().position(|received| received.request.id.as_deref() == Some("99"));
    wait_until("the lead to be sent again", SOON, || place().is_some());
    let place = place().expect("it is there");
    // 60 requests are at most a second's worth; the lead must not wait for all the others.
    assert!(place < 60, "request {place} of 100");
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

/// Starts daemons until one has sent a request.
fn active(scene: &Scene, endpoint: &StandIn, starting: &mut Duration) -> Running {
    let start = Instant::now();
    loop {
        let mut daemon = scene.cli().spawn(&["run"]);
        let sent = endpoint.requests().len();
        let mut over = false;
        wait_until("a request, or the daemon's end", SOON, || {
            over = daemon.is_over();
            over || endpoint.requests().len() > sent
        });
        if !over {
            *starting += start.elapsed();
            return daemon;
        }
        // PostgreSQL may take a moment to notice that the killed process is gone.
        let output = daemon.wait(SOON).expect_code(2);
        assert!(output.stderr.contains("is in use by process"), "{output}");
    }
}

fn lives_for(time: Duration) {
    let start = Instant::now();
    wait_until("its time to be over", SOON, || start.elapsed() >= time);
}

fn kill(daemon: Running, endpoint: &StandIn) {
    let output = daemon.kill();
    let refused = output.stderr.contains("is in use by process");
    assert!((output.code.is_none() || refused) && !output.stderr.contains("panicked"), "{output}");
    wait_until("the endpoint to see it go", SOON, || endpoint.open_connections() == 0);
}

fn version(body: &serde_json::Value) -> u64 {
    body["lastName"].as_str().and_then(|name| name.strip_prefix('v')?.parse().ok()).expect("a version in the last name")
}

/// No lead's older version follows a newer one.
fn assert_nothing_goes_back(endpoint: &StandIn) {
    let mut newest: HashMap<String, u64> = HashMap::new();
    for received in endpoint.requests() {
        let id = received.request.id.clone().expect("every request names its lead");
        let version = version(&received.request.json());
        let before = newest.insert(id.clone(), version).unwrap_or(0);
        assert!(before <= version, "lead {id}: version {version} came after {before}");
    }
}

/// Every repeated request follows one whose outcome the journal records as unknown. Returns the number of repeats.
fn assert_repeats_were_in_doubt(engine: Engine, scene: &Scene, endpoint: &StandIn) -> usize {
    let mut requests: BTreeMap<(String, String), usize> = BTreeMap::new();
    for received in endpoint.requests() {
        let id = received.request.id.clone().expect("every request names its lead");
        *requests.entry((id, ContentFingerprint::of(received.request.body.as_bytes()).to_string())).or_default() += 1;
    }
    let hash = engine.pick("lower(hex(sent_hash))", "encode(sent_hash, 'hex')");
    let mut journal: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for line in scene.state(&format!("select id || ' ' || {hash} || ' ' || class from outcome order by seq")) {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().expect("three words");
        journal.entry((word(), word())).or_default().push(word());
    }
    let mut repeats = 0;
    for ((id, hash), came) in requests {
        repeats += came - 1;
        let classes = journal.get(&(id.clone(), hash)).cloned().unwrap_or_default();
        assert!(classes.len() >= came, "lead {id}: {came} requests with one content, in the journal {classes:?}");
        let settled_early = classes.iter().rev().skip(1).any(|class| class != "ambiguous");
        assert!(!settled_early, "lead {id}: sent again after its outcome was known: {classes:?}");
    }
    repeats
}

/// A CRM user who changes random rows and adds new ones, until `done` is set.
struct Somebody {
    done: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Somebody {
    fn at_work(engine: Engine, url: &str, seed: u64) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (url, until) = (url.to_owned(), done.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            let mut session = runtime.block_on(Session::open(engine, &url));
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut leads, mut changes) = (LEADS, 0);
            while !until.load(Ordering::Relaxed) {
                // The last name counts up. Every third change toggles consent, and withdrawals are sent before all other
                // content.
                let ids: Vec<String> = (0..3).map(|_| rng.random_range(1..=leads).to_string()).collect();
                let mut sql = format!(
                    "update leads set last_name = 'v' || (cast(substr(last_name, 2) as integer) + 1), \
                     opt_out = case when id % 3 = 0 then 1 - opt_out else opt_out end where id in ({})",
                    ids.join(", ")
                );
                changes += ids.len() as u64;
                if rng.random_range(0..8) == 0 {
                    leads += 1;
                    changes += 1;
                    sql.push_str(&format!(
                        "; insert into leads (id, first_name, last_name, email, owner_name, opt_out, conversation) \
                         values ({leads}, 'New', 'v1', 'new{leads}@example.com', 'Rae Rep', 0, 'Inbound Leads')"
                    ));
                }
                runtime.block_on(session.run(&sql));
                lives_for(Duration::from_millis(5));
            }
            changes
        });
        Self { done, thread }
    }

    fn goes_home(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the CRM takes every change")
    }
}

impl Session {
    async fn open(engine: Engine, url: &str) -> Self {
        match engine {
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.expect("the CRM opens");
                let setup = "pragma busy_timeout = 10000; pragma synchronous = off";
                connection.execute(sqlx::raw_sql(setup)).await.expect("the CRM takes settings");
                Self::Sqlite(connection)
            }
            Engine::Postgres => Self::Postgres(PgConnection::connect(url).await.expect("the CRM answers")),
        }
    }

    async fn run(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => connection.execute(sql).await.map(drop),
            Self::Postgres(connection) => connection.execute(sql).await.map(drop),
        }
        .expect("the CRM takes the change");
    }
}
