//! Table `lead` and the journal, for an operator who asks about one lead: everything that the state knows about it.
//!
//! Reads only, with separate statements. While a daemon works, two of them may see different moments.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::FromRow;

use crate::conversica::lead::LeadId;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_status::LeadStatus;
use crate::rules::suppression_ground::SuppressionGround;
use crate::store::decision::{self, RecordedDecision};
use crate::store::lead::DELIVERED;
use crate::store::lead_status::{SHOWN_STATUS, status_named};
use crate::store::listing::{due, reasons_of};
use crate::store::outcome::{self, RecordedOutcome};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, payload, suppression, suppression_review};

/// One lead, as the state has it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadStory {
    pub lead: LeadId,
    pub status: LeadStatus,
    /// `None` while the row is invalid.
    pub desired: Option<Map<String, Value>>,
    /// The content accepted last, or treated as delivered by a baseline: [`Self::accepted`] tells them apart.
    pub delivered: Option<Map<String, Value>>,
    /// `false` if a later answer makes it uncertain what Conversica has.
    pub delivered_is_certain: bool,
    pub invalid_reasons: Vec<String>,
    pub hold_reason: Option<String>,
    /// Why the person is not written to under any id.
    pub suppressed_by: Vec<SuppressionGround>,
    /// Set while the lead waits to be sent.
    pub due_at: Option<DateTime<Utc>>,
    /// Tries in the present series.
    pub attempts: i64,
    pub changed_at: DateTime<Utc>,
    /// `None` also if a baseline only assumes that Conversica knows the lead.
    pub first_contact_at: Option<DateTime<Utc>>,
    /// Since when a baseline assumes that Conversica knows the lead, which was never sent from here.
    pub assumed_at: Option<DateTime<Utc>>,
    /// When Conversica last accepted a content, unless a baseline has treated another as delivered since.
    pub delivered_at: Option<DateTime<Utc>>,
    pub gone_at: Option<DateTime<Utc>>,
    /// Since when the lead waits for approval with its present content.
    pub held_at: Option<DateTime<Utc>>,
    /// Since when the lead is in flight.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it was first sent with the Test Lead Token.
    pub test_lead_at: Option<DateTime<Utc>>,
    /// The status and the detail of the answer that caused the present status.
    pub last_http_status: Option<i64>,
    pub last_detail: Option<String>,
    /// Oldest first.
    pub outcomes: Vec<RecordedOutcome>,
    /// Decisions of operators about it, oldest first.
    pub decisions: Vec<RecordedDecision>,
}

impl LeadStory {
    /// The content that Conversica accepted last. `None` if it accepted none, or if a baseline has treated another as delivered
    /// since.
    pub fn accepted(&self) -> Option<&Map<String, Value>> {
        self.delivered.as_ref().filter(|_| self.delivered_at.is_some())
    }
}

/// The clients that have a lead of that id, at most 50; blank for a lead without one.
pub async fn clients(db: &StateDb, id: &str) -> Result<Vec<String>, sqlx::Error> {
    let clients = StateStatement::new("select client_id from lead where id = $1 order by client_id limit 50");
    let rows: Vec<(String,)> = db.fetch_all(clients.bind(id)).await?;
    Ok(rows.into_iter().map(|(client_id,)| client_id).collect())
}

/// The row of table `lead`.
#[derive(FromRow)]
struct StoryRow {
    shown_status: String,
    desired: Option<String>,
    delivered_content: Option<String>,
    is_certain: i32,
    invalid_reasons: Option<String>,
    hold_reason: Option<String>,
    due_at: Option<i64>,
    attempts: i64,
    changed_at: i64,
    first_contact_at: Option<i64>,
    delivered_at: Option<i64>,
    gone_at: Option<i64>,
    held_at: Option<i64>,
    claimed_at: Option<i64>,
    test_lead_at: Option<i64>,
    assumed_at: Option<i64>,
    last_http_status: Option<i64>,
    last_detail: Option<String>,
}

