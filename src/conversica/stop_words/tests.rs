//! Tests of the words: stops are found in any spelling, and the ordinary vocabulary does not count as a stop.

use proptest::prelude::*;

use super::*;
use crate::conversica::post::PostKind;
use crate::conversica::vocabulary::{ACTIONS, LEAD_STATUSES, STAGES};

#[test]
fn a_text_is_split_where_its_spelling_shows_a_word() {
    for text in ["hasOptedOut", "has_opted_out", "Has opted out", "HAS-OPTED-OUT", " has.Opted (out) "] {
        assert_eq!(split_words(text), ["has", "opted", "out"], "{text}");
    }
    assert_eq!(split_words("SMSOptOut"), ["sms", "opt", "out"]);
    assert_eq!(split_words("Don't text"), ["dont", "text"]);
    assert_eq!(split_words("lead 'status'"), ["lead", "status"]);
    assert_eq!(split_words("phone1x"), ["phone", "1", "x"]);
    assert_eq!(split_words("''"), Vec::<String>::new());
    assert_eq!(split_words(&"a ".repeat(1_000_000)).len(), MAX_WORDS);
}

#[test]
fn a_status_that_says_stop_withdraws_consent() {
    let both = [
        "SMS Opt Out",
        "Lead Opted Out",
        "Opted out by request",
        "Requested Stop",
        "Stop Requested",
        "Customer Requested Stop",
        "Text STOP received",
        "Replied STOP",
        "Replied QUIT",
        "STOP",
        "Stopped",
        "Stopped by Lead",
        "Stopped by the customer",
        "Stopped by SMS reply",
        "Contact Stopped",
        "Lead Stopped",
        "Lead Stopped - unhappy",
        "Do Not Text",
        "Do Not Contact",
        "Do not auto contact",
        "Don't call",
        "Does not want to receive any messages",
        "No longer wants to be contacted",
        "No more texts please",
        "Asked not to be contacted",
        "DNC",
        "On DNC list",
        "Remove me",
        "Take me off your list",
        "Removed from mailing list by lead, all channels: texts and emails",
        "Consent withdrawn",
        "Revoked consent",
        "Blacklisted",
        "Suppressed",
        "Unsubscribed from all",
        "Unsubscribed from texts",
    ];
    for status in both {
        assert_eq!(withdrawn_by_status(status), BOTH, "{status}");
    }
    let email = [
        "Unsubscribed",
        "Lead unsubscribed from emails",
        "Email Unsubscribed",
        "Lead Stopped (Unsubscribed)",
        "unsubscribe",
        "Spam Complaint",
        "Marked as Spam",
        "Marked Spam",
        "Reported as spam",
        "Complaint",
        "Do Not Email",
        "Opted out of e-mail",
        "Subscription cancelled",
    ];
    for status in email {
        assert_eq!(withdrawn_by_status(status), EMAIL, "{status}");
    }
}

#[test]
fn a_stop_that_others_made_and_other_words_are_none() {
    let others = [
        "Client Requested Stop",
        "Manager Stopped",
        "Stopped by Rep",
        "Stopped by a rep",
        "Stopped by the system",
        "Stopped by Lead Manager",
        "Stopped by John's sales team",
        "System stopped",
        "Sales Rep Stopped",
        "Stopped: conversation finished",
        "Stopped - Conversation Complete",
        "Stopped (no response)",
        "Stopped automatically: pause limit",
        "Lead stopped responding",
        "Stopped in at the showroom",
        "Will stop by tomorrow",
        "Please stop by",
        "Non-stop",
        "One-stop shop",
        "Stop Gap",
        "No Longer at Company",
        "No Longer at Company (stopped)",
        "No Contact Made",
        "Never Contacted",
        "No Email",
        "Could not contact",
        "Does not have email",
        "Does not respond to emails",
        "Not opted out",
        "Has not unsubscribed",
        "Opted In",
        "Subscribed",
        "Not Interested",
        "Attempted Contact",
        "Left voicemail, text sent",
        "Option outlined",
        "Spam",
        "Take the call",
        "No further action",
        "Consent given",
        "Adopt outreach",
        "Wants a call",
    ];
    for status in others {
        assert_eq!(withdrawn_by_status(status), [] as [ConsentChannel; 0], "{status}");
    }
}

