//! `resend`: has leads sent again that Conversica has accepted, or is assumed to know. The cure for a conversation that was not
//! active, or for a loss at Conversica.

use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};

use crate::cli::context::{ExitCode, confirmed, existing_state, person, settings};
use crate::cli::reconcile::silent_since;
use crate::cli::{progress, table};
use crate::config::ServiceSettings;
use crate::console::{printable, say};
use crate::error::SetupError;
use crate::store::resend::{self, ResendGroup, ResendOrder, ResendSelection};
use crate::wording;
use crate::{clock, decide};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "conversation", "accepted_from", "accepted_to", "unconfirmed", "assumed"]))]
pub struct Args {
    /// Ids of the leads
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only leads with this conversationId; may be given several times
    #[arg(long, value_name = "NAME")]
    pub conversation: Vec<String>,
    /// Only leads that Conversica accepted last at this time or later: 2026-11-01, or 2026-11-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub accepted_from: Option<DateTime<Utc>>,
    /// Only leads that Conversica accepted last before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub accepted_to: Option<DateTime<Utc>>,
    /// Only leads accepted more than a week ago about which Conversica has posted nothing
    #[arg(long)]
    pub unconfirmed: bool,
    /// Only leads that a baseline assumes known; they are contacted for the first time, as far as is known
    #[arg(long)]
    pub assumed: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0).map(|midnight| midnight.and_utc());
    let moment = DateTime::parse_from_rfc3339(text).map(DateTime::<Utc>::from).ok();
    moment
        .or_else(day)
        .ok_or_else(|| "write a day like 2026-11-01 (UTC), or a time like 2026-11-01T08:00:00Z".to_owned())
}

/// The cure where there is no terminal for the question.
const WITHOUT_ASKING: &str = "add --yes";

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let settings = &loaded.settings;
    let selection = selection(&args, settings, clock::now())?;
    let Some(state) = existing_state(settings).await? else { return Err(nothing_fits().into()) };
    loop {
        let groups = resend::look(&state, &selection).await?;
        let leads: i64 = groups.iter().map(|group| group.leads).sum();
        if leads == 0 {
            return Err(nothing_fits().into());
        }
        let limit = i64::from(settings.safety.approve_above);
        let is_held = limit > 0 && leads > limit;
        for line in wording::resend_groups(&groups) {
            say(printable(&line));
        }
        if !args.yes && !confirmed(&question(&groups), WITHOUT_ASKING)? {
            say("Nothing was changed.");
            return Ok(ExitCode::Decision);
        }
        let unfit = resend::list_other_ids(&state, &selection).await?;
        let who = person();
        let order = ResendOrder { selection: &selection, shown: leads, is_held, who: &who };
        let sent = decide::resend(&state, settings, order, clock::now(), progress::deciding(leads)).await?;
        let Some(sent) = sent else {
            say("More leads fit than were shown.");
            if args.yes {
                say("Nothing was changed.");
                return Ok(ExitCode::Decision);
            }
            continue;
        };
        if is_held {
            say(wording::resend_held(sent, limit));
            return Ok(ExitCode::Decision);
        }
        say(wording::resend_queued(sent));
        if unfit.is_empty() {
            return Ok(ExitCode::Done);
        }
        return Err(partly_fit(&unfit).into());
    }
}

fn selection(args: &Args, settings: &ServiceSettings, now: DateTime<Utc>) -> Result<ResendSelection, SetupError> {
    let silent_since = silent_since(None, settings, now).filter(|_| args.unconfirmed);
    if args.unconfirmed && silent_since.is_none() {
        return Err(SetupError::new(
            "--unconfirmed selects leads about which Conversica has posted nothing, and without [receive] no post arrives",
            "select them by --conversation, or by --accepted-from and --accepted-to",
        ));
    }
    Ok(ResendSelection {
        ids: args.ids.clone(),
        conversations: args.conversation.clone(),
        accepted_from: args.accepted_from,
        accepted_to: args.accepted_to,
        silent_since,
        assumed: args.assumed,
    })
}

fn question(groups: &[ResendGroup]) -> String {
    let leads = groups.iter().map(|group| group.leads).sum();
    let assumed = groups.iter().map(|group| group.assumed).sum();
    format!("Send {} again? {}", table::leads(leads), wording::resend_people(leads, assumed))
}

fn nothing_fits() -> SetupError {
    SetupError::new(
        "no lead fits: only leads that are in sync or assumed can be sent again. Nothing was changed",
        "`conversica-sync leads --status in_sync,assumed` lists them; others wait to be sent already, or for `approve` or `retry`",
    )
}

fn partly_fit(ids: &[String]) -> SetupError {
    SetupError::new(
        format!("no lead with the id {} can be sent again; the others are back in the queue", table::ids_of(ids)),
        "`conversica-sync lead ID` says what that lead waits for",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_a_moment() {
        let read = |text: &str| moment(text).map(|moment| moment.to_rfc3339()).ok();
        assert_eq!(read("2026-11-01").as_deref(), Some("2026-11-01T00:00:00+00:00"));
        assert_eq!(read("2026-11-01T08:00:00+02:00").as_deref(), Some("2026-11-01T06:00:00+00:00"));
        for wrong in ["", "yesterday", "2026-13-01", "08:00"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
