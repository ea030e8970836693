//! The meaning of an answer, or of a missing one: one exhaustive match from HTTP status or transport failure to a class, and the
//! remedy for each class. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::acceptance::{AnswerVerdict, judge_answer};
use crate::conversica::content::AnswerText;

/// The class of an attempt, as the journal records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeClass {
    /// Conversica has accepted the content.
    Accepted,
    /// Conversica rejected this content. That lead stops, others go on.
    Rejected,
    /// Conversica does not have the content; the attempt is retried later.
    Transient,
    /// It is unknown whether Conversica has the content. The attempt is retried later, and counted separately.
    Ambiguous,
    /// Nothing may be sent until the operator has fixed the cause.
    Halting,
}

impl OutcomeClass {
    pub const ALL: [OutcomeClass; 5] = [
        OutcomeClass::Accepted,
        OutcomeClass::Rejected,
        OutcomeClass::Transient,
        OutcomeClass::Ambiguous,
        OutcomeClass::Halting,
    ];

    /// The name in SQL, JSON, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            OutcomeClass::Accepted => "accepted",
            OutcomeClass::Rejected => "rejected",
            OutcomeClass::Transient => "transient",
            OutcomeClass::Ambiguous => "ambiguous",
            OutcomeClass::Halting => "halting",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// What the operator can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            OutcomeClass::Accepted => "nothing",
            OutcomeClass::Rejected => "fix the row in the CRM, or `conversica-sync retry ID` after fixing the account",
            OutcomeClass::Transient => "nothing: it is tried again by itself until [delivery.retry] max_elapsed",
            OutcomeClass::Ambiguous => "nothing: [delivery] on_ambiguous says what happens",
            OutcomeClass::Halting => "what the halt's reason asks for",
        }
    }
}

/// Why all sending stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltReason {
    /// 401: further attempts can lock the account.
    Credentials,
    /// 403: the account or this address is locked or banned.
    Forbidden,
    /// A redirect, 404, 405 and the like, or a web page: this is not Conversica's endpoint.
    Endpoint,
}

impl HaltReason {
    pub const ALL: [HaltReason; 3] = [HaltReason::Credentials, HaltReason::Forbidden, HaltReason::Endpoint];

    pub const fn name(self) -> &'static str {
        match self {
            HaltReason::Credentials => "credentials",
            HaltReason::Forbidden => "forbidden",
            HaltReason::Endpoint => "endpoint",
        }
    }

    pub const fn cure(self) -> &'static str {
        match self {
            HaltReason::Credentials => {
                "set the right [conversica] username and password (they come from your Conversica account manager); new \
                 credentials lift the halt by themselves, `conversica-sync resume` lifts it for the same ones"
            }
            HaltReason::Forbidden => {
                "ask your Conversica account manager or apisupport@conversica.com whether the account is locked or this \
                 address banned, then `conversica-sync resume`"
            }
            HaltReason::Endpoint => {
                "set the right [conversica] endpoint: another URL lifts the halt by itself; where the URL is right, let this \
                 machine past whatever answers in its place (a login page, a bot wall, a proxy), then `conversica-sync resume`"
            }
        }
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportFailure {
    /// DNS, connect or TLS handshake failed: the request never left.
    NotSent,
    /// Time-out or cut after the request had left.
    Unanswered,
}

/// The class of an HTTP status, and the reason if it halts. The body of a 2xx may still say otherwise: [`of_answer`].
pub const fn of_status(status: u16) -> (OutcomeClass, Option<HaltReason>) {
    match status {
        200..=299 => (OutcomeClass::Accepted, None),
        401 => (OutcomeClass::Halting, Some(HaltReason::Credentials)),
        403 => (OutcomeClass::Halting, Some(HaltReason::Forbidden)),
        // Redirects are never followed: a 302 would turn the POST into a GET, a 307 would hand the lead to another host.
        300..=399 | 404 | 405 | 407 | 410 | 421 | 426 | 451 => (OutcomeClass::Halting, Some(HaltReason::Endpoint)),
        408 | 425 | 429 | 500..=599 => (OutcomeClass::Transient, None),
        // 400, 413, 415, 422 by contract; any other rejection stops its lead until the operator has fixed the cause.
        400..=499 => (OutcomeClass::Rejected, None),
        // Outside HTTP: a server answered, but it is unknown what it did.
        0..=199 | 600..=u16::MAX => (OutcomeClass::Ambiguous, None),
    }
}

