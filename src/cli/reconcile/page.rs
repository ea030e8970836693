//! The reconciliation as one self-contained HTML page: no network, no script, printable.

use askama::Template;
use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};

use super::text::examples;
use crate::chart::{ChartSpan, OutcomeChart, share};
use crate::cli::table::number;
use crate::reconcile::report::{ReconcileReport, VerdictGroup};
use crate::rules::verdict::LeadVerdict;
use crate::store::outcome::OutcomeStretch;

#[derive(Template)]
#[template(path = "cli/reconcile/page.html", config = ".askama.toml")]
struct ReportPage {
    generated_at: String,
    headline: String,
    agrees: bool,
    totals: Vec<VerdictTotal>,
    /// The note about leads that are only assumed known.
    assumed: Option<String>,
    groups: Vec<ShownLine>,
    chart: OutcomeChart,
    judges_silence: bool,
    repaired: Option<(u64, u64)>,
}

struct VerdictTotal {
    name: &'static str,
    meaning: &'static str,
    leads: String,
    /// Relative to the widest, in percent.
    width: f64,
    is_matched: bool,
}

struct ShownLine {
    verdict: &'static str,
    meaning: &'static str,
    reason: String,
    leads: String,
    examples: String,
    cure: String,
}

const DAYS: u32 = 30;

/// # Errors
/// The template's errors.
pub fn page(report: &ReconcileReport, ignored: &[LeadVerdict], outcomes: &[OutcomeStretch]) -> anyhow::Result<String> {
    let differences = report.differences(ignored);
    let headline = match (report.leads(), differences) {
        (0, _) => "There are no leads yet".to_owned(),
        (leads, 0) if report.total(LeadVerdict::Assumed) > 0 => format!(
            "No difference among {} leads; {} of them are only assumed known",
            number(leads),
            number(report.total(LeadVerdict::Assumed))
        ),
        (leads, 0) => format!("All {} leads agree", number(leads)),
        (leads, 1) => format!("1 of {} leads needs a look", number(leads)),
        (leads, _) => format!("{} of {} leads need a look", number(differences), number(leads)),
    };
    let most = report.totals.values().copied().max().unwrap_or(0).max(1);
    let totals =
        LeadVerdict::ALL.into_iter().filter(|verdict| report.total(*verdict) > 0).map(|verdict| VerdictTotal {
            name: verdict.name(),
            meaning: verdict.meaning(),
            leads: number(report.total(verdict)),
            width: share(report.total(verdict), most) * 100.0,
            is_matched: verdict == LeadVerdict::Matched,
        });
    let shown_groups = report.groups.iter().filter(|group| !ignored.contains(&group.verdict));
    let (assumed, groups): (Vec<&VerdictGroup>, Vec<&VerdictGroup>) =
        shown_groups.partition(|group| group.verdict.agrees());
    let assumed = assumed.first().map(|group| format!("Only assumed known: {}.", group.cure.replace('`', "")));
    let page = ReportPage {
        generated_at: report.generated_at.format("%-d %B %Y, %H:%M UTC").to_string(),
        headline,
        agrees: differences == 0,
        totals: totals.collect(),
        assumed,
        groups: groups.into_iter().map(shown).collect(),
        chart: chart(report.generated_at.date_naive(), outcomes),
        judges_silence: report.silent_since.is_some(),
        repaired: report.repaired.map(|repaired| (repaired.read_again, repaired.send_again)),
    };
    Ok(page.render()?)
}

fn shown(group: &VerdictGroup) -> ShownLine {
    ShownLine {
        verdict: group.verdict.name(),
        meaning: group.verdict.meaning(),
        reason: group.reason.clone(),
        leads: number(group.leads),
        examples: examples(group),
        cure: group.cure.replace('`', ""),
    }
}

/// The chart of the last days up to `today`.
fn chart(today: NaiveDate, outcomes: &[OutcomeStretch]) -> OutcomeChart {
    let first = today.checked_sub_days(Days::new(u64::from(DAYS) - 1)).unwrap_or(today);
    let first = first.and_time(NaiveTime::MIN).and_utc();
    OutcomeChart::of(outcomes, ChartSpan { first, step: TimeDelta::days(1), stretches: DAYS, format: "%-d %B" })
}
