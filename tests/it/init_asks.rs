//! `init` on a terminal: its questions and their order, and that Escape writes nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);

/// The program on a terminal.
struct Session {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Session {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
        let size = Winsize { ws_row: 50, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).expect("a size");
        let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("in ASCII");
        let side = || File::options().read(true).write(true).open(&name).expect("the other side opens");
        let mut command = Command::new(env!("CARGO_BIN_EXE_conversica-sync"));
        command.args(arguments).current_dir(scene.directory()).env("NO_COLOR", "1").env("TERM", "xterm");
        command.env_remove("CONVERSICA_SYNC__SOURCE__URL").env_remove("PGPASSWORD");
        command.stdin(Stdio::from(side())).stdout(Stdio::from(side())).stderr(Stdio::from(side()));
        let child = command.spawn().expect("cargo has built the binary");
        let keyboard = File::from(terminal);
        let mut reader = keyboard.try_clone().expect("one more handle");
        let screen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once the other side is closed.
            while let Ok(read) = reader.read(&mut bytes) {
                sink.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, keyboard, screen }
    }

    fn seen(&self) -> String {
        self.screen.lock().expect("nobody panics with it").clone()
    }

    /// Waits for a question, and types the keys.
    #[track_caller]
    fn answer(&mut self, question: &str, keys: &str) {
        self.wait_for(question);
        self.keyboard.write_all(keys.as_bytes()).expect("the program reads");
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait_until(&format!("`{text}` on the screen: {}", "see below"), DEADLINE, || self.seen().contains(text));
    }

    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        wait_until("the program ends", DEADLINE, || self.child.try_wait().expect("it is ours").is_some());
        let status = self.child.wait().expect("it is ours");
        wait_until("the last words", DEADLINE, || {
            self.seen().contains("Written:") || self.seen().contains("Nothing was written") || !status.success()
        });
        (status, self.seen())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("on the screen:\n{}", self.seen());
        }
    }
}

const TABLES: &str = "create table leads (id integer primary key, first_name varchar(9), email varchar(40), newsletter_ok integer);\n\
                      insert into leads values (1, 'Annabel', 'ann@example.net', 1), (2, 'Bo', 'bo@example.net', 0);\n";

fn a_handful_of_questions_makes_a_configuration(engine: Engine) {
    let scene = crms::scene(engine, TABLES);
    let mut session = Session::start(&scene, &["init"]);
    session.answer("Where is the CRM database?", &format!("{}\r", scene.crm_store().url()));
    session.answer("Which table holds the leads?", "\r");
    session.answer("\"newsletter_ok\" says who agreed", "\u{1b}[B\r");
    session.answer("No column says where leads come from", "\r");
    session.answer("No column names the sales representative", "Rae Rep\r");
    session.answer("What is the conversation's name?", "Inbound Leads\r");
    session.answer("What is your Conversica user name?", "acme-api\r");
    session.answer("Write conversica-sync.toml?", "\r");
    let (status, screen) = session.end();
    assert!(status.success(), "{screen}");
    assert!(
        screen.contains("Annabel") && screen.contains("2 would make a valid lead"),
        "one's own terminal shows a real row: {screen}"
    );
    assert!(!screen.to_lowercase().contains("password?"), "{screen}");
    let text = std::fs::read_to_string(scene.directory().join("conversica-sync.toml")).expect("it is written");
    for line in [
        "leadSource = { value = \"Website\" }",
        "repName = { value = \"Rae Rep\" }",
        "optOut = { column = \"newsletter_ok\"",
        "username = \"acme-api\"",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let cli = crate::support::binary::Cli::new(scene.directory())
        .env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "correct horse");
    let plan = cli.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!(plan["leads"][1]["changes"]["optOut"][1], true, "{plan:#}");
}

fn what_is_given_is_not_asked_and_escape_writes_nothing(engine: Engine) {
    let scene = crms::scene(engine, TABLES);
    let url = scene.crm_store().url();
    let given = ["init", "--url", &url, "--table", "leads", "--map", "optOut=!newsletter_ok", "--value", "repName=Rae"];
    let mut session = Session::start(&scene, &given);
    session.answer("No column says where leads come from", "\u{1b}");
    let (status, screen) = session.end();
    assert_eq!(status.code(), Some(4), "{screen}");
    assert!(screen.contains("Nothing was written."), "{screen}");
    assert!(!screen.contains("Which table") && !screen.contains("newsletter_ok"), "{screen}");
    assert!(!scene.directory().join("conversica-sync.toml").exists());
}

/// The default answer is no.
fn what_makes_no_lead_is_written_only_if_confirmed(engine: Engine) {
    for (keys, is_written) in [("\r", false), ("y\r", true)] {
        let scene = crms::scene(engine, &TABLES.replace("ann@example.net", "none").replace("bo@example.net", "none"));
        let url = scene.crm_store().url();
        let texts = [
            "--value",
            "repName=Rae",
            "--value",
            "leadSource=Web",
            "--conversation",
            "Inbound Leads",
            "--username",
            "acme-api",
        ];
        let given =
            [&["init", "--url", &url, "--table", "leads", "--map", "optOut=!newsletter_ok"], &texts[..]].concat();
        let mut session = Session::start(&scene, &given);
        session.answer("No row makes a valid lead. Write", keys);
        let (status, screen) = session.end();
        assert_eq!(status.code(), Some(if is_written { 3 } else { 4 }), "{screen}");
        assert!(screen.contains("NO ROW MAKES A VALID LEAD") && !screen.contains("Written:"), "{screen}");
        assert_eq!(scene.directory().join("conversica-sync.toml").exists(), is_written, "{screen}");
    }
}

blocking_on_both_engines!(
    what_makes_no_lead_is_written_only_if_confirmed,
    a_handful_of_questions_makes_a_configuration,
    what_is_given_is_not_asked_and_escape_writes_nothing,
);
