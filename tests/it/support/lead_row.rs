//! Leads in the state's tables: helpers that write one, and the whole row for comparison afterwards.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::engine::{Engine, Place};
use conversica_sync::config::{self, OnAmbiguous};
use conversica_sync::conversica::lead::{ContentFingerprint, LeadId};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::ClaimFilter;
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::{KnownLead, LeadChange};
use conversica_sync::rules::lead_claim::{FinishedAttempt, LeadClaim};
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::decision::DecisionMaker;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{due, lead};

/// Settings with this decision about unknown outcomes, and the usual values otherwise.
pub fn unknown_is(on_ambiguous: OnAmbiguous) -> config::DeliverySettings {
    config::DeliverySettings {
        requests_per_second: 1000.0,
        concurrency: 4,
        timeout: Duration::from_secs(30),
        on_ambiguous,
        ambiguous_wait: Duration::from_secs(3600),
        retry: config::RetrySettings {
            initial_interval: Duration::from_secs(1),
            multiplier: 2.0,
            max_interval: Duration::from_secs(900),
            max_elapsed: Duration::from_secs(86_400),
        },
        breaker: config::BreakerSettings { failures: 5 },
    }
}

pub fn resend() -> config::DeliverySettings {
    unknown_is(OnAmbiguous::Resend)
}

pub async fn next_due(db: &StateDb) -> Option<DateTime<Utc>> {
    due::next_due_at(db, &ClaimFilter::Everybody, at(0)).await.unwrap().at
}

pub const LEASE: Duration = Duration::from_secs(60);

/// That many seconds into the test.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant") + TimeDelta::seconds(seconds)
}

pub fn id(id: &str) -> LeadId {
    LeadId { id: id.to_owned(), client_id: String::new() }
}

/// The change that the poll writes for a lead whose newest content is `body`.
pub fn desired(id_: &str, body: &str) -> LeadChange {
    LeadChange {
        lead: id(id_),
        desired_hash: ContentFingerprint::of(body.as_bytes()),
        desired: Ok(body.to_owned()),
        hold_reason: None,
        urgent: false,
        suppressed: false,
        row_hash: None,
    }
}

pub fn held(id_: &str, body: &str) -> LeadChange {
    LeadChange { hold_reason: Some(HoldReason::TooManyChanges), ..desired(id_, body) }
}

pub fn urgent(id_: &str, body: &str) -> LeadChange {
    LeadChange { urgent: true, ..desired(id_, body) }
}

pub fn invalid(id_: &str, reason: &str) -> LeadChange {
    LeadChange { desired: Err(vec![reason.to_owned()]), ..desired(id_, reason) }
}

pub async fn write(db: &StateDb, changes: &[LeadChange], seconds: i64) {
    lead::upsert(db, changes, at(seconds), at(seconds)).await.expect("changes are written");
}

pub async fn claim(db: &StateDb, wanted: usize, seconds: i64) -> Vec<LeadClaim> {
    delivery::record_and_claim(db, &[], ClaimRequest::up_to(wanted), at(seconds), LEASE)
        .await
        .expect("leads are claimed")
}

/// Claims exactly one lead.
pub async fn claim_one(db: &StateDb, seconds: i64) -> LeadClaim {
    let mut claims = claim(db, 10, seconds).await;
    assert_eq!(claims.len(), 1, "{claims:?}");
    claims.remove(0)
}

pub fn finished(claim: &LeadClaim, class: OutcomeClass, next: NextStep, seconds: i64) -> FinishedAttempt {
    FinishedAttempt {
        lead: claim.lead.clone(),
        claimed_at: claim.claimed_at,
        attempt: claim.attempt,
        class,
        http_status: (class != OutcomeClass::Ambiguous).then_some(499),
        detail: Some(format!("said {}", class.name())),
        duration: Some(Duration::from_millis(12)),
        at: at(seconds),
        sent_hash: claim.sent_hash.clone(),
        next,
    }
}

pub async fn record(db: &StateDb, finished: &[FinishedAttempt]) {
    delivery::record_and_claim(db, finished, ClaimRequest::up_to(0), finished[0].at, LEASE)
        .await
        .expect("outcomes are recorded");
}

