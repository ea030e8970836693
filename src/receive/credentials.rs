//! Who may post: the one pair of credentials, compared in constant time, and what becomes of those who do not have it. Pure.
//!
//! **Right credentials are always let in**, however many wrong ones came from the same address. Conversica may share its
//! address with whoever guesses (a proxy that does not say for whom it speaks, one cloud's way out), repeats nothing that
//! it was refused as far as its manual says, and what it posts has legal weight: to shut out an address would let anybody
//! take a person's opt-out away. Guessing is met by a long password, which no rate of guessing finds; what is limited is
//! what failures cost us.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::http::crowd::network_of;

/// The pair that lets a post in, as a digest of the one text that shows it.
pub struct ReceiverCredentials {
    digest: [u8; 32],
}

impl ReceiverCredentials {
    pub fn new(username: &str, password: &str) -> Self {
        Self { digest: digest(STANDARD.encode(format!("{username}:{password}")).as_bytes()) }
    }

    /// Basic has one encoding for one pair. Digests are compared, so that not even the length of the password shows.
    pub fn shown_in(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, token)) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("basic") && digest(token.trim().as_bytes()).ct_eq(&self.digest).into()
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// In which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// So many an address and window are told what is wrong; more are told to come back later.
const TOLERATED: u32 = 10;
/// As many addresses as are remembered. Whoever commands more is not to be limited by address anyway.
const ADDRESSES: usize = 4096;

/// Failures to authenticate, by address.
#[derive(Default)]
pub struct LoginFailures {
    windows: HashMap<IpAddr, FailureWindow>,
}

struct FailureWindow {
    began: Instant,
    failures: u32,
}

/// What one more failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailure {
    /// The first of its address and window: worth a line in the log.
    pub first: bool,
    /// Too many: for so long.
    pub come_back: Option<Duration>,
}

impl LoginFailures {
    pub fn note(&mut self, address: IpAddr, now: Instant) -> LoginFailure {
        let address = network_of(address);
        let is_over = |window: &FailureWindow| now.duration_since(window.began) >= WINDOW;
        if self.windows.len() >= ADDRESSES && !self.windows.contains_key(&address) {
            self.windows.retain(|_, window| !is_over(window));
            if self.windows.len() >= ADDRESSES {
                self.windows.clear();
            }
        }
        let window = self.windows.entry(address).or_insert(FailureWindow { began: now, failures: 0 });
        if is_over(window) {
            *window = FailureWindow { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        let left = WINDOW.saturating_sub(now.duration_since(window.began));
        LoginFailure { first: window.failures == 1, come_back: (window.failures > TOLERATED).then_some(left) }
    }
}

/// Whom a proxy speaks for: the last address of `X-Forwarded-For`, for only that one was written by the proxy itself.
pub fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim();
    let bare = |text: &str| text.trim_start_matches('[').split(']').next().and_then(|text| text.parse().ok());
    last.parse().ok().or_else(|| last.parse::<std::net::SocketAddr>().ok().map(|a| a.ip())).or_else(|| bare(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| _ = headers.append(name, value.parse().unwrap()));
        headers
    }

    #[test]
    fn only_the_right_pair_gets_in() {
        let credentials = ReceiverCredentials::new("Aladdin", "open sesame");
        let shows = |value: &str| credentials.shown_in(&headers("authorization", &[value]));
        assert!(shows("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(shows("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        for wrong in [
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjp3cm9uZw==",
            "Basic QWxhZGRpbg==",
            "Basic Og==",
            "Basic",
            "Basic ",
            "",
        ] {
            assert!(!shows(wrong), "{wrong}");
        }
        assert!(!credentials.shown_in(&HeaderMap::new()));
    }

    #[test]
    fn failures_are_counted_by_address_and_minute_and_ipv6_by_its_network() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (a, b): (IpAddr, IpAddr) = ("2001:db8:1:2:3::4".parse().unwrap(), "2001:db8:1:2:ffff::1".parse().unwrap());
        let mut failures = LoginFailures::default();
        assert_eq!(failures.note(a, start), LoginFailure { first: true, come_back: None });
        for second in 1..10 {
            assert_eq!(failures.note(b, at(second)), LoginFailure { first: false, come_back: None });
        }
        assert_eq!(failures.note(a, at(20)).come_back, Some(Duration::from_secs(40)));
        assert!(failures.note("2001:db8:1:3::1".parse().unwrap(), at(20)).first, "another network");
        assert!(failures.note("::ffff:192.0.2.1".parse().unwrap(), at(20)).first);
        assert!(!failures.note("192.0.2.1".parse().unwrap(), at(20)).first);
        assert_eq!(failures.note(a, at(60)), LoginFailure { first: true, come_back: None }, "a new minute");
    }

    #[test]
    fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let (mut failures, now) = (LoginFailures::default(), Instant::now());
        for n in 0..20_000_u32 {
            failures.note(std::net::Ipv4Addr::from_bits(n).into(), now);
            assert!(failures.windows.len() <= ADDRESSES);
        }
    }

    #[test]
    fn a_proxy_is_believed_in_what_it_wrote_itself() {
        let of =
            |values: &[&str]| forwarded_for(&headers("x-forwarded-for", values)).map(|address| address.to_string());
        assert_eq!(of(&["192.0.2.9"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(of(&["198.51.100.1, 192.0.2.9"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(of(&["198.51.100.1", "203.0.113.5 , 192.0.2.9:4711"]).as_deref(), Some("192.0.2.9"));
        assert_eq!(of(&["[2001:db8::1]:4711"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["[2001:db8::1]"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["192.0.2.9, unknown"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn whatever_a_header_says_it_is_read_or_not(value in "[ -~]{0,60}") {
            let headers = headers("x-forwarded-for", &[&value]);
            forwarded_for(&headers);
        }
    }
}
