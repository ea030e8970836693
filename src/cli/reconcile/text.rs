//! The reconciliation as text: totals first, then leads that need the operator, by reason.

use std::fmt::Write as _;

use crate::cli::table;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::reconcile::report::{ReconcileReport, VerdictGroup};
use crate::rules::verdict::LeadVerdict;

pub fn text(report: &ReconcileReport, ignored: &[LeadVerdict]) -> String {
    let mut text = String::new();
    let differences = report.differences(ignored);
    let leads = report.leads();
    let assumed = report.total(LeadVerdict::Assumed);
    let _ = match (leads, differences) {
        (0, _) => writeln!(text, "There are no leads: the CRM has none, and none was ever sent."),
        (_, 0) if assumed > 0 => {
            writeln!(
                text,
                "{leads} leads: no difference is known, and {assumed} of them are only assumed known to Conversica."
            )
        }
        (_, 0) => writeln!(text, "All {leads} leads agree."),
        (_, 1) => writeln!(text, "{leads} leads; 1 needs a look."),
        (_, _) => writeln!(text, "{leads} leads; {differences} need a look."),
    };
    text.push('\n');
    for verdict in LeadVerdict::ALL {
        let total = report.total(verdict);
        if total > 0 || verdict == LeadVerdict::Matched {
            let note = if ignored.contains(&verdict) { " (ignored)" } else { "" };
            let _ = writeln!(text, "{total:>10}  {:<12} {}{note}", verdict.name(), verdict.meaning());
        }
    }
    if report.erased > 0 {
        let _ = writeln!(text, "{:>10}  {:<12} nothing is made of their rows; not judged", report.erased, "(erased)");
    }
    let groups: Vec<&VerdictGroup> = report.groups.iter().filter(|group| !ignored.contains(&group.verdict)).collect();
    if !groups.is_empty() {
        text.push_str("\nWhat to do\n");
    }
    for group in groups {
        let _ = writeln!(text, "\n  {}: {}", group.verdict.name(), printable(&group.reason));
        let _ =
            writeln!(text, "    {}: {}", table::leads(i64::try_from(group.leads).unwrap_or(i64::MAX)), examples(group));
        let _ = writeln!(text, "    {}", group.cure);
    }
    if let Some(repaired) = report.repaired {
        text.push_str("\nRepaired\n");
        if repaired.read_again == 0 && repaired.send_again == 0 {
            text.push_str("  No lead had to be queued again.\n");
        }
        if repaired.read_again > 0 {
            let _ = writeln!(
                text,
                "  {} will be read anew: the next poll of `run` or `once` compares every row, and sends as it always does, guards \
                 included.",
                table::leads(i64::try_from(repaired.read_again).unwrap_or(i64::MAX))
            );
        }
        if repaired.send_again > 0 {
            let _ = writeln!(
                text,
                "  {} may have arrived (unknown): due now, with the same content.",
                table::leads(i64::try_from(repaired.send_again).unwrap_or(i64::MAX))
            );
        }
    }
    if report.silent_since.is_none() && leads > 0 {
        text.push_str(
            "\nWhether Conversica works these leads was not judged: nothing is received here ([receive]), or it was not asked \
             for (--unconfirmed-after).\n",
        );
    }
    text
}

/// The first leads of a group, and the number of the others.
pub(super) fn examples(group: &VerdictGroup) -> String {
    let names: Vec<String> = group.examples.iter().map(name).collect();
    let more = group.leads - group.examples.len() as u64;
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

fn name(lead: &LeadId) -> String {
    if lead.client_id.is_empty() {
        return printable(&lead.id).into_owned();
    }
    format!("{} (client {})", printable(&lead.id), printable(&lead.client_id))
}
