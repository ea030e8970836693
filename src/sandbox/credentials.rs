//! The sandbox's one pair of credentials, and the check of a request for it. Pure.
//!
//! The check compares the encoded header instead of decoding it: Basic has one encoding per pair.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq;

/// The value of the `Authorization` header that lets a request in, without the scheme.
pub struct SandboxCredentials {
    token: String,
}

impl SandboxCredentials {
    pub fn new(username: &str, password: &str) -> Self {
        Self { token: base64(format!("{username}:{password}").as_bytes()) }
    }

    pub fn shown_in(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, token)) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("basic") && token.trim().as_bytes().ct_eq(self.token.as_bytes()).into()
    }
}

/// Twenty lines instead of a dependency: nothing else in the crate encodes or decodes base64.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| group.get(at).copied().map_or(0, usize::from));
        let sextets = [first >> 2, (first & 3) << 4 | second >> 4, (second & 15) << 2 | third >> 6, third & 63];
        for (at, sextet) in sextets.into_iter().enumerate() {
            text.push(if at <= group.len() { char::from(LETTERS[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(value: &str) -> bool {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        SandboxCredentials::new("Aladdin", "open sesame").shown_in(&headers)
    }

    #[test]
    fn base64_matches_the_examples_of_its_rfc() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}\u{bff}", "w7/gr78="),
        ];
        for (plain, encoded) in examples {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn only_the_right_pair_gets_in() {
        assert!(shows("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(shows("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(!shows("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(!shows("Basic QWxhZGRpbjp3cm9uZw=="));
        assert!(!shows("Basic"));
        assert!(!SandboxCredentials::new("a", "b").shown_in(&HeaderMap::new()));
    }
}
