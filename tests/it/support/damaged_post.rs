//! Lead Updates as Conversica posts them, and damaged forms of those that withdraw consent, made from a seed. The tests
//! check that no damage hides a withdrawal, and that no ordinary post counts as one.

use rand::RngExt;
use rand::rngs::StdRng;

use conversica_sync::conversica::consent_word::ConsentChannel;

/// A damaged post that withdraws consent.
#[derive(Debug, Clone)]
pub struct DamagedPost {
    pub body: Vec<u8>,
    pub path: &'static str,
    pub content_type: &'static str,
    /// The channel whose consent it withdraws.
    pub channel: ConsentChannel,
    pub damages: Vec<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    ByteOrderMark,
    Utf16,
    ControlCharacter,
    LoneSurrogate,
    InvalidUtf8,
    NumberOutOfRange,
    OtherBoolean,
    NumericDate,
    NumericId,
    Truncated,
    MissingPunctuation,
    DoubledKey,
    DoubledConsent,
    OtherContentType,
    TrailingGarbage,
    OtherType,
    SingleQuotes,
    Form,
    Multipart,
    OtherPath,
}

impl Damage {
    pub const ALL: [Damage; 20] = [
        Damage::ByteOrderMark,
        Damage::Utf16,
        Damage::ControlCharacter,
        Damage::LoneSurrogate,
        Damage::InvalidUtf8,
        Damage::NumberOutOfRange,
        Damage::OtherBoolean,
        Damage::NumericDate,
        Damage::NumericId,
        Damage::Truncated,
        Damage::MissingPunctuation,
        Damage::DoubledKey,
        Damage::DoubledConsent,
        Damage::OtherContentType,
        Damage::TrailingGarbage,
        Damage::OtherType,
        Damage::SingleQuotes,
        Damage::Form,
        Damage::Multipart,
        Damage::OtherPath,
    ];
}

/// A key, and its value as JSON writes it.
type Member = (String, String);

fn pick<T: Clone>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())].clone()
}

fn member(key: &str, value: &str) -> Member {
    (key.to_owned(), value.to_owned())
}

fn text(value: &str) -> String {
    format!("\"{value}\"")
}

/// The forms in which a Lead Update withdraws consent.
fn withdrawal(rng: &mut StdRng) -> (Vec<Member>, ConsentChannel) {
    let statuses = ["Unsubscribed", "Marked Spam", "Do Not Email", "Lead Requested Stop"];
    let status = member("conversationStatus", &text(pick(rng, &statuses)));
    let stage = |stage| member("conversationStage", &text(stage));
    match rng.random_range(0..8) {
        0 | 1 => (vec![member("doNotEmail", "true")], ConsentChannel::Email),
        2 => (vec![member("smsOptOut", "true")], ConsentChannel::Sms),
        3 => (vec![member("smsOptIn", "false")], ConsentChannel::Sms),
        4 => (vec![stage("Lead Stopped"), status], ConsentChannel::Email),
        5 => (vec![status], ConsentChannel::Email),
        6 => (vec![stage("Customer Stopped")], ConsentChannel::Email),
        _ => (vec![stage("Lead Stopped")], ConsentChannel::Email),
    }
}

const DATES: [&str; 4] = ["leadStatusDate", "hotLeadDate", "dateAdded", "lastMessageDate"];

/// Keys beside the withdrawal that say nothing about consent.
fn other_members(rng: &mut StdRng) -> Vec<Member> {
    let booleans = ["hotLead", "leadAtRisk", "actionRequired"];
    let all = [
        member("apiVersion", &text(pick(rng, &["7.1", "7.2"]))),
        member(pick(rng, &booleans), pick(rng, &["true", "false"])),
        member("leadStatus", &text(pick(rng, &["Hot Lead", "Further Action", "Disqualified", "None"]))),
        member(pick(rng, &DATES), &text("2026-05-25T12:06:55+00:00")),
        member("discoveredPhone1", &text("5558675309")),
        member("discoveredEmail1", &text("other@mail.example")),
        member("dealerGroup", &text("Groupe Élan")),
        member("score", "12"),
    ];
    all.into_iter().filter(|_| rng.random_range(0..2) == 0).collect()
}

