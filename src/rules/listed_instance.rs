//! Which instances are shown as running, and their names. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// An instance renews its row every few seconds. One that was not seen for this long is not listed.
pub const SEEN_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// The longest host name in an instance's name.
const HOST_LENGTH: usize = 64;

/// A process that may send from the state, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedInstance {
    /// `host:pid`.
    pub name: String,
    /// When it took its right to send.
    pub since: DateTime<Utc>,
    /// It has the turn to poll; between two polls: it had the turn last.
    pub polls: bool,
    /// Its last sign of life.
    pub last_seen: DateTime<Utc>,
}

/// Those that were seen lately. A time in the future counts by its distance too: the server's clock may have been set back.
pub fn seen_lately(instances: Vec<ListedInstance>, now: DateTime<Utc>) -> Vec<ListedInstance> {
    instances.into_iter().filter(|instance| (now - instance.last_seen).abs() <= SEEN_WITHIN).collect()
}

/// The machine's name in characters that need no quotes in a metric, in a log line or in the lock file.
pub fn plain_host(host: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let plain: String =
        host.chars().take(HOST_LENGTH).map(|character| if is_plain(character) { character } else { '_' }).collect();
    if plain.is_empty() { "unknown".to_owned() } else { plain }
}

/// `host:pid`. A second process of that name, as in two containers with the same host name, is `host:pid#2`.
pub fn instance_name(host: &str, pid: u32, number: u32) -> String {
    let host = plain_host(host);
    if number < 2 { format!("{host}:{pid}") } else { format!("{host}:{pid}#{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_listed_until_it_was_not_seen_for_a_minute() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let seen = |name: &str, seconds: i64| ListedInstance {
            name: name.to_owned(),
            since: now - TimeDelta::days(3),
            polls: false,
            last_seen: now - TimeDelta::seconds(seconds),
        };
        let ages = [("now", 0), ("lately", 59), ("a_minute", 60), ("long_ago", 61), ("soon", -5), ("far_ahead", -61)];
        let listed = seen_lately(ages.map(|(name, seconds)| seen(name, seconds)).to_vec(), now);
        let names: Vec<&str> = listed.iter().map(|instance| instance.name.as_str()).collect();
        assert_eq!(names, ["now", "lately", "a_minute", "soon"]);
    }

    #[test]
    fn a_name_has_host_and_process_and_no_character_that_needs_quotes() {
        assert_eq!(instance_name("crm-1.example", 4711, 1), "crm-1.example:4711");
        assert_eq!(instance_name("sync", 1, 2), "sync:1#2");
        assert_eq!(instance_name("a \"b\"\nü", 7, 1), "a__b___:7");
        assert_eq!(instance_name("", 7, 1), "unknown:7");
        assert_eq!(plain_host(&"x".repeat(300)).len(), HOST_LENGTH);
    }
}
