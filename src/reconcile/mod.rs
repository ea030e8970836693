//! Reconciliation: compares the CRM, the state, the newest outcomes and Conversica's posts, and gives each lead one verdict.
//! Conversica cannot be queried, so its content is known from our own records only.
//!
//! Safe beside a running daemon: it reads the CRM in one snapshot and the state as it goes; where the state has changed since the
//! snapshot, the state counts. Memory does not grow with the number of leads.

pub mod report;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::lead::{IdOrder, LeadId};
use crate::reconcile::report::{ReconcileReport, RepairedLeads, ReportTally};
use crate::rules::lead_facts::LeadFacts;
use crate::rules::mapping::MappedRow;
use crate::rules::read_scope::ReadScope;
use crate::rules::verdict::{JudgedLead, LeadVerdict, RowState, VerdictRules, judge};
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeItem, MergeRequest, RowMerge};
use crate::send::plan::changes;
use crate::send::tally;
use crate::source::crm::ConnectedCrm;
use crate::source::read::BATCH_ROWS;
use crate::store::compare::DoubtedLeads;
use crate::store::control::{self, CompareAsked};
use crate::store::state_db::StateDb;
use crate::store::{facts, lead};

/// The options of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcileOptions {
    /// Leads accepted before this time should have been heard of; `None` where silence is not judged.
    pub silent_since: Option<DateTime<Utc>>,
    /// Requeues the leads that can be repaired.
    pub repair: bool,
    /// The moment of this reconciliation.
    pub now: DateTime<Utc>,
}

/// A lead that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeadDifference {
    pub id: String,
    pub client_id: String,
    pub verdict: LeadVerdict,
    pub detail: String,
}

/// Compares all leads; `each` receives those that do not match, in the order of their ids (as the source sorts them).
///
/// # Errors
/// [`crate::error::SetupError`] when the source does not fit the settings; the databases' errors; those of `each`.
pub async fn reconcile(
    crm: &ConnectedCrm,
    state: &StateDb,
    options: ReconcileOptions,
    progress: &tally::RunTally,
    each: impl FnMut(LeadDifference) -> anyhow::Result<()>,
) -> anyhow::Result<ReconcileReport> {
    let now = options.now;
    let fitting = crm.fitting().await?;
    let doubts = MergeInterest::Doubts(DoubtedLeads { silent_since: options.silent_since });
    let merge =
        RowMerge::begin(crm, state, &fitting, MergeRequest { scope: ReadScope::All, interest: doubts, now }).await;
    let mut merge = merge.map_err(|error| crm.explained(error))?;
    let rules = VerdictRules { began_at: now, silent_since: options.silent_since };
    let mut walk = ReconcileWalk {
        state,
        options,
        rules,
        tally: ReportTally::default(),
        repaired: RepairedLeads::default(),
        now,
        each,
    };
    let (mut batch, mut looked_at) = (Vec::with_capacity(BATCH_ROWS), 0);
    while let Some(item) = merge.next().await.map_err(|error| crm.explained(error))? {
        match item {
            MergeItem::Quiet => {}
            MergeItem::Missing(known) => batch.push((known.lead, None)),
            MergeItem::Row(mapped, _) => {
                looked_at += 1;
                batch.push((mapped.lead.clone(), Some(*mapped)));
            }
        }
        if batch.len() >= BATCH_ROWS && merge.is_in_order() {
            walk.judge(&mut batch, merge.order()).await?;
        }
        progress.set_rows(merge.rows());
    }
    walk.judge(&mut batch, merge.order()).await?;
    // The other leads are settled, and their rows are unchanged.
    walk.tally.matched(merge.leads() - looked_at - merge.erased());
    walk.tally.erased(merge.erased());
    if walk.repaired.read_again > 0 {
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    let repaired = options.repair.then_some(walk.repaired);
    Ok(walk.tally.report(now, options.silent_since, repaired))
}

/// A running reconciliation.
struct ReconcileWalk<'a, F> {
    state: &'a StateDb,
    options: ReconcileOptions,
    rules: VerdictRules,
    tally: ReportTally,
    repaired: RepairedLeads,
    now: DateTime<Utc>,
    each: F,
}