#[test]
fn a_value_counts_by_itself_only_where_it_says_nothing_else() {
    for value in ["Unsubscribed", "opted out of SMS", "STOP", "Lead requested stop", "do_not_email"] {
        assert!(!withdrawn_by_value(value).is_empty(), "{value}");
    }
    for value in [
        "Noa Optout",
        "Stop Gap",
        "Click here to unsubscribe from these mails",
        "I did not opt out",
        "https://a.example/unsubscribe?id=12",
        "Bus Stop Café",
        "",
    ] {
        assert!(withdrawn_by_value(value).is_empty(), "{value}");
    }
}

#[test]
fn keys_have_the_meaning_of_their_words() {
    for key in [
        "stopMessaging",
        "dnc",
        "doNotCall",
        "optOut",
        "smsStop",
        "leadRequestedStop",
        "globalOptOut",
        "consentWithdrawn",
    ] {
        assert_eq!(meaning_of_key(key), Some(KeyMeaning::Refusal(BOTH)), "{key}");
    }
    for key in ["hasOptedOutOfEmail", "doNotEmailFlag", "isUnsubscribed", "hs_email_optout_123", "markedAsSpam"] {
        assert_eq!(meaning_of_key(key), Some(KeyMeaning::Refusal(EMAIL)), "{key}");
    }
    assert_eq!(meaning_of_key("unsubscribeDate"), Some(KeyMeaning::RefusedAt(EMAIL)));
    assert_eq!(meaning_of_key("unsubscribeLink"), Some(KeyMeaning::MaybeRefusal(EMAIL)));
    assert_eq!(meaning_of_key("optIn"), Some(KeyMeaning::Consent(BOTH)));
    assert_eq!(meaning_of_key("emailConsent"), Some(KeyMeaning::Consent(EMAIL)));
    assert_eq!(meaning_of_key("textOptIn"), Some(KeyMeaning::Consent(SMS)));
    assert_eq!(meaning_of_key("acceptsMarketing"), Some(KeyMeaning::Consent(BOTH)));
    for key in [
        "repStopped",
        "stopDate",
        "stoppedBy",
        "stopReason",
        "busStop",
        "option",
        "adoptingPets",
        "description",
        "contactId",
        "leadStatus",
        "message",
        "can",
        "optimalTime",
        "conversationStopped",
        "textBody",
    ] {
        assert_eq!(meaning_of_key(key), None, "{key}");
    }
}

#[test]
fn nothing_that_conversica_publishes_is_a_stop_but_what_the_person_said() {
    const SAID: [&str; 5] = ["Lead Stopped", "Unsubscribed", "Marked Spam", "Do Not Email", "Lead Requested Stop"];
    let stages = STAGES.iter().flat_map(|(stage, statuses)| std::iter::once(stage).chain(statuses.iter()));
    for value in stages.chain(&LEAD_STATUSES).chain(&ACTIONS) {
        assert_eq!(!withdrawn_by_status(value).is_empty(), SAID.contains(value), "{value}");
    }
    for (key, _) in PostKind::ALL.iter().flat_map(|kind| kind.keys()) {
        let expected = match *key {
            "doNotEmail" => Some(KeyMeaning::Refusal(EMAIL)),
            "smsOptOut" => Some(KeyMeaning::Refusal(BOTH)),
            "smsOptIn" => Some(KeyMeaning::Consent(SMS)),
            _ => None,
        };
        assert_eq!(meaning_of_key(key), expected, "{key}");
    }
}

