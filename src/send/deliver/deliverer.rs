//! The deliverer and the state it carries from step to step.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::fault::ConnectionFault;
use crate::client::{ConversicaClient, RequestAttempt};
use crate::config::ServiceSettings;
use crate::rules::admission::ClaimFilter;
use crate::rules::first_contact::FirstContactPolicy;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::operator_pause::PauseShown;
use crate::send::deliver::refusal_log::RefusalLog;
use crate::send::tally::RunTally;
use crate::send::throttle::DeliveryThrottle;
use crate::store::claimed_records::ClaimedRecords;
use crate::store::control::StoredHalt;
use crate::store::state_db::StateDb;

/// How long the deliverer leaves the queue alone when nothing was due; then it notices operator commands of other processes.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// Claims leads, posts them and records the answers.
pub struct LeadDeliverer {
    pub(crate) state: StateDb,
    pub(crate) client: ConversicaClient,
    pub(crate) settings: ServiceSettings,
    /// Fingerprint of the credentials in use.
    pub(crate) account: String,
    /// Whether these credentials have ever had a 2xx; until then, the deliverer sends one request at a time.
    pub(crate) verified: bool,
    pub(crate) halt: Option<StoredHalt>,
    /// What operators have paused, as far as it was read; the claim asks for itself.
    pub(crate) operator_pause: Option<PauseShown>,
    /// A halt, a first 2xx or a pause that is not on the disk yet.
    pub(crate) unwritten: Vec<UnwrittenFact>,
    /// `None` where the claim was too old when its request was about to be written.
    pub(crate) requests: JoinSet<(LeadClaim, Option<RequestAttempt>)>,
    pub(crate) finished: Vec<FinishedAttempt>,
    pub(crate) claimed: ClaimedRecords,
    pub(crate) throttle: DeliveryThrottle,
    /// Limits claims by caps and by the Test Lead Token.
    pub(crate) admit: ClaimFilter,
    /// Which first contacts are held instead of claimed.
    pub(crate) first_contacts: FirstContactPolicy,
    /// Fingerprint of the mapping in use.
    pub(crate) mapping: String,
    pub(crate) remapping: bool,
    /// When the deliverer next reads halt and mapping, which other processes change.
    pub(crate) look_at: DateTime<Utc>,
    /// Conversica answers again: retry withdrawals of consent at once.
    pub(crate) hurry: bool,
    pub(crate) capped_until: Option<DateTime<Utc>>,
    /// Nothing was due at the last check; check again at this time.
    pub(crate) idle_until: Option<DateTime<Utc>>,
    pub(crate) tally: Arc<RunTally>,
    pub(crate) wake: Arc<Notify>,
    /// Failed connections that the log has since Conversica answered last.
    pub(crate) reported: Vec<ConnectionFault>,
    pub(crate) refusals: RefusalLog,
}

#[derive(Debug)]
pub(crate) enum UnwrittenFact {
    Halt(StoredHalt),
    Verified,
    /// Conversica asked for a pause until this time.
    Pause(DateTime<Utc>),
}