impl<F: FnMut(LeadDifference) -> anyhow::Result<()>> ReconcileWalk<'_, F> {
    /// A few statements per batch.
    async fn judge(&mut self, batch: &mut Vec<(LeadId, Option<MappedRow>)>, order: IdOrder) -> anyhow::Result<()> {
        let mut batch = std::mem::take(batch);
        batch.sort_by(|(a, _), (b, _)| order.compare(a.as_pair(), b.as_pair()));
        let leads: Vec<LeadId> = batch.iter().map(|(lead, _)| lead.clone()).collect();
        let facts = facts::of(self.state, &leads).await?;
        let mut judged: Vec<(LeadId, Option<MappedRow>, JudgedLead)> = Vec::with_capacity(batch.len());
        for (lead, mapped) in batch {
            if let Some(verdict) = judge(row_of(mapped.as_ref()), facts.get(&lead), self.rules) {
                judged.push((lead, mapped, verdict));
            }
        }
        Self::name_differences(self.state, &mut judged).await?;
        if self.options.repair {
            self.repair(&judged, &facts).await?;
        }
        for (lead, _, judged) in judged {
            self.tally.add(&lead, &judged);
            if judged.verdict != LeadVerdict::Matched {
                let LeadId { id, client_id } = lead;
                (self.each)(LeadDifference { id, client_id, verdict: judged.verdict, detail: judged.detail })?;
            }
        }
        Ok(())
    }

    /// For stale leads: the names of the keys that differ.
    async fn name_differences(
        state: &StateDb,
        judged: &mut [(LeadId, Option<MappedRow>, JudgedLead)],
    ) -> anyhow::Result<()> {
        let stale: Vec<LeadId> =
            judged.iter().filter(|(_, _, j)| j.verdict == LeadVerdict::Stale).map(|(lead, ..)| lead.clone()).collect();
        let delivered = lead::delivered(state, &stale).await?;
        for (lead, mapped, judged) in judged {
            let (Some(old), Some(Ok(new))) = (delivered.get(lead), mapped.as_ref().map(|mapped| &mapped.desired))
            else {
                continue;
            };
            let keys: Vec<String> = changes(&object(old), &object(new)).into_keys().collect();
            if !keys.is_empty() {
                judged.detail = format!(
                    "{} {}; {}",
                    keys.join(", "),
                    if keys.len() == 1 { "differs" } else { "differ" },
                    judged.detail
                );
            }
        }
        Ok(())
    }

    async fn repair(
        &mut self,
        judged: &[(LeadId, Option<MappedRow>, JudgedLead)],
        facts: &std::collections::HashMap<LeadId, LeadFacts>,
    ) -> anyhow::Result<()> {
        let of = |wanted: fn(LeadVerdict) -> bool| -> Vec<LeadId> {
            judged.iter().filter(|(_, _, j)| wanted(j.verdict)).map(|(lead, ..)| lead.clone()).collect()
        };
        let unread = of(|verdict| matches!(verdict, LeadVerdict::NeverSent | LeadVerdict::Stale));
        let known: Vec<LeadId> = unread.iter().filter(|lead| facts.contains_key(lead)).cloned().collect();
        facts::doubt(self.state, &known).await?;
        self.repaired.read_again += unread.len() as u64;
        self.repaired.send_again +=
            facts::send_again(self.state, &of(|verdict| verdict == LeadVerdict::Ambiguous), self.now).await?;
        Ok(())
    }
}

fn row_of(mapped: Option<&MappedRow>) -> RowState<'_> {
    match mapped {
        None => RowState::Missing,
        Some(mapped) => match &mapped.desired {
            Ok(_) => RowState::Content(mapped.fingerprint()),
            Err(reasons) => RowState::Invalid(reasons),
        },
    }
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}
