//! Tables `lead` and `outcome`: a withdrawal of consent in a content that Conversica rejects for another value. The withdrawal is sent once more
//! by itself, with the content that Conversica accepted last. The rejected content waits for the row to change, like every
//! rejected content.
//!
//! The journal shows which content was rejected, so nothing else has to be stored. The withdrawal of an urgent lead is sent apart
//! if its desired content was rejected and nothing else was accepted since.

use std::collections::HashMap;

use crate::conversica::lead::LeadId;
use crate::rules::lead_event::ContentRejection;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;

/// Of these leads: the newest journal entry that rejected the desired content, unless a request before the present one was
/// accepted since.
pub(crate) async fn rejections(
    transaction: &mut StateTransaction,
    leads: &[LeadId],
) -> Result<HashMap<LeadId, ContentRejection>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    let mut statement = StateStatement::new(
        "select lead.id, lead.client_id, o.http_status, o.detail from lead \
         join outcome o on o.id = lead.id and o.client_id = lead.client_id \
         where o.sent_hash = lead.desired_hash and o.class = 'rejected' and not exists (select 1 from outcome a \
         where a.id = lead.id and a.client_id = lead.client_id and a.class = 'accepted' and a.seq > o.seq \
         and (lead.sent_hash is null or lead.sent_hash = lead.desired_hash or a.sent_hash <> lead.sent_hash)) \
         and (lead.id, lead.client_id) in (",
    );
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(") order by o.seq");
    let rows: Vec<(String, String, Option<i64>, Option<String>)> = transaction.fetch_all(statement).await?;
    let rejection =
        |(id, client_id, http_status, detail)| (LeadId { id, client_id }, ContentRejection { http_status, detail });
    Ok(rows.into_iter().map(rejection).collect())
}
