//! Table `lead`: leads that Conversica has and whose row holds an opt-out value that is neither yes nor no. Reads only.

use serde::Serialize;

use crate::rules::mapping::opt_out::{COUNTS_AS_OPT_OUT, MAY_BE_OPT_OUT, UNMAPPED_COUNTS, UNMAPPED_MAY_BE};
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;

/// The numbers of such leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UnclearOptOuts {
    /// Conversica was told of the opt-out, and nothing else is sent.
    pub counted: i64,
    /// Nothing is sent until an operator has corrected the row.
    pub unclear: i64,
}

pub async fn count(db: &StateDb) -> Result<UnclearOptOuts, sqlx::Error> {
    let holds = |reasons: [&str; 2]| reasons.map(|reason| format!("invalid_reasons like '%{reason}%'")).join(" or ");
    let sql = format!(
        "select cast(coalesce(sum(case when {counts} then 1 else 0 end), 0) as bigint), \
         cast(coalesce(sum(case when ({may_be}) and not ({counts}) then 1 else 0 end), 0) as bigint) from lead \
         where status = 'invalid' and {UNSETTLED} and first_contact_at is not null",
        counts = holds([COUNTS_AS_OPT_OUT, UNMAPPED_COUNTS]),
        may_be = holds([MAY_BE_OPT_OUT, UNMAPPED_MAY_BE]),
    );
    let (counted, unclear) = db.fetch_one(sql).await?;
    Ok(UnclearOptOuts { counted, unclear })
}
