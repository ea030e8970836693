//! Applies changed entries of table `suppression` to the known leads: a walk over all of them, some thousand at a time. Only
//! those that an entry concerns are locked and changed. An entry concerns a lead by its row's content and by what Conversica has.
//!
//! A lead whose entry was removed is read anew from its row: the poll decides about it as about any change.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadId;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::suppression_ground::{SuppressionScope, withdrawn_by};
use crate::store::contact_key::{self, ContactKey};
use crate::store::control::{self, CompareAsked, ControlFact};
use crate::store::lead_record;
use crate::store::person_consent::PeopleChange;
use crate::store::state_db::StateDb;
use crate::store::statement::{StateReader, StateStatement};
use crate::store::suppression::{self, ListedPerson, SuppressionChange};

/// The changes that were applied last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedSuppression {
    /// Of [`SuppressionChange`]; 0 for none.
    list: u64,
    /// Of [`PeopleChange`]; 0 for none.
    people: u64,
    scope: String,
    at: DateTime<Utc>,
    took_ms: i64,
}

impl ControlFact for AppliedSuppression {
    const NAME: &'static str = "suppression_applied";
}

impl AppliedSuppression {
    /// Changes that are not applied.
    async fn find_new(db: &StateDb, scope: SuppressionScope, now: DateTime<Utc>) -> Result<Option<Self>, sqlx::Error> {
        let list = control::read::<SuppressionChange>(db).await?.map_or(0, |change| change.token);
        let people = control::read::<PeopleChange>(db).await?.map_or(0, |change| change.token);
        let new = Self { list, people, scope: scope.name().to_owned(), at: now, took_ms: 0 };
        let Some(applied) = control::read::<Self>(db).await? else {
            return Ok((list != 0 || people != 0).then_some(new));
        };
        let is_same_list = applied.list == new.list && applied.scope == new.scope;
        let pause = if applied.took_ms < SHORT_MS { 0 } else { applied.took_ms.saturating_mul(PAUSE) };
        let waits = now < applied.at + TimeDelta::milliseconds(pause);
        // A clock that was set back delays no review.
        let waits = waits && applied.at <= now;
        Ok((!is_same_list || applied.people != new.people && !waits).then_some(new))
    }
}

/// Opt-outs of people come one by one all day. After a longer review the next one for them waits this many times as long as it took, so
/// that reviews take a fiftieth of the time at most. No request is sent against an opt-out meanwhile: each claim asks for it.
const PAUSE: i64 = 50;

/// A review that is shorter, in milliseconds, makes no other wait.
const SHORT_MS: i64 = 2000;

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
    /// Leads whose rows are read anew, because they cannot be sent as they are, and an entry names what Conversica has.
    pub invalid: u64,
}

/// id, client, status; the contents: desired, accepted last, in flight.
type ReviewedRow = (String, String, String, Option<String>, Option<String>, Option<String>);

/// Applies the entries to all leads, if they have changed since the last time. Interrupted, it begins again. Returns `None` if there
/// was nothing to do.
pub async fn review(
    db: &StateDb,
    scope: SuppressionScope,
    now: DateTime<Utc>,
) -> Result<Option<ReviewOutcome>, sqlx::Error> {
    let Some(new) = AppliedSuppression::find_new(db, scope, now).await? else { return Ok(None) };
    let started = Instant::now();
    // Entries that are removed from now on are for the next review.
    db.execute("update suppression set read_at = -1 where removed_at is not null").await?;
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
    if outcome.lifted > 0 || outcome.invalid > 0 {
        control::write(db, &CompareAsked { at: now }, now).await?;
    }
    db.execute("delete from suppression where removed_at is not null and read_at = -1").await?;
    let took_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    control::write(db, &AppliedSuppression { took_ms, ..new }, now).await?;
    Ok(Some(outcome))
}

fn page_statement(after: Option<&LeadId>) -> StateStatement {
    let mut statement =
        StateStatement::new("select id, client_id, status, desired, delivered, sent from lead where (id, client_id) ");
    let (id, client_id) = after.map_or(("", ""), LeadId::as_pair);
    // A lead with a blank key is invalid, but it is a lead.
    statement.push(if after.is_some() { "> (" } else { ">= (" }).push_bind(id).push(", ").push_bind(client_id);
    statement.push(") order by id, client_id limit ").push_bind(lead_record::AT_ONCE);
    statement
}

/// A running review.
struct LeadReview<'a> {
    db: &'a StateDb,
    /// `None` while no person is suppressed: then suppressed leads are released.
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
        let leads: Vec<LeadId> =
            page.iter().map(|(id, client_id, ..)| LeadId { id: id.clone(), client_id: client_id.clone() }).collect();
        let contents = leads.iter().zip(&page).flat_map(|(lead, (_, _, _, desired, delivered, sent))| {
            [desired, delivered, sent].into_iter().flatten().map(move |content| (lead, content.as_str()))
        });
        let contents: Vec<(&LeadId, &str)> = contents.collect();
        let listed = self.find_listed(&mut &*self.db, &contents).await?;
        let concerned = leads
            .iter()
            .zip(&page)
            .filter(|(lead, (_, _, status, ..))| status == LeadStatus::Suppressed.name() || listed.contains_key(*lead));
        let concerned: Vec<LeadId> = concerned.map(|(lead, _)| lead.clone()).collect();
        if concerned.is_empty() { Ok(()) } else { self.apply(&concerned).await }
    }

    /// Looks again at these leads, under lock, and changes them.
    async fn apply(&mut self, leads: &[LeadId]) -> Result<(), sqlx::Error> {
        let mut transaction = self.db.begin().await?;
        let records = lead_record::lock(&mut transaction, leads).await?;
        let contents: Vec<(&LeadId, &str)> = records
            .iter()
            .flat_map(|record| record.contents().into_iter().map(|content| (&record.lead, content)))
            .collect();
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
        // The poll sends the withdrawal of an invalid row together with what Conversica has.
        let invalid = records.iter().filter(|record| record.gone_at.is_none() && record.desired.is_none());
        let invalid: Vec<LeadId> = invalid
            .filter(|record| {
                withdrawn(record).zip(record.accepted_content()).is_some_and(|(w, had)| w.keep(had).is_some())
            })
            .map(|record| record.lead.clone())
            .collect();
        let event = |record: &LeadRecord| withdrawn(record).map(LeadEvent::Suppressed);
        let changed = lead_record::apply(&mut transaction, records, self.now, event).await?;
        for some in lifted.chunks(1000).chain(invalid.chunks(1000)) {
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
        self.outcome.invalid += invalid.len() as u64;
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
        ") update lead set row_hash = null, version = version + 1 from lifted where lead.id = lifted_id and lead.client_id = lifted_client_id",
    );
    statement
}
