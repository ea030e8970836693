//! One verdict a lead, from three sides: the CRM, our state, and Conversica's posts. Pure.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::conversica::lead::ContentFingerprint;
use crate::horizon;
use crate::rules::hold_reason::advice;
use crate::rules::lead_facts::{LeadFacts, RecordedAnswer};
use crate::rules::lead_status::LeadStatus;

/// The verdict about a lead. The first that is true counts, in the order of [`judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum LeadVerdict {
    /// Conversica has the CRM's content, as far as can be known.
    Matched,
    /// A baseline assumes that Conversica knows the lead, which was never sent from here.
    Assumed,
    /// Never contacted: the person has opted out elsewhere, or is on the suppression list.
    Suppressed,
    /// In the CRM, but never accepted by Conversica; nothing is in progress.
    NeverSent,
    /// The CRM's content differs from the accepted one; nothing is in progress.
    Stale,
    /// In flight, due, or waiting for its retry.
    Pending,
    /// Waits for approval.
    Held,
    /// The row is invalid.
    Invalid,
    /// Conversica rejected this content.
    Rejected,
    /// Failed for too long.
    Exhausted,
    /// It is unknown whether the newest request arrived.
    Ambiguous,
    /// Known to Conversica, and no longer in the CRM.
    Gone,
    /// Accepted long ago, without any post since.
    Unconfirmed,
    /// Conversica excludes the lead, cannot write to it, or has stopped.
    NotWorked,
}

impl LeadVerdict {
    pub const ALL: [LeadVerdict; 14] = [
        LeadVerdict::Matched,
        LeadVerdict::Assumed,
        LeadVerdict::Suppressed,
        LeadVerdict::NeverSent,
        LeadVerdict::Stale,
        LeadVerdict::Pending,
        LeadVerdict::Held,
        LeadVerdict::Invalid,
        LeadVerdict::Rejected,
        LeadVerdict::Exhausted,
        LeadVerdict::Ambiguous,
        LeadVerdict::Gone,
        LeadVerdict::Unconfirmed,
        LeadVerdict::NotWorked,
    ];

    /// The name in JSON, CSV, and of `--ignore`.
    pub const fn name(self) -> &'static str {
        match self {
            LeadVerdict::Matched => "matched",
            LeadVerdict::Assumed => "assumed",
            LeadVerdict::Suppressed => "suppressed",
            LeadVerdict::NeverSent => "never_sent",
            LeadVerdict::Stale => "stale",
            LeadVerdict::Pending => "pending",
            LeadVerdict::Held => "held",
            LeadVerdict::Invalid => "invalid",
            LeadVerdict::Rejected => "rejected",
            LeadVerdict::Exhausted => "exhausted",
            LeadVerdict::Ambiguous => "ambiguous",
            LeadVerdict::Gone => "gone",
            LeadVerdict::Unconfirmed => "unconfirmed",
            LeadVerdict::NotWorked => "not_worked",
        }
    }

    /// For display.
    pub const fn meaning(self) -> &'static str {
        match self {
            LeadVerdict::Matched => "Conversica holds what the CRM says",
            LeadVerdict::Assumed => "assumed known to Conversica, never sent",
            LeadVerdict::Suppressed => "not introduced: the person has opted out elsewhere",
            LeadVerdict::NeverSent => "in the CRM, never accepted by Conversica",
            LeadVerdict::Stale => "the CRM differs from what Conversica accepted, or is assumed to know",
            LeadVerdict::Pending => "on its way, or waiting for its turn",
            LeadVerdict::Held => "waits for a person",
            LeadVerdict::Invalid => "the row makes no valid lead",
            LeadVerdict::Rejected => "Conversica refused this content",
            LeadVerdict::Exhausted => "failed for too long",
            LeadVerdict::Ambiguous => "it is unknown whether it arrived",
            LeadVerdict::Gone => "known to Conversica, or assumed to be; no longer in the CRM",
            LeadVerdict::Unconfirmed => "accepted, and nothing heard of it since",
            LeadVerdict::NotWorked => "Conversica does not work it",
        }
    }

    /// Whether nothing differs, as far as is known, so that the operator has nothing to check.
    pub const fn agrees(self) -> bool {
        matches!(self, LeadVerdict::Matched | LeadVerdict::Assumed | LeadVerdict::Suppressed)
    }

    /// Whether `--repair` does something about it.
    pub const fn is_repairable(self) -> bool {
        matches!(self, LeadVerdict::NeverSent | LeadVerdict::Stale | LeadVerdict::Ambiguous)
    }
}

