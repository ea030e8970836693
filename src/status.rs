//! The status document, from the state alone. `status` prints it and scripts read it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::console::{SCHEMA_VERSION, printable};
use crate::conversica::excerpt::quotes_a_person;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::admission::BudgetUse;
use crate::rules::guard::StandingHold;
use crate::rules::lead_status::LeadStatus;
use crate::rules::listed_instance::ListedInstance;
use crate::rules::operator_pause::PauseShown;
use crate::rules::poll_record::LastPoll;
use crate::store::alert::{self, AlertBacklog};
use crate::store::backup::RestoredState;
use crate::store::control::{self, StoredHalt, StoredPace};
use crate::store::conversation_progress::{self, ConversationShown};
use crate::store::free_disk::DiskShortage;
use crate::store::heard::reading;
use crate::store::held::HeldSelection;
use crate::store::postgres::POSTGRES_SCHEMA;
use crate::store::state_db::StateDb;
use crate::store::unclear_opt_out::{self, UnclearOptOuts};
use crate::store::{budget, due, held, instance, lead, operator_pause, outcome, story};
use crate::wording;

/// Names that a status document lists. The mapping may use a column with a name of its own for each lead.
const MOST_CONVERSATIONS: i64 = 100;

#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    pub schema_version: u32,
    pub version: &'static str,
    pub halt: Option<HaltShown>,
    pub hold: Option<HoldShown>,
    /// Held leads by the reasons of their holds; `hold` names the most important one.
    pub hold_reasons: BTreeMap<String, i64>,
    /// When the state was restored from a backup; absent once a poll has compared everything after that.
    pub restored_at: Option<DateTime<Utc>>,
    /// What operators have paused.
    pub pause: Option<PauseShown>,
    /// The processes that may send from the state at present.
    pub instances: Vec<ListedInstance>,
    /// Whether several instances may share the state.
    #[serde(skip)]
    pub may_be_shared: bool,
    /// Status → number of leads; all statuses are present.
    pub leads: BTreeMap<&'static str, i64>,
    /// Leads that Conversica has and whose opt-out value is neither yes nor no.
    pub opt_out_values: UnclearOptOuts,
    /// Class → number of outcomes in the journal; all five are present.
    pub outcomes: BTreeMap<&'static str, i64>,
    pub received: ReceivedCounts,
    pub last_poll: Option<LastPoll>,
    /// Absent until something has been delivered.
    pub pacing: Option<StoredPace>,
    /// `[safety] new_leads_per_month`, and how much of it is used; absent without one.
    pub new_leads_budget: Option<BudgetUse>,
    /// The conversations with the most people, and whether Conversica works them; at most 100.
    pub conversations: Vec<ConversationShown>,
    /// Conversations that may not be active at Conversica: people were contacted hours ago, and no sign of life has come.
    pub silent_conversations: Vec<ConversationShown>,
    /// Since when the longest-waiting lead has waited to be sent: due, or failed and retried.
    pub oldest_waiting_since: Option<DateTime<Utc>>,
    /// Alerts that have not been delivered yet.
    pub alerts: AlertBacklog,
    /// The size of the state on its disk.
    pub state_bytes: Option<i64>,
    /// The disk of an SQLite state has less free room than `[receive] free_disk`: posts are refused.
    pub disk_short: Option<DiskShortage>,
    /// A running process has lost the state's file.
    pub state_lost: Option<StateLostShown>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateLostShown {
    pub detail: String,
    pub cure: &'static str,
    #[serde(skip)]
    pub numbers: LostNumbers,
}

/// The origin of a report's numbers while a running process has lost the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostNumbers {
    OfNewFile,
    /// There are no numbers.
    NoFile,
    /// The present file cannot be read, or not without harm to it.
    Unread,
}

impl LostNumbers {
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::OfNewFile => "The numbers below are those of the file that is there now.",
            Self::NoFile => "There is no file now, so there are no numbers.",
            Self::Unread => "The file that is there now is not read, so there are no numbers.",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct HaltShown {
    pub reason: &'static str,
    pub since: DateTime<Utc>,
    /// Conversica's answer, unless it may quote a person: status documents are passed around.
    pub detail: Option<String>,
    pub cure: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct HoldShown {
    pub reason: String,
    pub since: DateTime<Utc>,
    /// Leads that wait for approval.
    pub leads: i64,
    /// Leads among them that were never sent from here and that an approval would contact.
    pub new_people: i64,
    /// New people among them that a baseline assumes Conversica knows.
    pub assumed_known: i64,
}

/// Conversica's posts, each content once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReceivedCounts {
    pub lead_updates: i64,
    pub messages: i64,
    pub chat_leads: i64,
    /// Unreadable posts that the operator has not fixed yet.
    pub unreadable: i64,
    /// Damaged posts that may withdraw a person's consent; until the operator has checked, they do.
    pub possible_opt_outs: i64,
    pub waiting_writeback: i64,
    /// Events among them that were given up until the operator has fixed the cause.
    pub stopped_writeback: i64,
    /// Repeated arrivals of the same content.
    pub repeats: i64,
    /// Posts about leads that the state does not have.
    pub unknown_leads: i64,
    /// Posts with a status outside the published vocabulary.
    pub outside_vocabulary: i64,
}

impl ReceivedCounts {
    async fn of(state: &StateDb) -> Result<Self, sqlx::Error> {
        let numbers = reading::numbers(state).await?;
        Ok(Self {
            lead_updates: numbers.count("lead_update"),
            messages: numbers.count("message"),
            chat_leads: numbers.count("chat_lead"),
            unreadable: numbers.unreadable,
            possible_opt_outs: numbers.possible_opt_outs,
            waiting_writeback: numbers.writeback,
            stopped_writeback: numbers.stopped,
            repeats: numbers.count("repeat"),
            unknown_leads: numbers.count("unknown_lead"),
            outside_vocabulary: numbers.count("outside_vocabulary"),
        })
    }

