//! The decisions to pause and to end a pause. Words and effects equal those of the command line.

use chrono::{DateTime, Utc};

use super::act_preview::{ActionInput, ActionPreview, ActionResult};
use super::frame::QueryParameters;
use crate::decide::{self, PauseOrder};
use crate::rules::operator_pause::{PauseScope, PauseShown, parse_end};
use crate::store::decision::DecisionMaker;
use crate::store::state_db::StateDb;
use crate::store::{micros, operator_pause};
use crate::wording;

/// The form of a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseForm {
    /// Blank for everybody.
    conversation: String,
    /// Blank where a person is to end it.
    until: String,
    reason: String,
}

impl PauseForm {
    pub fn read(asked: &QueryParameters) -> Self {
        let field = |name: &str| asked.get(name).trim().to_owned();
        Self { conversation: field("conversation"), until: field("until"), reason: field("reason") }
    }

    pub async fn preview(&self, db: &StateDb, now: DateTime<Utc>) -> Result<ActionPreview, sqlx::Error> {
        let in_force = operator_pause::read(db, now).await?;
        let input = |name: &'static str, label: &'static str, hint: &'static str, value: &str| ActionInput {
            name,
            label,
            hint,
            value: value.to_owned(),
        };
        let mut asides = vec![
            "Withdrawals of consent are sent all the same, and posts are received. Requests on their way are not taken back."
                .to_owned(),
            "It holds for all instances, also after a restart.".to_owned(),
        ];
        asides.extend(in_force.as_ref().map(|pause| format!("Paused already: {}.", pause.names())));
        Ok(ActionPreview {
            title: "Pause sending".to_owned(),
            question: "Stop all first contacts and updates?".to_owned(),
            asides,
            button: "Pause",
            shown: mark(in_force.as_ref()),
            inputs: vec![
                input("reason", "Why", "for those who find the pause", &self.reason),
                input("until", "Until", "2h, 7d or 2026-12-01T08:00:00Z; blank: until a person ends it", &self.until),
                input("conversation", "Conversation", "only this conversationId; blank: everybody", &self.conversation),
            ],
            ..ActionPreview::default()
        })
    }

    pub async fn carry_out(
        &self,
        db: &StateDb,
        shown: &str,
        who: &DecisionMaker,
        now: DateTime<Utc>,
    ) -> anyhow::Result<ActionResult> {
        if mark(operator_pause::read(db, now).await?.as_ref()) != shown {
            return Ok(ActionResult::Grown("What is paused has changed meanwhile.".to_owned()));
        }
        let until = match self.until.as_str() {
            "" => None,
            text => match parse_end(text, now) {
                Ok(until) => Some(until),
                Err(error) => return Ok(ActionResult::Grown(format!("{}: {}.", error.what, error.cure))),
            },
        };
        let named: Vec<String> = Some(self.conversation.clone()).filter(|name| !name.is_empty()).into_iter().collect();
        let scopes = PauseScope::of(&named);
        let order = PauseOrder { scopes: &scopes, until, reason: Some(self.reason.as_str()), who };
        Ok(ActionResult::Said(wording::pause_begun(&decide::pause(db, order, now).await?)))
    }
}

/// The page before the end of the pauses; `Err` says why there is nothing to end.
pub async fn preview_end(
    db: &StateDb,
    conversations: &[String],
    now: DateTime<Utc>,
) -> Result<Result<ActionPreview, String>, sqlx::Error> {
    let Some(pause) = operator_pause::read(db, now).await? else { return Ok(Err("Nothing is paused.".to_owned())) };
    let names = if conversations.is_empty() { pause.names() } else { conversations.join(", ") };
    Ok(Ok(ActionPreview {
        title: "End the pause".to_owned(),
        question: format!("End the pause of {names}?"),
        asides: vec!["What waits is sent at once, at the pace that is set.".to_owned()],
        button: "End the pause",
        shown: mark(Some(&pause)),
        ..ActionPreview::default()
    }))
}

pub async fn carry_out_end(
    db: &StateDb,
    conversations: &[String],
    shown: &str,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> anyhow::Result<ActionResult> {
    let pause = operator_pause::read(db, now).await?;
    if pause.is_some() && mark(pause.as_ref()) != shown {
        return Ok(ActionResult::Grown("What is paused has changed meanwhile.".to_owned()));
    }
    Ok(ActionResult::Said(decide::unpause(db, conversations, who, now).await?.join(" ")))
}

/// Names the pauses that a page shows.
fn mark(shown: Option<&PauseShown>) -> String {
    let scopes = shown.map(|shown| shown.scopes.as_slice()).unwrap_or_default();
    let newest = scopes.iter().map(|pause| micros(pause.since)).max().unwrap_or(0);
    format!("{}-{newest}", scopes.len())
}
