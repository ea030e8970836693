//! `health`: asks the running daemon whether it is alive, for a container's health check and for scripts.
//!
//! It reads no database and needs no lock: one request to `[admin] listen`, one line of output.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::context::{ExitCode, settings_unsaid};
use crate::console::{printable, say};
use crate::error::SetupError;

/// For connecting, asking and reading together.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// An answer is a few hundred bytes. Another program at this address may send any amount.
const LONGEST_ANSWER: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask whether leads are found and sent (/readyz), not only whether the daemon is alive (/healthz)
    #[arg(long)]
    pub ready: bool,
    /// Where the daemon serves, instead of what the settings say; then no settings are read
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
}

/// The shown part of both paths' answers.
#[derive(Debug, Deserialize)]
struct HealthAnswer {
    #[serde(default)]
    reasons: Vec<ShownReason>,
    held: Option<ShownHold>,
}

#[derive(Debug, Deserialize)]
struct ShownReason {
    reason: String,
    detail: String,
    cure: String,
}

#[derive(Debug, Deserialize)]
struct ShownHold {
    reason: String,
    leads: u64,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    // The daemon reports warnings about settings: a check that runs every half minute would repeat them without end.
    let listen = match args.address {
        Some(address) => address,
        None => settings_unsaid(file)?.settings.admin.listen,
    };
    let address = reachable(listen)?;
    let (path, yes, no) =
        if args.ready { ("/readyz", "ready", "not ready") } else { ("/healthz", "healthy", "not healthy") };
    let (status, body) = timeout(TIME_LIMIT, ask(address, path))
        .await
        .map_err(|_| anyhow!("{no}: {address} gave no answer within {} s", TIME_LIMIT.as_secs()))?
        .with_context(|| format!("{no}: {address} cannot be asked (is the daemon running?)"))?;
    // Another program may listen there.
    let answer: HealthAnswer = serde_json::from_slice(&body)
        .map_err(|_| anyhow!("{no}: what answers at {address} (status {}) is not conversica-sync", status.as_u16()))?;
    if status == StatusCode::OK {
        let held = answer.held.map(|held| format!("; held ({}): {} leads wait for approval", held.reason, held.leads));
        say(printable(&format!("{yes}{}", held.unwrap_or_default())));
        return Ok(ExitCode::Done);
    }
    if answer.reasons.is_empty() {
        bail!("{no}: {address}{path} answered with status {}", status.as_u16());
    }
    let reasons = answer.reasons.iter();
    let reasons: Vec<String> =
        reasons.map(|reason| format!("{}, {} (cure: {})", reason.reason, reason.detail, reason.cure)).collect();
    bail!("{}", printable(&format!("{no}: {}", reasons.join("; "))))
}

/// The address to connect to, for a listening address.
pub(super) fn reachable(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    if listen.port() == 0 {
        return Err(SetupError::new(
            format!("`admin.listen` is {listen}: with port 0 only the daemon's log says where it listens"),
            "set [admin] listen to a port of its own, or name the one in the log by --address",
        )
        .into());
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

/// Whether the daemon, or another server, answers at this address.
pub(super) async fn is_serving(address: SocketAddr) -> bool {
    matches!(timeout(TIME_LIMIT, ask(address, "/healthz")).await, Ok(Ok(_)))
}

/// Without the client for Conversica, which needs root certificates even for plain HTTP.
async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Body::empty())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER).await?;
    Ok((status, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).map(|address| address.to_string()).ok();
        assert_eq!(asked("0.0.0.0:9464").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(asked("[::]:9464").as_deref(), Some("[::1]:9464"));
        assert_eq!(asked("10.1.2.3:80").as_deref(), Some("10.1.2.3:80"));
        assert_eq!(asked("127.0.0.1:0"), None);
    }
}
