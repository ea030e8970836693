//! Runs the program as its users do: the real binary, in its own directory, in an environment without our variables. No
//! process started here outlives its test, and every wait has a deadline.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::signal::Signal;
use super::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const CONFIG: &str = "conversica-sync.toml";

/// The program as started from `directory`, where it finds its configuration by itself.
#[derive(Clone, Debug)]
pub struct Cli {
    directory: PathBuf,
    variables: Vec<(OsString, OsString)>,
    /// The command that starts the program, if any.
    launcher: Vec<OsString>,
    deadline: Duration,
}

/// Whether every thread of a process is stopped, as Linux says.
fn has_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("stopping a program takes Linux's /proc");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// The result of a finished run. `code` is `None` when a signal ended it.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A run under way; killed on drop.
pub struct Running {
    child: Child,
    command: String,
    stdout: Capture,
    stderr: Capture,
}

struct Capture {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Cli {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), variables: Vec::new(), launcher: Vec::new(), deadline: DEADLINE }
    }

    /// Writes the configuration file that the program finds in its directory.
    #[must_use]
    pub fn config(self, text: &str) -> Self {
        std::fs::write(self.config_file(), text).expect("the test's directory is writable");
        self
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.join(CONFIG)
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Starts the program from a small shell script, which has to end in `exec "$@"`.
    #[must_use]
    pub fn launched_by(mut self, script: &str) -> Self {
        self.launcher = ["sh", "-c", script, "sh"].map(OsString::from).into();
        self
    }

    /// How long [`Cli::run`] may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs to the end. Panics with the output so far when the deadline passes.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait(self.deadline)
    }

    #[track_caller]
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut words = self.launcher.iter().cloned().chain([env!("CARGO_BIN_EXE_conversica-sync").into()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).args(arguments).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os().filter(|(name, _)| disturbs(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("cargo has built the binary");
        let stdout = Capture::of(child.stdout.take().expect("the output is piped"));
        let stderr = Capture::of(child.stderr.take().expect("the output is piped"));
        Running { child, command: format!("conversica-sync {}", arguments.join(" ")), stdout, stderr }
    }
}

/// Variables of the machine that would affect the program, its HTTP client or its database driver.
fn disturbs(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let ours = upper.starts_with("CONVERSICA_SYNC") || upper == "CREDENTIALS_DIRECTORY" || upper == "NOTIFY_SOCKET";
    let logs = matches!(upper.as_str(), "RUST_LOG" | "RUST_BACKTRACE" | "NO_COLOR" | "CLICOLOR_FORCE" | "COLUMNS");
    // The test decides about non-ASCII output and terminal features.
    let locale = upper == "LANG" || upper.starts_with("LC_") || matches!(upper.as_str(), "TERM" | "CLICOLOR");
    ours || logs || locale || upper.starts_with("PG") || upper.ends_with("_PROXY") || upper.starts_with("SSL_CERT_")
}

impl Output {
    /// Standard output, which has to be one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not one JSON document: {error}\n{self}"))
    }

    /// Panics with the whole output when the run ended with another exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// The first line, on either stream and since the start, that contains `text`. Panics at once when the program ends
    /// without such a line.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str, deadline: Duration) -> String {
        let start = Instant::now();
        let what = format!("a line with `{text}` from `{}`", self.command);
        let line = wait_for(&what, deadline + Duration::from_secs(5), || {
            let over = self.ended().is_some() && self.stdout.complete() && self.stderr.complete();
            let streams = [self.stderr(), self.stdout()];
            let line = streams.iter().flat_map(|stream| stream.lines()).find(|line| line.contains(text));
            let given_up = over || start.elapsed() >= deadline;
            line.map(|line| Ok(line.to_owned())).or_else(|| given_up.then_some(Err(over)))
        });
        line.unwrap_or_else(|over| {
            let why = if over { "the program ended first" } else { "in vain" };
            panic!("waited {:?} for {what}: {why}\n{}", start.elapsed(), self.output_so_far())
        })
    }

    /// After [`Signal::Stop`], all threads of the program are stopped when this returns.
    pub fn signal(&self, signal: Signal) {
        signal.send(self.child.id());
        if matches!(signal, Signal::Stop) {
            wait_until("the program to stand still", DEADLINE, || has_stopped(self.child.id()));
        }
    }

    /// Like `kill -9`: the program cannot finish anything. Returns the output up to then.
    pub fn kill(mut self) -> Output {
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits for the program's own end. Panics with the output so far when the deadline passes.
    #[track_caller]
    pub fn wait(mut self, deadline: Duration) -> Output {
        let start = Instant::now();
        wait_until("the program or the deadline ends", deadline + Duration::from_secs(5), || {
            self.ended().is_some() || start.elapsed() >= deadline
        });
        if self.ended().is_none() {
            let _ = self.child.kill();
            let output = self.finish();
            panic!("`{}` was still running after {deadline:?}\n{output}", self.command);
        }
        self.finish()
    }

    pub fn is_over(&mut self) -> bool {
        self.ended().is_some()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours to wait for")
    }

    fn finish(&mut self) -> Output {
        let _ = self.child.wait();
        wait_until("the program's output is closed", Duration::from_secs(5), || {
            self.stdout.complete() && self.stderr.complete()
        });
        self.output_so_far()
    }

    fn output_so_far(&mut self) -> Output {
        Output { code: self.ended().and_then(|status| status.code()), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let finished = self.ended().is_some();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !finished && std::thread::panicking() {
            let output = self.output_so_far();
            eprintln!("`{}` was running; {output}", self.command);
        }
    }
}

impl Capture {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn complete(&self) -> bool {
        self.reader.is_finished()
    }
}
