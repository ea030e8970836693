//! Which mapping made the leads in the state, which mappings it has replaced, and whether an instance may poll with its own.
//! Pure.
//!
//! Instances with different mappings would undo each other's sends. The one that came last polls. One whose mapping was replaced
//! does not poll while an instance with the newer mapping is present, also after a restart. Where no other instance is, going back
//! to an earlier mapping is an ordinary change.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How long the newer mapping keeps its place after the last instance with it has gone: the time of a restart.
pub const RESTART_TIME: Duration = Duration::from_secs(60);

/// How many replaced mappings are remembered.
const REMEMBERED: usize = 20;

/// The mapping that made the leads in the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingInUse {
    /// Empty from the begin of the first poll with a changed mapping to its end: the leads then belong to no mapping.
    pub fingerprint: String,
    /// The mapping of that unfinished poll.
    #[serde(default)]
    pub incoming: Option<String>,
    /// The process that took the newest mapping into use, for messages.
    #[serde(default)]
    pub set_by: Option<String>,
    #[serde(default)]
    pub set_at: Option<DateTime<Utc>>,
    /// Mappings that were in use before; the one replaced last is the last.
    #[serde(default)]
    pub replaced: Vec<ReplacedMapping>,
}

/// A mapping that was in use until another one replaced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedMapping {
    pub fingerprint: String,
    pub at: DateTime<Utc>,
    /// The fingerprint of the newer one.
    pub by: String,
}

impl MappingInUse {
    /// The record after a complete poll with the mapping `mine`, begun at `now` by the process `who`.
    pub fn renewed(before: Option<&Self>, mine: &str, who: &str, now: DateTime<Utc>) -> Self {
        match before {
            Some(before) if before.fingerprint == mine => before.clone(),
            Some(before) if before.newest() == Some(mine) => {
                Self { fingerprint: mine.to_owned(), incoming: None, ..before.clone() }
            }
            Some(_) | None => Self {
                fingerprint: mine.to_owned(),
                incoming: None,
                set_by: Some(who.to_owned()),
                set_at: Some(now),
                replaced: before.map(|before| before.replaced_by(mine, now)).unwrap_or_default(),
            },
        }
    }

    /// The same while the first poll with this mapping has not ended.
    pub fn unfinished(&self) -> Self {
        Self { fingerprint: String::new(), incoming: Some(self.fingerprint.clone()), ..self.clone() }
    }

    /// The mapping that came last, whether or not its first poll has ended. Unknown if an older version of the program wrote the
    /// record during that poll.
    pub fn newest(&self) -> Option<&str> {
        self.incoming.as_deref().or(Some(&self.fingerprint)).filter(|newest| !newest.is_empty())
    }

    /// Whether this mapping was in use earlier and is no longer.
    pub fn has_replaced(&self, mapping: &str) -> bool {
        self.newest() != Some(mapping) && self.replaced.iter().any(|replaced| replaced.fingerprint == mapping)
    }

    fn replaced_by(&self, mine: &str, now: DateTime<Utc>) -> Vec<ReplacedMapping> {
        let newest = self.newest();
        let is_older =
            |earlier: &&ReplacedMapping| earlier.fingerprint != mine && Some(earlier.fingerprint.as_str()) != newest;
        let mut replaced: Vec<ReplacedMapping> = self.replaced.iter().filter(is_older).cloned().collect();
        replaced.extend(newest.map(|newest| ReplacedMapping {
            fingerprint: newest.to_owned(),
            at: now,
            by: mine.to_owned(),
        }));
        let surplus = replaced.len().saturating_sub(REMEMBERED);
        replaced.split_off(surplus)
    }
}

/// Whether an instance may poll with its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingTurn {
    /// The mapping is the one in use, or the first one.
    Poll,
    /// The mapping takes the place of the one in use: the poll compares every row, and its sends may need approval.
    PollAsChanged,
    StandBack(StandBackReason),
}

/// Why an instance with an older mapping does not poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandBackReason {
    NewerIsPresent,
    /// No instance with the newer mapping is present at this moment; it may be restarting.
    NewerWasPresent,
}

/// Whether this process has completed a poll with its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPolls {
    NoneYet,
    Some,
}

/// What a process knows about other instances that have the newest mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewerInstances {
    Present,
    AbsentFor(Duration),
    /// This process is the only instance, and has been.
    NoneKnown,
}

/// Decides whether an instance with the mapping `mine` polls. An instance that has polled and finds another mapping in use was
/// replaced even if the record does not say so.
pub fn decide(in_use: Option<&MappingInUse>, mine: &str, own: OwnPolls, newer: NewerInstances) -> MappingTurn {
    let Some(in_use) = in_use.filter(|in_use| in_use.fingerprint != mine) else { return MappingTurn::Poll };
    if !is_older(in_use, mine, own) {
        return MappingTurn::PollAsChanged;
    }
    match newer {
        NewerInstances::Present => MappingTurn::StandBack(StandBackReason::NewerIsPresent),
        NewerInstances::AbsentFor(absent) if absent < RESTART_TIME => {
            MappingTurn::StandBack(StandBackReason::NewerWasPresent)
        }
        NewerInstances::AbsentFor(_) | NewerInstances::NoneKnown => MappingTurn::PollAsChanged,
    }
}

/// Whether other instances matter: the mapping `mine` is older than the one in use.
pub fn is_older(in_use: &MappingInUse, mine: &str, own: OwnPolls) -> bool {
    in_use.newest() != Some(mine) && (own == OwnPolls::Some || in_use.has_replaced(mine))
}

/// The other instances that share the state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceCompany {
    /// With whatever mapping.
    pub others: i64,
    /// Those that have the newest mapping.
    pub newer: i64,
}

/// What one process has seen of instances with the newest mapping, from look to look.
#[derive(Debug, Default)]
pub struct NewerWatch {
    /// Since when none has been there; `None` before the first look and while one is there.
    absent_since: Option<Instant>,
    known: bool,
}

impl NewerWatch {
    /// Takes in one look. `lately_shared`: the record of the last poll says that several instances shared the state a short time
    /// ago. Without that, a process that finds itself alone at its first look is the only one.
    pub fn look(&mut self, company: InstanceCompany, lately_shared: SharedLately, now: Instant) -> NewerInstances {
        if company.newer > 0 {
            *self = Self { absent_since: None, known: true };
            return NewerInstances::Present;
        }
        if !self.known && company.others == 0 && lately_shared == SharedLately::No {
            return NewerInstances::NoneKnown;
        }
        self.known = true;
        NewerInstances::AbsentFor(now.duration_since(*self.absent_since.get_or_insert(now)))
    }
}

/// Whether several instances shared the state a short time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLately {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
