//! Tests of the picture that all Lead Updates of a lead add up to.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conversica::heard_dates::datetime;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn heard(updates: &[Value]) -> HeardConversation {
    let mut conversation = HeardConversation::default();
    for (second, update) in (0..).zip(updates) {
        conversation.hear(update.as_object().unwrap(), at(second));
    }
    conversation
}

fn date(day: u8) -> String {
    format!("2026-01-{day:02}T00:00:00+00:00")
}

#[test]
fn a_status_with_an_older_date_does_not_replace_a_newer_one_and_a_missing_key_clears_nothing() {
    let newest = json!({"hotLead": true, "hotLeadDate": date(3), "discoveredPhone1": "555"});
    let older = json!({"hotLead": false, "hotLeadDate": date(2)});
    let picture = heard(&[newest, older]).picture;
    assert_eq!(json!(picture), json!({"hotLead": true, "hotLeadDate": date(3), "discoveredPhone1": "555"}));
}

#[test]
fn what_has_no_date_of_its_own_is_of_the_newest_date_of_its_update() {
    let late = json!({"doNotEmail": true, "lastMessageDate": date(5)});
    let early =
        json!({"doNotEmail": false, "lastMessageDate": date(1), "lastResponseDate": date(4), "dateAdded": date(9)});
    for order in [[&late, &early], [&early, &late]] {
        let conversation = heard(&order.map(Clone::clone));
        assert_eq!(conversation.picture["doNotEmail"], json!(true));
        assert_eq!(conversation.date("doNotEmail"), datetime(&date(5)));
    }
}

#[test]
fn a_date_that_lies_ahead_counts_as_the_moment_when_it_was_heard() {
    let ahead = "2099-01-01T00:00:00Z";
    let given = json!({"doNotEmail": false, "hotLead": true, "hotLeadDate": ahead, "lastMessageDate": ahead});
    let mut conversation = heard(&[given]);
    assert_eq!(conversation.date("hotLead"), Some(at(0)));
    let dated = |second: i64| at(second).to_rfc3339();
    let withdrawn = json!({"doNotEmail": true, "lastMessageDate": dated(60)});
    let news = conversation.hear(withdrawn.as_object().unwrap(), at(61));
    assert_eq!(news["doNotEmail"], json!(true));
    // The clock runs ahead when consent is given, and is right when it is withdrawn.
    let given = json!({"smsOptIn": true, "lastMessageDate": ahead});
    conversation.hear(given.as_object().unwrap(), at(1_000_000));
    let withdrawn = json!({"smsOptIn": false, "lastMessageDate": dated(50)});
    let news = conversation.hear(withdrawn.as_object().unwrap(), at(61));
    assert_eq!(news["smsOptIn"], json!(false));
    let cold = json!({"hotLead": false, "hotLeadDate": dated(60)});
    conversation.hear(cold.as_object().unwrap(), at(62));
    assert_eq!(conversation.picture["hotLead"], json!(false));
}

#[test]
fn beginnings_are_the_earliest() {
    let picture = heard(&[json!({"dateAdded": date(5)}), json!({"dateAdded": date(2)}), json!({"dateAdded": date(3)})]);
    assert_eq!(picture.picture["dateAdded"], json!(date(2)));
}

#[test]
fn without_any_date_what_is_heard_later_wins_and_a_dated_value_replaces_it() {
    let (first, second) = (json!({"leadStatus": "A"}), json!({"leadStatus": "B"}));
    let mut conversation = heard(&[first, second]);
    assert_eq!(conversation.picture["leadStatus"], json!("B"));
    let dated = |day| json!({"leadStatus": format!("of {day}"), "leadStatusDate": date(day)});
    conversation.hear(dated(4).as_object().unwrap(), at(9));
    conversation.hear(json!({"leadStatus": "C"}).as_object().unwrap(), at(10));
    let news = conversation.hear(dated(3).as_object().unwrap(), at(11));
    assert_eq!((conversation.picture["leadStatus"].clone(), news.len()), (json!("C"), 0), "the date is remembered");
    conversation.hear(dated(4).as_object().unwrap(), at(12));
    assert_eq!(conversation.picture["leadStatus"], json!("of 4"));
}

