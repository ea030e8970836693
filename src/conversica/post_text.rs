//! The text of a posted body: decompressed and decoded. For an unreadable body also its texts after further decoding. Pure.
//!
//! The bytes decide and not the header, because a body is stored as it arrived and must be read the same way later. Any body
//! costs time and memory in proportion to its size: [`MAX_INFLATED`] and [`MAX_READINGS`] are the limits.

use std::collections::BTreeSet;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

pub const NOT_UTF8: &str = "bytes that are not UTF-8 were read as Latin-1";
pub const UTF16: &str = "the body was read as UTF-16";
pub const BYTE_ORDER_MARK: &str = "a byte order mark was passed over";
const UTF32: &str = "the body was read as UTF-32";
const LOST_BYTE: &str = "the body was read as UTF-16 that lost a byte";
const INFLATED: &str = "the body was decompressed";

/// How many bytes of a decompressed body are read. A body of a kilobyte may inflate to a megabyte, and one of a megabyte to a
/// gigabyte.
pub const MAX_INFLATED: usize = 2 << 20;
/// How many texts are made of one body.
pub const MAX_READINGS: usize = 12;
/// A proxy may compress again what is already compressed.
const LAYERS: usize = 2;
/// Fewer bytes do not show what they are.
const SHORT: usize = 16;

/// A body as a text, whatever its encoding. Only bytes that fit no encoding are lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostText {
    pub text: String,
    /// How it was read, if not as UTF-8: a sentence each.
    pub notes: BTreeSet<&'static str>,
    /// The rest of the body is compressed and was not read.
    pub is_cut: bool,
    /// More than a quarter of it is no text of any kind: an unknown encoding.
    pub is_opaque: bool,
}

pub fn decode_body(body: &[u8]) -> PostText {
    let mut decoded = PostText::default();
    let mut inflated = None;
    for _ in 0..LAYERS {
        let bytes = inflated.as_deref().unwrap_or(body);
        let Some((next, is_whole)) = inflate(bytes) else { break };
        decoded.notes.insert(INFLATED);
        decoded.is_cut |= !is_whole;
        inflated = Some(next);
    }
    decode_text(inflated.as_deref().unwrap_or(body), &mut decoded);
    decoded
}

/// For compressed bytes: the result, and whether it is complete.
fn inflate(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return read_up_to(MultiGzDecoder::new(bytes)).filter(|(text, _)| !text.is_empty());
    }
    // The frame that HTTP's deflate requires: a method, a window, and a checksum of both.
    let has_frame =
        bytes.len() > 2 && bytes[0] & 0x0f == 8 && u16::from_be_bytes([bytes[0], bytes[1]]).is_multiple_of(31);
    let is_text =
        std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(|c: char| c.is_control() && !c.is_whitespace()));
    if has_frame
        && let Some((text, is_whole)) = read_up_to(ZlibDecoder::new(bytes)).filter(|(text, _)| !text.is_empty())
    {
        return (is_whole || !is_text).then_some((text, is_whole));
    }
    if is_text || bytes.len() < 4 {
        return None;
    }
    // Some senders omit the frame. Almost any bytes are the beginning of such a stream.
    let (text, is_whole) = read_up_to(DeflateDecoder::new(bytes))?;
    let is_document = std::str::from_utf8(&text).is_ok_and(|text| text.trim_start().starts_with(['{', '[', '"', '<']));
    (is_whole && is_document).then_some((text, is_whole))
}

/// The bytes before an error or the limit, and whether they are complete.
fn read_up_to(decoder: impl Read) -> Option<(Vec<u8>, bool)> {
    let mut decoder = decoder.take(MAX_INFLATED as u64 + 1);
    let (mut text, mut chunk) = (Vec::new(), [0; 8192]);
    let is_whole = loop {
        match decoder.read(&mut chunk) {
            Ok(0) => break true,
            Ok(bytes) => text.extend_from_slice(&chunk[..bytes]),
            Err(_) => break false,
        }
    };
    let is_whole = is_whole && text.len() <= MAX_INFLATED;
    text.truncate(MAX_INFLATED);
    Some((text, is_whole))
}

