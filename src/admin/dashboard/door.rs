//! The dashboard's access rules, applied to a request. Pure.
//!
//! People are shown to signed-in visitors and to requests with the token. Without a token the dashboard shows counts to this machine
//! without signing in. "This machine" means the listener's own address and the host name that the browser requested: a foreign page
//! whose host name resolves to 127.0.0.1 (DNS rebinding) requests its own name. A proxy forwards for others, and need not say so:
//! hence counts only.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::address_range::AddressRange;
use crate::config::{AdminSettings, OperatorRole, OperatorSettings};

/// Headers that proxies add. A browser that connects directly sends none of them.
const OF_PROXIES: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

pub struct AccessPolicy {
    /// The digest of each token, and its holder.
    tokens: Vec<([u8; 32], TokenHolder)>,
    sign_on: Option<SignOnPolicy>,
    on_loopback: bool,
}

/// Single sign-on: the header of a proxy, the addresses from which it counts, and the people that it may name.
struct SignOnPolicy {
    header: HeaderName,
    from: Vec<AddressRange>,
    operators: Vec<TokenHolder>,
}

/// What the proxy says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignOnWord {
    /// Nothing: no single sign-on, no header, or a header from an address that may not set it.
    Silent,
    /// The request is this operator's.
    Is(TokenHolder),
    /// The header names no operator of the settings, or it came more than once.
    Unknown,
}

/// The person behind a token or a session, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHolder {
    /// `None`: the admin token, or a link from the command line, which say no name.
    pub name: Option<String>,
    pub role: OperatorRole,
}

impl TokenHolder {
    /// The holder of the admin token, or of a link from the command line.
    pub fn unnamed() -> Self {
        Self { name: None, role: OperatorRole::Act }
    }

    pub fn may_act(&self) -> bool {
        match self.role {
            OperatorRole::Look => false,
            OperatorRole::Act => true,
        }
    }
}

/// The rights of a request without session and token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousAccess {
    /// See counts, and no people.
    MayCount,
    /// Sign in first.
    MustSignIn,
    /// No token is configured, and the request is not from this machine.
    IsForeign,
}

impl AccessPolicy {
    pub fn new(settings: &AdminSettings, listens_on: SocketAddr) -> Self {
        let admin = settings.token.iter().map(|token| (token, TokenHolder::unnamed()));
        let operators = settings.operator.iter();
        let holder = |one: &OperatorSettings| TokenHolder { name: Some(one.name.clone()), role: one.role };
        let sign_on = settings.sso_header.as_ref().and_then(|header| {
            let from = settings.sso_from.iter().flatten().filter_map(|text| text.parse().ok()).collect();
            let operators = settings.operator.iter().map(holder).collect();
            // A name that is no header's was refused with the settings.
            Some(SignOnPolicy { header: HeaderName::from_bytes(header.as_bytes()).ok()?, from, operators })
        });
        let operators = operators.filter_map(|one| Some((one.token.as_ref()?, holder(one))));
        let tokens = admin.chain(operators).filter(|(token, _)| !token.expose_secret().is_empty());
        Self {
            tokens: tokens.map(|(token, holder)| (digest(token.expose_secret()), holder)).collect(),
            sign_on,
            on_loopback: listens_on.ip().to_canonical().is_loopback(),
        }
    }

    pub fn has_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether operators sign in through a proxy.
    pub fn has_sign_on(&self) -> bool {
        self.sign_on.is_some()
    }

    /// Who sends the request, by the word of a proxy that may say so.
    pub fn signed_on(&self, headers: &HeaderMap, peer: IpAddr) -> SignOnWord {
        let Some(policy) = &self.sign_on else { return SignOnWord::Silent };
        if !policy.from.iter().any(|range| range.contains(peer)) {
            return SignOnWord::Silent;
        }
        let mut named = headers.get_all(&policy.header).iter();
        let (Some(name), further) = (named.next(), named.next()) else { return SignOnWord::Silent };
        if further.is_some() {
            // One of them may be the visitor's own.
            return SignOnWord::Unknown;
        }
        let is_named = |one: &&TokenHolder| one.name.as_ref().is_some_and(|have| have.as_bytes() == name.as_bytes());
        policy.operators.iter().find(is_named).map_or(SignOnWord::Unknown, |one| SignOnWord::Is(one.clone()))
    }

