//! Compares a mapped row with what the state knows about its lead. Pure.

use crate::conversica::lead::{LeadId, RowHash, with_withdrawn, withdraws_consent};
use crate::rules::content_hold::ContentHoldPolicy;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::{ChangeKind, KnownLead, LeadChange};
use crate::rules::lead_status::LeadStatus;
use crate::rules::mapping::MappedRow;

/// The difference between a row and the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowDifference {
    /// The state agrees with the row.
    None,
    /// The state agrees with the row, but does not have its hash.
    Reread(LeadId, RowHash),
    /// The row is back with its earlier content, and its lead gets its earlier status back.
    Returned,
    /// The state has to be written.
    Changed(LeadChange, ChangeKind),
}

/// Whether [`compare`] needs the delivered content: a possible withdrawal of consent depends on it, and so may a hold.
pub fn needs_delivered(mapped: &MappedRow, known: Option<&KnownLead>, policy: &ContentHoldPolicy) -> bool {
    let Some(known) = known.filter(|known| known.may_be_contacted()) else { return false };
    match &mapped.desired {
        Ok(_)
            if known.desired_hash == mapped.fingerprint()
                && !known.gone
                && !is_held_for_content(known)
                && !is_held_with_its_poll(known) =>
        {
            false
        }
        Ok(body) => withdraws_consent("", body) || policy.needs_delivered() && !is_delivered(mapped, known),
        // Even if the state agrees about the row: its lead may have been in flight when the state was written.
        Err(_) => !mapped.withdrawn.is_empty(),
    }
}

/// The lead waits for a reason that a change of the settings can end.
fn is_held_for_content(known: &KnownLead) -> bool {
    let waits = matches!(known.status, LeadStatus::Held | LeadStatus::InFlight);
    waits && known.hold_reason.is_some_and(HoldReason::is_of_content)
}

/// The lead waits with a whole poll, which is approved at once. A reason of its own goes before that.
fn is_held_with_its_poll(known: &KnownLead) -> bool {
    known.status == LeadStatus::Held
        && !known.gone
        && known.hold_reason.is_some_and(|reason| HoldReason::OF_POLLS.contains(&reason))
}

fn is_delivered(mapped: &MappedRow, known: &KnownLead) -> bool {
    known.delivered_hash == Some(mapped.fingerprint())
}

/// Compares a row with the facts of its lead. `delivered` is the content accepted last, if [`needs_delivered`].
pub fn compare(
    mapped: MappedRow,
    known: Option<&KnownLead>,
    delivered: Option<&str>,
    policy: &ContentHoldPolicy,
) -> RowDifference {
    let mapped = rescue_withdrawal(mapped, known, delivered);
    let desired_hash = mapped.fingerprint();
    let contacted = known.is_some_and(KnownLead::may_be_contacted);
    let suppressed = !mapped.grounds.is_empty() && mapped.desired.is_ok() && !contacted;
    let kind = kind_of_change(&mapped, known, delivered);
    let hold_reason = mapped.desired.as_ref().ok().and_then(|body| policy.reason(body, kind, delivered));
    let is_the_same = |known: &&KnownLead| {
        known.desired_hash == desired_hash
            && suppressed == (known.status == LeadStatus::Suppressed)
            && (!is_held_for_content(known) || known.gone || known.hold_reason == hold_reason)
            && !(is_held_with_its_poll(known) && hold_reason.is_some_and(HoldReason::is_of_content))
    };
    if let Some(known) = known.filter(is_the_same) {
        if !known.gone {
            return match mapped.row_hash {
                Some(hash) if known.row_hash != Some(hash) => RowDifference::Reread(mapped.lead, hash),
                _ => RowDifference::None,
            };
        }
        // Sends that were unfinished when the row went are staged anew, and may have to wait for approval.
        let rests = mapped.desired.is_err() || is_delivered(&mapped, known);
        if rests || known.is_withheld() || known.status == LeadStatus::InFlight {
            return RowDifference::Returned;
        }
    }
    let change = LeadChange {
        lead: mapped.lead,
        desired_hash,
        desired: mapped.desired,
        hold_reason,
        urgent: kind == ChangeKind::Stop,
        suppressed,
        row_hash: mapped.row_hash,
    };
    RowDifference::Changed(change, kind)
}

