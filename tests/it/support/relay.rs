//! A relay to a database server that can swallow connections, as a network does: their data arrives nowhere, and neither
//! side gets an error.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub struct Relay {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

#[derive(Default)]
struct Connection {
    /// The connection has sent `LISTEN`.
    listens: AtomicBool,
    swallowed: AtomicBool,
}

impl Relay {
    /// A relay to a server on 127.0.0.1. Its threads end with the test's process.
    pub fn to(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<Arc<Connection>>>> = Arc::default();
        let all = connections.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server_port))) else {
                    continue;
                };
                let connection = Arc::new(Connection::default());
                all.lock().expect("nobody panics with it").push(connection.clone());
                let back = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
                let same = connection.clone();
                std::thread::spawn(move || carry(client, server, &same));
                std::thread::spawn(move || carry(back.0, back.1, &connection));
            }
        });
        Self { port, connections }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Swallows the connections that listen at present; returns their number.
    pub fn swallow_listening(&self) -> usize {
        let connections = self.connections.lock().expect("nobody panics with it");
        connections.iter().filter(|c| c.listens() && !c.swallowed.swap(true, Ordering::SeqCst)).count()
    }

    /// Connections that listen and were not swallowed.
    pub fn listening(&self) -> usize {
        let connections = self.connections.lock().expect("nobody panics with it");
        connections.iter().filter(|c| c.listens() && !c.swallowed.load(Ordering::SeqCst)).count()
    }
}

impl Connection {
    fn listens(&self) -> bool {
        self.listens.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, connection: &Connection) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes) = from.read(&mut buffer) {
        if connection.swallowed.load(Ordering::SeqCst) {
            if bytes == 0 {
                return;
            }
            continue;
        }
        if buffer[..bytes].windows(8).any(|window| window == b"LISTEN \"") {
            connection.listens.store(true, Ordering::SeqCst);
        }
        if bytes == 0 || to.write_all(&buffer[..bytes]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
