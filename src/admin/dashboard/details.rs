//! Data of the overview beyond the status document, read from the state. Leads that need the operator are all counted.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::lead::LeadId;
use crate::conversica::token::TokenVeil;
use crate::rules::lead_status::LeadStatus;
use crate::store::decision::{self, RecordedDecision};
use crate::store::grouped::{self, CountedReasons};
use crate::store::heard::reading::{self, EventFilter, HeardEvent};
use crate::store::listing::{ListedLead, ListingPages};
use crate::store::outcome::{self, FailedAttempt, OutcomeStretch};
use crate::store::state_db::StateDb;
use crate::store::{due, possible_opt_out};
use crate::story::entry;

/// Leads read per status for their reasons and as examples; the database counts the others.
pub const LOOKED_AT: i64 = 1000;
/// Examples per group.
const EXAMPLES: usize = 3;
/// Groups per status; the remaining leads are counted together.
const GROUPS: usize = 8;
const EVENTS: i64 = 8;
/// Minutes per bar in the chart of the last hour.
pub const FINE: i64 = 2;
pub const COARSE: i64 = 60;

#[derive(Debug, Clone)]
pub struct OverviewDetails {
    pub at: DateTime<Utc>,
    /// The due time of the lead that has been due for longest.
    pub oldest_due: Option<DateTime<Utc>>,
    pub hour: Vec<OutcomeStretch>,
    pub day: Vec<OutcomeStretch>,
    pub groups: Vec<WaitingGroup>,
    /// The number of leads per status that needs the operator, counted together with the groups.
    pub needing: Vec<(LeadStatus, i64)>,
    pub decisions: Vec<RecordedDecision>,
    pub failed: Vec<FailedAttempt>,
    pub posts: Vec<HeardEvent>,
    /// Examples of leads that damaged posts may be opt-outs of.
    pub possible_opt_outs: Vec<LeadId>,
}

/// Leads that wait for the operator for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingGroup {
    pub status: LeadStatus,
    /// Blank for the remaining leads.
    pub reason: String,
    pub leads: i64,
    pub examples: Vec<LeadId>,
}

/// Statuses that need the operator, the most urgent first.
const FOR_A_PERSON: [LeadStatus; 4] =
    [LeadStatus::Held, LeadStatus::Rejected, LeadStatus::Exhausted, LeadStatus::Invalid];

impl OverviewDetails {
    pub async fn of(db: &StateDb, veil: &TokenVeil, now: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let (mut groups, mut needing) = (Vec::new(), Vec::new());
        for status in FOR_A_PERSON {
            let some = ListingPages::some(db, status).next(LOOKED_AT).await?;
            let read = i64::try_from(some.len()).unwrap_or(i64::MAX);
            let counted = if read < LOOKED_AT { None } else { Some(grouped::by_reason(db, status).await?) };
            needing.push((status, counted.as_ref().map_or(read, |counted| counted.leads)));
            groups.extend(grouped(status, &some, counted.as_ref(), veil));
        }
        let mut posts = reading::list(db, &EventFilter::default(), EVENTS).await?;
        // The overview shows only the subjects of posts.
        posts.iter_mut().for_each(|post| post.body.clear());
        Ok(Self {
            at: now,
            oldest_due: due::oldest(db, now).await?,
            hour: outcome::by_stretch(db, first_of_hour(now), FINE).await?,
            day: outcome::by_stretch(db, first_of_day(now), COARSE).await?,
            groups,
            needing,
            decisions: decision::newest(db, EVENTS).await?,
            failed: outcome::newest_failed(db, EVENTS).await?,
            posts,
            possible_opt_outs: possible_opt_out::waiting_leads(db, EVENTS).await?,
        })
    }
}

/// The start of the first bar; the newest bar is still growing.
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

