//! Measures the cost of looking for changes when there are none, against the database's own shell reading the same
//! columns.
//!
//!     cargo bench --bench finding_changes                                       1,000,000 leads, SQLite and PostgreSQL
//!     cargo bench --bench finding_changes -- --leads 10000000 --engine postgres --rounds 1
//!
//! The benchmark uses a CRM with a tenth of the leads, then one with all of them. The program takes the leads as
//! delivered (`first_run = "baseline"`). Each round runs `once --full`, from the program's start to its end, and the
//! shell: `sqlite3 FILE "select … order by id"` or `psql -c "copy (select … order by id) to stdout"`. The benchmark
//! prints the seconds of each, their ratio, and the program's peak memory (`VmHWM`). It compares `reconcile` with `once
//! --full` in the same way.
//!
//! At the end it runs one daemon that polls every 100 ms and one that never polls. The difference of their processor
//! time, divided by the number of polls, is the cost of an incremental poll; on PostgreSQL the server's share is printed
//! apart. Needs `sqlite3`; PostgreSQL is a throw-away server, for CRM and state alike.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use common::support::postgres::{Cluster, Database};
use common::{
    Engines, LEAD_COLUMNS, LEAD_MAPPING, LEAD_ROWS, RunningProcess, fill, median, pause, program, watch, watch_silent,
    write_config,
};

#[allow(dead_code, reason = "made for all benchmarks and for the tests, which need more of it")]
mod common;

/// How long the benchmark counts polls.
const POLLING: Duration = Duration::from_secs(20);
/// The kernel counts processor time in hundredths of a second (`USER_HZ`, fixed on Linux).
const TICKS: f64 = 100.0;

const COLUMNS: &str = "id, first_name, last_name, email, phone, mobile, source, status, owner_name, owner_email, street, \
                       city, state, zip, do_not_contact, created_at, vehicle_year, make, model";

/// Each row's change stamp is a second after the one before, so the look-back of five minutes reads 300 rows again.
const STAMPS: &str = ",\n        1767225600 + i";

const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "leads"
key = "id"
changed_at = "updated_at"
poll_interval = "{poll_interval}"
[conversica]
endpoint = "http://127.0.0.1:9/json/"
username = "bench"
password = "bench"
[safety]
first_run = "baseline"
[state]
url = "{state}"
[writeback]
mode = "off"
[admin]
listen = "127.0.0.1:0"
"#;

#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long, default_value_t = 1_000_000)]
    leads: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[arg(long, value_enum, default_value = "both")]
    engine: Engines,
    /// Cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where the leads are, and how the database's own shell reads them.
enum Crm {
    Sqlite { file: PathBuf, state: PathBuf },
    Postgres { crm: Database, state: Database },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let directory = tempfile::tempdir()?;
    println!("engine        leads  compare s  shell s  ratio  peak MiB   (each round; then the median)");
    if args.engine != Engines::Postgres {
        for leads in [args.leads / 10, args.leads] {
            let crm = Crm::sqlite(directory.path(), leads)?;
            bench("sqlite", &args, directory.path(), (&crm, leads), None)?;
        }
    }
    if args.engine != Engines::Sqlite {
        let cluster = Cluster::private();
        // Autovacuum would start at a random time, and its processor time would count as that of polls.
        cluster.database().sql("alter system set autovacuum = off");
        cluster.database().sql("select pg_reload_conf()");
        for leads in [args.leads / 10, args.leads] {
            let crm = Crm::postgres(&cluster, leads);
            bench("postgres", &args, directory.path(), (&crm, leads), Some(&cluster))?;
        }
    }
    Ok(())
}

fn statements(key: &str, leads: u64) -> String {
    let leads = leads.to_string();
    let table = fill(LEAD_COLUMNS, &[("{key}", key), ("{more}", ", updated_at bigint")]);
    let rows = fill(LEAD_ROWS, &[("{leads}", &leads), ("{more}", STAMPS)]);
    format!(
        "create table leads ({table}); insert into leads {rows}; create index leads_updated_at on leads (updated_at);"
    )
}

impl Crm {
    fn sqlite(directory: &Path, leads: u64) -> anyhow::Result<Self> {
        let file = directory.join(format!("crm-{leads}.db"));
        let script = format!("pragma journal_mode = wal; {}", statements("integer", leads));
        let status = Command::new("sqlite3").arg(&file).arg(script).stdout(Stdio::null()).status();
        ensure!(status.context("sqlite3 has to be installed")?.success(), "the CRM could not be made");
        Ok(Self::Sqlite { file, state: directory.join(format!("state-{leads}.db")) })
    }

    fn postgres(cluster: &Cluster, leads: u64) -> Self {
        let (crm, state) = (cluster.database(), cluster.database());
        crm.sql(&statements("bigint", leads));
        crm.sql("vacuum analyze leads");
        Self::Postgres { crm, state }
    }

    fn urls(&self) -> (String, String) {
        match self {
            Self::Sqlite { file, state } => {
                (format!("sqlite://{}", file.display()), format!("sqlite://{}", state.display()))
            }
            Self::Postgres { crm, state } => (crm.url.clone(), state.url.clone()),
        }
    }

