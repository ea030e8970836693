//! What a pass would send and why, field by field. Reads both sides; sends nothing, stores nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{ConversationChanges, OnDelete, Settings};
use crate::conversica::consent::Override;
use crate::conversica::lead::{LeadId, withdraws_consent};
use crate::crm::Crm;
use crate::crm::mapping::Mapped;
use crate::crm::read::{BATCH_ROWS, Scope};
use crate::db::Db;
use crate::state::control::{self, FirstRunDone, Hold, MappingInUse};
use crate::state::lead::{self, Known, Status};
use crate::state::{due, gone, held};
use crate::sync::diff::{self, Difference};
use crate::sync::guard::{self, Admission, Found, History, Losses, Verdict};
use crate::sync::merge::{Interest, Item, Merge};

/// What would happen to a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    /// An update that withdraws consent, or tells that the row is gone.
    Stop,
    /// Not sent, for the reasons given.
    Invalid,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Stop => "stop",
            Action::Invalid => "invalid",
        }
    }
}

/// One lead of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedLead {
    pub id: String,
    pub client_id: String,
    pub action: Action,
    /// Key → [value last accepted or null, value to be sent or null].
    pub changes: BTreeMap<String, [Value; 2]>,
    pub reasons: Vec<String>,
}

/// How many of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub create: u64,
    pub update: u64,
    pub stop: u64,
    pub invalid: u64,
    /// Nothing to send: delivered already, or waiting for a person after a refusal.
    pub unchanged: u64,
    /// Leads of which the CRM says otherwise than the person's own opt-out, which counts.
    pub kept_opt_outs: u64,
    /// Leads no longer in the source.
    pub gone: u64,
    /// People who would be contacted for the first time.
    pub new_people: u64,
    /// The same, by `conversationId`; blank where there is none.
    pub new_people_by_conversation: BTreeMap<String, u64>,
    /// E-mail addresses that the leads to be sent have under more than one id.
    pub same_email: u64,
    /// Why this is held for a person, or would be by a pass.
    pub hold: Option<String>,
    /// What the state holds for a person already.
    pub held: HeldShown,
}

/// What is held, as `approve --shown` takes it up again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeldShown {
    pub leads: i64,
    /// Of them: people whom Conversica has never been told of.
    pub new_people: i64,
    /// Of them: leads whose row is missing from the source.
    pub missing: i64,
    /// Reason → leads.
    pub reasons: BTreeMap<String, i64>,
    /// Names this set: what joins later is not in it. Blank where nothing is held.
    pub shown: String,
}

/// Goes over everything; `each` is given the leads of the plan, in order of their ids.
pub async fn plan(
    crm: &Crm,
    state: &Db,
    settings: &Settings,
    now: DateTime<Utc>,
    mut each: impl FnMut(PlannedLead) -> anyhow::Result<()>,
) -> anyhow::Result<Totals> {
    let fitting = crm.fitting().await?;
    let mut planning = Planning::new(settings);
    // Before the first row is read: what is held meanwhile has not been shown.
    let held = held::look(state, &held::Selection::default()).await?;
    let mut merge = Merge::begin(crm, state, &fitting, Scope::All, Interest::Everything, now).await?;
    loop {
        match merge.next().await? {
            Some(Item::Quiet) => {}
            Some(Item::Missing(known)) => planning.missing(known),
            Some(Item::Row(mapped, known)) => {
                planning.totals.kept_opt_outs += u64::from(!mapped.kept.is_empty());
                planning.found.back += u64::from(known.as_ref().is_some_and(Known::is_withheld));
                if is_settled(&mapped, known.as_ref()) {
                    planning.totals.unchanged += 1;
                } else {
                    planning.batch.push((mapped, known));
                }
            }
            None => break,
        }
        if planning.batch.len() + planning.parting.len() >= BATCH_ROWS {
            planning.show(state, &mut each).await?;
        }
    }
    planning.show(state, &mut each).await?;
    planning.found.present = merge.present();
    let Planning { mut totals, addresses, new_sends, would_hold, found, .. } = planning;
    totals.same_email = addresses.values().filter(|repeated| **repeated).count() as u64;
    let losses = Losses::Share(settings.safety.source_shrinks_below);
    totals.hold = match losses.verdict(found) {
        Verdict::Hold => Some(held::SOURCE_SHRANK.to_owned()),
        Verdict::Gone => {
            // Rows that are back end that hold, and let go what had joined it.
            let ends = |reason: &str| found.back > 0 && reason == held::SOURCE_SHRANK;
            hold(crm, state, settings, new_sends, ends)
                .await?
                .or(would_hold.filter(|reason| !ends(reason)))
                .or(too_many_tests(&totals, state, settings).await?)
        }
    };
    totals.held = HeldShown {
        leads: held.leads,
        new_people: held.new_people,
        missing: held.missing,
        shown: held.set_name(),
        reasons: held.reasons,
    };
    Ok(totals)
}

