//! Reconciliation: goes over the CRM, what the state believes, the newest outcomes and what Conversica has said, and gives
//! each lead one verdict. Conversica has no way to be asked: what it holds is known from our own records only.
//!
//! Safe beside a running daemon: it reads the CRM in one snapshot and the state as it goes; where the state has moved on
//! since the snapshot, its word counts. Memory does not grow with the number of leads.

pub mod report;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::lead::{IdOrder, LeadId};
use crate::reconcile::report::{Repaired, Report, Tally};
use crate::rules::lead_facts::Facts;
use crate::rules::mapping::Mapped;
use crate::rules::read_scope::Scope;
use crate::rules::verdict::{Judged, Row, Rules, Verdict, judge};
use crate::send::merge::interest::Interest;
use crate::send::merge::{Item, Merge};
use crate::send::plan::changes;
use crate::send::tally;
use crate::source::crm::Crm;
use crate::source::read::BATCH_ROWS;
use crate::store::compare::Doubted;
use crate::store::control::{self, CompareAsked};
use crate::store::state_db::StateDb;
use crate::store::{facts, lead};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Leads that were taken before then ought to have been heard of; `None` where nothing can be heard.
    pub silent_since: Option<DateTime<Utc>>,
    /// Puts back in the queue what can be put back.
    pub repair: bool,
}

/// A lead that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub id: String,
    pub client_id: String,
    pub verdict: Verdict,
    pub detail: String,
}

/// Goes over everything; `each` is given the leads that do not match, in the order of their ids (as the source sorts them).
///
/// # Errors
/// [`crate::error::SetupError`] when the source does not fit the settings; the databases' errors; those of `each`.
pub async fn reconcile(
    crm: &Crm,
    state: &StateDb,
    options: Options,
    progress: &tally::Tally,
    now: DateTime<Utc>,
    each: impl FnMut(Line) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let fitting = crm.fitting().await?;
    let doubts = Interest::Doubts(Doubted { silent_since: options.silent_since });
    let merge = Merge::begin(crm, state, &fitting, Scope::All, doubts, now).await;
    let mut merge = merge.map_err(|error| crm.explained(error))?;
    let rules = Rules { began_at: now, silent_since: options.silent_since };
    let mut walk = Walk { state, options, rules, tally: Tally::default(), repaired: Repaired::default(), now, each };
    let (mut batch, mut looked_at) = (Vec::with_capacity(BATCH_ROWS), 0);
    while let Some(item) = merge.next().await.map_err(|error| crm.explained(error))? {
        match item {
            Item::Quiet => {}
            Item::Missing(known) => batch.push((known.lead, None)),
            Item::Row(mapped, _) => {
                looked_at += 1;
                batch.push((mapped.lead.clone(), Some(mapped)));
            }
        }
        if batch.len() >= BATCH_ROWS && merge.is_in_order() {
            walk.judge(&mut batch, merge.order()).await?;
        }
        progress.set_rows(merge.rows());
    }
    walk.judge(&mut batch, merge.order()).await?;
    // The others are settled, and their rows say what they said.
    walk.tally.matched(merge.leads() - looked_at - merge.erased());
    walk.tally.erased(merge.erased());
    if walk.repaired.read_again > 0 {
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    let repaired = options.repair.then_some(walk.repaired);
    Ok(walk.tally.report(now, options.silent_since, repaired))
}

/// A reconciliation under way.
struct Walk<'a, F> {
    state: &'a StateDb,
    options: Options,
    rules: Rules,
    tally: Tally,
    repaired: Repaired,
    now: DateTime<Utc>,
    each: F,
}

impl<F: FnMut(Line) -> anyhow::Result<()>> Walk<'_, F> {
    /// A few statements a batch.
    async fn judge(&mut self, batch: &mut Vec<(LeadId, Option<Mapped>)>, order: IdOrder) -> anyhow::Result<()> {
        let mut batch = std::mem::take(batch);
        batch.sort_by(|(a, _), (b, _)| order.compare(a.as_pair(), b.as_pair()));
        let leads: Vec<LeadId> = batch.iter().map(|(lead, _)| lead.clone()).collect();
        let facts = facts::of(self.state, &leads).await?;
        let mut judged: Vec<(LeadId, Option<Mapped>, Judged)> = Vec::with_capacity(batch.len());
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
            if judged.verdict != Verdict::Matched {
                let LeadId { id, client_id } = lead;
                (self.each)(Line { id, client_id, verdict: judged.verdict, detail: judged.detail })?;
            }
        }
        Ok(())
    }

    /// Of stale leads: the keys that differ, by name.
    async fn name_differences(state: &StateDb, judged: &mut [(LeadId, Option<Mapped>, Judged)]) -> anyhow::Result<()> {
        let stale: Vec<LeadId> =
            judged.iter().filter(|(_, _, j)| j.verdict == Verdict::Stale).map(|(lead, ..)| lead.clone()).collect();
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
        judged: &[(LeadId, Option<Mapped>, Judged)],
        facts: &std::collections::HashMap<LeadId, Facts>,
    ) -> anyhow::Result<()> {
        let of = |wanted: fn(Verdict) -> bool| -> Vec<LeadId> {
            judged.iter().filter(|(_, _, j)| wanted(j.verdict)).map(|(lead, ..)| lead.clone()).collect()
        };
        let unread = of(|verdict| matches!(verdict, Verdict::NeverSent | Verdict::Stale));
        let known: Vec<LeadId> = unread.iter().filter(|lead| facts.contains_key(lead)).cloned().collect();
        facts::doubt(self.state, &known).await?;
        self.repaired.read_again += unread.len() as u64;
        self.repaired.send_again +=
            facts::send_again(self.state, &of(|verdict| verdict == Verdict::Ambiguous), self.now).await?;
        Ok(())
    }
}

fn row_of(mapped: Option<&Mapped>) -> Row<'_> {
    match mapped {
        None => Row::Missing,
        Some(mapped) => match &mapped.desired {
            Ok(_) => Row::Content(mapped.fingerprint()),
            Err(reasons) => Row::Invalid(reasons),
        },
    }
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}
