//! Every post gets a clear answer and does no harm. The receiver keeps it as it came when the credentials are right.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::receiver::{
    PASSWORD, PERSONAL, Receiver, USERNAME, answers, basic, connect, request, send, with_receiver,
};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    with_receiver(&mut scene);
    scene
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bodies of all events, in their order, as hexadecimal text.
fn bodies(engine: Engine, scene: &Scene) -> Vec<String> {
    scene.state(
        engine.pick(
            "select lower(hex(body)) from event order by seq",
            "select encode(body, 'hex') from event order by seq",
        ),
    )
}

fn what_cannot_be_read_is_answered_with_the_reason_and_kept_to_the_byte(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let receiver = Receiver::start(&scene);
    let keys: String = (0..100_000).map(|n| format!(",\"{n:x}\":1")).collect();
    let deep = format!("{{\"id\":\"1\",\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let refused: Vec<(&str, Vec<u8>, &str)> = vec![
        ("lead", format!("{{\"id\":\"1\",\"discoveredEmail1\":\"{PERSONAL}").into(), "not valid JSON"),
        (
            "message",
            format!("{{\"id\":\"1\",\"body\":\"Dear\n{PERSONAL}\r\n\"}}").into(),
            "Missing required field: action",
        ),
        ("message", format!("{{\"id\":\"1\",\"action\":[\"{PERSONAL}\"]}}").into(), "action is not a string"),
        ("lead", format!("{{\"hotLead\":\"{PERSONAL}\"}}").into(), "Missing required field: id"),
        ("lead", b"{\"id\":1.5}".to_vec(), "id is neither a string nor a whole number"),
        ("lead", b"{\"id\":\"a\\u0000b\"}".to_vec(), "control characters"),
        ("lead", b"[1,2]".to_vec(), "not a JSON object"),
        ("lead", b"null".to_vec(), "not a JSON object"),
        ("lead", b"{\"id\":\"1\"}{".to_vec(), "not valid JSON"),
        ("lead", b"id=1&hotLead=true".to_vec(), "not valid JSON"),
        ("lead", b"\xff\xfe{\0\"\0".to_vec(), "not valid JSON"),
        ("message", b"{\"id\":\"1\",\"body\":\"\xc3\x28\"}".to_vec(), "Missing required field: action"),
        ("lead", deep.into(), "recursion limit"),
        ("lead", format!("{{\"id\":\"1\"{keys}}}").into(), "keys"),
        ("create", b"{}".to_vec(), "Missing required field: firstName"),
        ("lead", b"".to_vec(), "empty"),
        ("lead", b" \r\n\t".to_vec(), "empty"),
    ];
    let count = refused.len();
    for (kind, body, reason) in &refused {
        let answer = receiver.post(&format!("/conversica/{kind}"), body);
        let (status, told) = answer.told();
        assert_eq!((answer.status, status.as_str()), (400, "400"), "{reason}: {answer:?}");
        assert!(told.contains(reason), "{reason}: {told}");
    }
    let kept = bodies(engine, &scene);
    assert_eq!(kept.len(), count);
    for ((_, body, reason), kept) in refused.iter().zip(kept) {
        assert!(kept == hex(body), "{reason}: what is kept is another");
    }
    assert_eq!(scene.state("select id || '' from event where problem is null or id <> ''"), Vec::<String>::new());
    assert_eq!(scene.state("select name || ' ' || count from received_count"), [format!("unreadable {count}")]);
    assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"1\"}").status, 200, "and goes on");
    receiver.end();
}

