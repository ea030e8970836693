//! The sandbox's memory: the account's lock, the newest version of each lead, every accepted post, counts.
//!
//! Every method is short and never waits, because all of them run under one lock. Bodies stay unchanged, so that tests see the
//! exact bytes that were sent.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::sandbox::check::LeadIdentity;

/// Counts so far; `GET /counts` returns them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SandboxCounts {
    /// Different leads held.
    pub leads: u64,
    /// Requests to post a lead, whatever their result.
    pub posts: u64,
    /// Posts whose lead was stored, with or without an answer.
    pub accepted: u64,
    pub rejected_400: u64,
    pub unauthorized_401: u64,
    /// Refused because the account was locked.
    pub refused_403: u64,
    pub too_large_413: u64,
    /// Whether the account is locked now.
    pub locked: bool,
    pub faults_injected: u64,
    /// The most requests in progress at the same time, over all leads and for one lead.
    pub max_in_flight: u64,
    pub max_in_flight_per_lead: u64,
    /// Accepted posts whose body equals the one before for the same lead.
    pub repeated: u64,
}

/// Whether a request gets as far as its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestAdmission {
    Admitted,
    Unauthorized,
    Locked,
}

/// How an accepted post ended for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostEnding {
    Answered,
    Timeout,
    Cut,
}

/// A lead's index among the stored ones; invalid after [`SandboxStore::forget`], which the generation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPlace {
    generation: u64,
    at: usize,
}

#[derive(Default)]
pub struct SandboxStore {
    leads: Vec<HeldLead>,
    places: HashMap<Arc<SandboxKey>, usize>,
    posts: Vec<SandboxPost>,
    counts: SandboxCounts,
    generation: u64,
    in_flight: u64,
    refused_in_a_row: u32,
}

#[derive(PartialEq, Eq, Hash)]
struct SandboxKey {
    client_id: Box<str>,
    id: Box<str>,
}

struct HeldLead {
    key: Arc<SandboxKey>,
    /// `None` until a post for this lead is stored.
    body: Option<Box<[u8]>>,
    in_flight: u64,
}

/// Small on purpose: there may be millions.
struct SandboxPost {
    at: DateTime<Utc>,
    lead: usize,
    ending: PostEnding,
}

impl SandboxStore {
    /// Counts a request, and checks its credentials. `lock_after` 0 never locks.
    pub fn admit(&mut self, credentials_right: bool, lock_after: u32) -> RequestAdmission {
        self.counts.posts += 1;
        self.in_flight += 1;
        self.counts.max_in_flight = self.counts.max_in_flight.max(self.in_flight);
        if self.counts.locked {
            self.counts.refused_403 += 1;
            return RequestAdmission::Locked;
        }
        if credentials_right {
            self.refused_in_a_row = 0;
            return RequestAdmission::Admitted;
        }
        self.counts.unauthorized_401 += 1;
        self.refused_in_a_row += 1;
        self.counts.locked = lock_after > 0 && self.refused_in_a_row >= lock_after;
        RequestAdmission::Unauthorized
    }

    /// Ends the count of a request.
    pub fn depart(&mut self, place: Option<HeldPlace>) {
        self.in_flight -= 1;
        if let Some(held) = place.and_then(|place| self.held(place)) {
            held.in_flight -= 1;
        }
    }

