//! What a person has said about being written to: read from Lead Updates, and held against what is about to be sent. Pure.
//!
//! Each word goes into a ledger by itself, in the order in which it was taken in. Consent is withdrawn while no giving ends the newest
//! withdrawal. A giving of the CRM counts by its date. A giving that Conversica posts also has to come after the withdrawal:
//! see [`HeardWord`].

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::heard_dates::HeardDates;
use crate::conversica::lead::LeadKey;
use crate::conversica::stop_words::is_stage_stopped_by_person;

/// Who has said a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordSource {
    /// A Lead Update. What it says of consent that was given is often only a repetition of what Conversica holds.
    Conversica,
    /// The CRM: an operator has mapped the date of a consent.
    Crm,
}

/// A word as the ledger holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardWord {
    pub word: ChannelWord,
    /// By the clock of the machine that heard it.
    pub heard_at: DateTime<Utc>,
    pub source: WordSource,
}

impl HeardWord {
    /// Whether a giving of consent ends this withdrawal, because it is later. `before` and `after` are the words that the ledger took
    /// in before and after it. No giving is later than the moment when it was heard. What Conversica posted before the withdrawal
    /// ends nothing, whatever its date: it did not know of the withdrawal. A giving of the CRM that was taken in before, and seems
    /// to have been heard after, was dated by a clock that was ahead, and ends nothing either.
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
    /// Whether the CRM dated this giving later than the clock said when the row was read. It gives no consent: the ledger has it so that
    /// the same giving ends no withdrawal that is heard afterwards.
    fn was_ahead(&self) -> bool {
        self.source == WordSource::Crm && self.word.given && self.word.at > self.heard_at
    }
}

/// Whether the CRM's row held this giving before an undated withdrawal of that channel was heard, as the ledger remembers it. Such a
/// giving is older than the withdrawal, whatever the clocks say.
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

/// Statuses of the stage "Lead Stopped" that are a person's own word against e-mails. No other stage has them, so that they
/// are understood where the stage did not change with them.
const STOPPED: [&str; 4] = ["Unsubscribed", "Marked Spam", "Do Not Email", "Lead Requested Stop"];

/// 2001-01-01. Conversica was founded later.
pub(super) const EARLIEST: DateTime<Utc> = DateTime::from_timestamp(978_307_200, 0).expect("an instant that exists");

/// What a Lead Update says about consent.
pub fn words(content: &Map<String, Value>, heard_at: DateTime<Utc>) -> Vec<ChannelWord> {
    let dates = HeardDates::of(content);
    let mut words = Vec::new();
    let mut say = |key: &str, channel: ConsentChannel, given: bool| {
        // A date before e-mail assistants stands for none: a withdrawal would be older than whatever gave consent.
        let at = dates.of_key(key).filter(|at| *at >= EARLIEST).unwrap_or(heard_at);
        // A giving that lies in the future would outlive withdrawals that are still to come.
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
    // Without a status that says otherwise, the stage is a person's word by itself.
    let is_unexplained = stage.is_some() && status.is_none_or(|status| status != "No Longer at Company");
    if is_stopped && (is_unexplained || status.is_some_and(|status| STOPPED.contains(&status))) {
        say("conversationStatus", ConsentChannel::Email, false);
    }
    // The ledger takes givings in first: within one post, a withdrawal stands whatever is dated later in it.
    words.sort_by_key(|word| !word.given);
    words
}

/// Whether a Lead Update withdraws consent of any channel.
pub fn withdraws(content: &Map<String, Value>) -> bool {
    words(content, EARLIEST).iter().any(|word| !word.given)
}

/// Since when the consent of each channel stands withdrawn; `None` where it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WithdrawnConsent {
    pub email: Option<DateTime<Utc>>,
    pub sms: Option<DateTime<Utc>>,
    /// Channels that a damaged post may withdraw consent from: nothing gives it again until an operator has looked.
    #[serde(skip)]
    pub unsettled: [bool; 2],
}

impl WithdrawnConsent {
    /// What a lead's words come to, in the order in which the ledger has taken them in.
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

    /// Consent is withdrawn since then, until an operator has looked.
    pub fn set_unsettled(&mut self, channel: ConsentChannel, at: DateTime<Utc>) {
        self.set(channel, Some(self.get(channel).map_or(at, |since| since.max(at))));
        self.unsettled[channel as usize] = true;
    }

    /// Whether an operator has to look before anything ends the withdrawal.
    pub fn is_unsettled(&self, channel: ConsentChannel) -> bool {
        self.unsettled[channel as usize]
    }

    pub fn get(&self, channel: ConsentChannel) -> Option<DateTime<Utc>> {
        match channel {
            ConsentChannel::Email => self.email,
            ConsentChannel::Sms => self.sms,
        }
    }

    /// What of a Lead object it does not let pass; none where it contradicts nothing.
    pub fn overrides(&self, body: &str) -> Vec<ConsentOverride> {
        // Canonical: a quote inside a value is escaped, so that a key with its value is found by its letters.
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

    /// The Lead object as it may be sent; `None` where it may as it is. A key that it does not have is not added.
    pub fn keep(&self, body: &str) -> Option<String> {
        let overrides = self.overrides(body);
        let kept = overrides.iter().fold(body.to_owned(), |body, ConsentOverride { key, value, .. }| {
            body.replace(&format!("\"{}\":{}", key.name(), !value), &format!("\"{}\":{value}", key.name()))
        });
        (!overrides.is_empty()).then_some(kept)
    }
}

/// A value of the CRM's that a person's word stands against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentOverride {
    pub key: LeadKey,
    /// What is sent; the CRM says the contrary.
    pub value: bool,
    /// Since when the person's word stands.
    pub since: DateTime<Utc>,
}

impl ConsentOverride {
    /// For people.
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
        // The clock is ten minutes behind: the row's giving seems to lie ahead.
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

        /// Whatever the clock said while a giving was heard, and however far ahead the giving is dated.
        #[test]
        fn no_giving_outweighs_a_withdrawal_that_is_heard_after_it(
            givings in prop::collection::vec((0_i64..100_000_000, 0_i64..100_000_000), 1..6),
            dated_before in 0_i64..600,
        ) {
            let email = |given, at| ChannelWord { channel: ConsentChannel::Email, given, at };
            let mut ledger: Vec<HeardWord> = givings.into_iter()
                .map(|(dated, heard)| posted(email(true, at(1000 + dated)), at(1000 + heard))).collect();
            let heard_at = at(999);
            // The withdrawal is heard with the clock right, and dated some minutes earlier.
            ledger.push(posted(email(false, at(999 - dated_before)), heard_at));
            prop_assert!(WithdrawnConsent::of(&ledger).email.is_some());
            // Consent that is given after that counts, with the clock right.
            ledger.push(posted(email(true, at(1001)), at(1001)));
            prop_assert_eq!(WithdrawnConsent::of(&ledger).email, None);
        }

        /// Conversica repeats what it holds with every post, under dates of its own.
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
