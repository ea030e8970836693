//! What a row means, held against what the state knows of its lead. Pure.

use crate::conversica::lead::withdraws_consent;
use crate::crm::mapping::Mapped;
use crate::state::lead::{Change, Known, Status};

/// What is to be done about one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The state says the same.
    None,
    /// The row is back, and says what it said before it went.
    Returned,
    /// The state is to be written.
    Changed(Change, Kind),
}

/// What a change comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Conversica has never heard of this lead.
    Create,
    Update,
    /// An update that withdraws consent.
    Stop,
    /// Conversica holds this already: nothing is sent.
    Reverted,
    Invalid,
}

impl Kind {
    /// Whether a request will leave because of this change.
    pub const fn sends(self) -> bool {
        matches!(self, Kind::Create | Kind::Update | Kind::Stop)
    }
}

/// Whether [`compare`] has to be told what was delivered: only a change that may withdraw consent depends on it.
pub fn needs_delivered(mapped: &Mapped, known: Option<&Known>) -> bool {
    let changed = |known: &Known| known.contacted && known.desired_hash != mapped.fingerprint();
    mapped.desired.as_ref().is_ok_and(|body| withdraws_consent("", body)) && known.is_some_and(changed)
}

/// Compares a row with what is known of its lead; `delivered` is the content last accepted, where [`needs_delivered`].
pub fn compare(mapped: Mapped, known: Option<&Known>, delivered: Option<&str>) -> Difference {
    let desired_hash = mapped.fingerprint();
    if let Some(known) = known.filter(|known| known.desired_hash == desired_hash) {
        return if known.status == Status::Gone { Difference::Returned } else { Difference::None };
    }
    let contacted = known.is_some_and(|known| known.contacted);
    // After an ambiguous answer nobody knows what Conversica holds: then the withdrawal counts as new.
    let delivered = delivered.filter(|_| known.is_some_and(|known| known.delivered_hash.is_some())).unwrap_or("");
    let kind = if mapped.desired.is_err() {
        Kind::Invalid
    } else if known.is_some_and(|known| known.delivered_hash == Some(desired_hash)) {
        Kind::Reverted
    } else if !contacted {
        Kind::Create
    } else if mapped.desired.as_ref().is_ok_and(|body| withdraws_consent(delivered, body)) {
        Kind::Stop
    } else {
        Kind::Update
    };
    let change = Change {
        lead: mapped.lead,
        desired_hash,
        desired: mapped.desired,
        hold_reason: None,
        urgent: kind == Kind::Stop,
    };
    Difference::Changed(change, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::lead::{Fingerprint, LeadId};
    use proptest::prelude::*;

    fn mapped(body: Result<&str, &str>) -> Mapped {
        Mapped {
            lead: LeadId { id: "1".into(), client_id: String::new() },
            desired: body.map(str::to_owned).map_err(|reason| vec![reason.to_owned()]),
        }
    }

    fn known(desired: &str, delivered: Option<&str>) -> Known {
        Known {
            lead: LeadId { id: "1".into(), client_id: String::new() },
            status: Status::InSync,
            desired_hash: Fingerprint::of(desired.as_bytes()),
            delivered_hash: delivered.map(|body| Fingerprint::of(body.as_bytes())),
            contacted: delivered.is_some(),
            hold_reason: None,
        }
    }

    fn kind(difference: Difference) -> Option<Kind> {
        match difference {
            Difference::Changed(_, kind) => Some(kind),
            Difference::None | Difference::Returned => None,
        }
    }

    #[test]
    fn a_row_never_seen_is_a_create() {
        assert_eq!(kind(compare(mapped(Ok("a")), None, None)), Some(Kind::Create));
    }

    #[test]
    fn a_row_that_says_the_same_is_no_difference() {
        assert_eq!(compare(mapped(Ok("a")), Some(&known("a", Some("a"))), None), Difference::None);
    }

    #[test]
    fn a_change_and_its_reversal_before_it_was_sent_send_nothing() {
        assert_eq!(kind(compare(mapped(Ok("a")), Some(&known("b", Some("a"))), None)), Some(Kind::Reverted));
    }

    #[test]
    fn consent_withdrawn_by_a_person_conversica_knows_is_urgent_once() {
        let (given, out, moved) = (r#"{"id":"1"}"#, r#"{"id":"1","optOut":true}"#, r#"{"id":"2","optOut":true}"#);
        let urgent = |row: &str, known: Option<&Known>, delivered| match compare(mapped(Ok(row)), known, delivered) {
            Difference::Changed(change, kind) => (kind, change.urgent),
            other => panic!("{other:?}"),
        };
        assert_eq!(urgent(out, Some(&known(given, Some(given))), Some(given)), (Kind::Stop, true));
        assert_eq!(urgent(moved, Some(&known(out, Some(out))), Some(out)), (Kind::Update, false), "said before");
        assert_eq!(urgent(out, None, None), (Kind::Create, false), "nobody has been written to yet");
        let mut unsure = known(given, Some(given));
        unsure.delivered_hash = None;
        assert_eq!(urgent(out, Some(&unsure), Some(out)), (Kind::Stop, true), "nobody knows what Conversica holds");
    }

    #[test]
    fn a_row_that_comes_back_unchanged_has_returned() {
        let mut gone = known("a", Some("a"));
        gone.status = Status::Gone;
        assert_eq!(compare(mapped(Ok("a")), Some(&gone), None), Difference::Returned);
    }

    proptest! {
        #[test]
        fn a_second_look_at_the_same_row_never_differs(body in ".{1,40}", valid in any::<bool>()) {
            let first = mapped(if valid { Ok(&body) } else { Err(&body) });
            let mut seen = known("", None);
            seen.desired_hash = first.fingerprint();
            prop_assert_eq!(compare(first, Some(&seen), None), Difference::None);
        }
    }
}
