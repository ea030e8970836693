//! The output of `init`: the proposal with its reasons, its result on sample rows, and the next steps.

use serde_json::{Map, Value, json};

use super::ask::rows;
use super::store::ConfigTarget;
use super::trial::{self, ConfigTrial, ROWS};
use crate::cli::init::kept::{InitSource, UrlStorage};
use crate::cli::init::proposal_text::{doubts, from};
use crate::cli::init::suggested_line::{suggest_condition, suggest_opt_out};
use crate::cli::table;
use crate::config::FieldRule;
use crate::console::{printable, say};
use crate::setup::introspect::table::InspectedTable;
use crate::setup::propose::proposal::{RowsPlace, SourceProposal, UnmappedColumn};

/// Reasons that are listed; further ones are similar.
const REASONS: usize = 5;

pub fn proposal(proposal: &SourceProposal, source: &InspectedTable) {
    let like = proposal.system.map(|system| format!(", which looks like {system}")).unwrap_or_default();
    say(format_args!("{} {} ({}){like}", capital(source), printable(&proposal.table), rows(source)));
    if matches!(proposal.place, RowsPlace::Query(_)) {
        say("It is read by a query, because the table itself does not hold everything.");
    }
    say("");
    let mut lines = table::plain(&["SETTING", "FROM", "BECAUSE"]);
    let mut line = |name: &str, from: &str, why: &str| {
        lines.add_row([name.to_owned(), printable(from).into_owned(), printable(why).into_owned()]);
    };
    if let Some(key) = &proposal.key {
        line("key", &key.what, &key.why);
    }
    match &proposal.changed_at {
        Some(choice) => line("changed_at", &choice.what, &choice.why),
        None => line("changed_at", "none", "no column says when a row was changed"),
    }
    if let Some(client) = &proposal.client {
        line("client", client, "as you said");
    }
    for why in &proposal.filters {
        line("where", "", why);
    }
    for field in &proposal.fields {
        line(field.key.name(), &from(&field.rule), &field.why);
    }
    say(lines);
    let doubts: Vec<String> = doubts(proposal);
    list("Not sure:", &doubts);
    let consent = proposal.consent.iter().map(|unmapped| format!("\"{}\" {}", unmapped.column, unmapped.why));
    list(
        "CONSENT THAT IS NOT MAPPED, please look at it (the file has the lines to write):",
        &consent.collect::<Vec<_>>(),
    );
    list("Not used:", &if proposal.unmapped.is_empty() { Vec::new() } else { vec![proposal.unmapped.join(", ")] });
}

fn capital(table: &InspectedTable) -> String {
    let name = table.relation.to_string();
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn list(title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    say("");
    say(title);
    lines.iter().for_each(|line| say(format_args!("  {}", printable(line))));
}

/// Why no row makes a valid lead, if none does.
fn no_valid_lead(trial: &ConfigTrial, source: &InspectedTable) -> Option<&'static str> {
    match (trial.valid, trial.rows, source.rows) {
        (0, 0, Some(0)) => Some("The table has no rows yet: nothing could be tried."),
        (0, 0, _) => Some("No row is left by what takes rows out: nothing could be tried."),
        (0, _, _) => Some("NO ROW MAKES A VALID LEAD: with this configuration no lead would be sent."),
        _ => None,
    }
}

/// `sample` is a Lead object of a real row, where one is to be shown.
pub fn trial(trial: &ConfigTrial, source: &InspectedTable, sample: Option<&Map<String, Value>>) {
    say("");
    if let Some(why) = no_valid_lead(trial, source) {
        say(why);
    }
    let of = if trial.rows >= ROWS { "the first 1,000 rows".to_owned() } else { format!("{} row(s)", trial.rows) };
    say(format_args!("Of {of}, {} would make a valid lead.", trial.valid));
    if trial.opted_out > 0 {
        say(format_args!("Of these, {} say optOut: the program passes that on to Conversica.", trial.opted_out));
    }
    if trial.repeated_keys > 0 {
        say(format_args!(
            "{} row(s) have a key that another row has too, and no such row is sent: choose another --key.",
            trial.repeated_keys
        ));
    }
    let mut reasons: Vec<(&String, &usize)> = trial.reasons.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1));
    let more = reasons.len().saturating_sub(REASONS);
    let mut lines: Vec<String> =
        reasons.iter().take(REASONS).map(|(reason, count)| format!("{count} × {reason}")).collect();
    lines.extend((more > 0).then(|| format!("and {more} more reason(s); `conversica-sync plan` shows all")));
    list("Why others would not:", &lines);
    if let Some(lead) = sample {
        say("");
        say("A Lead object made of a real row (shown here only, nothing is sent):");
        trial::lines(lead).into_iter().for_each(say);
    }
    list("The settings' own check says:", &trial.warnings);
}