    fn shell(&self) -> Command {
        match self {
            Self::Sqlite { file, .. } => {
                let mut command = Command::new("sqlite3");
                command.arg(file).arg(format!("select {COLUMNS} from leads order by id"));
                command
            }
            Self::Postgres { crm, .. } => {
                let mut command = Command::new("psql");
                let copy = format!("copy (select {COLUMNS} from leads order by id) to stdout");
                command.args(["--no-psqlrc", "-c", &copy, &crm.url]);
                command
            }
        }
    }
}

fn bench(
    engine: &str,
    args: &Args,
    directory: &Path,
    (crm, leads): (&Crm, u64),
    cluster: Option<&Cluster>,
) -> anyhow::Result<()> {
    let config = directory.join("bench.toml");
    configure(&config, crm, "15s")?;
    let first = watch(program(&config).args(["once", "--json"]))?;
    println!(
        "{engine:<9} {leads:>9}  {:>9.2}  (the first pass, which takes all of them down){:>8.1}",
        first.seconds, first.peak_mib
    );
    // A server does this by itself sooner or later.
    if let Crm::Postgres { state, .. } = crm {
        state.sql("vacuum analyze");
    }
    let (mut ratios, mut reconciling) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let compare = watch(program(&config).args(["once", "--full"]))?;
        ensure!(compare.stdout.contains(&format!("Read {leads} rows: 0 new, 0 changed")), "{}", compare.stdout);
        let shell = watch_silent(&mut crm.shell())?;
        let ratio = compare.seconds / shell.seconds;
        println!(
            "{engine:<9} {leads:>9}  {:>9.2} {:>8.2} {ratio:>6.2} {:>9.1}",
            compare.seconds, shell.seconds, compare.peak_mib
        );
        ratios.push(ratio);
        let reconcile = watch(program(&config).args(["reconcile", "--unconfirmed-after", "7d"]))?;
        ensure!(reconcile.stdout.contains("leads: no difference is known"), "{}", reconcile.stdout);
        let ratio = reconcile.seconds / compare.seconds;
        println!(
            "{engine:<9} {leads:>9}  {:>9.2}  (reconcile: {ratio:.2} times the full compare){:>11.1}",
            reconcile.seconds, reconcile.peak_mib
        );
        reconciling.push(ratio);
    }
    println!("{engine:<9} {leads:>9}  median ratio {:.2}; of reconcile {:.2}", median(ratios), median(reconciling));
    let (polls, busy, busy_server) = polling(&config, crm, "100ms", cluster)?;
    let (_, idle, idle_server) = polling(&config, crm, "24h", cluster)?;
    let each = |busy: f64, idle: f64| (busy - idle).max(0.0) * 1000.0 / polls as f64;
    println!(
        "{engine:<9} {leads:>9}  an incremental poll: {:.2} ms of processor time, and {:.2} ms of the server's ({polls} polls)",
        each(busy, idle),
        each(busy_server, idle_server)
    );
    Ok(())
}

fn configure(config: &Path, crm: &Crm, poll_interval: &str) -> anyhow::Result<()> {
    let (source, state) = crm.urls();
    let values = [("{crm}", source.as_str()), ("{state}", &state), ("{poll_interval}", poll_interval)];
    write_config(config, &format!("{CONFIG}{LEAD_MAPPING}"), &values)
}

/// Runs a daemon undisturbed; returns its number of polls, its seconds of processor time, and those of the server.
fn polling(
    config: &Path,
    crm: &Crm,
    poll_interval: &str,
    cluster: Option<&Cluster>,
) -> anyhow::Result<(u64, f64, f64)> {
    configure(config, crm, poll_interval)?;
    let mut command = program(config);
    let mut daemon = RunningProcess(command.arg("run").stderr(Stdio::null()).stdout(Stdio::null()).spawn()?);
    pause(Duration::from_secs(5));
    let server = || cluster.map_or(0.0, server_seconds);
    let (before, server_before) = (process_seconds(daemon.0.id()), server());
    pause(POLLING);
    ensure!(daemon.0.try_wait()?.is_none(), "the daemon has ended");
    let (after, server_after) = (process_seconds(daemon.0.id()), server());
    let status = program(config).args(["status", "--json"]).output()?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    let poll = status["last_poll"]["duration_ms"].as_f64().context("a poll has a duration")?;
    Ok(((POLLING.as_secs_f64() * 1000.0 / (100.0 + poll)) as u64, after - before, server_after - server_before))
}

/// User and system time, the 14th and 15th field of `/proc/PID/stat`. The second field is a name in parentheses.
fn process_seconds(pid: u32) -> f64 {
    stat_fields(pid).map_or(0.0, |fields| (fields[11] + fields[12]) / TICKS)
}

/// Processor time of the server and its children, ended children included.
fn server_seconds(cluster: &Cluster) -> f64 {
    let server = cluster.pid();
    let ended = stat_fields(server).map_or(0.0, |fields| fields[11..15].iter().sum::<f64>() / TICKS);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|pid| stat_fields(*pid).is_some_and(|fields| fields[1] as u32 == server));
    ended + children.map(process_seconds).sum::<f64>()
}

/// The numbers after the process name. The first field is the process state, which is no number and becomes 0.
fn stat_fields(pid: u32) -> Option<Vec<f64>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, numbers) = stat.rsplit_once(") ")?;
    Some(numbers.split(' ').map(|number| number.trim().parse().unwrap_or(0.0)).collect())
}
