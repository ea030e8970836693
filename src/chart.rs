//! Outcomes over time as stacked bars, in drawing units: the reconciliation's page and the dashboard draw them as SVG. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::outcome::OutcomeClass;
use crate::store::outcome::OutcomeStretch;
use crate::wording::number;

/// Outcomes per period, stacked.
#[derive(Debug, Clone)]
pub struct OutcomeChart {
    pub bars: Vec<ChartBar>,
    /// Each class with its total.
    pub classes: Vec<(&'static str, String)>,
    /// The total of the highest period.
    pub most: String,
    pub first: String,
    pub last: String,
}

#[derive(Debug, Clone)]
pub struct ChartBar {
    pub class: &'static str,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub says: String,
}

/// The time that a chart spans.
#[derive(Debug, Clone, Copy)]
pub struct ChartSpan {
    /// The beginning of its first period.
    pub first: DateTime<Utc>,
    pub step: TimeDelta,
    pub stretches: u32,
    /// The format for the beginning of a period.
    pub format: &'static str,
}

/// Width of the whole, and height of the highest bar.
pub const WIDTH: f64 = 720.0;
pub const HEIGHT: f64 = 160.0;

impl OutcomeChart {
    /// Every period has its place, even without outcomes.
    pub fn of(outcomes: &[OutcomeStretch], span: ChartSpan) -> Self {
        let place = |at: DateTime<Utc>| {
            let since = (at - span.first).num_seconds();
            let place = since.div_euclid(span.step.num_seconds().max(1));
            usize::try_from(place).ok().filter(|place| *place < span.stretches as usize)
        };
        let mut counts = vec![[0_u64; OutcomeClass::ALL.len()]; span.stretches as usize];
        for outcome in outcomes {
            let class = OutcomeClass::ALL.iter().position(|class| *class == outcome.class);
            if let (Some(place), Some(class)) = (place(outcome.at), class) {
                counts[place][class] += u64::try_from(outcome.count).unwrap_or(0);
            }
        }
        let most = counts.iter().map(|of_classes| of_classes.iter().sum::<u64>()).max().unwrap_or(0);
        let width = WIDTH / f64::from(span.stretches.max(1));
        let mut bars = Vec::new();
        for (stretch, of_classes) in (0..span.stretches).zip(&counts) {
            let at = (span.first + span.step * i32::try_from(stretch).unwrap_or(0)).format(span.format).to_string();
            let mut y = HEIGHT;
            for (class, count) in OutcomeClass::ALL.into_iter().zip(of_classes).filter(|(_, count)| **count > 0) {
                // A single failure among thousands stays visible.
                let height = (share(*count, most.max(1)) * HEIGHT).max(1.5);
                y -= height;
                bars.push(ChartBar {
                    class: class.name(),
                    x: f64::from(stretch) * width,
                    y: y.max(0.0),
                    width: width * 0.75,
                    height,
                    says: format!("{at}: {} {}", number(*count), class.name()),
                });
            }
        }
        let total = |class: usize| counts.iter().map(|of_classes| of_classes[class]).sum::<u64>();
        let classes = OutcomeClass::ALL.into_iter().enumerate().map(|(at, class)| (class.name(), number(total(at))));
        let last = span.first + span.step * i32::try_from(span.stretches.saturating_sub(1)).unwrap_or(0);
        Self {
            bars,
            classes: classes.collect(),
            most: number(most),
            first: span.first.format(span.format).to_string(),
            last: last.format(span.format).to_string(),
        }
    }
}

/// A part as a fraction of the whole.
#[expect(clippy::cast_precision_loss, reason = "lengths in a picture")]
pub fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, NaiveDate, NaiveTime};

    #[test]
    fn a_stretch_is_a_stack_that_fits_the_picture_and_one_without_outcomes_is_empty() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
        let day = |ago: u64| (today - Days::new(ago)).and_time(NaiveTime::MIN).and_utc();
        let on = |ago, class, count| OutcomeStretch { at: day(ago), class, count };
        let outcomes = [
            on(0, OutcomeClass::Accepted, 300),
            on(0, OutcomeClass::Rejected, 100),
            on(2, OutcomeClass::Accepted, 200),
            on(30, OutcomeClass::Accepted, 9000),
        ];
        let span = ChartSpan { first: day(29), step: TimeDelta::days(1), stretches: 30, format: "%-d %B" };
        let chart = OutcomeChart::of(&outcomes, span);
        assert_eq!((chart.most.as_str(), chart.bars.len()), ("400", 3), "what was before the first day is left out");
        assert_eq!((chart.first.as_str(), chart.last.as_str()), ("25 October", "23 November"));
        let today: Vec<&ChartBar> = chart.bars.iter().filter(|bar| (bar.x - 29.0 * 24.0).abs() < 0.1).collect();
        assert_eq!(today.len(), 2);
        assert!((today.iter().map(|bar| bar.height).sum::<f64>() - HEIGHT).abs() < 0.1);
        assert!(chart.bars.iter().all(|bar| bar.y >= 0.0 && bar.y + bar.height <= HEIGHT + 0.1));
        assert!(chart.bars.iter().all(|bar| bar.x + bar.width <= WIDTH));
        assert_eq!(chart.bars[0].says, "21 November: 200 accepted");
    }
}
