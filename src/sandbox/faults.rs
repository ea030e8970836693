//! Faults that the sandbox plays on request: their kinds, their notation, and when one strikes. Pure.
//!
//! The dice are seeded, so that a run with the same seed and the same order of requests meets the same faults. This file must not
//! know about HTTP beyond status numbers; the server decides what a fault looks like on the wire.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::nearest::nearest;

/// Default number of refused passwords in a row that lock the account.
const LOCK_AFTER: u32 = 5;

/// Every name that may precede a `=`, for the message about an unknown one.
const NAMES: &[&str] =
    &["timeout", "cut", "drop", "refuse", "status_false", "login_page", "latency", "lock_after", "retry_after"];

/// The fault of a request, instead of an honest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFault {
    /// Answers with this status; the lead is not stored.
    Status(u16),
    /// Stores the lead, then never answers.
    Timeout,
    /// Stores the lead, then cuts the connection without an answer.
    Cut,
    /// Cuts the connection before anything is stored.
    Drop,
    /// Refuses a lead that has nothing wrong with it, with 400.
    Refuse,
    /// The same, with 200 and a body that says so.
    StatusFalse,
    /// Answers 200 with an HTML page in place of Conversica's answer; the lead is not stored.
    LoginPage,
}

/// The faults in play, read from text such as `500=5%,timeout=1%,latency=20ms..80ms,lock_after=5`.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Each with its share of the requests in percent; together at most 100.
    shares: Vec<(RequestFault, f64)>,
    /// Shortest and longest wait before a lead is handled.
    latency: Option<(Duration, Duration)>,
    /// Refused passwords in a row that lock the account; 0 never locks.
    pub lock_after: u32,
    /// Seconds, sent as `Retry-After` with 429 and 503.
    pub retry_after: Option<u64>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self { shares: Vec::new(), latency: None, lock_after: LOCK_AFTER, retry_after: None }
    }
}

impl FaultPlan {
    /// Whether every request is answered at once and honestly.
    pub fn never_strike(&self) -> bool {
        self.shares.is_empty() && self.latency.is_none()
    }
}

/// The error in a text of faults, and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultsError {
    #[error("`{0}` has no value: write it as name=value, for example 500=5% or latency=20ms..80ms")]
    NoValue(String),
    #[error("unknown fault `{name}`: did you mean `{nearest}`? Known are {known} and status numbers such as 500",
        known = NAMES.join(", "))]
    Unknown { name: String, nearest: &'static str },
    #[error("`{0}` is no status that a fault can have: use 300 to 599")]
    Status(String),
    #[error("`{name}={value}` needs a percentage from 0% to 100%, for example {name}=5%")]
    Share { name: String, value: String },
    #[error("the shares of all faults add up to {0}%: at most 100% is possible")]
    TooMuch(String),
    #[error("`{name}={value}` needs a duration, for example {name}={example}")]
    Duration { name: &'static str, value: String, example: &'static str },
    #[error("`lock_after={0}` needs a whole number; 0 never locks")]
    LockAfter(String),
    #[error("`{0}` is given twice: give it once")]
    Twice(String),
}

impl FromStr for FaultPlan {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').ok_or_else(|| FaultsError::NoValue(item.to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            if seen.contains(&name) {
                return Err(FaultsError::Twice(name.to_owned()));
            }
            seen.push(name);
            match name {
                "latency" => faults.latency = Some(latency(value)?),
                "lock_after" => {
                    faults.lock_after = value.parse().map_err(|_| FaultsError::LockAfter(value.to_owned()))?;
                }
                "retry_after" => faults.retry_after = Some(retry_after(value)?),
                _ => faults.shares.push((named(name)?, share(name, value)?)),
            }
        }
        let sum: f64 = faults.shares.iter().map(|(_, share)| share).sum();
        // The margin tolerates rounding errors of decimal fractions in binary.
        if sum > 100.0 + 1e-9 { Err(FaultsError::TooMuch(sum.to_string())) } else { Ok(faults) }
    }
}

fn named(name: &str) -> Result<RequestFault, FaultsError> {
    match name {
        "timeout" => Ok(RequestFault::Timeout),
        "cut" => Ok(RequestFault::Cut),
        "drop" => Ok(RequestFault::Drop),
        "refuse" => Ok(RequestFault::Refuse),
        "status_false" => Ok(RequestFault::StatusFalse),
        "login_page" => Ok(RequestFault::LoginPage),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => match number.parse() {
            Ok(status @ 300..=599) => Ok(RequestFault::Status(status)),
            _ => Err(FaultsError::Status(name.to_owned())),
        },
        _ => {
            // If none is near, any known name shows the form of a fault.
            let nearest = nearest(name, NAMES.iter().copied()).unwrap_or("timeout");
            Err(FaultsError::Unknown { name: name.to_owned(), nearest })
        }
    }
}

fn share(name: &str, value: &str) -> Result<f64, FaultsError> {
    let number = value.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(FaultsError::Share { name: name.to_owned(), value: value.to_owned() }),
    }
}

