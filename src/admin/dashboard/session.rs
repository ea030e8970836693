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
        make_room(&mut sessions, &holder, now);
        let cookie = random();
        let session = OperatorSession { form_token: random(), ends: now + LASTS, holder, message: None };
        sessions.insert(key(&cookie), session);
        cookie
    }

    /// The session of an operator that a proxy names with each request: one for each name, without a cookie. It lasts as long as the
    /// operator's requests come. The second value says whether it has just begun.
    pub fn signed_on(&self, holder: TokenHolder, now: Instant) -> (VisitorSession, bool) {
        let mut sessions = self.lock();
        // No cookie has such a value, so that no cookie opens the session.
        let key = key(&format!("single sign-on\n{}", holder.name.as_deref().unwrap_or_default()));
        let known = sessions.get_mut(&key).filter(|session| session.ends > now && session.holder == holder);
        let began = known.is_none();
        match known {
            Some(session) => session.ends = now + LASTS,
            None => {
                sessions.remove(&key);
                make_room(&mut sessions, &holder, now);
                let holder = holder.clone();
                sessions
                    .insert(key, OperatorSession { form_token: random(), ends: now + LASTS, holder, message: None });
            }
        }
        let form_token = sessions.get(&key).map(|session| session.form_token.clone()).unwrap_or_default();
        (VisitorSession { key, form_token, holder, origin: SessionOrigin::Proxy }, began)
    }

    /// The session of that cookie.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<VisitorSession> {
        let key = key(cookie);
        let sessions = self.lock();
        let session = sessions.get(&key).filter(|session| session.ends > now)?;
        let (form_token, holder) = (session.form_token.clone(), session.holder.clone());
        Some(VisitorSession { key, form_token, holder, origin: SessionOrigin::Cookie })
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

/// Ends the oldest session when there are too many: the holder's own, or one of the holder with the most. A person who signs in again
/// and again signs no other person out.
fn make_room(sessions: &mut HashMap<SessionKey, OperatorSession>, holder: &TokenHolder, now: Instant) {
    sessions.retain(|_, session| session.ends > now);
    if sessions.len() < MOST {
        return;
    }
    let of_holder = |holder: &TokenHolder| sessions.values().filter(|session| session.holder == *holder).count();
    let crowded = if of_holder(holder) > 0 {
        Some(holder.clone())
    } else {
        let holders = sessions.values().map(|session| &session.holder);
        holders.max_by_key(|holder| of_holder(holder)).cloned()
    };
    let theirs = sessions.iter().filter(|(_, session)| Some(&session.holder) == crowded.as_ref());
    if let Some(oldest) = theirs.min_by_key(|(_, session)| session.ends).map(|(key, _)| *key) {
        sessions.remove(&oldest);
    }
}

/// 256 random bits.
fn random() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn key(cookie: &str) -> SessionKey {
    Sha256::digest(cookie.as_bytes()).into()
}

/// What a session hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOrigin {
    /// The visitor has signed in here.
    Cookie,
    /// A proxy names the visitor with each request, so that signing out here would end nothing.
    Proxy,
}

/// The session of a signed-in visitor.
#[derive(Debug, Clone)]
pub struct VisitorSession {
    pub key: SessionKey,
    /// The token of its forms.
    pub form_token: String,
    pub holder: TokenHolder,
    pub origin: SessionOrigin,
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

    fn named(name: &str) -> TokenHolder {
        TokenHolder { name: Some(name.to_owned()), role: crate::config::OperatorRole::Look }
    }

    #[test]
    fn who_signs_in_again_and_again_signs_nobody_else_out() {
        let (sessions, start) = (SessionTable::default(), Instant::now());
        let anna = sessions.begin(named("anna"), start);
        let now = |n: usize| start + Duration::from_millis(n as u64);
        let ben: Vec<String> = (1..2 * MOST).map(|n| sessions.begin(named("ben"), now(n))).collect();
        assert!(sessions.find(&anna, now(2 * MOST)).is_some(), "hers is the oldest of all");
        assert_eq!(sessions.lock().len(), MOST);
        let carl = sessions.begin(named("carl"), now(2 * MOST));
        let at = now(2 * MOST);
        assert!(sessions.find(&carl, at).is_some() && sessions.find(&anna, at).is_some());
        assert_eq!(ben.iter().filter(|cookie| sessions.find(cookie, at).is_some()).count(), MOST - 2);
    }

    #[test]
    fn a_proxy_s_word_is_one_session_for_each_name_and_no_cookie_opens_it() {
        let (sessions, start) = (SessionTable::default(), Instant::now());
        let (first, began) = sessions.signed_on(named("anna"), start);
        let (again, began_again) = sessions.signed_on(named("anna"), start + LASTS / 2);
        assert_eq!((began, began_again, &first.form_token), (true, false, &again.form_token));
        let (later, began) = sessions.signed_on(named("anna"), start + LASTS);
        assert_eq!((began, &later.form_token), (false, &first.form_token), "it goes on while she comes");
        assert_ne!(sessions.signed_on(named("ben"), start).0.form_token, first.form_token);
        for cookie in ["anna", "single sign-on", &first.form_token] {
            assert!(sessions.find(cookie, start).is_none(), "{cookie}");
        }
        let (_, began) = sessions.signed_on(named("anna"), start + LASTS * 3);
        assert!(began);
    }
}