#[test]
fn of_two_words_about_consent_at_one_instant_the_withdrawal_counts() {
    for (key, withdrawn) in [("doNotEmail", true), ("smsOptOut", true), ("smsOptIn", false)] {
        for order in [[withdrawn, !withdrawn], [!withdrawn, withdrawn]] {
            let mut undated = HeardConversation::default();
            let mut dated = HeardConversation::default();
            for value in order {
                undated.hear(json!({key: value}).as_object().unwrap(), at(1));
                dated.hear(json!({key: value, "lastMessageDate": date(1)}).as_object().unwrap(), at(1));
            }
            assert_eq!((&undated.picture[key], &dated.picture[key]), (&json!(withdrawn), &json!(withdrawn)));
        }
        let later = heard(&[json!({key: withdrawn}), json!({key: !withdrawn})]);
        assert_eq!(later.picture[key], json!(!withdrawn), "heard later");
    }
}

#[test]
fn datetimes_are_read_in_the_shapes_that_are_seen() {
    let expected = DateTime::from_timestamp(1_557_467_864, 0);
    for text in [
        "2019-05-10T05:57:44+00:00",
        "2019-05-10T05:57:44Z",
        "2019-05-10 05:57:44",
        "2019-05-10 05:57:44Z",
        "2019-05-10T07:57:44+0200",
        "2019-05-10T07:57:44+02",
        " 2019-05-10T05:57:44 ",
    ] {
        assert_eq!(datetime(text), expected, "{text}");
    }
    assert_eq!(datetime("yesterday"), None);
    let picture = heard(&[json!({"lastMessageDate": date(1)}), json!({"lastMessageDate": "yesterday"})]).picture;
    assert_eq!(picture["lastMessageDate"], json!("yesterday"), "kept as text");
}

#[test]
fn no_sender_makes_a_picture_grow_without_end() {
    let mut conversation = HeardConversation::default();
    for n in 0..1000 {
        let update = json!({format!("k{n}"): n, "long": "x".repeat(5000), "leadStatus": "y".repeat(5000)});
        conversation.hear(update.as_object().unwrap(), at(n));
    }
    assert_eq!(conversation.picture.len(), MAX_UNKNOWN_KEYS);
    assert!(conversation.picture_json().len() < 10_000);
    let known = json!({"k3": "new", "hotLead": true});
    assert_eq!(conversation.hear(known.as_object().unwrap(), at(1001)).len(), 2, "what is there goes on");
}

#[test]
fn news_are_what_has_changed_or_is_of_a_newer_date() {
    let mut conversation = heard(&[json!({"hotLead": true, "hotLeadDate": date(1), "leadStatus": "Hot Lead"})]);
    let mut news = |update: Value| {
        let news = conversation.hear(update.as_object().unwrap(), at(5));
        news.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(news(json!({"hotLead": true, "hotLeadDate": date(2)})), "hotLead hotLeadDate");
    assert_eq!(news(json!({"hotLead": true, "hotLeadDate": date(2)})), "");
    assert_eq!(news(json!({"hotLead": false, "hotLeadDate": date(1), "smsOptIn": true})), "smsOptIn");
}

fn update(dated: bool) -> impl Strategy<Value = Value> {
    let flag = || prop::option::of(any::<bool>());
    let day = || prop::option::of(1_u8..5);
    let base = if dated { (1_u8..5).prop_map(Some).boxed() } else { prop::option::of(1_u8..5).boxed() };
    let text = || prop::option::of("[ab]");
    (base, (day(), day()), (flag(), flag(), flag(), flag()), (text(), text(), text())).prop_map(
        |(last, (hot_at, added), (hot, stop, sms_in, sms_out), (status, phone, unknown))| {
            let mut update = json!({});
            let mut put = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    update[key] = value;
                }
            };
            put("lastMessageDate", last.map(|day| json!(date(day))));
            put("hotLeadDate", hot_at.map(|day| json!(date(day))));
            put("dateAdded", added.map(|day| json!(date(day))));
            put("hotLead", hot.map(Value::from));
            put("doNotEmail", stop.map(Value::from));
            put("smsOptIn", sms_in.map(Value::from));
            put("smsOptOut", sms_out.map(Value::from));
            put("leadStatus", status.map(Value::from));
            put("discoveredPhone1", phone.map(Value::from));
            put("mood", unknown.map(Value::from));
            update
        },
    )
}

