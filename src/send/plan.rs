//! The plan: which leads a pass would send and why, field by field. Reads both sides; sends nothing, stores nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::config::{FirstRun, OnDelete, ServiceSettings};
use crate::conversica::consent::ConsentOverride;
use crate::conversica::lead::{IdOrder, LeadId, LeadKey, withdraws_consent};
use crate::conversica::token::{self, TokenVeil};
use crate::rules::admission::ClaimFilter;
use crate::rules::content_hold::ContentHoldPolicy;
use crate::rules::diff::{self, RowDifference};
use crate::rules::first_contact::FirstContactPolicy;
use crate::rules::guard::{self, ExpectedCount, MissingLeadPolicy, MissingVerdict, PollHistory, SendPolicy};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::KnownLead;
use crate::rules::lead_status::LeadStatus;
use crate::rules::mapping::MappedRow;
use crate::rules::mapping_in_use::MappingInUse;
use crate::rules::odd_opt_out::{MappingChange, OptOutColumns, hold_odd};
use crate::rules::plan_address::AddressBook;
use crate::rules::plan_forecast::{PlanForecast, PlannedRequests};
use crate::rules::plan_totals::{HeldShown, PlanCounts, PlanTotals, PlannedHalt, TestLeads};
use crate::rules::read_scope::ReadScope;
use crate::rules::suppression_ground::SuppressionGround;
use crate::send::account;
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeItem, MergeRequest, RowMerge};
use crate::send::planned_lead::{PlannedAction, PlannedLead};
use crate::send::poll_context::PollContext;
use crate::source::crm::ConnectedCrm;
use crate::source::read::BATCH_ROWS;
use crate::store::backup::RestoredState;
use crate::store::control::{self, FirstRunDone, StoredHalt};
use crate::store::state_db::StateDb;
use crate::store::{due, held, introduced, lead, lead_record, operator_pause, tested};
use crate::wording::meaning;

/// Plans every lead, in constant memory. `each` receives the leads of the plan in order of their ids; `tally` receives the number
/// of rows read so far.
pub async fn plan(
    context: PollContext<'_>,
    mut each: impl FnMut(PlannedLead) -> anyhow::Result<()>,
) -> anyhow::Result<PlanTotals> {
    let PollContext { crm, state, settings, tally, now } = context;
    let fitting = crm.fitting().await?;
    let mut planning = PlanBuilder::new(settings, tested::leads(state).await?);
    planning.contents = contents(state, settings, now).await?;
    planning.doubted = doubted_keys(crm, state).await?;
    // Before the first row is read: the plan has not shown leads that are held later.
    let held = held::look(state, &held::HeldSelection::default()).await?;
    let merge = RowMerge::begin(
        crm,
        state,
        &fitting,
        MergeRequest { scope: ReadScope::All, interest: MergeInterest::Everything, now },
    )
    .await;
    let mut merge = merge.map_err(|error| crm.explained(error))?;
    planning.order = merge.order();
    loop {
        match merge.next().await.map_err(|error| crm.explained(error))? {
            Some(MergeItem::Quiet) => {}
            Some(MergeItem::Missing(known)) => planning.missing(known, merge.unnamed()),
            Some(MergeItem::Row(mapped, known)) => {
                planning.totals.kept_opt_outs += u64::from(!mapped.kept.is_empty());
                planning.counts.row(&mapped);
                planning.found.back += u64::from(known.as_ref().is_some_and(KnownLead::is_withheld));
                if is_settled(&mapped, known.as_ref()) {
                    planning.totals.unchanged += 1;
                } else {
                    planning.batch.push((*mapped, known));
                }
            }
            None => break,
        }
        tally.set_rows(merge.rows());
        if planning.batch.len() + planning.parting.len() >= BATCH_ROWS {
            planning.show(state, &mut each).await?;
        }
    }
    planning.show(state, &mut each).await?;
    planning.found.present = merge.present();
    planning.totals.erased = merge.erased();
    planning.totals.unnamed = merge.unnamed();
    let PlanBuilder { mut totals, counts, addresses, new_sends, would_hold, held_singly, found, .. } = planning;
    counts.put_into(&mut totals);
    let repeated = addresses.repeated();
    totals.same_email = repeated.addresses;
    (totals.same_email_examples, totals.same_email_uncompared) = (repeated.examples, repeated.uncompared);
    let losses = MissingLeadPolicy::share(settings.safety.source_shrinks_below);
    totals.hold = match losses.verdict(found) {
        MissingVerdict::Hold => Some(HoldReason::SourceShrank),
        MissingVerdict::Gone => {
            // Rows that are back end that hold and release the leads that had joined it.
            let ends = |reason: HoldReason| found.back > 0 && reason == HoldReason::SourceShrank;
            let (hold, baseline) = hold(crm, state, settings, new_sends, ends).await?;
            totals.baseline = baseline;
            totals.held_singly = if hold.is_none() { held_singly } else { BTreeMap::new() };
            hold.or(would_hold.filter(|reason| !ends(*reason))).or(too_many_tests(&totals, state, settings).await?)
        }
    };
    if totals.first_contacts() > 0 {
        totals.before_first_contacts = FirstContactPolicy::of(settings).in_words();
    }
    totals.halt = halt(state, settings).await?;
    totals.pause = operator_pause::read(state, now).await?;
    if settings.conversica.test_lead_token.is_some() {
        let limit = settings.conversica.test_lead_limit;
        totals.test_leads = Some(TestLeads { limit, left: due::test_leads_left(state, limit).await? });
    }
    totals.forecast = forecast(&totals, state, settings, now).await?;
    totals.held = HeldShown {
        leads: held.leads,
        new_people: held.new_people,
        assumed_known: held.assumed_known,
        missing: held.missing,
        shown: held.set_name(),
        reasons: held.reasons,
    };
    Ok(totals)
}

