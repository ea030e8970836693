//! Log lines of a service begin with their priority where standard error is the journal, and only there.

use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

/// As systemd starts the program: the variable identifies standard error.
const AS_SERVICE: &str = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && export JOURNAL_STREAM && exec \"$@\"";
/// The program's parent runs as a service, and standard error is something else.
const ELSEWHERE: &str = "JOURNAL_STREAM=1:2 && export JOURNAL_STREAM && exec \"$@\"";

#[test]
fn lines_for_the_journal_begin_with_their_priority() {
    let endpoint = StandIn::start(|_| Reaction::status(401));
    let scene = Scene::new(&endpoint.url(), 1);
    let priority = |line: &str| match serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].as_str() {
        Some("ERROR") => "<3>",
        Some("WARN") => "<4>",
        _ => "<6>",
    };
    let output = scene.cli().launched_by(AS_SERVICE).run(&["once"]);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("<3>")), "the halt is an error: {output}");
    for line in lines {
        assert_eq!(line.get(..3), Some(priority(&line[3..])), "{line}");
    }
    let output = scene.cli().launched_by(ELSEWHERE).run(&["once"]);
    assert!(!output.stderr.is_empty() && output.stderr.lines().all(|line| line.starts_with('{')), "{output}");
}
