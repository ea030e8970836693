//! The words of keys and statuses which say that a person wants no more messages. Pure.
//!
//! A text is split into words wherever its spelling shows one: `hasOptedOut`, `has_opted_out` and `Has opted out` are the same
//! three. Words are compared by their stems, so that spellings count that Conversica has not published. A stop by the client, by
//! the assistant or at the end of a conversation is not the person's: see [`STOPPED_BY_OTHERS`].

mod lists;

use crate::conversica::consent_word::{BOTH, ConsentChannel, EMAIL, SMS};
pub use lists::STOPPED_BY_OTHERS;
use lists::{
    AGAINST, BETWEEN, ENDED_BY_ITSELF, FILLERS, JOINED_STOPS, KEY_STEMS, OFFERS, PERSONS, REFUSED, STATUS_ENDS, STEMS,
    WAYS,
};

/// No key and no status has more words; further words are not compared.
const MAX_WORDS: usize = 200;

/// The meaning of a key for consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMeaning {
    /// Consent is withdrawn unless the value says no.
    Refusal(&'static [ConsentChannel]),
    /// As [`KeyMeaning::Refusal`], for a value that is a moment: a blank one says no.
    RefusedAt(&'static [ConsentChannel]),
    /// Consent is withdrawn if the value says yes: the key may be about an offer to stop.
    MaybeRefusal(&'static [ConsentChannel]),
    /// Consent is withdrawn if the value says no.
    Consent(&'static [ConsentChannel]),
}

fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

/// The words of a text in lower case, without punctuation.
pub fn split_words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let begins = c.is_uppercase()
            && (before.is_lowercase() || before.is_uppercase() && letters.peek().is_some_and(|c| c.is_lowercase()));
        let changes = c.is_alphanumeric() && before.is_alphanumeric() && c.is_numeric() != before.is_numeric();
        if (begins || changes || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
            if words.len() == MAX_WORDS {
                return words;
            }
        }
        // The apostrophe of "don't" belongs to its word.
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if matches!(c, '\'' | '\u{2019}')
            && before.is_alphanumeric()
            && letters.peek().is_some_and(|c| c.is_lowercase())
        {
            word = words.pop().unwrap_or_default();
        }
        before = if matches!(c, '\'' | '\u{2019}') { before } else { c };
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The meaning of a key for consent; `None` if it has none.
pub fn meaning_of_key(key: &str) -> Option<KeyMeaning> {
    let owned = split_words(key);
    let words: Vec<&str> = owned.iter().map(String::as_str).collect();
    let is_offer = words.iter().any(|word| is_in(OFFERS, word));
    if let Some(channels) = refused(&words).or_else(|| stops_by_key(&words)) {
        let is_moment = words.iter().any(|word| ["date", "time", "at", "on", "timestamp"].contains(word));
        return Some(match (is_offer, is_moment) {
            (true, _) => KeyMeaning::MaybeRefusal(channels),
            (false, true) => KeyMeaning::RefusedAt(channels),
            (false, false) => KeyMeaning::Refusal(channels),
        });
    }
    (!is_offer && is_consent(&words)).then(|| KeyMeaning::Consent(named_channels(&words).unwrap_or(BOTH)))
}

/// Whether the value of this key is a status between Conversica and a person.
pub fn is_status_key(key: &str) -> bool {
    let words = split_words(key);
    words.last().is_some_and(|last| STATUS_ENDS.split(' ').any(|end| last.ends_with(end)))
}

/// The channels whose consent a status withdraws.
pub fn withdrawn_by_status(status: &str) -> &'static [ConsentChannel] {
    let owned = split_words(status);
    let words: Vec<&str> = owned.iter().map(String::as_str).collect();
    refused(&words).or_else(|| stopped_by_person(&words).then(|| stop_channels(&words))).unwrap_or_default()
}

/// The channels whose consent a value withdraws under any key, if it says nothing else.
pub fn withdrawn_by_value(value: &str) -> &'static [ConsentChannel] {
    let owned = split_words(value);
    let words: Vec<&str> = owned.iter().map(String::as_str).collect();
    if words.is_empty() || words.len() > 12 || !words.iter().all(|word| is_about_stopping(word)) {
        return &[];
    }
    withdrawn_by_status(value)
}

/// Whether a value says only that messages stop or may go on.
pub fn says_nothing_else(text: &str) -> bool {
    split_words(text).iter().all(|word| is_about_stopping(word))
}

/// Whether a value names text messages, and no e-mail.
pub fn names_sms(value: &str) -> bool {
    let owned = split_words(value);
    let words: Vec<&str> = owned.iter().map(String::as_str).collect();
    named_channels(&words) == Some(SMS)
}

/// Whether a value says in words that a consent was refused or withdrawn.
pub fn is_refused(value: &str) -> bool {
    let words = split_words(value);
    let letters = words.concat();
    words.len() <= 6
        && (REFUSED.split(' ').any(|stem| letters.starts_with(stem)) || !withdrawn_by_status(value).is_empty())
}

/// Whether a value says in words that nothing was refused.
pub fn is_given(value: &str) -> bool {
    let letters = split_words(value).concat();
    ["optin", "optedin", "subscribed", "notoptedout", "notunsubscribed", "never", "allowed", "granted"]
        .contains(&letters.as_str())
}

/// Whether letters without separators may be words about consent; others need no further check.
pub fn may_be_about_consent(letters: &str) -> bool {
    // The words of a longer text are not compared either.
    let letters = &letters[..letters.floor_char_boundary(20 * MAX_WORDS)];
    letters.len() > 1 && STEMS.split(' ').chain(KEY_STEMS.split(' ')).any(|stem| letters.contains(stem))
        || letters.contains("permit")
}

/// Whether the last word of a stage is "stopped", unless the client or the assistant stopped it: "Lead Stopped", "Customer
/// Stopped" and the like.
pub fn is_stage_stopped_by_person(stage: &str) -> bool {
    let letters: String = stage.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    letters.strip_suffix("stopped").is_some_and(|who| {
        !["", "auto", "automatically"].contains(&who) && !STOPPED_BY_OTHERS.split(' ').any(|other| who.ends_with(other))
    })
}

/// Whether the word may occur beside a refusal in a value that says nothing else.
fn is_about_stopping(word: &str) -> bool {
    is_in(FILLERS, word)
        || is_in(PERSONS, word)
        || is_way(word)
        || is_stop(word)
        || [
            "opt", "unsub", "spam", "complain", "remove", "consent", "revok", "withdr", "donot", "dnc", "mark",
            "report", "e",
        ]
        .iter()
        .any(|start| word.starts_with(start))
        || ["out", "sms", "take", "off", "complaint", "subscription"].contains(&word)
}

fn is_way(word: &str) -> bool {
    WAYS.split(' ').any(|way| word.starts_with(way))
}

fn is_stop(word: &str) -> bool {
    ["stop", "stops", "stopped", "stopping", "stopall"].contains(&word)
}

/// The channels that words name; `None` if they name none or all.
fn named_channels(words: &[&str]) -> Option<&'static [ConsentChannel]> {
    let names_email = |word: &&str| word.contains("mail") || word.starts_with("newsletter");
    let names_sms = |word: &&str| {
        word.contains("sms")
            || ["text", "txt", "mms", "call", "phone", "whatsapp"].iter().any(|way| word.starts_with(way))
    };
    match (words.iter().any(names_email), words.iter().any(names_sms)) {
        (true, false) => Some(EMAIL),
        (false, true) => Some(SMS),
        _ => None,
    }
}