    /// Nothing has arrived, and nothing waits.
    pub fn is_nothing(&self) -> bool {
        self.lead_updates
            + self.messages
            + self.chat_leads
            + self.unreadable
            + self.possible_opt_outs
            + self.waiting_writeback
            == 0
    }
}

/// Conditions that may stop work, without the slow counts: for probes, which come often and wait briefly.
#[derive(Debug, Clone)]
pub struct ServiceStanding {
    pub halt: Option<HaltShown>,
    pub hold: Option<HoldShown>,
    pub poll_failed: bool,
}

impl ServiceStanding {
    /// Reads the state.
    pub async fn of(state: &StateDb) -> Result<Self, sqlx::Error> {
        Ok(Self {
            halt: control::read::<StoredHalt>(state).await?.map(HaltShown::from),
            hold: hold(state, held::count(state).await?).await?,
            poll_failed: control::read::<LastPoll>(state).await?.is_some_and(|poll| poll.error.is_some()),
        })
    }
}

impl From<&StatusReport> for ServiceStanding {
    fn from(report: &StatusReport) -> Self {
        let poll_failed = report.last_poll.as_ref().is_some_and(|poll| poll.error.is_some());
        Self { halt: report.halt.clone(), hold: report.hold.clone(), poll_failed }
    }
}

impl HoldShown {
    /// How many people an approval would contact for the first time.
    pub fn first_contacts(&self) -> String {
        wording::first_contacts(self.new_people, self.assumed_known, "would be")
    }
}

impl From<StoredHalt> for HaltShown {
    fn from(halt: StoredHalt) -> Self {
        Self { reason: halt.reason.name(), since: halt.since, detail: None, cure: halt.reason.cure() }
    }
}

/// How urgently the operator is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorNeed {
    Nothing,
    /// Leads are rejected, invalid or exhausted, or rows have no key that names a lead.
    Attention,
    /// Halted, held or paused, or a damaged post or a value in the CRM may be an opt-out.
    Decision,
}

