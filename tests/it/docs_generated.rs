//! The test generates docs/settings.md and docs/commands.md from the program itself: from `config/default.toml` with the
//! settings' schema, and from the definitions of the command line. It compares them with the files; `UPDATE_DOCS=1`
//! writes the files.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::Value;

use conversica_sync::cli::CommandLine;
use conversica_sync::config::schema::{DEFAULTS, json_schema};

const SETTINGS_INTRO: &str = "\
# Settings

<!-- Generated from config/default.toml and `conversica-sync config schema`; a test compares. To change it, change those, then run
     UPDATE_DOCS=1 ./tests/run docs_generated -->

This page lists every setting with its default. The program reads three layers; a later layer wins:

1. the defaults on this page, which are compiled into the program;
2. your configuration file: `--config FILE`, else `$CONVERSICA_SYNC_CONFIG`, `./conversica-sync.toml` or
   `/etc/conversica-sync/conversica-sync.toml`;
3. environment variables: `CONVERSICA_SYNC__SOURCE__POLL_INTERVAL=5s` sets `poll_interval` in `[source]`. In lists of tables,
   entries are counted from 0: `CONVERSICA_SYNC__ADMIN__OPERATOR__0__ROLE=look` is for the first `[[admin.operator]]`.

- `conversica-sync config show` prints the settings in force and the layer that each value comes from.
- `conversica-sync config schema` prints a JSON Schema, with which editors complete and check the file.
- A key that the program does not know is refused, with the nearest known name. Every message names the file, the key and the cure.
- Lists are written `[\"one\", \"another\"]`; in an environment variable also `one,another`, and `[]` for an empty list.
- Durations are written `\"200ms\"`, `\"15s\"`, `\"5m\"`, `\"24h\"`, `\"90d\"` or `\"1h30m\"`. Relative paths start at the working directory.
- **Secrets and URLs** (marked *secret* below) can be kept outside the file. `password_file = \"/run/secrets/x\"` reads the
  password from that file (Docker secrets); a file named `conversica.password` in `$CREDENTIALS_DIRECTORY` (systemd) is found without
  any setting. If there are several, the environment variable wins, then the credentials directory, then the file. No secret appears in
  a log, in a message or in `config show`.

A key without a default is not set; an example follows its meaning.
";

/// The pages of the book with more about a section.
const SECTION_PAGES: [(&str, &str); 11] = [
    (
        "source",
        "[How changes are found](how-it-works.md#how-changes-are-found), [Rows that go](how-it-works.md#rows-that-go), [Triggers](triggers.md)",
    ),
    (
        "lead",
        "[How a key of the Lead object gets its value](connect-your-crm.md#how-a-key-of-the-lead-object-gets-its-value)",
    ),
    ("conversica", "[Connect your CRM](connect-your-crm.md)"),
    ("delivery", "[What an answer means](lead-states.md#what-an-answer-means)"),
    ("safety", "[Promises](promises.md), [the holds in the runbook](runbook.md)"),
    ("consent", "[Opt-outs](receiving.md#opt-outs)"),
    ("state", "[What is kept, where, and for how long](operations.md#what-is-kept-where-and-for-how-long)"),
    ("receive", "[Receiving](receiving.md)"),
    ("writeback", "[Write-back](write-back.md)"),
    ("alerts", "[Alerts](alerts.md)"),
    ("admin", "[Metrics](metrics.md), [the dashboard](metrics.md#the-dashboard)"),
];

const COMMANDS_INTRO: &str = "\
# Commands

<!-- Generated from the definitions of the command line; a test compares. To change it, change those, then run
     UPDATE_DOCS=1 ./tests/run docs_generated -->

`conversica-sync [--config FILE] COMMAND`. `--config` may stand before or after the command. What the exit codes and the JSON
documents mean is in [Reading the output](reading-the-output.md).
";

/// Compares the page with its file, or writes the file when the environment asks for it.
fn hold_against_file(page: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, page).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let have = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = page.lines().zip(have.lines()).find(|(wanted, have)| wanted != have);
    assert!(
        have == page,
        "docs/{file} is not what the program says; `UPDATE_DOCS=1 ./tests/run docs_generated` writes it anew. First difference: \
         {differs:#?}"
    );
}

/// Text for a cell of a table.
fn in_cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// The same, as a sentence that another sentence may follow.
fn sentence_in_cell(text: &str) -> String {
    let text = in_cell(text);
    if text.is_empty() || text.ends_with(['.', ':', '?', '!']) { text } else { text + "." }
}

/// Text in a code span within a cell.
fn code_in_cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// A key of `config/default.toml`, with the comment above it.
struct DocumentedKey {
    name: String,
    /// As TOML writes it.
    value: String,
    is_set: bool,
    comment: String,
}

