//! `sandbox`: runs a local Conversica in the foreground, and says how to use it and what it receives.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::console::say;
use crate::sandbox::faults::Faults;
use crate::sandbox::store::Counts;
use crate::sandbox::{Options, start};

/// How often what has changed is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099")]
    pub listen: SocketAddr,
    /// Username that is let in
    #[arg(long, default_value = "sandbox")]
    pub username: String,
    /// Password that is let in
    #[arg(long, default_value = "sandbox", env = "CONVERSICA_SANDBOX_PASSWORD", hide_env_values = true)]
    pub password: String,
    /// Faults to play, as shares of the requests
    ///
    /// For example "500=5%,503=2%,timeout=1%,cut=1%,latency=20ms..80ms,lock_after=5,retry_after=2s". A status number
    /// answers with it; `refuse` answers 400 to a good lead; `timeout` takes the lead and never answers; `cut` takes it
    /// and cuts the connection; `drop` cuts without taking it.
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    pub faults: Faults,
    /// The same seed meets the same faults
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Say nothing after the start
    #[arg(long)]
    pub quiet: bool,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { listen, username, password, faults, seed, quiet } = args;
    let greeting_ends = greeting_end(&username, &password, &faults);
    // Before anything is printed: whoever waits for the first line may send a signal right after it.
    let mut stop = Box::pin(stop_signal()?);
    let sandbox = start(Options { listen, username, password, faults, seed }).await?;
    let (endpoint, address) = (sandbox.endpoint(), sandbox.address);
    say(format_args!("sandbox listening on {endpoint}\n\n[conversica]\nendpoint = \"{endpoint}\"\n{greeting_ends}"));
    say(format_args!("look at what it received:   curl http://{address}/leads"));
    say(format_args!("start over:                 curl -X DELETE http://{address}/leads\n"));

    let mut told = Counts::default();
    let mut ticks = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        let counts = sandbox.counts();
        if !quiet && counts != told {
            say(line(&counts));
            told = counts;
        }
    }
    let counts = sandbox.counts();
    sandbox.stop().await;
    if !quiet {
        say(format_args!("sandbox stopped · {}", line(&counts)));
    }
    Ok(())
}

fn greeting_end(username: &str, password: &str, faults: &Faults) -> String {
    let (username, password) = (toml::Value::from(username), toml::Value::from(password));
    format!("username = {username}\npassword = {password}\n\nfaults: {faults}\n")
}

fn line(counts: &Counts) -> String {
    let mut line = format!("{} leads · {} posts · {} accepted", counts.leads, counts.posts, counts.accepted);
    let more = [
        (counts.repeated, "repeated"),
        (counts.rejected_400, "rejected (400)"),
        (counts.unauthorized_401, "unauthorized (401)"),
        (counts.refused_403, "refused (403)"),
        (counts.too_large_413, "too large (413)"),
        (counts.faults_injected, "faults"),
    ];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        // Writing to a String cannot fail.
        let _ = write!(line, " · {count} {what}");
    }
    if counts.locked {
        line.push_str(" · ACCOUNT LOCKED, POST /unlock to unlock it");
    }
    line
}

/// Resolves at SIGINT or SIGTERM; both are caught from the call on, not only from the first poll.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_only_what_happened() {
        let counts = Counts { leads: 2, posts: 4, accepted: 3, unauthorized_401: 1, locked: true, ..Counts::default() };
        let told = line(&counts);
        assert!(told.starts_with("2 leads · 4 posts · 3 accepted · 1 unauthorized (401) · ACCOUNT LOCKED"), "{told}");
        assert!(!told.contains("repeated"));
    }

    #[test]
    fn the_snippet_quotes_what_needs_quoting() {
        assert!(greeting_end("a", "b\"c", &Faults::default()).contains(r#"password = 'b"c'"#));
    }
}