impl Serialize for LeadVerdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// No reconciliation reads the CRM for longer than this.
const LONGEST_RECONCILIATION: Duration = Duration::from_secs(24 * 3600);

/// The CRM's side of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState<'a> {
    /// There is no row.
    Missing,
    /// The row is invalid, for these reasons.
    Invalid(&'a [String]),
    /// The fingerprint of the row's Lead object.
    Content(ContentFingerprint),
}

/// The settings of the judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictRules {
    /// When the CRM's snapshot was taken. The snapshot does not show later changes of our state.
    pub began_at: DateTime<Utc>,
    /// Leads accepted before then should have been heard of; `None` if no posts are expected.
    pub silent_since: Option<DateTime<Utc>>,
}

/// A verdict, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedLead {
    pub verdict: LeadVerdict,
    /// The categories it is counted under: without ids, dates and data. Several for a row with several faults.
    pub reasons: Vec<String>,
    /// The evidence: without the lead's data, except Conversica's own answer.
    pub detail: String,
}

/// Judges a lead. `None` if the lead is neither in the CRM nor known to Conversica.
pub fn judge(row: RowState<'_>, facts: Option<&LeadFacts>, rules: VerdictRules) -> Option<JudgedLead> {
    let Some(facts) = facts else {
        return match row {
            RowState::Missing => None,
            RowState::Invalid(reasons) => Some(invalid(reasons)),
            RowState::Content(_) => Some(simple(LeadVerdict::NeverSent, "not read yet")),
        };
    };
    // The state has changed since the snapshot, so its view of the row is newer. A change further in the future than any
    // reconciliation lasts was written by a clock that ran ahead.
    let has_moved_on = !horizon::is_over(facts.changed_at, LONGEST_RECONCILIATION, rules.began_at);
    let row = if has_moved_on && facts.gone_at.is_none() {
        match facts.invalid_reasons.as_slice() {
            [] => RowState::Content(facts.desired_hash),
            reasons => RowState::Invalid(reasons),
        }
    } else {
        row
    };
    let is_contacted =
        facts.first_contact_at.is_some() || facts.assumed_at.is_some() || facts.status == LeadStatus::InFlight;
    // Leads in progress, or waiting for approval, are reported before any difference from the CRM, because they are being
    // handled.
    match facts.status {
        LeadStatus::Held => return Some(held(facts)),
        LeadStatus::Pending | LeadStatus::Retrying | LeadStatus::InFlight => return Some(under_way(facts, row)),
        _ => {}
    }
    match row {
        RowState::Missing if !is_contacted && facts.delivered_hash.is_none() => None,
        RowState::Missing => Some(gone(facts)),
        RowState::Invalid(reasons) => Some(invalid(reasons)),
        RowState::Content(hash) => Some(content(hash, facts, rules)),
    }
}

