//! `--help` and `man`: every command describes itself and gives examples that work; the manual has a page for each.

use clap::{Command, CommandFactory, Parser};

use crate::support::binary::Cli;
use conversica_sync::cli::CommandLine as Arguments;

/// The maximal width of the help.
const WIDTH: usize = 100;

/// Each visible command with its full name.
fn commands() -> Vec<(String, Command)> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut found = Vec::new();
    let mut unread = vec![(program.get_name().to_owned(), program)];
    while let Some((name, command)) = unread.pop() {
        let inner = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        unread.extend(inner.map(|inner| (format!("{name} {}", inner.get_name()), inner.clone())));
        found.push((name, command));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn after_help(command: &Command) -> String {
    command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default()
}

fn examples(command: &Command) -> Vec<String> {
    let text = after_help(command);
    let lines = text.strip_prefix("Examples:\n").unwrap_or_default().lines();
    lines.take_while(|line| line.starts_with("  ")).map(str::to_owned).collect()
}

#[test]
fn every_command_says_what_it_does_and_shows_examples() {
    let commands = commands();
    assert!(commands.len() > 25, "{}", commands.len());
    for (name, command) in &commands {
        assert!(command.get_about().is_some_and(|about| !about.to_string().trim().is_empty()), "{name} says nothing");
        let examples = examples(command);
        assert!(!examples.is_empty(), "{name} has no examples");
        assert!(examples.iter().any(|line| line.trim().starts_with(name.as_str())), "{name}: {examples:?}");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.trim().is_empty(), "{name}: {} has no help", argument.get_id());
        }
    }
}

#[test]
fn every_example_is_taken() {
    for (name, command) in commands() {
        for line in examples(&command) {
            assert!(line.chars().count() <= WIDTH, "{name}: wider than {WIDTH}: {line}");
            // The command ends at the explanation, a pipe or a file.
            let words = line.trim().split("  ").next().expect("split yields one part").split(' ');
            let words: Vec<&str> = words.take_while(|word| !["|", ">", ">>"].contains(word)).collect();
            if let Err(error) = Arguments::try_parse_from(&words) {
                panic!("{name}: {words:?} is refused: {error}");
            }
        }
    }
}

#[test]
fn no_help_is_wider_than_a_hundred_columns() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(directory.path()).env("COLUMNS", "200");
    for (name, _) in commands() {
        let mut words: Vec<&str> = name.split(' ').skip(1).collect();
        words.push("--help");
        let help = cli.run(&words).expect_code(0).stdout;
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "{name}: {wide:#?}");
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("share/man1");
    let cli = Cli::new(directory.path());
    cli.run(&["man", "--directory", "share/man1"]).expect_code(0);
    let commands = commands();
    for (name, command) in &commands {
        let file = pages.join(format!("{}.1", name.replace(' ', "-")));
        let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        is_a_page(&page, name, command);
    }
    let written = std::fs::read_dir(&pages).expect("it was made").count();
    assert_eq!(written, commands.len(), "and no page besides");
    let printed = cli.run(&["man"]).expect_code(0).stdout;
    assert_eq!(printed, std::fs::read_to_string(pages.join("conversica-sync.1")).expect("a page"));
    let refused = cli.run(&["man", "--directory", "/dev/null/here"]).expect_code(2);
    assert!(refused.stderr.contains("/dev/null/here") && refused.stderr.contains("cure:"), "{refused}");
}

/// Checks for mistakes of a manual page: unknown requests, missing sections, text that reads like a request.
#[track_caller]
fn is_a_page(page: &str, name: &str, command: &Command) {
    let requests = ["TH", "SH", "TP", "PP", "RS", "RE", "ie", "el", "br", "nf", "fi", "IP"];
    for line in page.lines() {
        if let Some(request) = line.strip_prefix('.') {
            let request = request.split([' ', '\\']).next().expect("split yields one part");
            assert!(requests.contains(&request), "{name}: {line}");
        }
        assert!(!line.starts_with('\'') || line.starts_with("'\\\""), "{name}: {line}");
        assert!(!line.contains('\u{1b}'), "{name}: {line}");
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"] {
        assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section}");
    }
    let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "");
    for example in examples(command) {
        let example = example.trim().split("  ").next().expect("split yields one part");
        assert!(plain.contains(example), "{name}: {example}\n{page}");
    }
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if let Some(long) = argument.get_long() {
            assert!(plain.contains(&format!("--{long}")), "{name}: --{long}");
        }
    }
}