    /// Compares digests in constant time, and with every token, so that neither a token's length nor its place leaks.
    pub fn holder(&self, text: &str) -> Option<TokenHolder> {
        let offered = digest(text);
        let fitting = self.tokens.iter().filter(|(token, _)| offered.ct_eq(token).into());
        fitting.fold(None, |first, (_, holder)| first.or_else(|| Some(holder.clone())))
    }

    pub fn stranger(&self, headers: &HeaderMap) -> AnonymousAccess {
        if self.has_token() || self.has_sign_on() {
            AnonymousAccess::MustSignIn
        } else if self.on_loopback && is_of_this_machine(headers) {
            AnonymousAccess::MayCount
        } else {
            AnonymousAccess::IsForeign
        }
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares two texts in constant time; one of them is secret.
pub fn same_secret(a: &str, b: &str) -> bool {
    digest(a).ct_eq(&digest(b)).into()
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let through_a_proxy = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    !through_a_proxy && host.to_str().is_ok_and(names_this_machine)
}

/// Whether the host is `localhost`, `127.0.0.1:9464`, `[::1]:9464` or the like.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => name,
            Some((name, port)) if port.starts_with(':') => name,
            _ => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether the browser says that a posted form comes from one of our pages. For pages that send no referrer, such as ours, it
/// sends the origin `null`, unless it sends `Sec-Fetch-Site`, which needs HTTPS or loopback. In that case the session's own token
/// in the form decides, as it does for every form.
pub fn is_of_our_pages(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    origin.to_str().is_ok_and(|origin| {
        origin == "null" || origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    })
}

/// Whether the browser uses HTTPS, to a proxy in front.
pub fn is_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::SecretString;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        pairs.iter().for_each(|(name, value)| _ = headers.append(*name, value.parse().unwrap()));
        headers
    }

    fn admin(token: Option<&str>, operators: &[(&str, &str, OperatorRole)], listens_on: &str) -> AccessPolicy {
        let listen = listens_on.parse().unwrap();
        let operator = operators.iter().map(|(name, token, role)| OperatorSettings {
            name: (*name).to_owned(),
            token: Some(SecretString::from(*token)),
            role: *role,
        });
        let (sso_header, sso_from) = (None, None);
        let token = token.map(SecretString::from);
        let settings = AdminSettings { listen, token, sso_header, sso_from, operator: operator.collect() };
        AccessPolicy::new(&settings, listen)
    }

    fn door(token: Option<&str>, listens_on: &str) -> AccessPolicy {
        admin(token, &[], listens_on)
    }

