//! A database server of the tests' own, from the programs installed on the machine. It ends with the test process, however
//! that ends: a watchdog reads a pipe that only this process holds open. No server here survives a power cut, so its files
//! lie in memory where there is room.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A socket's path has room for 100 characters: 30 are left for the server's directory and the socket.
const LONGEST_PLACE: usize = 70;

/// Where a server's files lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFiles {
    /// In `$TMPDIR`, which `tests/run` puts into memory.
    Temporary,
    /// On the disk, for a server whose commits are measured.
    OnDisk,
}

/// The watchdog of one server. Its script gets the directory as `$1`, answers one line for each word it reads, and deletes the
/// directory when the words end.
pub struct ServerWatchdog {
    process: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
}

impl ServerWatchdog {
    /// `arguments` are those of the script, from `$2` on.
    pub fn launch<A: AsRef<OsStr>>(
        name: &str,
        script: &str,
        files: ServerFiles,
        arguments: impl FnOnce(&Path) -> Vec<A>,
    ) -> Self {
        let directory = server_directory(name, files);
        let mut command = Command::new("sh");
        command.args(["-c", script, &format!("{name}-watchdog")]).arg(&directory).args(arguments(&directory));
        // A group of its own, so that Ctrl-C at the terminal reaches the tests and not the server under them.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some((user, group)) = unprivileged_user() {
            chown(&directory, Some(user), Some(group)).expect("root may give directories away");
            command.uid(user).gid(group);
        }
        let mut process = command.spawn().expect("sh is on the path");
        let words = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("the output is piped"));
        let mut watchdog = Self { process, words, answers, directory };
        assert_eq!(watchdog.answer(), "ready", "{name}: its files could not be made: {}", watchdog.log());
        watchdog
    }

    pub fn ask(&mut self, word: &str) -> String {
        let words = self.words.as_mut().expect("the pipe is open until the server is dropped");
        writeln!(words, "{word}").expect("the watchdog listens");
        self.answer()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the watchdog answers in text");
        line.trim().to_owned()
    }
}

impl Drop for ServerWatchdog {
    fn drop(&mut self) {
        drop(self.words.take());
        let _ = self.process.wait();
    }
}

/// A new directory that the server's user can get to.
pub fn server_directory(name: &str, files: ServerFiles) -> PathBuf {
    let temporary = std::env::temp_dir();
    let is_fit = temporary.as_os_str().len() <= LONGEST_PLACE - name.len() && temporary.ancestors().all(is_open_to_all);
    let place = if files == ServerFiles::Temporary && is_fit { &temporary } else { Path::new("/tmp") };
    let builder = tempfile::Builder::new().prefix(&format!("csync-{name}-")).tempdir_in(place);
    let directory = builder.unwrap_or_else(|error| panic!("{}: {error}", place.display())).keep();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("the directory is ours");
    directory
}

/// Whether other users can pass through the directory.
fn is_open_to_all(directory: &Path) -> bool {
    std::fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// Neither server runs as root. `None` when the tests run as another user.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"])? != 0 {
        return None;
    }
    let user = if id(&["-u", "postgres"]).is_some() { "postgres" } else { "nobody" };
    Some((id(&["-u", user])?, id(&["-g", user])?))
}
