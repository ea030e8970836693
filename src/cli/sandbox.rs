//! `sandbox`: runs a local Conversica in the foreground, shows how to use it and what it receives.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::address;
use crate::config::duration;
use crate::console::say;
use crate::error::SetupError;
use crate::sandbox::faults::FaultPlan;
use crate::sandbox::play::{self, PlayReceiver, PlayedCounts};
use crate::sandbox::store::SandboxCounts;
use crate::sandbox::{SandboxOptions, start};

/// How often changed counts are printed.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on, or a port of this machine; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099", value_parser = address::parse)]
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
    /// answers with it; `refuse` answers 400 to a good lead; `status_false` answers 200 and says in the body that the
    /// lead was not taken; `login_page` answers 200 with a page; `timeout` takes the lead and never answers; `cut` takes
    /// it and cuts the connection; `drop` cuts without taking it.
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    pub faults: FaultPlan,
    /// The same seed meets the same faults
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Receiver to play conversations back to, as Conversica does after it has accepted a lead: http://127.0.0.1:8443
    #[arg(long, value_name = "URL", help_heading = "Playing back")]
    pub receiver: Option<Url>,
    /// Username that the receiver expects
    #[arg(long, default_value = "conversica", help_heading = "Playing back")]
    pub receiver_username: String,
    /// Password that the receiver expects
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        env = "CONVERSICA_SANDBOX_RECEIVER_PASSWORD",
        hide_env_values = true,
        help_heading = "Playing back"
    )]
    pub receiver_password: String,
    /// PEM file of the authority that signed the receiver's certificate, or that certificate itself
    #[arg(long, value_name = "FILE", help_heading = "Playing back")]
    pub receiver_ca: Option<PathBuf>,
    /// Between two posts of a conversation
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse, help_heading = "Playing back")]
    pub beat: Duration,
    /// Percentage of the posts that come twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "Playing back")]
    pub repeated: u8,
    /// Percentage of the posts that come after the one that follows them
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "Playing back")]
    pub disordered: u8,
    /// Say nothing after the start
    #[arg(long)]
    pub quiet: bool,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let play = play(&args)?;
    let Args { listen, username, password, faults, seed, quiet, .. } = args;
    let receiver = play.as_ref().map(|play| play.receiver.url.clone());
    let greeting_ends = greeting_end(&username, &password, &faults);
    // Before the first line: a caller that waits for that line may send a signal right after it.
    let mut stop = Box::pin(stop_signal()?);
    let sandbox = start(SandboxOptions { listen, username, password, faults, seed, play }).await?;
    let (endpoint, address) = (sandbox.endpoint(), sandbox.address);
    say(format_args!("sandbox listening on {endpoint}\n\n[conversica]\nendpoint = \"{endpoint}\"\n{greeting_ends}"));
    say(format_args!("look at what it received:   curl http://{address}/leads"));
    say(format_args!("start over:                 curl -X DELETE http://{address}/leads\n"));
    if let Some(receiver) = receiver {
        say(format_args!("conversations are played back to {receiver}\n"));
    }

    let mut told = (SandboxCounts::default(), PlayedCounts::default());
    let mut ticks = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        let now = (sandbox.counts(), sandbox.played());
        if !quiet && now != told {
            say(line(&now.0, &now.1));
            told = now;
        }
    }
    let (counts, played) = (sandbox.counts(), sandbox.played());
    sandbox.stop().await;
    if !quiet {
        say(format_args!("sandbox stopped · {}", line(&counts, &played)));
    }
    Ok(())
}

/// The playback options, from the receiver's arguments.
fn play(args: &Args) -> anyhow::Result<Option<play::PlayOptions>> {
    let Some(url) = args.receiver.clone() else { return Ok(None) };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        let what = "--receiver is no web address".to_owned();
        return Err(SetupError::new(what, "write it like http://127.0.0.1:8443, as [receive] listen has it").into());
    }
    let certificate = args.receiver_ca.as_ref().map(|file| {
        std::fs::read(file).map_err(|error| {
            SetupError::new(
                format!("--receiver-ca {} cannot be read: {error}", file.display()),
                "name a PEM file, for example the one of [receive] tls_certificate",
            )
        })
    });
    let receiver = PlayReceiver {
        url,
        username: args.receiver_username.clone(),
        password: args.receiver_password.clone(),
        certificate: certificate.transpose()?,
    };
    let (beat, repeated, disordered) = (args.beat, args.repeated, args.disordered);
    Ok(Some(play::PlayOptions { receiver, beat, repeated, disordered }))
}

fn greeting_end(username: &str, password: &str, faults: &FaultPlan) -> String {
    let (username, password) = (toml::Value::from(username), toml::Value::from(password));
    format!("username = {username}\npassword = {password}\n\nfaults: {faults}\n")
}

fn line(counts: &SandboxCounts, played: &PlayedCounts) -> String {
    let mut line = format!("{} leads · {} posts · {} accepted", counts.leads, counts.posts, counts.accepted);
    let more = [
        (counts.repeated, "repeated"),
        (counts.rejected_400, "rejected (400)"),
        (counts.unauthorized_401, "unauthorized (401)"),
        (counts.refused_403, "refused (403)"),
        (counts.too_large_413, "too large (413)"),
        (counts.faults_injected, "faults"),
        (played.posts, "posts back"),
        (played.refused, "refused by the receiver"),
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
        let counts = SandboxCounts {
            leads: 2,
            posts: 4,
            accepted: 3,
            unauthorized_401: 1,
            locked: true,
            ..SandboxCounts::default()
        };
        let told = line(&counts, &PlayedCounts::default());
        assert!(told.starts_with("2 leads · 4 posts · 3 accepted · 1 unauthorized (401) · ACCOUNT LOCKED"), "{told}");
        assert!(!told.contains("repeated"));
    }

    #[test]
    fn the_snippet_quotes_what_needs_quoting() {
        assert!(greeting_end("a", "b\"c", &FaultPlan::default()).contains(r#"password = 'b"c'"#));
    }
}
