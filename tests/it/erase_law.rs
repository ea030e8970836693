//! A person is erased at any moment, among polls that read the row earlier, holds, approvals, claims, answers, posts and
//! crashes. After the tombstone only stop requests are sent. After the erasure nothing is held, until the operator allows
//! the person again.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use crate::erase::{erased, somebody};
use crate::support::everything::dump;
use crate::support::hearing::apply_all;
use crate::support::lead_row::{at, finished, id, record, unknown_is};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::lead::RowHash;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::rules::content_hold::ContentHoldPolicy;
use conversica_sync::rules::diff::{self, RowDifference};
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::{KnownLead, LeadChange};
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::rules::suppression_ground::SuppressionScope;
use conversica_sync::send::consent::{self, LedgerUse};
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::erase::{self, ErasureOutcome, ErasureReach, ToldFact};
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::record::PERSONAL;
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{consent as ledger, lead, stuck, tombstone};

#[derive(Debug, Clone, Copy)]
enum Event {
    Row(u8),
    /// A poll reads the row.
    Look,
    /// The poll writes what it has read.
    Write(bool),
    Vanish,
    Hear(bool),
    Apply,
    Claim,
    Answer(OutcomeClass, bool),
    /// The claim counts as lost while its answer is still to come.
    Crash(bool),
    Late(OutcomeClass),
    Decide(ReleaseKind),
    Requeue,
    Erase(bool),
    StopFirst,
    Allow,
}

fn event() -> impl Strategy<Value = Event> {
    let class = || prop::sample::select(OutcomeClass::ALL.to_vec());
    prop_oneof![
        3 => (0_u8..4).prop_map(Event::Row),
        5 => Just(Event::Look),
        5 => prop::bool::weighted(0.2).prop_map(Event::Write),
        1 => Just(Event::Vanish),
        2 => any::<bool>().prop_map(Event::Hear),
        2 => Just(Event::Apply),
        6 => Just(Event::Claim),
        5 => (class(), any::<bool>()).prop_map(|(class, holds)| Event::Answer(class, holds)),
        1 => any::<bool>().prop_map(Event::Crash),
        1 => class().prop_map(Event::Late),
        1 => prop::sample::select(vec![ReleaseKind::Send, ReleaseKind::Baseline]).prop_map(Event::Decide),
        1 => Just(Event::Requeue),
        2 => any::<bool>().prop_map(Event::Erase),
        2 => Just(Event::StopFirst),
        1 => prop::bool::weighted(0.3).prop_map(|yes| if yes { Event::Allow } else { Event::Look }),
    ]
}

