//! A mail server on this machine, without TLS: it keeps what it is given, and refuses recipients when the test says so.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A message as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// The line with which the client signed in.
    pub auth: Option<String>,
    pub data: String,
}

impl Mail {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.data.split_once("\r\n\r\n")?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> &str {
        self.data.split_once("\r\n\r\n").map_or("", |(_, text)| text)
    }
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    refuses: AtomicBool,
    asks: AtomicBool,
}

/// It listens until the test's process ends.
pub struct MailServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl MailServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared::default());
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = server.clone();
                std::thread::spawn(move || _ = converse(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// Offers to sign in, which a client with a user then does.
    pub fn asking_to_sign_in(self) -> Self {
        self.shared.asks.store(true, Ordering::SeqCst);
        self
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Refuses every recipient from now on, or takes them again.
    pub fn set_refusing(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn converse(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut out = stream;
    let mut lines = BufReader::new(stream).lines();
    let mut mail = Mail::default();
    out.write_all(b"220 stand-in ESMTP\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" if shared.asks.load(Ordering::SeqCst) => "250-stand-in\r\n250 AUTH PLAIN",
            "EHLO" | "RSET" | "NOOP" => "250 stand-in",
            "AUTH" => {
                mail.auth = Some(line.clone());
                "235 signed in"
            }
            "MAIL" => {
                mail.from = address(&line);
                "250 fine"
            }
            "RCPT" if shared.refuses.load(Ordering::SeqCst) => "550 no such mailbox: Wilhelmina Quackenbush",
            "RCPT" => {
                mail.to.push(address(&line));
                "250 fine"
            }
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    mail.data.push_str(&format!("{line}\r\n"));
                }
                shared.mails.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut mail));
                "250 taken"
            }
            "QUIT" => {
                out.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ => "500 what?",
        };
        out.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

fn address(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(address, _)| address).to_owned()
}
