//! A withdrawal of consent in a content that Conversica rejects for another value. The withdrawal is sent once more by itself,
//! with the content that Conversica accepted last. The rejected content waits for the row to change, like every rejected content.

use crate::conversica::lead::with_withdrawn;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_record::withdrawn_keys;

/// The content accepted last, with the withdrawals of the desired content in it; `None` if that is the desired content itself.
pub fn withdrawal_apart(desired: &str, delivered: &str) -> Option<String> {
    let withdrawn: Vec<_> = withdrawn_keys(desired).collect();
    with_withdrawn(delivered, &withdrawn).filter(|body| !withdrawn.is_empty() && body != desired)
}

/// What the operator reads about a lead whose withdrawal was sent apart. `rejection` is the answer to the content itself.
pub(crate) fn withdrawal_apart_detail(class: OutcomeClass, rejection: Option<&str>) -> String {
    let said = match class {
        OutcomeClass::Accepted => {
            "the opt-out was sent apart, with the content that Conversica accepted last; the rest was rejected: "
        }
        OutcomeClass::Rejected | OutcomeClass::Transient | OutcomeClass::Ambiguous | OutcomeClass::Halting => {
            "THE OPT-OUT HAS NOT ARRIVED: it was rejected with this content, and with the content that Conversica accepted \
             last; tell Conversica of it: "
        }
    };
    format!("{said}{}", rejection.unwrap_or("no reason was given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_is_sent_apart_with_the_content_accepted_last_unless_that_is_what_was_rejected() {
        let delivered = r#"{"id":"1","leadStatus":"New","optOut":false}"#;
        let desired = r#"{"id":"1","leadStatus":"Bad","optOut":true}"#;
        let apart = r#"{"id":"1","leadStatus":"New","optOut":true}"#;
        assert_eq!(withdrawal_apart(desired, delivered).as_deref(), Some(apart));
        assert_eq!(withdrawal_apart(apart, delivered), None, "the same was rejected");
        let opted_in = r#"{"id":"1","leadStatus":"New","smsOptIn":true}"#;
        let out = r#"{"id":"1","leadStatus":"Bad","smsOptOut":true,"smsOptIn":false}"#;
        let out_apart = r#"{"id":"1","leadStatus":"New","smsOptOut":true,"smsOptIn":false}"#;
        assert_eq!(withdrawal_apart(out, opted_in).as_deref(), Some(out_apart), "no key says the contrary");
        assert_eq!(withdrawal_apart(r#"{"id":"1","leadStatus":"Bad"}"#, delivered), None, "nothing is withdrawn");
        assert_eq!(withdrawal_apart(desired, "no JSON"), None);
    }
}