pub fn next_steps(target: &ConfigTarget, source: &InitSource, trial: &ConfigTrial) {
    let config = match target.file.to_str() {
        Some("conversica-sync.toml") => String::new(),
        _ => format!(" --config {}", quoted(&target.file.display().to_string())),
    };
    say("");
    match trial.valid {
        0 => say(format_args!(
            "{} is there now (readable for you only), but no row makes a valid lead with it: change it before you go on.",
            target.file.display()
        )),
        _ => say(format_args!("Written: {} (readable for you only)", target.file.display())),
    }
    match source.kept {
        UrlStorage::NewFile => say(format_args!(
            "The database's URL has a password in it, so it is kept in {} (readable for you only).",
            target.url_file.display()
        )),
        UrlStorage::Environment => {
            say("The database's URL stays in the environment: the daemon needs CONVERSICA_SYNC__SOURCE__URL too.")
        }
        UrlStorage::Config | UrlStorage::File(_) => {}
    }
    say("");
    say("Next:");
    if !target.password_file.exists() {
        let file = quoted(&target.password_file.display().to_string());
        say("  1. put your Conversica password into its file (type it, then Enter and Ctrl-D):");
        say(format_args!("       (umask 077; cat > {file})"));
    } else {
        say(format_args!("  1. see that {} holds your Conversica password", target.password_file.display()));
    }
    say("  2. look at the file, above all at what it is not sure of");
    say(format_args!("  3. conversica-sync{config} check"));
    say(format_args!("     conversica-sync{config} plan      shows what would be sent, and sends nothing"));
}

/// A shell word.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn suggested(proposal: &SourceProposal, unmapped: &UnmappedColumn) -> Vec<Value> {
    let of_lead = suggest_opt_out(unmapped).map(|suggested| ("lead", suggested));
    let of_source = suggest_condition(proposal, unmapped).map(|suggested| ("source", suggested));
    let lines = of_lead.into_iter().chain(of_source);
    lines.map(|(section, of)| json!({ "section": section, "meaning": of.meaning, "write": of.line })).collect()
}

pub fn json(proposal: &SourceProposal, trial: &ConfigTrial, target: &ConfigTarget, source: &InspectedTable) -> Value {
    let lead = proposal.fields.iter().map(|field| {
        let mut entry = match &field.rule {
            FieldRule::Value(value) => json!({ "value": value }),
            FieldRule::Column { column, default, map, .. } => {
                json!({ "column": column, "default": default, "map": map })
            }
        };
        entry["why"] = json!(field.why);
        entry["doubt"] = json!(field.doubt);
        (field.key.name().to_owned(), entry)
    });
    let (filter, query) = match &proposal.place {
        RowsPlace::Table { filter } => (filter.clone(), None),
        RowsPlace::Query(query) => (None, Some(query)),
    };
    json!({
        "version": 1,
        "file": target.file,
        "system": proposal.system,
        "table": proposal.table,
        "where": filter,
        "query": query,
        "key": proposal.key.as_ref().map(|key| &key.what),
        "changed_at": proposal.changed_at.as_ref().map(|choice| &choice.what),
        "client": proposal.client,
        "lead": lead.collect::<serde_json::Map<_, _>>(),
        "doubts": doubts(proposal),
        "consent_not_mapped": proposal.consent.iter().map(|unmapped| json!({
            "column": unmapped.column, "why": unmapped.why, "lines": suggested(proposal, unmapped)
        })).collect::<Vec<_>>(),
        "not_used": proposal.unmapped,
        "rows": { "looked_at": trial.rows, "valid": trial.valid, "opted_out": trial.opted_out, "reasons": trial.reasons, "none_because": no_valid_lead(trial, source) },
    })
}
