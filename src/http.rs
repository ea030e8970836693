//! Serves a router over HTTP/1.1 to whoever connects, and lets nobody hold it up: request headers have a time limit,
//! connections have a longest life, and there are only so many of them.
//!
//! `axum::serve` has none of these limits, hence an accept loop of our own. It knows no route, and how long a body may be
//! or a handler may take is the router's business.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What one peer may take of us.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a request's headers, counted from the connection's start or from the last answer: idle connections end by it.
    pub headers: Duration,
    /// Then a connection is closed after the answer under way: for bodies that trickle, and for readers that do not read.
    pub lifetime: Duration,
    /// At once. Whoever comes on top waits in the system's queue until one ends.
    pub connections: usize,
}

/// How long an answer under way may still take once its connection is to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// After a failure to accept, as by want of file descriptors, which only time mends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop`, then lets the answers under way finish.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Makes room; with nobody connected there is nothing to wait for, and this branch rests.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, _)) => {
                    // Answers are short and wait for nothing.
                    drop(stream.set_nodelay(true));
                    connections.spawn(converse(stream, router.clone(), limits, stop.clone()));
                }
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first request to its last.
async fn converse<S>(stream: S, router: Router, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is its peer's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(limits.lifetime) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(STOP_WITHIN, connection).await;
}
