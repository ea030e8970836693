//! The receiver from Conversica's side: paths, credentials, TLS, and the answers to each request.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::receiver::{
    PASSWORD, PERSONAL, Receiver, USERNAME, basic, connect, discreet, receiving_at, request, with_receiver,
};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);
const CHAT: &str =
    r#"{"firstName":"Ann","lastName":"Lee","email":"quackenbush@planted.example","conversationHistory":[]}"#;

fn message(id: &str) -> String {
    format!(
        r#"{{"apiVersion":"7.2","id":"{id}","clientId":"c","action":"sent","date":"2026-05-10T05:57:44+00:00","subject":"Hi","body":"To {PERSONAL}"}}"#
    )
}

fn update(id: &str) -> String {
    format!(r#"{{"apiVersion":"7.2","id":"{id}","clientId":"c","discoveredEmail1":"{PERSONAL}"}}"#)
}

/// A certificate for localhost, with its key, in two files of the scene.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(scene: &Scene, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let pair = Self {
            certificate: scene.directory().join(format!("{name}.crt")),
            key: scene.directory().join(format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, made.cert.pem()).expect("a file");
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("a file");
        pair
    }

    fn replaces(&self, old: &Pair) {
        std::fs::copy(&self.key, &old.key).expect("a copy");
        std::fs::copy(&self.certificate, &old.certificate).expect("a copy");
    }
}

fn tls_scene(endpoint: &str) -> (Scene, Pair) {
    let mut scene = Scene::new(endpoint, 1);
    let pair = Pair::new(&scene, "current");
    let path = |path: &Path| path.display().to_string();
    let (certificate, key) = (path(&pair.certificate), path(&pair.key));
    with_receiver(&mut scene).set_text("receive", "tls_certificate", &certificate).set_text("receive", "tls_key", &key);
    (scene, pair)
}

