//! One lead whose row comes, goes and is lost with most others, in any order of claims, answers and crashes: in the end
//! Conversica has a stop for each contactable person without a row, and for no other person.

use std::time::Duration;

use proptest::prelude::*;

use crate::support::lead_row::{at, finished, id, record, tester, unknown_is};
use conversica_sync::config::{OnAmbiguous, OnDelete};
use conversica_sync::conversica::lead::RowHash;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::content_hold::ContentHoldPolicy;
use conversica_sync::rules::diff::{self, RowDifference};
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::KnownLead;
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{compare, gone, lead, stuck};

#[derive(Debug, Clone, Copy)]
enum Event {
    Row(u8),
    Vanish,
    /// The row is missing with most others, and the lead is held.
    Shrink,
    /// The operator decides that the missing leads are gone.
    LetGo,
    Claim,
    /// When the outcome is unknown, the second field says what the endpoint really did.
    Answer(OutcomeClass, bool),
    Crash(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(OutcomeClass::ALL.to_vec());
    prop_oneof![
        3 => (0..3_u8).prop_map(Event::Row),
        2 => Just(Event::Vanish),
        1 => Just(Event::Shrink),
        1 => Just(Event::LetGo),
        4 => Just(Event::Claim),
        4 => (class, any::<bool>()).prop_map(|(class, taken)| Event::Answer(class, taken)),
        1 => any::<bool>().prop_map(Event::Crash),
    ]
}

struct Play {
    db: StateDb,
    seconds: i64,
    row: Option<u8>,
    in_flight: Option<LeadClaim>,
    /// The content that the endpoint really holds.
    endpoint: Option<String>,
}

fn content(k: u8) -> String {
    format!(r#"{{"id":"1","city":"{k}"}}"#)
}

fn is_stop(body: &str) -> bool {
    body.ends_with(r#","stopMessaging":true}"#)
}

impl Play {
    async fn known(&self) -> Option<KnownLead> {
        lead::page(&self.db, None, 10).await.unwrap().pop()
    }

    async fn step(&mut self, event: Event) {
        self.seconds += 10;
        let now = at(self.seconds);
        match event {
            Event::Row(k) => {
                self.row = Some(k);
                let mapped = MappedRow {
                    lead: id("1"),
                    desired: Ok(content(k)),
                    withdrawn: Vec::new(),
                    row_hash: None,
                    grounds: Vec::new(),
                    odd: Vec::new(),
                    kept: Vec::new(),
                    notes: Vec::new(),
                };
                let (mapped, known) = (mapped.of_row(RowHash(i64::from(k))), self.known().await);
                // Does the same as the merge: skips an unchanged row, unless the source had lost it.
                if known.as_ref().is_some_and(|known| {
                    !known.gone
                        && known.hold_reason != Some(HoldReason::SourceShrank)
                        && known.row_hash == mapped.row_hash
                }) {
                    return;
                }
                match diff::compare(mapped, known.as_ref(), None, &ContentHoldPolicy::none()) {
                    RowDifference::None => {}
                    RowDifference::Reread(lead, hash) => compare::remember(&self.db, &[(lead, hash)]).await.unwrap(),
                    RowDifference::Returned => lead::mark_returned(&self.db, known.as_slice(), now).await.unwrap(),
                    RowDifference::Changed(change, _) => {
                        lead::upsert(&self.db, &[change], now, now).await.unwrap();
                        // The row is back, so the hold is over.
                        held::release_all(&self.db, &HeldSelection::default(), ReleaseKind::Send, now).await.unwrap();
                    }
                }
            }
            Event::Vanish => {
                self.row = None;
                if self.known().await.is_some_and(|known| !known.gone) {
                    gone::stop(&self.db, &[id("1")], now).await.unwrap();
                }
            }
            Event::Shrink => {
                self.row = None;
                gone::withhold(&self.db, &[id("1")], now, now).await.unwrap();
            }
            Event::LetGo => {
                gone::let_go(&self.db, None, now).await.unwrap();
                gone::settle(&self.db, OnDelete::StopMessaging, now).await.unwrap();
            }
            Event::Claim => {
                let wanted = ClaimRequest::up_to(5);
                let claims = delivery::record_and_claim(&self.db, &[], wanted, now, Duration::from_secs(60)).await;
                for claim in claims.unwrap() {
                    assert!(self.in_flight.is_none(), "one request a lead at any time");
                    let newest = self.row.map(content);
                    let right = newest.map_or(is_stop(&claim.body), |newest| newest == claim.body);
                    // The row has just gone, and no compare that may act on it has run.
                    let unseen = self.row.is_none() && self.known().await.is_some_and(|known| !known.gone);
                    assert!(right || unseen, "{:?}: {}", self.row, claim.body);
                    self.in_flight = Some(claim);
                }
            }
            Event::Answer(class, taken) => {
                let Some(claim) = self.in_flight.take() else { return };
                let next = match class {
                    OutcomeClass::Accepted => NextStep::Done,
                    OutcomeClass::Rejected => NextStep::Rejected,
                    OutcomeClass::Halting => NextStep::Untried,
                    OutcomeClass::Transient | OutcomeClass::Ambiguous => NextStep::RetryAt(at(self.seconds + 2)),
                };
                if class == OutcomeClass::Accepted || class == OutcomeClass::Ambiguous && taken {
                    self.endpoint = Some(claim.body.clone());
                }
                record(&self.db, &[finished(&claim, class, next, self.seconds)]).await;
            }
            Event::Crash(taken) => {
                if let Some(claim) = self.in_flight.take().filter(|_| taken) {
                    self.endpoint = Some(claim.body);
                }
                orphan::recover(&self.db, OrphanScope::All, &unknown_is(OnAmbiguous::Resend), now).await.unwrap();
            }
        }
    }

    /// The endpoint accepts everything that is due.
    async fn settle(&mut self) {
        self.step(Event::Crash(false)).await;
        let last = self.row.map_or(Event::Vanish, Event::Row);
        self.step(last).await;
        self.step(Event::LetGo).await;
        for _ in 0..3 {
            stuck::requeue(
                &self.db,
                RetryOrder {
                    statuses: &[LeadStatus::Rejected, LeadStatus::Exhausted],
                    ids: None,
                    reason: None,
                    who: &tester(),
                },
                at(self.seconds),
                |_| (),
            )
            .await
            .unwrap();
            self.step(Event::Claim).await;
            self.step(Event::Answer(OutcomeClass::Accepted, true)).await;
        }
        let Some(known) = self.known().await else { return };
        match self.row {
            Some(k) => {
                assert_eq!((known.status, self.endpoint.as_deref()), (LeadStatus::InSync, Some(content(k).as_str())));
            }
            None => {
                assert_eq!(known.status, LeadStatus::Gone);
                assert!(self.endpoint.as_deref().is_none_or(is_stop), "{:?} is still written to", self.endpoint);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_may_be_written_to_and_has_no_row_is_stopped_in_the_end_and_nobody_else(
        events in prop::collection::vec(event(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let db = StateDb::open_state_in_memory().await.unwrap();
            let mut play = Play { db, seconds: 0, row: None, in_flight: None, endpoint: None };
            for event in events {
                play.step(event).await;
            }
            play.settle().await;
        });
    }
}
