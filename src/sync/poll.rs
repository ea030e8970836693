//! One poll: reads the source in one snapshot, merges it with what the state knows, and writes down what differs.
//!
//! Nothing is sent here.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::{ConversationChanges, FirstRun, Settings};
use crate::conversica::lead::{LeadId, RowHash};
use crate::crm::Crm;
use crate::crm::cursor::{self, Newest};
use crate::crm::mapping::Mapped;
use crate::crm::read::{BATCH_ROWS, Scope};
use crate::db::Db;
use crate::db::discreet::in_words;
use crate::state::compare;
use crate::state::control::{self, Cursor, FirstRunDone, Hold, LastPoll, MappingInUse};
use crate::state::held::{self, Release, Selection};
use crate::state::lead::{self, Change, Known};
use crate::sync::allowance::Allowance;
use crate::sync::diff::{self, Difference, Kind};
use crate::sync::drain;
use crate::sync::guard::{self, Admission, History};
use crate::sync::merge::{Interest, Item, Merge};
use crate::sync::tally::Tally;

/// What a poll found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Polled {
    pub rows: u64,
    /// Leads written: new, changed, faulty, gone, returned.
    pub changed: u64,
    pub created: u64,
    pub updated: u64,
    pub invalid: u64,
    pub gone: u64,
    /// Changes that wait for a person.
    pub held: u64,
    /// Sends that went under `approve_above` unasked.
    #[serde(skip)]
    pub unasked: u64,
}

impl Polled {
    pub(super) fn add(&mut self, more: Polled) {
        let Polled { rows, changed, created, updated, invalid, gone, held, unasked } = more;
        self.rows += rows;
        self.changed += changed;
        self.created += created;
        self.updated += updated;
        self.invalid += invalid;
        self.gone += gone;
        self.held += held;
        self.unasked += unasked;
    }
}

/// How much a poll reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What has changed since the cursor, or everything when a full compare is due.
    AsDue,
    Everything,
}

/// Reads, writes down what differs, and remembers how it went.
///
/// # Errors
/// [`crate::error::SetupError`] when the source does not fit the settings; the database's error when one is away. What was
/// written until then stands, and is right.
pub async fn poll(
    crm: &Crm,
    state: &Db,
    settings: &Settings,
    reach: Reach,
    tally: &Tally,
    now: DateTime<Utc>,
) -> anyhow::Result<Polled> {
    let started = Instant::now();
    let mut kind = "full";
    let result = match &crm.log {
        Some(log) => drain::drain(crm, log, state, settings, reach, tally, &mut kind, now).await,
        None => {
            read_and_write(crm, state, settings, reach, None, tally, &mut kind, now).await.map(|(polled, _)| polled)
        }
    };
    let polled = result.as_ref().ok().cloned().unwrap_or_default();
    let last = LastPoll {
        at: now,
        kind: kind.to_owned(),
        rows: polled.rows,
        changed: polled.changed,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        error: result.as_ref().err().map(in_words),
    };
    control::write(state, &last, now).await?;
    result
}

/// What a step of a poll has compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Covered {
    Everything,
    /// The rows of the leads that were touched.
    Touched,
    /// Some rows, and not by name.
    Part,
}