/// The answer that curl gets when it trusts only that certificate: its exit code, the body, and the status.
fn curl(trusted: &Path, address: &str, path: &str, arguments: &[&str]) -> (i32, String, String) {
    let port = address.rsplit(':').next().expect("a port");
    let mut command = Command::new("curl");
    command.args(["--silent", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}", "--cacert"]);
    command.arg(trusted).args(arguments).arg(format!("https://localhost:{port}{path}"));
    let output = command.output().expect("curl is installed");
    let text = String::from_utf8(output.stdout).expect("a text");
    let (body, status) = text.rsplit_once('\n').expect("a body and a status");
    (output.status.code().expect("an exit code"), body.to_owned(), status.to_owned())
}

fn shows(pair: &Path, address: &str) -> bool {
    let user = format!("{USERNAME}:{PASSWORD}");
    curl(pair, address, "/conversica/lead", &["--user", &user, "--data", &update("1")]).0 == 0
}

#[test]
fn curl_posts_each_kind_over_tls_to_every_path_that_is_published() {
    let endpoint = StandIn::accepting();
    let (scene, pair) = tls_scene(&endpoint.url());
    let mut daemon = scene.cli().spawn(&["run"]);
    let address = receiving_at(&mut daemon, true);
    // A client that connects without a handshake blocks no other client.
    let _silent = connect(&address);
    let user = format!("{USERNAME}:{PASSWORD}");
    let post = |path: &str, arguments: &[&str]| {
        let (code, body, status) = curl(&pair.certificate, &address, path, arguments);
        assert_eq!(code, 0, "{path}: {body}");
        (status, body)
    };
    let received = ("200".to_owned(), r#"{"status":"200","message":"Received"}"#.to_owned());
    for (n, path) in ["/conversica/", "/conversica"].into_iter().enumerate() {
        let names = if n == 0 { ["lead", "message", "create"] } else { ["Lead", "Message", "Create"] };
        for (name, body) in names.into_iter().zip([update("1"), message("1"), CHAT.to_owned()]) {
            for slash in ["", "/"] {
                let path = format!("{path}{name}{slash}");
                assert_eq!(post(&path, &["--user", &user, "--data", &body]), received, "{path}");
            }
        }
    }
    let refused = post("/conversica/create", &["--user", &user, "--data", r#"{"firstName":"Ann","lastName":"Lee"}"#]);
    assert_eq!(refused.0, "400");
    assert_eq!(refused.1, r#"{"status":"400","message":"Missing required field: email"}"#);
    for (arguments, path, status) in [
        (vec!["--user", "conversica:wrong", "--data", "{}"], "/conversica/lead", "401"),
        (vec!["--data", "{}"], "/conversica/lead", "401"),
        (vec!["--user", &user], "/conversica/lead", "405"),
        (vec!["--user", &user, "--data", "{}"], "/conversica/leads", "404"),
    ] {
        let told = post(path, &arguments);
        let in_words = if status == "401" { "401" } else { "400" };
        assert_eq!(told.0, status);
        assert!(told.1.starts_with(&format!(r#"{{"status":"{in_words}","message":"#)), "{told:?}");
    }
    assert_eq!(
        scene.state("select kind || ' ' || (repeats + 1) from event where problem is null order by kind"),
        ["chat_lead 4", "lead_update 4", "message 4"]
    );
    daemon.signal(Signal::Terminate);
    discreet(daemon.wait(SOON).expect_code(0).stderr);
}

#[test]
fn a_certificate_that_is_replaced_is_shown_and_a_broken_one_is_not() {
    let endpoint = StandIn::accepting();
    let (scene, current) = tls_scene(&endpoint.url());
    let mut daemon = scene.cli().spawn(&["run"]);
    let address = receiving_at(&mut daemon, true);
    let (first, second, third) = (Pair::new(&scene, "first"), Pair::new(&scene, "second"), Pair::new(&scene, "third"));
    first.replaces(&current);
    wait_until("the first is shown", SOON, || shows(&first.certificate, &address));
    std::fs::write(&current.key, "no key at all").expect("a file");
    let line = daemon.wait_for_line("new certificate cannot be used", SOON);
    assert!(line.contains("current.key") && line.contains("holds no private key") && line.contains("cure"), "{line}");
    assert!(shows(&first.certificate, &address));
    daemon.signal(Signal::Hangup);
    wait_until("the word that was asked for", SOON, || {
        daemon.stderr().matches("new certificate cannot be used").count() == 2
    });
    assert!(shows(&first.certificate, &address), "and is alive");
    second.replaces(&current);
    daemon.signal(Signal::Hangup);
    wait_until("the second is shown", SOON, || shows(&second.certificate, &address));
    // The key of one pair with the certificate of the other.
    std::fs::copy(&third.certificate, &current.certificate).expect("a copy");
    daemon.wait_for_line("is not the key of the certificate", SOON);
    assert!(shows(&second.certificate, &address) && !shows(&third.certificate, &address));
    std::fs::copy(&third.key, &current.key).expect("a copy");
    wait_until("the third is shown", SOON, || shows(&third.certificate, &address));
    daemon.signal(Signal::Terminate);
    let log = daemon.wait(SOON).expect_code(0).stderr;
    assert_eq!(log.matches("is not the key of the certificate").count(), 1, "{log}");
}

#[test]
fn a_certificate_that_cannot_be_shown_ends_the_start_before_anything_is_sent() {
    let endpoint = StandIn::accepting();
    let (scene, pair) = tls_scene(&endpoint.url());
    let other = Pair::new(&scene, "other");
    let good = std::fs::read(&pair.key).expect("a file");
    let refused = |words: &[&str]| {
        for command in [["run"].as_slice(), &["check"]] {
            let output = scene.run(command).expect_code(2);
            let said = format!("{}{}", output.stdout, output.stderr);
            words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in: {said}"));
            assert!(said.contains("cure: "), "{said}");
        }
    };
    std::fs::copy(&other.key, &pair.key).expect("a copy");
    refused(&["[receive] tls_key", "current.key", "is not the key of the certificate", "current.crt"]);
    std::fs::write(&pair.key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").expect("a file");
    refused(&["[receive] tls_", "current.key", "cannot be used"]);
    std::fs::remove_file(&pair.key).expect("it is there");
    refused(&["[receive] tls_key", "current.key", "it does not exist"]);
    std::fs::write(&pair.key, good).expect("a file");
    std::fs::write(&pair.certificate, "not PEM").expect("a file");
    refused(&["[receive] tls_certificate", "current.crt", "holds no certificate in PEM form"]);
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_path_of_ones_own_takes_the_place_of_the_published_ones() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    with_receiver(&mut scene).set_text("receive", "lead_update_path", "/hooks/lead");
    scene.set_text("receive", "message_path", "/m/");
    let receiver = Receiver::start(&scene);
    for (path, body, status) in [
        ("/hooks/lead", update("1"), 200),
        ("/hooks/lead/", update("1"), 200),
        ("/m", message("1"), 200),
        ("/m/", message("1"), 200),
        ("/conversica/create", CHAT.to_owned(), 200),
        ("/conversicaCreate/", CHAT.to_owned(), 200),
        ("/conversica/lead", update("2"), 404),
        ("/conversicaMessage", message("2"), 404),
        ("/", "{}".to_owned(), 404),
        // Some proxies double the slash.
        ("//m", message("2"), 200),
        ("/mm", message("2"), 404),
    ] {
        assert_eq!(receiver.post(path, body).status, status, "{path}");
    }
    receiver.end();
}

#[test]
fn failures_to_authenticate_are_slowed_and_limited_and_nobody_is_locked_out() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    with_receiver(&mut scene).set("receive", "behind_proxy", "true");
    let receiver = Receiver::start(&scene);
    let try_as = |from: &str, authorization: Option<&str>| {
        let line = format!("X-Forwarded-For: {from}\r\n{}", authorization.unwrap_or("X-None: 1"));
        receiver.ask(&request("POST", "/conversica/lead", Some(&line), update("1").as_bytes()))
    };
    let wrong = [
        None,
        Some(basic(USERNAME, "wrong")),
        Some(basic("other", PASSWORD)),
        Some("Authorization: Basic bm9jb2xvbg==".to_owned()),
        Some("Authorization: Basic !!!".to_owned()),
        Some("Authorization: Bearer abc".to_owned()),
        Some(format!("Authorization: Basic {}", "A".repeat(8000))),
    ];
    // At the same time: slowing one must not slow the others.
    std::thread::scope(|scope| {
        for wrong in &wrong {
            scope.spawn(|| {
                let answer = try_as("198.51.100.7", wrong.as_deref());
                assert_eq!((answer.status, answer.told().0.as_str()), (401, "401"), "{answer:?}");
                assert!(answer.head.contains("www-authenticate: basic"), "{answer:?}");
            });
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| try_as("192.0.2.1, 198.51.100.7", None));
        }
    });
    let answer = try_as("198.51.100.7", Some(&basic(USERNAME, "wrong again")));
    assert_eq!((answer.status, answer.told().0.as_str()), (429, "400"), "{answer:?}");
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    assert_eq!(try_as("203.0.113.9", None).status, 401, "another address");
    assert_eq!(try_as("198.51.100.7", Some(&basic(USERNAME, PASSWORD))).status, 200, "right credentials are let in");
    assert_eq!(scene.state("select (repeats + 1) || '' from event"), ["1"], "nothing of the others is kept");
    let log = receiver.end();
    assert_eq!(log.matches("without the right credentials").count(), 2, "{log}");
    assert!(log.contains("198.51.100.7") && !log.contains("192.0.2.1"), "{log}");
}

#[test]
fn check_says_how_the_receiver_stands() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let said = |scene: &Scene, words: &[&str]| {
        let output = scene.run(&["check"]).expect_code(0).stdout;
        let line = output.lines().filter(|line| line.contains("receiver")).collect::<Vec<_>>().join("\n");
        words.iter().for_each(|word| assert!(line.contains(word), "`{word}` is not in: {output}"));
    };
    said(&scene, &["no [receive]"]);
    with_receiver(&mut scene);
    said(&scene, &["ok", "can be listened on, without TLS, on this machine only"]);
    scene.set_text("receive", "password", "swordfish");
    said(&scene, &["look", "fewer than 12 characters"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    scene.set_text("receive", "listen", &taken.local_addr().expect("an address").to_string());
    said(&scene, &["look", "is in use: by `conversica-sync run`"]);
    let (scene, _pair) = tls_scene(&endpoint.url());
    said(&scene, &["ok", "with TLS; certificate and key match"]);
}

#[test]
fn an_address_that_is_taken_stops_no_delivery_and_is_taken_over_once_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    with_receiver(&mut scene).set_text("receive", "listen", &address);
    let mut daemon = scene.daemon();
    let line = daemon.wait_for_line("the receiver cannot listen", SOON);
    assert!(line.contains("\"ERROR\"") && line.contains("[receive] listen") && line.contains(&address), "{line}");
    endpoint.wait_for_requests(3, SOON);
    drop(taken);
    assert_eq!(receiving_at(&mut daemon, false), address);
    daemon.signal(Signal::Terminate);
    let output = daemon.wait(SOON).expect_code(0);
    assert_eq!(output.stderr.matches("cannot listen").count(), 1, "{output}");
}
