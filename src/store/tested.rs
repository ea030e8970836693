//! Table `lead`: the leads that were ever sent with the Test Lead Token. They are few, because Conversica limits their number.

use std::collections::HashSet;

use crate::conversica::lead::LeadId;
use crate::store::state_db::StateDb;

/// At most 10,000.
pub async fn leads(db: &StateDb) -> Result<HashSet<LeadId>, sqlx::Error> {
    let rows = db.fetch_all("select id, client_id from lead where test_lead_at is not null limit 10000").await?;
    Ok(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect())
}