fn kind_of_change(mapped: &MappedRow, known: Option<&KnownLead>, delivered: Option<&str>) -> ChangeKind {
    let contacted = known.is_some_and(KnownLead::may_be_contacted);
    match &mapped.desired {
        Err(_) => ChangeKind::Invalid,
        Ok(_) if !mapped.grounds.is_empty() && !contacted => ChangeKind::Suppressed,
        Ok(_) if known.is_some_and(|known| is_delivered(mapped, known)) => ChangeKind::Reverted,
        Ok(_) if !contacted => ChangeKind::Create,
        Ok(body) if withdraws_consent(certain(known, delivered), body) => ChangeKind::Stop,
        Ok(_) => ChangeKind::Update,
    }
}

/// The content that Conversica has for certain. After an ambiguous outcome none is certain, so a withdrawal counts as new.
fn certain<'a>(known: Option<&KnownLead>, delivered: Option<&'a str>) -> &'a str {
    delivered.filter(|_| known.is_some_and(|known| known.delivered_hash.is_some())).unwrap_or("")
}

/// Handles a row that is no longer valid but withdraws consent, as when a person opts out and their address is wiped. The content
/// that Conversica has is sent once more with the withdrawal in it. When that has arrived, the row is invalid like others.
pub fn rescue_withdrawal(mapped: MappedRow, known: Option<&KnownLead>, delivered: Option<&str>) -> MappedRow {
    let rescued = delivered.filter(|_| mapped.desired.is_err() && !mapped.withdrawn.is_empty()).and_then(|delivered| {
        let body = with_withdrawn(delivered, &mapped.withdrawn)?;
        withdraws_consent(certain(known, Some(delivered)), &body).then_some(body)
    });
    match rescued {
        Some(body) => MappedRow { desired: Ok(body), ..mapped },
        None => mapped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConversationChanges::{self, Hold, Send};
    use crate::conversica::lead::{ContentFingerprint, LeadKey};
    use proptest::prelude::*;

    fn mapped(body: Result<&str, &str>) -> MappedRow {
        MappedRow {
            lead: LeadId { id: "1".into(), client_id: String::new() },
            desired: body.map(str::to_owned).map_err(|reason| vec![reason.to_owned()]),
            withdrawn: Vec::new(),
            row_hash: None,
            odd: Vec::new(),
            grounds: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn known(desired: &str, delivered: Option<&str>) -> KnownLead {
        KnownLead {
            lead: LeadId { id: "1".into(), client_id: String::new() },
            status: LeadStatus::InSync,
            desired_hash: ContentFingerprint::of(desired.as_bytes()),
            delivered_hash: delivered.map(|body| ContentFingerprint::of(body.as_bytes())),
            contacted: delivered.is_some(),
            assumed: false,
            hold_reason: None,
            gone: false,
            row_hash: None,
        }
    }

    fn by(changes: ConversationChanges) -> ContentHoldPolicy {
        ContentHoldPolicy::of_conversations(changes)
    }

    fn kind_of(difference: RowDifference) -> Option<ChangeKind> {
        match difference {
            RowDifference::Changed(_, kind) => Some(kind),
            RowDifference::None | RowDifference::Reread(..) | RowDifference::Returned => None,
        }
    }

    #[test]
    fn a_row_never_seen_is_a_create() {
        assert_eq!(kind_of(compare(mapped(Ok("a")), None, None, &by(Send))), Some(ChangeKind::Create));
    }

    #[test]
    fn a_row_that_says_the_same_is_no_difference() {
        assert_eq!(compare(mapped(Ok("a")), Some(&known("a", Some("a"))), None, &by(Send)), RowDifference::None);
    }

    #[test]
    fn a_change_and_its_reversal_before_it_was_sent_send_nothing() {
        assert_eq!(
            kind_of(compare(mapped(Ok("a")), Some(&known("b", Some("a"))), None, &by(Send))),
            Some(ChangeKind::Reverted)
        );
    }

    #[test]
    fn consent_withdrawn_by_a_person_conversica_knows_is_urgent_once() {
        let (given, out, moved) = (r#"{"id":"1"}"#, r#"{"id":"1","optOut":true}"#, r#"{"id":"2","optOut":true}"#);
        let urgent = |row: &str, known: Option<&KnownLead>, delivered| match compare(
            mapped(Ok(row)),
            known,
            delivered,
            &by(Send),
        ) {
            RowDifference::Changed(change, kind) => (kind, change.urgent),
            other => panic!("{other:?}"),
        };
        assert_eq!(urgent(out, Some(&known(given, Some(given))), Some(given)), (ChangeKind::Stop, true));
        assert_eq!(urgent(moved, Some(&known(out, Some(out))), Some(out)), (ChangeKind::Update, false), "said before");
        assert_eq!(urgent(out, None, None), (ChangeKind::Create, false), "the person was never contacted");
        let mut unsure = known(given, Some(given));
        unsure.delivered_hash = None;
        assert_eq!(
            urgent(out, Some(&unsure), Some(out)),
            (ChangeKind::Stop, true),
            "it is unknown what Conversica holds"
        );
    }

    #[test]
    fn another_conversation_is_held_where_that_is_asked_for_and_the_person_is_known() {
        let (a, b) = (r#"{"id":"1","conversationId":"A"}"#, r#"{"id":"1","conversationId":"B"}"#);
        let (renamed, out) =
            (r#"{"id":"1","conversationId":"A","city":"Ulm"}"#, r#"{"id":"1","conversationId":"B","optOut":true}"#);
        let reason = |row: &str, known: Option<&KnownLead>, delivered, changes| match compare(
            mapped(Ok(row)),
            known,
            delivered,
            &by(changes),
        ) {
            RowDifference::Changed(change, _) => change.hold_reason,
            other => panic!("{other:?}"),
        };
        let holds = Some(HoldReason::ConversationChanged);
        assert!(needs_delivered(&mapped(Ok(b)), Some(&known(a, Some(a))), &by(Hold)));
        assert_eq!(reason(b, Some(&known(a, Some(a))), Some(a), Hold), holds);
        assert_eq!(reason(b, Some(&known(a, Some(a))), Some(a), Send), None);
        assert_eq!(reason(renamed, Some(&known(a, Some(a))), Some(a), Hold), None, "the same conversation");
        assert_eq!(reason(b, None, None, Hold), None, "a new person");
        assert_eq!(reason(out, Some(&known(a, Some(a))), Some(a), Hold), None, "withdrawn consent is never held");
        let mut unsure = known(a, Some(a));
        unsure.delivered_hash = None;
        assert_eq!(reason(b, Some(&unsure), None, Hold), holds, "its conversation is unknown");
    }

    #[test]
    fn a_hold_for_a_name_ends_when_the_name_or_the_list_changes_and_not_before() {
        let (row, other) = (r#"{"id":"1","repName":"Jo"}"#, r#"{"id":"1","repName":"Jo","city":"Ulm"}"#);
        let (lists_jo, lists_ann) = (ContentHoldPolicy::of_reps(&["Jo"]), ContentHoldPolicy::of_reps(&["Ann"]));
        let reason = |row: &str, known: Option<&KnownLead>, policy: &ContentHoldPolicy| match compare(
            mapped(Ok(row)),
            known,
            None,
            policy,
        ) {
            RowDifference::Changed(change, kind) => Some((change.hold_reason, kind)),
            RowDifference::None | RowDifference::Reread(..) | RowDifference::Returned => None,
        };
        let unknown = Some(HoldReason::UnknownRep);
        assert_eq!(reason(row, None, &lists_ann), Some((unknown, ChangeKind::Create)));
        let mut held = known(row, None);
        (held.status, held.hold_reason) = (LeadStatus::Held, unknown);
        assert_eq!(reason(row, Some(&held), &lists_ann), None, "nothing has changed");
        assert_eq!(reason(row, Some(&held), &lists_jo), Some((None, ChangeKind::Create)));
        assert_eq!(reason(other, Some(&held), &lists_ann), Some((unknown, ChangeKind::Create)));
        held.hold_reason = Some(HoldReason::FirstRun);
        assert_eq!(reason(row, Some(&held), &lists_jo), None, "the operator decides about a first run");
        let mut approved = known(row, None);
        approved.status = LeadStatus::Pending;
        assert_eq!(reason(row, Some(&approved), &lists_ann), None);
        let sent = known(row, Some(row));
        assert!(needs_delivered(&mapped(Ok(other)), Some(&sent), &lists_ann));
        let difference = compare(mapped(Ok(other)), Some(&sent), Some(row), &lists_ann);
        assert!(
            matches!(difference, RowDifference::Changed(change, ChangeKind::Update) if change.hold_reason.is_none())
        );
    }

    #[test]
    fn consent_withdrawn_by_a_row_that_makes_no_lead_any_more_is_sent_with_the_last_content() {
        let given = r#"{"apiVersion":"7.2","id":"1","firstName":"Ann","optOut":false}"#;
        let mut row = mapped(Err("email: is required, but blank"));
        row.withdrawn = vec![LeadKey::OptOut];
        let before = known(given, Some(given));
        assert!(needs_delivered(&row, Some(&before), &by(Send)));
        let RowDifference::Changed(change, kind) = compare(row.clone(), Some(&before), Some(given), &by(Send)) else {
            panic!()
        };
        let expected = r#"{"apiVersion":"7.2","id":"1","firstName":"Ann","optOut":true}"#;
        assert_eq!((change.desired.as_deref(), kind, change.urgent), (Ok(expected), ChangeKind::Stop, true));
        let mut waiting = known(expected, Some(given));
        waiting.status = LeadStatus::Pending;
        assert_eq!(
            compare(row.clone(), Some(&waiting), Some(given), &by(Send)),
            RowDifference::None,
            "until it has arrived"
        );
        let arrived = known(expected, Some(expected));
        assert_eq!(kind_of(compare(row.clone(), Some(&arrived), Some(expected), &by(Send))), Some(ChangeKind::Invalid));
        assert_eq!(
            kind_of(compare(row, None, None, &by(Send))),
            Some(ChangeKind::Invalid),
            "the person was never contacted"
        );
    }

    #[test]
    fn a_row_that_comes_back_unchanged_has_returned() {
        let mut gone = known("a", Some("a"));
        (gone.status, gone.gone) = (LeadStatus::Gone, true);
        assert_eq!(compare(mapped(Ok("a")), Some(&gone), None, &by(Send)), RowDifference::Returned);
        let mut never_sent = known("a", None);
        (never_sent.status, never_sent.gone) = (LeadStatus::Gone, true);
        assert_eq!(kind_of(compare(mapped(Ok("a")), Some(&never_sent), None, &by(Send))), Some(ChangeKind::Create));
        never_sent.status = LeadStatus::Held;
        assert_eq!(
            compare(mapped(Ok("a")), Some(&never_sent), None, &by(Send)),
            RowDifference::Returned,
            "held as it was"
        );
    }

    proptest! {
        #[test]
        fn a_second_look_at_the_same_row_never_differs(body in ".{1,40}", valid in any::<bool>()) {
            let first = mapped(if valid { Ok(&body) } else { Err(&body) });
            let mut seen = known("", None);
            seen.desired_hash = first.fingerprint();
            prop_assert_eq!(compare(first, Some(&seen), None, &by(Send)), RowDifference::None);
        }
    }
}
