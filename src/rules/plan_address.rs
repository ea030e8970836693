//! E-mail addresses with more than one id, found in bounded memory. Pure.
//!
//! For each address 16 bytes are kept, and the name of its lead while there is room for names. Addresses beyond the limit are not
//! compared, and the plan says so.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use crate::conversica::lead::LeadId;

/// 32 MiB of hashes, and as much of names.
const MOST: usize = 2_000_000;
const NAMES_BYTES: usize = 32 * 1024 * 1024;
/// Addresses that are shown, and leads of each.
const EXAMPLES: usize = 3;
const LEADS_OF_ONE: usize = 3;

/// An address with several ids; the address itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SameEmail {
    pub leads: u64,
    /// The first of them.
    pub first: Vec<LeadId>,
}

/// The result of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepeatedAddresses {
    /// Addresses with more than one id.
    pub addresses: u64,
    pub examples: Vec<SameEmail>,
    /// Leads whose addresses were not compared.
    pub uncompared: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SeenAddress {
    address: u64,
    /// The position of its lead's name; later names have greater positions.
    name: u32,
}

/// No room was left for the name.
const UNNAMED: u32 = u32::MAX;

#[derive(Debug)]
pub struct AddressBook {
    seen: Vec<SeenAddress>,
    /// For each lead: the lengths of id and client, then both.
    names: Vec<u8>,
    most: usize,
    names_bytes: usize,
    uncompared: u64,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self::up_to(MOST, NAMES_BYTES)
    }
}

impl AddressBook {
    pub fn up_to(most: usize, names_bytes: usize) -> Self {
        Self { seen: Vec::new(), names: Vec::new(), most, names_bytes, uncompared: 0 }
    }

    /// Addresses are compared without regard to case.
    pub fn add(&mut self, address: &str, lead: (&str, &str)) {
        if self.seen.len() >= self.most {
            self.uncompared += 1;
            return;
        }
        let mut hasher = DefaultHasher::new();
        address.to_lowercase().hash(&mut hasher);
        let name = self.name(lead);
        self.seen.push(SeenAddress { address: hasher.finish(), name });
    }

    fn name(&mut self, (id, client): (&str, &str)) -> u32 {
        let lengths = (u16::try_from(id.len()), u16::try_from(client.len()));
        let at = u32::try_from(self.names.len()).unwrap_or(UNNAMED);
        let (Ok(of_id), Ok(of_client)) = lengths else { return UNNAMED };
        if at == UNNAMED || self.names.len() + 4 + id.len() + client.len() > self.names_bytes {
            return UNNAMED;
        }
        for part in [&of_id.to_le_bytes()[..], &of_client.to_le_bytes(), id.as_bytes(), client.as_bytes()] {
            self.names.extend_from_slice(part);
        }
        at
    }

    fn named(&self, at: u32) -> Option<LeadId> {
        let rest = self.names.get(usize::try_from(at).ok()?..)?;
        let (lengths, rest) = rest.split_at_checked(4)?;
        let of = |low: usize| usize::from(u16::from_le_bytes([lengths[low], lengths[low + 1]]));
        let (id, rest) = rest.split_at_checked(of(0))?;
        let client = rest.get(..of(2))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(LeadId { id: text(id), client_id: text(client) })
    }

    pub fn repeated(mut self) -> RepeatedAddresses {
        self.seen.sort_unstable();
        let runs = || self.seen.chunk_by(|a, b| a.address == b.address).filter(|run| run.len() > 1);
        let mut first: Vec<&[SeenAddress]> = Vec::with_capacity(EXAMPLES + 1);
        for run in runs().filter(|run| run[1].name != UNNAMED) {
            let place = first.partition_point(|other| other[0].name < run[0].name);
            first.insert(place, run);
            first.truncate(EXAMPLES);
        }
        let example = |run: &&[SeenAddress]| SameEmail {
            leads: run.len() as u64,
            first: run.iter().take(LEADS_OF_ONE).filter_map(|seen| self.named(seen.name)).collect(),
        };
        RepeatedAddresses {
            addresses: runs().count() as u64,
            examples: first.iter().map(example).collect(),
            uncompared: self.uncompared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn examples_are_named_in_the_order_in_which_they_came() {
        let mut addresses = AddressBook::default();
        for (id, address) in [("1", "b@x.org"), ("2", "a@x.org"), ("3", "A@X.org"), ("4", "B@x.org"), ("5", "c@x.org")]
        {
            addresses.add(address, (id, "north"));
        }
        let repeated = addresses.repeated();
        let ids: Vec<Vec<&str>> =
            repeated.examples.iter().map(|same| same.first.iter().map(|lead| &*lead.id).collect()).collect();
        assert_eq!((repeated.addresses, ids), (2, vec![vec!["1", "4"], vec!["2", "3"]]));
        assert_eq!(repeated.examples[0].first[0].client_id, "north");
    }

    proptest! {
        #[test]
        fn it_is_exact_up_to_the_limit_and_names_only_leads_that_share_an_address(
            addresses in proptest::collection::vec(0u8..20, 0..60), most in 0usize..70, names_bytes in 0usize..400,
        ) {
            let mut counted = AddressBook::up_to(most, names_bytes);
            for (id, address) in addresses.iter().enumerate() {
                counted.add(&format!("{address}@example.com"), (&id.to_string(), ""));
            }
            let mut expected: BTreeMap<u8, u64> = BTreeMap::new();
            for address in addresses.iter().take(most) {
                *expected.entry(*address).or_default() += 1;
            }
            prop_assert!(counted.names.len() <= names_bytes && counted.seen.len() <= most);
            let repeated = counted.repeated();
            prop_assert_eq!(repeated.addresses, expected.values().filter(|leads| **leads > 1).count() as u64);
            prop_assert_eq!(repeated.uncompared, addresses.len().saturating_sub(most) as u64);
            for example in &repeated.examples {
                let of: Vec<u8> = example.first.iter().map(|lead| addresses[lead.id.parse::<usize>().unwrap()]).collect();
                prop_assert!(of.len() > 1 && of.iter().all(|address| *address == of[0]), "{:?}", of);
                prop_assert_eq!(example.leads, expected[&of[0]]);
            }
        }
    }
}