/// A section of `config/default.toml`.
struct DocumentedSection {
    name: String,
    remark: String,
    keys: Vec<DocumentedKey>,
}

impl DocumentedSection {
    /// Whether field rules fill its keys.
    fn is_of_rules(&self) -> bool {
        self.name == "lead" || self.name == "lead.custom"
    }
}

/// A line that sets a key, or shows how it would be set: `key = value` or `#key = value`.
fn key_line(line: &str) -> Option<(bool, &str, &str)> {
    let (is_set, text) = line.strip_prefix('#').map_or((true, line), |text| (false, text));
    let (name, value) = text.split_once(" = ")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((is_set, name, value))
}

fn documented_sections() -> Vec<DocumentedSection> {
    let mut sections: Vec<DocumentedSection> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in DEFAULTS.lines() {
        let text = line.strip_prefix('#').unwrap_or(line);
        let header = text.strip_prefix("[[").or(text.strip_prefix('[')).and_then(|rest| rest.split_once(']'));
        if let Some((name, remark)) = header {
            let remark = remark.trim_start_matches(']').trim().trim_start_matches('#').trim().to_owned();
            sections.push(DocumentedSection { name: name.to_owned(), remark, keys: Vec::new() });
            comment.clear();
        } else if let Some((is_set, name, value)) = key_line(line) {
            let section = sections.last_mut().expect("a key stands in a section");
            // A table of rules appears unchanged, with its comments in their lines.
            let comment = std::mem::take(&mut comment).join(if section.is_of_rules() { "\n" } else { " " });
            section.keys.push(DocumentedKey { name: name.to_owned(), value: value.to_owned(), is_set, comment });
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text));
        } else if line.is_empty() {
            comment.clear();
        }
    }
    sections
}

/// A key's part of the schema of a section, or of the entries of a list of tables.
fn property<'s>(schema: &'s Value, name: &str) -> &'s Value {
    match schema["items"]["properties"].is_object() {
        true => &schema["items"]["properties"][name],
        false => &schema["properties"][name],
    }
}

/// Whether a section is a list of tables.
fn is_list(schema: &Value, section: &str) -> bool {
    section.split('.').fold(schema, property)["items"].is_object()
}

/// The key's part of the schema.
fn schema_of<'s>(schema: &'s Value, section: &str, key: &str) -> &'s Value {
    let mut found = schema;
    for part in section.split('.').chain([key]) {
        found = property(found, part);
    }
    assert!(found.is_object(), "{section}.{key} is in config/default.toml, but not in the schema");
    found
}

/// The allowed values of a key, in words.
fn values_in_words(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
        return choices.join(", ");
    }
    let kind = schema["x-kind"].as_str().or(schema["type"].as_str()).unwrap_or("text");
    let kind = match kind {
        "string" => "text",
        "boolean" => "`true`, `false`",
        "array" => "list of texts",
        "integer" => "whole number",
        "address" => "address and port",
        "url" => "URL",
        "time-zone" => "time zone",
        other => other,
    };
    match schema["x-secret"].as_str() {
        Some("url") => "URL, *secret*".to_owned(),
        Some(_) => format!("{kind}, *secret*"),
        None => kind.to_owned(),
    }
}

fn settings_page() -> String {
    let schema = json_schema();
    let mut page = SETTINGS_INTRO.to_owned();
    for section in documented_sections() {
        let header = match is_list(&schema, &section.name) {
            true => format!("[[{}]]", section.name),
            false => format!("[{}]", section.name),
        };
        let _ = write!(page, "\n## `{header}`\n\n");
        let about = if section.remark.is_empty() {
            let mut found = &schema;
            section.name.split('.').for_each(|part| found = property(found, part));
            found["description"].as_str().unwrap_or_default().to_owned()
        } else {
            section.remark.clone()
        };
        let mut about = about.trim_start_matches(&format!("`[{}]`: ", section.name)).to_owned();
        if let Some(first) = about.get(..1) {
            about = first.to_uppercase() + &about[1..];
            let _ = writeln!(page, "{}.", about.trim_end_matches('.'));
        }
        if let Some((_, pages)) = SECTION_PAGES.iter().find(|(name, _)| *name == section.name) {
            let _ = writeln!(page, "More: {pages}.");
        }
        if section.is_of_rules() {
            let _ = write!(page, "\n```toml\n[{}]\n", section.name);
            for key in &section.keys {
                for line in key.comment.lines() {
                    let _ = writeln!(page, "{}", format!("# {line}").trim_end());
                }
                let _ = writeln!(page, "{} = {}", key.name, key.value);
            }
            page.push_str("```\n");
            continue;
        }
        page.push_str("\n| key | values | default | meaning |\n|---|---|---|---|\n");
        for key in &section.keys {
            let known = schema_of(&schema, &section.name, &key.name);
            let described = known["description"].as_str().unwrap_or_default();
            let meaning = if key.comment.is_empty() { described } else { &key.comment };
            let default = if key.is_set { code_in_cell(&key.value) } else { String::new() };
            let example = if key.is_set { String::new() } else { format!(" Example: {}", code_in_cell(&key.value)) };
            let _ = writeln!(
                page,
                "| `{}` | {} | {default} | {}{example} |",
                key.name,
                values_in_words(known),
                sentence_in_cell(meaning)
            );
        }
    }
    page
}