/// Judges a valid row whose lead has nothing in progress.
fn content(hash: ContentFingerprint, facts: &LeadFacts, rules: VerdictRules) -> JudgedLead {
    let is_the_one = hash == facts.desired_hash;
    match facts.status {
        LeadStatus::Rejected if is_the_one => return answered(LeadVerdict::Rejected, "refused", facts),
        LeadStatus::Exhausted if is_the_one => return answered(LeadVerdict::Exhausted, "gave up", facts),
        LeadStatus::Suppressed => {
            return simple(LeadVerdict::Suppressed, "the person has opted out elsewhere; `lead ID` says where");
        }
        _ => {}
    }
    match facts.delivered_hash {
        None if facts.first_contact_at.is_none() => {
            let why = match facts.status {
                LeadStatus::Rejected => "changed since it was refused",
                LeadStatus::Exhausted => "changed since it was given up",
                LeadStatus::Invalid => "fixed since it was last read",
                _ => "known, but not sent",
            };
            return simple(LeadVerdict::NeverSent, why);
        }
        None => return answered(LeadVerdict::Ambiguous, "unknown whether it arrived", facts),
        Some(delivered) if delivered != hash => {
            let detail = last_known(facts, "accepted");
            let why = if is_the_one { "not put in the queue" } else { "changed since it was last read" };
            return judged(LeadVerdict::Stale, why, format!("{why}; {detail}"));
        }
        Some(_) => {}
    }
    if let Some((stage, status)) = facts.heard.as_ref().and_then(|heard| heard.not_worked.as_ref()) {
        let why = match status {
            Some(status) if status != stage => format!("{stage}: {status}"),
            _ => stage.clone(),
        };
        let heard = facts.heard.as_ref().map(|heard| moment(heard.last_at)).unwrap_or_default();
        return judged(LeadVerdict::NotWorked, &why, format!("{why}; last heard {heard}"));
    }
    if facts.assumed_at.is_some() {
        return judged(LeadVerdict::Assumed, "never sent", last_known(facts, "accepted"));
    }
    // No post is expected about a content that a baseline treated as delivered.
    let is_accepted = facts.answer.as_ref().is_some_and(|answer| answer.class == "accepted");
    match (facts.first_contact_at, rules.silent_since) {
        (Some(first), Some(since)) if is_accepted && facts.heard.is_none() && first <= since => {
            let detail = format!("known to Conversica since {}, and nothing heard", moment(first));
            judged(LeadVerdict::Unconfirmed, "nothing heard", detail)
        }
        _ => simple(LeadVerdict::Matched, ""),
    }
}

fn under_way(facts: &LeadFacts, row: RowState<'_>) -> JudgedLead {
    let is_unknown = facts.answer.as_ref().is_some_and(|answer| answer.class == "ambiguous");
    if is_unknown && facts.status != LeadStatus::InFlight {
        return answered(LeadVerdict::Ambiguous, "unknown whether it arrived", facts);
    }
    let due = facts.due_at.map(|at| format!("due {}", moment(at))).unwrap_or_default();
    let why = match facts.status {
        LeadStatus::InFlight => "on its way",
        LeadStatus::Retrying => "waits for its next try",
        _ => "waits for its turn",
    };
    let mut detail = if facts.status == LeadStatus::InFlight { why.to_owned() } else { format!("{why}; {due}") };
    if facts.status == LeadStatus::Retrying
        && let Some(answer) = &facts.answer
    {
        detail.push_str(&format!(" after {}", in_words(answer)));
    }
    if row == RowState::Missing {
        detail.push_str("; its row is no longer in the CRM");
    }
    judged(LeadVerdict::Pending, why, detail)
}

fn held(facts: &LeadFacts) -> JudgedLead {
    let reason = facts.hold_reason.as_deref().unwrap_or("a person has to decide");
    judged(LeadVerdict::Held, reason, format!("{reason}; {}", advice(reason)))
}

fn gone(facts: &LeadFacts) -> JudgedLead {
    let detail = last_known(facts, "last accepted");
    judged(LeadVerdict::Gone, "no longer in the CRM", format!("no longer in the CRM; {detail}"))
}

/// When Conversica accepted its present content, or that it never did.
fn last_known(facts: &LeadFacts, accepted: &str) -> String {
    match (facts.assumed_at, facts.delivered_at) {
        (Some(since), _) => format!("assumed known to Conversica since {}, never sent", moment(since)),
        (None, Some(at)) => format!("{accepted} {}", moment(at)),
        (None, None) => "taken as delivered by a baseline".to_owned(),
    }
}

fn invalid(reasons: &[String]) -> JudgedLead {
    JudgedLead { verdict: LeadVerdict::Invalid, reasons: reasons.to_vec(), detail: reasons.join("; ") }
}