/// `leads` are all leads of that status without `counted`, and a part of them otherwise.
fn grouped(
    status: LeadStatus,
    leads: &[ListedLead],
    counted: Option<&CountedReasons>,
    veil: &TokenVeil,
) -> Vec<WaitingGroup> {
    // A lead with several reasons counts under each.
    let reasons = |lead: &ListedLead| match lead.status {
        LeadStatus::Invalid if !lead.invalid_reasons.is_empty() => lead.invalid_reasons.clone(),
        _ => vec![veil.text(&entry::reason(lead)).into_owned()],
    };
    let mut by_reason: BTreeMap<String, (i64, Vec<LeadId>)> = BTreeMap::new();
    for stored in counted.iter().flat_map(|counted| &counted.reasons) {
        for reason in reasons(&stored.as_listed(status)) {
            by_reason.entry(reason).or_default().0 += stored.leads;
        }
    }
    for lead in leads {
        for reason in reasons(lead) {
            let of_reason = match counted {
                None => by_reason.entry(reason).or_default(),
                // These are counted already; a reason that is new or rare is counted with the remaining leads.
                Some(_) => match by_reason.get_mut(&reason) {
                    Some(of_reason) => of_reason,
                    None => continue,
                },
            };
            of_reason.0 += i64::from(counted.is_none());
            of_reason.1.push(lead.lead.clone());
        }
    }
    let told: i64 = counted.map_or(0, |counted| counted.reasons.iter().map(|reason| reason.leads).sum());
    let others = counted.map_or(0, |counted| counted.leads - told);
    let group = |(reason, (leads, mut examples)): (String, (i64, Vec<LeadId>))| {
        examples.sort_by(|a, b| (a.id.len(), &a.id, &a.client_id).cmp(&(b.id.len(), &b.id, &b.client_id)));
        examples.truncate(EXAMPLES);
        WaitingGroup { status, reason, leads, examples }
    };
    let mut groups: Vec<WaitingGroup> = by_reason.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.leads));
    if groups.len() > GROUPS || others > 0 {
        let rest = groups.split_off(groups.len().min(GROUPS - 1));
        let leads = rest.iter().map(|group| group.leads).sum::<i64>() + others;
        let examples = rest.iter().flat_map(|group| group.examples.clone()).take(EXAMPLES).collect();
        groups.push(WaitingGroup { status, reason: String::new(), leads, examples });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::grouped::StoredReason;

    fn invalid(id: u32, reasons: &[&str]) -> ListedLead {
        ListedLead {
            lead: LeadId { id: id.to_string(), client_id: String::new() },
            status: LeadStatus::Invalid,
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
        let groups = grouped(LeadStatus::Invalid, &leads, None, &TokenVeil::over(None));
        let said: Vec<_> =
            groups.iter().map(|group| (group.reason.as_str(), group.leads, group.examples.len())).collect();
        assert_eq!(said, [("b", 4, 3), ("a", 1, 1)]);
        assert_eq!(groups[0].examples[0].id, "7", "the first of them");
        leads.extend((100..200).map(|n| invalid(n, &[&n.to_string()])));
        let groups = grouped(LeadStatus::Invalid, &leads, None, &TokenVeil::over(None));
        assert_eq!((groups.len(), groups[7].reason.as_str()), (GROUPS, ""));
        assert_eq!(groups.iter().map(|group| group.leads).sum::<i64>(), 105);
    }

    #[test]
    fn of_many_leads_every_one_is_counted_and_rare_reasons_are_counted_together() {
        let stored = |reasons: &[&str], leads| StoredReason {
            hold_reason: None,
            invalid_reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            last_outcome: None,
            leads,
        };
        let counted = CountedReasons { reasons: vec![stored(&["a", "b"], 1370), stored(&["b"], 19)], leads: 1400 };
        let sample = [invalid(2, &["b"]), invalid(1, &["a", "b"]), invalid(3, &["rare"])];
        let groups = grouped(LeadStatus::Invalid, &sample, Some(&counted), &TokenVeil::over(None));
        let said: Vec<_> =
            groups.iter().map(|group| (group.reason.as_str(), group.leads, group.examples.len())).collect();
        assert_eq!(said, [("b", 1389, 2), ("a", 1370, 1), ("", 11, 0)]);
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
