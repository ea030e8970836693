//! Pauses by an operator: first contacts and updates stop, for everybody or for single conversations. Withdrawals of consent are
//! sent all the same. At most one pause is in force for a scope.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::duration;
use crate::error::SetupError;

/// What one pause stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseScope {
    Everybody,
    /// The leads with this `conversationId`.
    Conversation(String),
}

impl PauseScope {
    /// The scopes of these conversations; everybody if there are none.
    pub fn of(conversations: &[String]) -> Vec<Self> {
        if conversations.is_empty() {
            return vec![Self::Everybody];
        }
        let mut scopes: Vec<Self> = Vec::new();
        for name in conversations {
            let scope = Self::Conversation(name.clone());
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes
    }
}

/// The pause of one scope, as the state stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorPause {
    /// `None` for everybody.
    pub conversation: Option<String>,
    pub since: DateTime<Utc>,
    /// `None` if only a person ends it.
    pub until: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub who: String,
}

impl OperatorPause {
    pub fn scope(&self) -> PauseScope {
        self.conversation.clone().map_or(PauseScope::Everybody, PauseScope::Conversation)
    }

    pub fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// All pauses in force, in one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PauseShown {
    /// The beginning of the pause for everybody; without one, the earliest beginning.
    pub since: DateTime<Utc>,
    /// `None` if a person has to end it.
    pub until: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub who: String,
    /// The paused conversations; empty if everybody is paused.
    pub conversations: Vec<String>,
    /// The pause of each scope: everybody first, then the conversations by name.
    pub scopes: Vec<OperatorPause>,
}

impl PauseShown {
    pub fn of(mut pauses: Vec<OperatorPause>, now: DateTime<Utc>) -> Option<Self> {
        pauses.retain(|pause| pause.is_in_force(now));
        pauses.sort_by(|one, other| one.conversation.cmp(&other.conversation));
        let first = pauses.first()?.clone();
        if first.conversation.is_none() {
            let OperatorPause { since, until, reason, who, .. } = first;
            return Some(Self { since, until, reason, who, conversations: Vec::new(), scopes: pauses });
        }
        let ends: Option<Vec<DateTime<Utc>>> = pauses.iter().map(|pause| pause.until).collect();
        let reasons = distinct(pauses.iter().filter_map(|pause| pause.reason.as_deref()));
        Some(Self {
            since: pauses.iter().map(|pause| pause.since).min().unwrap_or(first.since),
            until: ends.and_then(|ends| ends.into_iter().max()),
            reason: Some(reasons.join("; ")).filter(|reason| !reason.is_empty()),
            who: distinct(pauses.iter().map(|pause| pause.who.as_str())).join(", "),
            conversations: pauses.iter().filter_map(|pause| pause.conversation.clone()).collect(),
            scopes: pauses,
        })
    }

    pub fn is_of_everybody(&self) -> bool {
        self.conversations.is_empty()
    }

    /// The scopes that these pauses cover: "everybody", or the names of the conversations.
    pub fn names(&self) -> String {
        if self.is_of_everybody() { "everybody".to_owned() } else { self.conversations.join(", ") }
    }
}

fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut found = Vec::new();
    for text in texts {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// Reads the end of a pause: a date with a time, or a duration from now.
///
/// # Errors
/// [`SetupError`] for other texts and for moments that are not in the future.
pub fn parse_end(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, SetupError> {
    const CURE: &str = "give a date with a time, as 2026-12-01T08:00:00Z, or a duration from now, as 2h or 7d; without an end, \
                        the pause lasts until a person ends it with `unpause`";
    let end = match DateTime::parse_from_rfc3339(text) {
        Ok(end) => Some(end.to_utc()),
        Err(_) => duration::parse(text)
            .ok()
            .and_then(|wait| chrono::TimeDelta::from_std(wait).ok())
            .and_then(|wait| now.checked_add_signed(wait)),
    };
    match end {
        None => Err(SetupError::new(format!("the end of the pause cannot be read: {text:?}"), CURE)),
        Some(end) if end <= now => {
            let what = format!("the end of the pause is in the past: {text:?} is {}", end.format("%F %T UTC"));
            Err(SetupError::new(what, CURE))
        }
        Some(end) => Ok(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn pause(conversation: Option<&str>, began_hours_ago: i64, ends_in_hours: Option<i64>) -> OperatorPause {
        OperatorPause {
            conversation: conversation.map(str::to_owned),
            since: now() - TimeDelta::hours(began_hours_ago),
            until: ends_in_hours.map(|hours| now() + TimeDelta::hours(hours)),
            reason: Some("fair".to_owned()),
            who: conversation.unwrap_or("kim").to_owned(),
        }
    }

    #[test]
    fn a_pause_ends_at_its_end_and_without_one_never() {
        assert!(pause(None, 1, None).is_in_force(now() + TimeDelta::days(10_000)));
        let ends = pause(None, 1, Some(1));
        assert!(ends.is_in_force(now() + TimeDelta::minutes(59)));
        assert!(!ends.is_in_force(now() + TimeDelta::hours(1)));
        assert_eq!(PauseShown::of(vec![ends], now() + TimeDelta::hours(1)), None);
        assert_eq!(PauseShown::of(Vec::new(), now()), None);
    }

    #[test]
    fn a_pause_of_everybody_covers_those_of_conversations() {
        let shown = PauseShown::of(vec![pause(Some("Spring"), 9, None), pause(None, 1, Some(2))], now()).unwrap();
        assert!(shown.is_of_everybody());
        assert_eq!((shown.since, shown.until), (now() - TimeDelta::hours(1), Some(now() + TimeDelta::hours(2))));
        assert_eq!((shown.who.as_str(), shown.names().as_str(), shown.scopes.len()), ("kim", "everybody", 2));
        let later = PauseShown::of(shown.scopes, now() + TimeDelta::hours(3)).unwrap();
        assert_eq!((later.conversations, later.until), (vec!["Spring".to_owned()], None), "its own pause goes on");
    }

    #[test]
    fn pauses_of_conversations_are_shown_together() {
        let two = vec![pause(Some("Spring"), 1, Some(2)), pause(Some("Fall"), 3, Some(4))];
        let shown = PauseShown::of(two, now()).unwrap();
        assert_eq!((shown.since, shown.until), (now() - TimeDelta::hours(3), Some(now() + TimeDelta::hours(4))));
        assert_eq!(shown.names(), "Fall, Spring");
        assert_eq!((shown.who.as_str(), shown.reason.as_deref()), ("Fall, Spring", Some("fair")));
        let open = vec![pause(Some("Spring"), 1, Some(2)), pause(Some("Fall"), 3, None)];
        assert_eq!(PauseShown::of(open, now()).unwrap().until, None, "a person has to end one of them");
    }

    #[test]
    fn a_conversation_named_twice_is_one_scope() {
        let names = ["Spring", "Fall", "Spring"].map(str::to_owned);
        assert_eq!(PauseScope::of(&names).len(), 2);
        assert_eq!(PauseScope::of(&[]), [PauseScope::Everybody]);
    }

    #[test]
    fn an_end_is_a_moment_or_a_duration_and_lies_in_the_future() {
        let hour = now() + TimeDelta::hours(1);
        assert_eq!(parse_end("1h", now()).unwrap(), hour);
        assert_eq!(parse_end(&hour.to_rfc3339(), now()).unwrap(), hour);
        assert_eq!(parse_end("2027-01-15T10:00:00+01:00", now()).unwrap(), hour);
        for wrong in ["", "tomorrow", "2", "-1h", "2027-01-15", "9999999d"] {
            let error = parse_end(wrong, now()).unwrap_err();
            assert!(error.what.contains("cannot be read") && error.cure.contains("2h"), "{wrong}: {error}");
        }
        for past in ["0s", "2020-01-01T00:00:00Z", &now().to_rfc3339()] {
            let error = parse_end(past, now()).unwrap_err();
            assert!(error.what.contains("in the past") && error.cure.contains("7d"), "{past}: {error}");
        }
    }
}
