//! A stop in other words than the published ones, in an encoding, on an unexpected path or with an unexpected method is
//! still found: the lead is not sent as contactable, and the operator has to decide. A large unreadable post delays no
//! other post. Through the real program.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{PASSWORD, Receiver, USERNAME, basic, request, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(90);

blocking_on_both_engines!(
    stops_in_words_that_are_not_published_are_told_to_conversica,
    stops_in_any_encoding_are_told_to_conversica,
    a_stop_that_names_no_known_lead_waits_for_an_operator,
    what_comes_to_a_wrong_path_is_kept_and_may_be_an_opt_out,
    a_large_post_that_cannot_be_read_holds_up_no_opt_out,
);

fn started(engine: Engine, endpoint: &StandIn, leads: u32) -> (Scene, Receiver) {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), leads);
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    wait_until("all leads are sent", SOON, || (1..=leads).all(|id| !endpoint.bodies_of(&id.to_string()).is_empty()));
    (scene, receiver)
}

fn is_told(endpoint: &StandIn, id: usize) -> bool {
    endpoint.bodies_of(&id.to_string()).last().is_some_and(|body| body["optOut"] == true)
}

/// Waits until Conversica has the opt-outs of all these leads, each because of the named post.
fn expect_told(endpoint: &StandIn, posts: &[(usize, String)]) {
    for (id, post) in posts {
        wait_until(&format!("the opt-out of lead {id} is told, after {post}"), SOON, || is_told(endpoint, *id));
    }
}

fn stops_in_words_that_are_not_published_are_told_to_conversica(engine: Engine) {
    let said = [
        r#""conversationStage":"Lead Stopped (Unsubscribed)""#,
        r#""conversationStage":"Stopped by Lead""#,
        r#""conversationStatus":"SMS Opt Out""#,
        r#""conversationStatus":"Customer Requested Stop""#,
        r#""conversationStatus":"Text STOP received""#,
        r#""conversationStatus":"Spam Complaint""#,
        r#""leadStatus":"Lead unsubscribed from emails""#,
        r#""leadStatus":"Do Not Text""#,
        r#""hasOptedOutOfEmail":true"#,
        r#""is_unsubscribed":"Y""#,
        r#""stopMessaging":true"#,
        r#""doNotCall":1"#,
        r#""dnc":true"#,
        r#""smsOptOutDate":"2026-11-27T00:00:00Z""#,
        r#""emailOptIn":false"#,
        r#""consent":{"email":false}"#,
        r#""emailConsent":"revoked""#,
    ];
    let ordinary = [
        r#""conversationStage":"Client Stopped","conversationStatus":"Sales Rep Stopped""#,
        r#""leadStatus":"Stopped by the system: conversation finished""#,
        r#""optOutDate":null,"optedOut":false,"emailOptIn":true,"unsubscribeLink":"https://a.example/unsubscribe?id=1""#,
        r#""leadStatus":"Will stop by tomorrow","repName":"Stop Gap""#,
    ];
    let leads = said.len() + ordinary.len() + 1;
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, u32::try_from(leads).expect("few"));
    let mut posts = Vec::new();
    for (id, said) in (1..).zip(said.iter().chain(&ordinary)) {
        let body = format!(r#"{{"id":"{id}",{said}}}"#);
        assert_eq!(receiver.post("/conversica/lead", &body).status, 200, "{body}");
        posts.push((id, body));
    }
    let message =
        json!({"id": leads.to_string(), "action": "unsubscribed", "date": "2026-11-20T00:00:00Z", "body": "x"});
    assert_eq!(receiver.post("/conversica/message", message.to_string()).status, 200);
    let ordinary = posts.split_off(said.len());
    posts.push((leads, message.to_string()));
    expect_told(&endpoint, &posts);
    receiver.end();
    for (id, body) in &ordinary {
        assert!(!is_told(&endpoint, *id), "{body}");
    }
    let status = scene.run(&["status", "--json"]);
    assert_eq!(status.code, Some(4), "{status}");
    assert_eq!(status.json()["received"]["possible_opt_outs"], json!(posts.len()), "{status}");
}

