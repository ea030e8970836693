//! Chooses the connection to close when all places are taken: one that has shown no credentials gives way to a newcomer, so that
//! strangers with open connections never keep out a sender with credentials. Pure except for the tasks it aborts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::task::{AbortHandle, Id};

const UNTRUSTED: u8 = 0;
const TRUSTED: u8 = 1;
const CLOSED: u8 = 2;

/// Whether a connection has shown credentials. Handlers find it among the extensions of a request.
#[derive(Debug, Clone, Default)]
pub struct ConnectionTrust(Arc<AtomicU8>);

impl ConnectionTrust {
    /// The connection has shown the right credentials: from now on no newcomer replaces it.
    pub fn establish(&self) {
        let _ = self.0.compare_exchange(UNTRUSTED, TRUSTED, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_untrusted(&self) -> bool {
        self.0.load(Ordering::Acquire) == UNTRUSTED
    }

    /// Whether the connection may be closed: it has shown no credentials so far, and its handler learns that it is too late.
    fn close(&self) -> bool {
        self.0.compare_exchange(UNTRUSTED, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct OpenConnection {
    /// Connections are numbered as they come.
    number: u64,
    network: IpAddr,
    trust: ConnectionTrust,
    task: AbortHandle,
}

/// The connections that are open.
#[derive(Default)]
pub struct ConnectionTable {
    open: HashMap<Id, OpenConnection>,
    accepted: u64,
}

impl ConnectionTable {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn add(&mut self, peer: IpAddr, trust: ConnectionTrust, task: AbortHandle) {
        self.accepted += 1;
        let connection = OpenConnection { number: self.accepted, network: network_of(peer), trust, task };
        self.open.insert(connection.task.id(), connection);
    }

    pub fn remove(&mut self, id: Id) {
        self.open.remove(&id);
    }

    /// Whether a newcomer can be accepted: a place is free, or a connection without credentials can be closed for it.
    pub fn admits_newcomer(&self, most: usize) -> bool {
        self.open.len() < most || self.open.values().any(|connection| connection.trust.is_untrusted())
    }

    /// Closes the oldest connection without credentials of the network that holds most of them, so a stranger who opens many
    /// loses their own. Behind a proxy all come from one address, and the oldest of all is closed. Returns whether there was one.
    pub fn close_oldest_untrusted(&mut self) -> bool {
        let untrusted = || self.open.values().filter(|connection| connection.trust.is_untrusted());
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        untrusted().for_each(|connection| *held.entry(connection.network).or_default() += 1);
        let oldest = untrusted()
            .min_by_key(|connection| (std::cmp::Reverse(held.get(&connection.network).copied()), connection.number));
        let Some(id) = oldest.filter(|connection| connection.trust.close()).map(|connection| connection.task.id())
        else {
            return false;
        };
        if let Some(connection) = self.open.remove(&id) {
            connection.task.abort();
        }
        true
    }
}

/// The address itself, or for IPv6 its /64: one customer of a provider owns all of those addresses.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(table: &mut ConnectionTable, peer: &str) -> (ConnectionTrust, tokio::task::JoinHandle<()>) {
        let (trust, task) = (ConnectionTrust::default(), tokio::spawn(std::future::pending()));
        table.add(peer.parse().unwrap(), trust.clone(), task.abort_handle());
        (trust, task)
    }

    #[tokio::test]
    async fn the_oldest_without_credentials_of_who_holds_most_is_closed_and_no_other() {
        let mut table = ConnectionTable::default();
        let (_, alone) = opened(&mut table, "192.0.2.1").await;
        let (trusted, signed_in) = opened(&mut table, "2001:db8::1").await;
        trusted.establish();
        let (_, first) = opened(&mut table, "2001:db8::2").await;
        let (_, second) = opened(&mut table, "2001:db8::ffff").await;
        assert!(table.close_oldest_untrusted() && first.await.is_err_and(|error| error.is_cancelled()));
        assert!(table.close_oldest_untrusted() && alone.await.is_err_and(|error| error.is_cancelled()));
        assert!(table.close_oldest_untrusted() && second.await.is_err_and(|error| error.is_cancelled()));
        assert!(!table.close_oldest_untrusted() && !signed_in.is_finished(), "who has credentials stays");
        assert_eq!((table.len(), table.admits_newcomer(1), table.admits_newcomer(2)), (1, false, true));
        table.remove(signed_in.id());
        assert!(table.is_empty());
    }

    #[tokio::test]
    async fn who_is_closed_is_not_trusted_afterwards() {
        let mut table = ConnectionTable::default();
        let (trust, _task) = opened(&mut table, "192.0.2.1").await;
        assert!(table.close_oldest_untrusted());
        trust.establish();
        assert_eq!(trust.0.load(Ordering::Acquire), CLOSED);
    }
}