/// Words in one of the spellings that systems give them.
fn spelled(words: &[&str], spelling: usize) -> String {
    let capital = |word: &&str| word[..1].to_uppercase() + &word[1..];
    match spelling {
        0 => words[0].to_owned() + &words[1..].iter().map(capital).collect::<String>(),
        1 => words.iter().map(capital).collect(),
        2 => words.join("_"),
        3 => words.join("-"),
        4 => words.join(" "),
        5 => words.iter().map(capital).collect::<Vec<_>>().join(" "),
        6 => words.join("_").to_uppercase(),
        7 => words.join(".") + ".",
        _ => words.join(" ").to_uppercase(),
    }
}

/// Refusals in separate words.
fn refusal() -> impl Strategy<Value = Vec<&'static str>> {
    let way = prop::sample::select(vec!["contact", "email", "mail", "text", "sms", "call", "message", "phone"]);
    let opt = prop::sample::select(vec!["opt", "opted", "opts"]);
    prop_oneof![
        way.prop_map(|way| vec!["do", "not", way]),
        opt.prop_map(|opt| vec![opt, "out"]),
        Just(vec!["unsubscribe"]),
        Just(vec!["unsubscribed"]),
        Just(vec!["dnc"]),
        Just(vec!["remove", "me"]),
        Just(vec!["consent", "revoked"]),
        Just(vec!["withdrawn", "consent"]),
        Just(vec!["spam", "complaint"]),
        Just(vec!["marked", "as", "spam"]),
        Just(vec!["requested", "stop"]),
    ]
}

proptest! {
    #[test]
    fn a_refusal_is_found_in_every_spelling_and_between_other_words(
        refusal in refusal(),
        before in prop::sample::select(vec!["", "has", "is", "lead", "global", "sms", "acme"]),
        behind in prop::sample::select(vec!["", "flag", "by request", "now", "of email"]),
        spelling in 0_usize..9,
    ) {
        let words: Vec<&str> = [before].into_iter().chain(refusal.iter().copied()).chain(behind.split(' ')).filter(|w| !w.is_empty()).collect();
        let text = spelled(&words, spelling);
        prop_assert!(!withdrawn_by_status(&text).is_empty(), "status {text}");
        if !(words.contains(&"by") || before == "acme" && refusal.contains(&"stop")) {
            let meaning = meaning_of_key(&text);
            prop_assert!(matches!(meaning, Some(KeyMeaning::Refusal(_))), "key {text}: {meaning:?}");
        }
        let joined: String = refusal.concat();
        prop_assert!(may_be_about_consent(&joined) && may_be_about_consent(&split_words(&text).concat()), "{text}");
    }

    #[test]
    fn a_stop_is_of_whom_it_names(
        other in prop::sample::select(STOPPED_BY_OTHERS.split(' ').collect::<Vec<_>>()),
        person in prop::sample::select(vec!["lead", "customer", "recipient", "prospect", "patient"]),
        spelling in 2_usize..9,
    ) {
        for (who, is_stop) in [(other, false), (person, true)] {
            for words in [vec![who, "stopped"], vec!["stopped", "by", who], vec!["stopped", "by", "the", who], vec![who, "requested", "stop"]] {
                let text = spelled(&words, spelling);
                prop_assert_eq!(!withdrawn_by_status(&text).is_empty(), is_stop, "{}", text);
            }
        }
    }

    #[test]
    fn whatever_is_asked_is_answered(text in any::<String>()) {
        split_words(&text);
        meaning_of_key(&text);
        withdrawn_by_status(&text);
        withdrawn_by_value(&text);
    }

    #[test]
    fn no_word_that_means_something_is_passed_over_unsplit(
        words in prop::collection::vec("opt|out|in|stop|stopped|do|not|email|text|by|lead|rep|no|more|consent|can|dnc|spam|marked|me|remove", 1..5),
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = spelled(&words, 4);
        if meaning_of_key(&text).is_some() || !withdrawn_by_status(&text).is_empty() {
            prop_assert!(may_be_about_consent(&words.concat()), "{text}");
        }
    }
}