    /// Marks a request for this lead as in progress.
    pub fn enter(&mut self, identity: &LeadIdentity<'_>) -> HeldPlace {
        let key = SandboxKey { client_id: identity.client_id.as_ref().into(), id: identity.id.as_ref().into() };
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                let key = Arc::new(key);
                self.leads.push(HeldLead { key: Arc::clone(&key), body: None, in_flight: 0 });
                self.places.insert(key, self.leads.len() - 1);
                self.leads.len() - 1
            }
        };
        let held = &mut self.leads[at];
        held.in_flight += 1;
        self.counts.max_in_flight_per_lead = self.counts.max_in_flight_per_lead.max(held.in_flight);
        HeldPlace { generation: self.generation, at }
    }

    /// Stores the lead. After a [`SandboxStore::forget`] in between it does not, because the caller of `forget` wants to start
    /// empty.
    pub fn accept(&mut self, place: HeldPlace, body: &[u8], ending: PostEnding, at: DateTime<Utc>) {
        let Some(held) = self.held(place) else { return };
        let known = held.body.as_deref();
        let (new, repeated) = (known.is_none(), known == Some(body));
        if !repeated {
            // A copy, because the received bytes are a slice that keeps a much larger read buffer alive.
            held.body = Some(body.into());
        }
        self.counts.leads += u64::from(new);
        self.counts.repeated += u64::from(repeated);
        self.counts.accepted += 1;
        self.posts.push(SandboxPost { at, lead: place.at, ending });
    }

    pub fn count_rejected(&mut self) {
        self.counts.rejected_400 += 1;
    }

    pub fn count_too_large(&mut self) {
        self.counts.too_large_413 += 1;
    }

    pub fn count_fault(&mut self) {
        self.counts.faults_injected += 1;
    }

    pub fn unlock(&mut self) {
        self.counts.locked = false;
        self.refused_in_a_row = 0;
    }

    /// Clears leads, posts and counts; the account keeps its lock.
    pub fn forget(&mut self) {
        let locked = self.counts.locked;
        *self = Self {
            counts: SandboxCounts { locked, ..SandboxCounts::default() },
            generation: self.generation + 1,
            in_flight: self.in_flight,
            refused_in_a_row: self.refused_in_a_row,
            ..Self::default()
        };
    }

    pub fn counts(&self) -> SandboxCounts {
        self.counts.clone()
    }

    /// The newest bodies, in order of first arrival; `None` matches every id or client.
    pub fn bodies(&self, id: Option<&str>, client_id: Option<&str>) -> impl Iterator<Item = &[u8]> {
        let wanted = move |key: &SandboxKey| {
            id.is_none_or(|id| id == &*key.id) && client_id.is_none_or(|client_id| client_id == &*key.client_id)
        };
        self.leads.iter().filter(move |held| wanted(&held.key)).filter_map(|held| held.body.as_deref())
    }

    /// Every accepted post in order; `status` is null where no answer was given, and `fault` says why.
    pub fn posts(&self) -> Vec<PostEntry<'_>> {
        let entry = |(index, post): (usize, &SandboxPost)| {
            let key = &*self.leads[post.lead].key;
            let (status, fault) = match post.ending {
                PostEnding::Answered => (Some(200), None),
                PostEnding::Timeout => (None, Some("timeout")),
                PostEnding::Cut => (None, Some("cut")),
            };
            let at = post.at.to_rfc3339_opts(SecondsFormat::Micros, true);
            PostEntry { seq: index + 1, at, id: &key.id, client_id: &key.client_id, status, fault }
        };
        self.posts.iter().enumerate().map(entry).collect()
    }

    fn held(&mut self, place: HeldPlace) -> Option<&mut HeldLead> {
        if place.generation == self.generation { self.leads.get_mut(place.at) } else { None }
    }
}

/// One line of `GET /posts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostEntry<'a> {
    seq: usize,
    at: String,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_id: &'a str,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(store: &mut SandboxStore, client_id: &'static str, id: &'static str, body: &str) {
        assert_eq!(store.admit(true, 5), RequestAdmission::Admitted);
        let place = store.enter(&LeadIdentity { client_id: client_id.into(), id: id.into() });
        store.accept(place, body.as_bytes(), PostEnding::Answered, DateTime::UNIX_EPOCH);
        store.depart(Some(place));
    }

    #[test]
    fn a_lead_is_known_by_client_and_id_and_keeps_its_place() {
        let mut store = SandboxStore::default();
        for (client_id, id, body) in [("", "1", "a"), ("x", "1", "b"), ("", "1", "c"), ("", "1", "c")] {
            post(&mut store, client_id, id, body);
        }
        assert_eq!(store.bodies(None, None).collect::<Vec<_>>(), [b"c", b"b"]);
        assert_eq!(store.bodies(Some("1"), Some("x")).collect::<Vec<_>>(), [b"b"]);
        let counts = store.counts();
        assert_eq!((counts.leads, counts.accepted, counts.repeated), (2, 4, 1));
        assert_eq!((counts.max_in_flight, counts.max_in_flight_per_lead), (1, 1));
        assert_eq!(store.posts().len(), 4);
    }

    #[test]
    fn refusals_lock_only_when_they_come_in_a_row() {
        let mut store = SandboxStore::default();
        store.admit(false, 2);
        store.admit(true, 2);
        assert_eq!(store.admit(false, 2), RequestAdmission::Unauthorized);
        assert_eq!(store.admit(false, 2), RequestAdmission::Unauthorized);
        assert_eq!(store.admit(true, 2), RequestAdmission::Locked);
        store.unlock();
        assert_eq!(store.admit(true, 2), RequestAdmission::Admitted);
        for _ in 0..50 {
            assert_eq!(store.admit(false, 0), RequestAdmission::Unauthorized);
        }
    }

    #[test]
    fn forgetting_leaves_the_lock_and_outlives_requests_under_way() {
        let mut store = SandboxStore::default();
        store.admit(true, 5);
        let place = store.enter(&LeadIdentity { client_id: "".into(), id: "1".into() });
        store.admit(false, 1);
        store.forget();
        store.accept(place, b"late", PostEnding::Answered, DateTime::UNIX_EPOCH);
        store.depart(Some(place));
        assert_eq!(store.counts(), SandboxCounts { locked: true, ..SandboxCounts::default() });
    }
}
