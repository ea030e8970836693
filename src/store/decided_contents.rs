//! Table `lead`, for the page before a decision: the contents of leads that it would concern, some of them if there are many.

use crate::conversica::lead::LeadId;
use crate::rules::decision_effect::DecidedContent;
use crate::rules::lead_status::LeadStatus;
use crate::store::held::{HeldSelection, push_held};
use crate::store::lead::DELIVERED;
use crate::store::resend::ResendSelection;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::stuck::push_stuck;

/// The leads of a decision.
#[derive(Debug, Clone, Copy)]
pub enum DecidedLeads<'a> {
    Held(&'a HeldSelection),
    Stuck(&'a [LeadStatus], Option<&'a [String]>),
    Resent(&'a ResendSelection),
}

/// Contents of at most `limit` leads, in any order.
pub async fn read(db: &StateDb, leads: DecidedLeads<'_>, limit: i64) -> Result<Vec<DecidedContent>, sqlx::Error> {
    let mut statement = StateStatement::new(format!(
        "select id, client_id, desired, {DELIVERED}, cast(case when first_contact_at is null or assumed_at is not null then 1 \
         else 0 end as bigint) from lead where "
    ));
    match leads {
        DecidedLeads::Held(selection) => {
            // The others are in flight with an older content, or their rows are missing: an approval sends nothing for those.
            statement.push("status = 'held' and gone_at is null and ");
            push_held(&mut statement, selection, None);
        }
        DecidedLeads::Stuck(statuses, ids) => {
            push_stuck(&mut statement, statuses.iter().map(|status| status.name()), ids);
        }
        DecidedLeads::Resent(selection) => selection.push(db, &mut statement),
    }
    statement.push(&format!(" limit {limit}"));
    type ContentRow = (String, String, Option<String>, Option<String>, i64);
    let rows: Vec<ContentRow> = db.fetch_all(statement).await?;
    let content = |(id, client_id, desired, delivered, is_new): ContentRow| DecidedContent {
        lead: LeadId { id, client_id },
        desired,
        delivered,
        is_new: is_new == 1,
    };
    Ok(rows.into_iter().map(content).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::lead::ContentFingerprint;
    use crate::rules::hold_reason::HoldReason;
    use crate::rules::lead_change::LeadChange;
    use crate::rules::lead_record::LeadRecord;
    use crate::store::{instant, lead_record};

    fn held(id: &str) -> LeadRecord {
        let change = LeadChange {
            lead: LeadId { id: id.to_owned(), client_id: String::new() },
            desired_hash: ContentFingerprint::of(b"{}"),
            desired: Ok("{}".to_owned()),
            hold_reason: Some(HoldReason::TooManyChanges),
            urgent: false,
            suppressed: false,
            row_hash: None,
        };
        LeadRecord::first_seen(&change, instant(5), instant(5))
    }

    #[tokio::test]
    async fn of_held_leads_only_those_are_shown_that_an_approval_sends() {
        let db = StateDb::open_state_in_memory().await.unwrap();
        let records = [
            held("1"),
            LeadRecord { gone_at: Some(instant(7)), ..held("2") },
            LeadRecord { status: LeadStatus::InFlight, ..held("3") },
            LeadRecord { status: LeadStatus::Gone, gone_at: Some(instant(7)), ..held("4") },
        ];
        let mut transaction = db.begin().await.unwrap();
        lead_record::insert(&mut transaction, &records).await.unwrap();
        transaction.commit().await.unwrap();
        let shown = read(&db, DecidedLeads::Held(&HeldSelection::default()), 10).await.unwrap();
        let ids: Vec<&str> = shown.iter().map(|content| content.lead.id.as_str()).collect();
        assert_eq!(ids, ["1"], "2 and 4 have no row any more, and 3 goes with an older content");
    }
}
