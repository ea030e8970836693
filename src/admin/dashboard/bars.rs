//! Bars over time as a picture with axes, for pages of the dashboard: what is counted, in periods of one length. Pure.

use chrono::{DateTime, Utc};

use crate::chart::{ChartBar, HEIGHT, WIDTH, share};
use crate::wording::number;

/// Bars, with what stands beside and below them.
#[derive(Debug, Clone)]
pub struct BarPicture {
    pub id: &'static str,
    pub title: String,
    /// What the highest bar has, and the half of it.
    pub most: String,
    pub half: String,
    pub bars: Vec<ChartBar>,
    /// The beginnings of some periods, at equal distances.
    pub ticks: Vec<String>,
    /// The picture in words.
    pub says: String,
}

/// A period and what was counted in it.
pub type BarPeriod = (DateTime<Utc>, u64);

impl BarPicture {
    /// `format` is that of a period's beginning, and `unit` what is counted.
    pub fn of(id: &'static str, title: &str, periods: &[BarPeriod], format: &str, unit: &str) -> Self {
        let most = periods.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let count = u32::try_from(periods.len()).unwrap_or(u32::MAX).max(1);
        let width = WIDTH / f64::from(count);
        let bar = |(place, (at, count)): (u32, &BarPeriod)| {
            let height = (share(*count, most.max(1)) * HEIGHT).max(1.5);
            ChartBar {
                class: "plain",
                x: f64::from(place) * width,
                y: HEIGHT - height,
                width: width * 0.75,
                height,
                says: format!("{}: {} {unit}", at.format(format), number(*count)),
            }
        };
        let shown = (0..count).zip(periods).filter(|(_, (_, count))| *count > 0);
        let all: u64 = periods.iter().map(|(_, count)| *count).sum();
        let highest = periods.iter().rev().max_by_key(|(_, count)| *count);
        let peak = highest.map(|(at, count)| format!(", most on {}: {}", at.format(format), number(*count)));
        Self {
            id,
            title: title.to_owned(),
            most: number(most),
            half: if most > 1 { number(most / 2) } else { String::new() },
            bars: shown.map(bar).collect(),
            ticks: ticks(periods, format),
            says: format!("{title}: {} {unit}{}", number(all), peak.filter(|_| all > 0).unwrap_or_default()),
        }
    }
}

/// The beginnings of up to five periods, the first and the last among them.
pub fn ticks(periods: &[BarPeriod], format: &str) -> Vec<String> {
    let last = periods.len().saturating_sub(1);
    let parts = last.min(4);
    let place = |part: usize| (last * part).checked_div(parts).unwrap_or(0);
    let shown = (0..=parts).filter_map(|part| periods.get(place(part)));
    shown.map(|(at, _)| at.format(format).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn every_period_has_its_place_and_the_axis_names_the_first_and_the_last() {
        let day = |n: i64| DateTime::UNIX_EPOCH + TimeDelta::days(n);
        let periods: Vec<BarPeriod> = (0..30).map(|n| (day(n), u64::try_from(n % 3).unwrap())).collect();
        let picture = BarPicture::of("hot", "Hot leads a day", &periods, "%-d %b", "hot leads");
        assert_eq!((picture.bars.len(), picture.most.as_str(), picture.half.as_str()), (20, "2", "1"));
        assert_eq!(picture.ticks, ["1 Jan", "8 Jan", "15 Jan", "22 Jan", "30 Jan"]);
        assert_eq!(picture.says, "Hot leads a day: 30 hot leads, most on 3 Jan: 2");
        assert!(picture.bars.iter().all(|bar| bar.x + bar.width <= WIDTH && bar.y >= 0.0));
        let none = BarPicture::of("hot", "Hot leads a day", &periods[..1], "%-d %b", "hot leads");
        assert_eq!((none.bars.len(), none.ticks.len(), none.says.as_str()), (0, 1, "Hot leads a day: 0 hot leads"));
    }
}
