//! Sorts the plain values of a readable post: possible withdrawals of consent, values that leave consent in doubt, and prose.
//! Pure.

use serde_json::{Map, Value};

use crate::conversica::consent_word::{ConsentChannel, EMAIL};
use crate::conversica::stop_words::{self, is_status_key, meaning_of_key, split_words};
use crate::conversica::withdrawal::near::WordComparer;
use crate::conversica::withdrawal::phrase::{KEYS, NO, STATUS_KEYS, is_no_moment};

/// A longer text with blanks is prose.
const MAX_STATUS_BYTES: usize = 120;
/// A longer text without blanks may be encoded.
const MAX_WORD_BYTES: usize = 24;
/// This many names around a value count as its key.
const MAX_NAMES: usize = 2;

/// The last words of keys under which people, or templates of mails, write freely.
const PROSE: &str = "history note notes body bodies text texts footer comment comments message messages description disclaimer \
     signature summary transcript html subject snippet template content keyword keywords reply response answer question \
     conversation chat details remark remarks furtheraction html5 preview excerpt";

/// The last words of keys of prose that may hold the lead's own answer.
const ANSWERS: &str = "message messages body reply response answer comment comments";

/// An answer that is only a stop has no more words: `Stop`, `Opt out`. A longer text may be an offer to stop.
const MAX_ANSWER_WORDS: usize = 2;

/// The last words of keys that say who or where a person is, but not what the person wants.
const PLACES: &str = "name city town street address country county company employer dealer dealership make model vehicle title \
     source campaign url uri link links href";

/// Words of a business in which other things than messages stop, and others than persons opt out.
const BUSINESS: &str = "lease leases deal deals bank loan loans order orders sale sales sold vehicle car truck trade warranty insurance \
     contract offer payment credit lender finance financing required needed necessary applicable recall";

/// Words of a key that is about a check, or a time of the day, and not about a wish of the person.
const CHECKS: &str = "scrub scrubbed scrubs check checked checks before after until registry listed verified";

/// Words that say that messages stop.
const STOPS: &str = "stop stops stopped stopping";

/// Words of a stop that a program made.
const AUTOMATIC: &str = "auto automated automatic";

/// First words of keys that say what is to be done, and not what was.
const PLANS: &str = "next planned suggested recommended proposed future upcoming default";

/// Words of a short status after which nothing may be sent until an operator has looked.
const DOUBTED: &str = "quit arret cease deceased litigator litigation lawsuit tcpa gdpr forgotten baja désabonné désinscrit desuscrito \
     abgemeldet abbestellt descadastrado";
const MAX_DOUBTED_WORDS: usize = 6;

/// The keys of consent of a Lead Update: a blank value under them is damage.
const IN_POSTS: [&str; 3] = ["doNotEmail", "smsOptOut", "smsOptIn"];

/// The possible meaning of a value.
enum LeafMeaning {
    /// It counts by the rules of keys and statuses.
    Judged,
    /// It may withdraw consent from these channels.
    Unclear(&'static [ConsentChannel]),
    /// It says nothing about consent.
    Unrelated,
}

fn is_in(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// The value without its prose and without parts that leave consent in doubt; `None` if nothing is left. The channels in doubt
/// are added to `unclear`.
pub(super) fn without_prose(
    names: &mut Vec<String>,
    value: &Value,
    near: &mut WordComparer,
    unclear: &mut Vec<ConsentChannel>,
) -> Option<Value> {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (key, value) in members {
                names.push(key.clone());
                if let Some(value) = without_prose(names, value, near, unclear) {
                    kept.insert(key.clone(), value);
                }
                names.pop();
            }
            Some(Value::Object(kept))
        }
        Value::Array(values) => {
            let kept = values.iter().filter_map(|value| without_prose(names, value, near, unclear)).collect();
            Some(Value::Array(kept))
        }
        plain => match sorted(names, plain, near) {
            LeafMeaning::Judged => Some(plain.clone()),
            LeafMeaning::Unclear(channels) => {
                unclear.extend(channels);
                None
            }
            LeafMeaning::Unrelated => None,
        },
    }
}