impl StatusReport {
    /// Reads the state.
    pub async fn of(state: &StateDb, now: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let counts = lead::counts(state).await?;
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            halt: halt(state).await?,
            hold: hold(state, held::count(state).await?).await?,
            hold_reasons: held::look(state, &HeldSelection::default()).await?.reasons,
            restored_at: control::read::<RestoredState>(state).await?.map(|restored| restored.at),
            pause: operator_pause::read(state, now).await?,
            instances: instance::list(state, now).await?,
            may_be_shared: matches!(state, StateDb::Postgres(_)),
            leads: counts.into_iter().map(|(status, count)| (status.name(), count)).collect(),
            opt_out_values: unclear_opt_out::count(state).await?,
            outcomes: outcome::counts(state).await?.into_iter().map(|(class, count)| (class.name(), count)).collect(),
            received: ReceivedCounts::of(state).await?,
            last_poll: control::read::<LastPoll>(state).await?,
            pacing: control::read::<StoredPace>(state).await?,
            new_leads_budget: budget::read(state, now).await?,
            conversations: conversation_progress::list_largest(state, MOST_CONVERSATIONS).await?,
            silent_conversations: conversation_progress::list_silent(state, MOST_CONVERSATIONS, now).await?,
            oldest_waiting_since: due::longest_wait(state, now).await?.of_all(),
            alerts: alert::backlog(state).await?,
            state_bytes: Some(bytes(state).await?),
            disk_short: None,
            state_lost: None,
        })
    }

    /// Before the first run there is no state, and all counts are zero.
    pub fn before_the_first_run() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            halt: None,
            hold: None,
            hold_reasons: BTreeMap::new(),
            restored_at: None,
            pause: None,
            instances: Vec::new(),
            may_be_shared: false,
            leads: LeadStatus::ALL.into_iter().map(|status| (status.name(), 0)).collect(),
            opt_out_values: UnclearOptOuts::default(),
            outcomes: OutcomeClass::ALL.into_iter().map(|class| (class.name(), 0)).collect(),
            received: ReceivedCounts::default(),
            last_poll: None,
            pacing: None,
            new_leads_budget: None,
            conversations: Vec::new(),
            silent_conversations: Vec::new(),
            oldest_waiting_since: None,
            alerts: AlertBacklog::default(),
            state_bytes: None,
            disk_short: None,
            state_lost: None,
        }
    }

    /// The instances, where there may be others besides the one that is looked at.
    pub fn instances_to_show(&self) -> &[ListedInstance] {
        if self.may_be_shared || self.instances.len() > 1 { &self.instances } else { &[] }
    }

    pub fn leads(&self, status: LeadStatus) -> i64 {
        self.leads.get(status.name()).copied().unwrap_or(0)
    }

    /// Rows whose key names no lead.
    pub fn unnamed(&self) -> u64 {
        self.last_poll.as_ref().map_or(0, |poll| poll.unnamed)
    }

    /// Replaces a count by a newer one, and adjusts the hold.
    pub fn set_leads(&mut self, status: LeadStatus, leads: i64) {
        self.leads.insert(status.name(), leads);
        if status == LeadStatus::Held {
            self.hold = self.hold.take().filter(|_| leads > 0);
            if let Some(hold) = &mut self.hold {
                hold.leads = leads;
                hold.new_people = hold.new_people.min(leads);
                hold.assumed_known = hold.assumed_known.min(hold.new_people);
            }
        }
    }

    pub fn need(&self) -> OperatorNeed {
        if self.pause.is_some() { OperatorNeed::Decision } else { self.need_besides_pause() }
    }

    /// The same, as if nothing were paused.
    pub fn need_besides_pause(&self) -> OperatorNeed {
        let attention = [LeadStatus::Rejected, LeadStatus::Invalid, LeadStatus::Exhausted];
        let may_be_opt_out = self.received.possible_opt_outs > 0 || self.opt_out_values.unclear > 0;
        if self.halt.is_some()
            || self.hold.is_some()
            || self.state_lost.is_some()
            || self.disk_short.is_some()
            || may_be_opt_out
        {
            OperatorNeed::Decision
        } else if attention.into_iter().any(|status| self.leads(status) > 0) || self.unnamed() > 0 {
            OperatorNeed::Attention
        } else {
            OperatorNeed::Nothing
        }
    }
}

/// Each engine reports its size in its own way.
async fn bytes(state: &StateDb) -> Result<i64, sqlx::Error> {
    match state {
        StateDb::Sqlite(pool) => {
            let sql = "select page_count * page_size from pragma_page_count, pragma_page_size";
            sqlx::query_scalar(sql).fetch_one(pool).await
        }
        StateDb::Postgres(pool) => {
            let sql = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c \
                       join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind in ('r', 'p')";
            sqlx::query_scalar(sql).bind(POSTGRES_SCHEMA).fetch_one(pool).await
        }
    }
}

async fn halt(state: &StateDb) -> Result<Option<HaltShown>, sqlx::Error> {
    let Some(halt) = control::read::<StoredHalt>(state).await? else { return Ok(None) };
    let detail = match halt.detail {
        Some(said) => Some(presentable(state, said).await?),
        None => None,
    };
    Ok(Some(HaltShown { reason: halt.reason.name(), since: halt.since, detail, cure: halt.reason.cure() }))
}

/// The answer itself if it certainly quotes no person, and otherwise the place to read it.
async fn presentable(state: &StateDb, said: String) -> Result<String, sqlx::Error> {
    let sent = story::answered_with(state, OutcomeClass::Halting, &said).await?;
    let quotes = |sent: &story::SentContent| sent.body.as_ref().is_none_or(|body| quotes_a_person(&said, body));
    Ok(match sent.iter().find(|sent| quotes(sent)) {
        Some(sent) => {
            format!("(an answer that may quote the lead: `conversica-sync lead {}` shows it)", printable(&sent.lead.id))
        }
        None if sent.is_empty() => "(an answer that may quote the lead: it is in the state's journal)".to_owned(),
        None => said,
    })
}

/// The hold: all leads that wait for approval, with the reason of the hold in force, or of the first waiting lead.
async fn hold(state: &StateDb, leads: i64) -> Result<Option<HoldShown>, sqlx::Error> {
    if leads == 0 {
        return Ok(None);
    }
    let (new_people, assumed_known) = held::first_contacts(state).await?;
    if let Some(StandingHold { reason, since }) = held::standing(state).await? {
        return Ok(Some(HoldShown { reason: reason.name().to_owned(), since, leads, new_people, assumed_known }));
    }
    let first = held::longest_held(state).await?;
    Ok(first.map(|(reason, since)| HoldShown { reason, since, leads, new_people, assumed_known }))
}
