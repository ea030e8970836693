//! Formats numbers for Prometheus: its own text format 0.0.4, or OpenMetrics 1.0.0 for a scraper that asks for it. Pure.
//!
//! Written by hand: a registry (such as prometheus-client's) keeps numbers in the process and writes one of the two formats; here
//! most numbers are read from the state on request, and both formats are served.

use std::fmt::Write as _;

use crate::histogram::{BOUNDS, ObservedHistogram};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    Text,
    OpenMetrics,
}

impl MetricsFormat {
    /// The format for a scraper's `Accept` header: OpenMetrics if it is named and preferred no less than plain text.
    pub fn accepted(accept: &str) -> Self {
        let wanted = |name: &str, version: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(name));
                let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
                let value = |key: &str| parameters.iter().find(|(name, _)| name.trim() == key).map(|(_, v)| v.trim());
                let fits = is_named && value("version").is_none_or(|have| have.trim_matches('"') == version);
                fits.then(|| value("q").map_or(Some(1.0), |q| q.parse::<f64>().ok())).flatten()
            });
            ranges.fold(0.0, f64::max)
        };
        let openmetrics = wanted("application/openmetrics-text", "1.0.0");
        if openmetrics > 0.0 && openmetrics >= wanted("text/plain", "0.0.4") {
            MetricsFormat::OpenMetrics
        } else {
            MetricsFormat::Text
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
            MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A value, with a label if the metric has several. Labels are our own texts and need no escaping.
pub type MetricSample<'a> = (Option<(&'static str, &'a str)>, f64);

/// Units at the end of names, which OpenMetrics wants to have declared.
const UNITS: [&str; 2] = ["seconds", "bytes"];

#[derive(Debug)]
pub struct MetricsText {
    format: MetricsFormat,
    text: String,
}

impl MetricsText {
    pub fn new(format: MetricsFormat) -> Self {
        Self { format, text: String::new() }
    }

    pub fn gauge<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = MetricSample<'a>>) {
        self.head(name, name, "gauge", help);
        self.samples(name, samples);
    }

    /// The name without `_total`, which the samples end with.
    pub fn counter<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = MetricSample<'a>>) {
        let total = format!("{name}_total");
        self.head(name, &total, "counter", help);
        self.samples(&total, samples);
    }

    /// One histogram per value of the label.
    pub fn histogram(&mut self, name: &str, help: &str, label: &str, each: &[(&str, ObservedHistogram)]) {
        self.head(name, name, "histogram", help);
        for (word, observed) in each {
            let label = format!("{label}=\"{word}\"");
            for (bound, up_to) in BOUNDS.iter().zip(observed.up_to) {
                // Both formats write a decimal point: the label identifies the series.
                let _ = writeln!(self.text, "{name}_bucket{{{label},le=\"{bound:?}\"}} {up_to}");
            }
            let _ = writeln!(self.text, "{name}_bucket{{{label},le=\"+Inf\"}} {}", observed.count);
            let _ = writeln!(self.text, "{name}_sum{{{label}}} {}", observed.sum_seconds);
            let _ = writeln!(self.text, "{name}_count{{{label}}} {}", observed.count);
        }
    }

    pub fn finish(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// Plain text names a counter like its samples; OpenMetrics omits their `_total`.
    fn head(&mut self, name: &str, plain: &str, kind: &str, help: &str) {
        let name = if self.format == MetricsFormat::Text { plain } else { name };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if self.format == MetricsFormat::OpenMetrics
            && let Some(unit) = UNITS.iter().find(|unit| name.ends_with(&format!("_{unit}")))
        {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    fn samples<'a>(&mut self, name: &str, samples: impl IntoIterator<Item = MetricSample<'a>>) {
        for (label, value) in samples {
            // Rust writes an `f64` without an exponent.
            let _ = match label {
                Some((label, word)) => writeln!(self.text, "{name}{{{label}=\"{word}\"}} {value}"),
                None => writeln!(self.text, "{name} {value}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        for (accept, format) in [
            ("", MetricsFormat::Text),
            ("*/*", MetricsFormat::Text),
            ("text/plain;version=0.0.4", MetricsFormat::Text),
            ("application/openmetrics-text", MetricsFormat::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", MetricsFormat::Text),
            ("application/openmetrics-text; version=1.0.0; q=0", MetricsFormat::Text),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                MetricsFormat::OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4", MetricsFormat::Text),
            ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6", MetricsFormat::OpenMetrics),
            ("application/openmetrics-text;version=1.0.0;q=much", MetricsFormat::Text),
        ] {
            assert_eq!(MetricsFormat::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn both_formats_say_the_same_in_their_own_way() {
        let write = |format| {
            let mut exposition = MetricsText::new(format);
            exposition.counter("sent", "What was sent.", [(Some(("class", "accepted")), 7.0)]);
            exposition.gauge("wait_seconds", "How long.", [(None, 0.25)]);
            exposition.finish()
        };
        assert_eq!(
            write(MetricsFormat::Text),
            "# HELP sent_total What was sent.\n# TYPE sent_total counter\nsent_total{class=\"accepted\"} 7\n\
             # HELP wait_seconds How long.\n# TYPE wait_seconds gauge\nwait_seconds 0.25\n"
        );
        assert_eq!(
            write(MetricsFormat::OpenMetrics),
            "# HELP sent What was sent.\n# TYPE sent counter\nsent_total{class=\"accepted\"} 7\n\
             # HELP wait_seconds How long.\n# TYPE wait_seconds gauge\n# UNIT wait_seconds seconds\nwait_seconds 0.25\n# EOF\n"
        );
    }
}
