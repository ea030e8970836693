//! Measures the cost of storing a post before the receiver acknowledges it.
//!
//!     cargo bench --bench receiving                       20,000 posts a round, 5 rounds, SQLite and PostgreSQL
//!     cargo bench --bench receiving -- --posts 100000 --rounds 3 --engine sqlite
//!
//! One client posts the same Lead Updates over the same number of connections to two servers in turn, each in its own
//! process. The daemon authenticates, reads, stores durably (SQLite with `synchronous = full`, PostgreSQL with `fsync =
//! on`) and then answers. A bare axum handler takes the body and answers. The benchmark prints posts a second, and the
//! median of the rounds' ratios. Plain HTTP on this machine; every post is about another lead.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use axum::Json;
use axum::body::Bytes;
use axum::routing::post;
use base64::Engine as _;
use clap::Parser;
use common::support::postgres::Cluster;
use common::{Engines, RunningProcess, median, program, write_config};
use sqlx::{Connection, SqliteConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[allow(dead_code, reason = "made for all benchmarks and for the tests, which need more of it")]
mod common;

const CONFIG: &str = r#"
[source]
url = "{crm}"
table = "leads"
key = "id"
poll_interval = "1h"
[lead]
firstName = "first_name"
email = "email"
leadSource = "source"
repName = "owner_name"
[conversica]
require_conversation_id = false
endpoint = "http://127.0.0.1:9/json/"
username = "bench"
password = "bench"
[state]
url = "{state}"
[receive]
listen = "127.0.0.1:0"
username = "conversica"
password = "only for measuring"
[writeback]
mode = "off"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
"#;

#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long, default_value_t = 20_000)]
    posts: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, value_enum, default_value = "both")]
    engine: Engines,
    /// Runs as the bare handler.
    #[arg(long, hide = true)]
    bare: bool,
    /// Cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.bare {
        return bare().await;
    }
    if args.engine != Engines::Postgres {
        let directory = tempfile::tempdir()?;
        let state = format!("sqlite://{}", directory.path().join("state.db").display());
        compare("sqlite", &args, directory.path(), &state).await?;
    }
    if args.engine != Engines::Sqlite {
        let (directory, cluster) = (tempfile::tempdir()?, Cluster::durable());
        compare("postgres", &args, directory.path(), &cluster.database().url).await?;
    }
    Ok(())
}

/// The least work of any receiver.
async fn bare() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{{\"message\":\"receiving\",\"address\":\"{}\"}}", listener.local_addr()?);
    let take = async |body: Bytes| {
        std::hint::black_box(body);
        Json(serde_json::json!({ "status": "200", "message": "Received" }))
    };
    axum::serve(listener, axum::Router::new().route("/conversica/lead", post(take))).await?;
    Ok(())
}

/// A server in its own process.
struct Server {
    _process: RunningProcess,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut process = command.stdin(Stdio::null()).spawn()?;
        let output = process.stdout.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>);
        let errors = process.stderr.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>);
        let mut lines = BufReader::new(output.or(errors).context("a stream to read")?).lines();
        let address = loop {
            let line = lines.next().context("the server ended before it said where it listens")??;
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "receiving" {
                break line["address"].as_str().context("an address")?.to_owned();
            }
        };
        // A full pipe would block the server.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { _process: RunningProcess(process), address })
    }
}

async fn compare(engine: &str, args: &Args, directory: &Path, state: &str) -> anyhow::Result<()> {
    let crm = format!("sqlite://{}", directory.join("crm.db").display());
    let mut session = SqliteConnection::connect(&format!("{crm}?mode=rwc")).await?;
    let table =
        "create table leads (id integer primary key, first_name text, email text, source text, owner_name text)";
    sqlx::query(table).execute(&mut session).await?;
    session.close().await?;
    let file = directory.join("conversica-sync.toml");
    write_config(&file, CONFIG, &[("{crm}", &crm), ("{state}", state)])?;
    let bare = Server::start(Command::new(std::env::current_exe()?).arg("--bare").stdout(Stdio::piped()))?;
    let daemon = Server::start(program(&file).arg("run").stderr(Stdio::piped()))?;

    println!("{engine}: {} posts a round, {} connections", args.posts, args.connections);
    let mut first = 0;
    let mut round = async |server: &Server, posts: usize| {
        first += posts;
        measure(&server.address, first..first + posts, args.connections).await
    };
    // Warms up caches and connections, and lets files grow.
    round(&bare, args.posts / 4).await?;
    round(&daemon, args.posts / 4).await?;
    let mut ratios = Vec::new();
    for _ in 0..args.rounds {
        let (nothing, stored) = (round(&bare, args.posts).await?, round(&daemon, args.posts).await?);
        println!(
            "  stored and acknowledged {stored:>8.0} a second   bare handler {nothing:>8.0}   ratio {:.2}",
            stored / nothing
        );
        ratios.push(stored / nothing);
    }
    println!("  median ratio {:.2}", median(ratios));
    Ok(())
}

/// Posts each of these leads once; returns posts a second.
async fn measure(address: &str, leads: std::ops::Range<usize>, connections: usize) -> anyhow::Result<f64> {
    let posts = leads.len();
    let token = base64::engine::general_purpose::STANDARD.encode("conversica:only for measuring");
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for connection in 0..connections {
        let leads = leads.clone().skip(connection).step_by(connections);
        let (address, token) = (address.to_owned(), token.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut answer = Vec::with_capacity(1024);
            for id in leads {
                let body = format!(
                    "{{\"apiVersion\":\"7.2\",\"id\":\"{id}\",\"clientId\":\"bench\",\"conversationStage\":\"Messaging\",\
                     \"conversationStageDate\":\"2026-05-10T05:57:44+00:00\",\"conversationStatus\":\"Received Response\",\
                     \"conversationStatusDate\":\"2026-05-10T05:57:44+00:00\",\"lastResponseDate\":\"2026-05-10T05:57:44+00:00\",\
                     \"hotLead\":true,\"hotLeadDate\":\"2026-05-10T05:57:44+00:00\"}}"
                );
                let request = format!(
                    "POST /conversica/lead HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {token}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(request.as_bytes()).await?;
                answer.clear();
                // The answer's last character.
                while answer.last() != Some(&b'}') {
                    ensure!(stream.read_buf(&mut answer).await? > 0, "the server has hung up");
                }
                ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(posts as f64 / started.elapsed().as_secs_f64())
}
