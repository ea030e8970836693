//! A person's consent to messages: read from Lead Updates, and compared with the content to be sent. Pure.
//!
//! The ledger has an entry for each withdrawal and each grant, in the order of arrival. Consent is withdrawn unless a grant ends
//! the newest withdrawal. A grant in the CRM counts by its date. A grant that Conversica posts must also arrive after the
//! withdrawal: see [`HeardWord`].

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::heard_dates::HeardDates;
use crate::conversica::lead::{LeadKey, with_withdrawn};
use crate::conversica::stop_words::is_stage_stopped_by_person;

/// The source of a ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordSource {
    /// A Lead Update. Its grants often only repeat what Conversica has stored.
    Conversica,
    /// The CRM, where the operator has mapped the date of a consent.
    Crm,
}

/// An entry of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardWord {
    pub word: ChannelWord,
    /// By the clock of the machine that received it.
    pub heard_at: DateTime<Utc>,
    pub source: WordSource,
}

impl HeardWord {
    /// Whether a grant of consent ends this withdrawal, because it is later. `before` and `after` are the ledger entries before
    /// and after it. No grant is later than its arrival. A grant that Conversica posted before the withdrawal ends nothing,
    /// whatever its date, because it did not know of the withdrawal. A grant of the CRM that was entered before, but seems to
    /// have arrived after, was dated by a clock that ran ahead, and ends nothing either.
    fn is_ended(&self, before: &[HeardWord], after: &[HeardWord]) -> bool {
        let withdrawn_at = self.word.at;
        let is_later = |heard: &HeardWord| {
            let HeardWord { word, heard_at, .. } = heard;
            word.given
                && word.channel == self.word.channel
                && withdrawn_at < word.at
                && withdrawn_at < *heard_at
                && !heard.was_ahead()
        };
        let is_of_crm = |heard: &HeardWord| heard.source == WordSource::Crm && heard.heard_at <= self.heard_at;
        after.iter().any(is_later) || before.iter().any(|heard| is_later(heard) && is_of_crm(heard))
    }
}

impl HeardWord {
    /// Whether the CRM dated this grant later than the clock when the row was read. It gives no consent. The ledger keeps it so
    /// that the same grant ends no later withdrawal.
    fn was_ahead(&self) -> bool {
        self.source == WordSource::Crm && self.word.given && self.word.at > self.heard_at
    }
}

/// Whether the ledger shows that the CRM's row had this grant before an undated withdrawal of that channel arrived. Such a grant
/// is older than the withdrawal, whatever the clocks say.
pub fn was_given_before(ledger: &[HeardWord], channel: ConsentChannel, given_at: DateTime<Utc>) -> bool {
    let of_channel = |heard: &&HeardWord| heard.word.channel == channel;
    let is_same = |heard: &HeardWord| {
        heard.source == WordSource::Crm
            && heard.word.given
            && heard.word.channel == channel
            && heard.word.at.timestamp_micros() == given_at.timestamp_micros()
    };
    let Some(place) = ledger.iter().position(is_same) else { return false };
    ledger[place..].iter().filter(of_channel).any(|heard| !heard.word.given && heard.word.at == heard.heard_at)
}

/// Statuses of the stage "Lead Stopped" that are a person's own refusal of e-mails. No other stage has them, so they are
/// understood even if the stage did not change with them.
const STOPPED: [&str; 4] = ["Unsubscribed", "Marked Spam", "Do Not Email", "Lead Requested Stop"];

/// 2001-01-01. Conversica was founded later.
pub(super) const EARLIEST: DateTime<Utc> = DateTime::from_timestamp(978_307_200, 0).expect("an instant that exists");

