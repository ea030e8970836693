//! An address or a range of addresses, as settings write it: `10.1.2.3`, `10.0.0.0/8`, `fd00::/8`. Pure.

use std::net::IpAddr;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    prefix: u32,
}

/// Why a text is no range. The messages say no more than the operator needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("is neither an address nor a range of addresses")]
    Shape,
    #[error("has bits set behind its prefix, so it may mean one address or a whole range")]
    HostBits,
    #[error("means every address")]
    Everywhere,
}

impl AddressRange {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u128::from(network.to_bits() ^ address.to_bits()) >> (32 - self.prefix) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let network: IpAddr = address.parse().map_err(|_| RangeError::Shape)?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(text) => text.parse().ok().filter(|prefix| *prefix <= longest).ok_or(RangeError::Shape)?,
        };
        if prefix == 0 {
            return Err(RangeError::Everywhere);
        }
        let has_host_bits = match network {
            IpAddr::V4(address) => u128::from(address.to_bits()) & ((1_u128 << (32 - prefix)) - 1) != 0,
            IpAddr::V6(address) => address.to_bits() & ((1_u128 << (128 - prefix)) - 1) != 0,
        };
        if has_host_bits {
            return Err(RangeError::HostBits);
        }
        Ok(Self { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, address: &str) -> bool {
        range.parse::<AddressRange>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_has_its_addresses_and_no_other() {
        assert!(contains("10.0.0.0/8", "10.255.1.2") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("192.0.2.6/31", "192.0.2.7") && !contains("192.0.2.6/31", "192.0.2.8"));
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe80::1"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
        assert!(contains("127.0.0.1", "::ffff:127.0.0.1"), "the same address, as IPv6 sockets write it");
        assert!(!contains("127.0.0.1", "::1") && !contains("::1", "127.0.0.1"));
        assert!(contains("128.0.0.0/1", "200.0.0.1") && contains("8000::/1", "ffff::1"));
    }

    #[test]
    fn what_could_mean_more_than_was_meant_is_refused() {
        for (text, error) in [
            ("10.0.0.1/8", RangeError::HostBits),
            ("fd00::1/8", RangeError::HostBits),
            ("0.0.0.0/0", RangeError::Everywhere),
            ("::/0", RangeError::Everywhere),
            ("10.0.0.0/33", RangeError::Shape),
            ("10.0.0.0/", RangeError::Shape),
            ("proxy.example.com", RangeError::Shape),
            ("", RangeError::Shape),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }
}
