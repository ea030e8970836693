//! Table `lead`: answers to claims that this instance has lost.
//!
//! The lease had ended, and another instance has claimed the lead and may have sent newer content. It is unknown in which order
//! Conversica received the two. So the late answer is journalled with its own class. If Conversica may have received the older
//! content last, the lead is due again with its newest content.

use std::collections::HashMap;

use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::conversica::lead::{LeadId, WITHDRAWALS};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_claim::FinishedAttempt;
use crate::store::lead::{DELIVERED, SENT};
use crate::store::micros;

/// As the fingerprint of the content in flight it means "other than the desired content": whatever the outcome of that request,
/// the desired content is sent after it.
pub(crate) const OTHER_CONTENT: [u8; 16] = [0; 16];

/// The attempts whose claims were not found. `found` are the leads that had a claim in this batch. If two attempts belong to one
/// lead, the newer claim is the one that was found.
pub(crate) fn without_claim<'f>(finished: &'f [FinishedAttempt], found: &[LeadId]) -> Vec<&'f FinishedAttempt> {
    let mut newest: HashMap<&LeadId, i64> = HashMap::new();
    for f in finished {
        let at = newest.entry(&f.lead).or_insert(i64::MIN);
        *at = (*at).max(micros(f.claimed_at));
    }
    let is_found = |f: &&FinishedAttempt| found.contains(&f.lead) && newest.get(&f.lead) == Some(&micros(f.claimed_at));
    finished.iter().filter(|f| !is_found(f)).collect()
}

/// The journal entry for a late answer: acceptance no longer proves that Conversica has this content.
pub(crate) fn journalled(late: &FinishedAttempt) -> FinishedAttempt {
    let said = match late.class {
        OutcomeClass::Accepted | OutcomeClass::Ambiguous => {
            "this answer came after the lease of its claim: the lead is sent again where its content has changed since"
        }
        OutcomeClass::Rejected | OutcomeClass::Transient | OutcomeClass::Halting => {
            "this answer came after the lease of its claim"
        }
    };
    let detail = late.detail.as_deref().map_or_else(|| said.to_owned(), |detail| format!("{said}; {detail}"));
    let class = if late.class == OutcomeClass::Accepted { OutcomeClass::Ambiguous } else { late.class };
    FinishedAttempt { class, detail: Some(detail), ..late.clone() }
}

/// Whether Conversica may have the content that was sent.
pub(crate) fn may_have_arrived(late: &FinishedAttempt) -> bool {
    matches!(late.class, OutcomeClass::Accepted | OutcomeClass::Ambiguous)
}

/// Replaces late answers by their journal entries, and drops those that were journalled before.
pub(crate) fn correct(journal: &mut Vec<FinishedAttempt>, said: Vec<(FinishedAttempt, Option<FinishedAttempt>)>) {
    for (late, entry) in said {
        journal.retain(|f| *f != late);
        journal.extend(entry);
    }
}

/// How many journal entries this very answer has. An answer is not late if a transaction of ours wrote it whose commit was not
/// confirmed.
pub(crate) const ENTRIES: &str =
    "select count(*) from outcome where id = $1 and client_id = $2 and at = $3 and sent_hash = $4";

/// Deletes the newest entry of this answer.
pub(crate) const TAKE_BACK: &str = "delete from outcome where seq = (select max(seq) from outcome \
     where id = $1 and client_id = $2 and at = $3 and sent_hash = $4)";

/// Marks the entry as late.
pub(crate) const SAY_LATE: &str = "update outcome set class = $5, detail = $6 \
     where id = $1 and client_id = $2 and at = $3 and sent_hash = $4";

/// Whether the new content withdraws consent that the old content did not, in SQL.
pub(crate) fn withdrawn_by(new: &str, old: &str) -> String {
    let withdrawn = WITHDRAWALS.map(|key| {
        let said = format!("like '%\"{}\":true%'", key.name());
        format!("({new} {said} and not {old} {said})")
    });
    withdrawn.join(" or ")
}

/// Makes the lead due again, unless the content that was sent is the desired one. Leads that wait for approval or were rejected
/// by Conversica go on waiting. A withdrawal of consent does not wait for approval.
pub(crate) fn due_again_query<DB: Database>(late: &FinishedAttempt) -> QueryBuilder<DB>
where
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
    for<'e> Vec<u8>: Encode<'e, DB> + Type<DB>,
{
    let withdraws = withdrawn_by("coalesce(lead.desired, '')", "''");
    let mut update = QueryBuilder::new("update lead set delivered = ");
    update.push(DELIVERED).push(", delivered_hash = null, sent = case when lead.status = 'in_flight' then ");
    update.push(SENT).push(" else lead.sent end, sent_hash = case when lead.status = 'in_flight' then ");
    update.push_bind(OTHER_CONTENT.to_vec());
    update.push(" else lead.sent_hash end, first_contact_at = coalesce(lead.first_contact_at, ");
    update.push_bind(micros(late.at)).push("), urgent = case when ").push(&withdraws);
    let ends_hold = format!("not (lead.status = 'held' and lead.gone_at is not null) and ({withdraws})");
    update.push(" then 1 else lead.urgent end, hold_reason = case when ").push(&ends_hold);
    update.push(" then null else lead.hold_reason end, held_at = case when ").push(&ends_hold);
    update.push(" then null else lead.held_at end, due_at = case when lead.status in ('in_sync', 'gone') or lead.status = 'held' and ");
    update.push(&ends_hold).push(" then ");
    update
        .push_bind(micros(late.at))
        .push(" else lead.due_at end, status = case when lead.status = 'in_sync' then 'pending' ");
    update.push("when lead.status = 'held' and ").push(&ends_hold).push(" then 'pending' ");
    update.push("when lead.status = 'gone' and (").push(&withdraws);
    update.push(") then 'pending' else lead.status end where lead.id = ").push_bind(late.lead.id.clone());
    update.push(" and lead.client_id = ").push_bind(late.lead.client_id.clone());
    update.push(" and lead.desired_hash <> ").push_bind(late.sent_hash.clone());
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::retry::NextStep;
    use crate::store::instant;

    fn finished(id: &str, claimed_at: i64, class: OutcomeClass) -> FinishedAttempt {
        FinishedAttempt {
            lead: LeadId { id: id.to_owned(), client_id: String::new() },
            claimed_at: instant(claimed_at),
            attempt: 1,
            class,
            http_status: None,
            detail: None,
            duration: None,
            at: instant(9),
            sent_hash: vec![1],
            next: NextStep::Done,
        }
    }

    #[test]
    fn of_two_answers_for_one_lead_the_older_claim_is_the_late_one() {
        let batch = [
            finished("1", 5, OutcomeClass::Accepted),
            finished("1", 7, OutcomeClass::Accepted),
            finished("2", 6, OutcomeClass::Accepted),
        ];
        let late = without_claim(&batch, &[batch[0].lead.clone()]);
        assert_eq!(late, [&batch[0], &batch[2]]);
    }

    #[test]
    fn a_late_answer_that_accepts_is_journalled_as_ambiguous_and_a_late_refusal_as_one() {
        assert_eq!(journalled(&finished("1", 5, OutcomeClass::Accepted)).class, OutcomeClass::Ambiguous);
        let refused =
            journalled(&FinishedAttempt { detail: Some("no".to_owned()), ..finished("1", 5, OutcomeClass::Rejected) });
        assert_eq!((refused.class, may_have_arrived(&refused)), (OutcomeClass::Rejected, false));
        assert!(refused.detail.unwrap().ends_with("; no"));
    }
}
