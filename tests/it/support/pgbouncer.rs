//! A PgBouncer in front of a cluster, from the package that is installed on the machine. It ends on drop, or with the
//! test process.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;

use super::postgres::Database;
use super::server_process::unprivileged_user;
use super::wait::wait_until;

const INSTALL: &str = "apt-get install --no-install-recommends pgbouncer";

pub struct PgBouncer {
    database: String,
    port: u16,
    process: Child,
    words: Option<ChildStdin>,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts it in front of that database; `settings` are lines of its `[pgbouncer]` section, such as `pool_mode =
    /// transaction`.
    pub fn before(database: &Database, settings: &[&str]) -> Self {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("a bound socket has an address").port();
        drop(probe);
        let directory = tempfile::Builder::new().prefix("csync-pgb-").tempdir_in("/tmp").expect("/tmp is writable");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("the directory is ours");
        let text = format!(
            "[databases]\n{} = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\n{}\n",
            database.name,
            database.socket_directory().display(),
            database.port(),
            settings.join("\n")
        );
        let file = directory.path().join("ini");
        std::fs::write(&file, text).expect("the directory is ours");
        // The process ends when the pipe does.
        let script = "PATH=$PATH:/usr/sbin; pgbouncer -q \"$1\" </dev/null >/dev/null 2>&1 & pid=$!; read -r word; \
                      kill -9 $pid; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script, "pgbouncer-watchdog"]).arg(&file).process_group(0).stdin(Stdio::piped());
        if let Some((user, group)) = unprivileged_user() {
            chown(directory.path(), Some(user), Some(group)).expect("root may give directories away");
            command.uid(user).gid(group);
        }
        let mut process = command.spawn().expect("sh is on the path");
        let words = process.stdin.take();
        wait_until(&format!("PgBouncer; to install it: {INSTALL}"), Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { database: database.name.clone(), port, process, words, _directory: directory }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, self.database)
    }

    /// Runs the query as the customer's own program would, over `connections` connections at once, each in a transaction.
    /// Returns the first column of each row.
    pub fn ask_all(&self, connections: usize, query: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let mut open = Vec::new();
            let mut answers = Vec::new();
            for _ in 0..connections {
                let options = self.url().parse::<sqlx::postgres::PgConnectOptions>().expect("a URL");
                let options = options.extra_float_digits(None);
                let mut connection = PgConnection::connect_with(&options).await.expect("PgBouncer takes clients");
                sqlx::raw_sql("begin").execute(&mut connection).await.expect("a transaction begins");
                let row = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
                answers.push(row.expect("an answer").get(0));
                open.push(connection);
            }
            for mut connection in open {
                sqlx::raw_sql("commit").execute(&mut connection).await.expect("the transaction ends");
                connection.close().await.expect("a connection ends");
            }
            answers
        })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(mut words) = self.words.take() {
            let _ = writeln!(words, "end");
        }
        let _ = self.process.wait();
    }
}