fn body(k: u8) -> String {
    format!(r#"{{"id":"1","city":"{k}","optOut":{}}}"#, k == 3)
}

struct Play {
    db: StateDb,
    seconds: i64,
    row: u8,
    version: i64,
    looked: Option<(MappedRow, Option<KnownLead>, Option<String>, i64)>,
    in_flight: Option<LeadClaim>,
    lost: Option<LeadClaim>,
    /// The state has a tombstone, and no hold.
    buried: bool,
    erased: bool,
    /// The last content that Conversica may have accepted.
    endpoint: Option<String>,
}

impl Play {
    async fn step(&mut self, event: Event) {
        self.seconds += 1;
        let now = at(self.seconds);
        match event {
            Event::Row(k) => {
                self.row = k;
                self.version += 1;
            }
            Event::Look => self.look().await,
            Event::Write(holds) => self.write(holds).await,
            Event::Vanish => lead::mark_gone(&self.db, &[id("1")], now).await.unwrap(),
            Event::Hear(opts_out) => {
                let post = json!({"id": "1", "n": self.seconds, "doNotEmail": opts_out, "hotLead": true});
                let post = PostArrival::of(PostKind::LeadUpdate, post.to_string().into_bytes(), false);
                event::store(&self.db, &[post], now).await.unwrap();
            }
            Event::Apply => drop(apply_all(&self.db, now).await),
            Event::Claim => self.claim().await,
            Event::Answer(class, holds) => {
                let Some(claim) = self.in_flight.take() else { return };
                self.answer(&claim, class, holds).await;
            }
            Event::Crash(holds) => {
                self.lost = self.in_flight.take().or(self.lost.take());
                let unknown = if holds { OnAmbiguous::Hold } else { OnAmbiguous::Resend };
                orphan::recover(&self.db, OrphanScope::All, &unknown_is(unknown), now).await.unwrap();
            }
            Event::Late(class) => {
                let Some(claim) = self.lost.take() else { return };
                self.answer(&claim, class, false).await;
            }
            Event::Decide(release) => {
                let _ = held::release_all(&self.db, &HeldSelection::default(), release, now).await.unwrap();
            }
            Event::Requeue => {
                stuck::requeue(
                    &self.db,
                    RetryOrder {
                        statuses: &[LeadStatus::Rejected, LeadStatus::Exhausted],
                        ids: None,
                        reason: None,
                        who: &somebody(),
                    },
                    now,
                    |_| (),
                )
                .await
                .unwrap();
            }
            Event::Erase(by_hand) => self.erase(by_hand).await,
            Event::StopFirst => {
                let reach = erase::reach_of(&self.db, &id("1")).await.unwrap();
                if matches!(reach, ErasureReach::MayWrite | ErasureReach::Stopping) {
                    self.buried |= erase::stop_first(&self.db, &id("1"), now).await.unwrap();
                }
            }
            Event::Allow => {
                let allowed = erase::allow(&self.db, &id("1"), &somebody(), now).await.unwrap();
                assert_eq!(allowed, self.buried);
                (self.buried, self.erased) = (false, false);
            }
        }
        self.check().await;
    }

    async fn known(&self) -> Option<KnownLead> {
        lead::page(&self.db, None, 10).await.unwrap().pop()
    }

    /// Does the same as the merge: skips a person who is known to be erased.
    async fn look(&mut self) {
        let words = ledger::newest(&self.db).await.unwrap();
        let known = self.known().await;
        if let Some(key) = tombstone::key(&self.db).await.unwrap()
            && tombstone::among(&self.db, &key, [id("1")].iter()).await.unwrap().has(&id("1"))
        {
            assert!(self.buried);
            return;
        }
        let hash = RowHash(self.version);
        if known.as_ref().is_some_and(|known| !known.gone && known.row_hash == Some(hash)) {
            return;
        }
        let desired = Ok(body(self.row));
        let mapped = MappedRow {
            lead: id("1"),
            desired,
            withdrawn: Vec::new(),
            row_hash: None,
            grounds: Vec::new(),
            odd: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        };
        let rows = vec![(mapped.of_row(hash), Some(at(self.seconds)).filter(|_| self.row == 2))];
        let mapped = consent::keep(&self.db, rows, LedgerUse::Write, SuppressionScope::List, at(self.seconds))
            .await
            .unwrap()
            .remove(0);
        let delivered = lead::delivered(&self.db, &[id("1")]).await.unwrap().pop_first().map(|(_, body)| body);
        self.looked = Some((mapped, known, delivered, words));
    }

    async fn write(&mut self, holds: bool) {
        let Some((mapped, known, delivered, words)) = self.looked.take() else { return };
        let now = at(self.seconds);
        match diff::compare(mapped, known.as_ref(), delivered.as_deref(), &ContentHoldPolicy::none()) {
            RowDifference::None => {}
            RowDifference::Reread(lead, hash) => ledger::remember(&self.db, &[(lead, hash)], words).await.unwrap(),
            RowDifference::Returned => lead::mark_returned(&self.db, known.as_slice(), now).await.unwrap(),
            RowDifference::Changed(change, kind) => {
                let hold_reason = (holds && kind.sends() && !change.urgent).then_some(HoldReason::TooManyChanges);
                let change = LeadChange { hold_reason, ..change };
                if self.seconds % 2 == 0 {
                    ledger::upsert(&self.db, &[change], words, now, now).await.unwrap();
                } else {
                    lead::upsert(&self.db, &[change], now, now).await.unwrap();
                }
            }
        }
    }

    async fn claim(&mut self) {
        let claims = delivery::record_and_claim(
            &self.db,
            &[],
            ClaimRequest::up_to(5),
            at(self.seconds),
            Duration::from_secs(60),
        );
        let Some(claim) = claims.await.unwrap().pop() else { return };
        assert!(!self.erased, "somebody who was erased is written to: {}", claim.body);
        assert!(
            !self.buried || claim.body.contains("\"stopMessaging\":true"),
            "more than the word to stop: {}",
            claim.body
        );
        self.in_flight = Some(claim);
    }

    async fn answer(&mut self, claim: &LeadClaim, class: OutcomeClass, holds: bool) {
        let next = match class {
            OutcomeClass::Accepted => NextStep::Done,
            OutcomeClass::Rejected => NextStep::Rejected,
            OutcomeClass::Halting => NextStep::Untried,
            OutcomeClass::Ambiguous if holds && !claim.urgent => NextStep::Hold,
            OutcomeClass::Transient | OutcomeClass::Ambiguous => NextStep::RetryAt(at(self.seconds + 2)),
        };
        if matches!(class, OutcomeClass::Accepted | OutcomeClass::Ambiguous) {
            self.endpoint = Some(claim.body.clone());
        }
        record(&self.db, &[finished(claim, class, next, self.seconds)]).await;
    }

    async fn erase(&mut self, by_hand: bool) {
        let done = if by_hand {
            erased(&self.db, &id("1"), self.seconds).await
        } else {
            erase::erase(&self.db, &id("1"), ToldFact::AsFarAsIsKnown, &somebody(), at(self.seconds)).await.unwrap()
        };
        match done {
            ErasureOutcome::Done(_) => {
                let stopped =
                    |body: &String| body.contains("\"stopMessaging\":true") || body.contains("\"optOut\":true");
                // A late answer may reveal that Conversica accepted more than the state knew.
                let is_sure = !by_hand && !self.erased && self.lost.is_none();
                assert!(
                    !is_sure || self.endpoint.as_ref().is_none_or(stopped),
                    "Conversica would go on: {:?}",
                    self.endpoint
                );
                assert!(self.in_flight.is_none(), "a request is on its way");
                (self.buried, self.erased, self.endpoint) = (true, true, None);
            }
            ErasureOutcome::Refused(ErasureReach::InFlight) => assert!(self.in_flight.is_some()),
            ErasureOutcome::Refused(_) => assert!(!by_hand),
            ErasureOutcome::Busy => panic!("there is nobody else"),
        }
    }

    async fn check(&self) {
        assert_eq!(tombstone::since(&self.db, &id("1")).await.unwrap().is_some(), self.buried);
        if self.erased {
            let tables: Vec<String> = PERSONAL.iter().map(|(table, ..)| (*table).to_owned()).collect();
            assert_eq!(dump(&self.db, &tables).await, "", "nothing is held");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_erased_is_neither_held_nor_written_to_again(events in prop::collection::vec(event(), 1..70)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let db = StateDb::open_state_in_memory().await.unwrap();
            let mut play = Play {
                db, seconds: 10, row: 0, version: 0, looked: None, in_flight: None, lost: None, buried: false, erased: false,
                endpoint: None,
            };
            for event in events {
                play.step(event).await;
            }
        });
    }
}