/// The withdrawals and grants of consent in a Lead Update.
pub fn words(content: &Map<String, Value>, heard_at: DateTime<Utc>) -> Vec<ChannelWord> {
    let dates = HeardDates::of(content);
    let mut words = Vec::new();
    let mut say = |key: &str, channel: ConsentChannel, given: bool| {
        // A date before this is no real date. Otherwise a withdrawal would be older than any grant.
        let at = dates.of_key(key).filter(|at| *at >= EARLIEST).unwrap_or(heard_at);
        // A grant dated in the future would outlive later withdrawals.
        words.push(ChannelWord { channel, given, at: if given { at.min(heard_at) } else { at } });
    };
    for (key, channel, given_when) in [
        ("doNotEmail", ConsentChannel::Email, false),
        ("smsOptOut", ConsentChannel::Sms, false),
        ("smsOptIn", ConsentChannel::Sms, true),
    ] {
        if let Some(value) = content.get(key).and_then(Value::as_bool) {
            say(key, channel, value == given_when);
        }
    }
    let text = |key: &str| content.get(key).and_then(Value::as_str);
    let (stage, status) = (text("conversationStage"), text("conversationStatus"));
    let is_stopped = stage.is_none_or(is_stage_stopped_by_person);
    // Unless a status says otherwise, the stage is the person's own refusal.
    let is_unexplained = stage.is_some() && status.is_none_or(|status| status != "No Longer at Company");
    if is_stopped && (is_unexplained || status.is_some_and(|status| STOPPED.contains(&status))) {
        say("conversationStatus", ConsentChannel::Email, false);
    }
    // The ledger enters grants first, so that a withdrawal prevails over a later date in the same post.
    words.sort_by_key(|word| !word.given);
    words
}

/// Whether a Lead Update withdraws consent of any channel.
pub fn withdraws(content: &Map<String, Value>) -> bool {
    words(content, EARLIEST).iter().any(|word| !word.given)
}

/// Since when the consent of each channel is withdrawn; `None` if it is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WithdrawnConsent {
    pub email: Option<DateTime<Utc>>,
    pub sms: Option<DateTime<Utc>>,
    /// Channels whose consent a damaged post may withdraw. No grant ends this until an operator decides.
    #[serde(skip)]
    pub unsettled: [bool; 2],
    /// Channels that the person has withdrawn under another id, or that the suppression list names. Their opt-out is added to a
    /// content that lacks its key.
    #[serde(skip)]
    pub elsewhere: [bool; 2],
}

impl WithdrawnConsent {
    /// The result of a lead's ledger entries, given in the order of the ledger.
    pub fn of(ledger: &[HeardWord]) -> Self {
        let of = |channel| {
            let withdrawals =
                ledger.iter().enumerate().filter(|(_, heard)| heard.word.channel == channel && !heard.word.given);
            let standing =
                withdrawals.filter(|(place, heard)| !heard.is_ended(&ledger[..*place], &ledger[place + 1..]));
            standing.map(|(_, heard)| heard.word.at).max()
        };
        Self { email: of(ConsentChannel::Email), sms: of(ConsentChannel::Sms), ..Self::default() }
    }

    pub fn set(&mut self, channel: ConsentChannel, withdrawn_at: Option<DateTime<Utc>>) {
        match channel {
            ConsentChannel::Email => self.email = withdrawn_at,
            ConsentChannel::Sms => self.sms = withdrawn_at,
        }
    }

    /// Consent is withdrawn since then, until an operator decides.
    pub fn set_unsettled(&mut self, channel: ConsentChannel, at: DateTime<Utc>) {
        self.set(channel, Some(self.get(channel).map_or(at, |since| since.max(at))));
        self.unsettled[channel as usize] = true;
    }

    /// The person has withdrawn this channel elsewhere, since then.
    pub fn set_elsewhere(&mut self, channel: ConsentChannel, at: DateTime<Utc>) {
        self.set(channel, Some(self.get(channel).map_or(at, |since| since.max(at))));
        self.elsewhere[channel as usize] = true;
    }

    /// The opt-outs are added to a content that lacks their keys: Conversica may have lost what it knew.
    #[must_use]
    pub fn with_keys_added(mut self) -> Self {
        self.elsewhere = [self.email.is_some(), self.sms.is_some()];
        self
    }

