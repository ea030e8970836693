//! A throw-away PostgreSQL for each test process, from the server that is installed on the machine: no test is skipped.
//! The server answers on a Unix socket and does not survive a power cut (`fsync=off`). See [`super::server_process`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::server_process::{ServerFiles, ServerWatchdog};
use super::signal::Signal;
use super::wait::wait_until;

const INSTALL: &str = "apt-get install --no-install-recommends postgresql";
const START_DEADLINE: Duration = Duration::from_secs(60);
const DEFAULT_PORT: u16 = 5432;

/// Starts and stops the server on commands from the pipe; when the pipe ends, stops it for good and deletes its files.
const WATCHDOG: &str = r#"
dir=$1 bin=$2; shift 2
cd "$dir" && exec 2>>log || exit 1
trap '' PIPE # nobody may be left to hear an answer, and then there is still everything to tidy up
server=
stop() {
    [ -n "$server" ] || return 0
    kill -CONT "$server" 2>/dev/null
    kill -"$1" "$server" 2>/dev/null
    wait "$server"
    server=
}
for locale in C.UTF-8 C; do
    rm -rf data
    "$bin/initdb" -D data -U postgres --auth=trust -E UTF8 --locale=$locale --no-sync --no-instructions \
        </dev/null >>log 2>&1 && break
done
echo ready
while read -r word; do
    case $word in
        start) "$bin/postgres" -D data "$@" </dev/null >>log 2>&1 & server=$!; echo "$server" ;;
        stop) stop INT; echo stopped ;;
        crash) stop QUIT; echo stopped ;;
    esac
done
stop QUIT
cd / && rm -rf "$dir"
"#;

/// The cluster that all tests of this process share; each takes a database of its own.
pub fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // Autovacuum would visit each of the many databases again and again.
    SHARED.get_or_init(|| Cluster::private_with(&["autovacuum=off"]))
}

/// An empty database for one test. It is deleted with its cluster.
#[derive(Clone, Debug)]
pub struct Database {
    pub url: String,
    pub name: String,
    socket_directory: PathBuf,
    port: u16,
}

impl Database {
    /// Runs statements through `psql`; the answer has a row a line, its columns separated by `|`.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        psql(&self.socket_directory, self.port, &self.name, statements)
    }

    /// What `pg_dump` writes of the database.
    #[track_caller]
    pub fn dump(&self, options: &[&str]) -> String {
        let mut command = Command::new(server_directory().join("pg_dump"));
        command
            .args(["-U", "postgres", "-p", &self.port.to_string(), "-d", &self.name, "-h"])
            .arg(&self.socket_directory);
        let output = command.args(options).stdin(Stdio::null()).output().expect("pg_dump is installed with the server");
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a dump in UTF-8")
    }

    /// Runs statements first and then a dump of [`Database::dump`], in one transaction.
    #[track_caller]
    pub fn restore(&self, first: &str, dump: &str) {
        let mut command = Command::new(server_directory().join("psql"));
        command.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", &self.name, "-h"]);
        command.arg(&self.socket_directory).args(["-p", &self.port.to_string(), "-f", "-"]).stdin(Stdio::piped());
        let mut psql = command.stdout(Stdio::null()).spawn().expect("psql is installed with the server");
        let mut input = psql.stdin.take().expect("the input is piped");
        write!(input, "{first};\n{dump}").expect("psql reads");
        drop(input);
        assert!(psql.wait().expect("psql ends").success(), "psql refused the dump");
    }

    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

pub struct Cluster {
    directory: PathBuf,
    port: u16,
    listens: ClusterAddress,
    state: Mutex<ClusterState>,
}

struct ClusterState {
    watchdog: ServerWatchdog,
    /// The server's process, while it runs.
    server: Option<u32>,
}

/// Where a cluster takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClusterAddress {
    Socket,
    /// At 127.0.0.1 too.
    SocketAndTcp,
}

impl Cluster {
    /// A cluster that a test may stop, pause and crash without an effect on others. It ends on drop.
    pub fn private() -> Self {
        Self::private_with(&[])
    }

    /// The same with settings of its own, `name=value`.
    pub fn private_with(settings: &[&str]) -> Self {
        Self::launch(DEFAULT_PORT, ClusterAddress::Socket, ServerFiles::Temporary, settings)
    }

    /// As [`Cluster::private`], with commits on the disk: for measuring.
    pub fn durable() -> Self {
        Self::launch(DEFAULT_PORT, ClusterAddress::Socket, ServerFiles::OnDisk, &["fsync=on", "full_page_writes=on"])
    }

    /// As [`Cluster::private`], reachable at 127.0.0.1 too: for tests of network faults.
    pub fn private_on_tcp() -> Self {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("a bound socket has an address").port();
        drop(probe);
        Self::launch(port, ClusterAddress::SocketAndTcp, ServerFiles::Temporary, &[])
    }

