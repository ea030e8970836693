//! Table `outcome`: answers to claims that this instance has lost.
//!
//! The lease had ended, and another instance has claimed the lead and may have sent newer content. It is unknown in which order
//! Conversica received the two. So the late answer is journalled with its own class. If Conversica may have received the older
//! content last, the lead is due again with its newest content.

use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_claim::FinishedAttempt;
use crate::store::micros;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;

/// The journal entry for a late answer: acceptance no longer proves that Conversica has this content.
fn journalled(late: &FinishedAttempt) -> FinishedAttempt {
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

/// What the journal has of a late answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LateEntry {
    /// This entry.
    Said(FinishedAttempt),
    /// A transaction of ours whose commit was not confirmed has written it, so it was not late.
    WrittenBefore,
    /// The lead was erased meanwhile.
    Erased,
}

/// Marks the entry of a late answer in the journal, which has just been written, or takes it back.
pub(crate) async fn journal(
    transaction: &mut StateTransaction,
    late: &FinishedAttempt,
) -> Result<LateEntry, sqlx::Error> {
    let of_answer = |text: &'static str| {
        StateStatement::new(text)
            .bind(&late.lead.id)
            .bind(&late.lead.client_id)
            .bind(micros(late.at))
            .bind(late.sent_hash.as_slice())
    };
    let (entries,): (i64,) = transaction.fetch_one(of_answer(ENTRIES)).await?;
    match entries {
        0 => Ok(LateEntry::Erased),
        1 => {
            let entry = journalled(late);
            transaction.execute(of_answer(SAY_LATE).bind(entry.class.name()).bind(entry.detail.as_deref())).await?;
            Ok(LateEntry::Said(entry))
        }
        _ => {
            transaction.execute(of_answer(TAKE_BACK)).await?;
            Ok(LateEntry::WrittenBefore)
        }
    }
}

/// Replaces a late answer by its journal entry, or drops it.
pub(crate) fn replace(journal: &mut Vec<FinishedAttempt>, late: &FinishedAttempt, entry: Option<FinishedAttempt>) {
    journal.retain(|attempt| attempt != late);
    journal.extend(entry);
}

const ENTRIES: &str = "select count(*) from outcome where id = $1 and client_id = $2 and at = $3 and sent_hash = $4";

/// Deletes the newest entry of this answer.
const TAKE_BACK: &str = "delete from outcome where seq = (select max(seq) from outcome \
     where id = $1 and client_id = $2 and at = $3 and sent_hash = $4)";

/// Marks the entry as late.
const SAY_LATE: &str = "update outcome set class = $5, detail = $6 \
     where id = $1 and client_id = $2 and at = $3 and sent_hash = $4";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::lead::LeadId;
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
    fn a_late_answer_that_accepts_is_journalled_as_ambiguous_and_a_late_refusal_as_one() {
        assert_eq!(journalled(&finished("1", 5, OutcomeClass::Accepted)).class, OutcomeClass::Ambiguous);
        let refused =
            journalled(&FinishedAttempt { detail: Some("no".to_owned()), ..finished("1", 5, OutcomeClass::Rejected) });
        assert_eq!(refused.class, OutcomeClass::Rejected);
        assert!(refused.detail.unwrap().ends_with("; no"));
    }
}