    /// Both withdrawals together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for channel in ConsentChannel::ALL {
            self.set(channel, self.get(channel).max(other.get(channel)));
            self.unsettled[channel as usize] |= other.unsettled[channel as usize];
            self.elsewhere[channel as usize] |= other.elsewhere[channel as usize];
        }
        self
    }

    /// Whether an operator has to decide before anything ends the withdrawal.
    pub fn is_unsettled(&self, channel: ConsentChannel) -> bool {
        self.unsettled[channel as usize]
    }

    pub fn get(&self, channel: ConsentChannel) -> Option<DateTime<Utc>> {
        match channel {
            ConsentChannel::Email => self.email,
            ConsentChannel::Sms => self.sms,
        }
    }

    /// The values of a Lead object that contradict it; empty if there are none.
    pub fn overrides(&self, body: &str) -> Vec<ConsentOverride> {
        // The text is canonical: quotes inside values are escaped, so the letters of a key with its value are found by a search.
        let says = |key: LeadKey, value: bool| body.contains(&format!("\"{}\":{value}", key.name()));
        let rules = [
            (LeadKey::OptOut, ConsentChannel::Email, false),
            (LeadKey::SmsOptOut, ConsentChannel::Sms, false),
            (LeadKey::SmsOptIn, ConsentChannel::Sms, true),
        ];
        let stands = rules.into_iter().filter(|(key, _, value)| says(*key, *value));
        stands
            .filter_map(|(key, channel, value)| Some(ConsentOverride { key, value: !value, since: self.get(channel)? }))
            .collect()
    }

    /// The Lead object that may be sent instead; `None` if the given one may be sent. A key that it lacks is added only for a
    /// withdrawal from elsewhere: of its own lead's, Conversica knows.
    pub fn keep(&self, body: &str) -> Option<String> {
        let overrides = self.overrides(body);
        let kept = overrides.iter().fold(body.to_owned(), |body, ConsentOverride { key, value, .. }| {
            body.replace(&format!("\"{}\":{}", key.name(), !value), &format!("\"{}\":{value}", key.name()))
        });
        let lacking: Vec<LeadKey> = ConsentChannel::ALL
            .into_iter()
            .filter(|channel| self.elsewhere[*channel as usize])
            .map(opt_out_key)
            .filter(|key| !kept.contains(&format!("\"{}\":true", key.name())))
            .collect();
        if lacking.is_empty() {
            return (!overrides.is_empty()).then_some(kept);
        }
        with_withdrawn(&kept, &lacking).or_else(|| (!overrides.is_empty()).then_some(kept))
    }
}

/// The key that ends the messages of a channel.
pub const fn opt_out_key(channel: ConsentChannel) -> LeadKey {
    match channel {
        ConsentChannel::Email => LeadKey::OptOut,
        ConsentChannel::Sms => LeadKey::SmsOptOut,
    }
}

/// A value of the CRM that contradicts a person's withdrawal or grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentOverride {
    pub key: LeadKey,
    /// The value that is sent; the CRM has the opposite.
    pub value: bool,
    /// Since when the person's withdrawal is in force.
    pub since: DateTime<Utc>,
}

