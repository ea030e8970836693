//! Serves a router over HTTP/1.1, with or without TLS, so that no client can block it: handshakes and request headers have a time
//! limit, connections have a longest life, and their number is limited. When all places are taken, each newcomer replaces a
//! connection that has shown no credentials.
//!
//! `axum::serve` has none of these limits, hence an accept loop of our own. It knows no route; the router limits the time of a
//! body or a handler. A handler finds its peer as axum's `ConnectInfo<SocketAddr>`.

pub mod absolute_form;
pub mod crowd;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::crowd::{ConnectionTable, ConnectionTrust};

/// The limits for one peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerLimits {
    /// For a TLS handshake, and for a request's headers, from the connection's start or from the last answer: this also ends idle
    /// connections.
    pub headers: Duration,
    /// After this time a connection is closed after the answer under way: against slow bodies and slow readers.
    pub lifetime: Duration,
    /// Connections at the same time. A further newcomer replaces a connection that has shown no credentials; if all have, it
    /// waits in the system's queue until one ends.
    pub connections: usize,
    /// The time for an answer under way once its connection is to end.
    pub stop_within: Duration,
}

/// The certificate, which may change: each connection uses the current one.
pub type TlsAcceptors = watch::Receiver<Arc<rustls::ServerConfig>>;

/// The pause after a failure to accept, as for lack of file descriptors, which only time resolves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The shortest interval between two log lines about a full server.
const CROWDED_AGAIN: Duration = Duration::from_secs(60);
/// The pause before the next attempt to get an address in use.
const RETRY: Duration = Duration::from_secs(5);

/// Retries until it gets the address, and logs once that another program uses it: `message`, with the `cure`. `None` when told to
/// stop meanwhile.
pub async fn listen(address: SocketAddr, message: &str, cure: &str, stop: &CancellationToken) -> Option<TcpListener> {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(error) if !said => {
                error!(%address, %error, cure, "{message}");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Serves until `stop`, then lets the answers under way finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptors>,
    limits: PeerLimits,
    stop: CancellationToken,
) {
    let (mut connections, mut table) = (JoinSet::new(), ConnectionTable::default());
    let mut crowd = CrowdNotice::default();
    let address = listener.local_addr().ok();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Frees a place; without connections there is nothing to wait for, and this branch is inactive.
            Some(ended) = connections.join_next_with_id() => {
                table.remove(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            accepted = listener.accept(), if table.admits_newcomer(limits.connections) => match accepted {
                Ok((stream, peer)) => {
                    if table.len() >= limits.connections && table.close_oldest_untrusted() {
                        crowd.note(address, Instant::now());
                    }
                    // Answers are short, and waiting to fill a packet would only delay them.
                    drop(stream.set_nodelay(true));
                    let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
                    let caller = HttpCaller { peer, trust: ConnectionTrust::default() };
                    let task = connections.spawn(connection(stream, acceptor, caller.clone(), router.clone(), (limits, stop.clone())));
                    table.add(peer.ip(), caller.trust, task);
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

/// Logs that connections without credentials take all places, at most once a minute.
#[derive(Default)]
struct CrowdNotice {
    said_at: Option<Instant>,
    closed: u64,
}

impl CrowdNotice {
    fn note(&mut self, address: Option<SocketAddr>, now: Instant) {
        self.closed += 1;
        if self.said_at.is_some_and(|said_at| now.duration_since(said_at) < CROWDED_AGAIN) {
            return;
        }
        self.said_at = Some(now);
        let (address, closed) = (address.map(|address| address.to_string()), std::mem::take(&mut self.closed));
        warn!(
            address,
            closed,
            "connections without credentials take all places; the oldest of them is closed for each new connection"
        );
    }
}

/// The peer of a connection, and whether it has shown credentials.
#[derive(Debug, Clone)]
struct HttpCaller {
    peer: SocketAddr,
    trust: ConnectionTrust,
}

/// One connection, from its handshake to its end.
async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    caller: HttpCaller,
    router: Router,
    (limits, stop): (PeerLimits, CancellationToken),
) {
    let Some(acceptor) = acceptor else { return converse(stream, caller, router, limits, stop).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.headers, acceptor.accept(stream)) => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, caller, router, limits, stop).await,
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => debug!("a TLS handshake took too long"),
    }
}

/// From the first request to the last.
async fn converse<S>(stream: S, caller: HttpCaller, router: Router, limits: PeerLimits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(caller.peer));
        request.extensions_mut().insert(caller.trust.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // An error on a connection concerns only its peer.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(limits.lifetime) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(limits.stop_within, connection).await;
}
