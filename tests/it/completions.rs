//! The shell loads the output of `completions`, and completes commands.

use std::process::Command;

use crate::support::binary::Cli;

/// The completions that bash offers when the last of these words is incomplete.
#[track_caller]
fn offered(words: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let script = Cli::new(directory.path()).run(&["completions", "bash"]).expect_code(0).stdout;
    let file = directory.path().join("completions.bash");
    std::fs::write(&file, script).expect("the directory is writable");
    // Does the same as an interactive bash: calls the function that is registered for the command with its three
    // arguments.
    let ask = r#"set -eu; source "$1"; shift
        registered=$(complete -p conversica-sync); [[ $registered =~ -F\ ([^ ]+) ]]; function=${BASH_REMATCH[1]}
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        "$function" conversica-sync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-c", ask, "bash"]).arg(file).arg("conversica-sync").args(words);
    let output = bash.output().expect("bash is part of Debian");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["che"]), ["check"]);
    let mut sorted = offered(&["re"]);
    sorted.sort_unstable();
    assert_eq!(sorted, ["received", "reconcile", "resend", "restored", "resume", "retry"]);
    assert_eq!(offered(&["check", "--send"]), ["--send-test-lead"]);
    assert_eq!(offered(&["triggers", "ins"]), ["install"]);
    assert_eq!(offered(&["leads", "--status", "rej"]), ["rejected"]);
    assert_eq!(offered(&["completions", "fi"]), ["fish"]);
}

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(directory.path());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = cli.run(&["completions", shell]).expect_code(0).stdout;
        for word in ["check", "reconcile", "send-test-lead", "writeback"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains('\u{1b}'), "{shell}");
    }
    let unknown = cli.run(&["completions", "tcsh"]).expect_code(2);
    assert!(unknown.stderr.contains("possible values"), "{unknown}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    for arguments in [&["completions", "bash"][..], &["man"]] {
        let output = Cli::new(directory.path()).launched_by(r#""$@" | head -c 1 >&2; exec true "$@""#).run(arguments);
        assert_eq!(output.expect_code(0).stderr.len(), 1);
    }
}
