//! The sessions of signed-in visitors: kept in memory, so that a restart ends every session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::admin::dashboard::door::TokenHolder;

/// How long a session lasts.
pub const LASTS: Duration = Duration::from_secs(12 * 3600);
/// The most sessions; a further one ends the oldest.
const MOST: usize = 200;

/// Identifies a session without opening it: the digest of the cookie's value.
pub type SessionKey = [u8; 32];

#[derive(Default)]
pub struct SessionTable(Mutex<HashMap<SessionKey, OperatorSession>>);

struct OperatorSession {
    /// The token in every form of this session.
    form_token: String,
    ends: Instant,
    holder: TokenHolder,
    /// A message for the next page, shown once.
    message: Option<String>,
}

impl SessionTable {
    /// Starts a session; returns the cookie's value.
    pub fn begin(&self, holder: TokenHolder, now: Instant) -> String {
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= MOST
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        let cookie = random();
        let session = OperatorSession { form_token: random(), ends: now + LASTS, holder, message: None };
        sessions.insert(key(&cookie), session);
        cookie
    }

    /// The session of that cookie.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<VisitorSession> {
        let key = key(cookie);
        let sessions = self.lock();
        let session = sessions.get(&key).filter(|session| session.ends > now)?;
        Some(VisitorSession { key, form_token: session.form_token.clone(), holder: session.holder.clone() })
    }

    pub fn end(&self, key: &SessionKey) {
        self.lock().remove(key);
    }

    pub fn say(&self, key: &SessionKey, message: String) {
        if let Some(session) = self.lock().get_mut(key) {
            session.message = Some(message);
        }
    }

    /// Takes the message, which is shown once.
    pub fn message(&self, key: &SessionKey) -> Option<String> {
        self.lock().get_mut(key)?.message.take()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, OperatorSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits.
fn random() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn key(cookie: &str) -> SessionKey {
    Sha256::digest(cookie.as_bytes()).into()
}

/// The session of a signed-in visitor.
#[derive(Debug, Clone)]
pub struct VisitorSession {
    pub key: SessionKey,
    /// The token of its forms.
    pub form_token: String,
    pub holder: TokenHolder,
}

/// A visitor of the dashboard.
#[derive(Debug, Clone)]
pub struct DashboardVisitor {
    pub address: IpAddr,
    pub session: Option<VisitorSession>,
    /// The holder of the token that the request itself carried.
    pub bearer: Option<TokenHolder>,
    /// An automatic refresh of an open page: it must not consume one-time messages.
    pub is_live: bool,
}

impl DashboardVisitor {
    /// Whether the visitor may act, with one of their forms.
    pub fn may_act(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.holder.may_act())
    }

    /// Whether pages show people to the visitor, and not only counts.
    pub fn sees_people(&self) -> bool {
        self.session.is_some() || self.bearer.is_some()
    }
}

/// A visitor who may see people.
#[derive(Debug, Clone)]
pub struct PeopleVisitor(pub DashboardVisitor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends() {
        let (sessions, start) = (SessionTable::default(), Instant::now());
        let (a, b) = (sessions.begin(TokenHolder::unnamed(), start), sessions.begin(TokenHolder::unnamed(), start));
        let VisitorSession { key, form_token, .. } = sessions.find(&a, start).expect("it has begun");
        assert_ne!(form_token, sessions.find(&b, start).expect("it has begun").form_token);
        sessions.say(&key, "done".to_owned());
        assert_eq!((sessions.message(&key).as_deref(), sessions.message(&key)), (Some("done"), None));
        assert!(sessions.find(&a, start + LASTS).is_none(), "over");
        assert!(sessions.find(&form_token, start).is_none());
        sessions.end(&key);
        assert!(sessions.find(&a, start).is_none() && sessions.find(&b, start).is_some());
    }

    #[test]
    fn no_more_sessions_are_kept_than_there_is_room_for_and_the_newest_stays() {
        let (sessions, start) = (SessionTable::default(), Instant::now());
        for n in 0..2 * MOST {
            let now = start + Duration::from_millis(n as u64);
            let newest = sessions.begin(TokenHolder::unnamed(), now);
            assert!(sessions.find(&newest, now).is_some());
        }
        assert_eq!(sessions.lock().len(), MOST);
    }
}