fn shuffled(rng: &mut StdRng, members: Vec<Member>) -> Vec<Member> {
    let mut shuffled = Vec::new();
    for member in members {
        shuffled.insert(rng.random_range(0..=shuffled.len()), member);
    }
    shuffled
}

fn written(rng: &mut StdRng, members: &[Member]) -> String {
    let (open, colon, comma, close) =
        pick(rng, &[("{", ":", ",", "}"), ("{\n  ", ": ", ",\n  ", "\n}"), ("{ ", " : ", " , ", " }")]);
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\"{colon}{value}")).collect();
    format!("{open}{}{close}", members.join(comma))
}

/// A post which withdraws consent of that lead, with one to three kinds of damage.
pub fn damaged_post(rng: &mut StdRng, id: &str) -> DamagedPost {
    let first = pick(rng, &Damage::ALL);
    damaged_in(rng, id, first)
}

/// As [`damaged_post`], with `damage` among its kinds of damage.
pub fn damaged_in(rng: &mut StdRng, id: &str, damage: Damage) -> DamagedPost {
    let mut damages = vec![damage];
    for _ in 0..pick(rng, &[0, 0, 1, 2]) {
        let another = pick(rng, &Damage::ALL);
        if !damages.contains(&another) {
            damages.push(another);
        }
    }
    // The order in which they can be applied: values, whole text, bytes.
    damages.sort_by_key(|damage| Damage::ALL.iter().position(|kind| kind == damage));
    let (withdrawal, channel) = withdrawal(rng);
    let key = pick(rng, &["id", "id", "leadId"]);
    let mut members = vec![member(key, &text(id))];
    if rng.random_range(0..3) == 0 {
        members.push(member("clientId", &text("67890")));
    }
    members.extend(other_members(rng));
    let mut post = Members { rng, members, withdrawal };
    damages.iter().for_each(|damage| post.damage(*damage));
    let Members { rng, members, withdrawal } = post;
    let needed: Vec<String> = withdrawal.iter().chain(members.iter().take(1)).map(|(_, value)| value.clone()).collect();
    // Stage and status stay side by side; a doubled key may come before or after.
    let all = members.into_iter().chain(withdrawal).collect();
    let all = shuffled(rng, all);
    let mut text = written(rng, &all);
    let mut content_type = "application/json";
    for damage in &damages {
        text = damaged_text(rng, text, *damage, &needed);
        if *damage == Damage::OtherContentType {
            content_type = pick(rng, &["text/plain", "application/x-www-form-urlencoded", "", "text/xml; charset=x"]);
        }
    }
    if damages.contains(&Damage::Multipart) {
        text = multipart(&all);
    } else if damages.contains(&Damage::Form) {
        text = form(&all);
    }
    let paths: &[&str] = match damages.contains(&Damage::OtherPath) {
        true => &["/conversica/message", "/conversica/create"],
        false => &["/conversica/lead", "/conversicaLead/"],
    };
    let path = pick(rng, paths);
    DamagedPost { body: damaged_bytes(rng, &text, &damages), path, content_type, channel, damages }
}

struct Members<'r> {
    rng: &'r mut StdRng,
    /// The first one names the lead.
    members: Vec<Member>,
    withdrawal: Vec<Member>,
}