/// With `touched`, what is due is the rows of these leads.
#[expect(clippy::too_many_arguments, reason = "what a poll is made of; each is used once")]
pub(super) async fn read_and_write(
    crm: &Crm,
    state: &Db,
    settings: &Settings,
    reach: Reach,
    touched: Option<Vec<LeadId>>,
    tally: &Tally,
    kind: &mut &'static str,
    now: DateTime<Utc>,
) -> anyhow::Result<(Polled, Covered)> {
    let memory = Memory::read(crm, state, now).await?;
    let scope = if reach == Reach::Everything { Scope::All } else { memory.scope(settings, touched, now) };
    if scope != Scope::All {
        *kind = "incremental";
    }
    if scope == Scope::Keys(Vec::new()) {
        return Ok((Polled::default(), Covered::Touched));
    }
    let covered = match scope {
        Scope::All => Covered::Everything,
        Scope::Keys(_) => Covered::Touched,
        Scope::From(..) | Scope::Since(_) => Covered::Part,
    };
    let fitting = crm.fitting().await?;
    let allowance = Allowance::read(crm, state, settings, now).await?;
    let admission = guard::admission(&settings.safety, memory.history, memory.standing.as_ref());
    let admission = allowance.narrow(admission);
    let decided = match admission {
        Admission::Send if !memory.history.first_run_done => Some(FirstRun::Send),
        Admission::Baseline => Some(FirstRun::Baseline),
        Admission::Send | Admission::Hold(_) | Admission::UpTo { .. } => None,
    };
    let everything = scope == Scope::All;
    memory.begin(state, now).await?;
    let conversations = settings.safety.conversation_changes;
    let mut writes = Writes::new(state, admission, conversations, now);
    let mut merge = Merge::start(crm, state, &fitting, scope, Interest::Differences);
    while let Some(item) = merge.next().await? {
        match item {
            Item::Missing(known) => writes.missing(known).await?,
            Item::Row(mapped, known) if diff::needs_delivered(&mapped, known.as_ref(), conversations) => {
                writes.doubtful(mapped, known).await?;
            }
            Item::Row(mapped, known) => {
                let difference = diff::compare(mapped, known.as_ref(), None, conversations);
                writes.different(difference, known).await?;
            }
        }
        tally.set_rows(merge.rows());
    }
    writes.polled.rows = merge.rows();
    let polled = writes.finish().await?;
    if polled.changed > 0 {
        tally.announce();
    }
    allowance.spend(state, polled.unasked, now).await?;
    decide_first_run(state, memory.history, decided, now).await?;
    memory.renew(state, merge.newest().cloned(), everything, now).await?;
    Ok((polled, covered))
}

/// The hold that stands. When nothing is held any more (the CRM took the changes back, say), it is over. What an earlier
/// poll held until it knew how much there is, and did not live to know, is such a hold too.
async fn standing_hold(state: &Db, now: DateTime<Utc>) -> anyhow::Result<Option<Hold>> {
    let hold = control::read::<Hold>(state).await?;
    if hold.is_none() {
        for reason in [held::TOO_MANY_CHANGES, held::MAPPING_CHANGED] {
            if held::any(state, Some(reason)).await? {
                let hold = Hold { reason: reason.to_owned(), since: now };
                control::write(state, &hold, now).await?;
                return Ok(Some(hold));
            }
        }
    }
    if let Some(standing) = &hold
        && !held::any(state, Some(&standing.reason)).await?
    {
        control::clear::<Hold>(state).await?;
        return Ok(None);
    }
    Ok(hold)
}

/// A first run that is held is decided upon by `approve` or `baseline`, or by the setting once it is made, which then goes
/// for what an earlier pass has held as well; not by having been read.
async fn decide_first_run(
    state: &Db,
    history: History,
    decided: Option<FirstRun>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let by = match decided {
        Some(FirstRun::Send) => {
            held::release_all(state, &Selection::reason(held::FIRST_RUN), Release::Send, now).await?;
            "send"
        }
        Some(FirstRun::Baseline) => {
            held::release_all(state, &Selection::reason(held::FIRST_RUN), Release::Baseline, now).await?;
            "baseline"
        }
        // There was nothing to decide upon.
        None if !history.first_run_done && control::read::<Hold>(state).await?.is_none() => "send",
        None => return Ok(()),
    };
    control::clear::<Hold>(state).await?;
    Ok(control::write(state, &FirstRunDone { by: by.to_owned() }, now).await?)
}

/// What earlier polls left for this one to know.
struct Memory {
    history: History,
    standing: Option<Hold>,
    cursor: Option<Cursor>,
    mapping: MappingInUse,
    source: String,
}

impl Memory {
    async fn read(crm: &Crm, state: &Db, now: DateTime<Utc>) -> anyhow::Result<Self> {
        let mapping = MappingInUse { fingerprint: crm.mapping.fingerprint().to_string() };
        let source = crm.fingerprint().to_string();
        Ok(Self {
            history: History {
                first_run_done: control::read::<FirstRunDone>(state).await?.is_some(),
                mapping_changed: control::read::<MappingInUse>(state).await?.is_some_and(|in_use| in_use != mapping),
            },
            standing: standing_hold(state, now).await?,
            cursor: control::read::<Cursor>(state).await?.filter(|cursor| cursor.source == source),
            mapping,
            source,
        })
    }

    /// Before the first lead is written: what this poll begins, and a crash may leave half done, belongs to this mapping where
    /// it is the first, and else to none. So no later start takes the queue for its own, whichever mapping it has.
    async fn begin(&self, state: &Db, now: DateTime<Utc>) -> anyhow::Result<()> {
        if self.history.mapping_changed {
            control::write(state, &MappingInUse { fingerprint: String::new() }, now).await?;
        } else if control::read::<MappingInUse>(state).await?.is_none() {
            control::write(state, &self.mapping, now).await?;
        }
        Ok(())
    }

