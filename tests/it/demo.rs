//! `demo` and `sandbox`: a new user tries them first, so they have to work at once and leave no files behind.

use std::path::Path;
use std::time::Duration;

use crate::support::binary::Cli;
use crate::support::scene::Scene;
use crate::support::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("the directory is there").count() == 0
}

#[test]
fn the_demo_delivers_says_so_and_removes_what_it_made() {
    let (directory, temporary) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let cli = Cli::new(directory.path()).env("TMPDIR", temporary.path().to_str().expect("a path in UTF-8"));
    let output = cli.deadline(PATIENCE).run(&["demo", "--once"]).expect_code(0);
    for said in [
        "First pass: 293 leads delivered",
        "7 invalid",
        "there and back again",
        "Hot Lead",
        "Messages came home",
        "updates arrived",
        "nothing is left behind",
    ] {
        assert!(output.stdout.contains(said), "{said}: {output}");
    }
    assert!(is_empty(temporary.path()) && is_empty(directory.path()), "{output}");
}

#[test]
fn a_signal_ends_the_demo_cleanly() {
    for signal in [Signal::Interrupt, Signal::Terminate] {
        let (directory, temporary) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let cli = Cli::new(directory.path()).env("TMPDIR", temporary.path().to_str().expect("a path in UTF-8"));
        let mut demo = cli.spawn(&["demo"]);
        demo.wait_for_line("First pass", PATIENCE);
        assert!(!is_empty(temporary.path()));
        demo.signal(signal);
        let output = demo.wait(SOON).expect_code(0);
        assert!(is_empty(temporary.path()) && is_empty(directory.path()), "{output}");
    }
}

#[test]
fn a_signal_in_the_first_moments_of_the_demo_leaves_nothing_behind_either() {
    let (directory, temporary) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let cli = Cli::new(directory.path()).env("TMPDIR", temporary.path().to_str().expect("a path in UTF-8"));
    let mut demo = cli.spawn(&["demo"]);
    demo.wait_for_line("A sample CRM", PATIENCE);
    demo.signal(Signal::Interrupt);
    let output = demo.wait(SOON).expect_code(0);
    assert!(is_empty(temporary.path()) && is_empty(directory.path()), "{output}");
}

#[test]
fn the_sandbox_prints_its_endpoint_takes_leads_and_ends_at_a_signal() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sandbox = Cli::new(directory.path()).spawn(&["sandbox", "--listen", "127.0.0.1:0"]);
        let line = sandbox.wait_for_line("endpoint = ", SOON);
        let endpoint = line.trim_start_matches("endpoint = ").trim_matches('"');
        let mut scene = Scene::new(endpoint, 3);
        scene.set_text("conversica", "username", "sandbox").set_text("conversica", "password", "sandbox");
        // The sandbox's password is no secret and part of many words, so the scene's `run`, which searches for it, does
        // not fit.
        scene.cli().run(&["once"]).expect_code(0);
        sandbox.signal(signal);
        let output = sandbox.wait(SOON).expect_code(0);
        assert!(output.stdout.contains("sandbox stopped") && output.stdout.contains("3 leads"), "{output}");
        assert!(is_empty(directory.path()));
    }
}

#[test]
fn a_sandbox_at_a_taken_port_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let output = Cli::new(directory.path()).run(&["sandbox", "--listen", &address]).expect_code(1);
    assert!(output.stderr.contains(&address) && output.stderr.contains("choose another address"), "{output}");
}
