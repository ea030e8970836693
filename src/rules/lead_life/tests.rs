//! Random events in any order, checked for what must hold after each of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::next;
use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_claim::FinishedAttempt;
use crate::rules::lead_event::{ClaimCounting, ClaimTerms, LeadEvent};
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::retry::NextStep;

const CONTENTS: [&str; 4] = [
    r#"{"id":"1","leadStatus":"A","optOut":false}"#,
    r#"{"id":"1","leadStatus":"B","optOut":false}"#,
    r#"{"id":"1","leadStatus":"A","optOut":true}"#,
    r#"{"id":"1","leadStatus":"B","optOut":true,"stopMessaging":true}"#,
];

pub(super) fn at(seconds: usize) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(i64::try_from(seconds).unwrap())
}

fn elsewhere() -> WithdrawnConsent {
    let mut withdrawn = WithdrawnConsent::default();
    withdrawn.set_elsewhere(ConsentChannel::Email, at(0));
    withdrawn
}

pub(super) fn change(content: Option<usize>, hold: Option<HoldReason>) -> LeadChange {
    let desired = content.map(|content| CONTENTS[content].to_owned()).ok_or_else(|| vec!["bad".to_owned()]);
    LeadChange {
        lead: LeadId { id: "1".to_owned(), client_id: String::new() },
        desired_hash: ContentFingerprint::of(desired.as_ref().map_or("bad", String::as_str).as_bytes()),
        hold_reason: hold.filter(|_| desired.is_ok()),
        desired,
        urgent: false,
        suppressed: false,
        row_hash: None,
    }
}

/// An event that needs the record or the time to be complete.
#[derive(Debug, Clone)]
pub(super) enum EventDraft {
    Event(LeadEvent),
    Row(Option<usize>, Option<HoldReason>),
    Claim,
    Answer(OutcomeClass, NextStep),
    Late(OutcomeClass),
    Back,
}

pub(super) fn draft() -> impl Strategy<Value = EventDraft> {
    let hold = prop::option::of(prop::sample::select(HoldReason::ALL.to_vec()));
    let class = || prop::sample::select(OutcomeClass::ALL.to_vec());
    let step = prop::sample::select(vec![
        NextStep::Exhausted,
        NextStep::RetryAt(at(1_000_000)),
        NextStep::Resend,
        NextStep::Hold,
        NextStep::Untried,
        NextStep::Unsent,
    ]);
    let others = prop::sample::select(vec![
        LeadEvent::RowMissing,
        LeadEvent::RowMissingStop,
        LeadEvent::RowMissingWithMost { missing_since: at(0) },
        LeadEvent::LossAccepted,
        LeadEvent::StopDropped,
        LeadEvent::Approved,
        LeadEvent::Baselined,
        LeadEvent::HoldLifted,
        LeadEvent::HoldRenamed(HoldReason::TooManyChanges),
        LeadEvent::HeldBeforeContact(HoldReason::DuplicatePerson),
        LeadEvent::HoldEnded(HoldReason::DuplicatePerson),
        LeadEvent::TestLeadsUsedUp,
        LeadEvent::RetryAsked,
        LeadEvent::ResendAsked,
        LeadEvent::ResendDecided { is_held: false },
        LeadEvent::ResendDecided { is_held: true },
        LeadEvent::Restored,
        LeadEvent::ConversicaBack,
        LeadEvent::Heard { heard_at: at(1_000_000) },
        LeadEvent::Suppressed(elsewhere()),
    ]);
    prop_oneof![
        4 => (prop::option::weighted(0.9, 0..CONTENTS.len()), hold).prop_map(|(content, hold)| EventDraft::Row(content, hold)),
        6 => Just(EventDraft::Claim),
        6 => (class(), step).prop_map(|(class, step)| EventDraft::Answer(class, step)),
        1 => class().prop_map(EventDraft::Late),
        2 => Just(EventDraft::Back),
        6 => others.prop_map(EventDraft::Event),
    ]
}

fn attempt(record: &LeadRecord, class: OutcomeClass, step: NextStep, now: DateTime<Utc>) -> FinishedAttempt {
    let next = match class {
        OutcomeClass::Accepted => NextStep::Done,
        OutcomeClass::Rejected => NextStep::Rejected,
        OutcomeClass::Halting => NextStep::Untried,
        OutcomeClass::Transient if step == NextStep::Hold => NextStep::Untried,
        OutcomeClass::Ambiguous if step == NextStep::Unsent => NextStep::Resend,
        OutcomeClass::Transient | OutcomeClass::Ambiguous => step,
    };
    FinishedAttempt {
        lead: record.lead.clone(),
        claimed_at: record.claimed_at.unwrap_or_default(),
        attempt: record.attempts,
        class,
        http_status: None,
        detail: None,
        duration: None,
        at: now,
        sent_hash: record.sent_hash.unwrap_or(record.desired_hash).as_bytes().to_vec(),
        next,
    }
}

