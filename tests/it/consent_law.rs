//! Opt-outs that arrive at any moment, against polls that read the row earlier, holds, approvals, claims, answers and
//! crashes. Every payload claimed after the opt-out was applied carries it. In the end Conversica holds the person's
//! choice, or the CRM's value where no opt-out overrides it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::hearing::{apply_all, store};
use crate::support::lead_row::{at, finished, id, record, row, tester, unknown_is};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::consent::{HeardWord, WithdrawnConsent, WordSource, words};
use conversica_sync::conversica::lead::RowHash;
use conversica_sync::conversica::outcome::OutcomeClass;
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
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{consent as ledger, lead, stuck};

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The CRM's row changes to this content.
    Row(u8),
    /// The row's consent stamp is now.
    Give,
    /// A poll reads the row.
    Look,
    /// The poll writes what it has read.
    Write {
        holds: bool,
    },
    /// Conversica posts this update.
    Hear(u8),
    /// The stored posts are applied.
    Apply,
    Claim,
    Answer {
        class: OutcomeClass,
        unknown: OnAmbiguous,
    },
    Crash(OnAmbiguous),
    Vanish,
    Decide(ReleaseKind),
    Requeue,
}

fn event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(OutcomeClass::ALL.to_vec());
    let unknown = || prop::sample::select(vec![OnAmbiguous::Resend, OnAmbiguous::Wait, OnAmbiguous::Hold]);
    prop_oneof![
        3 => (0_u8..5).prop_map(Event::Row),
        1 => Just(Event::Give),
        4 => Just(Event::Look),
        4 => prop::bool::weighted(0.25).prop_map(|holds| Event::Write { holds }),
        3 => (0_u8..6).prop_map(Event::Hear),
        3 => Just(Event::Apply),
        5 => Just(Event::Claim),
        4 => (class, unknown()).prop_map(|(class, unknown)| Event::Answer { class, unknown }),
        1 => unknown().prop_map(Event::Crash),
        1 => Just(Event::Vanish),
        1 => prop::sample::select(vec![ReleaseKind::Send, ReleaseKind::Baseline]).prop_map(Event::Decide),
        1 => Just(Event::Requeue),
    ]
}

/// Bodies with and without an opt-out.
fn body(k: u8) -> String {
    match k {
        0 => r#"{"id":"1","optOut":false,"smsOptOut":false,"smsOptIn":true}"#,
        1 => r#"{"id":"1","city":"Ulm","optOut":false}"#,
        2 => r#"{"id":"1","optOut":true,"smsOptIn":true}"#,
        3 => r#"{"id":"1","city":"Bonn","smsOptOut":false}"#,
        _ => r#"{"id":"1","city":"Rome"}"#,
    }
    .to_owned()
}

fn post(k: u8, second: i64) -> Value {
    let date = at(second - i64::from(k % 3)).to_rfc3339();
    match k {
        0 => json!({"id": "1", "doNotEmail": true, "lastMessageDate": date}),
        1 => json!({"id": "1", "smsOptOut": true, "mood": second}),
        2 => json!({"id": "1", "smsOptIn": false, "lastMessageDate": date}),
        3 => json!({"id": "1", "doNotEmail": false, "lastMessageDate": date}),
        4 => json!({"id": "1", "smsOptIn": true, "mood": second}),
        _ => json!({"id": "1", "conversationStatus": "Unsubscribed", "conversationStatusDate": date}),
    }
}

struct Play {
    db: StateDb,
    seconds: i64,
    row: Option<u8>,
    /// Counts the changes of the row, so that two versions differ.
    version: i64,
    given_at: Option<i64>,
    /// Posts that are not applied yet, and posts that are.
    posted: Vec<HeardWord>,
    said: Vec<HeardWord>,
    looked: Option<(MappedRow, Option<KnownLead>, Option<String>, i64)>,
    in_flight: Option<LeadClaim>,
    endpoint: Option<String>,
}