impl ConsentOverride {
    /// For display.
    pub fn in_words(&self) -> String {
        let Self { key, value, since } = self;
        format!("kept: {key} {value}, heard on {} (the CRM says {})", since.format("%F %T UTC"), !value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn said(content: Value) -> Vec<(ConsentChannel, bool)> {
        words(content.as_object().unwrap(), at(0)).iter().map(|word| (word.channel, word.given)).collect()
    }

    #[test]
    fn each_key_of_consent_is_a_word() {
        use ConsentChannel::{Email, Sms};
        assert_eq!(said(json!({"doNotEmail": true})), [(Email, false)]);
        assert_eq!(said(json!({"doNotEmail": false})), [(Email, true)]);
        assert_eq!(said(json!({"smsOptOut": true, "smsOptIn": true})), [(Sms, true), (Sms, false)]);
        assert_eq!(said(json!({"smsOptOut": false, "smsOptIn": false})), [(Sms, true), (Sms, false)]);
        let stopped = json!({"conversationStage": "Lead Stopped", "conversationStatus": "Unsubscribed"});
        assert_eq!(said(stopped), [(Email, false)]);
        assert_eq!(said(json!({"conversationStatus": "Lead Requested Stop"})), [(Email, false)], "the stage was known");
        assert_eq!(said(json!({"conversationStage": "Messaging", "conversationStatus": "Unsubscribed"})), []);
        for (stage, status) in [("Lead Stopped", "Marked Spam"), ("Customer Stopped", "Opted out")] {
            let stopped = json!({"conversationStage": stage, "conversationStatus": status});
            assert_eq!(said(stopped), [(Email, false)], "{stage}, {status}");
        }
        assert_eq!(said(json!({"conversationStage": "Lead Stopped"})), [(Email, false)]);
        let left = json!({"conversationStage": "Lead Stopped", "conversationStatus": "No Longer at Company"});
        assert_eq!(said(left), []);
        for stage in ["Client Stopped", "Conversica Stopped", "Rep Stopped", "Stopped"] {
            assert_eq!(said(json!({"conversationStage": stage})), [], "{stage}");
        }
    }

    #[test]
    fn a_word_is_of_its_keys_date_and_a_giving_never_of_the_future() {
        let content = json!({"doNotEmail": true, "smsOptIn": true, "lastResponseDate": "2099-01-01T00:00:00Z"});
        let words = words(content.as_object().unwrap(), at(0));
        assert!(words[1].at > at(0) && !words[1].given);
        assert_eq!((words[0].at, words[0].given), (at(0), true));
    }

    #[test]
    fn only_what_contradicts_is_changed_and_nothing_is_added() {
        let both = WithdrawnConsent { email: Some(at(0)), sms: Some(at(0)), ..WithdrawnConsent::default() };
        let body = r#"{"id":"1","firstName":"\"optOut\":false","optOut":false,"smsOptOut":false,"smsOptIn":true}"#;
        let kept = r#"{"id":"1","firstName":"\"optOut\":false","optOut":true,"smsOptOut":true,"smsOptIn":false}"#;
        assert_eq!(both.keep(body).as_deref(), Some(kept));
        assert_eq!(both.keep(kept), None);
        assert_eq!(both.keep(r#"{"id":"1"}"#), None);
        let email = WithdrawnConsent { email: Some(at(0)), ..WithdrawnConsent::default() };
        assert_eq!(email.keep(r#"{"id":"1","smsOptIn":true}"#), None);
    }

    #[test]
    fn within_one_post_a_withdrawal_stands_whatever_is_dated_later() {
        let content = json!({
            "doNotEmail": false, "lastMessageDate": "2026-02-02T00:00:00Z",
            "conversationStatus": "Unsubscribed", "conversationStatusDate": "2026-01-01T00:00:00Z",
        });
        let heard_at = "2026-03-01T00:00:00Z".parse().unwrap();
        let ledger: Vec<HeardWord> =
            words(content.as_object().unwrap(), heard_at).into_iter().map(|word| posted(word, heard_at)).collect();
        assert!(WithdrawnConsent::of(&ledger).email.is_some());
    }

    fn posted(word: ChannelWord, heard_at: DateTime<Utc>) -> HeardWord {
        HeardWord { word, heard_at, source: WordSource::Conversica }
    }

    #[test]
    fn a_giving_that_the_row_held_before_the_withdrawal_ends_nothing_whatever_the_clock_said() {
        let (channel, given_at) = (ConsentChannel::Email, at(600));
        // The clock is ten minutes behind, so the row's grant seems to be in the future.
        let mark = HeardWord {
            word: ChannelWord { channel, given: true, at: given_at },
            heard_at: at(10),
            source: WordSource::Crm,
        };
        let withdrawal = posted(ChannelWord { channel, given: false, at: at(20) }, at(20));
        assert!(was_given_before(&[mark, withdrawal], channel, given_at));
        assert!(!was_given_before(&[withdrawal, mark], channel, given_at), "given after the withdrawal");
        assert!(!was_given_before(&[mark, withdrawal], channel, at(700)), "another giving");
        assert!(!was_given_before(&[mark, withdrawal], ConsentChannel::Sms, given_at));
        let dated = posted(ChannelWord { channel, given: false, at: at(15) }, at(20));
        assert!(!was_given_before(&[mark, dated], channel, given_at), "its date is compared");
        for ledger in [[mark, withdrawal], [withdrawal, mark], [mark, dated]] {
            assert!(WithdrawnConsent::of(&ledger).email.is_some(), "a giving ahead of the clock gives nothing");
        }
    }

    proptest! {
        #[test]
        fn what_the_crm_says_comes_to_the_same_in_any_order_and_however_often(
            words in prop::collection::vec((any::<bool>(), any::<bool>(), 0_i64..4), 0..8),
            shift in 0_usize..8,
        ) {
            let words: Vec<HeardWord> = words.into_iter().map(|(sms, given, second)| HeardWord {
                word: ChannelWord { channel: if sms { ConsentChannel::Sms } else { ConsentChannel::Email }, given, at: at(second) },
                heard_at: at(9),
                source: WordSource::Crm,
            }).collect();
            let standing = WithdrawnConsent::of(&words);
            let mut others = [words.clone(), words.clone()].concat();
            let shift = shift.min(others.len());
            others.rotate_left(shift);
            others.reverse();
            prop_assert_eq!(WithdrawnConsent::of(&others), standing);
            for channel in ConsentChannel::ALL {
                let of = |given| {
                    let of_kind = words.iter().map(|heard| heard.word).filter(|w| w.channel == channel && w.given == given);
                    of_kind.map(|w| w.at).max()
                };
                let expected = match (of(false), of(true)) {
                    (Some(out), Some(given)) if given > out => None,
                    (out, _) => out,
                };
                prop_assert_eq!(standing.get(channel), expected);
            }
        }

        /// For any error of the clock when a grant arrived, and any date of a grant in the future.
        #[test]
        fn no_giving_outweighs_a_withdrawal_that_is_heard_after_it(
            givings in prop::collection::vec((0_i64..100_000_000, 0_i64..100_000_000), 1..6),
            dated_before in 0_i64..600,
        ) {
            let email = |given, at| ChannelWord { channel: ConsentChannel::Email, given, at };
            let mut ledger: Vec<HeardWord> = givings.into_iter()
                .map(|(dated, heard)| posted(email(true, at(1000 + dated)), at(1000 + heard))).collect();
            let heard_at = at(999);
            // The withdrawal arrives while the clock is right, with a date some minutes earlier.
            ledger.push(posted(email(false, at(999 - dated_before)), heard_at));
            prop_assert!(WithdrawnConsent::of(&ledger).email.is_some());
            // A later grant counts, while the clock is right.
            ledger.push(posted(email(true, at(1001)), at(1001)));
            prop_assert_eq!(WithdrawnConsent::of(&ledger).email, None);
        }

        /// Conversica repeats its stored consent with every post, under new dates.
        #[test]
        fn no_posted_giving_outweighs_a_withdrawal_that_is_posted_after_it(
            givings in prop::collection::vec(0_i64..1000, 1..6),
            withdrawn in 0_i64..1000,
        ) {
            let email = |given, at| ChannelWord { channel: ConsentChannel::Email, given, at };
            let mut ledger: Vec<HeardWord> =
                givings.into_iter().map(|dated| posted(email(true, at(dated)), at(1000))).collect();
            ledger.push(posted(email(false, at(withdrawn)), at(1001)));
            prop_assert_eq!(WithdrawnConsent::of(&ledger).email, Some(at(withdrawn)));
        }
    }
}
