//! Tests of the encodings of posted bodies.

use std::io::Write as _;

use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const POST: &str =
    r#"{"id":"4711","doNotEmail":true,"leadStatus":"Caf\u00e9 and more of it, so that it is no short text"}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_and_wide_bodies_are_read_with_a_note() {
    let wide = |text: &str, unit: fn(u32) -> [u8; 4]| text.chars().flat_map(|c| unit(c as u32)).collect::<Vec<u8>>();
    let short = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let marked = format!("\u{feff}{POST}");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("gzip", gzip(POST.as_bytes()), INFLATED),
        ("gzip twice", gzip(&gzip(POST.as_bytes())), INFLATED),
        ("zlib", zlib(POST.as_bytes()), INFLATED),
        ("deflate", deflate(POST.as_bytes()), INFLATED),
        ("UTF-32", wide(&marked, u32::to_le_bytes), UTF32),
        ("UTF-32 without a mark", wide(POST, u32::to_be_bytes), UTF32),
        ("UTF-16", short(POST), UTF16),
    ];
    for (name, body, note) in cases {
        let decoded = decode_body(&body);
        assert_eq!(decoded.text, POST, "{name}");
        assert!(decoded.notes.contains(note) && !decoded.is_cut && !decoded.is_opaque, "{name}: {decoded:?}");
    }
    let both = decode_body(&gzip(&short(&marked)));
    assert!(both.text == POST && both.notes.len() == 2, "{both:?}");
}

#[test]
fn a_byte_that_utf16_lost_costs_no_more_than_its_letter() {
    let body: Vec<u8> = POST.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xff\xfe".as_slice(), &body].concat();
    for lost in [2, 3, 20, 21] {
        let mut damaged = marked.clone();
        damaged.remove(lost);
        let decoded = decode_body(&damaged);
        assert!(decoded.notes.contains(LOST_BYTE) && decoded.text.contains("doNotEmail"), "{lost}: {decoded:?}");
    }
    let chinese = "{\"id\":\"1\",\"leadStatus\":\"感兴趣的客户，请联系\"}";
    let body: Vec<u8> = chinese.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(decode_body(&body).text, chinese);
}

#[test]
fn a_bomb_costs_no_more_than_the_limit_and_is_known_as_cut() {
    let bomb = gzip(&vec![b'x'; 300 << 20]);
    assert!(bomb.len() < 1 << 20);
    let decoded = decode_body(&bomb);
    assert!(decoded.is_cut && decoded.text.len() == MAX_INFLATED);
    let body = gzip(POST.repeat(50).as_bytes());
    let cut = decode_body(&body[..body.len() - 20]);
    assert!(cut.is_cut && cut.text.contains("doNotEmail"), "what came is read: {cut:?}");
}

#[test]
fn bytes_of_no_known_encoding_are_known_as_such() {
    let noise: Vec<u8> = (0_u32..400).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let zstd = [b"\x28\xb5\x2f\xfd".as_slice(), &noise].concat();
    for body in [&noise, &zstd, &gzip(POST.as_bytes())[..12].to_vec()] {
        let decoded = decode_body(body);
        assert!(decoded.is_opaque || decoded.is_cut, "{decoded:?}");
    }
    for text in [
        "{\"name\":\"café\"}".as_bytes(),
        b"{\"name\":\"caf\xe9 \xe9t\xe9\"}",
        b"",
        b"\0\0",
        "x^2 is no frame".as_bytes(),
    ] {
        let decoded = decode_body(text);
        assert!(!decoded.is_opaque && !decoded.is_cut && !decoded.notes.contains(INFLATED), "{decoded:?}");
    }
}

#[test]
fn what_is_encoded_once_more_is_read_as_well() {
    let says = |text: &str| readings(text).iter().any(|text| text.contains(r#""id":"4711","doNotEmail":true"#));
    let base64 = STANDARD.encode(POST);
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for text in [
        POST.to_owned(),
        POST.replace('"', "&quot;"),
        POST.replace('"', "&#x22;"),
        POST.replace('"', "&#34;"),
        POST.replace('"', "&amp;quot;").replace("&amp;quot;", "&quot;"),
        POST.replace("\"id\"", "\u{201c}id\u{201d}").replace("\"4711\"", "\u{201e}4711\u{201c}"),
        percent(POST),
        percent(&percent(POST)),
        base64.clone(),
        base64.as_bytes().chunks(60).map(|line| String::from_utf8_lossy(line) + "\r\n").collect(),
        format!("{{\"payload\":\"{base64}\"}}"),
        format!("payload={}", percent(&base64)),
        POST.replace("doNot", "doN=\r\not"),
        POST.replace('"', "=22"),
        POST.replace('d', "\\u0064"),
        format!("<![CDATA[{POST}]]>"),
    ] {
        assert!(says(&text), "{text}: {:?}", readings(&text));
    }
    let table = readings("leadId;doNotEmail;name\n4711;true;Ann\n4712;false;Bob\n");
    assert!(table.iter().any(|text| text.contains("\"leadId\":\"4711\",\n\"doNotEmail\":\"true\"")), "{table:?}");
}

proptest! {
    #[test]
    fn plain_text_is_read_as_it_is(text in any::<String>()) {
        prop_assume!(!text.contains('\0'));
        let decoded = decode_body(text.as_bytes());
        prop_assert_eq!(decoded.text, text.strip_prefix('\u{feff}').unwrap_or(&text));
    }

    #[test]
    fn whatever_comes_is_read_within_the_limits(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let decoded = decode_body(&body);
        let readings = readings(&decoded.text);
        prop_assert!(readings.len() <= MAX_READINGS);
        let bytes: usize = readings.iter().map(String::len).sum();
        prop_assert!(bytes <= decoded.text.len() * 8 + 70_000);
    }
}
