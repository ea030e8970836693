//! Tests of the test harness itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::support::binary::Cli;
use crate::support::postgres::{Cluster, cluster};
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn, refused_port};
use crate::support::wait::{wait_for_async, wait_until, wait_until_async};

const SOON: Duration = Duration::from_secs(10);
const SHORTLY: Duration = Duration::from_millis(200);

fn message_of(panicking: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(panicking)).expect_err("it was to panic");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn waiting_in_vain_says_what_was_waited_for() {
    let message = message_of(|| wait_until("the lead to be sent", Duration::from_millis(20), || false));
    assert_eq!(message, "waited 20ms in vain: the lead to be sent");
}

#[test]
fn an_attempt_that_hangs_is_cut_off_at_the_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let waiting = wait_until_async("an answer", Duration::from_millis(20), std::future::pending);
    let message = message_of(|| runtime.block_on(waiting));
    assert_eq!(message, "waited 20ms in vain: an answer");
}

#[tokio::test]
async fn each_database_is_fresh_and_reachable_by_its_url() {
    let (one, other) = (cluster().database(), cluster().database());
    one.sql("create table lead (id bigint primary key); insert into lead values (7)");
    let mut connection = PgConnection::connect(&one.url).await.expect("the URL is sqlx's");
    let rows: i64 = sqlx::query_scalar("select count(*) from lead").fetch_one(&mut connection).await.expect("rows");
    assert_eq!(rows, 1);
    assert_eq!(other.sql("select count(*) from pg_tables where schemaname = 'public'"), "0");
    assert_eq!(other.sql("show server_encoding; show synchronous_commit; show fsync"), "UTF8\non\noff");
}

#[tokio::test]
async fn a_private_cluster_can_be_paused_crashed_and_started_again() {
    let cluster = Cluster::private();
    let database = cluster.database();
    database.sql("create table lead (id bigint)");
    let mut session = PgConnection::connect(&database.url).await.expect("it serves");

    cluster.pause();
    assert!(tokio::time::timeout(SHORTLY, session.ping()).await.is_err(), "a paused server does not answer");
    cluster.resume();
    // The interrupted ping has left its answer in the connection, so the test opens another one.
    PgConnection::connect(&database.url).await.expect("a resumed server answers").ping().await.expect("at once");

    cluster.crash();
    assert!(PgConnection::connect(&database.url).await.is_err(), "a crashed server refuses");
    cluster.start();
    assert_eq!(database.sql("select count(*) from lead"), "0");
    cluster.stop();
    assert!(session.ping().await.is_err(), "the old session is cut");
}

#[tokio::test]
async fn a_cluster_on_tcp_comes_back_at_the_same_port() {
    let cluster = Cluster::private_on_tcp();
    let database = cluster.database();
    assert!(database.url.starts_with("postgres://postgres@127.0.0.1:"), "{}", database.url);
    cluster.stop();
    cluster.start();
    wait_until_async("the database at its old URL", SOON, async || PgConnection::connect(&database.url).await.is_ok())
        .await;
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(SOON).build().expect("a client")
}

