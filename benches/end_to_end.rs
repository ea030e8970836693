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
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::value::RawValue;
use support::postgres::Cluster;

#[path = "../tests/it/support"]
#[allow(dead_code, reason = "made for the tests, which need more of it")]
mod support {
    pub mod postgres;
    pub mod signal;
    pub mod wait;
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_conversica-sync");
const ACCOUNT: &str = "sandbox";
/// How often the benchmark reads a running program's memory. `VmHWM` is a peak: only growth in the last moments can be
/// missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One statement for both engines. The names are made up; the widths are those of a CRM.
const CRM: &str = "
    create table leads (id bigint primary key, first_name text, last_name text, email text, phone text, mobile text,
        source text, status bigint, owner_name text, owner_email text, street text, city text, state text, zip text,
        do_not_contact bigint, created_at text, vehicle_year bigint, make text, model text);
    insert into leads
    with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads})
    select i, 'First' || (i % 997), 'Family-' || (i % 7919), 'person' || i || '@example.com', '555-01' || (i % 10000),
        '555-77' || (i % 9999), case i % 3 when 0 then 'Big Events' when 1 then 'Web Form' else 'Walk-In' end, 1 + i % 4,
        'Owner Number ' || (i % 50), 'owner' || (i % 50) || '@dealer.example', (i % 900) || ' Long Meadow Road',
        'Springfield', 'IL', '62701', 0, '2026-01-02 03:04:05', 1990 + i % 36, 'Maker' || (i % 40), 'Model' || (i % 300)
    from n";

const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "leads"
key = "id"
[lead]
conversationId = { value = "Inbound Leads" }
firstName = "first_name"
lastName = "last_name"
email = "email"
homePhone = "phone"
cellPhone = "mobile"
leadSource = "source"
leadStatus = { column = "status", map = { "1" = "New", "2" = "Working", "3" = "Sold", "4" = "Lost" } }
repName = "owner_name"
repEmail = "owner_email"
address = "street"
city = "city"
state = "state"
zip = "zip"
optOut = "do_not_contact"
date = "created_at"
year = "vehicle_year"
make = "make"
model = "model"
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engines {
    Sqlite,
    Postgres,
    Both,
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
        crm.sql(&CRM.replace("{leads}", &args.leads.to_string()));
        for _ in 1..=args.rounds {
            let state = cluster.database().url;
            bench_round("postgres", &args, &sandbox, directory.path(), DatabaseUrls { crm: &crm.url, state: &state })
                .await?;
        }
    }
    Ok(())
}

async fn make_sqlite_crm(file: &Path, leads: u64) -> anyhow::Result<()> {
    use sqlx::Connection;
    let mut crm = sqlx::SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await?;
    let sql = sqlx::AssertSqlSafe(CRM.replace("{leads}", &leads.to_string()));
    sqlx::raw_sql(sql).execute(&mut crm).await.context("making the CRM")?;
    Ok(crm.close().await?)
}

/// The databases of one round.
#[derive(Clone, Copy)]
struct DatabaseUrls<'a> {
    crm: &'a str,
    state: &'a str,
}

async fn bench_round(
    engine: &str,
    args: &Args,
    sandbox: &Sandbox,
    directory: &Path,
    DatabaseUrls { crm, state }: DatabaseUrls<'_>,
) -> anyhow::Result<()> {
    let config = directory.join("bench.toml");
    let values = [
        ("{crm}", crm),
        ("{state}", state),
        ("{endpoint}", &sandbox.endpoint),
        ("{in_flight}", &args.in_flight.to_string()),
    ];
    let text = values.iter().fold(CONFIG.to_owned(), |text, (place, value)| text.replace(place, value));
    std::fs::write(&config, text)?;
    // The file holds a password, and the program complains when other users can read it.
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600))?;

    sandbox.forget().await?;
    let sent = once(&config).await?;
    sandbox.expect_each_lead_once(args).await.with_context(|| format!("conversica-sync on {engine}"))?;
    let bodies = directory.join("bodies.json");
    std::fs::write(&bodies, sandbox.text("leads").await?)?;
    let idle = once(&config).await?;
    sandbox.expect_each_lead_once(args).await.with_context(|| format!("the second pass on {engine}"))?;

    sandbox.forget().await?;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("--bare").arg(&bodies).args(["--endpoint", &sandbox.endpoint]);
    let bare = watch(bare.args(["--in-flight", &args.in_flight.to_string()])).await?;
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

async fn once(config: &Path) -> anyhow::Result<Watched> {
    let mut command = Command::new(PROGRAM);
    // Keeps the environment of the user's own installation out of the measurement.
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVERSICA_"));
    variables.for_each(|(name, _)| _ = command.env_remove(name));
    watch(command.arg("--config").arg(config).args(["once", "--json"])).await
}

/// The output of a process, its run time, and its peak memory.
struct Watched {
    stdout: String,
    seconds: f64,
    peak_mib: f64,
}

async fn watch(command: &mut Command) -> anyhow::Result<Watched> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut peak_kib = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak_kib = peak.and_then(|kib| kib.parse().ok()).unwrap_or(peak_kib);
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let seconds = started.elapsed().as_secs_f64();
    let stdout = std::io::read_to_string(child.stdout.take().expect("the output is piped"))?;
    ensure!(status.success(), "{command:?} failed ({status}): {stdout}");
    Ok(Watched { stdout, seconds, peak_mib: peak_kib / 1024.0 })
}

/// The sandbox in its own process, stopped on drop.
struct Sandbox {
    process: Child,
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
        Ok(Self { process, endpoint: endpoint.to_owned(), address, http })
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

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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
