//! Measures the cost and the gain of triggers.
//!
//!     cargo bench --bench triggers                       100,000 rows, 200 commits, SQLite and PostgreSQL
//!     cargo bench --bench triggers -- --rows 1000000 --commits 1000 --engine postgres
//!
//! The cost: one UPDATE of every row, and one INSERT of as many, without triggers and with them, in turn, in the same
//! database; microseconds a row and their ratio, the median of the rounds. The gain: rows are committed one at a time,
//! and the benchmark measures the time from the return of the commit to the arrival of the request at an endpoint in this
//! process; polls are ten minutes apart. CRM and state are on the same engine, and PostgreSQL runs with `fsync=on`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::extract::State;
use axum::routing::post;
use clap::Parser;
use common::support::postgres::Cluster;
use common::{DatabaseUrls, Engines, RunningProcess, fill, program, write_config};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::sync::mpsc;

#[allow(dead_code, reason = "made for all benchmarks and for the tests, which need more of it")]
mod common;

const PATIENCE: Duration = Duration::from_secs(30);

/// One statement for both engines. The widths are those of a CRM.
const TABLE: &str = "create table {table} (id bigint primary key, first_name text, last_name text, email text, phone text, \
                     source text, status bigint, owner_name text, street text, city text, state text, zip text, \
                     do_not_contact bigint, created_at text, updated_at text)";
const ROWS: &str = "
    with recursive n (i) as (select {first} union all select i + 1 from n where i < {last})
    insert into {table}
    select i, 'First' || (i % 997), 'Family-' || (i % 7919), 'person' || i || '@example.com', '555-01' || (i % 10000),
        'Web Form', 1 + i % 4, 'Owner Number ' || (i % 50), (i % 900) || ' Long Meadow Road', 'Springfield', 'IL', '62701', 0,
        '2026-01-02 03:04:05', '2026-01-02 03:04:05'
    from n";

const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "{table}"
key = "id"
changes = "triggers"
poll_interval = "10m"
[lead]
firstName = "first_name"
lastName = "last_name"
email = "email"
homePhone = "phone"
leadSource = "source"
repName = "owner_name"
optOut = "do_not_contact"
[conversica]
require_conversation_id = false
endpoint = "{endpoint}"
username = "bench"
password = "bench"
[delivery]
requests_per_second = 100000
[safety]
first_run = "send"
approve_above = 0
[state]
url = "{state}"
[writeback]
mode = "off"
[admin]
listen = "127.0.0.1:0"
"#;

#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    #[arg(long, default_value_t = 200)]
    commits: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    #[arg(long, value_enum, default_value = "both")]
    engine: Engines,
    /// Cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let directory = tempfile::tempdir()?;
    if args.engine != Engines::Postgres {
        let url = |name: &str| format!("sqlite://{}", directory.path().join(name).display());
        let crm = format!("{}?mode=rwc", url("crm.db"));
        let mut crm = Crm::Sqlite(SqliteConnection::connect(&crm).await?);
        crm.run("pragma journal_mode = wal").await?;
        bench("sqlite", &args, directory.path(), crm, DatabaseUrls { crm: &url("crm.db"), state: &url("state.db") })
            .await?;
    }
    if args.engine != Engines::Sqlite {
        let cluster = Cluster::durable();
        let (crm, state) = (cluster.database(), cluster.database());
        let session = Crm::Postgres(PgConnection::connect(&crm.url).await?);
        bench("postgres", &args, directory.path(), session, DatabaseUrls { crm: &crm.url, state: &state.url }).await?;
    }
    Ok(())
}

/// A database session of a CRM user.
enum Crm {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Crm {
    async fn run(&mut self, sql: &str) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Crm::Sqlite(session) => _ = sql.execute(session).await?,
            Crm::Postgres(session) => _ = sql.execute(session).await?,
        }
        Ok(started.elapsed())
    }
}

async fn bench(
    engine: &str,
    args: &Args,
    directory: &Path,
    mut crm: Crm,
    DatabaseUrls { crm: crm_url, state: state_url }: DatabaseUrls<'_>,
) -> anyhow::Result<()> {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let endpoint = serve(sender).await?;
    let config = |table: &str| -> anyhow::Result<PathBuf> {
        let file = directory.join(format!("{engine}-{table}.toml"));
        let values = [("{crm}", crm_url), ("{state}", state_url), ("{endpoint}", &endpoint), ("{table}", table)];
        write_config(&file, CONFIG, &values)?;
        Ok(file)
    };
    cost(engine, args, &mut crm, &config("bulk")?).await?;
    latency(engine, args, &mut crm, &config("leads")?, arrivals).await
}