/// Nothing would be sent: Conversica holds this, or a person has to act before it is tried again.
fn is_settled(mapped: &Mapped, known: Option<&Known>) -> bool {
    let Some(known) = known else { return false };
    let fingerprint = mapped.fingerprint();
    mapped.desired.is_ok()
        && (known.delivered_hash == Some(fingerprint)
            || known.desired_hash == fingerprint && matches!(known.status, Status::Rejected | Status::Exhausted))
}

/// A plan that grows.
struct Planning {
    totals: Totals,
    conversations: ConversationChanges,
    /// Hashes of addresses, and whether each has come up more than once.
    addresses: HashMap<u64, bool>,
    batch: Vec<(Mapped, Option<Known>)>,
    /// Leads whose rows are missing, and who may have to be told so.
    parting: Vec<Known>,
    on_delete: OnDelete,
    found: Found,
    /// Sends that a pass would have to decide upon.
    new_sends: u64,
    /// Why single leads are held already, or would be.
    would_hold: Option<String>,
}

impl Planning {
    fn new(settings: &Settings) -> Self {
        Self {
            totals: Totals::default(),
            conversations: settings.safety.conversation_changes,
            addresses: HashMap::new(),
            batch: Vec::new(),
            parting: Vec::new(),
            on_delete: settings.source.on_delete,
            found: Found::default(),
            new_sends: 0,
            would_hold: None,
        }
    }

    fn missing(&mut self, known: Known) {
        let counts = known.is_expected();
        self.found.missing += u64::from(counts);
        self.found.withheld += u64::from(known.is_withheld());
        self.totals.gone += u64::from(counts || !known.gone);
        // Also who is gone and has not been told yet.
        let waits = matches!(known.status, Status::Pending | Status::Retrying);
        if self.on_delete == OnDelete::StopMessaging && known.may_be_contacted() && (!known.gone || counts || waits) {
            self.parting.push(known);
        }
    }

    /// What Conversica would be told of leads whose rows are missing.
    async fn told(&mut self, state: &Db) -> anyhow::Result<VecDeque<PlannedLead>> {
        let parting = std::mem::take(&mut self.parting);
        let leads: Vec<LeadId> = parting.iter().map(|known| known.lead.clone()).collect();
        let last = gone::last(state, &leads).await?;
        let mut told = VecDeque::new();
        for known in parting {
            let Some((last, stop)) = last.get(&known.lead).and_then(|last| Some((last, last.stop()?))) else {
                continue;
            };
            let changes = changes(&last.body.as_deref().map(object).unwrap_or_default(), &object(&stop));
            let mut reasons = vec!["no longer in the source".to_owned()];
            reasons.extend(known.hold_reason.map(|reason| format!("held: {reason}")));
            let LeadId { id, client_id } = known.lead;
            told.push_back(PlannedLead { id, client_id, action: Action::Stop, changes, reasons });
        }
        self.totals.stop += told.len() as u64;
        Ok(told)
    }

    async fn show(
        &mut self,
        state: &Db,
        each: &mut impl FnMut(PlannedLead) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut told = self.told(state).await?;
        let batch = std::mem::take(&mut self.batch);
        let known: Vec<LeadId> = batch.iter().filter_map(|(_, known)| known.as_ref().map(|k| k.lead.clone())).collect();
        let delivered = lead::delivered(state, &known).await?;
        for (mapped, known) in batch {
            let delivered = delivered.get(&mapped.lead).map(String::as_str);
            let mapped = diff::rescue_withdrawal(mapped, known.as_ref(), delivered);
            let mut stops = false;
            let mut holds = None;
            match diff::compare(mapped.clone(), known.as_ref(), delivered, self.conversations) {
                Difference::Changed(change, kind) => {
                    self.new_sends += u64::from(kind.sends() && !change.urgent && change.hold_reason.is_none());
                    stops = change.urgent;
                    holds = change.hold_reason;
                }
                Difference::None | Difference::Reread(..) | Difference::Returned => {
                    let reason =
                        known.as_ref().filter(|known| !known.is_withheld()).and_then(|k| k.hold_reason.clone());
                    self.would_hold = self.would_hold.take().or(reason);
                    let waiting = mapped.desired.as_deref().unwrap_or_default();
                    stops |= withdraws_consent(delivered.unwrap_or_default(), waiting);
                }
            }
            let old = delivered.map(object).unwrap_or_default();
            let kept: Vec<String> = mapped.kept.iter().map(Override::in_words).collect();
            let mut planned = planned(mapped, known.as_ref(), stops, &old);
            planned.lead.reasons.extend(kept);
            if let Some(reason) = holds {
                planned.lead.reasons.push(format!("held as soon as a pass sees it: {reason}"));
                self.would_hold.get_or_insert_with(|| reason.to_owned());
            }
            self.count(&planned);
            let place = (&planned.lead.id, &planned.lead.client_id);
            while let Some(lead) = told.pop_front_if(|lead| (&lead.id, &lead.client_id) < place) {
                each(lead)?;
            }
            each(planned.lead)?;
        }
        told.into_iter().try_for_each(each)
    }