pub(super) fn event(record: &LeadRecord, draft: &EventDraft, now: DateTime<Utc>) -> LeadEvent {
    match draft {
        EventDraft::Event(event) => event.clone(),
        EventDraft::Row(content, hold) => LeadEvent::RowChanged { change: change(*content, *hold), due_at: now },
        EventDraft::Claim => LeadEvent::Claimed(ClaimTerms {
            lease: Duration::from_secs(60),
            counting: ClaimCounting::NewPeople,
            opt_outs: None,
            rejection: None,
        }),
        EventDraft::Answer(class, step) => {
            LeadEvent::Answered { attempt: attempt(record, *class, *step, now), rejection: None }
        }
        EventDraft::Late(class) => {
            let sent = FinishedAttempt { sent_hash: vec![7; 16], ..attempt(record, *class, NextStep::Untried, now) };
            LeadEvent::AnsweredLate { attempt: sent }
        }
        EventDraft::Back => LeadEvent::RowBack { content: record.desired_hash },
    }
}

pub(super) fn check(before: &LeadRecord, event: &LeadEvent, after: &LeadRecord) {
    let told = || format!("{event:?}\non {before:?}\ngives {after:?}");
    let is_claimed = after.claimed_at.is_some() && after.sent_hash.is_some() && after.lease_until.is_some();
    assert_eq!(after.is_in_flight(), is_claimed, "a claim and a status in flight belong together: {}", told());
    match after.status {
        LeadStatus::Pending | LeadStatus::Retrying => {
            assert!(after.desired.is_some() && after.due_at.is_some(), "what is due can be sent: {}", told());
        }
        LeadStatus::Held => {
            assert!(after.hold_reason.is_some(), "a hold has a reason, or nothing ends it: {}", told());
            assert!(!after.urgent || after.gone_at.is_some(), "a withdrawal of consent is not held: {}", told());
        }
        LeadStatus::InSync => assert!(after.is_delivered(), "in sync is delivered: {}", told()),
        LeadStatus::Invalid => assert!(after.invalid_reasons.is_some(), "{}", told()),
        LeadStatus::Suppressed => {
            assert!(after.desired.is_some() && !after.may_be_contacted() && after.hold_reason.is_none(), "{}", told());
        }
        LeadStatus::InFlight | LeadStatus::Rejected | LeadStatus::Exhausted | LeadStatus::Gone => {}
        LeadStatus::Assumed => panic!("never stored: {}", told()),
    }
    if before.is_in_flight() && after.is_in_flight() {
        assert_eq!(before.claimed_at, after.claimed_at, "a lead has one claim at a time: {}", told());
    }
    if !before.is_in_flight() && after.is_in_flight() {
        assert!(matches!(event, LeadEvent::Claimed(_)), "{}", told());
        assert!(matches!(before.status, LeadStatus::Pending | LeadStatus::Retrying), "only what is due: {}", told());
        assert!(before.due_at.is_some() && before.hold_reason.is_none_or(|_| before.urgent), "held: {}", told());
    }
    if let LeadEvent::Answered { attempt, .. } = event
        && before.has_claim(attempt)
        && attempt.class == OutcomeClass::Accepted
    {
        let sent = before.sent_hash.filter(|hash| *hash != LeadRecord::OTHER_CONTENT);
        assert_eq!(after.delivered_hash, sent, "delivered is what was sent: {}", told());
        assert_eq!(after.accepted_content(), before.content_in_flight(), "{}", told());
    }
}

/// The end that every lead has when nothing more changes: it is sent until Conversica accepts it, or it waits for a person, who
/// can always end the wait.
fn settle(mut record: LeadRecord, mut seconds: usize) -> LeadRecord {
    for _ in 0..8 {
        seconds += 2_000_000;
        let now = at(seconds);
        let draft = match record.status {
            LeadStatus::Pending | LeadStatus::Retrying => EventDraft::Claim,
            LeadStatus::InFlight => EventDraft::Answer(OutcomeClass::Accepted, NextStep::Untried),
            LeadStatus::Held if record.hold_reason == Some(HoldReason::Staged) && record.gone_at.is_none() => {
                EventDraft::Event(LeadEvent::HoldLifted)
            }
            LeadStatus::Held if record.hold_reason == Some(HoldReason::Staged) => EventDraft::Back,
            LeadStatus::Held => EventDraft::Event(LeadEvent::Approved),
            LeadStatus::Rejected | LeadStatus::Exhausted => EventDraft::Event(LeadEvent::RetryAsked),
            LeadStatus::InSync | LeadStatus::Invalid | LeadStatus::Gone | LeadStatus::Assumed => return record,
            LeadStatus::Suppressed => EventDraft::Row(Some(0), None),
        };
        let event = event(&record, &draft, now);
        record = next(record, &event, now);
    }
    panic!("this lead does not come to rest: {record:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_in_any_order_keep_the_promises_about_one_lead(
        drafts in prop::collection::vec(draft(), 100..101)
    ) {
        let mut record = LeadRecord::first_seen(&change(Some(0), None), at(0), at(0));
        for (place, draft) in drafts.iter().enumerate() {
            let now = at(place + 1);
            let event = event(&record, draft, now);
            let after = next(record.clone(), &event, now);
            check(&record, &event, &after);
            record = after;
        }
        settle(record, drafts.len());
    }
}