/// Whether a pass would send nothing: Conversica has this content, or an operator has to act before a retry.
fn is_settled(mapped: &MappedRow, known: Option<&KnownLead>) -> bool {
    let Some(known) = known else { return false };
    let fingerprint = mapped.fingerprint();
    mapped.desired.is_ok()
        && (known.delivered_hash == Some(fingerprint)
            || known.desired_hash == fingerprint
                && matches!(known.status, LeadStatus::Rejected | LeadStatus::Exhausted))
}

/// A plan under construction.
struct PlanBuilder {
    totals: PlanTotals,
    contents: ContentHoldPolicy,
    /// Opt-out keys whose odd values wait for the operator.
    doubted: BTreeSet<LeadKey>,
    counts: PlanCounts,
    addresses: AddressBook,
    veil: TokenVeil,
    /// Leads that were ever sent with the Test Lead Token.
    tested: HashSet<LeadId>,
    batch: Vec<(MappedRow, Option<KnownLead>)>,
    /// Leads whose rows are missing and that Conversica may have to stop messaging.
    parting: Vec<KnownLead>,
    on_delete: OnDelete,
    found: ExpectedCount,
    /// The order in which rows and missing leads come.
    order: IdOrder,
    /// Sends that need a decision of the pass.
    new_sends: u64,
    /// Why single leads are held already, or would be.
    would_hold: Option<HoldReason>,
    /// How many leads would be held by themselves.
    held_singly: BTreeMap<HoldReason, u64>,
}

impl PlanBuilder {
    fn new(settings: &ServiceSettings, tested: HashSet<LeadId>) -> Self {
        Self {
            totals: PlanTotals::default(),
            contents: ContentHoldPolicy::none(),
            doubted: BTreeSet::new(),
            counts: PlanCounts::default(),
            addresses: AddressBook::default(),
            veil: TokenVeil::over(settings.conversica.test_lead_token.as_ref()),
            tested,
            batch: Vec::new(),
            parting: Vec::new(),
            on_delete: settings.source.on_delete,
            found: ExpectedCount::default(),
            order: IdOrder::Bytes,
            new_sends: 0,
            would_hold: None,
            held_singly: BTreeMap::new(),
        }
    }

    /// `unnamed` rows came before this lead; one of them may be its row.
    fn missing(&mut self, known: KnownLead, unnamed: u64) {
        let counts = known.is_expected();
        self.found.missing += u64::from(counts);
        self.found.withheld += u64::from(known.is_withheld());
        self.totals.gone += u64::from(counts || !known.gone);
        // Includes leads that are gone and whose stop is not sent yet.
        let waits = matches!(known.status, LeadStatus::Pending | LeadStatus::Retrying);
        let is_told = self.on_delete == OnDelete::StopMessaging && unnamed == 0;
        if is_told && known.may_be_contacted() && (!known.gone || counts || waits) {
            self.parting.push(known);
        }
    }