/// The effect of a withdrawal depends on the order in which Conversica posted it.
fn without_consent(mut update: Value) -> Value {
    for key in ["doNotEmail", "smsOptIn", "smsOptOut"] {
        update.as_object_mut().unwrap().remove(key);
    }
    update
}

#[test]
fn a_withdrawal_with_an_older_date_stands_against_consent_that_was_posted_before_it() {
    let given = json!({"doNotEmail": false, "lastMessageDate": date(5)});
    let withdrawn = json!({"doNotEmail": true, "lastMessageDate": date(4)});
    assert_eq!(heard(&[given.clone(), withdrawn.clone()]).picture["doNotEmail"], json!(true));
    assert_eq!(heard(&[withdrawn.clone(), given.clone()]).picture["doNotEmail"], json!(false), "given later");
    let older = json!({"doNotEmail": false, "lastMessageDate": date(3)});
    assert_eq!(heard(&[given, withdrawn, older]).picture["doNotEmail"], json!(true));
}

proptest! {
    #[test]
    fn the_picture_says_of_consent_what_the_ledger_says(
        updates in prop::collection::vec((any::<bool>(), prop::option::of(-3_i64..9), 0_i64..3), 1..8),
    ) {
        let (mut conversation, mut ledger, mut second) = (HeardConversation::default(), Vec::new(), 0);
        for (withdraws, dated, pause) in updates {
            second += pause;
            let mut update = json!({"doNotEmail": withdraws});
            if let Some(dated) = dated {
                update["lastMessageDate"] = json!(at(dated).to_rfc3339());
            }
            let content = update.as_object().unwrap();
            conversation.hear(content, at(second));
            ledger.extend(consent::words(content, at(second)).into_iter().map(|word| consent::HeardWord {
                word,
                heard_at: at(second),
                source: consent::WordSource::Conversica,
            }));
            let stands = consent::WithdrawnConsent::of(&ledger).email.is_some();
            prop_assert_eq!(&conversation.picture["doNotEmail"], &json!(stands));
        }
    }

    #[test]
    fn dated_updates_come_to_the_same_in_any_order_and_however_often(
        (updates, order) in prop::collection::vec(update(true), 1..6)
            .prop_flat_map(|updates| {
                let order = prop::collection::vec(0..updates.len(), 0..8);
                (Just(updates), order)
            })
    ) {
        let updates: Vec<Value> = updates.into_iter().map(without_consent).collect();
        let straight = heard(&updates);
        let mut mixed: Vec<Value> = order.iter().map(|index| updates[*index].clone()).collect();
        mixed.extend(updates.iter().rev().cloned());
        let mut other = heard(&mixed);
        prop_assert_eq!(&other, &straight);
        for update in &updates {
            prop_assert!(other.hear(update.as_object().unwrap(), at(99)).is_empty());
        }
        prop_assert_eq!(&other, &straight, "applying again changes nothing");
    }

    #[test]
    fn an_older_date_never_replaces_and_a_missing_key_never_clears(updates in prop::collection::vec(update(true), 1..6)) {
        let mut conversation = HeardConversation::default();
        for update in &updates {
            let before = conversation.clone();
            conversation.hear(update.as_object().unwrap(), at(0));
            for (key, value) in &before.picture {
                let new = conversation.picture.get(key);
                prop_assert!(new.is_some());
                prop_assert!(update.get(key).is_some() || new == Some(value));
                if withdrawal(key).is_some() {
                    continue;
                }
                let (old, new) = (before.date(key), conversation.date(key));
                let is_kept = if BEGINNINGS.contains(&key.as_str()) { new <= old } else { new >= old };
                prop_assert!(is_kept);
            }
        }
    }

    #[test]
    fn the_same_updates_once_more_in_order_come_to_the_same(updates in prop::collection::vec((update(false), 0_i64..3), 1..8)) {
        let mut conversation = HeardConversation::default();
        let hear_all = |conversation: &mut HeardConversation| {
            for (update, second) in &updates {
                conversation.hear(update.as_object().unwrap(), at(*second));
            }
        };
        hear_all(&mut conversation);
        let once = conversation.clone();
        hear_all(&mut conversation);
        prop_assert_eq!(&conversation, &once);
        let stored = HeardConversation::of_json(&once.picture_json(), &once.versions_json());
        prop_assert_eq!(stored, once);
    }
}
