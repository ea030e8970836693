//! Tests of possible withdrawals: damaged posts that say stop, and posts that do not.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conversica::{consent, heard};

/// The leads whose consent a Lead Update withdraws, for certain or until an operator decides, and the channels.
fn withdrawn(body: &[u8]) -> (Vec<String>, Vec<ConsentChannel>) {
    let (mut ids, mut channels) = (Vec::new(), Vec::new());
    let found = match heard::read(PostKind::LeadUpdate, body) {
        Ok(post) => {
            let words = consent::words(&post.content, chrono::DateTime::UNIX_EPOCH);
            channels.extend(words.iter().filter(|word| !word.given).map(|word| word.channel));
            let found = in_readable(&post, &words);
            if !channels.is_empty() || found.is_some() {
                ids.push(post.lead.id);
            }
            found
        }
        Err(_) => in_unreadable(PostKind::LeadUpdate, body),
    };
    if let Some(found) = found {
        ids.extend(found.named.ids);
        channels.extend(found.channels);
    }
    (ids, distinct(channels))
}

fn names(body: &[u8], id: &str, channel: ConsentChannel) -> bool {
    let (ids, channels) = withdrawn(body);
    ids.iter().any(|named| named == id) && channels.contains(&channel)
}

#[test]
fn a_damaged_post_that_says_stop_withdraws_consent() {
    let bodies: [&[u8]; 37] = [
        br#"{"id":"12","doNotEmail":true,"leadStatus":"Hot"#,
        br#"{"id":"12","doNotEmail":tr"#,
        br#"{"id":"12","doNotEmail":"#,
        br#"{"id":"12","doNotEmail":"maybe"}"#,
        br#"{"id":"12","doNotEmail":"2026-01-01"}"#,
        br#"{"id":"12","doNotEmail":{"value":true}}"#,
        br#"{"id":"12","data":{"doNotEmail":true}}"#,
        br#"{"lead":{"id":"12","doNotEmail":true}}"#,
        br#"[{"id":"12","doNotEmail":true}]"#,
        br#"{"id":"12","hotLead":true}{"id":"12","doNotEmail":true}"#,
        br#"{"id":"12" "doNotEmail":true}"#,
        br#"{'id': '12', 'doNotEmail': True}"#,
        br#"{id:12,doNotEmail:true}"#,
        br#""{\"id\":\"12\",\"doNotEmail\":true}""#,
        br#"{"id":"12","payload":"{\"doNotEmail\":true}"}"#,
        br#"{"id":"12","do_not_email":true}"#,
        br#"{"id":"12","doNotEmaim":true}"#,
        br#"{"id":"12","unsubscribed":1}"#,
        br#"{"id":"12","optOut":true}"#,
        b"id=12&doNotEmail=true&leadStatus=Hot",
        b"payload=%7B%22id%22%3A%2212%22%2C%22doNotEmail%22%3Atrue%7D",
        b"leadId=12&conversationStatus=Do+Not+Email",
        b"<lead><id>12</id><doNotEmail>true</doNotEmail></lead>",
        br#"{"id":"12","conversationStatus":"Unsubscribed""#,
        br#"{"id":"12","conversationStatus":"Unsubscr"ibed"}"#,
        br#"{"id":"12","conversationStatus":"Marked Spam","#,
        br#"{"id":"12","conversationStage":"Customer Stopped","#,
        br#"{"id":"12","conversationStage":"Messaging","conversationStatus":"Unsubscribed"}"#,
        br#"{"id":"12","leadStatus":"STOP"}"#,
        br#"{"id":"12","conversationStatus":["Unsubscribed"]}"#,
        br#"{"id":"12","conversationStatu":"Unsubscribed"}"#,
        br#"{"id":12.0,"doNotEmail":true}"#,
        br#"{"\u0069d":"12","\u0064oNotEmail":tru}"#,
        b"id=+12+&doNotEmail=true",
        b"hotLead=true&leadId=+12&conversationStage=Lead+Stopped",
        br#"{"id":"12","optOut" true}"#,
        b"--b\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n12\r\n--b\r\nContent-Disposition: form-data; name=\"doNotEmail\"\r\n\r\ntrue\r\n--b--",
    ];
    for body in bodies {
        assert!(names(body, "12", ConsentChannel::Email), "{}: {:?}", String::from_utf8_lossy(body), withdrawn(body));
    }
    let sms: [&[u8]; 6] = [
        br#"{"id":"12","smsOptOut":"?""#,
        br#"{"id":"12","smsOptIn":false"#,
        b"id=12&smsOptOut=1",
        br#"{"id":"12","smsOptIn" "no"}"#,
        br#"{"id":"12","smsOptIn"false,"hotLead":true}"#,
        br#"{"id":"12","smsOptIn"0.0"#,
    ];
    for body in sms {
        assert_eq!(withdrawn(body).1, [ConsentChannel::Sms], "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(withdrawn(br#"{"id":"2","id":"1","doNotEmail":true}"#).0, ["1", "2"]);
}

#[test]
fn a_post_without_a_trace_withdraws_nothing() {
    let bodies: [&[u8]; 19] = [
        br#"{"id":"12","doNotEmail":false,"leadStatus":"Hot"#,
        br#"{"id":"12","doNotEmail":"no","smsOptIn":true,"hot"#,
        br#"{"id":"12","doNotEmail":null,"smsOptOut":0,"smsOptIn":"yes","#,
        br#"{"id":"12","leadStatus":"Hot Lead","hotLead":"#,
        br#"{"id":"12","conversationStage":"Client Stopped","conversationStatus":"Manager Stopped","#,
        br#"{"id":"12","conversationStage":"Client Stopped","conversationStatus":"Client Requested Stop"}"#,
        br#"{"id":"12","conversationStage":"Lead Stopped","conversationStatus":"No Longer at Company"}"#,
        br#"{"id":"12","conversationStage":"Conversica Stopped","conversationStatus":"Listening"}"#,
        br#"{"id":"12","optOut":false,"hotLead":"maybe"}"#,
        br#"{"id":"12","data":{"doNotEmail":false}}"#,
        br#"{"id":"12","conversationHistory":"Click here to unsubscribe from these mails"}"#,
        b"id=12&doNotEmail=false&hotLead=true",
        b"<id>12</id><doNotEmail>false</doNotEmail><hotLead>true</hotLead>",
        b"\xff\xfe{\0\"\0",
        br#"{"id":"12","smsOptIn" true,"optOut" false}"#,
        br#"{"id":"12","smsOptIn" null,"optOut" "perhaps" "hot"#,
        b"id=+12+&doNotEmail=false&smsOptIn=+true",
        b"garbage",
        b"",
    ];
    for body in bodies {
        assert_eq!(withdrawn(body), (vec![], vec![]), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_stop_in_words_that_are_not_published_counts() {
    let said = [
        r#""conversationStage":"Lead Stopped (Unsubscribed)""#,
        r#""conversationStage":"Stopped by Lead""#,
        r#""conversationStage":"Messaging","conversationStatus":"SMS Opt Out""#,
        r#""conversationStatus":"Text STOP received""#,
        r#""conversationStatus":"Spam Complaint""#,
        r#""leadStatus":"Lead unsubscribed from emails""#,
        r#""leadSubStatus":"Do Not Text""#,
        r#""stopMessaging":true"#,
        r#""hasOptedOutOfEmail":true"#,
        r#""has_opted_out":"Y""#,
        r#""dnc":1"#,
        r#""optOutDate":"2026-11-27T00:00:00Z""#,
        r#""emailOptIn":false"#,
        r#""emailConsent":"revoked""#,
        r#""consent":{"email":false,"sms":true}"#,
        r#""preferences":[{"channel":"email","status":"unsubscribed"}]"#,
        r#""event":"unsubscribe""#,
        r#""outcome":"Opted out of all""#,
        "\"doNotE=\r\nmail\":true",
    ];
    for said in said {
        for body in [format!(r#"{{"id":"12",{said}}}"#), format!(r#"{{"id":"12",{said},"leadStatus":"Hot"#)] {
            let is_nested = said.contains("consent\":{") || said.contains("=\r\n");
            if !is_nested || body.ends_with('}') {
                assert!(
                    names(body.as_bytes(), "12", ConsentChannel::Email),
                    "{body}: {:?}",
                    withdrawn(body.as_bytes())
                );
            }
        }
    }
    let both = br#"{"id":"12","doNotEmail":true,"conversationStatus":"SMS Opt Out"}"#;
    assert_eq!(withdrawn(both).1, ConsentChannel::ALL, "a certain word hides no other");
    let action = br#"{"id":"12","action":"unsubscribed","date":"2026-01-01T00:00:00Z","body":"x"}"#;
    let post = heard::read(PostKind::Message, action).unwrap();
    assert_eq!(in_readable(&post, &[]).map(|found| found.channels), Some(vec![ConsentChannel::Email]));
}

#[test]
fn ordinary_words_beside_consent_are_not_taken_for_a_stop() {
    let said = [
        r#""conversationStage":"Client Stopped","conversationStatus":"Sales Rep Stopped""#,
        r#""conversationStage":"Stopped by the system","leadStatus":"Will stop by tomorrow""#,
        r#""optOutDate":null,"unsubscribeDate":"""#,
        r#""optOutDate":"0001-01-01T00:00:00Z","optedOut":false,"dnc":"no""#,
        r#""emailOptIn":true,"optIn":"yes","emailConsent":"given""#,
        r#""unsubscribeLink":"https://a.example/unsubscribe?id=12&lang=en""#,
        r#""repName":"Stop Gap","note":"I did not opt out, please do not remove my order""#,
        r#""stopDate":"2026-01-01","stoppedBy":"rep","stopReason":"Manager Stopped""#,
        r#""consent":{"email":true,"source":"web"}"#,
        r#""smsConsent":null,"optOutStatus":"opted in""#,
    ];
    for said in said {
        let body = format!(r#"{{"id":"12",{said}}}"#);
        assert_eq!(withdrawn(body.as_bytes()), (vec![], vec![]), "{body}");
    }
    let chat = r#"{"firstName":"A","lastName":"B","email":"a@b.example","conversationHistory":[{"from":"lead","text":"stop","type":"STOP"}]}"#;
    let post = heard::read(PostKind::ChatLead, chat.as_bytes()).unwrap();
    assert_eq!(in_readable(&post, &[]), None);
}

#[test]
fn an_encoding_hides_no_stop() {
    let post = |id: &str| format!(r#"{{"id":"{id}","doNotEmail":true,"leadStatus":"Hot Lead, and some more text"}}"#);
    let bodies: Vec<Vec<u8>> = vec![
        post("12").replace('"', "&#x22;").into_bytes(),
        post("12").replace("\"id\"", "\u{201c}id\u{201d}").into_bytes(),
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, post("12")).into_bytes(),
        b"payload=%257B%2522id%2522%253A%252212%2522%252C%2522doNotEmail%2522%253Atrue%257D".to_vec(),
        b"<lead><id><![CDATA[12]]></id><conversationStatus><![CDATA[Unsubscribed]]></conversationStatus></lead>"
            .to_vec(),
        b"id,doNotEmail\n12,true\n".to_vec(),
        br#"{"id":{"value":"12"},"doNotEmail":true}"#.to_vec(),
        br#"{"id":12e0,"doNotEmail":true}"#.to_vec(),
        br#"{"sourceId":"12","doNotEmail":true}"#.to_vec(),
        br#"{"externalId":12,"doNotEmail":true}"#.to_vec(),
    ];
    for body in bodies {
        assert!(
            names(&body, "12", ConsentChannel::Email),
            "{}: {:?}",
            String::from_utf8_lossy(&body),
            withdrawn(&body)
        );
    }
    let only_address =
        in_unreadable(PostKind::LeadUpdate, br#"{"email":"Ann@Mail.example","doNotEmail":true}"#).unwrap();
    assert_eq!((only_address.named.ids.len(), only_address.named.emails), (0, vec!["ann@mail.example".to_owned()]));
}

#[test]
fn what_could_not_be_looked_at_may_say_anything() {
    let noise: Vec<u8> = (0_u32..400).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(in_unreadable(PostKind::LeadUpdate, &noise).unwrap().channels, BOTH);
    assert_eq!(in_unreadable(PostKind::Message, &noise), None);
    let beginning = br#"{"id":"12","history":"xxxxxxxx"#;
    assert_eq!(in_unreadable(PostKind::LeadUpdate, beginning), None);
    let found = in_too_large(PostKind::LeadUpdate, beginning).unwrap();
    assert_eq!((found.named.ids, found.channels), (vec!["12".to_owned()], BOTH.to_vec()));
}

/// The number of comparisons for a body, and whether some were left out.
fn work(body: &[u8]) -> (usize, bool) {
    let mut near = WordComparer::default();
    let mut named = NamedLeads::default();
    for text in post_text::readings(&decode_body(body).text) {
        let chunks = chunks(&text);
        withdrawn_in(PostKind::LeadUpdate, &chunks, &mut near);
        name_leads(&text, &chunks, &mut near, &mut named);
    }
    (near.made(), near.is_exhausted())
}

#[test]
fn a_body_of_almost_a_megabyte_causes_no_more_comparisons_than_the_limit() {
    let of = |piece: &str| format!(r#"{{"id":"9","h":"{}"#, piece.repeat(1_000_000 / piece.len())).into_bytes();
    for far in ["x", "ab,", "donotemaxxx,", "\"donotemaxxx\":\"x\",", "<p>lead stopping here</p>"] {
        assert_eq!(work(&of(far)), (0, false), "{far}");
    }
    // Each has the letters of a searched word, in another order. A damaged `leadId` is searched for if no `id` is found.
    let without_id = || format!(r#"{{"h":"{}"#, "idlead:1,".repeat(110_000)).into_bytes();
    for near in [of("liametonod,"), of("\"liametonod\":\"x\","), without_id()] {
        let begins = String::from_utf8_lossy(&near[..40]);
        let (made, is_exhausted) = work(&near);
        assert!(made == near::MAX_COMPARISONS && is_exhausted, "{begins}: {made}");
        let found = in_unreadable(PostKind::LeadUpdate, &near).unwrap();
        assert_eq!(found.channels, BOTH, "{begins}: what was not compared may be a stop");
    }
    let (made, _) = work(br#"{"id":"9","doNotEmaim":true,"conversationStatu":"Unsubscrbed","leadStatus":"Hot Lead"}"#);
    assert!(made < 20, "an ordinary post: {made}");
}

#[test]
fn in_what_people_write_only_keys_count() {
    let message = |body: &str| in_unreadable(PostKind::Message, body.as_bytes()).map(|found| found.channels);
    assert_eq!(message(r#"{"id":"1","body":"Do Not Email. Unsubscribed: me"#), None);
    assert_eq!(message(r#"{"id":"1","body":"Status: Unsubscribed. smsOptIn? no, conversationStatus is what?"#), None);
    assert_eq!(message(r#"{"id":"1","doNotEmail":true"#), Some(vec![ConsentChannel::Email]));
    // A Lead Update at the address of Messages.
    for update in [
        r#"{"id":"1","conversationStatus":"Unsubscribed"}"#,
        r#"{"id":"1","conversationStage":"Customer Stopped"}"#,
        r#"{"id":"1","conversationStatus" "Do Not Email"}"#,
        r#"{"id":"1","doNotEmail" true}"#,
    ] {
        assert_eq!(message(update), Some(vec![ConsentChannel::Email]), "{update}");
    }
    assert_eq!(message(r#"{"id":"1","smsOptIn":false}"#), Some(vec![ConsentChannel::Sms]));
    let others =
        [r#"{"id":"1","conversationStatus":"Sent Message","smsOptIn":true}"#, r#"{"id":"1","doNotEmail":"no"}"#];
    assert!(others.into_iter().all(|update| message(update).is_none()));
    let post = heard::read(
        PostKind::Message,
        br#"{"id":"1","action":"received","date":"2026-01-01T00:00:00Z","body":"STOP","smsOptOut":true}"#,
    );
    assert_eq!(in_readable(&post.unwrap(), &[]).map(|found| found.channels), Some(vec![ConsentChannel::Sms]));
}

#[test]
fn whom_a_post_names_is_found_however_it_is_written() {
    let ids = |body: &[u8]| named_leads(body).ids;
    assert_eq!(ids(br#"{"clientId":"c","id":"a 1","repId":"9"}"#), ["a 1"]);
    assert_eq!(named_leads(br#"{"clientId":"c","id":"1"}"#).client_ids, ["c"]);
    assert_eq!(ids(br#"{"leadId":"7","id":"8""#), ["8", "7"]);
    assert!(ids(br#"{"ie":"12","doNotEmail":true}"#).contains(&"12".to_owned()), "a damaged key");
    assert!(ids(br#"{"id":"12b,"doNotEmail":true}"#).contains(&"12".to_owned()), "a damaged mark");
    assert_eq!(ids(b"{\"doNotEmail\":true}"), Vec::<String>::new());
}

#[test]
fn no_flipped_bit_of_a_short_post_hides_a_stop() {
    let said = [
        (r#""doNotEmail":true"#, ConsentChannel::Email),
        (r#""doNotEmail":"yes""#, ConsentChannel::Email),
        (r#""smsOptOut":true"#, ConsentChannel::Sms),
        (r#""conversationStatus":"Unsubscribed""#, ConsentChannel::Email),
        (r#""conversationStatus":"Do Not Email""#, ConsentChannel::Email),
        (r#""conversationStage":"Lead Stopped","conversationStatus":"Lead Requested Stop""#, ConsentChannel::Email),
    ];
    let mut hidden = Vec::new();
    for (said, channel) in said {
        let other = r#""leadStatus":"Hot","score":3"#;
        for text in [
            format!(r#"{{"id":"4711",{said}}}"#),
            format!(r#"{{{said},"id":"4711"}}"#),
            format!(r#"{{"id":"4711",{other},{said}}}"#),
            format!(r#"{{{said},{other},"id":"4711"}}"#),
            format!(r#"{{{other},"id":"4711",{said},{other}}}"#),
        ] {
            let id = text.find("4711").unwrap();
            let flips =
                (0..text.len()).filter(|at| !(id..id + 4).contains(at)).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            for (at, bit) in flips {
                let mut body = text.clone().into_bytes();
                body[at] ^= 1_u8 << bit;
                if !names(&body, "4711", channel) {
                    hidden.push(format!("{:?} {:?}", String::from_utf8_lossy(&body), withdrawn(&body)));
                }
            }
        }
    }
    assert!(hidden.is_empty(), "{} hidden:\n{}", hidden.len(), hidden.join("\n"));
}

/// Posts that say stop for lead 4711, each with the channel, and the form of the id's value.
fn stop() -> impl Strategy<Value = (String, ConsentChannel, &'static str)> {
    let said = prop_oneof![
        Just((r#""doNotEmail":true"#, ConsentChannel::Email)),
        Just((r#""doNotEmail":"yes""#, ConsentChannel::Email)),
        Just((r#""smsOptOut":true"#, ConsentChannel::Sms)),
        Just((r#""conversationStatus":"Unsubscribed""#, ConsentChannel::Email)),
        Just((
            r#""conversationStage":"Lead Stopped","conversationStatus":"Lead Requested Stop""#,
            ConsentChannel::Email
        )),
    ];
    let odd = prop::sample::subsequence(
        vec![
            r#""hotLead":"maybe""#,
            r#""score":1e400"#,
            r#""leadStatus":"x \ud83d""#,
            "\"leadStatus\":\"two\nlines\"",
            r#""leadStatusDate":1764300000"#,
            r#""dateAdded":[]"#,
            r#""hotLead":true,"hotLead":false"#,
            r#""x":{"y":[{}]}"#,
            r#""mood":NaN"#,
            r#""repName":"O'Brien, \"Al\"""#,
            r#""apiVersion":7.2"#,
        ],
        0..6,
    );
    (said, odd, any::<bool>()).prop_map(|((said, channel), odd, last)| {
        let odd: String = odd.iter().map(|member| format!("{member},")).collect();
        let text =
            if last { format!(r#"{{"id":"4711",{odd}{said}}}"#) } else { format!(r#"{{{said},{odd}"id":"4711"}}"#) };
        (text, channel, said)
    })
}

proptest! {
    #[test]
    fn no_odd_field_and_no_encoding_hides_a_stop((text, channel, _) in stop(), encoding in 0..5) {
        let body: Vec<u8> = match encoding {
            0 => text.into_bytes(),
            1 => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            2 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            3 => text.replace("x ", "caf\u{e9}").chars().map(|c| c as u32 as u8).collect(),
            _ => format!("{text}}}\0").into_bytes(),
        };
        prop_assert!(names(&body, "4711", channel), "{}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn no_flipped_bit_outside_of_the_value_hides_a_stop((text, channel, _) in stop(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut body = text.clone().into_bytes();
        let at = at.index(body.len());
        let id = text.find("4711").unwrap();
        prop_assume!(!(id..id + 4).contains(&at));
        body[at] ^= 1 << bit;
        prop_assert!(names(&body, "4711", channel), "{}: {:?}", String::from_utf8_lossy(&body), withdrawn(&body));
    }

    #[test]
    fn nothing_that_is_cut_off_behind_a_stop_hides_it((text, channel, said) in stop(), cut in any::<prop::sample::Index>()) {
        let behind = |part: &str| text.find(part).unwrap() + part.len();
        let end = behind(said).max(behind("\"4711\""));
        let mut cut = end + cut.index(text.len() - end + 1);
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        prop_assert!(names(&text.as_bytes()[..cut], "4711", channel), "{}", &text[..cut]);
    }

    #[test]
    fn whatever_comes_is_looked_at(body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[\"{}:,a-z%\\\\u0&;<>/= ]{0,80}".prop_map(String::into_bytes),
    ]) {
        for kind in PostKind::ALL {
            in_unreadable(kind, &body);
        }
        if let Ok(post) = heard::read(PostKind::LeadUpdate, &body) {
            in_readable(&post, &[]);
        }
    }

    #[test]
    fn a_damaged_post_without_a_stop_withdraws_nothing(cut in any::<prop::sample::Index>(), dates in any::<bool>()) {
        let mut post = json!({"id": "4711", "hotLead": true, "leadStatus": "Hot Lead", "conversationStage": "Messaging",
            "conversationStatus": "Received Response", "discoveredEmail1": "a@b.example", "repName": "Stop Gap"});
        if dates {
            post["hotLeadDate"] = json!("2026-01-01T00:00:00Z");
        }
        let text = post.to_string();
        let cut = cut.index(text.len());
        prop_assert_eq!(withdrawn(&text.as_bytes()[..cut]), (vec![], vec![]));
    }
}
