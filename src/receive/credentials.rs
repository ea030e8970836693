//! Authentication of posts: the one pair of credentials, compared in constant time, and the treatment of failures. Pure.
//!
//! **Right credentials always work**, however many wrong ones came from the same address. Conversica may share its address with
//! an attacker (behind a proxy that does not name its client, or behind one cloud's gateway). As far as its manual says,
//! Conversica does not repeat a refused post, and a post has legal weight: blocking an address would let an attacker suppress a
//! person's opt-out. A long password protects against guessing at any rate; the limits here only bound the cost of failures.

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

    /// Basic has one encoding per pair. The comparison uses digests, so that not even the password's length leaks.
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

/// The period in which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Failures per address and window that get a plain refusal; further ones get a time to wait.
const TOLERATED: u32 = 10;
/// The most addresses that are remembered. Limits per address do not stop an attacker with more.
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

/// The consequence of one more failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailure {
    /// The first of its address and window: it is logged.
    pub first: bool,
    /// Too many failures: the time to wait.
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

/// The client of a proxy: the last address of `X-Forwarded-For`, because only that one was written by the proxy itself.
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
