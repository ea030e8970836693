//! A line of the table of instances on the overview.

use chrono::{DateTime, Utc};

use super::frame::{ShownMoment, moment};
use crate::rules::listed_instance::ListedInstance;

pub struct InstanceLine {
    pub name: String,
    pub since: ShownMoment,
    pub last_seen: ShownMoment,
    pub polls: &'static str,
}

impl InstanceLine {
    pub fn of(instance: &ListedInstance, now: DateTime<Utc>) -> Self {
        Self {
            name: instance.name.clone(),
            since: moment(instance.since, now),
            last_seen: moment(instance.last_seen, now),
            polls: if instance.polls { "polls" } else { "" },
        }
    }
}
