//! Reads the rows that one poll covers, compares them with the state, and writes what has changed.

use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;

use crate::config::{FirstRun, ServiceSettings, SourceSettings};
use crate::db::discreet::is_crm_outage;
use crate::rules::cursor::{NewestStamp, PollCursor};
use crate::rules::guard::{self, MissingLeadPolicy, PollHistory, SendPolicy, StandingHold};
use crate::rules::hold_reason::HoldReason;
use crate::rules::mapping_in_use::MappingInUse;
use crate::rules::odd_opt_out::{MappingChange, OptOutColumns};
use crate::rules::quiet_source::StampPolicy;
use crate::rules::read_scope::ReadScope;
use crate::rules::settled::SettledMoment;
use crate::rules::window::{self, PollSight};
use crate::send::again;
use crate::send::allowance::UnaskedAllowance;
use crate::send::fence::{self, PollerFence};
use crate::send::left_filter;
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeRequest, RowMerge};
use crate::send::odd_values::OddValues;
use crate::send::poll_context::PollContext;
use crate::send::polled::PollOutcome;
use crate::send::reach::{PollCoverage, PollReach, ReadExtent};
use crate::send::resume::{self, CompareProgress, MarkBasis};
use crate::send::step::{self, LogBehind, TouchedRows};
use crate::send::suppressed::review_suppressed;
use crate::send::suppression_query::take_over_answer;
use crate::send::writes::PollWriter;
use crate::source::crm::{ConnectedCrm, FittingSource};
use crate::store::backup::RestoredState;
use crate::store::control::{self, CompareAsked, CompareMark, ControlFacts, FirstRunDone, UnaskedLosses};
use crate::store::held::{self, HeldSelection, ReleaseKind, StagedCount};
use crate::store::state_db::StateDb;
use crate::store::{ahead, consent};