fn triggers(config: &Path, what: &str) -> anyhow::Result<()> {
    let output = program(config).args(["triggers", what, "--yes"]).output()?;
    ensure!(output.status.success(), "triggers {what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn rows(table: &str, first: u64, last: u64) -> String {
    fill(ROWS, &[("{table}", table), ("{first}", &first.to_string()), ("{last}", &last.to_string())])
}

async fn cost(engine: &str, args: &Args, crm: &mut Crm, config: &Path) -> anyhow::Result<()> {
    crm.run(&TABLE.replace("{table}", "bulk")).await?;
    crm.run(&rows("bulk", 1, args.rows)).await?;
    let (mut updates, mut inserts) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..=args.rounds {
        for with in [0, 1] {
            if with == 1 {
                triggers(config, "install")?;
            }
            let update = crm.run(&format!("update bulk set city = 'Town {round}{with}'")).await?;
            let insert = crm.run(&rows("bulk", args.rows + 1, 2 * args.rows)).await?;
            // The first round warms up.
            if round > 0 {
                updates[with].push(update);
                inserts[with].push(insert);
            }
            if with == 1 {
                triggers(config, "remove")?;
            }
            crm.run(&format!("delete from bulk where id > {}", args.rows)).await?;
            if matches!(crm, Crm::Postgres(_)) {
                crm.run("vacuum bulk").await?;
            }
        }
    }
    for (what, times) in [("UPDATE", updates), ("INSERT", inserts)] {
        let a_row = times.map(|times| percentile(times, 50).as_secs_f64() * 1e6 / args.rows as f64);
        println!(
            "{engine:<8} {what} of {} rows: {:.2} µs a row, with triggers {:.2} µs, ratio {:.2}",
            args.rows,
            a_row[0],
            a_row[1],
            a_row[1] / a_row[0]
        );
    }
    Ok(())
}

async fn latency(
    engine: &str,
    args: &Args,
    crm: &mut Crm,
    config: &Path,
    mut arrivals: mpsc::UnboundedReceiver<Instant>,
) -> anyhow::Result<()> {
    const LEADS: u64 = 1000;
    crm.run(&TABLE.replace("{table}", "leads")).await?;
    crm.run(&rows("leads", 1, LEADS)).await?;
    triggers(config, "install")?;
    let _daemon = RunningProcess(program(config).arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    for _ in 0..LEADS {
        arrived(&mut arrivals).await?;
    }
    let mut times = Vec::new();
    for commit in 0..args.commits {
        // Irregular pauses, so that the commits are not in step with the program's own timers.
        tokio::time::sleep(Duration::from_millis(40 + commit * 37 % 101)).await;
        crm.run(&format!("update leads set last_name = 'Number {commit}' where id = {}", 1 + commit % LEADS)).await?;
        let committed = Instant::now();
        times.push(arrived(&mut arrivals).await?.saturating_duration_since(committed));
    }
    ensure!(arrivals.try_recv().is_err(), "more requests than commits");
    println!(
        "{engine:<8} commit to request, {} commits: p50 {:.1} ms, p95 {:.1} ms",
        args.commits,
        percentile(times.clone(), 50).as_secs_f64() * 1e3,
        percentile(times, 95).as_secs_f64() * 1e3
    );
    Ok(())
}

async fn arrived(arrivals: &mut mpsc::UnboundedReceiver<Instant>) -> anyhow::Result<Instant> {
    let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.context("no request came")?;
    arrival.context("the endpoint has ended")
}

/// An endpoint that accepts everything and reports the arrival time of each request.
async fn serve(arrivals: mpsc::UnboundedSender<Instant>) -> anyhow::Result<String> {
    async fn take(State(arrivals): State<mpsc::UnboundedSender<Instant>>, _body: String) {
        let _ = arrivals.send(Instant::now());
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}/json/", listener.local_addr()?);
    let app = axum::Router::new().route("/json/", post(take)).with_state(arrivals);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(endpoint)
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}