/// The channels of a refusal. Conversica ends all messaging after a text that says stop, so only e-mail is refused alone.
fn stop_channels(words: &[&str]) -> &'static [ConsentChannel] {
    if named_channels(words) == Some(EMAIL) { EMAIL } else { BOTH }
}

/// The channels that the words refuse; `None` if they refuse none. The person in the words does not matter.
fn refused(words: &[&str]) -> Option<&'static [ConsentChannel]> {
    let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
    let starts = |names: &[&str]| words.iter().any(|word| names.iter().any(|name| word.starts_with(name)));
    let is_listed = starts(&["dncl", "blacklist", "blocklist", "suppress"]) || has(&["dnc", "dnd", "dne"]);
    if opts_out(words)
        || forbids(words)
        || is_listed
        || asks_to_be_removed(words)
        || withdraws_consent(words)
        || rejects(words)
    {
        return Some(stop_channels(words));
    }
    let is_all = has(&["all", "everything", "global", "globally"]);
    let is_spam = starts(&["spam", "abuse", "junk", "markedspam", "markspam"])
        && words.iter().any(|word| ["mark", "complain", "report", "flag"].iter().any(|stem| word.contains(stem)))
        || words == ["complaint"]
        || words == ["complained"]
        || has(&["fbl"]) && starts(&["complain"]);
    if unsubscribes(words) || is_spam {
        // Such words are about e-mails.
        let names_sms = named_channels(words) == Some(SMS);
        return Some(if is_all || names_sms { BOTH } else { EMAIL });
    }
    None
}

