//! The outcomes of sending over an hour, a day, a week or a month, and how long Conversica took to answer.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use super::bars::{BarPicture, ticks};
use super::frame::{PageFrame, QueryParameters, ShownMoment, away, moment, page};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::DashboardVisitor;
use crate::chart::{ChartSpan, OutcomeChart};
use crate::clock;
use crate::store::latency::{self, AnswerCover, AnswerTimes};
use crate::store::outcome;
use crate::store::state_db::StateDb;
use crate::wording::number;

/// A span of time and its periods.
struct ChartRange {
    name: &'static str,
    words: &'static str,
    /// Minutes in one bar, and bars.
    minutes: i64,
    bars: u32,
    each: &'static str,
    format: &'static str,
}

const RANGES: [ChartRange; 4] = [
    ChartRange { name: "hour", words: "hour", minutes: 2, bars: 30, each: "two minutes", format: "%H:%M" },
    ChartRange { name: "day", words: "day", minutes: 60, bars: 24, each: "an hour", format: "%H:%M" },
    ChartRange { name: "week", words: "week", minutes: 360, bars: 28, each: "six hours", format: "%-d %b %H:%M" },
    ChartRange { name: "month", words: "month", minutes: 1440, bars: 31, each: "a day", format: "%-d %b" },
];
const USUAL: usize = 1;

#[derive(Template)]
#[template(path = "admin/dashboard/charts.html", config = ".askama.toml")]
struct ChartsPage {
    frame: PageFrame,
    ranges: Vec<(String, &'static str, bool)>,
    words: &'static str,
    each: &'static str,
    chart: OutcomeChart,
    half: String,
    ticks: Vec<String>,
    says: String,
    latency: BarPicture,
    latency_says: String,
    at: ShownMoment,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    visitor: DashboardVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let place = RANGES.iter().position(|range| range.name == asked.get("range")).unwrap_or(USUAL);
    let (range, now) = (&RANGES[place], clock::now());
    let Some((chart, times)) = board.desk.window.read(async |db| Ok(read(db, range, now).await?)).await else {
        return away(&board, &visitor);
    };
    let ranges = RANGES
        .iter()
        .enumerate()
        .map(|(at, range)| (format!("/charts?range={}", range.name), range.words, at == place));
    let starts: Vec<(DateTime<Utc>, u64)> = range.starts(now).map(|at| (at, 0)).collect();
    let said: Vec<String> = chart.classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
    let shown = ChartsPage {
        frame: PageFrame::of(&board, &visitor, "Charts"),
        ranges: ranges.collect(),
        words: range.words,
        each: range.each,
        half: half(&chart),
        ticks: ticks(&starts, range.format),
        says: format!("The last {}: {}; at most {} in {}", range.words, said.join(", "), chart.most, range.each),
        chart,
        latency: latency_bars(range, &times, now),
        latency_says: latency_words(&times),
        at: moment(now, now),
    };
    page(StatusCode::OK, &shown)
}

fn half(chart: &OutcomeChart) -> String {
    let most: u64 = chart.most.replace(',', "").parse().unwrap_or(0);
    if most > 1 { number(most / 2) } else { String::new() }
}

impl ChartRange {
    /// The beginning of the first bar: the newest is still growing.
    fn first(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let length = self.minutes * 60;
        let newest = now.timestamp().div_euclid(length) * length;
        DateTime::from_timestamp(newest - length * i64::from(self.bars - 1), 0).unwrap_or(now)
    }

    fn starts(&self, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let (first, minutes) = (self.first(now), self.minutes);
        (0..i64::from(self.bars)).map(move |bar| first + TimeDelta::minutes(minutes * bar))
    }
}

async fn read(
    db: &StateDb,
    range: &ChartRange,
    now: DateTime<Utc>,
) -> Result<(OutcomeChart, AnswerTimes), sqlx::Error> {
    let first = range.first(now);
    let outcomes = outcome::by_stretch(db, first, range.minutes).await?;
    let span =
        ChartSpan { first, step: TimeDelta::minutes(range.minutes), stretches: range.bars, format: range.format };
    Ok((OutcomeChart::of(&outcomes, span), latency::durations(db, first).await?))
}

/// The duration within which nine in ten of the answers came, of each bar.
fn latency_bars(range: &ChartRange, times: &AnswerTimes, now: DateTime<Utc>) -> BarPicture {
    let step = TimeDelta::minutes(range.minutes);
    let bars: Vec<(DateTime<Utc>, u64)> = range
        .starts(now)
        .map(|start| {
            let of_bar = times.durations.iter().filter(|(at, _)| *at >= start && *at < start + step);
            (start, within(of_bar.map(|(_, duration)| *duration).collect(), 9))
        })
        .collect();
    BarPicture::of("latency", "Nine in ten answers came within so many milliseconds", &bars, range.format, "ms")
}

/// The duration that `tenths` of ten do not exceed; 0 without any.
fn within(mut durations: Vec<i64>, tenths: usize) -> u64 {
    durations.sort_unstable();
    let place = (durations.len() * tenths).div_ceil(10).saturating_sub(1);
    durations.get(place).and_then(|duration| u64::try_from(*duration).ok()).unwrap_or(0)
}

fn latency_words(times: &AnswerTimes) -> String {
    if times.durations.is_empty() {
        return "No answer in this time.".to_owned();
    }
    let all: Vec<i64> = times.durations.iter().map(|(_, duration)| *duration).collect();
    let of = match times.cover {
        AnswerCover::Newest => format!("the newest {}", number(all.len() as u64)),
        AnswerCover::Whole => number(all.len() as u64),
    };
    format!(
        "Half of the answers came within {} ms, nine in ten within {} ms ({of} attempts).",
        number(within(all.clone(), 5)),
        number(within(all, 9))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_ends_with_the_period_that_is_still_growing() {
        let now = DateTime::from_timestamp(1_800_000_059, 0).unwrap();
        for range in &RANGES {
            let starts: Vec<_> = range.starts(now).collect();
            let last = *starts.last().unwrap();
            assert_eq!(starts.len(), range.bars as usize);
            assert!(last <= now && now < last + TimeDelta::minutes(range.minutes), "{}", range.name);
            assert_eq!(starts[0].timestamp() % (range.minutes * 60), 0);
        }
    }

    #[test]
    fn nine_in_ten_do_not_exceed_it() {
        assert_eq!(within((1..=100).rev().collect(), 9), 90);
        assert_eq!(within((1..=100).collect(), 5), 50);
        assert_eq!((within(vec![7], 9), within(Vec::new(), 9)), (7, 0));
    }
}
