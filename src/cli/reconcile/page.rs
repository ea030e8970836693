//! The reconciliation as one page for a browser, complete in itself: no network, no script, fit to be printed.

use askama::Template;
use chrono::{Days, NaiveDate};

use super::text::examples;
use crate::cli::table::number;
use crate::conversica::outcome::Class;
use crate::reconcile::report::{Group, Report};
use crate::reconcile::verdict::Verdict;
use crate::state::outcome::Stretch;

#[derive(Template)]
#[template(path = "cli/reconcile/page.html", config = ".askama.toml")]
struct Page {
    generated_at: String,
    headline: String,
    agrees: bool,
    totals: Vec<Total>,
    groups: Vec<Shown>,
    chart: Chart,
    judges_silence: bool,
    repaired: Option<(u64, u64)>,
}

struct Total {
    name: &'static str,
    meaning: &'static str,
    leads: String,
    /// Of the widest, in percent.
    width: f64,
    is_matched: bool,
}

struct Shown {
    verdict: &'static str,
    meaning: &'static str,
    reason: String,
    leads: String,
    examples: String,
    cure: String,
}

/// Outcomes a day, stacked; in the units of its own picture.
struct Chart {
    bars: Vec<Bar>,
    /// Class, and how many in all days.
    classes: Vec<(&'static str, String)>,
    /// The highest day.
    most: String,
    first: String,
    last: String,
}

struct Bar {
    class: &'static str,
    x: f64,
    y: f64,
    height: f64,
    says: String,
}

/// Width of a day, and height of the highest.
const DAY: f64 = 24.0;
const HEIGHT: f64 = 160.0;
const DAYS: u64 = 30;

/// # Errors
/// Those of the template.
pub fn page(report: &Report, ignored: &[Verdict], outcomes: &[Stretch]) -> anyhow::Result<String> {
    let differences = report.differences(ignored);
    let headline = match (report.leads(), differences) {
        (0, _) => "There are no leads yet".to_owned(),
        (leads, 0) => format!("All {} leads agree", number(leads)),
        (leads, 1) => format!("1 of {} leads needs a look", number(leads)),
        (leads, _) => format!("{} of {} leads need a look", number(differences), number(leads)),
    };
    let most = report.totals.values().copied().max().unwrap_or(0).max(1);
    let totals = Verdict::ALL.into_iter().filter(|verdict| report.total(*verdict) > 0).map(|verdict| Total {
        name: verdict.name(),
        meaning: verdict.meaning(),
        leads: number(report.total(verdict)),
        width: share(report.total(verdict), most) * 100.0,
        is_matched: verdict == Verdict::Matched,
    });
    let groups = report.groups.iter().filter(|group| !ignored.contains(&group.verdict)).map(shown);
    let page = Page {
        generated_at: report.generated_at.format("%-d %B %Y, %H:%M UTC").to_string(),
        headline,
        agrees: differences == 0,
        totals: totals.collect(),
        groups: groups.collect(),
        chart: chart(report.generated_at.date_naive(), outcomes),
        judges_silence: report.silent_since.is_some(),
        repaired: report.repaired.map(|repaired| (repaired.read_again, repaired.send_again)),
    };
    Ok(page.render()?)
}

fn shown(group: &Group) -> Shown {
    Shown {
        verdict: group.verdict.name(),
        meaning: group.verdict.meaning(),
        reason: group.reason.clone(),
        leads: number(group.leads),
        examples: examples(group),
        cure: group.cure.replace('`', ""),
    }
}

/// The last days up to `today`, whether anything happened on them or not.
fn chart(today: NaiveDate, outcomes: &[Stretch]) -> Chart {
    let first = today.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(today);
    let on = |day: NaiveDate, class: Class| -> u64 {
        let found = outcomes.iter().find(|outcome| outcome.at.date_naive() == day && outcome.class == class);
        found.map_or(0, |outcome| u64::try_from(outcome.count).unwrap_or(0))
    };
    let days: Vec<NaiveDate> = first.iter_days().take_while(|day| *day <= today).collect();
    let of_day = |day: &NaiveDate| Class::ALL.into_iter().map(|class| on(*day, class)).sum::<u64>();
    let most = days.iter().map(of_day).max().unwrap_or(0);
    let mut bars = Vec::new();
    for (place, day) in days.iter().enumerate() {
        let mut y = HEIGHT;
        for class in Class::ALL {
            let count = on(*day, class);
            if count == 0 {
                continue;
            }
            // A single failure among thousands is still seen.
            let height = (share(count, most.max(1)) * HEIGHT).max(1.5);
            y -= height;
            #[expect(clippy::cast_precision_loss, reason = "thirty days")]
            let x = place as f64 * DAY;
            let says = format!("{}: {} {}", day.format("%-d %B"), number(count), class.name());
            bars.push(Bar { class: class.name(), x, y: y.max(0.0), height, says });
        }
    }
    let total = |class: Class| days.iter().map(|day| on(*day, class)).sum::<u64>();
    let classes = Class::ALL.into_iter().map(|class| (class.name(), number(total(class))));
    Chart {
        bars,
        classes: classes.collect(),
        most: number(most),
        first: first.format("%-d %B").to_string(),
        last: today.format("%-d %B").to_string(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "lengths in a picture")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_stack_that_fits_the_picture_and_a_day_without_outcomes_is_empty() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
        let on = |day: u64, class, count| {
            let at = (today - Days::new(day)).and_time(chrono::NaiveTime::MIN).and_utc();
            Stretch { at, class, count }
        };
        let outcomes = [on(0, Class::Accepted, 300), on(0, Class::Rejected, 100), on(2, Class::Accepted, 200)];
        let chart = chart(today, &outcomes);
        assert_eq!((chart.most.as_str(), chart.bars.len()), ("400", 3));
        assert_eq!((chart.first.as_str(), chart.last.as_str()), ("25 October", "23 November"));
        let today: Vec<&Bar> = chart.bars.iter().filter(|bar| (bar.x - 29.0 * DAY).abs() < 0.1).collect();
        assert_eq!(today.len(), 2);
        assert!((today.iter().map(|bar| bar.height).sum::<f64>() - HEIGHT).abs() < 0.1);
        assert!(chart.bars.iter().all(|bar| bar.y >= 0.0 && bar.y + bar.height <= HEIGHT + 0.1));
        assert!(chart.bars[1].says.contains("23 November") || chart.bars[1].says.contains("21 November"));
    }
}
