//! `health`: one request to the daemon, one line, and an exit code for a container's health check.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::binary::{Cli, Output};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_for;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(20);

/// A free port: another process could still take it.
fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}

#[track_caller]
fn asked(cli: &Cli, arguments: &[&str]) -> Output {
    let output = cli.run(&[&["health"], arguments].concat());
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.code == Some(2) || said.lines().count() == 1, "one line: {output}");
    output
}

#[test]
fn a_daemon_that_runs_is_healthy_and_one_that_stands_still_or_has_ended_is_not() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    // The server listens on all addresses, and `health` asks it on this machine.
    let listen = format!("0.0.0.0:{}", free_port());
    scene.set_text("admin", "listen", &listen).set_text("admin", "token", "a long random text for nobody");
    let watched = Watched::start(&scene);
    let cli = scene.cli();
    assert_eq!(asked(&cli, &[]).expect_code(0).stdout, "healthy\n");
    watched.wait_until_ready();
    assert_eq!(asked(&cli, &["--ready"]).expect_code(0).stdout, "ready\n");

    watched.daemon.signal(Signal::Stop);
    let start = Instant::now();
    let silent = asked(&cli, &[]).expect_code(1);
    assert!(silent.stderr.contains("no answer within 5 s"), "{silent}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    watched.daemon.signal(Signal::Continue);
    watched.end();

    let gone = asked(&cli, &[]).expect_code(1);
    assert!(gone.stderr.starts_with("error: not healthy: 127.0.0.1:") && gone.stderr.contains("run"), "{gone}");
}

#[test]
fn a_halt_is_healthy_and_not_ready_with_its_cure_and_a_hold_is_both() {
    let refusing = StandIn::start(|_| Reaction::status(401));
    let mut scene = Scene::new(&refusing.url(), 1);
    let listen = format!("127.0.0.1:{}", free_port());
    scene.set_text("admin", "listen", &listen);
    let watched = Watched::start(&scene);
    watched.wait_until_not_ready("halted");
    asked(&scene.cli(), &[]).expect_code(0);
    let halted = asked(&scene.cli(), &["--ready"]).expect_code(1);
    assert!(halted.stderr.contains("not ready: halted, credentials (cure: "), "{halted}");
    watched.end();

    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("admin", "listen", &format!("127.0.0.1:{}", free_port())).set("safety", "first_run", "");
    let watched = Watched::start(&scene);
    let held = wait_for("the hold", SOON, || {
        let output = scene.cli().run(&["health", "--ready"]);
        output.stdout.contains("held").then_some(output)
    });
    assert_eq!(held.expect_code(0).stdout, "ready; held (first_run): 3 leads wait for approval\n");
    watched.end();
}

#[test]
fn whoever_else_answers_there_is_not_the_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        "SSH-2.0\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            stream.write_all(answer.as_bytes()).expect("it reads");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let output = asked(&Cli::new(directory.path()), &["--address", &address]).expect_code(1);
        assert!(output.stderr.contains("not healthy"), "{output}");
        server.join().expect("it served one");
    }
}

#[test]
fn a_port_that_is_picked_anew_cannot_be_asked_and_the_cure_says_so() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let refused = asked(&scene.cli(), &[]).expect_code(2);
    assert!(refused.stderr.contains("port 0") && refused.stderr.contains("--address"), "{refused}");
}
