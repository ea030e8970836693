//! One lead, any order of row changes, claims, answers, crashes, holds and decisions, compared with a model that knows
//! what the endpoint really holds. The state may never believe more than is true, may never lose content that is due, and
//! may never delay a withdrawal of consent.

use std::time::Duration;

use proptest::prelude::*;

use crate::support::lead_row::{LeadRow, at, finished, id, record, row, tester, unknown_is};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::lead::{ContentFingerprint, RowHash};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::content_hold::ContentHoldPolicy;
use conversica_sync::rules::diff::{self, RowDifference};
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{compare, lead, stuck};

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The row now has this content; `None` makes it invalid. The poll sees it, and may hold it.
    Row {
        content: Option<u8>,
        holds: bool,
    },
    /// The row is gone. The poll sees that.
    Vanish,
    Claim,
    /// The request ends with this class. When the outcome is unknown, `taken` says what the endpoint really did.
    Answer {
        class: OutcomeClass,
        give_up: bool,
        taken: bool,
        unknown: OnAmbiguous,
    },
    Crash {
        taken: bool,
        unknown: OnAmbiguous,
    },
    /// The operator decides about held leads.
    Decide(ReleaseKind),
    /// The operator requeues rejected and exhausted leads.
    Requeue,
}

fn event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(OutcomeClass::ALL.to_vec());
    let unknown = || prop::sample::select(vec![OnAmbiguous::Resend, OnAmbiguous::Wait, OnAmbiguous::Hold]);
    prop_oneof![
        4 => (prop::option::weighted(0.85, 0_u8..3), prop::bool::weighted(0.25))
            .prop_map(|(content, holds)| Event::Row { content, holds }),
        1 => Just(Event::Vanish),
        5 => Just(Event::Claim),
        5 => (class, any::<bool>(), any::<bool>(), unknown())
            .prop_map(|(class, give_up, taken, unknown)| Event::Answer { class, give_up, taken, unknown }),
        1 => (any::<bool>(), unknown()).prop_map(|(taken, unknown)| Event::Crash { taken, unknown }),
        1 => prop::sample::select(vec![ReleaseKind::Send, ReleaseKind::Baseline]).prop_map(Event::Decide),
        1 => Just(Event::Requeue),
    ]
}

struct Play {
    db: StateDb,
    seconds: i64,
    /// The row's content: `None` while it is missing, `Some(None)` while it is invalid.
    source: Option<Option<u8>>,
    /// The row's newest valid content.
    last: Option<u8>,
    /// The endpoint may have taken content with consent: there is something to withdraw.
    consented: bool,
    in_flight: Option<LeadClaim>,
    /// The content that the endpoint really holds.
    endpoint: Option<String>,
    answers: usize,
}

