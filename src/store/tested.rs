//! Table `lead`: the leads that were ever sent with the Test Lead Token. They are few, because Conversica limits their number.

use std::collections::HashSet;

use crate::conversica::lead::LeadId;
use crate::store::state_db::{StateDb, on_state};

/// At most 10,000.
pub async fn leads(db: &StateDb) -> Result<HashSet<LeadId>, sqlx::Error> {
    let rows: Vec<(String, String)> = on_state!(db, pool => {
        sqlx::query_as("select id, client_id from lead where test_lead_at is not null limit 10000").fetch_all(pool).await
    })?;
    Ok(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect())
}
