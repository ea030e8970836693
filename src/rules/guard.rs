//! What a poll may send without approval. Pure.
//!
//! If possible this is decided before the first row is read. Otherwise the poll stages its changes until it knows how many there
//! are, or that there are too many.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::{ChangeDetection, FirstRun, OnDelete, SafetySettings, ServiceSettings};
use crate::rules::admission::{CapSpan, ClaimFilter, NewPeopleCap};
use crate::rules::billing_month::BillingMonth;
use crate::rules::hold_reason::HoldReason;
use crate::rules::read_scope::ReadScope;

/// How a poll treats the sends it finds. Withdrawals of consent are never held, whatever this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendPolicy {
    /// Send them all.
    Send,
    /// Hold them all, for this reason.
    Hold(HoldReason),
    /// Hold them all, then treat them as delivered.
    Baseline,
    /// Send up to `limit`; if there are more, hold them all for `reason`.
    UpTo { limit: usize, reason: HoldReason },
}

/// Whether the first run has been decided, and whether the mapping is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollHistory {
    pub first_run_done: bool,
    pub mapping_changed: bool,
    /// The state was restored from a backup, and no poll has compared everything since.
    pub restored: bool,
}

/// The leads that the source should have, as a poll found them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpectedCount {
    pub present: u64,
    pub missing: u64,
    /// Missing leads that an earlier poll found missing and that are held since.
    pub withheld: u64,
    /// Present leads that were held as missing until now.
    pub back: u64,
}

/// How missing leads are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingVerdict {
    /// Their rows were deleted, or left the filter.
    Gone,
    /// A loss of this size is more likely a mistake: the operator decides, or the rows come back.
    Hold,
}

/// How a poll judges missing leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MissingLeadPolicy {
    /// A poll that compared everything holds missing leads if the share of leads left is below `below` (0 = off), counting
    /// `earlier` losses too, or if more than `limit` are missing.
    Share { below: f64, earlier: u64, limit: u64 },
    /// A poll that read a part of the rows holds missing leads if there are more than this.
    UpTo(u64),
    /// Leads are already held for this reason, and the missing ones join them.
    Hold,
}

/// Leads that earlier polls marked gone, if polls follow each other at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EarlierLosses {
    /// Leads lost within the time in which a source may lose its leads bit by bit.
    pub lost: u64,
    /// Leads lost within `poll_interval`.
    pub lost_of_late: u64,
}

impl MissingLeadPolicy {
    /// The policy by the settings, for a poll of that scope.
    pub fn of(
        settings: &ServiceSettings,
        scope: &ReadScope,
        standing: Option<&StandingHold>,
        earlier: EarlierLosses,
    ) -> Self {
        let limit = match settings.safety.approve_above {
            limit if settings.source.on_delete == OnDelete::StopMessaging && limit > 0 => {
                u64::from(limit).saturating_sub(earlier.lost_of_late)
            }
            _ => u64::MAX,
        };
        match scope {
            ReadScope::All | ReadScope::From(..) => MissingLeadPolicy::Share {
                below: settings.safety.source_shrinks_below,
                earlier: earlier.lost,
                limit: if settings.source.changes == ChangeDetection::Triggers { limit } else { u64::MAX },
            },
            ReadScope::Since(_) | ReadScope::Keys(_) if is_shrunk(standing) => MissingLeadPolicy::Hold,
            ReadScope::Since(_) | ReadScope::Keys(_) => MissingLeadPolicy::UpTo(limit),
        }
    }

    /// By the share alone.
    pub const fn share(below: f64) -> Self {
        MissingLeadPolicy::Share { below, earlier: 0, limit: u64::MAX }
    }

    /// Whether everything is compared, so that it is known which rows are back.
    pub const fn is_of_everything(self) -> bool {
        matches!(self, MissingLeadPolicy::Share { .. })
    }

    pub fn verdict(self, found: ExpectedCount) -> MissingVerdict {
        let held = match self {
            MissingLeadPolicy::Share { below, earlier, limit } => {
                // Leads that were held before stay held until rows come back. An operator's decision about some of the others
                // does not release them.
                found.missing > limit
                    || found.missing > 0 && has_shrunk(below, found.present, found.missing + earlier)
                    || found.withheld > 0 && found.back == 0
            }
            MissingLeadPolicy::UpTo(limit) => found.missing > limit,
            MissingLeadPolicy::Hold => found.missing > 0,
        };
        if held { MissingVerdict::Hold } else { MissingVerdict::Gone }
    }

