//! Table `lead`: exact numbers of leads of one status for each reason.

use crate::conversica::lead::LeadId;
use crate::rules::lead_status::LeadStatus;
use crate::store::listing::{LastOutcome, reasons_of};
use crate::store::state_db::StateDb;

/// The number of reasons that are counted apart, the most frequent first.
const REASONS: i64 = 200;

/// The stored reason for the status of leads. For leads with several faults it contains all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReason {
    pub hold_reason: Option<String>,
    pub invalid_reasons: Vec<String>,
    pub last_outcome: Option<LastOutcome>,
    pub leads: i64,
}

/// Leads of one status, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedReasons {
    /// The most frequent first.
    pub reasons: Vec<StoredReason>,
    /// All leads of the status, including those with further reasons.
    pub leads: i64,
}

/// One statement reads one moment, so that the numbers add up.
pub async fn by_reason(db: &StateDb, status: LeadStatus) -> Result<CountedReasons, sqlx::Error> {
    let (hold, invalid, answer) = match status {
        LeadStatus::Held => ("hold_reason", "null", false),
        LeadStatus::Invalid => ("null", "invalid_reasons", false),
        _ => ("null", "null", true),
    };
    let answered = |column: &str| if answer { column.to_owned() } else { "null".to_owned() };
    let sql = format!(
        "select hold, faults, class, http_status, detail, leads, cast(sum(leads) over () as bigint) from \
         (select cast({hold} as text) as hold, cast({invalid} as text) as faults, cast({} as text) as class, \
         cast({} as bigint) as http_status, cast({} as text) as detail, count(*) as leads \
         from lead where {} group by 1, 2, 3, 4, 5) groups order by leads desc limit {REASONS}",
        answered("last_outcome"),
        answered("last_http_status"),
        answered("last_detail"),
        status.condition(),
    );
    type GroupRow = (Option<String>, Option<String>, Option<String>, Option<i64>, Option<String>, i64, i64);
    let rows: Vec<GroupRow> = db.fetch_all(sql).await?;
    let leads = rows.first().map_or(0, |row| row.6);
    let reasons = rows.into_iter().map(|(hold_reason, faults, class, http_status, detail, leads, _)| StoredReason {
        hold_reason,
        invalid_reasons: reasons_of(faults),
        last_outcome: class.map(|class| LastOutcome { class, http_status, detail, at: None }),
        leads,
    });
    Ok(CountedReasons { reasons: reasons.collect(), leads })
}

impl StoredReason {
    /// In the form that [`crate::story::entry`] takes.
    pub fn as_listed(&self, status: LeadStatus) -> crate::store::listing::ListedLead {
        crate::store::listing::ListedLead {
            lead: LeadId { id: String::new(), client_id: String::new() },
            status,
            hold_reason: self.hold_reason.clone(),
            invalid_reasons: self.invalid_reasons.clone(),
            last_outcome: self.last_outcome.clone(),
            due_at: None,
            changed_at: chrono::DateTime::UNIX_EPOCH,
            since: chrono::DateTime::UNIX_EPOCH,
            attempts: 0,
        }
    }
}