    /// The stops that a pass would send for leads whose rows are missing.
    async fn told(&mut self, state: &StateDb) -> anyhow::Result<VecDeque<PlannedLead>> {
        let parting = std::mem::take(&mut self.parting);
        let leads: Vec<LeadId> = parting.iter().map(|known| known.lead.clone()).collect();
        let last = lead_record::find(state, &leads).await?;
        let mut told = VecDeque::new();
        for known in parting {
            let Some((last, stop)) = last.get(&known.lead).and_then(|last| Some((last, last.stop_content()?))) else {
                continue;
            };
            let changes = changes(&last.last_content().map(object).unwrap_or_default(), &object(&stop));
            let mut reasons = vec!["no longer in the source".to_owned()];
            reasons.extend(known.hold_reason.map(|reason| format!("held: {}", reason.name())));
            let LeadId { id, client_id } = known.lead;
            let mut lead = PlannedLead { id, client_id, action: PlannedAction::Stop, changes, reasons };
            self.counts.changed(lead.changes.keys());
            self.hide_token(&mut lead);
            told.push_back(lead);
        }
        self.totals.stop += told.len() as u64;
        Ok(told)
    }

    async fn show(
        &mut self,
        state: &StateDb,
        each: &mut impl FnMut(PlannedLead) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut told = self.told(state).await?;
        let batch = std::mem::take(&mut self.batch);
        let known: Vec<LeadId> = batch.iter().filter_map(|(_, known)| known.as_ref().map(|k| k.lead.clone())).collect();
        let delivered = lead::delivered(state, &known).await?;
        for (mapped, known) in batch {
            let delivered = delivered.get(&mapped.lead).map(String::as_str);
            let mapped = hold_odd(mapped, &self.doubted);
            let mapped = diff::rescue_withdrawal(mapped, known.as_ref(), delivered);
            let mut stops = false;
            let mut holds = None;
            let mut is_released = false;
            match diff::compare(mapped.clone(), known.as_ref(), delivered, &self.contents) {
                RowDifference::Changed(change, kind) => {
                    self.new_sends += u64::from(kind.sends() && !change.urgent && change.hold_reason.is_none());
                    stops = change.urgent;
                    holds = change.hold_reason;
                    let held_for = known.as_ref().and_then(|known| known.hold_reason);
                    is_released = holds.is_none() && held_for.is_some_and(HoldReason::is_of_content);
                }
                RowDifference::None | RowDifference::Reread(..) | RowDifference::Returned => {
                    let reason =
                        known.as_ref().filter(|known| !known.is_withheld()).and_then(|known| known.hold_reason);
                    let is_staged = reason == Some(HoldReason::Staged);
                    self.would_hold = self.would_hold.or(reason.filter(|_| !is_staged));
                    let waiting = mapped.desired.as_deref().unwrap_or_default();
                    stops |= withdraws_consent(delivered.unwrap_or_default(), waiting);
                }
            }
            let old = delivered.map(object).unwrap_or_default();
            let mut asides: Vec<String> = mapped.kept.iter().map(ConsentOverride::in_words).collect();
            asides.extend(mapped.grounds.iter().map(SuppressionGround::in_words));
            asides.extend(mapped.notes.iter().cloned());
            let mut planned = planned(mapped, known.as_ref(), stops, &old);
            if is_released {
                planned.lead.reasons.retain(|reason| !reason.starts_with("held: "));
            }
            planned.lead.reasons.extend(asides);
            if let Some(reason) = holds {
                planned.lead.reasons.push(format!("held as soon as a pass sees it: {}", reason.name()));
                self.would_hold.get_or_insert(reason);
                *self.held_singly.entry(reason).or_default() += 1;
            }
            self.count(&planned);
            self.hide_token(&mut planned.lead);
            let place = (planned.lead.id.as_str(), planned.lead.client_id.as_str());
            let comes_first = |lead: &mut PlannedLead| self.order.compare((&lead.id, &lead.client_id), place).is_lt();
            while let Some(lead) = told.pop_front_if(comes_first) {
                each(lead)?;
            }
            each(planned.lead)?;
        }
        told.into_iter().try_for_each(each)
    }

    fn count(&mut self, planned: &PassPlan) {
        let totals = &mut self.totals;
        match planned.lead.action {
            PlannedAction::Create => totals.create += 1,
            PlannedAction::Update => totals.update += 1,
            PlannedAction::AssumedKnown => totals.assumed_known += 1,
            PlannedAction::Stop => totals.stop += 1,
            PlannedAction::Invalid => totals.invalid += 1,
            PlannedAction::Suppressed => totals.suppressed += 1,
        }
        let lead = (&*planned.lead.id, &*planned.lead.client_id);
        match planned.lead.action {
            PlannedAction::Create => {
                totals.new_people += 1;
                self.counts.new_person(&planned.conversation);
            }
            // Without known earlier content, every key would count as changed.
            PlannedAction::Update | PlannedAction::AssumedKnown | PlannedAction::Stop if planned.has_old => {
                self.counts.changed(planned.lead.changes.keys());
            }
            PlannedAction::Update | PlannedAction::AssumedKnown | PlannedAction::Stop | PlannedAction::Suppressed => {}
            PlannedAction::Invalid => self.counts.invalid(planned.lead.reasons.iter(), lead),
        }
        if !planned.address.is_empty() {
            self.addresses.add(&planned.address, lead);
        }
    }

