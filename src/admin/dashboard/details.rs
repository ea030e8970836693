//! What the overview needs beyond the status document: read from the state, each part by a statement whose cost does not
//! grow with the number of leads.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::lead::LeadId;
use crate::conversica::token::Veil;
use crate::db::Db;
use crate::state::decision::{self, Decided};
use crate::state::due;
use crate::state::heard::reading::{self, Heard, Wanted};
use crate::state::lead::Status;
use crate::state::listing::{Listed, Pages};
use crate::state::outcome::{self, Failed, Stretch};
use crate::story::entry;

/// Leads of a status that are looked at for their reasons; of more, only some are told by reason.
pub const LOOKED_AT: i64 = 1000;
/// Leads that are named in each group.
const EXAMPLES: usize = 3;
/// Groups of a status; what is left is counted together.
const GROUPS: usize = 8;
const EVENTS: i64 = 8;
/// Minutes a bar, in the chart of the last hour.
pub const FINE: i64 = 2;
pub const COARSE: i64 = 60;

#[derive(Debug, Clone)]
pub struct Details {
    pub at: DateTime<Utc>,
    /// When the lead that has been due for longest became due.
    pub oldest_due: Option<DateTime<Utc>>,
    pub hour: Vec<Stretch>,
    pub day: Vec<Stretch>,
    pub groups: Vec<Group>,
    pub decisions: Vec<Decided>,
    pub failed: Vec<Failed>,
    pub posts: Vec<Heard>,
}

/// Leads that wait for a person for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub status: Status,
    /// Blank for those that are not told apart.
    pub reason: String,
    pub leads: i64,
    /// Whether there may be more of them.
    pub at_least: bool,
    pub examples: Vec<LeadId>,
}

/// What needs a person, the most urgent first.
const FOR_A_PERSON: [Status; 4] = [Status::Held, Status::Rejected, Status::Exhausted, Status::Invalid];

impl Details {
    pub async fn of(db: &Db, veil: &Veil, now: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let mut groups = Vec::new();
        for status in FOR_A_PERSON {
            let some = Pages::some(db, status).next(LOOKED_AT).await?;
            groups.extend(grouped(status, &some, veil));
        }
        let mut posts = reading::list(db, &Wanted::default(), EVENTS).await?;
        // Only what they are about is told here.
        posts.iter_mut().for_each(|post| post.body.clear());
        Ok(Self {
            at: now,
            oldest_due: due::oldest(db).await?,
            hour: outcome::by_stretch(db, first_of_hour(now), FINE).await?,
            day: outcome::by_stretch(db, first_of_day(now), COARSE).await?,
            groups,
            decisions: decision::newest(db, EVENTS).await?,
            failed: outcome::newest_failed(db, EVENTS).await?,
            posts,
        })
    }
}

/// The beginning of the first bar: the newest one is still growing.
pub fn first_of_hour(now: DateTime<Utc>) -> DateTime<Utc> {
    stretch(now, FINE) - TimeDelta::minutes(60 - FINE)
}

pub fn first_of_day(now: DateTime<Utc>) -> DateTime<Utc> {
    stretch(now, COARSE) - TimeDelta::hours(23)
}

fn stretch(now: DateTime<Utc>, minutes: i64) -> DateTime<Utc> {
    let seconds = now.timestamp().div_euclid(minutes * 60) * minutes * 60;
    DateTime::from_timestamp(seconds, 0).unwrap_or(now)
}

fn grouped(status: Status, leads: &[Listed], veil: &Veil) -> Vec<Group> {
    let at_least = i64::try_from(leads.len()).is_ok_and(|leads| leads >= LOOKED_AT);
    let mut by_reason: BTreeMap<String, (i64, Vec<LeadId>)> = BTreeMap::new();
    for lead in leads {
        // A lead with several reasons counts under each.
        let reasons = match lead.status {
            Status::Invalid if !lead.invalid_reasons.is_empty() => lead.invalid_reasons.clone(),
            _ => vec![veil.text(&entry::reason(lead)).into_owned()],
        };
        for reason in reasons {
            let (leads, examples) = by_reason.entry(reason).or_default();
            *leads += 1;
            examples.push(lead.lead.clone());
        }
    }
    let group = |(reason, (leads, mut examples)): (String, (i64, Vec<LeadId>))| {
        examples.sort_by(|a, b| (a.id.len(), &a.id, &a.client_id).cmp(&(b.id.len(), &b.id, &b.client_id)));
        examples.truncate(EXAMPLES);
        Group { status, reason, leads, at_least, examples }
    };
    let mut groups: Vec<Group> = by_reason.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.leads));
    if groups.len() > GROUPS {
        let rest = groups.split_off(GROUPS - 1);
        let leads = rest.iter().map(|group| group.leads).sum();
        let examples = rest.iter().flat_map(|group| group.examples.clone()).take(EXAMPLES).collect();
        groups.push(Group { status, reason: String::new(), leads, at_least, examples });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(id: u32, reasons: &[&str]) -> Listed {
        Listed {
            lead: LeadId { id: id.to_string(), client_id: String::new() },
            status: Status::Invalid,
            hold_reason: None,
            invalid_reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            last_outcome: None,
            due_at: None,
            changed_at: DateTime::UNIX_EPOCH,
            since: DateTime::UNIX_EPOCH,
            attempts: 0,
        }
    }

    #[test]
    fn leads_are_grouped_by_reason_the_largest_first_and_the_rest_together() {
        let mut leads = vec![invalid(10, &["a", "b"]), invalid(9, &["b"]), invalid(8, &["b"]), invalid(7, &["b"])];
        let groups = grouped(Status::Invalid, &leads, &Veil::over(None));
        let said: Vec<_> =
            groups.iter().map(|group| (group.reason.as_str(), group.leads, group.examples.len())).collect();
        assert_eq!(said, [("b", 4, 3), ("a", 1, 1)]);
        assert_eq!(groups[0].examples[0].id, "7", "the first of them");
        leads.extend((100..200).map(|n| invalid(n, &[&n.to_string()])));
        let groups = grouped(Status::Invalid, &leads, &Veil::over(None));
        assert_eq!((groups.len(), groups[7].reason.as_str()), (GROUPS, ""));
        assert_eq!(groups.iter().map(|group| group.leads).sum::<i64>(), 105);
    }

    #[test]
    fn a_chart_begins_at_a_whole_stretch_and_ends_with_the_present_one() {
        let now = DateTime::from_timestamp(1_800_000_059, 0).expect("a moment");
        for (first, minutes, stretches) in [(first_of_hour(now), FINE, 30), (first_of_day(now), COARSE, 24)] {
            assert_eq!(first.timestamp() % (minutes * 60), 0);
            let end = first + TimeDelta::minutes(minutes * stretches);
            assert!(end > now && end - TimeDelta::minutes(minutes) <= now);
        }
    }
}