/// Whether the words before this place deny the next ones.
fn is_denied(words: &[&str], place: usize) -> bool {
    let before = &words[place.saturating_sub(2)..place];
    before.iter().any(|word| ["not", "never", "didnt", "hasnt", "isnt"].contains(word)) || before.last() == Some(&"no")
}

fn opts_out(words: &[&str]) -> bool {
    words.iter().enumerate().any(|(place, word)| {
        let joined = ["optout", "optedout", "optsout", "optingout"].iter().any(|stem| word.contains(stem));
        let apart = ["opt", "opted", "opts", "opting"].contains(word)
            && words[place + 1..].iter().take(2).any(|word| ["out", "outs"].contains(word));
        (joined || apart) && !is_denied(words, place)
    })
}

fn unsubscribes(words: &[&str]) -> bool {
    let is_unsubscribed = |word: &str| {
        ["unsub", "unsubbed"].contains(&word)
            || ["unsubs", "desubscri", "unsuscri"].iter().any(|stem| word.contains(stem))
    };
    let ends = ["cancel", "ended", "remove", "delete", "terminat"];
    let has_subscription = words.iter().any(|word| word.starts_with("subscription"));
    words.iter().enumerate().any(|(place, word)| {
        let ends_it = has_subscription && ends.iter().any(|stem| word.starts_with(stem));
        (is_unsubscribed(word) || ends_it) && !is_denied(words, place)
    }) || words.windows(2).any(|pair| pair[0] == "un" && pair[1].starts_with("subscri"))
}

/// "Do not email", "no more texts", "not to be contacted", "no longer wants messages".
fn forbids(words: &[&str]) -> bool {
    words.iter().enumerate().any(|(place, word)| {
        let joined = ["donot", "dont", "doesnot"].iter().find_map(|stem| word.split_once(stem));
        if joined.is_some_and(|(_, behind)| is_way(behind)) {
            return true;
        }
        let behind = &words[place + 1..];
        let next = behind.first().copied().unwrap_or_default();
        match *word {
            "do" | "does" => next == "not" && leads_to_way(&behind[1..]),
            "dont" | "donot" | "doesnt" => leads_to_way(behind),
            "never" => ["contact", "email", "mail", "text", "call", "message"].contains(&next),
            "not" => next == "to" && leads_to_way(&behind[1..]),
            "no" if ["more", "longer", "further"].contains(&next) => leads_to_way(&behind[1..]),
            "no" => {
                let wants = ["want", "wish", "ask", "request"];
                is_way(next) && words.iter().any(|word| wants.iter().any(|want| word.starts_with(want)))
            }
            word => ["nosms", "noemails", "nocontact", "notexts", "nomarketing"].contains(&word),
        }
    })
}

