//! A word about consent: the channel it concerns, and whether it gives or withdraws consent.

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;

/// What consent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Email,
    Sms,
}

impl Channel {
    pub const ALL: [Channel; 2] = [Channel::Email, Channel::Sms];

    pub const fn name(self) -> &'static str {
        match self {
            Channel::Email => "email",
            Channel::Sms => "sms",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// One word about one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub channel: Channel,
    pub given: bool,
    /// Since when, as far as was said; else when it was heard.
    pub at: DateTime<Utc>,
}

pub(crate) const BOTH: &[Channel] = &Channel::ALL;

pub(crate) const EMAIL: &[Channel] = &[Channel::Email];

pub(crate) const SMS: &[Channel] = &[Channel::Sms];
