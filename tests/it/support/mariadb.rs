//! A throw-away MariaDB for each test process, from the server that is installed on the machine: no test is skipped. The
//! server answers on a Unix socket and at 127.0.0.1. See [`super::server_process`].

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::engine::{Engine, Place};
use super::server_process::{ServerFiles, ServerWatchdog};
use super::wait::wait_until;

const INSTALL: &str = "apt-get install --no-install-recommends mariadb-server";
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Starts and stops the server on commands from the pipe; when the pipe ends, stops it for good and deletes its files.
const WATCHDOG: &str = r#"
dir=$1 install=$2 server=$3; shift 3
cd "$dir" && exec 2>>log || exit 1
trap '' PIPE
running=
stop() {
    [ -n "$running" ] || return 0
    kill -"$1" "$running" 2>/dev/null
    wait "$running"
    running=
}
"$install" --no-defaults --datadir="$dir/data" --tmpdir="$dir" --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve </dev/null >>log 2>&1
echo ready
while read -r word; do
    case $word in
        start) "$server" --no-defaults "$@" </dev/null >>log 2>&1 & running=$!; echo "$running" ;;
        stop) stop TERM; echo stopped ;;
    esac
done
stop KILL
cd / && rm -rf "$dir"
"#;

/// The server that all tests of this process share; each takes a database of its own.
pub fn mariadb() -> &'static MariaServer {
    static SHARED: OnceLock<MariaServer> = OnceLock::new();
    SHARED.get_or_init(MariaServer::private)
}

/// An empty database for one test. It is deleted with its server.
#[derive(Clone, Debug)]
pub struct MariaDatabase {
    /// With a user that may do everything.
    pub url: String,
    pub name: String,
    socket: PathBuf,
    port: u16,
}

impl MariaDatabase {
    /// Runs statements through the server's own client; the answer has a row a line, its columns separated by tabs.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        client(&self.socket, &self.name, statements)
    }

    /// Makes a routine or trigger with several statements inside.
    #[track_caller]
    pub fn define(&self, routine: &str) {
        let mut command = client_command(&self.socket, &self.name);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the client starts");
        let mut input = process.stdin.take().expect("the input is piped");
        writeln!(input, "delimiter //\n{routine}//").expect("the client listens");
        drop(input);
        assert!(process.wait().expect("the client ends").success(), "MariaDB refused `{routine}`");
    }

    /// A user with these rights on this database, and its URL.
    pub fn user(&self, rights: &str) -> String {
        self.user_with(&format!("grant {rights} on {}.* to", self.name))
    }

    /// The same with the beginning of a `grant` statement.
    pub fn user_with(&self, grant: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let user = format!("user_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("create user {user}@'127.0.0.1' identified by 'let me in'; {grant} {user}@'127.0.0.1'"));
        format!("mysql://{user}:let%20me%20in@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// A session of the server's own client that stays open.
    pub fn session(&self) -> MariaSession {
        let mut command = client_command(&self.socket, &self.name);
        let mut process = command
            .arg("--unbuffered")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let words = process.stdin.take().expect("the input is piped");
        let answers = BufReader::new(process.stdout.take().expect("the output is piped"));
        MariaSession { process, words, answers }
    }

    /// The database as a source. The engine of the result does not count: statements go through [`MariaDatabase::sql`].
    pub fn place(&self) -> Place {
        Place::at(Engine::Postgres, self.url.clone())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// An open session; it ends on drop, and what it has not committed is rolled back.
pub struct MariaSession {
    process: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl MariaSession {
    /// Runs statements, and waits for their end.
    pub fn sql(&mut self, statements: &str) {
        writeln!(self.words, "{statements}; select 'done';").expect("the client listens");
        self.words.flush().expect("the client listens");
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            let bytes = self.answers.read_line(&mut line).expect("the client answers in text");
            assert!(bytes > 0, "the client ended at `{statements}`");
        }
    }
}

impl Drop for MariaSession {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct MariaServer {
    directory: PathBuf,
    port: u16,
    watchdog: Mutex<ServerWatchdog>,
}

impl MariaServer {
    /// A server that a test may stop without an effect on others. It ends on drop.
    pub fn private() -> Self {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("a bound socket has an address").port();
        drop(probe);
        let watchdog = ServerWatchdog::launch("maria", WATCHDOG, ServerFiles::Temporary, |directory| {
            let programs = [&["mariadb-install-db", "mysql_install_db"], &["mariadbd", "mysqld"]];
            let programs = programs.into_iter().map(|names| program(names).into_os_string());
            let settings = [
                format!("--datadir={}", directory.join("data").display()),
                format!("--tmpdir={}", directory.display()),
                format!("--socket={}", directory.join("socket").display()),
                format!("--port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--skip-name-resolve".to_owned(),
                "--pid-file=pid".to_owned(),
                "--max-connections=300".to_owned(),
                "--innodb-buffer-pool-size=64M".to_owned(),
                "--innodb-flush-log-at-trx-commit=0".to_owned(),
                "--character-set-server=latin1".to_owned(),
                // Far from UTC, so that a forgotten conversion shows.
                "--default-time-zone=+09:00".to_owned(),
            ];
            programs.chain(settings.map(OsString::from)).collect()
        });
        let server = Self { directory: watchdog.directory().to_owned(), port, watchdog: Mutex::new(watchdog) };
        server.start();
        server
    }

    /// An empty database in `utf8mb4`.
    pub fn database(&self) -> MariaDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = self.socket();
        client(&socket, "mysql", &format!("create database {name} character set utf8mb4"));
        let url = format!("mysql://root@localhost:{}/{name}?socket={}", self.port, socket.display());
        MariaDatabase { url, name, socket, port: self.port }
    }

    /// Starts the server after [`MariaServer::stop`], at the same address and with the same databases.
    pub fn start(&self) {
        self.watchdog().ask("start");
        let socket = self.socket();
        wait_until("MariaDB accepts connections", START_DEADLINE, || {
            let mut command = client_command(&socket, "mysql");
            let output = command.args(["-e", "select 1"]).stderr(Stdio::null()).output();
            output.expect("the client is installed with the server").status.success()
        });
    }

    /// An orderly shutdown.
    pub fn stop(&self) {
        assert_eq!(self.watchdog().ask("stop"), "stopped");
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn watchdog(&self) -> std::sync::MutexGuard<'_, ServerWatchdog> {
        self.watchdog.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn client_command(socket: &Path, database: &str) -> Command {
    let mut command = Command::new(program(&["mariadb", "mysql"]));
    command.args([
        "--no-defaults",
        "--batch",
        "--skip-column-names",
        "--raw",
        "--default-character-set=utf8mb4",
        "-u",
        "root",
    ]);
    command.arg(format!("--socket={}", socket.display())).args(["-D", database]);
    command
}

#[track_caller]
fn client(socket: &Path, database: &str, statements: &str) -> String {
    let output = client_command(socket, database).args(["-e", statements]).stdin(Stdio::null()).output();
    let output = output.expect("the client is installed with the server");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "MariaDB refused `{statements}`: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A program of the server's, by the first of its names that exists; Debian keeps the server itself off the path.
fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.push(PathBuf::from("/usr/sbin"));
    let candidates = names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    candidates
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("the tests need {} on this machine; to install it: {INSTALL}", names[0]))
}