fn latency(value: &str) -> Result<(Duration, Duration), FaultsError> {
    let (from, to) = value.split_once("..").unwrap_or((value, value));
    match (duration(from), duration(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(FaultsError::Duration { name: "latency", value: value.to_owned(), example: "20ms..80ms" }),
    }
}

/// Whole seconds only, because the header has no smaller unit.
fn retry_after(value: &str) -> Result<u64, FaultsError> {
    let whole = duration(value).filter(|duration| duration.subsec_nanos() == 0);
    let wrong = || FaultsError::Duration { name: "retry_after", value: value.to_owned(), example: "2s" };
    whole.map(|duration| duration.as_secs()).ok_or_else(wrong)
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..unit_at].parse().ok()?;
    match &text[unit_at..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFault::Status(status) => write!(f, "{status}"),
            RequestFault::Timeout => f.write_str("timeout"),
            RequestFault::Cut => f.write_str("cut"),
            RequestFault::Drop => f.write_str("drop"),
            RequestFault::Refuse => f.write_str("refuse"),
            RequestFault::StatusFalse => f.write_str("status_false"),
            RequestFault::LoginPage => f.write_str("login_page"),
        }
    }
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, share) in &self.shares {
            write!(f, "{fault}={share}%,")?;
        }
        match self.latency {
            Some((from, to)) if from == to => write!(f, "latency={}ms,", from.as_millis())?,
            Some((from, to)) => write!(f, "latency={}ms..{}ms,", from.as_millis(), to.as_millis())?,
            None => {}
        }
        if let Some(seconds) = self.retry_after {
            write!(f, "retry_after={seconds}s,")?;
        }
        write!(f, "lock_after={}", self.lock_after)
    }
}

/// Decides the fault of each request.
pub struct FaultDice {
    rng: StdRng,
}

impl FaultDice {
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    /// The wait, and the fault after it.
    pub fn roll(&mut self, faults: &FaultPlan) -> (Duration, Option<RequestFault>) {
        let wait = match faults.latency {
            Some((from, to)) => Duration::from_micros(self.rng.random_range(micros(from)..=micros(to))),
            None => Duration::ZERO,
        };
        let mut left: f64 = self.rng.random_range(0.0..100.0);
        for (fault, share) in &faults.shares {
            if left < *share {
                return (wait, Some(*fault));
            }
            left -= share;
        }
        (wait, None)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> FaultPlan {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<FaultPlan>().unwrap_err().to_string()
    }

    #[test]
    fn text_survives_reading_and_writing() {
        let text = "500=5%,503=2.5%,429=3%,timeout=1%,cut=1%,drop=0.5%,refuse=2%,status_false=2%,login_page=1%,latency=20ms..80ms,retry_after=2s,\
                    lock_after=3";
        assert_eq!(parsed(text).to_string(), text);
        assert_eq!(parsed(" latency = 1s , 500 = 5% ").to_string(), "500=5%,latency=1000ms,lock_after=5");
        assert_eq!(parsed(""), FaultPlan::default());
    }

    #[test]
    fn an_unknown_fault_is_named_with_its_nearest_neighbour() {
        assert!(refusal("tiemout=5%").contains("unknown fault `tiemout`: did you mean `timeout`?"));
        assert!(refusal("lock-after=5").contains("did you mean `lock_after`?"));
    }

    #[test]
    fn values_that_cannot_be_are_refused_with_an_example() {
        assert!(refusal("500").contains("name=value"));
        assert!(refusal("500=5").contains("500=5%"));
        assert!(refusal("cut=101%").contains("from 0% to 100%"));
        assert!(refusal("200=5%").contains("300 to 599"));
        assert!(refusal("latency=80ms..20ms").contains("20ms..80ms"));
        assert!(refusal("latency=20").contains("20ms..80ms"));
        assert!(refusal("retry_after=1500ms").contains("retry_after=2s"));
        assert!(refusal("lock_after=often").contains("whole number"));
        assert!(refusal("500=60%,503=60%").contains("120%"));
        assert!(refusal("500=1%,500=2%").contains("twice"));
    }

    #[test]
    fn the_same_seed_meets_the_same_faults() {
        let faults = parsed("500=20%,cut=10%,latency=1ms..9ms");
        let run = |seed| {
            let mut dice = FaultDice::new(seed);
            (0..200).map(|_| dice.roll(&faults)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn faults_strike_about_as_often_as_asked() {
        let faults = parsed("500=20%,timeout=5%");
        let mut dice = FaultDice::new(1);
        let struck: Vec<_> = (0..10_000).filter_map(|_| dice.roll(&faults).1).collect();
        let timeouts = struck.iter().filter(|fault| **fault == RequestFault::Timeout).count();
        assert!((2_300..2_700).contains(&struck.len()), "{}", struck.len());
        assert!((400..600).contains(&timeouts), "{timeouts}");
    }

    #[test]
    fn certain_faults_always_strike_and_waits_stay_in_their_range() {
        let faults = parsed("cut=100%,latency=2ms..4ms");
        let mut dice = FaultDice::new(3);
        for _ in 0..1_000 {
            let (wait, fault) = dice.roll(&faults);
            assert_eq!(fault, Some(RequestFault::Cut));
            assert!(wait >= Duration::from_millis(2) && wait <= Duration::from_millis(4));
        }
    }
}