async fn post(endpoint: &StandIn, id: &str) -> reqwest::Result<(u16, String)> {
    let body = format!(r#"{{"id": "{id}"}}"#);
    let answer = client().post(endpoint.url()).body(body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn the_stand_in_answers_by_script_and_keeps_a_ledger() {
    let endpoint = StandIn::start(|request| match request.n {
        1 => Reaction::status(429).header("Retry-After", "3").body("slow down"),
        _ => Reaction::accept().after(Duration::from_millis(30)),
    });
    assert_eq!(post(&endpoint, "a").await.expect("an answer"), (429, "slow down".to_owned()));
    assert_eq!(post(&endpoint, "b").await.expect("an answer"), (200, "{}".to_owned()));

    let received = endpoint.requests();
    assert_eq!(received.iter().map(|one| one.answered).collect::<Vec<_>>(), [Some(429), Some(200)]);
    let ids = received.iter().map(|one| one.request.id.as_deref()).collect::<Vec<_>>();
    assert_eq!(ids, [Some("a"), Some("b")]);
    let second = &received[1];
    let took = second.over_at.expect("it is over").duration_since(second.request.arrived_at);
    assert!(took >= Duration::from_millis(30), "answered after {took:?}");
    assert_eq!((second.request.method.as_str(), second.request.path.as_str()), ("POST", "/json/"));
    assert_eq!(second.request.header("content-length"), Some("11"));
    assert_eq!(endpoint.bodies_of("b"), [serde_json::json!({"id": "b"})]);
    assert_eq!((endpoint.answered(), endpoint.max_in_flight(), endpoint.in_flight()), (2, 1, 0));
}

#[tokio::test]
async fn a_kept_connection_carries_several_requests() {
    let endpoint = StandIn::accepting();
    let client = client();
    for _ in 0..3 {
        let answer = client.post(endpoint.url()).body("{}").send().await.expect("an answer");
        answer.bytes().await.expect("a body");
    }
    assert_eq!((endpoint.answered(), endpoint.connections()), (3, 1));
}

#[tokio::test]
async fn requests_held_at_a_gate_are_counted_as_in_flight_by_lead() {
    let gate = Gate::new();
    let held = gate.clone();
    let endpoint = StandIn::start(move |_| Reaction::accept().when_opened(&held));
    let (_, _, _, ()) = tokio::join!(post(&endpoint, "a"), post(&endpoint, "a"), post(&endpoint, "b"), async {
        wait_until_async("three requests in flight", SOON, async || endpoint.in_flight() == 3).await;
        assert_eq!(endpoint.answered(), 0);
        gate.open();
    });
    assert_eq!((endpoint.max_in_flight(), endpoint.max_in_flight_per_lead(), endpoint.answered()), (3, 2, 3));
}

#[tokio::test]
async fn a_request_that_is_never_answered_is_in_flight_until_the_client_gives_up() {
    let endpoint = StandIn::start(|_| Reaction::AcceptThenHang);
    let answer = client().post(endpoint.url()).timeout(SHORTLY).body("{}").send().await;
    assert!(answer.expect_err("nothing comes").is_timeout());
    wait_until_async("the endpoint to see the client go", SOON, async || endpoint.in_flight() == 0).await;
    assert_eq!((endpoint.requests().len(), endpoint.answered()), (1, 0));
}

#[tokio::test]
async fn cut_connections_look_cut_to_the_client() {
    for reaction in [Reaction::AcceptThenCut, Reaction::CutBeforeReading] {
        let endpoint = StandIn::start(move |_| reaction.clone());
        let error = post(&endpoint, "a").await.expect_err("no answer comes");
        assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
        assert_eq!(endpoint.answered(), 0);
        assert!(!endpoint.requests().is_empty());
    }
}

#[tokio::test]
async fn headers_that_trickle_run_into_the_clients_time_limit() {
    let endpoint = StandIn::start(|_| Reaction::SlowHeaders { every: Duration::from_millis(20) });
    let answer = client().post(endpoint.url()).timeout(SHORTLY).body("{}").send().await;
    assert!(answer.expect_err("no end of headers").is_timeout());
}

#[tokio::test]
async fn a_huge_body_arrives_in_full_for_a_client_that_wants_it() {
    let bytes = 3_000_000;
    let endpoint = StandIn::start(move |_| Reaction::HugeBody { status: 500, bytes });
    let (status, body) = post(&endpoint, "a").await.expect("an answer");
    assert_eq!((status, body.len() as u64), (500, bytes));
}

#[tokio::test]
async fn a_stand_in_refuses_once_dropped_and_comes_back_at_its_port() {
    let endpoint = StandIn::accepting();
    let port = endpoint.port();
    drop(endpoint);
    let url = format!("http://127.0.0.1:{port}/json/");
    assert!(client().post(&url).send().await.expect_err("nobody listens").is_connect());
    let endpoint = StandIn::start_on(port, |_| Reaction::accept());
    let answer = wait_for_async("an answer", SOON, async || client().post(&url).send().await.ok()).await;
    assert_eq!((answer.status().as_u16(), endpoint.answered()), (200, 1));
}

#[tokio::test]
async fn a_refused_port_refuses_every_time() {
    assert_eq!(refused_port(), refused_port());
    let url = format!("http://127.0.0.1:{}/", refused_port());
    assert!(client().get(url).send().await.expect_err("nobody listens").is_connect());
}

#[test]
fn the_binary_runs_in_its_own_directory_and_environment() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(directory.path()).config("[source]\n").env("CONVERSICA_SYNC__LOG__LEVEL", "debug");
    assert!(cli.config_file().exists());
    let output = cli.run(&["--version"]).expect_code(0);
    assert!(output.stdout.starts_with("conversica-sync "), "{output}");
}

#[test]
fn a_running_binary_can_be_killed_and_leaves_its_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut running = Cli::new(directory.path()).spawn(&["--help"]);
    running.wait_for_line("Usage", SOON);
    running.signal(Signal::Kill);
    assert!(running.wait(SOON).stdout.contains("Usage"));
}