/// Whether words begin with a way to write to a person, perhaps after words like "want to receive any".
fn leads_to_way(words: &[&str]) -> bool {
    words.iter().take(6).find(|word| !is_in(BETWEEN, word)).is_some_and(|word| is_way(word))
}

fn asks_to_be_removed(words: &[&str]) -> bool {
    words.windows(2).any(|pair| {
        let removes = ["remove", "removed", "removeme", "delete", "take", "unlist", "forget"].contains(&pair[0]);
        removes && ["me", "us", "them", "him", "her"].contains(&pair[1])
    }) || words.iter().any(|word| word.contains("removeme"))
        || words.windows(2).any(|pair| pair[0].starts_with("remov") && pair[1] == "from")
            && words.iter().any(|word| word.contains("list"))
}

/// "Contact declined", "Removal requested", "Blocked by lead", "Lead ended conversation", "Leave me alone".
fn rejects(words: &[&str]) -> bool {
    let starts = |names: &[&str]| words.iter().any(|word| names.iter().any(|name| word.starts_with(name)));
    let is_person = |word: &str| is_in(PERSONS, word);
    let asks = starts(&["request", "asked", "ask"]);
    let wants_removal = asks && starts(&["remov", "deletion", "erasure", "forgotten"]);
    let declines = words.len() <= 3
        && starts(&["declin", "refus"])
        && starts(&["contact", "communicat", "messag", "email", "text", "sms", "market"]);
    let blocks = words.windows(3).any(|three| three[0] == "blocked" && three[1] == "by" && is_person(three[2]));
    let ends = words.windows(3).any(|three| {
        is_person(three[0]) && ["ended", "ends"].contains(&three[1]) && ["conversation", "chat"].contains(&three[2])
    });
    wants_removal || declines || blocks || ends || words == ["leave", "me", "alone"]
}

fn withdraws_consent(words: &[&str]) -> bool {
    let is_consent = |word: &&&str| ["consent", "permission"].iter().any(|stem| word.contains(stem));
    let against =
        |word: &&str| AGAINST.split(' ').any(|stem| word.contains(stem)) || ["no", "not", "never"].contains(word);
    words.iter().filter(is_consent).count() > 0 && words.iter().any(against)
}

fn is_consent(words: &[&str]) -> bool {
    let opts_in = |(place, word): (usize, &&str)| {
        let apart = ["opt", "opted", "opts"].contains(word) && words.get(place + 1) == Some(&"in");
        apart || word.ends_with("optin") || word.ends_with("optedin")
    };
    let allows = |pair: &[&str]| {
        ["can", "may", "allow", "allows", "allowed", "ok", "okay", "accept", "accepts", "accepted", "permit", "permits"]
            .contains(&pair[0])
            && pair[1..].iter().any(|word| is_way(word))
    };
    words.iter().enumerate().any(opts_in)
        || words.iter().any(|word| ["consent", "permission"].iter().any(|stem| word.starts_with(stem)))
        || words.iter().any(|word| {
            ["subscribe", "subscribed", "subscription", "contactable", "mailable", "emailable", "textable"]
                .contains(word)
        })
        || words.windows(2).any(|pair| {
            ["receive", "receives", "send", "sends", "wants"].contains(&pair[0])
                && ["email", "mail", "text", "sms", "newsletter", "messag", "market"]
                    .iter()
                    .any(|way| pair[1].starts_with(way))
        })
        || words.windows(2).any(allows)
        || words.windows(3).any(|three| three[1] == "to" && allows(&[three[0], three[2]]))
        || words.windows(2).any(|pair| is_way(pair[0]) && ["allowed", "accepted", "permitted", "ok"].contains(&pair[1]))
}

