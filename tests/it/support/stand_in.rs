//! A scripted test server in place of Conversica: a real HTTP server on a real socket. The test decides its reaction to
//! each request, and it keeps a ledger of the requests. It runs on its own thread, so that a test may block.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use super::reaction::{Gate, Reaction};
pub use super::request::Request;
use super::wait::wait_until;

type Script = dyn Fn(&Request) -> Reaction + Send + Sync;

/// The server stops, and refuses connections, on drop.
pub struct StandIn {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// A request, and its outcome.
#[derive(Clone, Debug)]
pub struct Received {
    pub request: Request,
    /// The status of the answer that was sent in full.
    pub answered: Option<u16>,
    /// The time of the answer, of the cut, or of the client's good-bye; `None` while the request is in flight.
    pub over_at: Option<Instant>,
}

#[derive(Default)]
struct Ledger {
    received: Vec<Received>,
    connections: usize,
    open: usize,
    in_flight: Count,
    in_flight_per_lead: HashMap<String, Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    now: usize,
    most: usize,
}

impl StandIn {
    /// An endpoint that accepts everything.
    pub fn accepting() -> Self {
        Self::start(|_| Reaction::accept())
    }

    pub fn start(script: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Self {
        Self::start_on(0, script)
    }

    /// Starts at a known port: an endpoint that comes back, or that comes late.
    pub fn start_on(port: u16, script: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a fresh socket takes options");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("the port is free");
        Self::launch(socket, script)
    }

    fn launch(socket: TcpSocket, script: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let inside = runtime.enter();
        let listener = socket.listen(1024).expect("a bound socket can listen");
        drop(inside);
        let address = listener.local_addr().expect("a bound socket has an address");
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (stop, stopped) = oneshot::channel();
        let server = std::thread::spawn({
            let ledger = Arc::clone(&ledger);
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, Arc::new(script), ledger) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, ledger, stop: Some(stop), server: Some(server) }
    }

    /// The value of `conversica.endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}/json/", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests in the order of arrival, whatever their reaction was.
    pub fn requests(&self) -> Vec<Received> {
        self.ledger().received.clone()
    }

    /// The bodies that arrived for a lead, in order.
    pub fn bodies_of(&self, id: &str) -> Vec<serde_json::Value> {
        let ledger = self.ledger();
        let of_lead = ledger.received.iter().filter(|received| received.request.id.as_deref() == Some(id));
        of_lead.map(|received| received.request.json()).collect()
    }

    /// How many requests were answered to the last byte.
    pub fn answered(&self) -> usize {
        self.ledger().received.iter().filter(|received| received.answered.is_some()).count()
    }

    pub fn connections(&self) -> usize {
        self.ledger().connections
    }

    /// Connections that the client has not closed yet, or whose last request has not been read yet.
    pub fn open_connections(&self) -> usize {
        self.ledger().open
    }

    pub fn in_flight(&self) -> usize {
        self.ledger().in_flight.now
    }

    pub fn max_in_flight(&self) -> usize {
        self.ledger().in_flight.most
    }

    /// The most requests that were in flight at once for any one lead: more than 1 is a fault of the deliverer.
    pub fn max_in_flight_per_lead(&self) -> usize {
        self.ledger().in_flight_per_lead.values().map(|count| count.most).max().unwrap_or(0)
    }

    /// Waits until `n` requests have arrived, answered or not.
    #[track_caller]
    pub fn wait_for_requests(&self, n: usize, deadline: Duration) {
        wait_until(&format!("{n} requests at the endpoint"), deadline, || self.ledger().received.len() >= n);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop();
    }
}

impl StandIn {
    /// Cuts all requests in flight and refuses connections from now on; the ledger stays.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.server.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A port that stays reserved while the endpoint behind it comes and goes: without one, connections are refused.
pub struct Port(TcpSocket);

impl Port {
    pub fn reserve() -> Self {
        Self(Self::socket(0))
    }

    /// The value of `conversica.endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}/json/", self.address())
    }

