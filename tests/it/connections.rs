//! A client of our servers cannot block other clients: with headers that trickle, bodies that never come, and silent
//! connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio_util::sync::CancellationToken;

use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::watched::{Watched, ask};
use conversica_sync::http::{self, PeerLimits};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends the beginning of a request; returns the time until the server hangs up.
fn hung_up_after(address: &str, beginning: &str) -> Duration {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time limit");
    let start = Instant::now();
    stream.write_all(beginning.as_bytes()).expect("the server reads");
    let ended = stream.read_to_end(&mut Vec::new());
    // An orderly close and a reset both count.
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "still connected");
    start.elapsed()
}

#[test]
fn a_request_that_trickles_is_cut_and_disturbs_nobody() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let watched = Watched::start(&scene);
    let address = watched.address.clone();
    let slow = std::thread::spawn(move || hung_up_after(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "));
    watched.wait_until_ready();
    assert!(!slow.is_finished(), "others are answered meanwhile");
    let waited = slow.join().expect("the slow one ends");
    assert!(waited > Duration::from_secs(4) && waited < SOON, "{waited:?}");
    assert_eq!(watched.get("/healthz").status, 200);
    watched.end();
}

/// A server with limits short enough for a test, and the token that stops it.
async fn serving(limits: PeerLimits) -> (String, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = axum::Router::new()
        .route("/", axum::routing::get(async || "here"))
        .route("/body", axum::routing::post(async |body: String| body));
    let stop = CancellationToken::new();
    let server = tokio::spawn(http::serve(listener, router, None, limits, stop.clone()));
    (address, stop, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited_in_number_and_in_age() {
    let (address, stop, server) = serving(PeerLimits {
        headers: PATIENCE,
        lifetime: PATIENCE,
        connections: 1,
        stop_within: Duration::from_secs(2),
    })
    .await;
    let blocking = tokio::task::spawn_blocking(move || {
        let mut first = TcpStream::connect(&address).expect("a connection");
        // The first connection, which has shown no credentials, is closed for the new one.
        let answer = ask(&address, Method::GET, "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "here"));
        first.set_read_timeout(Some(SOON)).expect("a time limit");
        let ended = first.read(&mut [0; 16]);
        assert!(
            ended.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |bytes| *bytes == 0),
            "{ended:?}"
        );
    });
    blocking.await.expect("the queue is served");
    stop.cancel();
    server.await.expect("the server ends");

    let lifetime = Duration::from_millis(400);
    let (address, stop, server) =
        serving(PeerLimits { headers: PATIENCE, lifetime, connections: 8, stop_within: Duration::from_secs(2) }).await;
    let blocking = tokio::task::spawn_blocking(move || {
        // No time limit of headers covers a body that never comes.
        let head = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1";
        let waited = hung_up_after(&address, head);
        assert!(waited >= lifetime && waited < SOON, "{waited:?}");
    });
    blocking.await.expect("it is cut");
    stop.cancel();
    server.await.expect("the server ends");
}