/// The class of an answer to the Lead object `sent`: its status decides, and for a 2xx its body.
pub fn of_answer(
    status: u16,
    content_type: Option<&str>,
    text: &AnswerText,
    sent: &str,
) -> (OutcomeClass, Option<HaltReason>) {
    match of_status(status) {
        (OutcomeClass::Accepted, halt) => match judge_answer(content_type, text, sent) {
            AnswerVerdict::Accepted => (OutcomeClass::Accepted, halt),
            AnswerVerdict::Rejected => (OutcomeClass::Rejected, halt),
            AnswerVerdict::WebPage => (OutcomeClass::Halting, Some(HaltReason::Endpoint)),
            AnswerVerdict::CredentialsRefused => (OutcomeClass::Halting, Some(HaltReason::Credentials)),
        },
        by_status => by_status,
    }
}

/// Whether an outcome asks for fewer requests: 429 and 503 say so, and a missing answer may mean an overload.
pub const fn asks_for_less(class: OutcomeClass, status: Option<u16>) -> bool {
    match class {
        OutcomeClass::Transient => matches!(status, Some(429 | 503)),
        OutcomeClass::Ambiguous => true,
        OutcomeClass::Accepted | OutcomeClass::Rejected | OutcomeClass::Halting => false,
    }
}

/// The class of a missing answer.
pub const fn of_transport(failure: TransportFailure) -> OutcomeClass {
    match failure {
        TransportFailure::NotSent => OutcomeClass::Transient,
        TransportFailure::Unanswered => OutcomeClass::Ambiguous,
    }
}

/// The longest `Retry-After` that is honoured. A longer one is clamped, so that a wrong header cannot stop sending for a year.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Reads a `Retry-After` header: seconds, or an HTTP date. `None` for anything else; never more than [`RETRY_AFTER_MAX`].
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at: DateTime<Utc> = httpdate::parse_http_date(header).ok()?.into();
            (at - now).to_std().unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_contract_has_its_class() {
        let classes = |statuses: &[u16]| statuses.iter().map(|s| of_status(*s).0).collect::<Vec<_>>();
        assert!(classes(&[200, 201, 202, 204]).iter().all(|c| *c == OutcomeClass::Accepted));
        assert!(classes(&[400, 413, 415, 422]).iter().all(|c| *c == OutcomeClass::Rejected));
        assert!(classes(&[408, 425, 429, 500, 502, 503, 504]).iter().all(|c| *c == OutcomeClass::Transient));
        assert!(classes(&[401, 403, 404, 405, 301, 302, 307, 308]).iter().all(|c| *c == OutcomeClass::Halting));
    }

    #[test]
    fn a_halting_status_and_only_a_halting_status_has_a_reason() {
        for status in 0..=999 {
            let (class, reason) = of_status(status);
            assert_eq!(class == OutcomeClass::Halting, reason.is_some(), "{status}");
        }
    }

    #[test]
    fn only_a_2xx_is_judged_by_what_it_says() {
        let (page, refusal) = ("<html>Sign in</html>", r#"{"status":false}"#);
        for status in 0..=999 {
            for text in [page, refusal, r#"{"status":true}"#] {
                let (class, halt) =
                    of_answer(status, Some("application/json"), &AnswerText::Text(text.to_owned()), "{}");
                let wanted = match (status, text) {
                    (200..=299, text) if text == page => (OutcomeClass::Halting, Some(HaltReason::Endpoint)),
                    (200..=299, text) if text == refusal => (OutcomeClass::Rejected, None),
                    _ => of_status(status),
                };
                assert_eq!((class, halt), wanted, "{status}: {text}");
            }
        }
    }

    #[test]
    fn a_request_that_never_left_is_not_ambiguous() {
        assert_eq!(of_transport(TransportFailure::NotSent), OutcomeClass::Transient);
        assert_eq!(of_transport(TransportFailure::Unanswered), OutcomeClass::Ambiguous);
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_clamped() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 2026 00:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Wed, 31 Dec 2025 00:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon", now), None);
    }
}
