//! Table `payload`: contents that were sent and that table `lead` no longer has. Triggers in the state fill it, so that no
//! statement can forget to. Reads only.

use std::collections::HashMap;

use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::store::lead::DELIVERED;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Every stored content of a lead, by its fingerprint: desired, accepted last, in flight, and sent before. Contents that versions
/// before this table did not keep are missing.
pub async fn contents(db: &StateDb, lead: &LeadId) -> Result<HashMap<Vec<u8>, String>, sqlx::Error> {
    let sql = format!(
        "select body from payload where id = $1 and client_id = $2 \
         union all select desired from lead where id = $1 and client_id = $2 and desired is not null \
         union all select {DELIVERED} from lead where id = $1 and client_id = $2 \
         union all select sent from lead where id = $1 and client_id = $2"
    );
    let bodies: Vec<(Option<String>,)> =
        db.fetch_all(StateStatement::new(sql).bind(&lead.id).bind(&lead.client_id)).await?;
    let named = |body: String| (ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec(), body);
    Ok(bodies.into_iter().filter_map(|(body,)| body).map(named).collect())
}
