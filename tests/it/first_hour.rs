//! The tutorial: the test runs every command of its transcript in order, on a CRM with a schema of its own, and compares
//! the output with docs/tutorial.md. Only times, addresses and names of sets may differ.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::scene::sqlite;
use crate::support::wait::wait_until;
use conversica_sync::sandbox::faults::FaultPlan;
use conversica_sync::sandbox::{SandboxOptions, start};

const FOLDER: &str = "/srv/dealer";
const ADDRESS: &str = "127.0.0.1:8099";

/// Twelve people with one malformed address, one who wants no mail, and one without a salesperson.
const CRM: &str = "
    create table staff (staff_no integer primary key, full_name text not null, mail text not null);
    insert into staff values (1, 'Joan Webb', 'joan@dealer.example'), (2, 'Pavel Novak', 'pavel@dealer.example');
    create table prospects (prospect_no integer primary key, given_name text, surname text, mail text, mobile_no text,
        lead_origin text, stage text, looked_after_by integer references staff (staff_no), unsubscribed integer not null default 0,
        town text, entered_at text, modified_at text);
    create index prospects_modified_at on prospects (modified_at);
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 12)
    insert into prospects select 1000 + i, 'Given' || i, 'Surname' || i,
        case i when 5 then 'call me' else 'person' || i || '@mail.example' end, '+1 555 010 0' || (100 + i),
        case i % 3 when 0 then 'Spring fair' else 'Web form' end, case i % 2 when 0 then 'New' else 'In talks' end,
        case i when 9 then null else 1 + i % 2 end, case i when 7 then 1 else 0 end, 'Springfield',
        '2024-05-0' || (1 + i % 9) || ' 09:30:00', '2024-05-1' || (i % 9) || ' 16:0' || (i % 6) || ':00' from n;";

/// A command of the transcript, and its output.
struct Step {
    command: String,
    says: String,
}

/// The commands of the tutorial's first transcript, each with its output.
fn transcript() -> Vec<Step> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md");
    let page = std::fs::read_to_string(page).expect("a tutorial");
    let section = page.strip_prefix("# A first hour\n").expect("the tutorial is the first hour");
    let (_, block) = section.split_once("```console\n").expect("a transcript");
    let (block, _) = block.split_once("\n```").expect("the transcript's end");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), says: String::new() });
        } else if let Some(step) = steps.last_mut() {
            step.says.push_str(line);
            step.says.push('\n');
        }
    }
    steps
}

/// A shell in the folder, with the program on its path and without the user's own settings.
fn shell(folder: &Path, line: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_conversica-sync")).parent().expect("a folder");
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", format!("{}:{path}", program.display()))
        .env("LANG", "C.UTF-8")
        .env("HOME", folder)
        .env("LOGNAME", "ann");
    command.args(["-c", &format!("{{ {line}\n}} 2>&1")]).current_dir(folder).stdin(Stdio::null());
    command
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes equal what may differ: instants, durations, addresses, versions, names of sets.
fn essence(text: &str) -> String {
    let word = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let is_set = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_measured = digits > 0 && word.contains([':', '.']) || digits >= 8 && word.contains('-');
        if is_set || is_measured { "…".to_owned() } else { word.to_owned() }
    };
    // Numbers before a unit of time or size, and ports.
    let is_unit =
        |word: &str| matches!(word.trim_end_matches([',', '.', ';', ':', ')']), "ms" | "s" | "MiB" | "GiB" | "KiB");
    let is_number = |word: &str| word.trim_start_matches('(').chars().all(|c| c.is_ascii_digit());
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_port = |at: usize| at > 0 && words[at - 1] == "port";
        let has_unit = |at: usize| words.get(at + 1).is_some_and(|next| is_unit(next));
        let essence = (0..words.len()).map(|at| {
            if is_number(words[at]) && (is_port(at) || has_unit(at)) { "…".to_owned() } else { word(words[at]) }
        });
        essence.collect::<Vec<_>>().join(" ")
    };
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_hour_goes_as_the_tutorial_says() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = SandboxOptions {
        listen: "127.0.0.1:0".parse().expect("an address"),
        username: "acme-api".to_owned(),
        password: "rehearsal".to_owned(),
        faults: FaultPlan::default(),
        seed: 1,
        play: None,
    };
    let sandbox = runtime.block_on(start(options)).expect("the sandbox starts");
    let folder = tempfile::tempdir().expect("a folder");
    sqlite(&folder.path().join("crm.db"), CRM).expect("a CRM");
    let (here, address) = (folder.path().display().to_string(), sandbox.address.to_string());
    let (mut told, mut wrong) = (String::new(), Vec::new());
    let mut daemon = None;
    let steps = transcript();
    assert!(steps.len() > 5, "the tutorial's first hour has been lost");
    for step in steps {
        let line = step.command.replace(FOLDER, &here).replace(ADDRESS, &address);
        let said = if let Some(line) = line.strip_suffix(" &") {
            let child = shell(folder.path(), &format!("exec {line}")).stdout(Stdio::null()).spawn().expect("a shell");
            daemon = Some(Daemon(child));
            // A reader who types the commands gives the daemon this time.
            wait_until("everybody is delivered", Duration::from_secs(60), || {
                let status = shell(folder.path(), "conversica-sync status --json").output().expect("a shell");
                let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
                status["leads"]["in_sync"] == 10
            });
            String::new()
        } else {
            let output = shell(folder.path(), &line).output().expect("a shell");
            String::from_utf8(output.stdout).expect("text")
        };
        let said = said.replace(&here, FOLDER).replace(&address, ADDRESS);
        told.push_str(&format!("$ {}\n{said}", step.command));
        if essence(&said) != essence(&step.says) {
            wrong.push(step.command);
        }
    }
    drop(daemon);
    assert!(wrong.is_empty(), "docs/tutorial.md says otherwise of {wrong:#?}; this is how it goes today:\n{told}");
}