fn sorted(names: &[String], value: &Value, near: &mut WordComparer) -> LeafMeaning {
    let nearest: Vec<&str> = names.iter().rev().take(MAX_NAMES).map(String::as_str).collect();
    let published = nearest.iter().any(|name| is_published(name, near));
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Null => return LeafMeaning::Judged,
        _ if published => return LeafMeaning::Judged,
        other => return of_flag(nearest.first().copied().unwrap_or_default(), &other.to_string()),
    };
    if holds_json(text) {
        return LeafMeaning::Judged;
    }
    let key = nearest.first().copied().unwrap_or_default();
    if text.trim().is_empty() && !IN_POSTS.iter().any(|name| name.eq_ignore_ascii_case(key)) {
        return LeafMeaning::Unrelated;
    }
    if text.len() < MAX_STATUS_BYTES && is_stopped_by_person(key, text) {
        return LeafMeaning::Unclear(&ConsentChannel::ALL);
    }
    let is_status = nearest.iter().any(|name| name.len() < MAX_STATUS_BYTES && is_status_key(name));
    if published || is_status && !is_free_text(key, text) && !is_under_prose(names) {
        return of_status(key, text);
    }
    if ends_in(ANSWERS, key) && split_words(text).len() <= MAX_ANSWER_WORDS {
        // The sender is not known: a lead who wants no more messages, or a template.
        return match stop_words::withdrawn_by_value(text) {
            [] => LeafMeaning::Unrelated,
            channels => LeafMeaning::Unclear(channels),
        };
    }
    if is_free_text(key, text) || ends_in(PLACES, key) || text.contains("://") {
        return LeafMeaning::Unrelated;
    }
    if key.len() < MAX_STATUS_BYTES
        && meaning_of_key(&nearest.iter().rev().copied().collect::<Vec<_>>().join(" ")).is_some()
    {
        return of_flag(key, text);
    }
    let has_blank = text.contains(char::is_whitespace);
    if !has_blank && (text.len() > MAX_WORD_BYTES || text.contains(['{', '[', '<', '=', '&', '%'])) {
        // An encoded text.
        return LeafMeaning::Judged;
    }
    match stop_words::withdrawn_by_value(text) {
        [] => LeafMeaning::Unrelated,
        channels => LeafMeaning::Unclear(channels),
    }
}

/// A published key, or one that differs from it by a damaged letter, or one whose name says status or stage.
fn is_published(name: &str, near: &mut WordComparer) -> bool {
    let letters: String = name.chars().take(80).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    near.is_near(&letters, "smsoptin", 1)
        || KEYS.iter().any(|(key, _, damage)| near.is_near(&letters, key, *damage))
        || STATUS_KEYS.iter().any(|key| near.is_near(&letters, key, 1))
}

fn holds_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object() || value.is_array())
}

fn is_free_text(key: &str, text: &str) -> bool {
    ends_in(PROSE, key)
        || text.trim().contains('\n')
        || text.len() > MAX_STATUS_BYTES && text.contains(char::is_whitespace)
        || text.contains("</") && text.contains(char::is_whitespace)
}

fn ends_in(list: &str, key: &str) -> bool {
    let words = split_words(key);
    words.last().is_some_and(|last| is_in(list, last)) || is_in(list, &words.concat())
}

fn is_under_prose(names: &[String]) -> bool {
    names.iter().any(|name| ends_in(PROSE, name))
}

/// `stoppedBy: "Lead"`, `stopReason: "Lead request"`: the key says that messages stop, and the value names the person.
fn is_stopped_by_person(key: &str, text: &str) -> bool {
    let words = split_words(key);
    let names_party = words.last().is_some_and(|last| ["by", "reason", "source", "actor"].contains(&last.as_str()));
    names_party && words.iter().any(|word| is_in(STOPS, word)) && stop_words::names_person(text)
}

/// `smsOptStatus: "OUT"`.
fn is_out(key: &str, words: &[String]) -> bool {
    words == ["out"] && split_words(key).iter().any(|word| ["opt", "opted"].contains(&word.as_str()))
}

/// A status that is not the person's own wish, or may not be, and after which nothing may be sent all the same: "Auto Stopped",
/// "Wrong Number", "Quit".
fn is_doubted(words: &[String]) -> bool {
    let has = |list: &str| words.iter().any(|word| is_in(list, word));
    let is_wrong = has("wrong") && has("number numbers person people email address phone contact recipient");
    let is_ended = has("ended cancelled canceled terminated") && words.iter().any(|word| word == "by");
    let is_stop = has(STOPS);
    if !is_stop && !stop_words::withdrawn_by_status(&words.join(" ")).is_empty() {
        // It says by itself what the person wants.
        return false;
    }
    words.len() <= MAX_DOUBTED_WORDS && (has(DOUBTED) || is_ended && stop_words::names_person(&words.join(" ")))
        || is_wrong
        || is_stop && has(AUTOMATIC)
}

