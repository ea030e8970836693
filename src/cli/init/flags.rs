//! Input from the command line and the environment: the way to the database, and the operator's choices.

use std::collections::BTreeMap;
use std::path::Path;

use super::ask;
use crate::cli::init::args::Args;
use crate::cli::init::kept::{InitSource, UrlStorage, absolute};
use crate::config::{ProcessEnvironment, secret};
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::error::SetupError;
use crate::setup::propose::proposal::{GivenValue, OperatorWishes};

const URL: &str = "CONVERSICA_SYNC__SOURCE__URL";

pub fn source(
    args: &Args,
    environment: &ProcessEnvironment,
    questions: ask::InitQuestions,
) -> anyhow::Result<InitSource> {
    let variable = |name: &str| environment.variables.get(name).filter(|value| !value.is_empty()).cloned();
    if let Some(file) = &args.url_file {
        return Ok(InitSource { url: read(file)?, kept: UrlStorage::File(absolute(file)) });
    }
    if args.url.is_none() {
        if let Some(url) = variable(URL) {
            return Ok(InitSource { url, kept: UrlStorage::Environment });
        }
        if let Some(file) = variable(&format!("{URL}_FILE")) {
            return Ok(InitSource { url: read(Path::new(&file))?, kept: UrlStorage::Environment });
        }
    }
    let url = match &args.url {
        Some(url) => url.clone(),
        None if questions == ask::InitQuestions::Asked => ask::url()?,
        None => {
            return Err(SetupError::new(
                "which database is it?",
                format!("give --url or --url-file, or set {URL}; with --username and --conversation, which cannot be known either"),
            )
            .into());
        }
    };
    let url = spelt_out(url.trim());
    let kept = if has_secret(&url) { UrlStorage::NewFile } else { UrlStorage::Config };
    Ok(InitSource { url, kept })
}

fn read(file: &Path) -> Result<String, SetupError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        SetupError::new(
            format!("--url-file: {} cannot be read: {error}", file.display()),
            "name a file that holds the URL",
        )
    })?;
    Ok(text.trim().to_owned())
}

/// A bare path becomes a URL, and a relative one absolute: the daemon may start in another directory.
fn spelt_out(url: &str) -> String {
    if !url.contains(':') && Path::new(url).is_file() {
        return format!("sqlite://{}", absolute(Path::new(url)).display());
    }
    match db::sqlite_path(url) {
        Some(path) if path.is_relative() && !url.contains(":memory:") => {
            let parameters = url.split_once('?').map(|(_, rest)| format!("?{rest}")).unwrap_or_default();
            format!("sqlite://{}{parameters}", absolute(&path).display())
        }
        _ => url.to_owned(),
    }
}

/// Whether something in a URL has to be hidden.
pub fn has_secret(url: &str) -> bool {
    let shown = secret::redact_url(url);
    (shown.contains("***") && !url.contains("***")) || shown.contains(secret::HIDDEN)
}

pub fn wishes(args: &Args) -> OperatorWishes {
    // A later argument overrides an earlier one, and a column precedes a text: the text then replaces the column's blanks.
    let mut given: BTreeMap<LeadKey, GivenValue> = BTreeMap::new();
    given.extend(args.conversation.clone().map(|name| (LeadKey::ConversationId, GivenValue::Value(name))));
    given.extend(args.map.iter().cloned());
    let mut given: Vec<(LeadKey, GivenValue)> = given.into_iter().collect();
    given.extend(args.value.iter().cloned());
    OperatorWishes { key: args.key.clone(), changed_at: args.changed_at.clone(), client: args.client.clone(), given }
}