impl Play {
    async fn step(&mut self, event: Event) {
        self.seconds += 1;
        let now = at(self.seconds);
        match event {
            Event::Row(k) => {
                self.row = Some(k);
                self.version += 1;
            }
            Event::Give => {
                self.given_at = Some(self.seconds);
                self.version += 1;
            }
            Event::Look => self.look().await,
            Event::Write { holds } => self.write(holds).await,
            Event::Hear(k) => {
                let body = post(k, self.seconds);
                let words = words(body.as_object().unwrap(), now).into_iter();
                self.posted.extend(words.map(|word| HeardWord { word, heard_at: now, source: WordSource::Conversica }));
                store(&self.db, conversica_sync::conversica::post::PostKind::LeadUpdate, &body, now).await;
            }
            Event::Apply => {
                apply_all(&self.db, now).await;
                self.said.append(&mut self.posted);
            }
            Event::Claim => self.claim().await,
            Event::Answer { class, unknown } => {
                let Some(claim) = self.in_flight.take() else { return };
                let next = match class {
                    OutcomeClass::Accepted => NextStep::Done,
                    OutcomeClass::Rejected => NextStep::Rejected,
                    OutcomeClass::Halting => NextStep::Untried,
                    OutcomeClass::Ambiguous if unknown == OnAmbiguous::Hold && !claim.urgent => NextStep::Hold,
                    OutcomeClass::Transient | OutcomeClass::Ambiguous => NextStep::RetryAt(at(self.seconds + 2)),
                };
                if matches!(class, OutcomeClass::Accepted | OutcomeClass::Ambiguous) {
                    self.endpoint = Some(claim.body.clone());
                }
                record(&self.db, &[finished(&claim, class, next, self.seconds)]).await;
            }
            Event::Crash(unknown) => {
                self.in_flight = None;
                orphan::recover(&self.db, OrphanScope::All, &unknown_is(unknown), now).await.unwrap();
            }
            Event::Vanish => {
                if self.known().await.is_some_and(|known| !known.gone) {
                    lead::mark_gone(&self.db, &[id("1")], now).await.unwrap();
                }
                self.looked = None;
            }
            Event::Decide(release) => {
                held::release_all(&self.db, &HeldSelection::default(), release, now).await.unwrap();
            }
            Event::Requeue => {
                stuck::requeue(
                    &self.db,
                    RetryOrder {
                        statuses: &[LeadStatus::Rejected, LeadStatus::Exhausted],
                        ids: None,
                        reason: None,
                        who: &tester(),
                    },
                    now,
                    |_| (),
                )
                .await
                .unwrap();
            }
        }
    }

    async fn known(&self) -> Option<KnownLead> {
        lead::page(&self.db, None, 10).await.unwrap().pop()
    }

    async fn look(&mut self) {
        let Some(k) = self.row else { return };
        let words = ledger::newest(&self.db).await.unwrap();
        let hash = RowHash(self.version);
        let known = self.known().await;
        if known.as_ref().is_some_and(|known| !known.gone && known.row_hash == Some(hash)) {
            return;
        }
        let mapped = MappedRow {
            lead: id("1"),
            desired: Ok(body(k)),
            withdrawn: Vec::new(),
            row_hash: None,
            grounds: Vec::new(),
            odd: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        };
        let now = at(self.seconds);
        let rows = vec![(mapped.of_row(hash), self.given_at.map(at))];
        let mapped =
            consent::keep(&self.db, rows, LedgerUse::Write, SuppressionScope::List, now).await.unwrap().remove(0);
        self.said =
            ledger::of_lead(&self.db, &id("1")).await.unwrap().iter().map(ledger::LedgerEntry::heard_word).collect();
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
                ledger::upsert(&self.db, &[LeadChange { hold_reason, ..change }], words, now, now).await.unwrap();
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
        let standing = WithdrawnConsent::of(&self.said);
        assert_eq!(standing.overrides(&claim.body), [], "{} contradicts {standing:?}", claim.body);
        let fingerprint = conversica_sync::conversica::lead::ContentFingerprint::of(claim.body.as_bytes());
        assert_eq!(claim.sent_hash, fingerprint.as_bytes());
        let stored = row(&self.db, "1").await;
        if stored.desired.as_ref() != Some(&claim.body) {
            // Conversica rejected the desired content, so the withdrawal is sent with the content accepted last.
            assert!(claim.urgent && claim.body.contains(":true"), "{claim:?} {stored:?}");
        } else {
            assert_eq!(stored.desired_hash, claim.sent_hash);
        }
        self.in_flight = Some(claim);
    }

    /// Polls, applies and accepts everything; then nothing may be left to send.
    async fn settle(&mut self) {
        self.step(Event::Apply).await;
        self.step(Event::Crash(OnAmbiguous::Resend)).await;
        if self.row.is_none() {
            return;
        }
        self.looked = None;
        for _ in 0..3 {
            for event in [Event::Look, Event::Write { holds: false }, Event::Requeue, Event::Decide(ReleaseKind::Send)]
            {
                self.step(event).await;
            }
            self.seconds += 4000;
            self.step(Event::Claim).await;
            self.step(Event::Answer { class: OutcomeClass::Accepted, unknown: OnAmbiguous::Resend }).await;
        }
        let standing = WithdrawnConsent::of(&self.said);
        let wanted = body(self.row.unwrap_or(0));
        let wanted = standing.keep(&wanted).unwrap_or(wanted);
        let stored = row(&self.db, "1").await;
        assert_eq!((stored.status.as_str(), stored.desired.as_ref()), ("in_sync", Some(&wanted)), "{stored:?}");
        assert_eq!(stored.delivered.as_ref(), Some(&wanted));
        // Polling the same row again finds nothing to do.
        for event in [Event::Look, Event::Write { holds: false }, Event::Claim] {
            self.step(event).await;
        }
        assert!(self.in_flight.is_none(), "nothing is sent twice for an opt-out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_payload_says_otherwise_once_an_opt_out_is_taken_in(events in prop::collection::vec(event(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let db = StateDb::open_state_in_memory().await.unwrap();
            let mut play = Play {
                db, seconds: 10, row: None, version: 0, given_at: None, posted: Vec::new(), said: Vec::new(), looked: None,
                in_flight: None, endpoint: None,
            };
            for event in events {
                play.step(event).await;
            }
            play.settle().await;
        });
    }
}