/// The form of an argument on the command line.
fn argument_form(argument: &Arg) -> String {
    let values: Vec<&str> = argument.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    if argument.is_positional() {
        let many = if matches!(argument.get_action(), ArgAction::Append) { "…" } else { "" };
        return format!("{}{many}", values.join(" "));
    }
    let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let long = argument.get_long().expect("an option has a long name");
    let takes_value = argument.get_action().takes_values();
    let value = if takes_value { format!(" {}", values.join(" ")) } else { String::new() };
    format!("{short}--{long}{value}")
}

/// The help of an argument, with its choices, default and variable.
fn argument_meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut meaning = sentence_in_cell(&help);
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !choices.is_empty() {
        let _ = write!(meaning, " One of {}.", choices.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if argument.get_action().takes_values() && !argument.is_hide_default_value_set() && !defaults.is_empty() {
        let _ = write!(meaning, " Default: `{}`.", defaults.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(meaning, " Also from the variable `{}`.", variable.to_string_lossy());
    }
    meaning
}

fn describe_command(command: &Command, name: &str, page: &mut String) {
    let depth = name.split(' ').count() + 1;
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(page, "\n{} `{name}`\n\n{}\n", "#".repeat(depth), in_cell(&about).replace("\\|", "|"));
    let own = |argument: &&Arg| {
        !argument.is_hide_set() && !["help", "version", "config"].contains(&argument.get_id().as_str())
    };
    let arguments: Vec<&Arg> = command.get_arguments().filter(own).collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | means |\n|---|---|\n");
        for argument in arguments {
            let form = code_in_cell(&argument_form(argument));
            let _ = writeln!(page, "| {form} | {} |", argument_meaning(argument));
        }
    }
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
    for paragraph in after.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        match paragraph.strip_prefix("Examples:\n") {
            Some(examples) => {
                let lines = examples.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)));
                let _ = write!(page, "\n```text\n{}```\n", lines.collect::<String>());
            }
            None => {
                let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "&lt;");
                let _ = write!(page, "\n{text}\n");
            }
        }
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        describe_command(inner, &format!("{name} {}", inner.get_name()), page);
    }
}

fn commands_page() -> String {
    let mut program = CommandLine::command().disable_help_subcommand(true);
    program.build();
    let mut page = COMMANDS_INTRO.to_owned();
    page.push_str("\n| command | does |\n|---|---|\n");
    let commands = || program.get_subcommands().filter(|command| !command.is_hide_set());
    for command in commands() {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| [`{name}`](#{name}) | {} |", in_cell(&about));
    }
    page.push_str("\nEvery command takes `--help`. The program as a whole takes `--version`.\n");
    for command in commands() {
        describe_command(command, command.get_name(), &mut page);
    }
    page
}

#[test]
fn the_page_of_settings_is_what_the_program_says() {
    let page = settings_page();
    for section in ["[source]", "[lead.custom]", "[delivery.retry]", "[log]"] {
        assert!(page.contains(&format!("## `{section}`")), "{section}\n{page}");
    }
    hold_against_file(&page, "settings.md");
}

#[test]
fn every_setting_of_the_schema_is_on_the_page() {
    let page = settings_page();
    let mut unseen: Vec<(String, Value)> = vec![(String::new(), json_schema())];
    let (mut keys, mut missing) = (0, Vec::new());
    while let Some((path, schema)) = unseen.pop() {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["items"]["properties"].is_object() {
                unseen.push((format!("{path}.{name}"), property["items"].clone()));
                continue;
            }
            if property["properties"].is_object() {
                unseen.push((format!("{path}.{name}"), property.clone()));
                continue;
            }
            let is_twin = name.strip_suffix("_file").is_some_and(|name| schema["properties"][name].is_object());
            keys += usize::from(!is_twin);
            let listed = page.contains(&format!("| `{name}` |")) || page.contains(&format!("\n{name} = "));
            if !is_twin && !listed && name != "custom" {
                missing.push(format!("{path}.{name}"));
            }
        }
    }
    assert!(keys > 80, "the schema is read: {keys}");
    assert!(missing.is_empty(), "not in docs/settings.md: {missing:?}");
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let page = commands_page();
    for command in ["### `received confirm`", "## `plan`", "`--no-sample`"] {
        assert!(page.contains(command), "{command}\n{page}");
    }
    hold_against_file(&page, "commands.md");
}
