//! `alerts`: whether the channels of `[alerts]` reach people.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::json;

use crate::alert::channel::{AlertChannel, AlertChannels, TOLD};
use crate::alert::failure::ChannelFailure;
use crate::alert::trial;
use crate::cli::context::{ExitCode, settings};
use crate::cli::table;
use crate::clock;
use crate::console::{SCHEMA_VERSION, printable, say};
use crate::error::SetupError;
use crate::nearest::nearest;

pub const ALERTS: &str = "\
Examples:
  conversica-sync alerts test                         a test notice through every channel
  conversica-sync alerts test --channel operations    through one";

pub const ALERTS_TEST: &str = "\
Examples:
  conversica-sync alerts test                         through every channel, whatever its kinds
  conversica-sync alerts test --channel operations    through one
  conversica-sync alerts test --json                  for scripts

[alerts] url and [alerts] command are the channels \"url\" and \"command\"; an entry of [[alerts.channel]] without a name is \
channel.0, channel.1, …. PagerDuty is told of the end at once, so that no person is called.

Exit codes: 0 every channel has taken it, 1 one has not, 2 usage or configuration.";

/// What the incident of a test is called at PagerDuty, instead of an installation's own name.
const IDENTITY: &str = "test";

#[derive(Debug, clap::Subcommand)]
pub enum AlertsCommand {
    /// Send a test notice through the channels, and say how each did
    #[command(after_help = ALERTS_TEST)]
    Test {
        /// Only this channel; may be repeated
        #[arg(long, value_name = "NAME")]
        channel: Vec<String>,
        /// One JSON document on standard output
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: AlertsCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = settings(file)?.settings;
    let AlertsCommand::Test { channel: wanted, json: as_json } = command;
    let AlertChannels { channels, .. } = AlertChannels::new(&settings.alerts, IDENTITY.to_owned());
    let chosen = choose(&channels, &wanted)?;
    let now = clock::now();
    let tries = chosen.iter().map(|channel| trial::try_channel(channel, IDENTITY, now));
    let results: Vec<(&AlertChannel, Result<(), ChannelFailure>)> =
        chosen.iter().copied().zip(join_all(tries).await).collect();
    say(if as_json { document(&results) } else { text(&results) });
    Ok(if results.iter().all(|(_, result)| result.is_ok()) { ExitCode::Done } else { ExitCode::Failed })
}

fn choose<'c>(channels: &'c [AlertChannel], wanted: &[String]) -> Result<Vec<&'c AlertChannel>, SetupError> {
    if channels.is_empty() {
        return Err(SetupError::new(
            "no channel is set, so no alert can be sent",
            "add [[alerts.channel]] to the settings, or [alerts] url or command; docs/alerts.md has examples",
        ));
    }
    for name in wanted {
        if !channels.iter().any(|channel| channel.name == *name) {
            let near = nearest(name, channels.iter().map(|channel| channel.name.as_str()));
            let question = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
            return Err(SetupError::new(
                format!("there is no channel `{name}`{question}"),
                format!("name one of these: {}", names.join(", ")),
            ));
        }
    }
    Ok(channels.iter().filter(|channel| wanted.is_empty() || wanted.contains(&channel.name)).collect())
}

fn document(results: &[(&AlertChannel, Result<(), ChannelFailure>)]) -> String {
    let channels: Vec<_> = results
        .iter()
        .map(|(channel, result)| {
            let failure = result.as_ref().err();
            json!({
                "name": channel.name,
                "format": channel.format.name(),
                "way": channel.way_name,
                "told": failure.is_none(),
                "reason": failure.map(|failure| &failure.what),
                "cure": failure.map(|failure| failure.cure),
            })
        })
        .collect();
    json!({ "schema_version": SCHEMA_VERSION, "channels": channels }).to_string()
}

fn text(results: &[(&AlertChannel, Result<(), ChannelFailure>)]) -> String {
    let mut list = table::plain(&["channel", "format", "by", "result"]);
    for (channel, result) in results {
        list.add_row([
            printable(&channel.name).into_owned(),
            channel.format.name().to_owned(),
            channel.way_name.to_owned(),
            result.as_ref().err().map_or_else(|| TOLD.to_owned(), |failure| format!("FAILED: {}", failure.what)),
        ]);
    }
    let failed = results.iter().filter_map(|(channel, result)| Some((channel, result.as_ref().err()?)));
    let cures = failed.map(|(channel, failure)| format!("\n{}: cure: {}", printable(&channel.name), failure.cure));
    format!("{}{}", list.trim_fmt(), cures.collect::<String>())
}