    /// The token is a secret: the plan hides it in new and in earlier values.
    fn hide_token(&self, lead: &mut PlannedLead) {
        for value in lead.changes.values_mut().flatten() {
            self.veil.value(value);
        }
        let was_tested = || self.tested.contains(&LeadId { id: lead.id.clone(), client_id: lead.client_id.clone() });
        if !self.veil.is_on()
            && let Some([old, _]) = lead.changes.get_mut("lastName")
            && old.is_string()
            && was_tested()
        {
            *old = token::SHOWN_OF_A_TEST_LEAD.into();
        }
    }
}

struct PassPlan {
    lead: PlannedLead,
    conversation: String,
    address: String,
    /// The content that Conversica has is known.
    has_old: bool,
}

fn planned(mapped: MappedRow, known: Option<&KnownLead>, stops: bool, old: &Map<String, Value>) -> PassPlan {
    let contacted = known.is_some_and(|known| known.contacted);
    let LeadId { id, client_id } = mapped.lead;
    let body = match &mapped.desired {
        Ok(body) => object(body),
        Err(reasons) => {
            let reasons = reasons.clone();
            let lead = PlannedLead { id, client_id, action: PlannedAction::Invalid, changes: BTreeMap::new(), reasons };
            return PassPlan { lead, conversation: String::new(), address: String::new(), has_old: false };
        }
    };
    let assumed = known.is_some_and(|known| known.assumed);
    let suppressed = !mapped.grounds.is_empty() && !known.is_some_and(KnownLead::may_be_contacted);
    let action = match (contacted, stops, assumed) {
        (false, _, _) if suppressed => PlannedAction::Suppressed,
        (false, _, _) => PlannedAction::Create,
        (true, true, _) => PlannedAction::Stop,
        (true, false, true) => PlannedAction::AssumedKnown,
        (true, false, false) => PlannedAction::Update,
    };
    let mut reasons = Vec::new();
    if assumed {
        reasons.push(meaning(LeadStatus::Assumed).to_owned());
    }
    match known.map(|known| known.status) {
        None => reasons.push("not known to Conversica".to_owned()),
        Some(LeadStatus::Held) => {
            let why = known.and_then(|known| known.hold_reason).map_or("held", HoldReason::name);
            reasons.push(format!("held: {why}"));
        }
        Some(LeadStatus::Retrying) => reasons.push("waiting for its next try".to_owned()),
        Some(LeadStatus::Gone) => reasons.push("back in the source".to_owned()),
        Some(_) => {}
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let (conversation, address) = (text("conversationId").to_owned(), text("email").to_owned());
    let lead = PlannedLead { id, client_id, action, changes: changes(old, &body), reasons };
    PassPlan { lead, conversation, address, has_old: !old.is_empty() }
}

/// The keys whose values differ.
pub fn changes(old: &Map<String, Value>, new: &Map<String, Value>) -> BTreeMap<String, [Value; 2]> {
    let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    old.keys()
        .chain(new.keys())
        .map(|key| (key.clone(), [value(old, key), value(new, key)]))
        .filter(|(_, [old, new])| old != new)
        .collect()
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}

/// Whether a pass would hold its sends, and whether it would record them as delivered. Released leads that only wait to be sent
/// do not count, nor does a hold that the pass ends.
async fn hold(
    crm: &ConnectedCrm,
    state: &StateDb,
    settings: &ServiceSettings,
    new_sends: u64,
    ends: impl Fn(HoldReason) -> bool,
) -> anyhow::Result<(Option<HoldReason>, bool)> {
    let in_use = control::read::<MappingInUse>(state).await?;
    let fingerprint = crm.mapping.fingerprint().to_string();
    let history = PollHistory {
        first_run_done: control::read::<FirstRunDone>(state).await?.is_some(),
        mapping_changed: in_use.is_some_and(|in_use| in_use.fingerprint != fingerprint),
        restored: control::read::<RestoredState>(state).await?.is_some(),
    };
    let standing = held::standing(state).await?.filter(|hold| !ends(hold.reason));
    let admission = guard::admission(&settings.safety, history, standing.as_ref());
    let baseline = admission == SendPolicy::Baseline;
    let reason = match admission {
        SendPolicy::Hold(reason) if new_sends > 0 => Some(reason),
        SendPolicy::UpTo { limit, reason } if new_sends > limit as u64 => Some(reason),
        SendPolicy::Hold(_) | SendPolicy::UpTo { .. } | SendPolicy::Send | SendPolicy::Baseline => None,
    };
    Ok((reason, baseline))
}

/// Which contents a pass would hold; a first run that is a baseline holds none.
async fn contents(
    state: &StateDb,
    settings: &ServiceSettings,
    now: DateTime<Utc>,
) -> anyhow::Result<ContentHoldPolicy> {
    let is_baseline =
        settings.safety.first_run == Some(FirstRun::Baseline) && control::read::<FirstRunDone>(state).await?.is_none();
    Ok(if is_baseline { ContentHoldPolicy::none() } else { ContentHoldPolicy::new(settings, now) })
}

/// Opt-out keys whose odd values the next poll does not send, whatever their number.
async fn doubted_keys(crm: &ConnectedCrm, state: &StateDb) -> anyhow::Result<BTreeSet<LeadKey>> {
    let fingerprint = crm.mapping.fingerprint().to_string();
    let change = match control::read::<MappingInUse>(state).await? {
        Some(in_use) if in_use.fingerprint != fingerprint => MappingChange::Changed,
        Some(_) | None => MappingChange::Unchanged,
    };
    let earlier = control::read::<OptOutColumns>(state).await?;
    Ok(OptOutColumns::renewed(crm.mapping.opt_out_columns(), earlier.as_ref(), change).doubted)
}

/// The halt in force for the configured account. A halt of another account is lifted as soon as a pass would send.
async fn halt(state: &StateDb, settings: &ServiceSettings) -> anyhow::Result<Option<PlannedHalt>> {
    let Some(halt) = control::read::<StoredHalt>(state).await? else { return Ok(None) };
    let account = account::known_fingerprint(state, &settings.conversica).await?;
    let stands = account.is_none_or(|account| account == halt.account);
    Ok(stands.then(|| PlannedHalt { reason: halt.reason.name(), since: halt.since, cure: halt.reason.cure() }))
}

/// How long the delivery takes; `None` where part of it may not be sent.
async fn forecast(
    totals: &PlanTotals,
    state: &StateDb,
    settings: &ServiceSettings,
    now: DateTime<Utc>,
) -> anyhow::Result<Option<PlanForecast>> {
    let caps = match guard::admit(settings, settings.conversica.test_lead_limit) {
        ClaimFilter::TestLeads(_) => return Ok(None),
        ClaimFilter::Capped(caps) => caps,
        ClaimFilter::Everybody | ClaimFilter::Withdrawals => Vec::new(),
    };
    let introduced = match caps.iter().map(|cap| cap.span.counts_after(now)).min() {
        Some(after) if totals.first_contacts() > 0 => introduced::since(state, after).await?,
        Some(_) | None => Vec::new(),
    };
    let planned = PlannedRequests { requests: totals.requests(), new_people: totals.first_contacts() };
    let pace = settings.delivery.requests_per_second;
    Ok(Some(PlanForecast::of(planned, pace, &caps, &introduced, now)))
}

/// With the Test Lead Token, the leads beyond the limit would be held.
async fn too_many_tests(
    totals: &PlanTotals,
    state: &StateDb,
    settings: &ServiceSettings,
) -> anyhow::Result<Option<HoldReason>> {
    if settings.conversica.test_lead_token.is_none() {
        return Ok(None);
    }
    let left = due::test_leads_left(state, settings.conversica.test_lead_limit).await?;
    let sends = i64::try_from(totals.create).unwrap_or(i64::MAX);
    Ok((sends > left).then_some(HoldReason::TestLeadLimit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_keys_that_differ_are_changes() {
        let old = object(r#"{"id":"1","firstName":"Ann","city":"Bonn"}"#);
        let new = object(r#"{"id":"1","firstName":"Anna","zip":"53111"}"#);
        let changes = changes(&old, &new);
        assert_eq!(changes.len(), 3);
        assert_eq!(changes["firstName"], [json!("Ann"), json!("Anna")]);
        assert_eq!(changes["city"], [json!("Bonn"), Value::Null]);
        assert_eq!(changes["zip"], [Value::Null, json!("53111")]);
    }
}