    fn launch(port: u16, listens: ClusterAddress, files: ServerFiles, own: &[&str]) -> Self {
        let bin = server_directory();
        let addresses = match listens {
            ClusterAddress::Socket => "listen_addresses=",
            ClusterAddress::SocketAndTcp => "listen_addresses=127.0.0.1",
        };
        let watchdog = ServerWatchdog::launch("pg", WATCHDOG, files, |directory| {
            let mut arguments = vec![bin.into_os_string(), "-p".into(), port.to_string().into(), "-k".into()];
            arguments.push(directory.into());
            let settings = [
                "fsync=off",
                "full_page_writes=off",
                "max_connections=200",
                "shared_buffers=64MB",
                "timezone=UTC",
                addresses,
            ];
            for setting in settings.iter().chain(own) {
                arguments.extend(["-c".into(), setting.into()]);
            }
            arguments
        });
        let directory = watchdog.directory().to_owned();
        let state = Mutex::new(ClusterState { watchdog, server: None });
        let cluster = Self { directory, port, listens, state };
        cluster.start();
        cluster
    }

    pub fn database(&self) -> Database {
        self.create("")
    }

    /// The same in another encoding than UTF-8.
    pub fn database_in(&self, encoding: &str) -> Database {
        self.create(&format!("encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"))
    }

    fn create(&self, options: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // template0 takes no connections, so that any number of tests may copy it at once. Its files are copied, which is
        // cheaper than to log each of their pages.
        let statement = format!("create database {name} template template0 strategy file_copy {options}");
        psql(&self.directory, self.port, "postgres", &statement);
        let port = self.port;
        let url = if self.listens == ClusterAddress::SocketAndTcp {
            format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable")
        } else {
            format!("postgres://postgres@localhost:{port}/{name}?host={}", self.directory.display())
        };
        Database { url, name, socket_directory: self.directory.clone(), port }
    }

    /// Starts the server after [`Cluster::stop`] or [`Cluster::crash`], at the same address and with the same databases.
    pub fn start(&self) {
        let mut state = self.state();
        assert!(state.server.is_none(), "the server runs already");
        let pid = state.watchdog.ask("start");
        state.server = Some(pid.parse().expect("the watchdog answers with the server's process id"));
        // The server writes its process id on the first line of this file, and "ready" on the eighth.
        let file = self.directory.join("data/postmaster.pid");
        let serves = || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            lines.next() == Some(&pid) && lines.nth(6) == Some("ready")
        };
        wait_until("PostgreSQL accepts connections", START_DEADLINE, || {
            assert!(alive(&pid), "PostgreSQL did not start: {}", state.watchdog.log());
            serves()
        });
    }

    /// An orderly shutdown: sessions are cut, nothing that was committed is lost, new connections are refused.
    pub fn stop(&self) {
        self.end("stop");
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.state().server.expect("the server runs")
    }

    /// Kills the server, which has to recover when it starts again.
    pub fn crash(&self) {
        self.end("crash");
    }

    /// The server stops answering without closing anything, as behind a network that swallows packets.
    pub fn pause(&self) {
        let server = self.state().server.expect("the server runs");
        // The postmaster first: once it is stopped, it starts no more sessions.
        Signal::Stop.send(server);
        wait_until("the postmaster to stop", START_DEADLINE, || is_in_state(server, 'T'));
        children(server).into_iter().for_each(|session| Signal::Stop.send(session));
        wait_until("every session to stop", START_DEADLINE, || {
            children(server).into_iter().all(|session| is_in_state(session, 'T') || is_in_state(session, 'Z'))
        });
    }

    /// Undoes [`Cluster::pause`].
    pub fn resume(&self) {
        let server = self.state().server.expect("the server runs");
        children(server).into_iter().for_each(|session| Signal::Continue.send(session));
        Signal::Continue.send(server);
    }

    /// Undoes whichever of [`Cluster::stop`], [`Cluster::crash`] and [`Cluster::pause`] was done.
    pub fn start_or_resume(&self) {
        let runs = self.state().server.is_some();
        if runs { self.resume() } else { self.start() }
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        self.state().watchdog.log()
    }

    fn end(&self, word: &str) {
        self.resume();
        let mut state = self.state();
        assert_eq!(state.watchdog.ask(word), "stopped");
        state.server = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Stopped sessions would block an orderly shutdown.
        if let Some(server) = self.state().server {
            children(server).into_iter().for_each(|session| Signal::Continue.send(session));
        }
    }
}

#[track_caller]
fn psql(socket_directory: &Path, port: u16, database: &str, statements: &str) -> String {
    let mut command = Command::new(server_directory().join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
    command.arg("-h").arg(socket_directory).args(["-p", &port.to_string(), "-c", statements]);
    let output = command.stdin(Stdio::null()).output().expect("psql is installed with the server");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "psql refused `{statements}`: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The directory of `initdb`, `postgres` and `psql`: the one on the path, or the newest that Debian keeps off the path.
fn server_directory() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    candidates.extend(versions.iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))));
    candidates
        .iter()
        .filter_map(|directory| Some(directory.join("postgres").canonicalize().ok()?.parent()?.to_owned()))
        .find(|directory| directory.join("initdb").exists() && directory.join("psql").exists())
        .unwrap_or_else(|| panic!("the tests need a PostgreSQL server on this machine; to install one: {INSTALL}"))
}

/// A server that has ended is a zombie until the watchdog takes notice.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// `T` is stopped, `Z` ended and not yet taken notice of.
fn is_in_state(pid: u32, state: char) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state))
}

fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let processes = std::fs::read_dir("/proc").expect("pausing a server takes Linux's /proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // "pid (name) state parent …", and the name may contain anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    })
    .collect()
}
