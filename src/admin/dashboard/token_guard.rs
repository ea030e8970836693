//! Which admin tokens are tried: few wrong ones of one address in a minute, and few of all addresses together. Pure.
//!
//! A token that is not tried is neither right nor wrong, so guesses have to keep to this rate. Signed-in visitors and links from the
//! command line are not concerned.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::http::crowd::network_of;

/// The period in which wrong tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Wrong tokens that are tried in a period, of one address and of all.
const OF_ONE: u32 = 10;
const OF_ALL: u32 = 100;
/// For so long after its last right token, an address is not concerned by what others try.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most addresses that are remembered.
const ADDRESSES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenVerdict {
    Right,
    Wrong,
    /// Too many wrong ones came before it. The time after which tokens are tried again.
    NotJudged(Duration),
}

/// What is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardEvent {
    /// The first wrong token of an address in its period.
    FirstWrong,
    LockedOut,
    LockedOutAll,
}

#[derive(Debug, Default)]
pub struct TokenGuard {
    wrong: HashMap<IpAddr, WrongTokens>,
    all: Option<WrongTokens>,
    /// When each address last had the right token.
    known: HashMap<IpAddr, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct WrongTokens {
    since: Instant,
    count: u32,
}

impl WrongTokens {
    fn left(self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.saturating_duration_since(self.since))
    }
}

impl TokenGuard {
    pub fn judge(
        &mut self,
        address: IpAddr,
        now: Instant,
        is_right: impl FnOnce() -> bool,
    ) -> (TokenVerdict, Option<GuardEvent>) {
        let address = network_of(address);
        self.forget_old(now);
        let is_known = self.known.get(&address).is_some_and(|at| now.saturating_duration_since(*at) < KNOWN_FOR);
        if let Some(wrong) = self.wrong.get(&address).filter(|wrong| wrong.count >= OF_ONE) {
            return (TokenVerdict::NotJudged(wrong.left(now)), None);
        }
        if let Some(all) = self.all.filter(|all| all.count >= OF_ALL && !is_known) {
            return (TokenVerdict::NotJudged(all.left(now)), None);
        }
        if is_right() {
            if self.known.len() < ADDRESSES || is_known {
                self.known.insert(address, now);
            }
            return (TokenVerdict::Right, None);
        }
        let all = self.all.get_or_insert(WrongTokens { since: now, count: 0 });
        all.count += 1;
        let locks_all = all.count == OF_ALL;
        let wrong = self.wrong.entry(address).or_insert(WrongTokens { since: now, count: 0 });
        wrong.count += 1;
        let event = match wrong.count {
            _ if locks_all => Some(GuardEvent::LockedOutAll),
            1 => Some(GuardEvent::FirstWrong),
            OF_ONE => Some(GuardEvent::LockedOut),
            _ => None,
        };
        (TokenVerdict::Wrong, event)
    }

    /// No more than [`OF_ALL`] addresses are added in a period.
    fn forget_old(&mut self, now: Instant) {
        self.wrong.retain(|_, wrong| !wrong.left(now).is_zero());
        self.all = self.all.filter(|all| !all.left(now).is_zero());
        self.known.retain(|_, at| now.saturating_duration_since(*at) < KNOWN_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn after_ten_wrong_tokens_none_of_that_address_is_tried_until_the_minute_is_over() {
        let (mut guard, start) = (TokenGuard::default(), Instant::now());
        let events: Vec<_> = (0..10).map(|_| guard.judge(address(1), start, || false)).collect();
        assert!(events.iter().all(|(verdict, _)| *verdict == TokenVerdict::Wrong));
        assert_eq!((events[0].1, events[9].1), (Some(GuardEvent::FirstWrong), Some(GuardEvent::LockedOut)));
        let later = start + Duration::from_secs(20);
        let untried = || -> bool { panic!("it is not tried") };
        assert_eq!(guard.judge(address(1), later, untried).0, TokenVerdict::NotJudged(Duration::from_secs(40)));
        assert_eq!(guard.judge(address(2), later, || true).0, TokenVerdict::Right, "another address");
        assert_eq!(guard.judge(address(1), start + WINDOW, || true).0, TokenVerdict::Right);
    }

    #[test]
    fn guesses_from_many_addresses_do_not_keep_out_who_signed_in_before() {
        let (mut guard, start) = (TokenGuard::default(), Instant::now());
        assert_eq!(guard.judge(address(1), start, || true).0, TokenVerdict::Right);
        let mut judged = 0;
        for n in 0..10_000_u32 {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
            judged += u32::from(guard.judge(address, start, || false).0 == TokenVerdict::Wrong);
        }
        assert_eq!(judged, OF_ALL);
        assert!(matches!(guard.judge(address(2), start, || true).0, TokenVerdict::NotJudged(_)));
        assert_eq!(guard.judge(address(1), start, || true).0, TokenVerdict::Right);
        assert_eq!(guard.wrong.len(), OF_ALL as usize, "and little is remembered");
        assert_eq!(guard.judge(address(2), start + WINDOW, || true).0, TokenVerdict::Right);
    }
}
