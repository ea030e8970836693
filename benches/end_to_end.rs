//! Measures how fast the program is from end to end, against a bare loop of HTTP posts.
//!
//!     cargo bench --bench end_to_end                       100,000 leads, 64 in flight, SQLite and PostgreSQL
//!     cargo bench --bench end_to_end -- --leads 1000000 --in-flight 256 --engine sqlite --rounds 1
//!
//! Each round makes an empty state and lets `conversica-sync once` read the CRM and send every lead to the sandbox
//! (another process). Then a third process posts the same bodies with a loop of `reqwest` that writes nothing down. Then
//! `once` runs again with nothing to do. The benchmark prints one row a round: leads a second of the program, from its
//! start to its end, and of the bare loop; their ratio; the program's peak memory (`VmHWM`). It fails when a lead did not
//! arrive, or arrived twice. PostgreSQL is a throw-away server with `fsync=on`, for CRM and state alike.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use common::support::postgres::Cluster;
use common::{
    DatabaseUrls, Engines, LEAD_COLUMNS, LEAD_MAPPING, LEAD_ROWS, PROGRAM, RunningProcess, WatchedProcess, fill,
    program, watch, write_config,
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[allow(dead_code, reason = "made for all benchmarks and for the tests, which need more of it")]
mod common;

const ACCOUNT: &str = "sandbox";
const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "leads"
key = "id"
[conversica]
endpoint = "{endpoint}"
username = "sandbox"
password = "sandbox"
[delivery]
requests_per_second = 100000
concurrency = {in_flight}
[safety]
first_run = "send"
approve_above = 0
[state]
url = "{state}"
[writeback]
mode = "off"
"#;

#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long, default_value_t = 100_000)]
    leads: u64,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    #[arg(long, value_enum, default_value = "both")]
    engine: Engines,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs as the bare loop: posts the leads of this file to `endpoint`.
    #[arg(long, hide = true, requires = "endpoint")]
    bare: Option<PathBuf>,
    #[arg(long, hide = true)]
    endpoint: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(file), Some(endpoint)) = (&args.bare, &args.endpoint) {
        return bare_loop(file, endpoint, args.in_flight).await;
    }
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start()?;
    println!("{} leads, {} in flight", args.leads, args.in_flight);
    println!("engine    seconds  leads/s   bare/s  ratio  peak MiB  nothing new: seconds   rows/s  peak MiB");
    if args.engine != Engines::Postgres {
        let crm = directory.path().join("crm.db");
        make_sqlite_crm(&crm, args.leads).await?;
        let crm = format!("sqlite://{}", crm.display());
        for round in 1..=args.rounds {
            let state = format!("sqlite://{}", directory.path().join(format!("state-{round}.db")).display());
            bench_round("sqlite", &args, &sandbox, directory.path(), DatabaseUrls { crm: &crm, state: &state }).await?;
        }
    }
    if args.engine != Engines::Sqlite {
        let cluster = Cluster::durable();
        let crm = cluster.database();
        crm.sql(&crm_statements(args.leads));
        for _ in 1..=args.rounds {
            let state = cluster.database().url;
            bench_round("postgres", &args, &sandbox, directory.path(), DatabaseUrls { crm: &crm.url, state: &state })
                .await?;
        }
    }
    Ok(())
}

/// Statements for both engines.
fn crm_statements(leads: u64) -> String {
    let values = [("{key}", "bigint"), ("{leads}", &leads.to_string()), ("{more}", "")];
    fill(&format!("create table leads ({LEAD_COLUMNS}); insert into leads {LEAD_ROWS}"), &values)
}

async fn make_sqlite_crm(file: &Path, leads: u64) -> anyhow::Result<()> {
    use sqlx::Connection;
    let mut crm = sqlx::SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await?;
    let sql = sqlx::AssertSqlSafe(crm_statements(leads));
    sqlx::raw_sql(sql).execute(&mut crm).await.context("making the CRM")?;
    Ok(crm.close().await?)
}

