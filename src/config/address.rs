//! Addresses to listen on, as people write them: `127.0.0.1:9464`, a port alone, or a URL. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de};

/// A port alone means this machine. Host names are not resolved, but for `localhost`.
pub fn parse(text: &str) -> Result<SocketAddr, &'static str> {
    const EXPECTED: &str = "write an IP address and a port like 127.0.0.1:9464, 0.0.0.0:8443 or [::1]:9464, or a port alone for this \
         machine; host names are not resolved";
    let text = text.trim();
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let without_scheme = text.strip_prefix("http://").unwrap_or(text);
    let plain = without_scheme.strip_suffix('/').unwrap_or(without_scheme);
    let plain = plain.strip_prefix("localhost:").map_or_else(|| plain.to_owned(), |port| format!("127.0.0.1:{port}"));
    plain.parse().map_err(|_| EXPECTED)
}

/// For a setting.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_port_and_a_url_are_taken() {
        let parsed = |text: &str| parse(text).map(|address| address.to_string());
        for text in ["127.0.0.1:9464", "9464", "localhost:9464", "http://127.0.0.1:9464/", "http://localhost:9464"] {
            assert_eq!(parsed(text), Ok("127.0.0.1:9464".to_owned()), "{text}");
        }
        assert_eq!(parsed("[::1]:80"), Ok("[::1]:80".to_owned()));
        for text in [
            "",
            "crm.example.com:80",
            "127.0.0.1",
            "70000",
            "https://127.0.0.1:9464",
            "http://127.0.0.1:80/path",
            "127.0.0.1:80:80",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