/// The search of these bodies for an opt-out takes time, during which an SQLite state accepts no other write.
fn large_bodies_that_cannot_be_read_keep_no_other_post_waiting(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let receiver = Receiver::start(&scene);
    let keys: String = (0..85_000).map(|n| format!(",\"{n:x}\":1")).collect();
    for n in 0..5 {
        let answer = receiver.post("/conversica/lead", format!("{{\"n\":{n}{keys}"));
        assert_eq!(answer.status, 400, "{answer:?}");
        let answer = receiver.post("/conversica/lead", format!("{{\"id\":\"{n}\"}}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    wait_until("all to be searched", SOON * 3, || {
        scene.state("select seq || '' from event where problem is not null and examined_at is null").is_empty()
    });
    assert!(!receiver.end().contains("the state cannot be written"));
}

fn what_is_too_long_is_kept_as_far_as_it_may_be(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let receiver = Receiver::start(&scene);
    let body = vec![b'x'; 10 * MIB];
    let stated = receiver.post("/conversica/message", &body);
    assert_eq!((stated.status, stated.told().1.as_str()), (413, "The body is larger than max_body"));
    let head = format!(
        "POST /conversica/lead HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n",
        basic(USERNAME, PASSWORD)
    );
    let chunk = [format!("{MIB:x}\r\n").as_bytes(), &body[..MIB], b"\r\n"].concat();
    let chunked = receiver.ask(&[head.as_bytes(), &chunk.repeat(10), b"0\r\n\r\n"].concat());
    assert_eq!(chunked.status, 413);
    let exactly = format!("{{\"id\":\"1\",\"x\":\"{}\"}}", "y".repeat(MIB - 17));
    assert_eq!((exactly.len(), receiver.post("/conversica/lead", &exactly).status), (MIB, 200));
    assert_eq!(receiver.post("/conversica/lead", format!("{exactly} ")).status, 413);
    let kept = scene.state("select length(body) || ' ' || coalesce(problem, '') from event order by seq");
    let cut = format!("{MIB} The body is larger than max_body");
    assert_eq!(kept, [cut.clone(), cut.clone(), format!("{MIB} "), cut]);
    receiver.end();
}

on_both_engines!(blocking:
    what_cannot_be_read_is_answered_with_the_reason_and_kept_to_the_byte,
    what_is_too_long_is_kept_as_far_as_it_may_be,
    large_bodies_that_cannot_be_read_keep_no_other_post_waiting,
);

#[test]
fn a_body_may_come_in_chunks_and_requests_may_be_pipelined() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Sqlite, &endpoint);
    let receiver = Receiver::start(&scene);
    let authorization = basic(USERNAME, PASSWORD);
    let chunked = format!(
        "POST /conversica/lead HTTP/1.1\r\nHost: x\r\n{authorization}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\n{{\"id\"\r\n5\r\n:\"1\"}}\r\n0\r\n\r\n"
    );
    let broken = "POST /conversica/lead HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let last =
        String::from_utf8(request("POST", "/conversica/lead/", Some(&authorization), b"{\"id\":\"2\"}")).unwrap();
    let all = answers(&send(&receiver.address, format!("{chunked}{broken}{chunked}{last}").as_bytes()));
    // The answer to a request without credentials ends the connection, so later requests get no answer.
    assert_eq!(all.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 401]);
    let all = answers(&send(&receiver.address, format!("{chunked}{last}").as_bytes()));
    assert_eq!(all.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200]);
    assert_eq!(scene.state("select id || ' ' || repeats from event order by seq"), ["1 1", "2 0"]);
    receiver.end();
}

#[test]
fn who_is_slow_or_breaks_off_is_cut_keeps_nobody_waiting_and_what_came_is_kept() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Sqlite, &endpoint);
    let receiver = Receiver::start(&scene);
    let authorization = basic(USERNAME, PASSWORD);
    let head = |length: usize| {
        format!("POST /conversica/message HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: {length}\r\n\r\n")
    };
    let read = |mut stream: std::net::TcpStream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut slow_head = connect(&receiver.address);
            slow_head.write_all(b"POST /conversica/lead HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("sent");
            assert_eq!(read(slow_head), b"", "cut");
        });
        scope.spawn(|| {
            let mut slow_body = connect(&receiver.address);
            slow_body.write_all(head(100).as_bytes()).expect("sent");
            slow_body.write_all(b"slow so far").expect("sent");
            let answer = answers(&read(slow_body)).remove(0);
            assert_eq!((answer.status, answer.told().0.as_str()), (408, "400"), "{answer:?}");
        });
        for body in ["broken off", ""] {
            let mut broken_off = connect(&receiver.address);
            broken_off.write_all(head(100).as_bytes()).expect("sent");
            broken_off.write_all(body.as_bytes()).expect("sent");
            drop(broken_off);
        }
        let mut reset_chunks = connect(&receiver.address);
        let chunks = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
        reset_chunks.write_all(chunks.as_bytes()).expect("sent");
        reset_chunks.write_all(b"5\r\nchunk\r\nZZZ\r\n").expect("sent");
        drop(reset_chunks);
        assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"1\"}").status, 200, "meanwhile");
    });
    let kept =
        || scene.state("select cast(body as text) || ': ' || problem from event where problem is not null order by 1");
    wait_until("what came is kept", SOON, || kept().len() == 3);
    let expected = [
        "broken off: The body ended early",
        "chunk: The body ended early",
        "slow so far: The body did not come to its end in time",
    ];
    assert_eq!(kept(), expected);
    receiver.end();
}

#[test]
fn who_has_no_credentials_leaves_nothing_behind() {
    let endpoint = StandIn::accepting();
    let scene = scene(Engine::Sqlite, &endpoint);
    let receiver = Receiver::start(&scene);
    let big = vec![b'x'; 3 * MIB];
    for body in [b"{\"id\":\"1\"}".as_slice(), b"", &big[..MIB / 2], &big] {
        let answer = receiver.ask(&request("POST", "/conversica/lead", None, body));
        assert_eq!((answer.status, answer.told().0.as_str()), (401, "401"), "{}", body.len());
    }
    // The receiver decides before it reads the body: the body need not come.
    let head = "POST /conversica/lead HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    let mut stream = connect(&receiver.address);
    stream.write_all(head.as_bytes()).expect("sent");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 401");
    for bytes in [b"\0\0\0\0\r\n\r\n".as_slice(), b"GET\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"] {
        let answer = send(&receiver.address, bytes);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(receiver.post("/conversica/lead", "{\"id\":\"1\"}").status, 200);
    assert_eq!(scene.state("select count(*) || '' from event"), ["1"]);
    receiver.end();
}
