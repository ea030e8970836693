//! The deliverer: what it knows between two steps.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::{ConversicaClient, RequestAttempt};
use crate::config::ServiceSettings;
use crate::rules::admission::ClaimFilter;
use crate::send::tally::RunTally;
use crate::send::throttle::DeliveryThrottle;
use crate::store::claim::{FinishedAttempt, LeadClaim};
use crate::store::control::StoredHalt;
use crate::store::state_db::StateDb;

/// How long the queue is left alone when nothing in it was due: operator commands in other processes are noticed then.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// Claims leads, posts them and records the answers.
pub struct LeadDeliverer {
    pub(crate) state: StateDb,
    pub(crate) client: ConversicaClient,
    pub(crate) settings: ServiceSettings,
    /// Fingerprint of the credentials in use.
    pub(crate) account: String,
    /// Whether these credentials have ever had a 2xx; until then, one request at a time.
    pub(crate) verified: bool,
    pub(crate) halt: Option<StoredHalt>,
    /// A halt, a first 2xx or a pause that is not on the disk yet.
    pub(crate) unwritten: Vec<UnwrittenFact>,
    /// `None` where the claim was too old when its request was to be written.
    pub(crate) requests: JoinSet<(LeadClaim, Option<RequestAttempt>)>,
    pub(crate) finished: Vec<FinishedAttempt>,
    pub(crate) throttle: DeliveryThrottle,
    /// Who may be claimed, by caps and Test Lead Token.
    pub(crate) admit: ClaimFilter,
    /// What is in the queue was made by another mapping, until a poll has been through.
    pub(crate) mapping: String,
    pub(crate) remapping: bool,
    /// Halt and mapping are looked at again then: other processes change them.
    pub(crate) look_at: DateTime<Utc>,
    /// Conversica answers again: withdrawals of consent are to be tried at once.
    pub(crate) hurry: bool,
    pub(crate) capped_until: Option<DateTime<Utc>>,
    /// Nothing was due when last looked; look again then.
    pub(crate) idle_until: Option<DateTime<Utc>>,
    pub(crate) tally: Arc<RunTally>,
    pub(crate) wake: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) enum UnwrittenFact {
    Halt(StoredHalt),
    Verified,
    /// Conversica asked for silence until then.
    Pause(DateTime<Utc>),
}