    /// Everything, unless a cursor says where to go on and everything was read not long ago. Another mapping makes other
    /// leads of rows that have not changed.
    fn scope(&self, settings: &Settings, touched: Option<Vec<LeadId>>, now: DateTime<Utc>) -> Scope {
        let source = &settings.source;
        let Some(cursor) = self.cursor.as_ref().filter(|_| !self.history.mapping_changed) else { return Scope::All };
        let age = (now - cursor.full_at).to_std().unwrap_or(Duration::MAX);
        if age >= source.full_compare_interval {
            return Scope::All;
        }
        if let Some(touched) = touched {
            return Scope::Keys(touched);
        }
        let newest = cursor.newest.as_ref();
        newest
            .and_then(|newest| cursor::bound(newest, source.lookback, source.time_zone, now))
            .map_or(Scope::All, Scope::Since)
    }

    /// What is only true once a whole poll has gone through.
    async fn renew(
        self,
        state: &Db,
        newest: Option<Newest>,
        everything: bool,
        now: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        let before = self.cursor;
        let cursor = Cursor {
            full_at: before.as_ref().filter(|_| !everything).map_or(now, |cursor| cursor.full_at),
            // Nothing newer than the bound: the newest row was deleted, and the cursor stays where it was.
            newest: newest.or_else(|| before.as_ref().and_then(|cursor| cursor.newest.clone())),
            source: self.source,
        };
        if before.as_ref() != Some(&cursor) {
            control::write(state, &cursor, now).await?;
        }
        if control::read::<MappingInUse>(state).await?.as_ref() != Some(&self.mapping) {
            control::write(state, &self.mapping, now).await?;
        }
        Ok(())
    }
}

/// How many sends are kept in memory until it is known whether they may leave.
const UNDECIDED: usize = 10_000;

/// Gathers what differs and writes it in batches; keeps sends back until it is known whether they may leave.
struct Writes<'a> {
    state: &'a Db,
    now: DateTime<Utc>,
    started: Instant,
    admission: Admission,
    conversations: ConversationChanges,
    ready: Vec<Change>,
    /// Rows of which it matters what was delivered.
    doubtful: Vec<(Mapped, Option<Known>)>,
    /// Sends that wait for the decision; never more than [`UNDECIDED`].
    undecided: Vec<Change>,
    /// So many more are held in the state meanwhile, since then: they are let go if it turns out that they may leave.
    provisional: Option<(usize, DateTime<Utc>)>,
    /// The hold of this poll, or one that stood before, is on the disk.
    hold_stands: bool,
    gone: Vec<LeadId>,
    returned: Vec<LeadId>,
    reread: Vec<(LeadId, RowHash)>,
    polled: Polled,
}

impl<'a> Writes<'a> {
    fn new(state: &'a Db, admission: Admission, conversations: ConversationChanges, now: DateTime<Utc>) -> Self {
        Self {
            state,
            now,
            started: Instant::now(),
            admission,
            conversations,
            ready: Vec::new(),
            doubtful: Vec::new(),
            undecided: Vec::new(),
            provisional: None,
            hold_stands: false,
            gone: Vec::new(),
            returned: Vec::new(),
            reread: Vec::new(),
            polled: Polled::default(),
        }
    }

    /// This very moment.
    fn written_at(&self) -> DateTime<Utc> {
        self.now + self.started.elapsed()
    }

    async fn doubtful(&mut self, mapped: Mapped, known: Option<Known>) -> anyhow::Result<()> {
        self.doubtful.push((mapped, known));
        if self.doubtful.len() >= BATCH_ROWS { self.settle_doubtful().await } else { Ok(()) }
    }

