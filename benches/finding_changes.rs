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

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use support::postgres::{Cluster, Database};

#[path = "../tests/it/support"]
#[allow(dead_code, reason = "made for the tests, which need more of it")]
mod support {
    pub mod postgres;
    pub mod signal;
    pub mod wait;
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_conversica-sync");
/// How often the benchmark reads a running program's memory. `VmHWM` is a peak: only growth in the last moments can be
/// missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the benchmark counts polls.
const POLLING: Duration = Duration::from_secs(20);
/// The kernel counts processor time in hundredths of a second (`USER_HZ`, fixed on Linux).
const TICKS: f64 = 100.0;

const COLUMNS: &str = "id, first_name, last_name, email, phone, mobile, source, status, owner_name, owner_email, street, \
                       city, state, zip, do_not_contact, created_at, vehicle_year, make, model";

/// Statements for both engines. The names are made up; the column widths are those of a CRM. Each row's change stamp is a
/// second after the one before, so the look-back of five minutes reads 300 rows again.
const CRM: &str = "
    create table leads (id {key} primary key, first_name text, last_name text, email text, phone text, mobile text,
        source text, status bigint, owner_name text, owner_email text, street text, city text, state text, zip text,
        do_not_contact bigint, created_at text, vehicle_year bigint, make text, model text, updated_at bigint);
    insert into leads
    with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads})
    select i, 'First' || (i % 997), 'Family-' || (i % 7919), 'person' || i || '@example.com', '555-01' || (i % 10000),
        '555-77' || (i % 9999), case i % 3 when 0 then 'Big Events' when 1 then 'Web Form' else 'Walk-In' end, 1 + i % 4,
        'Owner Number ' || (i % 50), 'owner' || (i % 50) || '@dealer.example', (i % 900) || ' Long Meadow Road',
        'Springfield', 'IL', '62701', 0, '2026-01-02 03:04:05', 1990 + i % 36, 'Maker' || (i % 40), 'Model' || (i % 300),
        1767225600 + i
    from n;
    create index leads_updated_at on leads (updated_at);";

const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "leads"
key = "id"
changed_at = "updated_at"
poll_interval = "{poll_interval}"
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engines {
    Sqlite,
    Postgres,
    Both,
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
    CRM.replace("{key}", key).replace("{leads}", &leads.to_string())
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
        let shell = watch(&mut crm.shell())?;
        let ratio = compare.seconds / shell.seconds;
        println!(
            "{engine:<9} {leads:>9}  {:>9.2} {:>8.2} {ratio:>6.2} {:>9.1}",
            compare.seconds, shell.seconds, compare.peak_mib
        );
        ratios.push(ratio);
        let reconcile = watch(program(&config).args(["reconcile", "--unconfirmed-after", "7d"]))?;
        ensure!(reconcile.stdout.contains(&format!("All {leads} leads agree")), "{}", reconcile.stdout);
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

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

fn configure(config: &Path, crm: &Crm, poll_interval: &str) -> anyhow::Result<()> {
    let (source, state) = crm.urls();
    let values = [("{crm}", source.as_str()), ("{state}", &state), ("{poll_interval}", poll_interval)];
    std::fs::write(config, values.iter().fold(CONFIG.to_owned(), |text, (place, value)| text.replace(place, value)))?;
    // The file holds a password, and the program complains when other users can read it.
    Ok(std::fs::set_permissions(config, PermissionsExt::from_mode(0o600))?)
}

fn program(config: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    // Keeps the environment of the user's own installation out of the measurement.
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVERSICA_"));
    variables.for_each(|(name, _)| _ = command.env_remove(name));
    command.arg("--config").arg(config);
    command
}

/// The output of a process, its run time, and its peak memory. Long output is counted, not kept.
struct Watched {
    stdout: String,
    seconds: f64,
    peak_mib: f64,
}

fn watch(command: &mut Command) -> anyhow::Result<Watched> {
    let started = Instant::now();
    let output = tempfile::NamedTempFile::new()?;
    // The output of the shells is not needed.
    let is_shell = command.get_program() != PROGRAM;
    let stdout = if is_shell { Stdio::null() } else { output.reopen()?.into() };
    let mut child = command.stdin(Stdio::null()).stdout(stdout).spawn()?;
    let mut peak_kib = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak_kib = peak.and_then(|kib| kib.parse().ok()).unwrap_or(peak_kib);
        pause(LOOK_EVERY);
    };
    let seconds = started.elapsed().as_secs_f64();
    let stdout = std::fs::read_to_string(output.path())?;
    ensure!(status.success(), "{command:?} failed ({status}): {stdout}");
    Ok(Watched { stdout, seconds, peak_mib: peak_kib / 1024.0 })
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
    let mut daemon = Daemon(command.arg("run").stderr(Stdio::null()).stdout(Stdio::null()).spawn()?);
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

#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