/// Reads the rows that this poll covers in one snapshot, compares them with the state, and writes the differences: steps 2 to 5 of
/// ARCHITECTURE.md. A poll with triggers passes the leads that the change log names as `touched`; then only their rows are due.
/// `extent` tells the caller what was read, also if this fails.
pub(crate) async fn read_and_write(
    context: PollContext<'_>,
    reach: PollReach,
    touched: Option<TouchedRows>,
    extent: &mut ReadExtent,
) -> anyhow::Result<(PollOutcome, PollCoverage)> {
    let PollContext { crm, state, settings, tally, now } = context;
    let fitting = crm.fitting().await?;
    let memory = PollMemory::read(context).await?;
    let (behind, unnamed) = touched.as_ref().map_or((LogBehind::Nothing, 0), |touch| (touch.behind, touch.unnamed));
    let scope =
        if reach == PollReach::Everything { ReadScope::All } else { memory.scope(settings, &fitting, touched, now) };
    if scope != ReadScope::All {
        *extent = ReadExtent::Incremental;
    }
    let interval = guard::full_compare_interval(settings, memory.standing.as_ref());
    let is_shrunk = guard::is_shrunk(memory.standing.as_ref());
    let (source, mapping) = (memory.source.clone(), memory.mapping.fingerprint.clone());
    let earlier = match scope {
        ReadScope::All if reach == PollReach::AsDue && !memory.history.mapping_changed && !is_shrunk => {
            resume::fresh(memory.begun(), &source, &mapping, interval, now)
        }
        _ => None,
    };
    let scope = earlier.as_ref().map_or(scope, resume::scope);
    let covered = match scope {
        ReadScope::All => PollCoverage::Everything,
        ReadScope::Keys(_) => PollCoverage::Touched,
        ReadScope::From(..) | ReadScope::Since(_) => PollCoverage::Part,
    };
    let allowance = memory.allowance.clone();
    let admission = guard::admission(&settings.safety, memory.history, memory.standing.as_ref());
    let admission = allowance.narrow(admission);
    let decided = match admission {
        SendPolicy::Send if !memory.history.first_run_done => Some(FirstRun::Send),
        SendPolicy::Baseline => Some(FirstRun::Baseline),
        SendPolicy::Send | SendPolicy::Hold(_) | SendPolicy::UpTo { .. } => None,
    };
    let earlier_losses = match &crm.log {
        Some(_) => allowance.earlier(),
        None => left_filter::earlier_losses(memory.lost.as_ref(), now),
    };
    let losses = MissingLeadPolicy::of(settings, &scope, memory.standing.as_ref(), earlier_losses);
    let window = if let ReadScope::Since(window) = &scope { Some(window.clone()) } else { None };
    let in_the_end = admission.clone();
    let admission = match covered {
        PollCoverage::Touched => guard::kept_back(admission),
        PollCoverage::Everything | PollCoverage::Part | PollCoverage::Nothing => {
            losses.keep_back(admission, memory.history)
        }
    };
    let words = consent::newest(state).await?;
    let mut writes = PollWriter::new(context, memory.fence, admission, losses, words);
    writes.odd = memory.odd_values(crm);
    writes.settle().await?;
    if memory.staged.all > 0 {
        writes.take_over(memory.staged).await?;
    }
    if covered == PollCoverage::Touched {
        writes.polled.unnamed = unnamed;
    }
    if scope == ReadScope::Keys(Vec::new()) {
        return Ok((writes.polled, covered));
    }
    memory.begin(state, now).await?;
    if covered == PollCoverage::Everything {
        take_over_answer(context).await?;
        review_suppressed(context).await?;
    }
    let begun =
        RowMerge::begin(crm, state, &fitting, MergeRequest { scope, interest: MergeInterest::Differences, now }).await;
    let mut merge = begun.map_err(|error| crm.explained(error))?;
    // From here on the open snapshot keeps the source's columns as they are: check that they match the settings.
    crm.still(&fitting, merge.schema()).await?;
    let mut progress = CompareProgress::new(&merge, earlier, &memory.mark_basis(), now);
    loop {
        let item = match merge.next().await {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(error) => {
                // The next poll goes on from here. A busy standby cancels a long read, so each attempt has to get further.
                if is_crm_outage(&error)
                    && let Some(mark) = progress.reached(&merge)
                    && writes.rest().await?
                {
                    control::write(state, &mark, now).await?;
                }
                return Err(crm.explained(error));
            }
        };
        writes.take(item).await?;
        tally.set_rows(progress.rows(&merge));
        if let Some(mark) = progress.due(&merge)
            && writes.rest().await?
        {
            control::write(state, &mark, now).await?;
        }
    }
    if merge.is_resumed() && writes.misses_much(merge.present()) {
        // The part that was compared before the interruption may have lost as many leads since.
        drop(merge);
        control::clear::<CompareMark>(state).await?;
        tally.announce();
        let whole = read_and_write(context, PollReach::Everything, None, extent);
        return Box::pin(whole).await;
    }
    if let (PollCoverage::Touched, Some(log)) = (covered, &crm.log)
        && !guard::is_shrunk(memory.standing.as_ref())
        && step::is_part(writes.weighed().await?, behind, log, context, &allowance).await?
    {
        writes.leave().await?;
        // A withdrawal does not wait for the full compare.
        tally.announce();
        return Ok((PollOutcome::default(), PollCoverage::Nothing));
    }
    if covered == PollCoverage::Part && !merge.is_full() {
        // On the heap: the stack of a thread has to hold every future around these.
        Box::pin(again::look(crm, &fitting, &mut writes)).await.map_err(|error| crm.explained(error))?;
        if let Some(window) = window.filter(|_| !guard::is_shrunk(memory.standing.as_ref())) {
            let looked = Box::pin(left_filter::look(context, &fitting, &window, memory.lost.as_ref(), &mut writes));
            looked.await.map_err(|error| crm.explained(error))?;
        }
    }
    if covered == PollCoverage::Touched {
        writes.judge_by(in_the_end);
    }
    writes.polled.rows = progress.rows(&merge);
    writes.polled.unnamed = progress.unnamed(&merge).max(writes.polled.unnamed);
    let spares = writes.spares_missing();
    let polled = writes.finish(merge.present()).await?;
    if polled.changed > 0 {
        tally.announce();
    }
    allowance.spend(state, &polled, now).await?;
    decide_first_run(state, memory.history, decided, now).await?;
    let has_lost_its_newest =
        covered == PollCoverage::Part && !merge.is_full() && memory.has_lost_its_newest(&progress);
    memory.renew(context, &progress).await?;
    if has_lost_its_newest || covered == PollCoverage::Touched && spares {
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    Ok((polled, covered))
}

/// `approve`, `baseline` or the setting decides about a held first run; reading it again does not. The setting also covers leads
/// that an earlier pass held.
pub(crate) async fn decide_first_run(
    state: &StateDb,
    history: PollHistory,
    decided: Option<FirstRun>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let by = match decided {
        Some(FirstRun::Send) => {
            held::release_all(state, &HeldSelection::reason(HoldReason::FirstRun), ReleaseKind::Send, now).await?;
            "send"
        }
        Some(FirstRun::Baseline) => {
            // All leads are assumed known, whatever their contents say.
            let of_content = HoldReason::ALL.into_iter().filter(|reason| reason.is_of_content());
            for reason in of_content.chain([HoldReason::FirstRun]) {
                held::release_all(state, &HeldSelection::reason(reason), ReleaseKind::Baseline, now).await?;
            }
            "baseline"
        }
        // There were no sends to decide about.
        None if !history.first_run_done && !held::any(state, None).await? => "send",
        None => return Ok(()),
    };
    Ok(control::write(state, &FirstRunDone { by: by.to_owned() }, now).await?)
}

/// Records of earlier polls.
pub(crate) struct PollMemory {
    history: PollHistory,
    standing: Option<StandingHold>,
    allowance: UnaskedAllowance,
    cursor: Option<PollCursor>,
    /// An unfinished full compare.
    comparing: Option<CompareMark>,
    asked: Option<CompareAsked>,
    lost: Option<UnaskedLosses>,
    /// Sends that a crashed poll has staged and not judged.
    staged: StagedCount,
    fence: PollerFence,
    opt_out_columns: Option<OptOutColumns>,
    /// The record of the mapping in use as it is after this poll, and as it was before.
    mapping: MappingInUse,
    in_use: Option<MappingInUse>,
    source: String,
    /// Up to when everything is committed, known before anything is read.
    settled: SettledMoment,
}

impl PollMemory {
    async fn read(context: PollContext<'_>) -> anyhow::Result<Self> {
        let PollContext { crm, state, settings, now, .. } = context;
        let mapping = crm.mapping.fingerprint().to_string();
        let source = crm.fingerprint().to_string();
        let facts = ahead::correct_facts(state, ControlFacts::read(state).await?, now).await?;
        let cursor = facts.get::<PollCursor>()?.filter(|cursor| cursor.source == source);
        let earlier = cursor.as_ref().and_then(|cursor| cursor.settled.as_ref());
        let settled = crm.outlook(earlier, now).await?.settled;
        let asked = facts.get::<CompareAsked>()?;
        let in_use = facts.get::<MappingInUse>()?;
        Ok(Self {
            history: PollHistory {
                first_run_done: facts.get::<FirstRunDone>()?.is_some(),
                mapping_changed: in_use.as_ref().is_some_and(|in_use| in_use.fingerprint != mapping),
                restored: facts.get::<RestoredState>()?.is_some(),
            },
            standing: held::standing(state).await?,
            allowance: UnaskedAllowance::of(crm, &facts, settings, now)?,
            opt_out_columns: facts.get()?,
            mapping: MappingInUse::renewed(in_use.as_ref(), &mapping, &fence::name_of_process(), now),
            in_use,
            comparing: facts.get()?,
            lost: facts.get()?,
            staged: held::count_staged(state).await?,
            fence: PollerFence::raise(state, &facts, context.tally.instance, now).await?,
            asked,
            cursor,
            source,
            settled,
        })
    }

    /// The full compare to resume, unless another one was requested since it began.
    fn begun(&self) -> Option<CompareMark> {
        let is_asked_since = |comparing: &CompareMark| self.asked.as_ref().is_some_and(|a| a.at > comparing.began_at);
        self.comparing.clone().filter(|comparing| !is_asked_since(comparing))
    }

    /// What a mark of this reading holds for: the same source, mapping and settled moment.
    fn mark_basis(&self) -> MarkBasis<'_> {
        MarkBasis { source: &self.source, mapping: &self.mapping.fingerprint, settled: &self.settled }
    }

    /// The opt-out columns whose values may be odd.
    fn odd_values(&self, crm: &ConnectedCrm) -> OddValues {
        let change = if self.history.mapping_changed { MappingChange::Changed } else { MappingChange::Unchanged };
        let stored = self.opt_out_columns.clone();
        OddValues::new(OptOutColumns::renewed(crm.mapping.opt_out_columns(), stored.as_ref(), change), stored)
    }

    /// Before the first lead is written: a crash may leave this poll half done. Its leads then belong to this mapping if it is
    /// the first one, and else to none, so no later start mistakes the queue for its own.
    async fn begin(&self, state: &StateDb, now: DateTime<Utc>) -> anyhow::Result<()> {
        if self.history.mapping_changed {
            let begun = self.mapping.unfinished();
            if self.in_use.as_ref() != Some(&begun) {
                control::write(state, &begun, now).await?;
            }
        } else if self.in_use.is_none() {
            control::write(state, &self.mapping, now).await?;
        }
        Ok(())
    }

    /// Staged leads that a full compare would release. While most leads are missing, it would not release those that a person has sent
    /// again.
    fn count_waiting(&self) -> usize {
        let has_shrunk = self.standing.as_ref().is_some_and(|hold| hold.reason == HoldReason::SourceShrank);
        self.staged.all - if has_shrunk { self.staged.resent } else { 0 }
    }

    /// The scope of the poll: every row, unless a cursor exists and the last full compare is recent. A changed mapping makes
    /// different leads of unchanged rows.
    fn scope(
        &self,
        settings: &ServiceSettings,
        fitting: &FittingSource,
        touched: Option<TouchedRows>,
        now: DateTime<Utc>,
    ) -> ReadScope {
        let source = &settings.source;
        let is_free = !self.history.mapping_changed && self.asked.is_none() && self.count_waiting() == 0;
        let Some(cursor) = self.cursor.as_ref().filter(|_| is_free) else { return ReadScope::All };
        let age = (now - cursor.full_at).to_std().unwrap_or(Duration::MAX);
        let interval = guard::full_compare_interval(settings, self.standing.as_ref());
        if age >= interval || self.clock_was_put_back(cursor, source) {
            return ReadScope::All;
        }
        if let Some(touched) = touched {
            return ReadScope::Keys(touched.leads);
        }
        // The column has another type than at the last poll: its values cannot be compared with the cursor.
        let kind = fitting.changed_at.as_ref().and_then(|changed_at| changed_at.kind);
        let is_of_kind = |newest: &NewestStamp| kind.is_none_or(|kind| kind == newest.kind);
        if !cursor.newest.as_ref().is_none_or(is_of_kind) {
            return ReadScope::All;
        }
        window::read_window(cursor, stamp_policy(source), now).map_or(ReadScope::All, ReadScope::Since)
    }

    /// Rows may have been written since with stamps before the cursor.
    fn clock_was_put_back(&self, cursor: &PollCursor, source: &SourceSettings) -> bool {
        cursor.settled.as_ref().is_some_and(|settled| self.settled.at + source.lookback < settled.before)
    }

    /// The poll did not even see the newest row of the last poll: it was deleted, or the whole source was restored to an earlier
    /// time.
    fn has_lost_its_newest(&self, progress: &CompareProgress) -> bool {
        progress.newest().is_none() && self.cursor.as_ref().is_some_and(|cursor| cursor.newest.is_some())
    }

    /// Records facts that hold only after a complete poll.
    async fn renew(self, context: PollContext<'_>, progress: &CompareProgress) -> anyhow::Result<()> {
        let PollContext { state, settings, now, .. } = context;
        let everything = progress.is_full();
        let before = self.cursor;
        let seen = PollSight {
            newest: progress.newest(),
            settled: progress.settled(),
            full_at: Some(progress.began_at()).filter(|_| everything),
            source: self.source,
        };
        let policy = stamp_policy(&settings.source);
        let cursor = window::renew_cursor(before.as_ref(), seen, policy, now);
        if !before.as_ref().is_some_and(|before| window::is_as_good(before, &cursor, policy, now)) {
            control::write(state, &cursor, now).await?;
        }
        if everything && (self.comparing.is_some() || progress.is_marked()) {
            control::clear::<CompareMark>(state).await?;
        }
        if everything && self.history.restored {
            control::clear::<RestoredState>(state).await?;
        }
        if everything && self.asked.is_some_and(|asked| asked.at <= progress.began_at()) {
            control::clear::<CompareAsked>(state).await?;
        }
        if self.in_use.as_ref() != Some(&self.mapping) {
            control::write(state, &self.mapping, now).await?;
        }
        Ok(())
    }
}

pub(crate) fn stamp_policy(source: &SourceSettings) -> StampPolicy {
    StampPolicy { lookback: source.lookback, time_zone: source.time_zone }
}
