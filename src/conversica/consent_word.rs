//! A withdrawal or grant of consent for one channel.

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;

/// The channel of messages that consent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentChannel {
    Email,
    Sms,
}

impl ConsentChannel {
    pub const ALL: [ConsentChannel; 2] = [ConsentChannel::Email, ConsentChannel::Sms];

    pub const fn name(self) -> &'static str {
        match self {
            ConsentChannel::Email => "email",
            ConsentChannel::Sms => "sms",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// A withdrawal or grant for one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelWord {
    pub channel: ConsentChannel,
    pub given: bool,
    /// The date in the post or the row; otherwise the time of arrival.
    pub at: DateTime<Utc>,
}

pub(crate) const BOTH: &[ConsentChannel] = &ConsentChannel::ALL;

pub(crate) const EMAIL: &[ConsentChannel] = &[ConsentChannel::Email];

pub(crate) const SMS: &[ConsentChannel] = &[ConsentChannel::Sms];
