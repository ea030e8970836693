//! Why a person is not written to under any id: the entry that names their address, number or domain, and where it comes from.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::{ConsentScope, ConsentSettings};
use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::LeadId;
use crate::rules::contact::ContactKind;

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SuppressionSource {
    /// The operator's list.
    List,
    /// `[consent] suppression_query`.
    Query,
    /// An opt-out that Conversica reported.
    Conversica,
    /// An opt-out that a row of the CRM says.
    Crm,
}

impl SuppressionSource {
    pub const ALL: [SuppressionSource; 4] =
        [SuppressionSource::List, SuppressionSource::Query, SuppressionSource::Conversica, SuppressionSource::Crm];

    /// The name in the state and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            SuppressionSource::List => "list",
            SuppressionSource::Query => "query",
            SuppressionSource::Conversica => "conversica",
            SuppressionSource::Crm => "crm",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// Whose entries count, by `[consent]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressionScope {
    /// The operator's list and `suppression_query`. An opt-out holds for its own lead.
    List,
    /// Also opt-outs that rows of the CRM say: those heard from Conversica do not override the CRM.
    ListAndCrm,
    /// Also opt-outs of other leads, heard from Conversica or said by their rows.
    Person,
}

impl SuppressionScope {
    pub const fn sources(self) -> &'static [SuppressionSource] {
        match self {
            SuppressionScope::List => &[SuppressionSource::List, SuppressionSource::Query],
            SuppressionScope::ListAndCrm => {
                &[SuppressionSource::List, SuppressionSource::Query, SuppressionSource::Crm]
            }
            SuppressionScope::Person => &SuppressionSource::ALL,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            SuppressionScope::List => "list",
            SuppressionScope::ListAndCrm => "list_and_crm",
            SuppressionScope::Person => "person",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::List, Self::ListAndCrm, Self::Person].into_iter().find(|scope| scope.name() == name)
    }

    pub fn of(settings: &ConsentSettings) -> Self {
        match (settings.scope, settings.keep_opt_outs) {
            (ConsentScope::Person, true) => SuppressionScope::Person,
            (ConsentScope::Person, false) => SuppressionScope::ListAndCrm,
            (ConsentScope::Id, _) => SuppressionScope::List,
        }
    }
}

/// An entry that names a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuppressionGround {
    pub kind: ContactKind,
    pub source: SuppressionSource,
    /// The lead that the opt-out comes from; blank for the list, and once that lead is erased.
    pub from: LeadId,
    pub since: DateTime<Utc>,
}

impl SuppressionGround {
    /// For display; it names ids, never an address or a number.
    pub fn in_words(&self) -> String {
        let what = match self.kind {
            ContactKind::Address => "its e-mail address",
            ContactKind::Number => "its telephone number",
            ContactKind::Domain => "the domain of its e-mail address",
        };
        let since = self.since.format("%F %T UTC");
        let lead = if self.from == LeadId::default() {
            "under another id, which was erased".to_owned()
        } else if self.from.client_id.is_empty() {
            format!("as lead {}", self.from.id)
        } else {
            format!("as lead {} of client {}", self.from.id, self.from.client_id)
        };
        match self.source {
            SuppressionSource::List => format!("{what} is on the suppression list since {since}"),
            SuppressionSource::Query => format!("{what} is in the answer of [consent] suppression_query since {since}"),
            SuppressionSource::Conversica if self.kind == ContactKind::Address => {
                format!("{what} opted out {lead}, heard from Conversica on {since}; no row of the CRM ends that")
            }
            SuppressionSource::Conversica => format!("{what} opted out {lead}, heard from Conversica on {since}"),
            SuppressionSource::Crm => format!("{what} opted out {lead}, by its row in the CRM, read on {since}"),
        }
    }
}

/// The consent that these entries withdraw; `None` if there are none.
pub fn withdrawn_by(grounds: &[SuppressionGround]) -> Option<WithdrawnConsent> {
    let mut withdrawn = WithdrawnConsent::default();
    for ground in grounds {
        withdrawn.set_elsewhere(ground.kind.channel(), ground.since);
    }
    (!grounds.is_empty()).then_some(withdrawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(kind: ContactKind, source: SuppressionSource, from: &str) -> SuppressionGround {
        let from = LeadId { id: from.to_owned(), client_id: String::new() };
        SuppressionGround { kind, source, from, since: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_number_ends_text_messages_and_an_address_or_domain_ends_e_mails() {
        assert_eq!(withdrawn_by(&[]), None);
        let body = r#"{"id":"1","smsOptIn":true}"#;
        let of = |kind| withdrawn_by(&[ground(kind, SuppressionSource::List, "")]).unwrap().keep(body);
        assert_eq!(of(ContactKind::Domain).as_deref(), Some(r#"{"id":"1","optOut":true,"smsOptIn":true}"#));
        assert_eq!(of(ContactKind::Address), of(ContactKind::Domain));
        assert_eq!(of(ContactKind::Number).as_deref(), Some(r#"{"id":"1","smsOptOut":true,"smsOptIn":false}"#));
    }

    #[test]
    fn a_ground_names_the_id_that_it_comes_from() {
        let told = ground(ContactKind::Address, SuppressionSource::Conversica, "12").in_words();
        assert_eq!(
            told,
            "its e-mail address opted out as lead 12, heard from Conversica on 1970-01-01 00:00:00 UTC; no row of the CRM ends that"
        );
    }
}