/// For a key that says only that messages stop. Its value says who stopped them, why and when.
fn stops_by_key(words: &[&str]) -> Option<&'static [ConsentChannel]> {
    let is_said_by_value = words.iter().any(|word| ["by", "reason", "status", "type"].contains(word));
    let is_moment = words.iter().all(|word| is_stop(word) || ["date", "time", "at", "on"].contains(word));
    let is_part = |word: &&str| is_stop(word) || is_in(FILLERS, word) || is_in(PERSONS, word) || is_way(word);
    let is_denied = words.iter().any(|word| ["no", "not", "dont", "do"].contains(word));
    let apart = words.iter().any(|word| is_stop(word)) && words.iter().all(is_part) && !is_denied;
    let is_alone = words.iter().all(|word| is_stop(word));
    let joined = words.iter().any(|word| JOINED_STOPS.split(' ').any(|stem| word.contains(stem)));
    ((apart && (is_alone || !is_moment) || joined) && !is_said_by_value).then(|| stop_channels(words))
}

/// Whether a status says that messages stop because the person wants it, or gives no reason.
fn stopped_by_person(words: &[&str]) -> bool {
    let asks = |word: &&str| {
        let asked = ["request", "repl", "text", "sms", "receiv", "keyword", "asked", "want", "answer"];
        asked.iter().any(|stem| word.starts_with(stem))
    };
    if words.windows(3).any(|three| three == ["no", "longer", "at"]) {
        // "No Longer at Company" is no refusal of messages.
        return false;
    }
    let Some(place) = words.iter().position(|word| is_stop(word) || word.ends_with("stopped")) else {
        return replies_with_keyword(words);
    };
    if !is_stop(words[place]) {
        return is_stage_stopped_by_person(words[place]);
    }
    let next = words.get(place + 1).copied().unwrap_or_default();
    let is_other_use =
        ["respond", "reply", "answer", "engag", "visit", "read", "gap"].iter().any(|stem| next.starts_with(stem));
    if is_other_use
        || next == "in"
        || place > 0 && ["non", "one", "bus", "pit", "not", "never"].contains(&words[place - 1])
    {
        return false;
    }
    if let Some(by) = words[place..].iter().position(|word| *word == "by") {
        let who = &words[place + by + 1..];
        let is_asked = who.iter().any(|word| asks(word) || is_way(word));
        // "Please stop by tomorrow" and "stopped by" mean a visit.
        return first_party(who).unwrap_or(is_asked || words[place] != "stop" && !who.is_empty());
    }
    first_party(words).unwrap_or_else(|| {
        let ended = words.iter().any(|word| is_in(ENDED_BY_ITSELF, word));
        words.iter().any(asks) || !ended && !words.windows(2).any(|pair| pair == ["no", "response"])
    })
}

/// Whether the first party that words name is the person; `None` if they name none. "Lead manager" is a manager.
fn first_party(words: &[&str]) -> Option<bool> {
    let is_other = |word: &str| is_in(STOPPED_BY_OTHERS, word);
    (0..words.len()).find_map(|place| {
        let is_person = is_in(PERSONS, words[place]) && !words.get(place + 1).is_some_and(|next| is_other(next));
        (is_person || is_other(words[place])).then_some(is_person)
    })
}

/// Whether the first party that a text names is the person who is written to.
pub fn names_person(text: &str) -> bool {
    let words = split_words(text);
    first_party(&words.iter().map(String::as_str).collect::<Vec<_>>()) == Some(true)
}

/// The words that mobile networks understand like STOP.
fn replies_with_keyword(words: &[&str]) -> bool {
    words.windows(2).any(|pair| {
        ["replied", "texted", "answered", "sent", "keyword"].contains(&pair[0])
            && ["quit", "end", "cancel", "revoke", "arret", "alto"].contains(&pair[1])
    })
}

#[cfg(test)]
mod tests;
