//! Every acknowledged post is stored, and stored once: through kill -9, repeats, and databases that go away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::postgres::{Cluster, cluster};
use crate::support::receiver::{
    PASSWORD, PERSONAL, Receiver, USERNAME, answers, basic, discreet, free_address, receiving_at, request, send,
    with_receiver,
};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);
const POSTS: usize = 10_000;
const CONNECTIONS: usize = 64;

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    with_receiver(&mut scene);
    scene
}

/// Posts each number once, and repeats it until it is acknowledged.
struct Sender {
    next: AtomicUsize,
    acknowledged: Mutex<BTreeSet<usize>>,
}

impl Sender {
    fn acknowledged(&self) -> BTreeSet<usize> {
        self.acknowledged.lock().expect("not poisoned").clone()
    }

    async fn post_all(&self, address: &str) {
        let mut connection = None;
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= POSTS {
                return;
            }
            while post(&mut connection, address, n).await != Some(true) {
                connection = None;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.acknowledged.lock().expect("not poisoned").insert(n);
        }
    }
}

/// Whether it was acknowledged; `None` when the connection broke.
async fn post(connection: &mut Option<TcpStream>, address: &str, n: usize) -> Option<bool> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(TcpStream::connect(address).await.ok()?),
    };
    let (path, body) = match n % 2 {
        0 => ("lead", format!("{{\"id\":\"{n}\",\"discoveredEmail1\":\"{PERSONAL}\"}}")),
        _ => (
            "message",
            format!(
                "{{\"leadId\":{n},\"action\":\"sent\",\"date\":\"2026-05-10T05:57:44Z\",\"body\":\"To {PERSONAL}\"}}"
            ),
        ),
    };
    let head = format!(
        "POST /conversica/{path} HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Length: {}\r\n\r\n",
        basic(USERNAME, PASSWORD),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // The answer's last character.
    while answer.last() != Some(&b'}') {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(answer.starts_with(b"HTTP/1.1 200 "))
}

fn nothing_acknowledged_is_lost_by_kill_9_and_nothing_is_stored_twice(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    let address = free_address();
    scene.set_text("receive", "listen", &address);
    let sender = Arc::new(Sender { next: AtomicUsize::new(0), acknowledged: Mutex::default() });
    let mut daemon = scene.cli().spawn(&["run"]);
    receiving_at(&mut daemon, false);
    let posting = {
        let (sender, address) = (sender.clone(), address.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let posting = (0..CONNECTIONS).map(|_| sender.post_all(&address));
                futures_util::future::join_all(posting).await;
            });
        })
    };
    let stored = || scene.state("select id from event").into_iter().collect::<Vec<_>>();
    for share in 1..=5 {
        let enough = POSTS * share / 6;
        wait_until("some are acknowledged", PATIENCE, || sender.acknowledged().len() >= enough);
        discreet(daemon.kill().stderr);
        // Without a receiver no further post is acknowledged, so every acknowledged post must be stored by now.
        let acknowledged = sender.acknowledged();
        let stored: BTreeSet<usize> = stored().iter().map(|id| id.parse().expect("a number")).collect();
        let lost: Vec<&usize> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        daemon = scene.cli().spawn(&["run"]);
        receiving_at(&mut daemon, false);
    }
    wait_until("all are acknowledged", PATIENCE, || sender.acknowledged().len() == POSTS);
    posting.join().expect("all were posted");
    let ids = stored();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (POSTS, POSTS), "each once");
    let counts = scene.state(
        "select name || ' ' || count from received_count where name in ('lead_update', 'message', 'unreadable') order by 1",
    );
    assert_eq!(counts, [format!("lead_update {}", POSTS / 2), format!("message {}", POSTS / 2)]);
    let repeats = "coalesce((select count from received_count where name = 'repeat'), 0)";
    assert_eq!(scene.state(&format!("select (sum(repeats) = {repeats}) || '' from event")), [engine.pick("1", "true")]);
    daemon.signal(Signal::Terminate);
    discreet(daemon.wait(SOON).expect_code(0).stderr);
}

