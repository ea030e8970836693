//! The questions that `init` asks on a terminal: facts that no database has, and decisions of the operator.

use std::fmt;

use inquire::error::{CustomUserError, InquireError};
use inquire::validator::{MinLengthValidator, Validation};
use inquire::{Confirm, Select, Text};

use super::store::ConfigTarget;
use super::trial::ConfigTrial;
use crate::console::printable;
use crate::conversica::lead::LeadKey;
use crate::setup::introspect::COUNT_UP_TO;
use crate::setup::introspect::table::InspectedTable;
use crate::setup::propose::proposal::{GivenValue, OperatorWishes, SourceProposal};
use crate::setup::propose::rank::TableCandidate;

/// Whether a person at a terminal answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitQuestions {
    Asked,
    None,
}

/// The operator pressed Escape or Ctrl-C, or said no.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub struct InitStopped;

fn answered<T>(answer: Result<T, InquireError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => InitStopped.into(),
        other => other.into(),
    })
}

/// A choice and its text on the terminal.
struct ShownChoice<T> {
    text: String,
    choice: T,
}

impl<T> fmt::Display for ShownChoice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub fn url() -> anyhow::Result<String> {
    let help = "sqlite:///path/crm.db or postgres://reader@host/database. Where there is a password in it, stop here and take \
                --url-file: what is typed is shown";
    answered(
        Text::new("Where is the CRM database?")
            .with_help_message(help)
            .with_validator(MinLengthValidator::new(1))
            .prompt(),
    )
}

pub fn which_table(candidates: &[&TableCandidate], catalog: &[InspectedTable]) -> anyhow::Result<usize> {
    let options = candidates.iter().map(|candidate| {
        let table = &catalog[candidate.table];
        let text = format!("{}  {}, {}: {}", printable(&table.setting()), table.relation, rows(table), candidate.why);
        ShownChoice { text, choice: candidate.table }
    });
    let chosen = Select::new("Which table holds the leads?", options.collect())
        .with_help_message("another one: stop here (Esc), and name it with --table");
    Ok(answered(chosen.prompt())?.choice)
}

pub fn rows(table: &InspectedTable) -> String {
    match table.rows {
        Some(rows) if rows > COUNT_UP_TO => "more than 10,000 rows".to_owned(),
        Some(1) => "1 row".to_owned(),
        Some(rows) => format!("{rows} rows"),
        None => "rows not counted".to_owned(),
    }
}

/// Asks about the open points of a proposal.
pub fn about(
    proposal: &SourceProposal,
    table: &InspectedTable,
    wishes: &mut OperatorWishes,
    username: &mut Option<String>,
) -> anyhow::Result<()> {
    if proposal.key.is_none() {
        wishes.key =
            Some(column("Which column identifies a lead?", "unique, and never used again for another", table)?);
    }
    if let Some(inverse) = proposal.consent.iter().find(|unmapped| unmapped.inverse_of == Some(LeadKey::OptOut)) {
        let name = &inverse.column;
        let options = vec![
            ShownChoice { text: "leave it out for now; the file says so".to_owned(), choice: false },
            ShownChoice {
                text: "a person without a yes there has opted out (optOut is its opposite)".to_owned(),
                choice: true,
            },
        ];
        let question = format!("\"{}\" says who agreed to messages. What does it mean?", printable(name));
        if answered(Select::new(&question, options).prompt())?.choice {
            wishes.given.push((LeadKey::OptOut, GivenValue::Inverted(name.clone())));
        }
    }
    for key in proposal.missing() {
        let given = match key {
            LeadKey::LeadSource => GivenValue::Value(text(
                "No column says where leads come from. What shall Conversica be told?",
                "Website",
            )?),
            LeadKey::RepName => GivenValue::Value(text(
                "No column names the sales representative. Who do the messages speak of?",
                "The Sales Team",
            )?),
            other => GivenValue::Column(column(&format!("Which column is {other}?"), "Conversica requires it", table)?),
        };
        wishes.given.push((key, given));
    }
    let decided = wishes.given.iter().any(|(key, _)| *key == LeadKey::ConversationId);
    if proposal.field(LeadKey::ConversationId).is_none() && !decided {
        let help = "exactly as your account manager gave it; Enter leaves it out";
        let name = answered(Text::new("What is the conversation's name?").with_help_message(help).prompt())?;
        let name = name.trim().to_owned();
        let given = if name.is_empty() { GivenValue::Nothing } else { GivenValue::Value(name) };
        wishes.given.push((LeadKey::ConversationId, given));
    }
    if username.is_none() {
        let fits = |name: &str| -> Result<Validation, CustomUserError> {
            Ok(if name.trim().chars().count() < 5 {
                Validation::Invalid("at least five characters, as Conversica gave it to you".into())
            } else if name.contains(':') {
                Validation::Invalid("the user name alone, without a password".into())
            } else {
                Validation::Valid
            })
        };
        let help = "the password is not asked for: the file names a file for it";
        let name = Text::new("What is your Conversica user name?").with_help_message(help).with_validator(fits);
        *username = Some(answered(name.prompt())?.trim().to_owned());
    }
    Ok(())
}

fn text(question: &str, default: &str) -> anyhow::Result<String> {
    answered(Text::new(question).with_default(default).prompt())
}

fn column(question: &str, help: &str, table: &InspectedTable) -> anyhow::Result<String> {
    let readable = table.columns.iter().filter(|column| column.readable);
    let options: Vec<ShownChoice<String>> = readable
        .map(|column| ShownChoice { text: printable(&column.name).into_owned(), choice: column.name.clone() })
        .collect();
    Ok(answered(Select::new(question, options).with_help_message(help).prompt())?.choice)
}

pub fn whether_to_write(target: &ConfigTarget, trial: &ConfigTrial) -> anyhow::Result<()> {
    let makes_leads = trial.valid > 0;
    let file = target.file.display();
    let question = match makes_leads {
        true => format!("Write {file}?"),
        false => format!("No row makes a valid lead. Write {file} all the same?"),
    };
    if answered(Confirm::new(&question).with_default(makes_leads).prompt())? { Ok(()) } else { Err(InitStopped.into()) }
}