fn compressed(text: &str) -> [Vec<u8>; 2] {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).and_then(|()| zlib.write_all(text.as_bytes())).expect("it is written to memory");
    [gzip.finish().expect("bytes"), zlib.finish().expect("bytes")]
}

fn stops_in_any_encoding_are_told_to_conversica(engine: Engine) {
    type Encoding = fn(&str) -> Vec<u8>;
    let post = |id: &str| format!(r#"{{"id":"{id}","doNotEmail":true,"leadStatus":"Hot Lead"}}"#);
    // Readable, and answered 200.
    let read: [(&str, Encoding); 4] = [
        ("gzip", |post| compressed(post)[0].clone()),
        ("deflate", |post| compressed(post)[1].clone()),
        ("UTF-32", |post| post.chars().flat_map(|c| (c as u32).to_le_bytes()).collect()),
        ("UTF-16 that lost a byte", |post| {
            let mut bytes: Vec<u8> = post.encode_utf16().flat_map(u16::to_le_bytes).collect();
            bytes.remove(21);
            [b"\xff\xfe".as_slice(), &bytes].concat()
        }),
    ];
    // Kept, and answered with an error.
    let unreadable: [(&str, Encoding); 12] = [
        ("base64", |post| STANDARD.encode(post).into_bytes()),
        ("a form twice", |post| {
            let once: String = post.bytes().map(|byte| format!("%{byte:02X}")).collect();
            format!("payload={}", once.replace('%', "%25")).into_bytes()
        }),
        ("smart quotes", |post| post.replace('"', "\u{201d}").into_bytes()),
        ("entities", |post| post.replace('"', "&#x22;").into_bytes()),
        ("XML", |post| {
            format!("<lead><id><![CDATA[{}]]></id><doNotEmail>true</doNotEmail></lead>", id_of(post)).into_bytes()
        }),
        ("a table", |post| format!("id,doNotEmail\n{},true\n", id_of(post)).into_bytes()),
        ("id as an object", |post| format!(r#"{{"id":{{"value":"{}"}},"doNotEmail":true}}"#, id_of(post)).into_bytes()),
        ("id as a float", |post| format!(r#"{{"id":{}e0,"doNotEmail":true}}"#, id_of(post)).into_bytes()),
        ("sourceId", |post| post.replace("\"id\"", "\"sourceId\"").into_bytes()),
        ("externalId", |post| post.replace("\"id\"", "\"externalId\"").into_bytes()),
        ("an e-mail address", |post| {
            format!(r#"{{"email":"Ann{}@example.com","doNotEmail":true}}"#, id_of(post)).into_bytes()
        }),
        ("beyond max_body", |post| {
            post.replace("\"doNotEmail\"", &format!("\"history\":\"{}\",\"doNotEmail\"", "x".repeat(1 << 20)))
                .into_bytes()
        }),
    ];
    let leads = read.len() + unreadable.len();
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, u32::try_from(leads).expect("few"));
    let mut posts = Vec::new();
    for (id, (name, encode)) in (1..).zip(read.iter().chain(&unreadable)) {
        let answer = receiver.post("/conversica/lead", encode(&post(&id.to_string())));
        let is_read = id <= read.len();
        assert_eq!(answer.status == 200, is_read, "{name}: {answer:?}");
        posts.push((id, (*name).to_owned()));
    }
    expect_told(&endpoint, &posts);
    receiver.end();
    let status = scene.run(&["status", "--json"]);
    assert_eq!(status.code, Some(4), "{status}");
    let received = &status.json()["received"];
    let expected = (json!(unreadable.len()), json!(unreadable.len()));
    assert_eq!((&received["unreadable"], &received["possible_opt_outs"]), (&expected.0, &expected.1), "{received}");
    let heard = scene.run(&["lead", "1", "--json"]).json();
    assert_eq!(heard["heard"][0]["notes"], json!(["the body was decompressed"]), "{heard:#}");
}

fn id_of(post: &str) -> &str {
    post.split('"').nth(3).expect("an id")
}

fn a_stop_that_names_no_known_lead_waits_for_an_operator(engine: Engine) {
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, 1);
    let noise: Vec<u8> = (0_u32..400).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let bodies: [&[u8]; 4] = [
        br#"{"doNotEmail":true}"#,
        br#"{"email":"stranger@example.com","unsubscribed":true}"#,
        br#"{"id":"4711","doNotEmail":true,"leadStatus":"cut"#,
        &noise,
    ];
    for body in bodies {
        assert_eq!(receiver.post("/conversica/lead", body).status, 400, "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(receiver.post("/conversica/lead", r#"{"leadStatus":"Hot Lead"}"#).status, 400);
    wait_until("all posts are searched", SOON, || {
        scene.state("select seq || '' from event where problem is not null and examined_at is null").is_empty()
    });
    receiver.end();
    let status = scene.run(&["status", "--json"]);
    assert_eq!((status.code, &status.json()["received"]["possible_opt_outs"]), (Some(4), &json!(4)), "{status}");
    scene.run(&["received", "confirm", "1"]).expect_code(2);
    scene.run(&["received", "dismiss", "1", "2", "3", "4"]).expect_code(0);
    let status = scene.run(&["status", "--json"]);
    assert_eq!((status.code, &status.json()["received"]["possible_opt_outs"]), (Some(0), &json!(0)), "{status}");
}

fn what_comes_to_a_wrong_path_is_kept_and_may_be_an_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, 5);
    let ask = |method: &str, path: &str, authorization: Option<&str>, id: usize| {
        let body = format!(r#"{{"id":"{id}","doNotEmail":true}}"#);
        receiver.ask(&request(method, path, authorization, body.as_bytes())).status
    };
    let right = basic(USERNAME, PASSWORD);
    assert_eq!(ask("POST", "//conversica//lead", Some(&right), 1), 200);
    assert_eq!(ask("POST", "/conversica/leads", Some(&right), 2), 404);
    assert_eq!(ask("PUT", "/conversica/lead", Some(&right), 3), 405);
    // A request without credentials leaves no data.
    assert_eq!(ask("POST", "/conversica/leads", None, 4), 404);
    assert_eq!(ask("PUT", "/conversica/lead", Some(&basic(USERNAME, "wrong")), 5), 405);
    expect_told(&endpoint, &[(1, "//".to_owned()), (2, "leads".to_owned()), (3, "PUT".to_owned())]);
    receiver.end();
    assert!(!is_told(&endpoint, 4) && !is_told(&endpoint, 5));
    let listed = scene.run(&["received", "--unreadable", "--json"]).json();
    let problems: Vec<&str> =
        listed["received"].as_array().expect("a list").iter().filter_map(|post| post["problem"].as_str()).collect();
    assert_eq!(problems, ["It came with another method than POST", "It came to a path that nothing is posted to"]);
}

fn a_large_post_that_cannot_be_read_holds_up_no_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let (scene, receiver) = started(engine, &endpoint, 4);
    for (id, piece) in [(1, "liametonod,"), (2, "\"liametonod\":\"x\","), (3, "<p>lead stopping here</p>")] {
        let junk = format!(r#"{{"id":"9","h":"{}"#, piece.repeat(1_000_000 / piece.len()));
        assert_eq!(receiver.post("/conversica/lead", junk).status, 400, "{piece}");
        let update = format!(r#"{{"id":"{id}","doNotEmail":true}}"#);
        assert_eq!(receiver.post("/conversica/lead", update).status, 200);
        wait_until("the opt-out behind it is told", SOON, || is_told(&endpoint, id));
    }
    wait_until("all posts are searched", SOON, || {
        scene.state("select seq || '' from event where problem is not null and examined_at is null").is_empty()
    });
    receiver.end();
    assert_eq!(scene.state("select seq || '' from event where applied_at is not null").len(), 3);
    assert!(!is_told(&endpoint, 4));
}