    /// If the poll may find at its end that the source shrank, it sends nothing before its end.
    pub fn keep_back(self, admission: SendPolicy, history: PollHistory) -> SendPolicy {
        match self {
            MissingLeadPolicy::Share { below, .. }
                if below > 0.0 && history.first_run_done && admission == SendPolicy::Send =>
            {
                SendPolicy::UpTo { limit: usize::MAX, reason: HoldReason::SourceShrank }
            }
            _ => admission,
        }
    }
}

/// A step of a drain keeps its few sends until it is known whether it can be judged by itself.
pub fn kept_back(admission: SendPolicy) -> SendPolicy {
    match admission {
        SendPolicy::Send => SendPolicy::UpTo { limit: usize::MAX, reason: HoldReason::SourceShrank },
        SendPolicy::UpTo { reason, .. } => SendPolicy::UpTo { limit: usize::MAX, reason },
        SendPolicy::Hold(_) | SendPolicy::Baseline => admission,
    }
}

/// The time between two full compares: as set, or shorter while a full compare can end a hold.
pub fn full_compare_interval(settings: &ServiceSettings, standing: Option<&StandingHold>) -> Duration {
    /// While most leads are missing.
    const SHRUNK: Duration = Duration::from_secs(300);
    let interval = settings.source.full_compare_interval;
    if is_shrunk(standing) { interval.min(SHRUNK) } else { interval }
}

/// Whether so few leads are left after a loss that the source is doubted. The loss of a single lead is no reason for doubt.
pub fn has_shrunk(below: f64, left: u64, lost: u64) -> bool {
    lost >= 2 && (left as f64) < below * (left + lost) as f64
}

/// The number of remaining leads that is enough after a loss of `lost`. With it, no state has to be counted to its end.
pub fn enough_left(below: f64, lost: u64) -> u64 {
    // One more than necessary, because fractions may be rounded.
    ((below * lost as f64 / (1.0 - below)).ceil() as u64).saturating_add(1)
}

/// Whether leads are held because most leads are missing.
pub fn is_shrunk(standing: Option<&StandingHold>) -> bool {
    standing.is_some_and(|hold| hold.reason == HoldReason::SourceShrank)
}

pub fn admission(safety: &SafetySettings, history: PollHistory, standing: Option<&StandingHold>) -> SendPolicy {
    if history.restored {
        return SendPolicy::Hold(HoldReason::Restored);
    }
    if !history.first_run_done {
        // The setting is itself the approval of the first run, whatever its size.
        return match safety.first_run {
            Some(FirstRun::Send) => SendPolicy::Send,
            Some(FirstRun::Baseline) => SendPolicy::Baseline,
            None => SendPolicy::Hold(HoldReason::FirstRun),
        };
    }
    if let Some(hold) = standing {
        return SendPolicy::Hold(hold.reason);
    }
    match safety.approve_above {
        0 => SendPolicy::Send,
        limit => SendPolicy::UpTo {
            limit: limit as usize,
            reason: if history.mapping_changed { HoldReason::MappingChanged } else { HoldReason::TooManyChanges },
        },
    }
}

/// Which leads may be claimed, by the settings; with the Test Lead Token, at most `test_leads` distinct leads.
pub fn admit(settings: &ServiceSettings, test_leads: u32) -> ClaimFilter {
    const HOUR: Duration = Duration::from_secs(3600);
    let safety = &settings.safety;
    if settings.conversica.test_lead_token.is_some() {
        return ClaimFilter::TestLeads(test_leads);
    }
    let month = BillingMonth { starts_on: safety.month_starts_on, zone: settings.source.time_zone };
    let caps = [
        (safety.new_leads_per_hour, CapSpan::Sliding(HOUR)),
        (safety.new_leads_per_day, CapSpan::Sliding(24 * HOUR)),
        (safety.new_leads_per_month, CapSpan::Month(month)),
    ];
    let caps: Vec<NewPeopleCap> = caps
        .into_iter()
        .filter(|(people, _)| *people > 0)
        .map(|(people, span)| NewPeopleCap { people, span })
        .collect();
    if caps.is_empty() { ClaimFilter::Everybody } else { ClaimFilter::Capped(caps) }
}

