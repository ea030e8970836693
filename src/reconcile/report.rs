//! The result of a reconciliation: totals, and the leads that need the operator, grouped by reason. Pure; its size does not grow
//! with the number of leads.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::conversica::lead::LeadId;
use crate::rules::hold_reason::advice;
use crate::rules::verdict::{JudgedLead, LeadVerdict};

/// Leads named per group.
const EXAMPLES: usize = 3;
/// Distinct reasons; leads with further ones are counted together, by verdict.
const REASONS: usize = 200;
/// The reason under which those are counted.
pub const OTHER_REASONS: &str = "other reasons";

/// A finished reconciliation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReconcileReport {
    pub generated_at: DateTime<Utc>,
    /// Verdict → leads; all verdicts are present.
    pub totals: BTreeMap<LeadVerdict, u64>,
    /// All but `matched`; the largest first in each verdict.
    pub groups: Vec<VerdictGroup>,
    /// Leads accepted before this time should have been heard of; `None` where that was not checked.
    pub silent_since: Option<DateTime<Utc>>,
    /// Rows of erased people: they make no leads and get no verdict.
    pub erased: u64,
    /// The result of `--repair`; `None` without it.
    pub repaired: Option<RepairedLeads>,
}

/// Leads of one verdict for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictGroup {
    pub verdict: LeadVerdict,
    pub reason: String,
    /// A lead with several reasons counts under each.
    pub leads: u64,
    /// The first leads of the group.
    pub examples: Vec<LeadId>,
    /// The remedy.
    pub cure: String,
}

/// The requeued leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RepairedLeads {
    /// The next poll reads them again; it compares every row.
    pub read_again: u64,
    /// Sent again with the same content, now.
    pub send_again: u64,
}

impl ReconcileReport {
    /// Leads of that verdict.
    pub fn total(&self, verdict: LeadVerdict) -> u64 {
        self.totals.get(&verdict).copied().unwrap_or(0)
    }

    /// Leads with any verdict.
    pub fn leads(&self) -> u64 {
        self.totals.values().sum()
    }

    /// Leads with another verdict than `matched`, `assumed` and the ignored ones.
    pub fn differences(&self, ignored: &[LeadVerdict]) -> u64 {
        let counts = |verdict: &LeadVerdict| !verdict.agrees() && !ignored.contains(verdict);
        self.totals.iter().filter(|(verdict, _)| counts(verdict)).map(|(_, leads)| leads).sum()
    }
}

/// A report under construction.
#[derive(Debug, Default)]
pub struct ReportTally {
    totals: BTreeMap<LeadVerdict, u64>,
    groups: BTreeMap<(LeadVerdict, String), (u64, Vec<LeadId>)>,
    erased: u64,
}

impl ReportTally {
    /// Adds matching leads.
    pub fn matched(&mut self, leads: u64) {
        *self.totals.entry(LeadVerdict::Matched).or_default() += leads;
    }

    /// Adds rows of erased people.
    pub fn erased(&mut self, rows: u64) {
        self.erased += rows;
    }

    pub fn add(&mut self, lead: &LeadId, judged: &JudgedLead) {
        *self.totals.entry(judged.verdict).or_default() += 1;
        if judged.verdict == LeadVerdict::Matched {
            return;
        }
        for reason in &judged.reasons {
            let mut key = (judged.verdict, reason.clone());
            if self.groups.len() >= REASONS && !self.groups.contains_key(&key) {
                key.1 = OTHER_REASONS.to_owned();
            }
            let (leads, examples) = self.groups.entry(key).or_default();
            *leads += 1;
            if examples.len() < EXAMPLES {
                examples.push(lead.clone());
            }
        }
    }