/// Content 2 withdraws consent.
fn content_of(k: u8) -> String {
    if k == 2 { r#"{"optOut":true}"#.to_owned() } else { format!("content {k}") }
}

impl Play {
    async fn step(&mut self, event: Event) {
        self.seconds += 1;
        match event {
            Event::Row { content, holds } => {
                self.source = Some(content);
                self.last = content.or(self.last);
                self.poll(holds).await;
            }
            Event::Vanish => {
                self.source = None;
                self.poll(false).await;
            }
            Event::Claim => self.claim().await,
            Event::Answer { class, give_up, taken, unknown } => {
                let Some(claim) = self.in_flight.take() else { return };
                let next = match class {
                    OutcomeClass::Accepted => NextStep::Done,
                    OutcomeClass::Rejected => NextStep::Rejected,
                    OutcomeClass::Halting => NextStep::Untried,
                    OutcomeClass::Ambiguous if unknown == OnAmbiguous::Hold && !claim.urgent => NextStep::Hold,
                    OutcomeClass::Transient | OutcomeClass::Ambiguous if give_up => NextStep::Exhausted,
                    OutcomeClass::Transient | OutcomeClass::Ambiguous => NextStep::RetryAt(at(self.seconds + 2)),
                };
                if class == OutcomeClass::Accepted || (class == OutcomeClass::Ambiguous && taken) {
                    self.endpoint = Some(claim.body.clone());
                }
                self.consented |=
                    matches!(class, OutcomeClass::Accepted | OutcomeClass::Ambiguous) && claim.body != content_of(2);
                self.answers += 1;
                record(&self.db, &[finished(&claim, class, next, self.seconds)]).await;
            }
            Event::Crash { taken, unknown } => {
                if let Some(claim) = self.in_flight.take() {
                    self.consented |= claim.body != content_of(2);
                    self.answers += 1;
                    if taken {
                        self.endpoint = Some(claim.body);
                    }
                }
                orphan::recover(&self.db, OrphanScope::All, &unknown_is(unknown), at(self.seconds)).await.unwrap();
            }
            Event::Decide(release) => {
                if release == ReleaseKind::Baseline
                    && !lead::page(&self.db, None, 10).await.unwrap().is_empty()
                    && let held = row(&self.db, "1").await
                    && held.hold_reason.is_some()
                    && matches!(held.status.as_str(), "held" | "gone")
                    && held.desired.is_some()
                {
                    // The operator declares that Conversica holds this content.
                    self.endpoint = held.desired;
                }
                held::release_all(&self.db, &HeldSelection::default(), release, at(self.seconds)).await.unwrap();
            }
            Event::Requeue => {
                for status in [LeadStatus::Rejected, LeadStatus::Exhausted] {
                    stuck::requeue(
                        &self.db,
                        RetryOrder { statuses: &[status], ids: None, reason: None, who: &tester() },
                        at(self.seconds),
                        |_| (),
                    )
                    .await
                    .unwrap();
                }
            }
        }
    }

    /// Does the same as the real poll for one row.
    async fn poll(&self, holds: bool) {
        let known = lead::page(&self.db, None, 10).await.unwrap().pop();
        let now = at(self.seconds);
        let Some(content) = self.source else {
            if known.is_some_and(|known| !known.gone) {
                lead::mark_gone(&self.db, &[id("1")], now).await.unwrap();
            }
            return;
        };
        let desired = content.map(content_of).ok_or_else(|| vec!["no address".to_owned()]);
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
        let ContentFingerprint(bytes) = mapped.fingerprint();
        let row_hash = RowHash(i64::from(bytes[0]));
        let mapped = mapped.of_row(row_hash);
        // Does the same as the merge: skips an unchanged row.
        if known.as_ref().is_some_and(|known| !known.gone && known.row_hash == Some(row_hash)) {
            return;
        }
        let delivered = lead::delivered(&self.db, &[id("1")]).await.unwrap().pop_first().map(|(_, body)| body);
        match diff::compare(mapped, known.as_ref(), delivered.as_deref(), &ContentHoldPolicy::none()) {
            RowDifference::None => {}
            RowDifference::Reread(lead, hash) => compare::remember(&self.db, &[(lead, hash)]).await.unwrap(),
            RowDifference::Returned => lead::mark_returned(&self.db, known.as_slice(), now).await.unwrap(),
            RowDifference::Changed(mut change, kind) => {
                if holds && kind.sends() && !change.urgent {
                    change.hold_reason = Some(HoldReason::TooManyChanges);
                }
                lead::upsert(&self.db, &[change], now, now).await.unwrap();
            }
        }
    }

    async fn claim(&mut self) {
        let now = at(self.seconds);
        let mut claims =
            delivery::record_and_claim(&self.db, &[], ClaimRequest::up_to(5), now, Duration::from_secs(60))
                .await
                .unwrap();
        let Some(claim) = claims.pop() else { return };
        assert!(claims.is_empty(), "one lead has one claim");
        assert!(self.in_flight.is_none(), "one request a lead at any time");
        // A withdrawal of consent is sent even when its row has gone.
        let newest = if self.source.is_none() && claim.urgent { self.last.map(content_of) } else { self.newest() };
        assert_eq!(Some(claim.body.as_str()), newest.as_deref(), "what leaves is the newest content");
        assert_eq!(claim.sent_hash, ContentFingerprint::of(claim.body.as_bytes()).as_bytes());
        assert!(claim.attempt > 0);
        self.in_flight = Some(claim);
    }

    fn newest(&self) -> Option<String> {
        self.source.flatten().map(content_of)
    }

    async fn check(&self) {
        if lead::page(&self.db, None, 10).await.unwrap().is_empty() {
            return;
        }
        let row: LeadRow = row(&self.db, "1").await;
        assert_eq!(row.status == "in_flight", self.in_flight.is_some(), "{row:?}");
        assert!(row.attempts >= 0, "{row:?}");
        if row.status == "held" && self.consented && row.contacted && row.desired == Some(content_of(2)) {
            let withdrawn_before = row.delivered_hash.is_some() && row.delivered == Some(content_of(2));
            assert!(withdrawn_before, "a withdrawal of consent waits for nobody: {row:?}");
        }
        if row.status == "in_sync" {
            assert_eq!((&self.endpoint, &self.newest()), (&row.desired, &row.desired), "in sync is true: {row:?}");
        }
        if let Some(hash) = &row.delivered_hash {
            let endpoint = self.endpoint.as_deref().unwrap_or_default();
            let sent = self.in_flight.as_ref().map(|claim| ContentFingerprint::of(claim.body.as_bytes()));
            let held = ContentFingerprint::of(endpoint.as_bytes()).as_bytes() == hash.as_slice();
            assert!(held || sent.is_some(), "what is believed delivered is what the endpoint holds: {row:?}");
        }
    }

    /// The row stays as it is and the endpoint accepts everything: then nothing may be left to do.
    async fn settle(&mut self) {
        self.step(Event::Crash { taken: false, unknown: OnAmbiguous::Resend }).await;
        let last = self.source.flatten().unwrap_or(0);
        self.step(Event::Row { content: Some(last), holds: false }).await;
        self.step(Event::Requeue).await;
        self.step(Event::Decide(ReleaseKind::Send)).await;
        for _ in 0..3 {
            self.seconds += 4000;
            self.step(Event::Claim).await;
            let unknown = OnAmbiguous::Resend;
            self.step(Event::Answer { class: OutcomeClass::Accepted, give_up: false, taken: true, unknown }).await;
        }
        let row = row(&self.db, "1").await;
        assert_eq!(row.status, "in_sync", "{row:?}");
        assert_eq!((&row.delivered, &self.endpoint), (&row.desired, &row.desired));
        assert_eq!(row.desired, self.newest());
        let journal = conversica_sync::store::outcome::of_lead(&self.db, "1", "").await.unwrap();
        assert_eq!(journal.len(), self.answers, "every request has its line");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_the_endpoint_ends_with_the_newest_content(
        events in prop::collection::vec(event(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let db = StateDb::open_state_in_memory().await.unwrap();
            let mut play = Play { db, seconds: 0, source: None, last: None, consented: false, in_flight: None, endpoint: None, answers: 0 };
            for event in events {
                play.step(event).await;
                play.check().await;
            }
            play.settle().await;
        });
    }
}
