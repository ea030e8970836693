//! Applies changed entries of table `suppression` to the known leads: a walk over all of them, some thousand at a time. Only
//! those that an entry concerns are locked and changed.
//!
//! A lead whose entry was removed is read anew from its row: the poll decides about it as about any change.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadId;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::suppression_ground::{SuppressionScope, withdrawn_by};
use crate::store::contact_key::{self, ContactKey};
use crate::store::control::{self, CompareAsked, ControlFact};
use crate::store::state_db::StateDb;
use crate::store::statement::{StateReader, StateStatement};
use crate::store::suppression::{self, ListedPerson, SuppressionChange};
use crate::store::{lead_record, micros};

/// The change that was applied last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedSuppression {
    token: u64,
    scope: String,
}

impl ControlFact for AppliedSuppression {
    const NAME: &'static str = "suppression_applied";
}

/// Whose entries count, as the daemon has applied them last.
pub async fn applied_scope(db: &StateDb) -> Result<SuppressionScope, sqlx::Error> {
    let applied = control::read::<AppliedSuppression>(db).await?;
    Ok(applied.and_then(|applied| SuppressionScope::from_name(&applied.scope)).unwrap_or(SuppressionScope::Person))
}

/// What a review has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReviewOutcome {
    /// Leads that are not introduced.
    pub suppressed: u64,
    /// Leads that Conversica may know and that are sent with an opt-out.
    pub withdrawn: u64,
    /// Leads whose rows are read anew, because their entry was removed.
    pub lifted: u64,
}

/// id, client, status, desired content.
type ReviewedRow = (String, String, String, Option<String>);

/// Applies the entries to all leads, if they have changed since the last time. Interrupted, it begins again. Returns `None` if there
/// was nothing to do.
pub async fn review(
    db: &StateDb,
    scope: SuppressionScope,
    now: DateTime<Utc>,
) -> Result<Option<ReviewOutcome>, sqlx::Error> {
    let Some(change) = control::read::<SuppressionChange>(db).await? else { return Ok(None) };
    let applied = AppliedSuppression { token: change.token, scope: scope.name().to_owned() };
    if control::read::<AppliedSuppression>(db).await?.as_ref() == Some(&applied) {
        return Ok(None);
    }
    let mut review =
        LeadReview { db, key: contact_key::find_key(&mut &*db).await?, scope, now, outcome: ReviewOutcome::default() };
    let mut after = None;
    loop {
        let page: Vec<ReviewedRow> = db.fetch_all(page_statement(after.as_ref())).await?;
        let Some((id, client_id, ..)) = page.last() else { break };
        after = Some(LeadId { id: id.clone(), client_id: client_id.clone() });
        review.review_page(page).await?;
    }
    let outcome = review.outcome;
    if outcome.lifted > 0 {
        control::write(db, &CompareAsked { at: now }, now).await?;
    }
    // Entries that were removed later are for the next review.
    let over = StateStatement::new("delete from suppression where removed_at <= $1").bind(micros(change.at));
    db.execute(over).await?;
    control::write(db, &applied, now).await?;
    Ok(Some(outcome))
}

fn page_statement(after: Option<&LeadId>) -> StateStatement {
    let mut statement = StateStatement::new("select id, client_id, status, desired from lead where (id, client_id) ");
    let (id, client_id) = after.map_or(("", ""), LeadId::as_pair);
    // A lead with a blank key is invalid, but it is a lead.
    statement.push(if after.is_some() { "> (" } else { ">= (" }).push_bind(id).push(", ").push_bind(client_id);
    statement.push(") order by id, client_id limit ").push_bind(lead_record::AT_ONCE);
    statement
}

/// A running review.
struct LeadReview<'a> {
    db: &'a StateDb,
    /// `None` while nobody is suppressed: then suppressed leads are released.
    key: Option<ContactKey>,
    scope: SuppressionScope,
    now: DateTime<Utc>,
    outcome: ReviewOutcome,
}

impl LeadReview<'_> {
    async fn find_listed(
        &self,
        reader: &mut impl StateReader,
        contents: &[(&LeadId, &str)],
    ) -> Result<HashMap<LeadId, ListedPerson>, sqlx::Error> {
        match &self.key {
            Some(key) => suppression::find_listed(reader, key, self.scope, contents).await,
            None => Ok(HashMap::new()),
        }
    }

    async fn review_page(&mut self, page: Vec<ReviewedRow>) -> Result<(), sqlx::Error> {
        let rows: Vec<(LeadId, bool, Option<String>)> = page
            .into_iter()
            .map(|(id, client_id, status, desired)| {
                (LeadId { id, client_id }, status == LeadStatus::Suppressed.name(), desired)
            })
            .collect();
        let contents: Vec<(&LeadId, &str)> =
            rows.iter().filter_map(|(lead, _, desired)| Some((lead, desired.as_deref()?))).collect();
        let listed = self.find_listed(&mut &*self.db, &contents).await?;
        let concerned = rows.iter().filter(|(lead, is_suppressed, _)| *is_suppressed || listed.contains_key(lead));
        let concerned: Vec<LeadId> = concerned.map(|(lead, ..)| lead.clone()).collect();
        if concerned.is_empty() { Ok(()) } else { self.apply(&concerned).await }
    }

    /// Looks again at these leads, under lock, and changes them.
    async fn apply(&mut self, leads: &[LeadId]) -> Result<(), sqlx::Error> {
        let mut transaction = self.db.begin().await?;
        let records = lead_record::lock(&mut transaction, leads).await?;
        let contents: Vec<(&LeadId, &str)> =
            records.iter().filter_map(|record| Some((&record.lead, record.desired.as_deref()?))).collect();
        let listed = self.find_listed(&mut transaction, &contents).await?;
        let withdrawn = |record: &LeadRecord| withdrawn_by(&listed.get(&record.lead)?.grounds);
        let lifted: Vec<LeadId> = records
            .iter()
            .filter(|record| withdrawn(record).is_none())
            .filter(|record| {
                let was_listed = listed.get(&record.lead).is_some_and(|person| person.was_listed);
                was_listed || record.status == LeadStatus::Suppressed
            })
            .map(|record| record.lead.clone())
            .collect();
        let event = |record: &LeadRecord| withdrawn(record).map(LeadEvent::Suppressed);
        let changed = lead_record::apply(&mut transaction, records, self.now, event).await?;
        for some in lifted.chunks(1000) {
            transaction.execute(read_anew_statement(some)).await?;
        }
        transaction.commit().await?;
        for lead in changed.iter().filter(|lead| lead.has_changed()) {
            let count = if lead.after.status == LeadStatus::Suppressed {
                &mut self.outcome.suppressed
            } else {
                &mut self.outcome.withdrawn
            };
            *count += 1;
        }
        self.outcome.lifted += lifted.len() as u64;
        Ok(())
    }
}

/// The next compare maps the rows of these leads, which the transaction has locked.
fn read_anew_statement(leads: &[LeadId]) -> StateStatement {
    let mut statement = StateStatement::new("with lifted (lifted_id, lifted_client_id) as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(
        ") update lead set row_hash = null from lifted where lead.id = lifted_id and lead.client_id = lifted_client_id",
    );
    statement
}
