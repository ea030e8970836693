//! The arguments of `init`.

use std::path::PathBuf;

use crate::cli::help;
use crate::conversica::lead::LeadKey;
use crate::nearest::nearest;
use crate::setup::propose::proposal::GivenValue;

#[derive(Debug, clap::Args)]
#[command(after_help = help::INIT)]
pub struct Args {
    /// The CRM database: sqlite:///path/crm.db or postgres://reader@host/database [default: the environment variable
    /// CONVERSICA_SYNC__SOURCE__URL]
    #[arg(long, conflicts_with = "url_file")]
    pub url: Option<String>,
    /// File that holds the URL, where there is a password in it
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
    /// Table or view that holds the leads, like crm.leads
    #[arg(long, value_name = "NAME", help_heading = "What to sync")]
    pub table: Option<String>,
    /// Column that identifies a lead
    #[arg(long, value_name = "COLUMN", help_heading = "What to sync")]
    pub key: Option<String>,
    /// Column or SQL expression that changes whenever a row does
    #[arg(long, value_name = "COLUMN", help_heading = "What to sync")]
    pub changed_at: Option<String>,
    /// Column that tells customers apart, where one database serves several; it fills clientId
    #[arg(long, value_name = "COLUMN", help_heading = "What to sync")]
    pub client: Option<String>,
    /// Fill a key of the Lead object from a column; KEY=!COLUMN takes the opposite of yes and no, KEY= leaves the key out
    #[arg(long, value_name = "KEY=COLUMN", value_parser = map, help_heading = "What to sync")]
    pub map: Vec<(LeadKey, GivenValue)>,
    /// Fill a key with the same text for every lead, or where the column that was found is blank
    #[arg(long, value_name = "KEY=TEXT", value_parser = value, help_heading = "What to sync")]
    pub value: Vec<(LeadKey, GivenValue)>,
    /// The conversation's name, exactly as Conversica gave it to you
    #[arg(long, value_name = "NAME", help_heading = "Conversica")]
    pub conversation: Option<String>,
    /// User name of the account, as Conversica gave it to you
    #[arg(long, help_heading = "Conversica")]
    pub username: Option<String>,
    /// File for the password; you make it [default: conversica_password beside the configuration]
    #[arg(long, value_name = "FILE", help_heading = "Conversica")]
    pub password_file: Option<PathBuf>,
    /// Where leads are posted to [default: Conversica]
    #[arg(long, value_name = "URL", help_heading = "Conversica")]
    pub endpoint: Option<String>,
    /// Database for our own tables [default: an SQLite file in /var/lib/conversica-sync, or else beside the configuration]
    #[arg(long, value_name = "URL", help_heading = "What is written")]
    pub state: Option<String>,
    /// File to write [default: that of --config, or ./conversica-sync.toml]
    #[arg(long, short, value_name = "FILE", help_heading = "What is written")]
    pub output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, help_heading = "What is written")]
    pub force: bool,
    /// Do not ask: take what is proposed
    #[arg(long, short, help_heading = "What is written")]
    pub yes: bool,
    /// Show no Lead object made of a real row
    #[arg(long, help_heading = "What is written")]
    pub no_sample: bool,
    /// Say what is proposed as one JSON document, without any row; does not ask
    #[arg(long, help_heading = "What is written")]
    pub json: bool,
}

/// `KEY=COLUMN`, `KEY=!COLUMN`, `KEY=`.
pub fn map(text: &str) -> Result<(LeadKey, GivenValue), String> {
    let (key, column) = pair(text)?;
    Ok((
        key,
        match (column, column.strip_prefix('!')) {
            ("", _) => GivenValue::Nothing,
            (_, Some("")) => return Err("no column follows the !".to_owned()),
            (_, Some(column)) => GivenValue::Inverted(column.to_owned()),
            (column, None) => GivenValue::Column(column.to_owned()),
        },
    ))
}

/// `KEY=TEXT`.
pub fn value(text: &str) -> Result<(LeadKey, GivenValue), String> {
    let (key, value) = pair(text)?;
    if value.is_empty() {
        return Err("the text is blank".to_owned());
    }
    Ok((key, GivenValue::Value(value.to_owned())))
}

pub(crate) fn pair(text: &str) -> Result<(LeadKey, &str), String> {
    let (name, rest) = text.split_once('=').ok_or("write it as KEY=…, like email=mail_address")?;
    let (name, rest) = (name.trim(), rest.trim());
    match LeadKey::from_name(name) {
        Some(LeadKey::Id) => Err("`id` is always the key: take --key".to_owned()),
        Some(LeadKey::ClientId) => Err("`clientId` is always the client: take --client".to_owned()),
        Some(key) => Ok((key, rest)),
        None => {
            let near = nearest(name, LeadKey::ALL.iter().map(|key| key.name()));
            let hint = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            Err(format!("Conversica has no key {name}{hint}"))
        }
    }
}