    async fn settle_doubtful(&mut self) -> anyhow::Result<()> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let leads: Vec<LeadId> = doubtful.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
        let delivered = lead::delivered(self.state, &leads).await?;
        for (mapped, known) in doubtful {
            let delivered = delivered.get(&mapped.lead).map(String::as_str);
            let difference = diff::compare(mapped, known.as_ref(), delivered, self.conversations);
            self.different(difference, known).await?;
        }
        Ok(())
    }

    async fn different(&mut self, difference: Difference, known: Option<Known>) -> anyhow::Result<()> {
        match difference {
            Difference::None => Ok(()),
            Difference::Reread(lead, hash) => self.reread(lead, hash).await,
            Difference::Returned => self.returned(known).await,
            Difference::Changed(change, kind) => self.changed(change, kind).await,
        }
    }

    async fn changed(&mut self, mut change: Change, kind: Kind) -> anyhow::Result<()> {
        self.polled.changed += 1;
        match kind {
            Kind::Create => self.polled.created += 1,
            Kind::Update | Kind::Stop => self.polled.updated += 1,
            Kind::Invalid => self.polled.invalid += 1,
            Kind::Reverted => {}
        }
        if change.hold_reason.is_some() {
            self.polled.held += 1;
        }
        if !kind.sends() || change.urgent || change.hold_reason.is_some() {
            return self.write(change).await;
        }
        match &self.admission {
            Admission::Send => self.write(change).await,
            Admission::Hold(reason) => {
                change.hold_reason = Some(reason);
                self.hold(change).await
            }
            Admission::Baseline => {
                change.hold_reason = Some(held::FIRST_RUN);
                self.write(change).await
            }
            Admission::UpTo { limit, reason } => {
                let (limit, reason) = (*limit, *reason);
                self.undecided.push(change);
                let provisional = self.provisional.map_or(0, |(leads, _)| leads);
                if provisional + self.undecided.len() > limit {
                    self.admission = Admission::Hold(reason);
                    self.polled.held += provisional as u64;
                    return self.hold_undecided(reason).await;
                }
                if self.undecided.len() >= UNDECIDED {
                    let since = self.provisional.map_or_else(|| self.written_at(), |(_, since)| since);
                    self.provisional = Some((provisional + self.undecided.len(), since));
                    for mut change in std::mem::take(&mut self.undecided) {
                        change.hold_reason = Some(reason);
                        self.write(change).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn hold_undecided(&mut self, reason: &'static str) -> anyhow::Result<()> {
        for mut change in std::mem::take(&mut self.undecided) {
            change.hold_reason = Some(reason);
            self.hold(change).await?;
        }
        Ok(())
    }

    /// The hold is written before the first lead that it holds.
    async fn hold(&mut self, change: Change) -> anyhow::Result<()> {
        if !self.hold_stands && control::read::<Hold>(self.state).await?.is_none() {
            let reason = change.hold_reason.unwrap_or(held::TOO_MANY_CHANGES).to_owned();
            control::write(self.state, &Hold { reason, since: self.now }, self.now).await?;
        }
        self.hold_stands = true;
        self.polled.held += 1;
        self.write(change).await
    }

    async fn write(&mut self, change: Change) -> anyhow::Result<()> {
        self.ready.push(change);
        if self.ready.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn missing(&mut self, known: Known) -> anyhow::Result<()> {
        if known.gone {
            return Ok(());
        }
        self.polled.changed += 1;
        self.polled.gone += 1;
        self.gone.push(known.lead);
        if self.gone.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn returned(&mut self, known: Option<Known>) -> anyhow::Result<()> {
        self.polled.changed += 1;
        self.returned.extend(known.map(|known| known.lead));
        if self.returned.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn reread(&mut self, lead: LeadId, hash: RowHash) -> anyhow::Result<()> {
        self.reread.push((lead, hash));
        if self.reread.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        lead::upsert(self.state, &self.ready, self.now, self.written_at()).await?;
        self.ready.clear();
        lead::mark_gone(self.state, &self.gone, self.now).await?;
        self.gone.clear();
        lead::mark_returned(self.state, &self.returned, self.now).await?;
        self.returned.clear();
        compare::remember(self.state, &self.reread).await?;
        self.reread.clear();
        Ok(())
    }

    async fn finish(mut self) -> anyhow::Result<Polled> {
        self.settle_doubtful().await?;
        if matches!(self.admission, Admission::UpTo { .. }) {
            let provisional = self.provisional.map_or(0, |(leads, _)| leads);
            self.polled.unasked = (provisional + self.undecided.len()) as u64;
        }
        for change in std::mem::take(&mut self.undecided) {
            self.write(change).await?;
        }
        self.flush().await?;
        if let (Admission::UpTo { reason, .. }, Some((_, since))) = (&self.admission, self.provisional) {
            held::release_since(self.state, reason, since, self.now).await?;
        }
        Ok(self.polled)
    }
}
