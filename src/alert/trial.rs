//! Tries a channel with a notice that nothing is wrong.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::alert::channel::AlertChannel;
use crate::alert::failure::ChannelFailure;
use crate::alert::notice::TEST_KIND;
use crate::config::ChannelFormat;

/// Sends one test notice, whatever kinds the channel is told of. PagerDuty is told of its end at once, so that no person is called.
///
/// # Errors
/// Why the notice did not get through, in words without data.
pub async fn try_channel(channel: &AlertChannel, identity: &str, now: DateTime<Utc>) -> Result<(), ChannelFailure> {
    channel.send(&document("begun", now), identity).await?;
    match channel.format {
        ChannelFormat::Pagerduty => channel.send(&document("ended", now), identity).await,
        ChannelFormat::Json | ChannelFormat::Slack | ChannelFormat::Teams | ChannelFormat::Email => Ok(()),
    }
}

/// The same form as the documents about the service.
fn document(state: &str, now: DateTime<Utc>) -> String {
    json!({
        "kind": TEST_KIND,
        "state": state,
        "at": now,
        "since": now,
        "reason": null,
        "count": null,
        "new_people": null,
        "cure": "nothing: an operator has run `conversica-sync alerts test`",
        "host": rustix::system::uname().nodename().to_string_lossy(),
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}