/// A hold of whole polls that waits for approval. The sends of later polls join it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingHold {
    pub reason: HoldReason,
    /// When the first of its leads was held.
    pub since: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConversationChanges, DuplicateLeads};
    use proptest::prelude::*;

    fn safety(first_run: Option<FirstRun>, approve_above: u32) -> SafetySettings {
        SafetySettings {
            first_run,
            approve_above,
            new_leads_per_hour: 0,
            new_leads_per_day: 0,
            new_leads_per_month: 0,
            month_starts_on: 1,
            new_lead_older_than: Duration::ZERO,
            canary_leads: 0,
            duplicates: DuplicateLeads::Send,
            conversation_changes: ConversationChanges::Send,
            source_shrinks_below: 0.5,
        }
    }

    const FIRST: PollHistory = PollHistory { first_run_done: false, mapping_changed: false, restored: false };
    const LATER: PollHistory = PollHistory { first_run_done: true, mapping_changed: false, restored: false };

    #[test]
    fn a_first_run_nobody_decided_upon_is_held() {
        assert_eq!(admission(&safety(None, 1000), FIRST, None), SendPolicy::Hold(HoldReason::FirstRun));
        assert_eq!(admission(&safety(None, 0), FIRST, None), SendPolicy::Hold(HoldReason::FirstRun));
    }

    #[test]
    fn a_first_run_set_to_send_is_approved_whatever_its_size() {
        assert_eq!(admission(&safety(Some(FirstRun::Send), 1), FIRST, None), SendPolicy::Send);
    }

    #[test]
    fn later_polls_send_up_to_the_limit() {
        let up_to = |reason| SendPolicy::UpTo { limit: 1000, reason };
        assert_eq!(admission(&safety(Some(FirstRun::Send), 1000), LATER, None), up_to(HoldReason::TooManyChanges));
        let remapped = PollHistory { mapping_changed: true, ..LATER };
        assert_eq!(admission(&safety(None, 1000), remapped, None), up_to(HoldReason::MappingChanged));
        assert_eq!(admission(&safety(None, 0), LATER, None), SendPolicy::Send);
    }

    #[test]
    fn a_state_that_came_out_of_a_backup_sends_nothing_unasked() {
        let restored = PollHistory { restored: true, ..LATER };
        assert_eq!(admission(&safety(Some(FirstRun::Send), 0), restored, None), SendPolicy::Hold(HoldReason::Restored));
        assert_eq!(
            admission(&safety(Some(FirstRun::Send), 0), PollHistory { restored: true, ..FIRST }, None),
            SendPolicy::Hold(HoldReason::Restored)
        );
    }

    #[test]
    fn changes_that_arrive_during_a_hold_join_it() {
        let hold = StandingHold { reason: HoldReason::MappingChanged, since: chrono::DateTime::UNIX_EPOCH };
        assert_eq!(admission(&safety(None, 0), LATER, Some(&hold)), SendPolicy::Hold(HoldReason::MappingChanged));
        let hold = StandingHold { reason: HoldReason::SourceShrank, ..hold };
        assert_eq!(admission(&safety(None, 9), LATER, Some(&hold)), SendPolicy::Hold(HoldReason::SourceShrank));
    }

    fn verdict(share: f64, present: u64, missing: u64) -> MissingVerdict {
        MissingLeadPolicy::share(share).verdict(ExpectedCount { present, missing, ..ExpectedCount::default() })
    }

    #[test]
    fn more_than_half_of_the_leads_missing_is_a_shrunken_source_and_half_is_not() {
        assert_eq!(verdict(0.5, 5, 5), MissingVerdict::Gone);
        assert_eq!(verdict(0.5, 4, 5), MissingVerdict::Hold);
        assert_eq!(verdict(0.5, 0, 2), MissingVerdict::Hold);
        assert_eq!(verdict(0.5, 0, 1), MissingVerdict::Gone, "one lead of one");
        assert_eq!(verdict(0.0, 0, 1000), MissingVerdict::Gone, "off");
        assert_eq!(verdict(1.0, 1000, 2), MissingVerdict::Hold, "all have to be there");
        assert_eq!(verdict(1.0, 1000, 0), MissingVerdict::Gone);
    }

    #[test]
    fn what_is_held_for_a_shrunken_source_stays_so_until_rows_come_back() {
        let decided_in_part = ExpectedCount { present: 40, missing: 3, withheld: 3, back: 0 };
        assert_eq!(MissingLeadPolicy::share(0.5).verdict(decided_in_part), MissingVerdict::Hold);
        assert_eq!(
            MissingLeadPolicy::share(0.5).verdict(ExpectedCount { back: 37, ..decided_in_part }),
            MissingVerdict::Gone
        );
        assert_eq!(
            MissingLeadPolicy::share(0.5).verdict(ExpectedCount { present: 2, back: 2, ..decided_in_part }),
            MissingVerdict::Hold
        );
    }

    #[test]
    fn a_part_that_is_seen_may_lose_as_many_as_need_no_approval() {
        let found = |missing| ExpectedCount { missing, ..ExpectedCount::default() };
        assert_eq!(MissingLeadPolicy::UpTo(10).verdict(found(10)), MissingVerdict::Gone);
        assert_eq!(MissingLeadPolicy::UpTo(10).verdict(found(11)), MissingVerdict::Hold);
        assert_eq!(MissingLeadPolicy::Hold.verdict(found(1)), MissingVerdict::Hold);
        assert_eq!(MissingLeadPolicy::Hold.verdict(found(0)), MissingVerdict::Gone);
    }

    #[test]
    fn what_went_earlier_counts_together_with_what_is_missing_now() {
        let found = |present, missing| ExpectedCount { present, missing, ..ExpectedCount::default() };
        let after = |earlier, limit| MissingLeadPolicy::Share { below: 0.5, earlier, limit };
        assert_eq!(after(5, u64::MAX).verdict(found(6, 1)), MissingVerdict::Gone);
        assert_eq!(after(5, u64::MAX).verdict(found(5, 1)), MissingVerdict::Hold);
        assert_eq!(after(9, u64::MAX).verdict(found(1, 0)), MissingVerdict::Gone, "nothing is missing now");
        assert_eq!(after(0, 3).verdict(found(100, 3)), MissingVerdict::Gone);
        assert_eq!(after(0, 3).verdict(found(100, 4)), MissingVerdict::Hold);
    }

    #[test]
    fn without_a_limit_a_full_compare_still_waits_for_its_end() {
        let waits = SendPolicy::UpTo { limit: usize::MAX, reason: HoldReason::SourceShrank };
        assert_eq!(MissingLeadPolicy::share(0.5).keep_back(SendPolicy::Send, LATER), waits);
        assert_eq!(
            MissingLeadPolicy::share(0.5).keep_back(SendPolicy::Send, FIRST),
            SendPolicy::Send,
            "the setting is the approval"
        );
        assert_eq!(MissingLeadPolicy::share(0.0).keep_back(SendPolicy::Send, LATER), SendPolicy::Send);
        assert_eq!(MissingLeadPolicy::UpTo(9).keep_back(SendPolicy::Send, LATER), SendPolicy::Send);
        assert_eq!(
            MissingLeadPolicy::share(0.5).keep_back(SendPolicy::Hold(HoldReason::FirstRun), LATER),
            SendPolicy::Hold(HoldReason::FirstRun)
        );
    }

    proptest! {
        #[test]
        fn what_is_enough_has_not_shrunk_however_much_more_there_is(
            below in 0.0..0.999_f64, lost in 2..100_000_u64, more in 0..100_000_u64
        ) {
            let enough = enough_left(below, lost);
            prop_assert!(!has_shrunk(below, enough + more, lost));
            // The count does not go much further than necessary.
            prop_assert!(enough < 3 || has_shrunk(below, enough - 3, lost));
        }

        #[test]
        fn fewer_missing_leads_are_never_judged_harder(
            share in 0.0..=1.0_f64, known in 0..2000_u64, missing in 0..2000_u64, back in 0..2_u64, withheld in 0..2000_u64
        ) {
            let missing = missing.min(known);
            let found = |missing| ExpectedCount { present: known - missing, missing, withheld: withheld.min(missing), back };
            let losses = MissingLeadPolicy::share(share);
            if missing > 0 && losses.verdict(found(missing)) == MissingVerdict::Gone {
                prop_assert_eq!(losses.verdict(found(missing - 1)), MissingVerdict::Gone);
            }
            prop_assert_eq!(losses.verdict(found(0)), MissingVerdict::Gone);
            // Exactly the documented rule: a share, and more than one.
            let shrank = missing > 1 && ((known - missing) as f64) < share * known as f64;
            let stays = withheld.min(missing) > 0 && back == 0;
            prop_assert_eq!(losses.verdict(found(missing)) == MissingVerdict::Hold, shrank || stays);
        }
    }
}
