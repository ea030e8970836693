//! The network between the program and Conversica: a TLS server in front of a plain one, and an HTTP proxy in front of that.
//! Their tasks end on drop.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The host that the certificate names; no name server knows it.
pub const HOST: &str = "api.example";

fn listening() -> (Runtime, TcpListener, u16) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (runtime, listener, port)
}

/// A TLS server for [`HOST`], and for `localhost`, that passes what it decrypts to a port of this machine.
pub struct TlsFront {
    pub port: u16,
    runtime: Option<Runtime>,
}

impl TlsFront {
    /// Writes its certificate to `roots`, for clients to trust.
    pub fn before(port: u16, roots: &Path) -> Self {
        let made =
            rcgen::generate_simple_self_signed(vec![HOST.to_owned(), "localhost".to_owned()]).expect("a certificate");
        std::fs::write(roots, made.cert.pem()).expect("the directory is ours");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("certificate and key fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (runtime, listener, own) = listening();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port: own, runtime: Some(runtime) }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// How a proxy reacts to CONNECT.
#[derive(Clone, Debug)]
pub enum ProxyRule {
    Connect,
    /// 407, unless the request carries this value of `Proxy-Authorization`.
    Password(&'static str),
    Refuse(u16),
}

/// An HTTP proxy whose every way leads to one port of this machine.
pub struct HttpProxy {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    runtime: Option<Runtime>,
}

impl HttpProxy {
    pub fn to(port: u16, rule: ProxyRule) -> Self {
        let (runtime, listener, own) = listening();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heads = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (heads, rule) = (Arc::clone(&heads), rule.clone());
                tokio::spawn(async move { serve(client, port, &rule, &heads).await });
            }
        });
        Self { port: own, asked, runtime: Some(runtime) }
    }

    /// The value of HTTPS_PROXY.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn serve(mut client: TcpStream, port: u16, rule: &ProxyRule, heads: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let carries = |value: &str| head.to_lowercase().contains(&format!("proxy-authorization: {}", value.to_lowercase()));
    let status = match rule {
        ProxyRule::Connect => 200,
        ProxyRule::Password(value) if carries(value) => 200,
        ProxyRule::Password(_) => 407,
        ProxyRule::Refuse(status) => *status,
    };
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    if status != 200 {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