async fn bench_round(
    engine: &str,
    args: &Args,
    sandbox: &Sandbox,
    directory: &Path,
    DatabaseUrls { crm, state }: DatabaseUrls<'_>,
) -> anyhow::Result<()> {
    let config = directory.join("bench.toml");
    let in_flight = args.in_flight.to_string();
    let values =
        [("{crm}", crm), ("{state}", state), ("{endpoint}", &sandbox.endpoint), ("{in_flight}", in_flight.as_str())];
    write_config(&config, &format!("{CONFIG}{LEAD_MAPPING}"), &values)?;

    sandbox.forget().await?;
    let sent = once(&config)?;
    sandbox.expect_each_lead_once(args).await.with_context(|| format!("conversica-sync on {engine}"))?;
    let bodies = directory.join("bodies.json");
    std::fs::write(&bodies, sandbox.text("leads").await?)?;
    let idle = once(&config)?;
    sandbox.expect_each_lead_once(args).await.with_context(|| format!("the second pass on {engine}"))?;

    sandbox.forget().await?;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("--bare").arg(&bodies).args(["--endpoint", &sandbox.endpoint]);
    let bare = watch(bare.args(["--in-flight", &in_flight]))?;
    sandbox.expect_each_lead_once(args).await.context("the bare loop")?;
    let bare_seconds: f64 = bare.stdout.trim().parse().context("the bare loop says how long it took")?;

    let a_second = |seconds: f64| args.leads as f64 / seconds;
    let (program, bare) = (a_second(sent.seconds), a_second(bare_seconds));
    println!(
        "{engine:<8} {:>8.2} {program:>8.0} {bare:>8.0} {:>6.2} {:>9.1} {:>21.2} {:>8.0} {:>9.1}",
        sent.seconds,
        program / bare,
        sent.peak_mib,
        idle.seconds,
        a_second(idle.seconds),
        idle.peak_mib
    );
    Ok(())
}

fn once(config: &Path) -> anyhow::Result<WatchedProcess> {
    watch(program(config).args(["once", "--json"]))
}

/// The sandbox in its own process.
struct Sandbox {
    _process: RunningProcess,
    endpoint: String,
    address: String,
    http: reqwest::Client,
}

#[derive(Debug, Deserialize)]
struct Counts {
    leads: u64,
    posts: u64,
    accepted: u64,
    repeated: u64,
    max_in_flight: u64,
    max_in_flight_per_lead: u64,
}

impl Sandbox {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--quiet", "--username", ACCOUNT, "--password", ACCOUNT]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("the output is piped")).read_line(&mut line)?;
        let endpoint =
            line.trim().strip_prefix("sandbox listening on ").context("the sandbox says where it listens")?;
        let address = endpoint.strip_suffix("json/").context("an endpoint ends in json/")?.to_owned();
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { _process: RunningProcess(process), endpoint: endpoint.to_owned(), address, http })
    }

    async fn forget(&self) -> anyhow::Result<()> {
        self.http.delete(format!("{}leads", self.address)).send().await?.error_for_status()?;
        Ok(())
    }

    async fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(self.http.get(format!("{}{path}", self.address)).send().await?.error_for_status()?.text().await?)
    }

    async fn expect_each_lead_once(&self, args: &Args) -> anyhow::Result<()> {
        let counts: Counts = serde_json::from_str(&self.text("counts").await?)?;
        let Counts { leads, posts, accepted, repeated, max_in_flight, max_in_flight_per_lead } = counts;
        ensure!(
            (leads, posts, accepted, repeated) == (args.leads, args.leads, args.leads, 0),
            "not every lead arrived exactly once: {counts:?}"
        );
        let in_flight = args.in_flight as u64;
        ensure!(max_in_flight <= in_flight && max_in_flight_per_lead == 1, "too much at once: {counts:?}");
        Ok(())
    }
}

/// Posts the bodies of the file, `in_flight` at a time, over kept-alive connections; prints the seconds that took.
async fn bare_loop(file: &Path, endpoint: &str, in_flight: usize) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let bodies: Arc<Vec<Box<RawValue>>> = Arc::new(serde_json::from_str(&text)?);
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).pool_max_idle_per_host(in_flight).build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut posting = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (http, bodies, next, endpoint) = (http.clone(), bodies.clone(), next.clone(), endpoint.to_owned());
        posting.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                let request = http.post(&endpoint).basic_auth(ACCOUNT, Some(ACCOUNT));
                let request = request.header("content-type", "application/json").body(body.get().to_owned());
                request.send().await?.error_for_status()?.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = posting.join_next().await {
        ended??;
    }
    println!("{}", started.elapsed().as_secs_f64());
    Ok(())
}