fn answered(verdict: LeadVerdict, why: &str, facts: &LeadFacts) -> JudgedLead {
    let Some(answer) = &facts.answer else { return simple(verdict, why) };
    let status = answer.http_status.map_or_else(|| why.to_owned(), |status| format!("{why}: status {status}"));
    let at = answer.at.map(|at| format!(", {}", moment(at))).unwrap_or_default();
    judged(verdict, &status, format!("{}{at}", in_words(answer)))
}

fn in_words(answer: &RecordedAnswer) -> String {
    match (answer.http_status, answer.detail.as_deref().filter(|detail| !detail.is_empty())) {
        (Some(status), Some(detail)) => format!("{}, status {status}: {detail}", answer.class),
        (Some(status), None) => format!("{}, status {status}", answer.class),
        (None, Some(detail)) => format!("{}: {detail}", answer.class),
        (None, None) => answer.class.clone(),
    }
}

fn simple(verdict: LeadVerdict, why: &str) -> JudgedLead {
    judged(verdict, why, why.to_owned())
}

fn judged(verdict: LeadVerdict, why: &str, detail: String) -> JudgedLead {
    JudgedLead { verdict, reasons: vec![why.to_owned()], detail }
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::hold_reason::HoldReason;
    use crate::rules::lead_facts::LeadHeard;

    const HASH: ContentFingerprint = ContentFingerprint([1; 16]);
    const OTHER: ContentFingerprint = ContentFingerprint([2; 16]);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("an instant")
    }

    /// A lead that was delivered, and whose row has not changed.
    fn settled() -> LeadFacts {
        LeadFacts {
            status: LeadStatus::InSync,
            desired_hash: HASH,
            delivered_hash: Some(HASH),
            invalid_reasons: Vec::new(),
            hold_reason: None,
            changed_at: at(10),
            delivered_at: Some(at(20)),
            first_contact_at: Some(at(20)),
            assumed_at: None,
            due_at: Some(at(10)),
            gone_at: None,
            answer: Some(answer("accepted", Some(200))),
            heard: None,
        }
    }

    fn answer(class: &str, http_status: Option<i64>) -> RecordedAnswer {
        RecordedAnswer { class: class.to_owned(), http_status, detail: None, at: Some(at(20)) }
    }

    fn verdict(row: RowState<'_>, facts: &LeadFacts) -> Option<LeadVerdict> {
        let rules = VerdictRules { began_at: at(100), silent_since: None };
        judge(row, Some(facts), rules).map(|judged| judged.verdict)
    }

    #[test]
    fn what_differs_from_what_was_accepted_is_stale_and_what_never_was_is_never_sent() {
        assert_eq!(verdict(RowState::Content(HASH), &settled()), Some(LeadVerdict::Matched));
        assert_eq!(verdict(RowState::Content(OTHER), &settled()), Some(LeadVerdict::Stale));
        let refused = LeadFacts {
            status: LeadStatus::Rejected,
            delivered_hash: None,
            first_contact_at: None,
            delivered_at: None,
            ..settled()
        };
        assert_eq!(verdict(RowState::Content(HASH), &refused), Some(LeadVerdict::Rejected));
        assert_eq!(
            verdict(RowState::Content(OTHER), &refused),
            Some(LeadVerdict::NeverSent),
            "the row has changed since"
        );
        let invalid = LeadFacts { status: LeadStatus::Invalid, ..refused.clone() };
        assert_eq!(verdict(RowState::Content(OTHER), &invalid), Some(LeadVerdict::NeverSent), "the row was fixed");
        assert_eq!(verdict(RowState::Invalid(&["email: blank".to_owned()]), &settled()), Some(LeadVerdict::Invalid));
    }

    #[test]
    fn what_was_never_sent_is_assumed_and_never_called_accepted() {
        let assumed = LeadFacts {
            status: LeadStatus::Assumed,
            delivered_at: None,
            first_contact_at: None,
            assumed_at: Some(at(20)),
            answer: None,
            ..settled()
        };
        let judge = |row, facts: &LeadFacts| {
            let rules = VerdictRules { began_at: at(100), silent_since: Some(at(90)) };
            super::judge(row, Some(facts), rules).map(|judged| (judged.verdict, judged.detail)).unwrap()
        };
        for (row, verdict) in [
            (RowState::Content(HASH), LeadVerdict::Assumed),
            (RowState::Content(OTHER), LeadVerdict::Stale),
            (RowState::Missing, LeadVerdict::Gone),
        ] {
            let (judged, detail) = judge(row, &assumed);
            assert_eq!(judged, verdict, "{detail}");
            assert!(detail.contains("never sent") && !detail.contains("accepted"), "{detail}");
        }
        let refused = LeadFacts { answer: Some(answer("rejected", Some(422))), ..assumed.clone() };
        assert_eq!(
            judge(RowState::Content(HASH), &refused).0,
            LeadVerdict::Assumed,
            "its content is the assumed one again"
        );
        let heard = LeadHeard { last_at: at(30), not_worked: Some(("Excluded".to_owned(), None)) };
        let excluded = LeadFacts { heard: Some(heard), ..assumed };
        assert_eq!(
            judge(RowState::Content(HASH), &excluded).0,
            LeadVerdict::NotWorked,
            "Conversica has said more of it"
        );
        let updated = LeadFacts { delivered_at: None, ..settled() };
        let (verdict, detail) = judge(RowState::Content(OTHER), &updated);
        assert!(verdict == LeadVerdict::Stale && detail.contains("taken as delivered by a baseline"), "{detail}");
    }

    #[test]
    fn what_the_state_learned_after_the_snapshot_counts_for_more_than_the_snapshot() {
        let ahead = LeadFacts { changed_at: at(365 * 24 * 3600), ..settled() };
        assert_eq!(verdict(RowState::Content(OTHER), &ahead), Some(LeadVerdict::Stale), "of a clock that was ahead");
        let newer = LeadFacts { changed_at: at(101), ..settled() };
        assert_eq!(verdict(RowState::Content(OTHER), &newer), Some(LeadVerdict::Matched));
        assert_eq!(verdict(RowState::Missing, &newer), Some(LeadVerdict::Matched), "its row came after the snapshot");
        let invalid =
            LeadFacts { status: LeadStatus::Invalid, invalid_reasons: vec!["email: blank".to_owned()], ..newer };
        assert_eq!(verdict(RowState::Content(OTHER), &invalid), Some(LeadVerdict::Invalid));
    }

    #[test]
    fn an_unknown_answer_is_ambiguous_until_it_is_known_and_held_where_a_person_has_to_say() {
        let unsure = |status| LeadFacts {
            status,
            delivered_hash: None,
            answer: Some(answer("ambiguous", None)),
            hold_reason: (status == LeadStatus::Held).then(|| HoldReason::Ambiguous.name().to_owned()),
            ..settled()
        };
        assert_eq!(verdict(RowState::Content(HASH), &unsure(LeadStatus::Retrying)), Some(LeadVerdict::Ambiguous));
        assert_eq!(verdict(RowState::Content(OTHER), &unsure(LeadStatus::Pending)), Some(LeadVerdict::Ambiguous));
        assert_eq!(verdict(RowState::Content(HASH), &unsure(LeadStatus::InFlight)), Some(LeadVerdict::Pending));
        assert_eq!(verdict(RowState::Content(HASH), &unsure(LeadStatus::Held)), Some(LeadVerdict::Held));
    }

    #[test]
    fn who_is_in_neither_is_not_spoken_of_and_who_is_known_and_has_no_row_is_gone() {
        let never = LeadFacts { status: LeadStatus::Gone, delivered_hash: None, first_contact_at: None, ..settled() };
        assert_eq!(verdict(RowState::Missing, &never), None);
        assert_eq!(
            verdict(RowState::Missing, &LeadFacts { status: LeadStatus::Gone, ..settled() }),
            Some(LeadVerdict::Gone)
        );
        assert_eq!(verdict(RowState::Missing, &settled()), Some(LeadVerdict::Gone), "no poll has seen it yet");
        assert_eq!(judge(RowState::Missing, None, VerdictRules { began_at: at(0), silent_since: None }), None);
    }
}