    pub fn report(
        self,
        generated_at: DateTime<Utc>,
        silent_since: Option<DateTime<Utc>>,
        repaired: Option<RepairedLeads>,
    ) -> ReconcileReport {
        let group = |((verdict, reason), (leads, examples)): ((LeadVerdict, String), _)| VerdictGroup {
            cure: cure(verdict, &reason),
            verdict,
            reason,
            leads,
            examples,
        };
        let mut groups: Vec<VerdictGroup> = self.groups.into_iter().map(group).collect();
        groups.sort_by_key(|group| (group.verdict, std::cmp::Reverse(group.leads)));
        let totals =
            LeadVerdict::ALL.into_iter().map(|verdict| (verdict, self.totals.get(&verdict).copied().unwrap_or(0)));
        ReconcileReport { generated_at, totals: totals.collect(), groups, silent_since, erased: self.erased, repaired }
    }
}

/// The operator's remedy for leads of this verdict.
pub fn cure(verdict: LeadVerdict, reason: &str) -> String {
    match verdict {
        LeadVerdict::Matched => "nothing".to_owned(),
        LeadVerdict::Assumed => {
            "nothing, if Conversica knows them: what changes from now on is sent. If it does not, nobody has written to them; ask \
             Conversica (your account manager, or apisupport@conversica.com) for a list, and compare"
                .to_owned()
        }
        LeadVerdict::Suppressed => {
            "nothing: they do not want to be written to. `conversica-sync suppress remove` takes people off the list".to_owned()
        }
        LeadVerdict::NeverSent | LeadVerdict::Stale => {
            "`conversica-sync reconcile --repair`: the next poll reads them anew, and sends them as all else is sent".to_owned()
        }
        LeadVerdict::Pending => {
            "nothing while `run` works; `conversica-sync status` says whether it does, and whether it is halted".to_owned()
        }
        LeadVerdict::Held => advice(reason).to_owned(),
        LeadVerdict::Invalid => "fix the rows in the CRM; they are sent by themselves then".to_owned(),
        LeadVerdict::Rejected => {
            "fix the rows in the CRM, or the account and then `conversica-sync retry --status rejected`; `conversica-sync \
             lead ID` shows what Conversica said"
                .to_owned()
        }
        LeadVerdict::Exhausted => "fix the cause, then `conversica-sync retry --status exhausted`".to_owned(),
        LeadVerdict::Ambiguous => {
            "they are sent again by themselves; at once with `conversica-sync reconcile --repair`. The same lead twice is an \
             update"
                .to_owned()
        }
        LeadVerdict::Gone => {
            "nothing, if they were deleted on purpose; with [source] on_delete = \"stop_messaging\" Conversica is told to stop"
                .to_owned()
        }
        LeadVerdict::Unconfirmed => {
            "ask Conversica (your account manager, or apisupport@conversica.com) whether it has them and where it posts its Lead \
             Updates to; `conversica-sync status` says whether any have come"
                .to_owned()
        }
        LeadVerdict::NotWorked => not_worked(reason),
    }
}

/// The cure by Conversica's own reason.
fn not_worked(reason: &str) -> String {
    let reason = reason.to_ascii_lowercase();
    let cure = if reason.starts_with("excluded") {
        "a rule of the account leaves them out: change the rule in Conversica, or what the CRM says (source, status, owner)"
    } else if reason.contains("duplicate") {
        "Conversica has the same person under another id: merge them in the CRM, or leave one out"
    } else if reason.contains("email") || reason.contains("bounced") {
        "the address does not work: fix it in the CRM, and the change is sent"
    } else if reason.contains("no rep") {
        "no owner was sent: map repName and give the lead an owner in the CRM"
    } else if reason.starts_with("unworkable") {
        "Conversica cannot write to them: fix what it names in the CRM"
    } else if reason.starts_with("lead stopped") {
        "nothing: the person wants no more messages, and that counts"
    } else if reason.starts_with("client stopped") {
        "nothing, if your people stopped it on purpose; otherwise they start it again in Conversica"
    } else {
        "nothing, mostly: Conversica has come to an end with them"
    };
    cure.to_owned()
}