    #[test]
    fn each_operator_has_their_own_token_beside_the_admin_token() {
        let operators = [("anna", "token of anna", OperatorRole::Act), ("ben", "token of ben", OperatorRole::Look)];
        for token in [Some("open sesame"), None] {
            let door = admin(token, &operators, "127.0.0.1:1");
            assert!(door.has_token());
            assert_eq!(door.stranger(&headers(&[("host", "localhost")])), AnonymousAccess::MustSignIn);
            assert_eq!(door.holder("open sesame"), token.map(|_| TokenHolder::unnamed()));
            let anna = door.holder("token of anna").unwrap();
            assert_eq!((anna.name.as_deref(), anna.may_act()), (Some("anna"), true));
            let ben = door.holder("token of ben").unwrap();
            assert_eq!((ben.name.as_deref(), ben.may_act()), (Some("ben"), false));
            for wrong in ["", "anna", "token of carl", "token of ann"] {
                assert_eq!(door.holder(wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn without_a_token_only_this_machine_sees_counts() {
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "[::1]", "127.9.9.9:1"]
        {
            assert_eq!(
                door(None, "127.0.0.1:9464").stranger(&headers(&[("host", host)])),
                AnonymousAccess::MayCount,
                "{host}"
            );
            assert_eq!(
                door(None, "[::1]:9464").stranger(&headers(&[("host", host)])),
                AnonymousAccess::MayCount,
                "{host}"
            );
            let open = door(None, "0.0.0.0:9464");
            assert_eq!(
                open.stranger(&headers(&[("host", host)])),
                AnonymousAccess::IsForeign,
                "the name alone proves nothing"
            );
            let locked = door(Some("open sesame"), "127.0.0.1:9464");
            assert_eq!(locked.stranger(&headers(&[("host", host)])), AnonymousAccess::MustSignIn);
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:9464",
            "localhost.evil.example",
            "192.0.2.1:9464",
            "[::1",
            "",
            "[::1]x",
        ] {
            let stranger = door(None, "127.0.0.1:9464").stranger(&headers(&[("host", host)]));
            assert_eq!(stranger, AnonymousAccess::IsForeign, "{host}");
        }
        let door = door(None, "127.0.0.1:9464");
        assert_eq!(door.stranger(&headers(&[])), AnonymousAccess::IsForeign);
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(door.stranger(&two), AnonymousAccess::IsForeign);
        for proxy in OF_PROXIES {
            assert_eq!(
                door.stranger(&headers(&[("host", "127.0.0.1:9464"), (proxy, "x")])),
                AnonymousAccess::IsForeign,
                "{proxy}"
            );
        }
    }

    #[test]
    fn a_header_names_an_operator_from_the_addresses_of_the_proxy_only() {
        let listen = "0.0.0.0:1".parse().unwrap();
        let operator = vec![OperatorSettings { name: "anna".to_owned(), token: None, role: OperatorRole::Act }];
        let (sso_header, sso_from) =
            (Some("X-Forwarded-User".to_owned()), Some(vec!["127.0.0.1".to_owned(), "10.0.0.0/8".to_owned()]));
        let door = AccessPolicy::new(&AdminSettings { listen, token: None, sso_header, sso_from, operator }, listen);
        let word = |pairs: &[(&'static str, &str)], peer: &str| door.signed_on(&headers(pairs), peer.parse().unwrap());
        let anna = SignOnWord::Is(TokenHolder { name: Some("anna".to_owned()), role: OperatorRole::Act });
        let named = [("x-forwarded-user", "anna")];
        for peer in ["127.0.0.1", "10.9.8.7", "::ffff:10.9.8.7"] {
            assert_eq!(word(&named, peer), anna, "{peer}");
        }
        for peer in ["127.0.0.2", "11.0.0.1", "::1"] {
            assert_eq!(word(&named, peer), SignOnWord::Silent, "{peer}");
        }
        assert_eq!(word(&[], "127.0.0.1"), SignOnWord::Silent);
        for name in ["Anna", "anna ann", "ben", "", "anna, ben"] {
            assert_eq!(word(&[("x-forwarded-user", name)], "127.0.0.1"), SignOnWord::Unknown, "{name}");
        }
        assert_eq!(word(&[named[0], named[0]], "127.0.0.1"), SignOnWord::Unknown, "one may be the visitor's own");
        assert!(!door.has_token() && door.holder("").is_none());
        assert_eq!(door.stranger(&headers(&[("host", "localhost")])), AnonymousAccess::MustSignIn);
    }

    #[test]
    fn only_the_token_is_the_token() {
        let door = door(Some("open sesame"), "0.0.0.0:9464");
        assert_eq!(door.holder("open sesame"), Some(TokenHolder::unnamed()));
        for wrong in ["", "open sesam", "open sesame ", "Open sesame"] {
            assert_eq!(door.holder(wrong), None, "{wrong}");
        }
        assert_eq!(self::door(None, "127.0.0.1:1").holder(""), None);
        assert_eq!(self::door(Some(""), "127.0.0.1:1").holder(""), None, "a blank one is none");
        assert_eq!(bearer(&headers(&[("authorization", "bearer open sesame")])), Some("open sesame"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic open")])), None);
    }

    #[test]
    fn forms_of_other_pages_are_told_apart() {
        let host = ("host", "127.0.0.1:9464");
        let ours = |pairs: &[(&'static str, &str)]| is_of_our_pages(&headers(&[&[host], pairs].concat()));
        assert!(ours(&[("origin", "http://127.0.0.1:9464")]));
        assert!(ours(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(ours(&[]));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!ours(&[("sec-fetch-site", site), ("origin", "http://127.0.0.1:9464")]), "{site}");
        }
        for origin in ["http://evil.example", "http://127.0.0.1:1", "http://127.0.0.1:9464.evil.example", ""] {
            assert!(!ours(&[("origin", origin)]), "{origin}");
        }
    }

    proptest! {
        #[test]
        fn no_name_but_that_of_this_machine_passes(host in "[a-z0-9.:\\[\\]-]{0,24}") {
            if names_this_machine(&host) {
                let bare = host.trim_start_matches('[').replace("localhost", "127.0.0.1");
                prop_assert!(bare.starts_with("127.") || bare.starts_with(':') || bare.starts_with('0'), "{}", host);
            }
        }
    }
}