/// Writes a change, claims it, and records that Conversica accepted it.
pub async fn deliver(db: &StateDb, change: LeadChange, seconds: i64) {
    write(db, &[change], seconds).await;
    let claim = claim_one(db, seconds).await;
    record(db, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, seconds)]).await;
}

/// Checks the number of leads of these statuses, and that no other status has any.
pub async fn statuses(db: &StateDb, wanted: &[(LeadStatus, i64)]) {
    let counts = lead::counts(db).await.unwrap();
    assert_eq!(counts.len(), LeadStatus::ALL.len());
    for (status, count) in counts {
        let expected = wanted.iter().find(|(known, _)| *known == status).map_or(0, |(_, count)| *count);
        assert_eq!(count, expected, "{}", status.name());
    }
}

/// A row of the table `lead`, instants as seconds into the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadRow {
    pub status: String,
    pub desired: Option<String>,
    pub desired_hash: Vec<u8>,
    pub hold_reason: Option<String>,
    pub delivered: Option<String>,
    pub delivered_hash: Option<Vec<u8>>,
    pub contacted: bool,
    pub sent_hash: Option<Vec<u8>>,
    pub claimed_at: Option<i64>,
    pub attempts: i64,
    pub first_failed_at: Option<i64>,
    pub due_at: Option<i64>,
    pub last_outcome: Option<String>,
    pub gone_at: Option<i64>,
}

pub async fn row(db: &StateDb, id: &str) -> LeadRow {
    use sqlx::Row as _;
    let seconds = |micros: Option<i64>| micros.map(|micros| micros.div_euclid(1_000_000) - at(0).timestamp());
    on_state!(db, pool => {
        let row = sqlx::query(
            "select status, desired, desired_hash, hold_reason, \
             case when delivered is null and delivered_hash = desired_hash then desired else delivered end, delivered_hash, first_contact_at, sent_hash, \
             claimed_at, attempts, first_failed_at, due_at, last_outcome, gone_at from lead where id = $1")
            .bind(id).fetch_one(pool).await.expect("the lead is there");
        LeadRow {
            status: row.get(0),
            desired: row.get(1),
            desired_hash: row.get(2),
            hold_reason: row.get(3),
            delivered: row.get(4),
            delivered_hash: row.get(5),
            contacted: row.get::<Option<i64>, _>(6).is_some(),
            sent_hash: row.get(7),
            claimed_at: seconds(row.get(8)),
            attempts: row.get(9),
            first_failed_at: seconds(row.get(10)),
            due_at: seconds(row.get(11)),
            last_outcome: row.get(12),
            gone_at: seconds(row.get(13)),
        }
    })
}

/// Writes what the poll writes when unchanged rows of these leads return.
pub async fn returned(db: &StateDb, leads: &[LeadId], seconds: i64) {
    let known: Vec<KnownLead> = lead::known(db, leads).await.unwrap().into_values().collect();
    lead::mark_returned(db, &known, at(seconds)).await.unwrap();
}

/// Makes the state refuse further writes of this lead, so that a poll fails when it reaches it.
pub async fn refuse_lead(place: &Place, id: &str) {
    let sql = match place.engine {
        Engine::Sqlite => format!(
            "create trigger refused before insert on lead when new.id = '{id}' begin select raise(abort, 'refused'); end;
             create trigger refused_change before update on lead when new.id = '{id}'
             begin select raise(abort, 'refused'); end"
        ),
        Engine::Postgres => {
            format!("alter table conversica_sync.lead add constraint refused check (id <> '{id}') not valid")
        }
    };
    place.sql(&sql).await;
}

/// Undoes [`refuse_lead`].
pub async fn accept_leads(place: &Place) {
    let sql = place.engine.pick(
        "drop trigger refused; drop trigger refused_change",
        "alter table conversica_sync.lead drop constraint refused",
    );
    place.sql(sql).await;
}

/// Who decides in tests.
pub fn tester() -> DecisionMaker {
    DecisionMaker::new("tests")
}