impl Members<'_> {
    fn add(&mut self, keys: &[&str], values: &[&str]) {
        let (key, value) = (pick(self.rng, keys), pick(self.rng, values));
        self.members.retain(|(have, _)| have != key);
        self.members.push(member(key, value));
    }

    fn damage(&mut self, damage: Damage) {
        let texts = ["leadStatus", "discoveredEmail2", "note"];
        match damage {
            Damage::ControlCharacter => {
                self.add(&texts, &["\"two\nlines\"", "\"a\tb\"", "\"a\u{1}b\"", "\"a\r\nb\u{b}\"", "\"\u{0}\""]);
            }
            Damage::LoneSurrogate => {
                self.add(&texts, &[r#""x \ud83d""#, r#""\udc00 x""#, r#""\ud83d\u0041""#, r#""\ud83dx""#]);
            }
            // Becomes a byte that is not UTF-8, see `damaged_bytes`.
            Damage::InvalidUtf8 => self.add(&texts, &["\"caf\u{e000}\"", "\"\u{e000}\u{e000}x\"", "\"x\u{e000}\""]),
            Damage::NumberOutOfRange => {
                self.add(&["score", "apiVersion", "leadStatus"], &["1e400", "-1e999", "99999999999999999999999999"]);
            }
            Damage::NumericDate => self.add(&DATES, &["1764300000", "1764300000000", "1764300000.5", "0"]),
            Damage::OtherType => self.add(
                &["hotLead", "leadStatus", "leadStatusDate", "discoveredPhone1", "apiVersion", "clientId"],
                &["\"maybe\"", "[]", "{}", "7", "[\"x\"]", "{\"value\":\"x\"}", "null", "true", "\"\""],
            ),
            Damage::NumericId => {
                let id = self.members[0].1.replace('"', "");
                self.members[0].1 = pick(self.rng, &[id.clone(), format!("{id}.0"), format!("\" {id} \"")]);
            }
            Damage::OtherBoolean => {
                let yes = pick(self.rng, &["\"yes\"", "1", "\"true\"", "\"TRUE\"", "\"1\"", "\" Y \"", "True", "1.0"]);
                let no = pick(self.rng, &["\"no\"", "0", "\"false\"", "\"False\"", "\"0\"", "\"N\"", "False", "0.0"]);
                for (_, value) in &mut self.withdrawal {
                    match value.as_str() {
                        "true" => *value = yes.to_owned(),
                        "false" => *value = no.to_owned(),
                        _ => {}
                    }
                }
            }
            Damage::DoubledKey => {
                for _ in 0..2 {
                    let value = pick(self.rng, &["true", "false", "\"x\"", "\"2026-01-01T00:00:00Z\"", "null"]);
                    let key = pick(self.rng, &["hotLead", "leadStatus", "leadStatusDate", "score"]);
                    self.members.push(member(key, value));
                }
            }
            Damage::DoubledConsent => {
                for (key, value) in self.withdrawal.clone() {
                    let doubled = match value.as_str() {
                        "true" => member(&key, pick(self.rng, &["false", "null", "true"])),
                        "false" => member(&key, pick(self.rng, &["true", "null", "false"])),
                        _ => member(&key, pick(self.rng, &["\"Sent Message\"", "null", "\"\""])),
                    };
                    self.members.push(doubled);
                }
            }
            Damage::ByteOrderMark
            | Damage::Utf16
            | Damage::Truncated
            | Damage::MissingPunctuation
            | Damage::OtherContentType
            | Damage::TrailingGarbage
            | Damage::SingleQuotes
            | Damage::Form
            | Damage::Multipart
            | Damage::OtherPath => {}
        }
    }
}

/// Damages the text, but keeps `needed`: the values of the id and of the withdrawal.
fn damaged_text(rng: &mut StdRng, text: String, damage: Damage, needed: &[String]) -> String {
    match damage {
        Damage::Truncated => {
            let ends = needed.iter().filter_map(|value| text.rfind(value.as_str()).map(|at| at + value.len()));
            let least = ends.max().unwrap_or(text.len());
            let mut cut = rng.random_range(least..=text.len());
            while !text.is_char_boundary(cut) {
                cut += 1;
            }
            text[..cut].to_owned()
        }
        Damage::MissingPunctuation => {
            let is_mark = |c: char| "{}[]\",:".contains(c);
            let marks: Vec<usize> = text.match_indices(is_mark).map(|(at, _)| at).collect();
            let at = pick(rng, &marks);
            format!("{}{}", &text[..at], &text[at + 1..])
        }
        Damage::TrailingGarbage => {
            let garbage =
                ["}", "]", ";", "garbage", "\u{0}\u{0}", "{}", "<br>", "{\"id\":\"0\"}", "--boundary--", "\""];
            format!("{text}{}", pick(rng, &garbage))
        }
        Damage::SingleQuotes => text.replace('"', "'"),
        _ => text,
    }
}

fn damaged_bytes(rng: &mut StdRng, text: &str, damages: &[Damage]) -> Vec<u8> {
    let mark = if damages.contains(&Damage::ByteOrderMark) { "\u{feff}" } else { "" };
    let text = format!("{mark}{text}");
    if damages.contains(&Damage::Utf16) {
        let unit = pick(rng, &[u16::to_le_bytes, u16::to_be_bytes]);
        return text.encode_utf16().flat_map(unit).collect();
    }
    let mut bytes = Vec::new();
    for c in text.chars() {
        match c {
            '\u{e000}' => bytes.push(pick(rng, &[0xe9, 0xff, 0xc3, 0x80])),
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

fn form(members: &[Member]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in members {
        form.append_pair(key, value.trim_matches('"'));
    }
    form.finish()
}

fn multipart(members: &[Member]) -> String {
    let part = |(key, value): &Member| {
        let value = value.trim_matches('"');
        format!("--boundary\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n")
    };
    let parts: String = members.iter().map(part).collect();
    format!("{parts}--boundary--\r\n")
}

/// An ordinary post, which withdraws nothing: its path and its body.
pub fn ordinary_post(rng: &mut StdRng, id: &str) -> (&'static str, Vec<u8>) {
    let mut members = vec![member("id", &text(id))];
    let path = if rng.random_range(0..3) == 0 {
        let said = [
            "Hi John \\nSure, tomorrow after 3 pm works.",
            "Please stop by tomorrow.",
            "Click here to unsubscribe from these mails: https://a.example/unsubscribe?id=12",
            "I did not opt out. {\\\"doNotEmail\\\": true} is what your form showed me.",
            "Do Not Email: this mailbox is not read",
            "Stop! That is the car I want.",
        ];
        members.push(member("action", &text(pick(rng, &["sent", "received"]))));
        members.push(member("date", &text("2026-05-10T05:57:44+00:00")));
        members.push(member("subject", &text(pick(rng, &["Re: Your online request", "Unsubscribed? No!"]))));
        members.push(member("body", &text(pick(rng, &said))));
        "/conversica/message"
    } else {
        let stages = [
            ("Preparing Lead", "First Message Schedule"),
            ("Messaging", "Sent Message"),
            ("Messaging", "Received Response"),
            ("Messaging", "Message Scheduled"),
            ("Excluded", "Excluded (Rep)"),
            ("Unworkable", "Bounced"),
            ("Client Stopped", "Rep Stopped"),
            ("Client Stopped", "CRM Stopped"),
            ("Client Stopped", "Client Requested Stop"),
            ("Conversica Stopped", "Listening"),
            ("Conversica Stopped", "Conversation Complete"),
            ("Lead Stopped", "No Longer at Company"),
        ];
        let (stage, status) = pick(rng, &stages);
        if rng.random_range(0..2) == 0 {
            members.push(member("conversationStage", &text(stage)));
            members.push(member("conversationStatus", &text(status)));
        }
        let consent = [("doNotEmail", "false"), ("smsOptOut", "false"), ("smsOptIn", "true")];
        for (key, value) in consent {
            if rng.random_range(0..3) == 0 {
                members.push(member(key, value));
            }
        }
        if rng.random_range(0..3) == 0 {
            members.push(member("repName", &text(pick(rng, &["Rae Rep", "Stop Gap", "Noa Optout"]))));
        }
        "/conversica/lead"
    };
    members.extend(other_members(rng));
    let members = shuffled(rng, members);
    (path, written(rng, &members).into_bytes())
}
