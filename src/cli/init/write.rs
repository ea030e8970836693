//! The configuration as text: a proposal in TOML, with its reasons and doubts as comments. Pure.
//!
//! The file holds no value of a row. Names come from the database, and are escaped for TOML and for comments: a name with a line
//! break cannot end a comment.

use std::fmt::Write as _;

use super::store::ConfigTarget;
use crate::cli::init::args::Args;
use crate::cli::init::kept::{InitSource, UrlStorage};
use crate::cli::init::proposal_text::doubts;
use crate::cli::init::suggested_line::{SuggestedLine, quoted, rule, suggest_condition, suggest_opt_out};
use crate::console::printable;
use crate::conversica::lead::LeadKey;
use crate::setup::propose::proposal::{RowsPlace, SourceProposal, UnmappedColumn};

/// Comments wrap at this width.
const WIDTH: usize = 120;

/// Input for the file besides the proposal.
pub struct ConfigSettings<'a> {
    pub source: &'a InitSource,
    pub target: &'a ConfigTarget,
    pub args: &'a Args,
    pub username: &'a str,
}

pub fn config(proposal: &SourceProposal, setting: &ConfigSettings<'_>) -> String {
    let mut text = String::new();
    head(&mut text, proposal);
    source(&mut text, proposal, setting);
    lead(&mut text, proposal);
    rest(&mut text, proposal, setting);
    text
}

fn head(text: &mut String, proposal: &SourceProposal) {
    let like = proposal.system.map(|system| format!(" (it looks like {system})")).unwrap_or_default();
    comment(
        text,
        &format!("conversica-sync: proposed by `conversica-sync init` from the table {}{like}.", proposal.table),
    );
    text.push_str(
        "#\n# Every line says why it was chosen. Read it, then `conversica-sync check` and `conversica-sync plan`, which send\n\
         # nothing. The first run of all holds what it finds until you decide about it.\n",
    );
    listed(text, "Not sure:", &doubts(proposal));
    let consent: Vec<String> =
        proposal.consent.iter().map(|unmapped| format!("\"{}\" {}", unmapped.column, unmapped.why)).collect();
    listed(text, "CONSENT THAT IS NOT MAPPED. Decide before anything is sent:", &consent);
}

fn source(text: &mut String, proposal: &SourceProposal, setting: &ConfigSettings<'_>) {
    text.push_str("\n[source]\n");
    match &setting.source.kept {
        UrlStorage::Config => assign(text, "url", &setting.source.url, "a role that may only read is enough"),
        UrlStorage::File(file) => assign(text, "url_file", &file.display().to_string(), "holds the URL"),
        UrlStorage::NewFile => {
            assign(
                text,
                "url_file",
                &setting.target.url_file.display().to_string(),
                "holds the URL, which has a password in it",
            );
        }
        UrlStorage::Environment => {
            text.push_str("# The URL comes from the environment: CONVERSICA_SYNC__SOURCE__URL\n")
        }
    }
    match &proposal.place {
        RowsPlace::Table { filter } => {
            assign(text, "table", &proposal.table, "");
            if let Some(filter) = filter {
                assign(text, "where", filter, &proposal.filters.join("; "));
            }
        }
        RowsPlace::Query(query) => {
            comment(
                text,
                "A query, because the table itself does not hold everything. A change in a joined table alone is found by",
            );
            comment(
                text,
                "the next comparison of everything (full_compare_interval), unless its time is part of changed_at.",
            );
            for why in &proposal.filters {
                comment(text, why);
            }
            let _ = writeln!(text, "query = {}", several_lines(query));
        }
    }
    for unmapped in &proposal.consent {
        suggested(text, unmapped, suggest_condition(proposal, unmapped));
    }
    if let Some(key) = &proposal.key {
        assign(text, "key", &key.what, &key.why);
    }
    match &proposal.changed_at {
        Some(choice) => assign(text, "changed_at", &choice.what, &choice.why),
        None => text
            .push_str("#changed_at = \"…\"   # no column says when a row was changed: every poll compares all rows\n"),
    }
    match &proposal.client {
        Some(client) => assign(text, "client", client, "as you said"),
        None => text.push_str("#client = \"…\"   # only where one database serves several Conversica customers\n"),
    }
    text.push_str("#time_zone = \"Europe/Berlin\"   # for timestamps without a zone; unset: UTC\n");
    text.push_str("#on_delete = \"stop_messaging\"   # whose row is deleted, or left out, gets no more messages; unset: nothing is sent\n");
}