impl StoryRow {
    /// The story without its outcomes and decisions.
    fn into_story(self, lead: &LeadId) -> Result<LeadStory, sqlx::Error> {
        let status = status_named(&self.shown_status)?;
        Ok(LeadStory {
            lead: lead.clone(),
            status,
            desired: self.desired.as_deref().map(object),
            delivered: self.delivered_content.as_deref().map(object),
            delivered_is_certain: self.is_certain == 1,
            invalid_reasons: reasons_of(self.invalid_reasons),
            hold_reason: self.hold_reason,
            suppressed_by: Vec::new(),
            due_at: due(status, self.due_at),
            attempts: self.attempts,
            changed_at: instant(self.changed_at),
            first_contact_at: self.first_contact_at.map(instant).filter(|_| self.assumed_at.is_none()),
            assumed_at: self.assumed_at.map(instant),
            delivered_at: self.delivered_at.map(instant),
            gone_at: self.gone_at.map(instant),
            held_at: self.held_at.map(instant),
            claimed_at: self.claimed_at.map(instant),
            test_lead_at: self.test_lead_at.map(instant),
            last_http_status: self.last_http_status,
            last_detail: self.last_detail,
            outcomes: Vec::new(),
            decisions: Vec::new(),
        })
    }
}

/// The lead's story; `None` if the state does not know it.
pub async fn of(db: &StateDb, lead: &LeadId) -> Result<Option<LeadStory>, sqlx::Error> {
    let sql = format!(
        "select {SHOWN_STATUS} as shown_status, desired, {DELIVERED} as delivered_content, \
         case when delivered_hash is null then 0 else 1 end as is_certain, invalid_reasons, \
         hold_reason, due_at, attempts, changed_at, first_contact_at, delivered_at, gone_at, held_at, claimed_at, test_lead_at, \
         assumed_at, last_http_status, last_detail from lead \
         where id = $1 and client_id = $2"
    );
    let row: Option<StoryRow> =
        db.fetch_optional(StateStatement::new(sql).bind(&lead.id).bind(&lead.client_id)).await?;
    let Some(row) = row else { return Ok(None) };
    let content = row.desired.clone().or_else(|| row.delivered_content.clone()).unwrap_or_default();
    let mut story = row.into_story(lead)?;
    let scope = suppression_review::applied_scope(db).await?;
    let grounds = suppression::find_grounds(&mut &*db, scope, &[(lead, content.as_str())]).await?;
    story.suppressed_by = grounds.into_values().flatten().collect();
    story.outcomes = outcome::of_lead(db, &lead.id, &lead.client_id).await?;
    story.decisions = decision::of_lead(db, &lead.id, &lead.client_id).await?;
    let is_earlier = |outcome: &RecordedOutcome| outcome.content.as_deref() == Some("earlier");
    if story.outcomes.iter().any(is_earlier) {
        let contents = payload::contents(db, lead).await?;
        for outcome in story.outcomes.iter_mut().filter(|outcome| is_earlier(outcome)) {
            outcome.body = outcome.sent_hash.as_ref().and_then(|hash| contents.get(hash)).map(|body| object(body));
        }
    }
    Ok(Some(story))
}

/// A lead that got an answer, and the content that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentContent {
    pub lead: LeadId,
    /// `None` if the content is no longer stored, because it has changed twice since.
    pub body: Option<String>,
}

/// How many of the newest journal entries are searched for the answer. No attempt begins after a halt, so the answer is among
/// them.
const NEWEST_ENTRIES: i64 = 3000;

/// The leads that recently got that answer.
pub async fn answered_with(db: &StateDb, class: OutcomeClass, detail: &str) -> Result<Vec<SentContent>, sqlx::Error> {
    let sql = format!(
        "select o.id, o.client_id, case when o.sent_hash = lead.desired_hash then lead.desired \
         when o.sent_hash = lead.delivered_hash then {DELIVERED} end \
         from (select seq, id, client_id, class, detail, sent_hash from outcome order by seq desc limit $1) o \
         left join lead on lead.id = o.id and lead.client_id = o.client_id \
         where o.class = $2 and o.detail = $3 order by o.seq desc"
    );
    let rows = db.fetch_all(StateStatement::new(sql).bind(NEWEST_ENTRIES).bind(class.name()).bind(detail)).await?;
    Ok(rows.into_iter().map(|(id, client_id, body)| SentContent { lead: LeadId { id, client_id }, body }).collect())
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}