fn of_status(key: &str, text: &str) -> LeafMeaning {
    let words = split_words(text);
    if is_out(key, &words) || is_doubted(&words) {
        return LeafMeaning::Unclear(&ConsentChannel::ALL);
    }
    let is_planned = split_words(key).first().is_some_and(|first| is_in(PLANS, first));
    match stop_words::withdrawn_by_status(text) {
        channels if is_planned && !channels.is_empty() => LeafMeaning::Unclear(channels),
        // The lead may be spam, or may have called a message spam.
        [] if words == ["spam"] => LeafMeaning::Unclear(EMAIL),
        [] => LeafMeaning::Judged,
        channels if words.iter().any(|word| is_in(BUSINESS, word)) => LeafMeaning::Unclear(channels),
        _ => LeafMeaning::Judged,
    }
}

/// The meaning of a key that is not published.
fn of_flag(key: &str, text: &str) -> LeafMeaning {
    let words = split_words(key);
    let no: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let is_no = no.is_empty() || NO.contains(&no.as_str());
    if words.len() == 2
        && words[0] == "no"
        && ["email", "emails", "mail", "sms", "text", "texts", "contact", "marketing"].contains(&words[1].as_str())
    {
        return if is_no { LeafMeaning::Unrelated } else { LeafMeaning::Unclear(&ConsentChannel::ALL) };
    }
    // `messagingStopDate` may be the end of the assistant's work; `leadStopDate` is not.
    let is_moment = words.iter().any(|word| is_in("date time at on timestamp", word));
    let is_own = words.iter().any(|word| word.starts_with("request")) || stop_words::names_person(key);
    if is_moment && !is_own && words.iter().any(|word| is_in(STOPS, word)) {
        return if is_no || is_no_moment(text) {
            LeafMeaning::Unrelated
        } else {
            LeafMeaning::Unclear(&ConsentChannel::ALL)
        };
    }
    let is_refusal = stop_words::meaning_of_key(key).is_some();
    if is_refusal && words.iter().any(|word| is_in(CHECKS, word)) {
        return if is_no { LeafMeaning::Unrelated } else { LeafMeaning::Unclear(&ConsentChannel::ALL) };
    }
    LeafMeaning::Judged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::heard;
    use crate::conversica::post::PostKind;
    use crate::conversica::withdrawal::in_readable;

    /// The channels that count, and the channels that are in doubt.
    fn found(said: &str) -> (Vec<ConsentChannel>, Vec<ConsentChannel>) {
        let body = format!(r#"{{"id":"12",{said}}}"#);
        let post = heard::read(PostKind::LeadUpdate, body.as_bytes()).expect("it can be read");
        let words = crate::conversica::consent::words(&post.content, chrono::DateTime::UNIX_EPOCH);
        in_readable(&post, &words).map(|found| (found.channels, found.unclear)).unwrap_or_default()
    }

    #[test]
    fn an_answer_that_is_nothing_but_a_stop_holds_the_lead() {
        for said in [
            r#""lastMessage":"Stop""#,
            r#""lastMessageBody":"STOP!""#,
            r#""reply":"Unsubscribe""#,
            r#""leadComment":"Opt out""#,
            r#""conversation":[{"from":"lead","body":"stop"}]"#,
        ] {
            let (counts, unclear) = found(said);
            assert!(counts.is_empty() && !unclear.is_empty(), "{said}: {counts:?} {unclear:?}");
        }
    }

    #[test]
    fn prose_with_an_offer_to_stop_says_nothing() {
        let keys = [
            "conversationHistory",
            "conversation",
            "lastMessage",
            "lastMessageBody",
            "history",
            "notes",
            "furtherAction",
            "comment",
            "footer",
            "emailFooter",
            "disclaimer",
            "keywords",
            "description",
        ];
        let texts = [
            "Hi,\\nthanks.\\n--\\nUnsubscribe: https://go.example.com/u?id=77\\nPrivacy",
            "If you no longer wish to receive these emails, click unsubscribe. Reply STOP to opt out.",
            "<p>Hi</p><a href=\\\"https://x.example/unsubscribe\\\">Unsubscribe</a>",
            "Text STOP to end",
            "Reply STOP to unsubscribe",
            "STOP, UNSUBSCRIBE, END",
        ];
        for key in keys {
            for text in texts {
                for said in
                    [format!(r#""{key}":"{text}""#), format!(r#""{key}":[{{"from":"assistant","body":"{text}"}}]"#)]
                {
                    assert_eq!(found(&said), (vec![], vec![]), "{said}");
                }
            }
        }
        let others = [
            r#""keywords":"Stop""#,
            r#""emailFooter":"Unsubscribe""#,
            r#""lastMessage":"Yes please""#,
            r#""doNotEmailReason":"""#,
            r#""globalOptOut":"""#,
            r#""city":"Stopping""#,
            r#""optOutKeyword":"STOP""#,
            r#""unsubscribeLink":"https://x.example/u/1""#,
            r#""stoppedBy":"Sales Rep""#,
            r#""stoppedBy":"John Lead Manager""#,
            r#""stoppedBy":"Conversica""#,
            r#""stopReason":"Conversation complete""#,
            r#""messagingStopDate":"""#,
            r#""messagingStopDate":"0000-00-00""#,
            r#""nextAction":"Call the lead""#,
            r#""smsOptStatus":"IN""#,
            r#""leadStatus":"Number verified""#,
            r#""list":"Do Not Contact Test""#,
            r#""dncChecked":false"#,
        ];
        for said in others {
            assert_eq!(found(said), (vec![], vec![]), "{said}");
        }
    }

    #[test]
    fn what_is_neither_status_nor_prose_leaves_consent_in_doubt() {
        let said = [
            r#""dncScrubDate":"2026-11-01""#,
            r#""dncChecked":true"#,
            r#""doNotCallBefore":"09:00""#,
            r#""contactList":"Do Not Contact""#,
            r#""tags":["unsubscribed"]"#,
            r#""leadStatus":"Lease opt out""#,
            r#""leadStatus":"Deal stopped by bank""#,
            r#""conversationStatus":"Consent not required""#,
            r#""conversationStatus":"Spam""#,
            r#""noEmail":true"#,
            r#""noSms":true"#,
            r#""noContact":true"#,
            r#""noMarketing":true"#,
            r#""conversationStatus":"Auto Stopped""#,
            r#""conversationStage":"Auto Stopped""#,
            r#""conversationStatus":"Stopped - Wrong Number""#,
            r#""conversationStatus":"Wrong Number""#,
            r#""conversationStatus":"Quit""#,
            r#""conversationStatus":"Lead Quit""#,
            r#""conversationStatus":"Cancelled by lead""#,
            r#""conversationStatus":"Deceased""#,
            r#""conversationStatus":"Cease and desist""#,
            r#""conversationStatus":"Abgemeldet""#,
            r#""conversationStatus":"Dado de baja""#,
            r#""messagingStopDate":"2026-11-01""#,
            r#""messagingStopDate":1764300000"#,
            r#""nextAction":"stop""#,
            r#""recommendedAction":"Opt out""#,
            r#""smsOptStatus":"OUT""#,
            r#""emailOptStatus":"Out""#,
            r#""stoppedBy":"Lead""#,
            r#""stoppedBy":"the customer""#,
            r#""stopReason":"Lead request""#,
        ];
        for said in said {
            let (clear, unclear) = found(said);
            assert!(clear.is_empty() && !unclear.is_empty(), "{said}: {clear:?} {unclear:?}");
        }
    }

    #[test]
    fn a_status_and_a_key_of_consent_count_at_once() {
        let said = [
            r#""contactable":false"#,
            r#""emailable":false"#,
            r#""mailable":false"#,
            r#""receiveEmails":false"#,
            r#""sendEmails":false"#,
            r#""doNotEmail":["false","true"]"#,
            r#""conversationStatus":"Requested removal""#,
            r#""conversationStatus":"Removal requested""#,
            r#""conversationStatus":"Asked to be removed""#,
            r#""conversationStatus":"Removed by request""#,
            r#""conversationStatus":"No further contact""#,
            r#""conversationStatus":"Unsubbed""#,
            r#""conversationStatus":"FBL complaint""#,
            r#""conversationStatus":"Blocked by lead""#,
            r#""conversationStatus":"Deletion Requested""#,
            r#""conversationStatus":"GDPR erasure request""#,
            r#""conversationStatus":"Contact declined""#,
            r#""conversationStatus":"Refused contact""#,
            r#""conversationStatus":"Lead Ended Conversation""#,
            r#""conversationStatus":"Leave me alone""#,
            r#""conversationStatus":"Opted Out via Text""#,
            r#""payload":"{\"doNotEmail\":true}""#,
            r#""data":{"conversationStatus":"Unsubscribed"}"#,
        ];
        for said in said {
            let (clear, unclear) = found(said);
            assert!(clear.contains(&ConsentChannel::Email) && unclear.is_empty(), "{said}: {clear:?} {unclear:?}");
        }
        for said in [
            r#""contactable":true"#,
            r#""sendEmails":true"#,
            r#""leadStatus":"Removed from lot""#,
            r#""leadStatus":"Vehicle removed""#,
            r#""leadStatus":"Declined appointment""#,
            r#""conversationStatus":"No Email","conversationStage":"Unworkable""#,
        ] {
            assert_eq!(found(said), (vec![], vec![]), "{said}");
        }
    }
}