fn the_same_content_is_stored_once_however_it_is_written(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    // The lead of the scene becomes known.
    scene.run(&["once"]);
    let receiver = Receiver::start(&scene);
    let first = r#"{"apiVersion":"7.2","id":"1","clientId":"c","hotLead":true,"mood":{"a":1,"b":[2]}}"#;
    for body in [
        first,
        first,
        r#"{ "mood" : {"b":[2],"a":1}, "hotLead":"true", "clientId":"c", "leadId":1, "apiVersion":"7.2" }"#,
    ] {
        assert_eq!(receiver.post("/conversica/lead", body).status, 200, "{body}");
    }
    for body in [
        r#"{"apiVersion":"7.2","id":"1","clientId":"c","hotLead":false,"mood":{"a":1,"b":[2]}}"#,
        r#"{"apiVersion":"9.9","id":"1","clientId":"c","leadStatus":"Never heard of"}"#,
        r#"{"apiVersion":"7.1","leadId":"nobody","clientId":"c","hotLead":true}"#,
        "no JSON",
        "no JSON",
    ] {
        let expected = if body.starts_with('{') { 200 } else { 400 };
        assert_eq!(receiver.post("/conversicaLead/", body).status, expected, "{body}");
    }
    assert_eq!(
        scene.state(
            "select id || '/' || client_id || ' ' || repeats || ' ' || (problem is null) from event order by seq"
        ),
        engine.pick(
            ["1/ 2 1", "1/ 0 1", "1/ 0 1", "nobody/ 0 1", "/ 1 0"],
            ["1/ 2 true", "1/ 0 true", "1/ 0 true", "nobody/ 0 true", "/ 1 false"],
        )
    );
    let kept = engine.pick("cast(body as text)", "convert_from(body, 'UTF8')");
    assert_eq!(scene.state(&format!("select {kept} from event order by seq limit 1")), [first], "as it came first");
    assert_eq!(
        scene.state("select name || ' ' || count from received_count order by name"),
        ["lead_update 4", "outside_vocabulary 1", "repeat 3", "unknown_lead 1", "unreadable 1"]
    );
    receiver.end();
}

on_both_engines!(blocking:
    nothing_acknowledged_is_lost_by_kill_9_and_nothing_is_stored_twice,
    the_same_content_is_stored_once_however_it_is_written,
);

#[test]
fn a_client_is_part_of_who_a_lead_is_only_where_the_source_has_clients() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Sqlite, &endpoint);
    scene.set_text("source", "client", "owner_name");
    let receiver = Receiver::start(&scene);
    for client in ["a", "b"] {
        let body = format!("{{\"id\":\"1\",\"clientId\":\"{client}\",\"hotLead\":true}}");
        assert_eq!(receiver.post("/conversica/lead", body).status, 200);
    }
    assert_eq!(scene.state("select client_id from event order by seq"), ["a", "b"]);
    receiver.end();
}

#[test]
fn while_the_state_is_away_posts_are_refused_and_taken_again_after_it() {
    let cluster = Cluster::private();
    let database = cluster.database();
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Sqlite, &endpoint);
    scene.set_text("state", "url", &database.url);
    let receiver = Receiver::start(&scene);
    let post = |n: u32| receiver.post("/conversica/lead", format!("{{\"id\":\"{n}\",\"hotLead\":true}}"));
    assert_eq!(post(1).status, 200);
    cluster.stop();
    for n in [2, 3] {
        let answer = post(n);
        assert_eq!((answer.status, answer.told().0.as_str()), (500, "500"), "{answer:?}");
    }
    cluster.start();
    wait_until("posts are taken again", PATIENCE, || post(2).status == 200);
    cluster.pause();
    let unanswered = post(4);
    assert_eq!(unanswered.status, 500, "{unanswered:?}");
    cluster.resume();
    wait_until("posts are taken again", PATIENCE, || post(3).status == 200);
    let log = receiver.end();
    assert_eq!(log.matches("posts cannot be stored").count(), 2, "{log}");
    assert_eq!(log.matches("posts are stored again").count(), 2, "{log}");
    let ids = database.sql("select distinct id from conversica_sync.event where id in ('1', '2', '3') order by id");
    assert_eq!(ids, "1\n2\n3");
}

#[test]
fn posts_are_taken_while_the_crm_is_away() {
    let cluster = Cluster::private();
    let database = cluster.database();
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Sqlite, &endpoint);
    scene.set_text("source", "url", &database.url);
    cluster.stop();
    let receiver = Receiver::start(&scene);
    assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"1\",\"hotLead\":true}").status, 200);
    receiver.end();
}

#[test]
fn what_is_under_way_when_it_stops_is_acknowledged_and_kept() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(Engine::Sqlite, &endpoint);
    let database = cluster().database();
    scene.set_text("state", "url", &database.url);
    let receiver = Receiver::start(&scene);
    assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"0\"}").status, 200);
    // Another session locks the table, so the post is under way until the lock is released.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let lock = runtime.block_on(async {
        let mut session = PgConnection::connect(&database.url).await.expect("the database answers");
        session.execute("begin; lock table conversica_sync.event").await.expect("a lock");
        session
    });
    let address = receiver.address.clone();
    let under_way = std::thread::spawn(move || {
        send(&address, &request("POST", "/conversica/lead", Some(&basic(USERNAME, PASSWORD)), b"{\"id\":\"1\"}"))
    });
    wait_until("it waits for the lock", SOON, || {
        let waits = "select count(*) from pg_locks where not granted and relation = 'conversica_sync.event'::regclass";
        database.sql(waits) != "0"
    });
    let mut daemon = receiver.daemon;
    daemon.signal(Signal::Terminate);
    daemon.wait_for_line("stopping", SOON);
    runtime.block_on(lock.close()).expect("the lock goes");
    let answer = answers(&under_way.join().expect("an answer")).remove(0);
    assert_eq!(answer.status, 200, "{answer:?}");
    discreet(daemon.wait(SOON).expect_code(0).stderr);
    assert_eq!(database.sql("select count(*) from conversica_sync.event"), "2");
}