fn decode_text(bytes: &[u8], decoded: &mut PostText) {
    if let Some((text, note)) = wide_text(bytes) {
        decoded.notes.insert(note);
        decoded.text = text;
        return;
    }
    let bytes = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            decoded.notes.insert(BYTE_ORDER_MARK);
            rest
        }
        whole => whole,
    };
    let mut text = String::with_capacity(bytes.len());
    let mut odd = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            decoded.notes.insert(NOT_UTF8);
            text.extend(chunk.invalid().iter().map(|byte| char::from(*byte)));
            odd += chunk.invalid().len();
        }
    }
    odd += text.chars().filter(|c| c.is_ascii_control() && !c.is_whitespace()).count();
    let is_compressed = bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    decoded.is_opaque = is_compressed || bytes.len() >= SHORT && odd * 4 > bytes.len();
    decoded.text = text;
}

/// The text in an encoding of two or four bytes a letter, with the note that says so.
fn wide_text(bytes: &[u8]) -> Option<(String, &'static str)> {
    let long = |bytes: &[u8], unit: fn([u8; 4]) -> u32| {
        let letters = bytes.chunks_exact(4).map(|four| unit([four[0], four[1], four[2], four[3]]));
        let text: String =
            letters.map(|letter| char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        (text, UTF32)
    };
    let short = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        // An ASCII letter made of one byte each from two letters.
        let misplaced = units.iter().filter(|unit| **unit != 0 && **unit & 0xff == 0 && **unit < 0x8000).count();
        if misplaced >= 2 && misplaced * 16 > units.len() {
            let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
            return (String::from_utf8_lossy(&text).into_owned(), LOST_BYTE);
        }
        (String::from_utf16_lossy(&units), UTF16)
    };
    match bytes {
        [0xff, 0xfe, 0, 0, rest @ ..] => Some(long(rest, u32::from_le_bytes)),
        [0, 0, 0xfe, 0xff, rest @ ..] => Some(long(rest, u32::from_be_bytes)),
        [first, 0, 0, 0, _, 0, 0, 0, ..] if *first != 0 => Some(long(bytes, u32::from_le_bytes)),
        [0, 0, 0, last, 0, 0, 0, _, ..] if *last != 0 => Some(long(bytes, u32::from_be_bytes)),
        [0xff, 0xfe, rest @ ..] => Some(short(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Some(short(rest, u16::from_be_bytes)),
        [first, 0, _, 0, ..] if *first != 0 => Some(short(bytes, u16::from_le_bytes)),
        [0, first, 0, _, ..] if *first != 0 => Some(short(bytes, u16::from_be_bytes)),
        _ => None,
    }
}

/// The text, and its content after further decoding, also in several steps: as a form, with escapes within a text, in base64, as
/// a table.
pub fn readings(text: &str) -> Vec<String> {
    let mut readings = vec![with_plain_marks(text)];
    let mut bytes_left = text.len() * 4 + 65_536;
    let mut at = 0;
    while at < readings.len() {
        for decode in [form_decoded, unescaped, unfolded, from_base64, from_table] {
            let Some(decoded) = decode(&readings[at]).map(|text| with_plain_marks(&text)) else { continue };
            let Some(left) = bytes_left.checked_sub(decoded.len()) else { continue };
            if readings.len() < MAX_READINGS && !readings.contains(&decoded) {
                bytes_left = left;
                readings.push(decoded);
            }
        }
        at += 1;
    }
    readings
}

/// Quotation marks and entities as JSON and plain text write them, without the frames of XML.
fn with_plain_marks(text: &str) -> String {
    let mut plain = text.to_owned();
    if !plain.is_ascii() {
        plain = plain.replace(['\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'], "\"");
        plain = plain.replace(['\u{2018}', '\u{2019}'], "'");
    }
    if plain.contains("n't") {
        // The apostrophe of a negation is no quotation mark.
        plain = plain.replace("n't", "nt");
    }
    if plain.contains('&') || plain.contains("<![CDATA[") { without_entities(&plain) } else { plain }
}

fn without_entities(text: &str) -> String {
    let text = text.replace("<![CDATA[", "").replace("]]>", "");
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let entity = piece
            .bytes()
            .take(10)
            .position(|byte| byte == b';')
            .and_then(|end| Some((entity(&piece[..end])?, &piece[end + 1..])));
        match entity {
            Some((c, behind)) => {
                plain.push(c);
                plain.push_str(behind);
            }
            None => {
                plain.push('&');
                plain.push_str(piece);
            }
        }
    }
    plain
}

fn entity(name: &str) -> Option<char> {
    match name {
        "quot" | "ldquo" | "rdquo" => Some('"'),
        "apos" | "lsquo" | "rsquo" => Some('\''),
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "nbsp" => Some(' '),
        "colon" => Some(':'),
        "comma" => Some(','),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

/// In a form a blank is a plus sign.
fn form_decoded(text: &str) -> Option<String> {
    text.contains(['%', '+']).then(|| with_bytes_decoded(text, b'%', |byte| if byte == b'+' { b' ' } else { byte }))
}

/// Quoted-printable, of mail programs.
fn unfolded(text: &str) -> Option<String> {
    let is_folded = ["=\r\n", "=\n", "=3D", "=22", "=3d"].iter().any(|mark| text.contains(mark));
    is_folded.then(|| with_bytes_decoded(&text.replace("=\r\n", "").replace("=\n", ""), b'=', |byte| byte))
}

fn with_bytes_decoded(text: &str, escape: u8, plain: fn(u8) -> u8) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = tail;
        match hex.filter(|_| *first == escape) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(plain(*first)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unescaped(text: &str) -> Option<String> {
    if !text.contains("\\u00") {
        return None;
    }
    let mut pieces = text.split("\\u");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let c = piece.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        match c {
            Some(c) => {
                plain.push(c);
                plain.push_str(&piece[4..]);
            }
            None => plain.push_str(piece),
        }
    }
    Some(plain)
}

/// Documents in base64 within a text: the whole text, or words of it.
fn from_base64(text: &str) -> Option<String> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    let decode = |word: &str| {
        let bytes = STANDARD_NO_PAD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word)).ok()?;
        let decoded = decode_body(&bytes);
        (!decoded.is_opaque).then_some(decoded.text)
    };
    if text.chars().take(4 * SHORT).all(|c| is_letter(c) || c.is_whitespace() || c == '=') {
        let whole: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let whole = whole.trim_end_matches('=');
        if whole.len() >= SHORT && whole.chars().all(is_letter) {
            return decode(whole);
        }
    }
    // The beginnings of documents of JSON, of XML, and of compressed ones.
    const BEGINNINGS: [&str; 8] = ["eyJ", "eyA", "ewo", "ew0", "W3s", "PD9", "PGx", "H4sI"];
    if !BEGINNINGS.iter().any(|start| text.contains(start)) {
        return None;
    }
    let begins = |word: &&str| word.len() >= SHORT && BEGINNINGS.iter().any(|start| word.starts_with(start));
    let decoded: Vec<String> = text.split(|c: char| !is_letter(c)).filter(begins).filter_map(decode).collect();
    (!decoded.is_empty()).then(|| decoded.join("\n"))
}

/// A table whose first line names its columns, as lines of keys and values.
fn from_table(text: &str) -> Option<String> {
    let (head, rest) = text.trim_start().split_once('\n')?;
    let mark = [',', ';', '\t', '|'].into_iter().find(|mark| head.contains(*mark))?;
    if head.len() > 2000 || head.contains(['{', '}', '<', '>', ':', '=']) {
        return None;
    }
    let lines = rest.lines().filter(|line| !line.trim().is_empty());
    let field = |field: &str| field.trim().trim_matches('"').replace(['"', '\\'], "");
    let names: Vec<String> = head.split(mark).map(field).collect();
    let is_name = |name: &String| name.chars().any(char::is_alphabetic) && name.len() < 60;
    if !names.iter().all(is_name) {
        return None;
    }
    let mut table = String::new();
    for line in lines {
        for (name, value) in names.iter().zip(line.split(mark)) {
            table.push_str(&format!("\"{name}\":\"{}\",\n", field(value)));
        }
        if table.len() > text.len() * 4 {
            break;
        }
    }
    (!table.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests;
