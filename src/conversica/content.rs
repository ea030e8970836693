//! The text of an answer: decompressed, decoded, and limited to a fixed number of bytes. Pure.
//!
//! Any server may answer at the endpoint's address: a body may be compressed without being asked for, cut in the middle, made to
//! fill the memory, or not be text at all.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How many bytes of an answer are read, after decompression.
pub const TEXT_BYTES: usize = 64 * 1024;

/// Proxies compress again what is already compressed; more than twice is no honest answer.
const LAYERS: usize = 2;

/// The readable part of an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerText {
    /// Blank without a body.
    Text(String),
    /// A body in an unsupported encoding, with the shortened name of that encoding.
    Unreadable(String),
}

/// Reads a body with that `Content-Encoding`. The bytes go before the header: servers name an encoding that a proxy has removed,
/// or omit one that a proxy has added.
pub fn read_body(encoding: Option<&str>, body: &[u8]) -> AnswerText {
    let mut bytes = body.get(..TEXT_BYTES).unwrap_or(body).to_vec();
    for _ in 0..LAYERS {
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            break;
        }
        match inflate(MultiGzDecoder::new(bytes.as_slice())) {
            Some(inflated) => bytes = inflated,
            None => return AnswerText::Unreadable("gzip".to_owned()),
        }
    }
    let named = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let is_text =
        std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains(|c: char| c.is_control() && !c.is_whitespace()));
    match named.as_str() {
        "deflate" if !is_text => {
            // Some servers omit the frame that the standard requires.
            let inflated = inflate(ZlibDecoder::new(bytes.as_slice()));
            match inflated.or_else(|| inflate(DeflateDecoder::new(bytes.as_slice()))) {
                Some(inflated) => bytes = inflated,
                None => return AnswerText::Unreadable(named),
            }
        }
        "" | "identity" | "none" | "gzip" | "x-gzip" | "deflate" | "utf-8" => {}
        _ if is_text || named.contains("gzip") => {}
        other => return AnswerText::Unreadable(other.chars().filter(char::is_ascii_graphic).take(20).collect()),
    }
    AnswerText::Text(decode(&bytes))
}

/// The decompressed bytes up to the limit, or up to the first damage. `None` if the damage leaves no bytes.
fn inflate(decoder: impl Read) -> Option<Vec<u8>> {
    let mut decoder = decoder.take(TEXT_BYTES as u64);
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => return Some(text),
            Ok(bytes) => text.extend_from_slice(&chunk[..bytes]),
            Err(_) => return (!text.is_empty()).then_some(text),
        }
    }
}

/// UTF-8, or UTF-16 if a byte order mark says so. Marks and NULs are removed, because no text needs them.
fn decode(bytes: &[u8]) -> String {
    let units = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    text.chars().filter(|c| !matches!(c, '\u{feff}' | '\0')).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text(text: &str) -> AnswerText {
        AnswerText::Text(text.to_owned())
    }

    #[test]
    fn a_compressed_answer_is_read_whatever_its_header_says() {
        const BODY: &str = r#"{"message":"Lead could not be saved","status":false}"#;
        let gzip = gzipped(BODY.as_bytes());
        for encoding in
            [None, Some("gzip"), Some("x-gzip"), Some("GZIP"), Some(" gzip "), Some("identity"), Some("gzip, gzip")]
        {
            assert_eq!(read_body(encoding, &gzip), text(BODY), "{encoding:?}");
        }
        assert_eq!(read_body(Some("gzip"), &gzipped(&gzip)), text(BODY), "twice");
        assert_eq!(read_body(Some("gzip"), BODY.as_bytes()), text(BODY), "a proxy has undone it");
        assert_eq!(read_body(Some("br"), BODY.as_bytes()), text(BODY), "the same");
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(BODY.as_bytes()).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(BODY.as_bytes()).unwrap();
        for deflated in [zlib.finish().unwrap(), raw.finish().unwrap()] {
            assert_eq!(read_body(Some("deflate"), &deflated), text(BODY));
        }
    }

    #[test]
    fn an_encoding_that_is_not_read_is_named() {
        let noise = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00, 0x01];
        assert_eq!(read_body(Some("zstd"), &noise), AnswerText::Unreadable("zstd".to_owned()));
        assert_eq!(read_body(Some("br"), &noise), AnswerText::Unreadable("br".to_owned()));
        assert_eq!(
            read_body(Some("gzip"), &[0x1f, 0x8b, 8, 0, 1]),
            AnswerText::Unreadable("gzip".to_owned()),
            "damaged"
        );
    }

    #[test]
    fn what_is_cut_is_read_as_far_as_it_came() {
        let body = "{\"status\":false}".to_owned() + &(0..4000).map(|n| format!("{n:x} ")).collect::<String>();
        let gzip = gzipped(body.as_bytes());
        let AnswerText::Text(read) = read_body(Some("gzip"), &gzip[..gzip.len() / 2]) else { panic!("it is text") };
        assert!(read.starts_with("{\"status\":false}0 1 2"), "{read:.40}");
    }

    #[test]
    fn a_body_that_would_fill_the_memory_is_read_up_to_the_limit() {
        let bomb = gzipped(&vec![b' '; 16 << 20]);
        let AnswerText::Text(read) = read_body(Some("gzip"), &bomb) else { panic!("it is text") };
        assert!(!read.is_empty() && read.len() <= TEXT_BYTES);
        let AnswerText::Text(read) = read_body(Some("gzip"), &gzipped(&bomb)) else { panic!("it is text") };
        assert!(read.len() <= TEXT_BYTES);
        let AnswerText::Text(read) = read_body(None, &vec![b'a'; 1 << 20]) else { panic!("it is text") };
        assert_eq!(read.len(), TEXT_BYTES);
    }

    #[test]
    fn marks_and_other_widths_are_taken_off() {
        assert_eq!(read_body(None, b"\xef\xbb\xbf{}"), text("{}"));
        let wide: Vec<u8> = "\u{feff}<html>é".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read_body(None, &wide), text("<html>é"));
        let wide: Vec<u8> = "\u{feff}<html>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read_body(None, &wide), text("<html>"));
        assert_eq!(read_body(None, b""), text(""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            encoding in proptest::option::of("(gzip|deflate|br|zstd|identity|\\PC{0,12})"),
            body in proptest::collection::vec(any::<u8>(), 0..600),
            framed in any::<bool>(),
        ) {
            let body = if framed { [&[0x1f, 0x8b, 8, 0][..], &body].concat() } else { body };
            match read_body(encoding.as_deref(), &body) {
                AnswerText::Text(text) => prop_assert!(text.len() <= 3 * TEXT_BYTES && !text.contains('\0')),
                AnswerText::Unreadable(name) => prop_assert!(name.chars().count() <= 20),
            }
        }
    }
}
