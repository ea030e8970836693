//! What one lead says about its person's consent, and what follows for the ledger of people. Pure.
//!
//! A lead has up to two words: one heard from Conversica, one of its row. While a word withdraws a channel, every address or number
//! that the lead has, or had since, stays in the ledger. When it withdraws that channel no more, all of them go.

use std::collections::BTreeSet;

use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::{LeadId, LeadKey};
use crate::rules::contact::{ContactKind, ContactPoint};
use crate::rules::suppression_ground::SuppressionSource;

/// The word of one lead from one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonWord {
    pub lead: LeadId,
    /// [`SuppressionSource::Conversica`] or [`SuppressionSource::Crm`].
    pub source: SuppressionSource,
    pub withdrawn: BTreeSet<ConsentChannel>,
    /// The Lead object with the person's addresses and numbers; `None` where none is known.
    pub content: Option<String>,
}

impl PersonWord {
    /// Heard from Conversica: the withdrawals that hold in its ledger of consent.
    pub fn heard(lead: &LeadId, standing: Option<&WithdrawnConsent>, content: Option<&str>) -> Self {
        let is_withdrawn = |channel: &ConsentChannel| standing.is_some_and(|standing| standing.get(*channel).is_some());
        Self {
            lead: lead.clone(),
            source: SuppressionSource::Conversica,
            withdrawn: ConsentChannel::ALL.into_iter().filter(is_withdrawn).collect(),
            content: content.map(str::to_owned),
        }
    }

    /// Said by a row with these withdrawals.
    pub fn of_row(lead: &LeadId, withdrawn: &[LeadKey], content: Option<&str>) -> Self {
        let channel = |key: &LeadKey| match key {
            LeadKey::OptOut => Some(ConsentChannel::Email),
            LeadKey::SmsOptOut => Some(ConsentChannel::Sms),
            // Ends the messages to one lead, and is no opt-out of the person.
            _ => None,
        };
        Self {
            lead: lead.clone(),
            source: SuppressionSource::Crm,
            withdrawn: withdrawn.iter().filter_map(channel).collect(),
            content: content.map(str::to_owned),
        }
    }

    /// The addresses and numbers that the word withdraws. An opt-out concerns no other person of the same domain.
    pub fn withdrawn_points(&self) -> Vec<ContactPoint> {
        if self.withdrawn.is_empty() {
            return Vec::new();
        }
        let mut points = ContactPoint::of_lead_object(self.content.as_deref().unwrap_or_default());
        points.retain(|point| point.kind != ContactKind::Domain && self.withdraws(point.kind));
        points
    }

    /// Whether entries of that kind stay.
    pub fn withdraws(&self, kind: ContactKind) -> bool {
        self.withdrawn.contains(&kind.channel())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    const BODY: &str =
        r#"{"id":"1","email":"Ann@example.com","workEmail":"a@work.example","cellPhone":"+15558675309"}"#;

    fn lead() -> LeadId {
        LeadId { id: "1".to_owned(), client_id: String::new() }
    }

    fn texts(word: &PersonWord) -> Vec<String> {
        word.withdrawn_points().into_iter().map(|point| point.text).collect()
    }

    #[test]
    fn an_opt_out_names_every_address_or_number_of_the_person_and_no_domain() {
        let mail = PersonWord::of_row(&lead(), &[LeadKey::OptOut, LeadKey::StopMessaging], Some(BODY));
        assert_eq!(texts(&mail), ["a@work.example", "ann@example.com"]);
        let both = PersonWord::of_row(&lead(), &[LeadKey::OptOut, LeadKey::SmsOptOut], Some(BODY));
        assert_eq!(texts(&both), ["a@work.example", "ann@example.com", "+15558675309"]);
        let stop = PersonWord::of_row(&lead(), &[LeadKey::StopMessaging], Some(BODY));
        assert_eq!(texts(&stop), [""; 0], "a stop of one lead is no opt-out of the person");
        assert_eq!(texts(&PersonWord::of_row(&lead(), &[LeadKey::OptOut], None)), [""; 0]);
    }

    proptest! {
        #[test]
        fn what_is_withdrawn_is_what_the_ledger_of_the_lead_says(email: bool, sms: bool) {
            let at = |withdrawn: bool| withdrawn.then_some(DateTime::UNIX_EPOCH);
            let standing = WithdrawnConsent { email: at(email), sms: at(sms), ..WithdrawnConsent::default() };
            let word = PersonWord::heard(&lead(), Some(&standing), Some(BODY));
            prop_assert_eq!(word.withdraws(ContactKind::Address), email);
            prop_assert_eq!(word.withdraws(ContactKind::Number), sms);
            let points = word.withdrawn_points();
            prop_assert!(points.iter().all(|point| word.withdraws(point.kind)));
            prop_assert_eq!(points.len(), usize::from(email) * 2 + usize::from(sms));
        }
    }
}