    fn count(&mut self, planned: &Planned) {
        let totals = &mut self.totals;
        match planned.lead.action {
            Action::Create => totals.create += 1,
            Action::Update => totals.update += 1,
            Action::Stop => totals.stop += 1,
            Action::Invalid => totals.invalid += 1,
        }
        if planned.lead.action == Action::Create {
            totals.new_people += 1;
            *totals.new_people_by_conversation.entry(planned.conversation.clone()).or_default() += 1;
        }
        if let Some(address) = planned.address {
            self.addresses.entry(address).and_modify(|repeated| *repeated = true).or_insert(false);
        }
    }
}

struct Planned {
    lead: PlannedLead,
    conversation: String,
    /// A hash of the e-mail address: millions of addresses need not be kept.
    address: Option<u64>,
}

fn planned(mapped: Mapped, known: Option<&Known>, stops: bool, old: &Map<String, Value>) -> Planned {
    let contacted = known.is_some_and(|known| known.contacted);
    let LeadId { id, client_id } = mapped.lead;
    let body = match &mapped.desired {
        Ok(body) => object(body),
        Err(reasons) => {
            let reasons = reasons.clone();
            let lead = PlannedLead { id, client_id, action: Action::Invalid, changes: BTreeMap::new(), reasons };
            return Planned { lead, conversation: String::new(), address: None };
        }
    };
    let action = match (contacted, stops) {
        (false, _) => Action::Create,
        (true, true) => Action::Stop,
        (true, false) => Action::Update,
    };
    let mut reasons = Vec::new();
    match known.map(|known| known.status) {
        None => reasons.push("not known to Conversica".to_owned()),
        Some(Status::Held) => {
            let why = known.and_then(|known| known.hold_reason.as_deref()).unwrap_or("held");
            reasons.push(format!("held: {why}"));
        }
        Some(Status::Retrying) => reasons.push("waiting for its next try".to_owned()),
        Some(Status::Gone) => reasons.push("back in the source".to_owned()),
        Some(_) => {}
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let address = (!text("email").is_empty()).then(|| {
        let mut hasher = DefaultHasher::new();
        text("email").to_lowercase().hash(&mut hasher);
        hasher.finish()
    });
    let conversation = text("conversationId").to_owned();
    let lead = PlannedLead { id, client_id, action, changes: changes(old, &body), reasons };
    Planned { lead, conversation, address }
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

/// Whether a pass would hold what it finds. What has been released already, and only waits to be sent, does not count, nor a
/// hold that the pass ends.
async fn hold(
    crm: &Crm,
    state: &Db,
    settings: &Settings,
    new_sends: u64,
    ends: impl Fn(&str) -> bool,
) -> anyhow::Result<Option<String>> {
    let in_use = control::read::<MappingInUse>(state).await?;
    let fingerprint = crm.mapping.fingerprint().to_string();
    let history = History {
        first_run_done: control::read::<FirstRunDone>(state).await?.is_some(),
        mapping_changed: in_use.is_some_and(|in_use| in_use.fingerprint != fingerprint),
    };
    let standing = match control::read::<Hold>(state).await? {
        Some(hold) if !ends(&hold.reason) && held::any(state, Some(&hold.reason)).await? => Some(hold),
        _ => None,
    };
    Ok(match guard::admission(&settings.safety, history, standing.as_ref()) {
        Admission::Hold(reason) if new_sends > 0 => Some(reason.to_owned()),
        Admission::UpTo { limit, reason } if new_sends > limit as u64 => Some(reason.to_owned()),
        Admission::Hold(_) | Admission::UpTo { .. } | Admission::Send | Admission::Baseline => None,
    })
}

/// With the Test Lead Token, the leads beyond the limit would be held.
async fn too_many_tests(totals: &Totals, state: &Db, settings: &Settings) -> anyhow::Result<Option<String>> {
    if settings.conversica.test_lead_token.is_none() {
        return Ok(None);
    }
    let left = due::test_leads_left(state, settings.conversica.test_lead_limit).await?;
    let sends = i64::try_from(totals.create).unwrap_or(i64::MAX);
    Ok((sends > left).then(|| held::TEST_LEAD_LIMIT.to_owned()))
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
