//! What several benchmarks need: the program as a process, its configuration file, a CRM of made-up people, and the throw-away
//! PostgreSQL server of the tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::ValueEnum;

#[path = "../../tests/it/support"]
pub mod support {
    pub mod postgres;
    pub mod server_process;
    pub mod signal;
    pub mod wait;
}

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_conversica-sync");
/// How often a benchmark reads a running program's memory. `VmHWM` is a peak: only growth in the last moments can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The columns of the leads. The widths are those of a CRM; `{key}` and `{more}` are for the benchmark.
pub const LEAD_COLUMNS: &str = "id {key} primary key, first_name text, last_name text, email text, phone text, mobile text, \
     source text, status bigint, owner_name text, owner_email text, street text, city text, state text, zip text, \
     do_not_contact bigint, created_at text, vehicle_year bigint, make text, model text{more}";

/// The people `1` to `{leads}`, for both engines. The names are made up.
pub const LEAD_ROWS: &str = "
    with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads})
    select i, 'First' || (i % 997), 'Family-' || (i % 7919), 'person' || i || '@example.com', '555-01' || (i % 10000),
        '555-77' || (i % 9999), case i % 3 when 0 then 'Big Events' when 1 then 'Web Form' else 'Walk-In' end, 1 + i % 4,
        'Owner Number ' || (i % 50), 'owner' || (i % 50) || '@dealer.example', (i % 900) || ' Long Meadow Road',
        'Springfield', 'IL', '62701', 0, '2026-01-02 03:04:05', 1990 + i % 36, 'Maker' || (i % 40), 'Model' || (i % 300){more}
    from n";

/// The mapping of these leads.
pub const LEAD_MAPPING: &str = r#"
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
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engines {
    Sqlite,
    Postgres,
    Both,
}

/// The databases of one round.
#[derive(Clone, Copy)]
pub struct DatabaseUrls<'a> {
    pub crm: &'a str,
    pub state: &'a str,
}

/// A text with its `{places}` filled.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// Writes a configuration file.
pub fn write_config(file: &Path, text: &str, values: &[(&str, &str)]) -> anyhow::Result<()> {
    std::fs::write(file, fill(text, values))?;
    // The file holds a password, and the program complains when other users can read it.
    Ok(std::fs::set_permissions(file, PermissionsExt::from_mode(0o600))?)
}

/// The program with this configuration file.
pub fn program(config: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    // Keeps the environment of the user's own installation out of the measurement.
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVERSICA_"));
    variables.for_each(|(name, _)| _ = command.env_remove(name));
    command.arg("--config").arg(config).stdin(Stdio::null());
    command
}

/// A process that is killed on drop.
pub struct RunningProcess(pub Child);

impl Drop for RunningProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The output of a process, its run time, and its peak memory.
pub struct WatchedProcess {
    pub stdout: String,
    pub seconds: f64,
    pub peak_mib: f64,
}

/// Runs a process to its end.
pub fn watch(command: &mut Command) -> anyhow::Result<WatchedProcess> {
    let output = tempfile::NamedTempFile::new()?;
    let mut watched = watch_with(command.stdout(output.reopen()?))?;
    watched.stdout = std::fs::read_to_string(output.path())?;
    Ok(watched)
}

/// As [`watch`], without the output.
pub fn watch_silent(command: &mut Command) -> anyhow::Result<WatchedProcess> {
    watch_with(command.stdout(Stdio::null()))
}

fn watch_with(command: &mut Command) -> anyhow::Result<WatchedProcess> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn()?;
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
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(WatchedProcess { stdout: String::new(), seconds, peak_mib: peak_kib / 1024.0 })
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process meanwhile")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The middle one of these numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
