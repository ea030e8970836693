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
