//! The messages to systemd: a real socket, the real program.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::binary::{Cli, Running};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);

/// systemd's end of the socket, and all messages on it.
struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Listener {
    fn of(scene: &Scene) -> Self {
        let path = scene.directory().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket, path, heard: Vec::new() }
    }

    /// As a unit with `WatchdogSec=400ms`.
    fn start(&self, cli: &Cli) -> Running {
        let cli = cli.clone().env("NOTIFY_SOCKET", &self.path.display().to_string());
        cli.env("WATCHDOG_USEC", "400000").spawn(&["run"])
    }

    fn count(&mut self, line: &str) -> usize {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        self.heard.iter().filter(|heard| heard.starts_with(line)).count()
    }

    #[track_caller]
    fn wait_for(&mut self, line: &str, times: usize) {
        wait_until(&format!("{line} {times} times"), SOON, || self.count(line) >= times);
    }
}

#[test]
fn a_start_signs_of_life_how_things_stand_and_a_stop_are_told() {
    let endpoint =
        StandIn::start(|request| Reaction::status(if request.id.as_deref() == Some("2") { 400 } else { 200 }));
    let scene = Scene::new(&endpoint.url(), 3);
    let mut systemd = Listener::of(&scene);
    let mut daemon = systemd.start(&scene.cli());
    systemd.wait_for("READY=1", 1);
    daemon.wait_for_line("\"message\":\"running\"", SOON);
    systemd.wait_for("WATCHDOG=1", 3);
    systemd.wait_for("STATUS=leads in step: 2; to be sent: 0; for a person: 1", 1);
    assert_eq!(systemd.count("STOPPING=1"), 0);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
    assert_eq!((systemd.count("STOPPING=1") > 0, systemd.count("READY=1")), (true, 1));
    let personal = systemd.heard.iter().find(|line| line.contains("Ann") || line.contains('@'));
    assert_eq!(personal, None, "counts only");
}

#[test]
fn a_service_that_waits_for_a_database_has_started_and_is_alive() {
    let away = "postgres://postgres@127.0.0.1:9/none";
    for (section, said) in [("source", "the source is away"), ("state", "the state is away")] {
        let mut scene = Scene::new("http://127.0.0.1:9/json/", 0);
        scene.set_text(section, "url", away);
        let mut systemd = Listener::of(&scene);
        let mut daemon = systemd.start(&scene.cli());
        daemon.wait_for_line(said, SOON);
        systemd.wait_for("READY=1", 1);
        systemd.wait_for("WATCHDOG=1", 2);
        daemon.signal(Signal::Terminate);
        daemon.wait(SOON).expect_code(0);
    }
}
