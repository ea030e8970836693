//! Colours and bars appear on a terminal only: not in pipes, not on a terminal without support, not for people who turn
//! them off.

use crate::support::binary::{Cli, Output};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

const ESCAPE: char = '\u{1b}';
/// Counts the escape sequences that set a colour or another text style.
fn colours(text: &str) -> usize {
    let ends = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m');
    text.split("\u{1b}[").skip(1).filter(|rest| ends(rest)).count()
}

/// Runs the command on its own terminal.
fn on_terminal(cli: Cli) -> Cli {
    cli.launched_by(r#"exec script --quiet --return --command "$*" /dev/null"#)
}

fn scene(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 3);
    // With an invalid row every command has output.
    scene.crm("update leads set email = 'nobody' where id = 3");
    scene.set_text("log", "format", "pretty");
    scene
}

/// Help, mistakes, tables, lists, logs for people.
const COMMANDS: [&[&str]; 9] = [
    &["--help"],
    &["plan", "--help"],
    &["plan", "--nonsense"],
    &["check"],
    &["once", "--full"],
    &["status"],
    &["leads"],
    &["lead", "3"],
    &["config", "show"],
];

fn each(cli: &Cli) -> Vec<(String, Output)> {
    COMMANDS.iter().map(|arguments| (arguments.join(" "), cli.run(arguments))).collect()
}

#[test]
fn nothing_but_text_goes_into_a_pipe() {
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint);
    for variable in [("TERM", "xterm-256color"), ("CLICOLOR_FORCE", "1")] {
        let cli = scene.cli().env("TERM", "xterm").env(variable.0, variable.1);
        for (command, output) in each(&cli) {
            assert!(!format!("{output}").contains(ESCAPE), "{command} with {variable:?}: {output:?}");
        }
    }
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint);
    let terminal = on_terminal(scene.cli()).env("TERM", "xterm-256color");
    let outputs = each(&terminal);
    for coloured in ["--help", "plan --nonsense", "check", "once --full"] {
        let (_, output) = outputs.iter().find(|(command, _)| command == coloured).expect("it was run");
        assert!(colours(&output.stdout) > 0, "{coloured}: {output:?}");
    }
    for (command, output) in each(&terminal.clone().env("NO_COLOR", "1")) {
        assert_eq!(colours(&output.stdout), 0, "{command}: {output:?}");
        // A bar moves the cursor, which is no colour.
        assert!(!output.stdout.contains(ESCAPE) || command.starts_with("once"), "{command}: {output:?}");
    }
    for (command, output) in each(&terminal.env("TERM", "dumb").env("CI", "true")) {
        assert!(!output.stdout.contains(ESCAPE), "{command}: {output:?}");
    }
}
