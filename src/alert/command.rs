//! Sends an alert by running the operator's command with the document on its standard input. The command's output is discarded.

use std::convert::Infallible;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::alert::failure::ChannelFailure;

/// Whether a variable is for this program alone: it may hold a secret, which the command must not get.
fn is_ours(name: &str) -> bool {
    // With systemd's variables the command could speak to systemd in our name.
    let systemd = ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
    // PGPASSWORD, PGSERVICE and the like open the databases.
    name.starts_with("CONVERSICA_SYNC__")
        || name.starts_with("PG")
        || name == "CONVERSICA_SYNC_OWNER_URL"
        || systemd.contains(&name)
}

/// The command and all processes that it has started; dropping this before the command's end kills them.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error means that the group has ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// # Errors
/// How the command ended instead of with exit code 0.
pub async fn run(command: &str, document: &str, timeout: Duration) -> Result<(), ChannelFailure> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.process_group(0).kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        shell.env_remove(name);
    }
    let mut child = shell
        .spawn()
        .map_err(|error| ChannelFailure::of_command(format!("/bin/sh cannot be started: {}", error.kind())))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let mut group = ProcessGroup(pid);
    let input = child.stdin.take();
    let write = async {
        if let Some(mut input) = input {
            // A command may end without reading its input.
            let _ = input.write_all(document.as_bytes()).await;
            drop(input);
        }
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        ended = child.wait() => ended,
        never = write => match never {},
        () = tokio::time::sleep(timeout) => return Err(ChannelFailure::of_command("no end within the time limit; it was killed")),
    };
    group.0 = None;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let how = status.code().map_or("ended by a signal".to_owned(), |code| format!("exit code {code}"));
            Err(ChannelFailure::of_command(how))
        }
        Err(error) => Err(ChannelFailure::of_command(format!("its end was not seen: {}", error.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_ours_are_kept_from_the_command() {
        for name in [
            "CONVERSICA_SYNC__CONVERSICA__PASSWORD",
            "CONVERSICA_SYNC_OWNER_URL",
            "CREDENTIALS_DIRECTORY",
            "PGPASSWORD",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["PATH", "CONVERSICA_SYNC_CONFIG", "HOME"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