fn lead(text: &mut String, proposal: &SourceProposal) {
    text.push_str("\n[lead]   # Conversica's key = your column\n");
    for field in &proposal.fields {
        let mut why = field.why.clone();
        if let Some(doubt) = &field.doubt {
            let _ = write!(why, "; not sure: {doubt}");
        }
        let _ = writeln!(text, "{} = {}{}", field.key, rule(&field.rule), trailing(&why));
    }
    if proposal.field(LeadKey::ConversationId).is_none() {
        text.push_str(
            "#conversationId = { value = \"…\" }   # the conversation's name, as your account manager gave it\n",
        );
    }
    for unmapped in &proposal.consent {
        suggested(text, unmapped, suggest_opt_out(unmapped));
    }
    if !proposal.unmapped.is_empty() {
        comment(text, &format!("Columns that nothing is made of: {}", proposal.unmapped.join(", ")));
    }
}

fn suggested(text: &mut String, unmapped: &UnmappedColumn, line: Option<SuggestedLine>) {
    if let Some(SuggestedLine { meaning, line }) = line {
        comment(text, &format!("\"{}\" {}. {meaning}:", unmapped.column, unmapped.why));
        let _ = writeln!(text, "#{}", harmless(&line));
    }
}

fn rest(text: &mut String, proposal: &SourceProposal, setting: &ConfigSettings<'_>) {
    let lacks_conversation = proposal.field(LeadKey::ConversationId).is_none();
    text.push_str("\n[conversica]\n");
    if let Some(endpoint) = &setting.args.endpoint {
        assign(text, "endpoint", endpoint, "");
    }
    if lacks_conversation {
        text.push_str(
            "require_conversation_id = false   # until conversationId is mapped above; only automotive accounts go without it for good\n",
        );
    }
    assign(text, "username", setting.username, "");
    assign(
        text,
        "password_file",
        &setting.target.password_file.display().to_string(),
        "never in here; a file that only this user may read",
    );
    text.push_str(
        "\n[safety]\n\
         #first_run = \"baseline\"   # \"send\" contacts everybody who is in the table today; \"baseline\" takes them as known to\n\
         \x20                         # Conversica. Unset: they are held, and you are asked\n\
         #approve_above = 1000     # more than this at once waits for `conversica-sync approve`\n\
         \n[consent]\n\
         keep_opt_outs = true      # an opt-out that Conversica tells of is never overwritten by the CRM\n",
    );
    text.push_str("\n[state]\n");
    assign(text, "url", &setting.target.state_url, "our own tables, never in the CRM's own file");
    text.push_str("\n[writeback]\nmode = \"off\"   # \"tables\": what Conversica sends goes into tables of its own in the CRM database\n");
}

fn assign(text: &mut String, key: &str, value: &str, why: &str) {
    let _ = writeln!(text, "{key} = {}{}", quoted(value), trailing(why));
}

fn trailing(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!("   # {}", harmless(why)) }
}

fn listed(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str("#\n");
    comment(text, title);
    lines.iter().for_each(|line| comment(text, &format!("- {line}")));
}

/// A comment, wrapped between words.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in harmless(words).split(' ') {
        if line.chars().count() + word.chars().count() >= WIDTH && line.len() > 1 {
            let _ = writeln!(text, "{line}");
            line = String::from("#  ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// Removes line ends and terminal control characters; TOML allows no control character in a comment.
fn harmless(words: &str) -> String {
    printable(words).into_owned()
}

/// On several lines where TOML can hold the text unescaped; else escaped on one line.
fn several_lines(value: &str) -> String {
    let plain = !value.contains("'''") && !value.ends_with('\'') && value.chars().all(|c| c == '\n' || !c.is_control());
    if plain { format!("'''\n{value}\n'''") } else { quoted(value) }
}