    /// Starts the endpoint that listens here from now on; one at a time.
    pub fn start(&self, script: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> StandIn {
        StandIn::launch(Self::socket(self.address().port()), script)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }

    fn socket(port: u16) -> TcpSocket {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Two sockets at one port: one holds it, one listens.
        socket.set_reuseaddr(true).expect("a fresh socket takes options");
        socket.set_reuseport(true).expect("a fresh socket takes options");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("the port is ours");
        socket
    }
}

/// A port where connections are refused for as long as this process lives: bound, so that no other process gets it, and
/// never listening.
pub fn refused_port() -> u16 {
    static SOCKET: OnceLock<TcpSocket> = OnceLock::new();
    let socket = SOCKET.get_or_init(|| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        socket
    });
    socket.local_addr().expect("a bound socket has an address").port()
}

async fn serve(listener: TcpListener, script: Arc<Script>, ledger: Arc<Mutex<Ledger>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let number = {
                    let mut ledger = locked(&ledger);
                    ledger.connections += 1;
                    ledger.open += 1;
                    ledger.connections
                };
                connections.spawn(converse(stream, number, Arc::clone(&script), Arc::clone(&ledger)));
            }
            Some(ended) = connections.join_next() => {
                // A client may go away; a script that panics is the test's failure.
                if let Err(error) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, connection: usize, script: Arc<Script>, ledger: Arc<Mutex<Ledger>>) {
    let _open = Open(&ledger);
    let mut stream = BufReader::new(stream);
    // A malformed request ends the connection, as it would at a real server; the client's error then fails the test.
    while let Ok(Some(mut request)) = Request::read(&mut stream).await {
        let n = locked(&ledger).arrived(&mut request, connection);
        let flight = Flight { ledger: &ledger, index: n - 1 };
        match react(&mut stream, script(&request), &flight).await {
            Ok(Then::ReadOn) => {}
            Ok(Then::Close) => return,
            Err(_) => return flight.cut_off(),
        }
    }
}

struct Open<'a>(&'a Mutex<Ledger>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        locked(self.0).open -= 1;
    }
}

enum Then {
    ReadOn,
    Close,
}

async fn react(stream: &mut BufReader<TcpStream>, reaction: Reaction, flight: &Flight<'_>) -> io::Result<Then> {
    match reaction {
        Reaction::Answer { status, headers, body, after } => {
            if !after.is_zero() && client_leaves_within(stream, after).await {
                return Ok(Then::Close);
            }
            let mut answer = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                answer.push_str("content-type: application/json\r\n");
            }
            for (name, value) in headers {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            // Recorded first: the client, on another thread, may read the ledger as soon as it has the answer.
            flight.answered(status);
            stream.write_all(format!("{answer}\r\n{body}").as_bytes()).await?;
            Ok(Then::ReadOn)
        }
        Reaction::AnswerWhenOpened(gate, then) => {
            tokio::select! {
                () = gate.opened() => Box::pin(react(stream, *then, flight)).await,
                () = client_leaves(stream) => Ok(Then::Close),
            }
        }
        Reaction::AcceptThenHang => {
            client_leaves(stream).await;
            Ok(Then::Close)
        }
        Reaction::AcceptThenCut => Ok(Then::Close),
        Reaction::CutBeforeReading => {
            stream.get_ref().set_zero_linger()?;
            Ok(Then::Close)
        }
        Reaction::HugeBody { status, bytes } => {
            let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut endless = tokio::io::repeat(b' ').take(bytes);
            tokio::io::copy(&mut endless, stream).await?;
            flight.answered(status);
            Ok(Then::ReadOn)
        }
        Reaction::Raw { status, bytes } => {
            if let Some(status) = status {
                flight.answered(status);
            }
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            Ok(Then::Close)
        }
        Reaction::SlowHeaders { every } => {
            stream.write_all(b"HTTP/1.1 200 Scripted\r\nx-slow: ").await?;
            while !client_leaves_within(stream, every).await {
                stream.write_all(b"z").await?;
            }
            Ok(Then::Close)
        }
    }
}

/// Waits until the time is over or the client closes the connection.
async fn client_leaves_within(stream: &mut BufReader<TcpStream>, time: Duration) -> bool {
    tokio::time::timeout(time, client_leaves(stream)).await.is_ok()
}

/// A client sends nothing between its request and the answer: a readable connection means that the client has left.
async fn client_leaves(stream: &mut BufReader<TcpStream>) {
    let _ = stream.read_u8().await;
}

/// A request between its arrival and its outcome.
struct Flight<'a> {
    ledger: &'a Mutex<Ledger>,
    index: usize,
}

impl Flight<'_> {
    fn answered(&self, status: u16) {
        let mut ledger = locked(self.ledger);
        ledger.received[self.index].answered = Some(status);
        ledger.over(self.index);
    }

    /// The client left before the answer was complete.
    fn cut_off(self) {
        locked(self.ledger).received[self.index].answered = None;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        locked(self.ledger).over(self.index);
    }
}

impl Ledger {
    fn arrived(&mut self, request: &mut Request, connection: usize) -> usize {
        request.n = self.received.len() + 1;
        request.connection = connection;
        self.in_flight.up();
        if let Some(id) = &request.id {
            self.in_flight_per_lead.entry(id.clone()).or_default().up();
        }
        self.received.push(Received { request: request.clone(), answered: None, over_at: None });
        request.n
    }

    fn over(&mut self, index: usize) {
        let received = &mut self.received[index];
        if received.over_at.is_some() {
            return;
        }
        received.over_at = Some(Instant::now());
        self.in_flight.now -= 1;
        if let Some(id) = &received.request.id {
            self.in_flight_per_lead.entry(id.clone()).or_default().now -= 1;
        }
    }
}

impl Count {
    fn up(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
