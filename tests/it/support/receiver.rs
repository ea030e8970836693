//! The daemon as Conversica sees it: a scene with a receiver, and posts to it over plain HTTP, written by hand to the
//! byte. No answer and no log may contain the password or any text of a body.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use super::binary::Running;
use super::scene::Scene;
use super::signal::Signal;

pub const USERNAME: &str = "conversica";
/// Occurs in no other text, so that any appearance is a leak.
pub const PASSWORD: &str = "Frobozz-magic-receiver-77";
/// Planted in bodies; the tests search the logs for it.
pub const PERSONAL: &str = "quackenbush@planted.example";

const SOON: Duration = Duration::from_secs(30);

pub struct Receiver {
    pub daemon: Running,
    pub address: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In lower case, with all headers.
    pub head: String,
    pub body: String,
}

/// Gives the scene a receiver at a free port.
pub fn with_receiver(scene: &mut Scene) -> &mut Scene {
    scene
        .set_text("receive", "listen", "127.0.0.1:0")
        .set_text("receive", "username", USERNAME)
        .set_text("receive", "password", PASSWORD)
        .set_text("writeback", "mode", "off")
}

/// A port that is free now, for a receiver that returns at the same one.
pub fn free_address() -> String {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("a bound socket has an address").to_string()
}

impl Receiver {
    #[track_caller]
    pub fn start(scene: &Scene) -> Self {
        let mut daemon = scene.cli().spawn(&["run"]);
        let address = receiving_at(&mut daemon, false);
        Self { daemon, address }
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask(&request("POST", path, Some(&basic(USERNAME, PASSWORD)), body.as_ref()))
    }

    /// Sends bytes, closes the sending side, and reads the answer.
    #[track_caller]
    pub fn ask(&self, bytes: &[u8]) -> Answer {
        let answers = answers(&send(&self.address, bytes));
        answers.into_iter().next().expect("an answer")
    }

    /// Ends the daemon and checks that its log contains no secret.
    #[track_caller]
    pub fn end(self) -> String {
        self.daemon.signal(Signal::Terminate);
        discreet(self.daemon.wait(SOON).expect_code(0).stderr)
    }
}

/// Waits until the daemon logs its receiving address.
#[track_caller]
pub fn receiving_at(daemon: &mut Running, tls: bool) -> String {
    let line = daemon.wait_for_line("\"message\":\"receiving\"", SOON);
    let line: Value = serde_json::from_str(&line).expect("a line of the log");
    assert_eq!(line["tls"], tls, "{line}");
    line["address"].as_str().expect("an address").to_owned()
}

/// Checks that the log contains no personal data and no credentials.
#[track_caller]
pub fn discreet(log: String) -> String {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    for secret in [PASSWORD, token.as_str(), PERSONAL] {
        assert!(!log.contains(secret), "{secret} is logged: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    log
}

pub fn basic(username: &str, password: &str) -> String {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    format!("Authorization: Basic {token}")
}

/// A request whose connection ends after the answer.
pub fn request(method: &str, path: &str, authorization: Option<&str>, body: &[u8]) -> Vec<u8> {
    let authorization = authorization.map(|line| format!("{line}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes and reads until the receiver closes.
#[track_caller]
pub fn send(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // The receiver may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[track_caller]
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the receiver accepts connections");
    stream.set_read_timeout(Some(SOON * 2)).expect("a socket takes a time limit");
    stream
}

/// The answers of a connection, each checked strictly: JSON, with one of four texts as status.
#[track_caller]
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        if head.starts_with("http/1.1 100") {
            bytes = &bytes[end..];
            continue;
        }
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        let status = head[9..12].parse().expect("a status");
        let length: usize = field("content-length").expect("a length").parse().expect("a number");
        let body = String::from_utf8(bytes[end..end + length].to_vec()).expect("a text");
        bytes = &bytes[end + length..];
        let answer = Answer { status, head: head.clone(), body };
        assert_eq!(field("content-type"), Some("application/json"), "{answer:?}");
        answer.told();
        answers.push(answer);
    }
    answers
}

impl Answer {
    /// Status and message of the document; checks that it has nothing else.
    #[track_caller]
    pub fn told(&self) -> (String, String) {
        let document: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let object = document.as_object().unwrap_or_else(|| panic!("no object: {self:?}"));
        assert_eq!(object.keys().collect::<Vec<_>>(), ["status", "message"], "{self:?}");
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("{key} is no text: {self:?}")).to_owned();
        assert!(["200", "400", "401", "500"].contains(&text("status").as_str()), "{self:?}");
        assert_eq!(self.status == 200, text("status") == "200", "{self:?}");
        assert!(!self.body.contains(PASSWORD) && !self.body.contains(PERSONAL), "{self:?}");
        (text("status"), text("message"))
    }
}
