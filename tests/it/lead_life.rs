//! The statements of the state and the rules of a lead's life say the same: random events go through both, and after each of
//! them the stored record is the one that the rules give.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{at, finished, id, resend, tester};
use conversica_sync::config::OnDelete;
use conversica_sync::conversica::lead::{ContentFingerprint, RowHash};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::{CapSpan, ClaimFilter, NewPeopleCap};
use conversica_sync::rules::first_contact::FirstContactPolicy;
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_claim::{FinishedAttempt, LeadClaim};
use conversica_sync::rules::lead_event::{ClaimCounting, ClaimTerms, ContentRejection, LeadEvent};
use conversica_sync::rules::lead_life;
use conversica_sync::rules::lead_record::LeadRecord;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::rules::suppression_ground::SuppressionScope;
use conversica_sync::store::decision::DecisionMaker;
use conversica_sync::store::delivery::{self, ClaimRequest, OptOuts};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::lead_record::find_record;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{backup, due, facts, gone, lead, stuck};
use std::time::Duration;

on_both_engines!(
    the_rules_hold_on_this_engine,
    a_lead_first_seen_in_a_shrunken_source_can_be_approved_when_its_row_is_back,
    a_withdrawal_of_consent_is_not_held_after_a_late_answer,
);

const LEASE: Duration = Duration::from_secs(60);

/// Contents of the row: plain ones, and ones that withdraw consent.
const CONTENTS: [&str; 5] = [
    r#"{"id":"1","leadStatus":"A","optOut":false}"#,
    r#"{"id":"1","leadStatus":"B","optOut":false}"#,
    r#"{"id":"1","leadStatus":"A","optOut":true}"#,
    r#"{"id":"1","leadStatus":"B","optOut":true}"#,
    r#"{"id":"1","leadStatus":"B","optOut":false,"stopMessaging":true}"#,
];

#[derive(Debug, Clone)]
enum Step {
    Row {
        content: Option<u8>,
        hold: Option<HoldReason>,
    },
    Missing,
    MissingStop,
    MissingWithMost,
    Back,
    LossAccepted,
    StopDropped,
    Claim(ClaimCounting),
    Answer(OutcomeClass, u8),
    /// The instance ends during the request.
    Crash,
    /// The answer of a claim that ended with its instance.
    LateAnswer(OutcomeClass),
    Approve,
    Baseline,
    LiftHold,
    RenameHold,
    UseUpTestLeads,
    Retry,
    Resend,
    Restore,
    ConversicaBack,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop::sample::select(OutcomeClass::ALL.to_vec());
    let late = prop::sample::select(OutcomeClass::ALL.to_vec());
    let hold = prop::option::of(prop::sample::select(HoldReason::ALL.to_vec()));
    let counting = prop::sample::select(vec![ClaimCounting::NewPeople, ClaimCounting::TestLeads]);
    let content = prop::option::weighted(0.9, 0..5_u8);
    prop_oneof![
        6 => (content, hold).prop_map(|(content, hold)| Step::Row { content, hold }),
        1 => Just(Step::Missing),
        2 => Just(Step::MissingStop),
        1 => Just(Step::MissingWithMost),
        2 => Just(Step::Back),
        1 => Just(Step::LossAccepted),
        1 => Just(Step::StopDropped),
        6 => counting.prop_map(Step::Claim),
        6 => (class, 0..4_u8).prop_map(|(class, next)| Step::Answer(class, next)),
        1 => Just(Step::Crash),
        1 => late.prop_map(Step::LateAnswer),
        2 => Just(Step::Approve),
        1 => Just(Step::Baseline),
        1 => Just(Step::LiftHold),
        1 => Just(Step::RenameHold),
        1 => Just(Step::UseUpTestLeads),
        1 => Just(Step::Retry),
        1 => Just(Step::Resend),
        1 => Just(Step::Restore),
        1 => Just(Step::ConversicaBack),
    ]
}

/// Class and content of an attempt, with the answer.
type Entry = (OutcomeClass, Vec<u8>, Option<i64>, Option<String>);

struct Life {
    db: StateDb,
    seconds: i64,
    record: Option<LeadRecord>,
    in_flight: Option<LeadClaim>,
    lost: Option<LeadClaim>,
    /// Every attempt, in the order of the journal.
    journal: Vec<Entry>,
}

impl Life {
    fn new(db: StateDb) -> Self {
        Self { db, seconds: 0, record: None, in_flight: None, lost: None, journal: Vec::new() }
    }

    fn apply(&mut self, event: &LeadEvent) {
        let now = at(self.seconds);
        self.record = self.record.take().map(|record| lead_life::next(record, event, now));
    }

    /// The answer that rejected the desired content, unless an earlier request than the present one was accepted since.
    fn rejection(&self, sent: Option<&[u8]>) -> Option<ContentRejection> {
        let desired = self.record.as_ref()?.desired_hash.as_bytes().to_vec();
        let counts = |accepted: &[u8]| sent.is_none_or(|sent| sent == desired || accepted != sent);
        let place = self
            .journal
            .iter()
            .rposition(|(class, content, ..)| *class == OutcomeClass::Rejected && *content == desired)?;
        let accepted = self.journal[place..]
            .iter()
            .any(|(class, content, ..)| *class == OutcomeClass::Accepted && counts(content));
        let (_, _, http_status, detail) = self.journal[place].clone();
        (!accepted).then_some(ContentRejection { http_status, detail })
    }

    fn journal(&mut self, attempt: &FinishedAttempt) {
        if attempt.next != NextStep::Unsent {
            let http_status = attempt.http_status.map(i64::from);
            self.journal.push((attempt.class, attempt.sent_hash.clone(), http_status, attempt.detail.clone()));
        }
    }

    async fn step(&mut self, step: &Step) {
        self.seconds += 1;
        let now = at(self.seconds);
        match step {
            Step::Row { content, hold } => self.row(*content, *hold).await,
            Step::Missing => {
                lead::mark_gone(&self.db, &[id("1")], now).await.unwrap();
                self.apply(&LeadEvent::RowMissing);
            }
            Step::MissingStop => {
                gone::stop(&self.db, &[id("1")], now).await.unwrap();
                self.apply(&LeadEvent::RowMissingStop);
            }
            Step::MissingWithMost => {
                gone::withhold(&self.db, &[id("1")], now, now).await.unwrap();
                self.apply(&LeadEvent::RowMissingWithMost { missing_since: now });
            }
            Step::Back => {
                let known: Vec<_> = lead::known(&self.db, &[id("1")]).await.unwrap().into_values().collect();
                let Some(content) = known.first().map(|known| known.desired_hash) else { return };
                lead::mark_returned(&self.db, &known, now).await.unwrap();
                self.apply(&LeadEvent::RowBack { content });
            }
            Step::LossAccepted => {
                gone::let_go(&self.db, None, now).await.unwrap();
                self.apply(&LeadEvent::LossAccepted);
            }
            Step::StopDropped => {
                gone::settle(&self.db, OnDelete::Ignore, now).await.unwrap();
                self.apply(&LeadEvent::StopDropped);
            }
            Step::Claim(counting) => self.claim(*counting).await,
            Step::Answer(class, next) => self.answer(*class, *next).await,
            Step::Crash => self.crash().await,
            Step::LateAnswer(class) => self.answer_late(*class).await,
            Step::Approve => self.release(ReleaseKind::Send, &LeadEvent::Approved).await,
            Step::Baseline => self.release(ReleaseKind::Baseline, &LeadEvent::Baselined).await,
            Step::LiftHold => {
                held::send_staged(&self.db, now).await.unwrap();
                self.apply(&LeadEvent::HoldLifted);
            }
            Step::RenameHold => {
                let Some(reason) = self.record.as_ref().and_then(|record| record.hold_reason) else { return };
                held::rename(&self.db, reason, HoldReason::TooManyChanges, now).await.unwrap();
                self.apply(&LeadEvent::HoldRenamed(HoldReason::TooManyChanges));
            }
            Step::UseUpTestLeads => {
                due::hold_surplus_tests(&self.db, 0, now).await.unwrap();
                self.apply(&LeadEvent::TestLeadsUsedUp);
            }
            Step::Retry => {
                let stuck = [LeadStatus::Rejected, LeadStatus::Exhausted];
                stuck::requeue(
                    &self.db,
                    RetryOrder { statuses: &stuck, ids: None, reason: None, who: &tester() },
                    now,
                    |_| (),
                )
                .await
                .unwrap();
                self.apply(&LeadEvent::RetryAsked);
            }
            Step::Resend => {
                facts::send_again(&self.db, &[id("1")], now).await.unwrap();
                self.apply(&LeadEvent::ResendAsked);
            }
            Step::Restore => {
                backup::mark_restored(&self.db, &DecisionMaker::new("ann"), now).await.unwrap();
                self.apply(&LeadEvent::Restored);
            }
            Step::ConversicaBack => {
                due::hurry_withdrawals(&self.db, now).await.unwrap();
                self.apply(&LeadEvent::ConversicaBack);
            }
        }
    }

    async fn row(&mut self, content: Option<u8>, hold: Option<HoldReason>) {
        let now = at(self.seconds);
        let desired =
            content.map(|content| CONTENTS[usize::from(content)].to_owned()).ok_or_else(|| vec!["bad".to_owned()]);
        let fingerprinted = desired.as_ref().map_or("bad", String::as_str);
        let change = LeadChange {
            lead: id("1"),
            desired_hash: ContentFingerprint::of(fingerprinted.as_bytes()),
            hold_reason: hold.filter(|_| desired.is_ok()),
            urgent: false,
            suppressed: false,
            row_hash: Some(RowHash(self.seconds)),
            desired,
        };
        lead::upsert(&self.db, std::slice::from_ref(&change), now, now).await.unwrap();
        if self.record.is_none() {
            self.record = Some(LeadRecord::first_seen(&change, now, now));
        } else {
            self.apply(&LeadEvent::RowChanged { change, due_at: now });
        }
    }

    async fn claim(&mut self, counting: ClaimCounting) {
        let now = at(self.seconds);
        let caps = vec![NewPeopleCap { people: 1000, span: CapSpan::Sliding(Duration::from_secs(1)) }];
        let admit = match counting {
            ClaimCounting::Nothing => ClaimFilter::Withdrawals,
            ClaimCounting::NewPeople => ClaimFilter::Capped(caps),
            ClaimCounting::TestLeads => ClaimFilter::TestLeads(1000),
        };
        let request = ClaimRequest {
            leads: 1,
            admit: &admit,
            alone: false,
            opt_outs: OptOuts::Keep,
            people: SuppressionScope::Person,
            first_contacts: &FirstContactPolicy::NONE,
        };
        let claims = delivery::record_and_claim(&self.db, &[], request, now, LEASE).await.unwrap();
        let Some(claim) = claims.into_iter().next() else { return };
        let rejection = self.rejection(None);
        self.apply(&LeadEvent::Claimed(ClaimTerms { lease: LEASE, counting, opt_outs: None, rejection }));
        let record = self.record.as_ref().unwrap();
        let sent = record.sent_hash.map(|hash| hash.as_bytes().to_vec());
        assert_eq!(Some(&claim.sent_hash), sent.as_ref(), "{record:?}");
        assert_eq!(Some(claim.body.as_str()), record.content_in_flight());
        assert_eq!((claim.attempt, claim.urgent), (record.attempts, record.urgent));
        self.in_flight = Some(claim);
    }

    async fn answer(&mut self, class: OutcomeClass, next: u8) {
        let Some(claim) = self.in_flight.take() else { return };
        let later = NextStep::RetryAt(at(self.seconds + 2));
        let next = match (class, next) {
            (OutcomeClass::Accepted, _) => NextStep::Done,
            (OutcomeClass::Rejected, _) => NextStep::Rejected,
            (OutcomeClass::Transient, 0) => NextStep::Exhausted,
            (OutcomeClass::Transient, 1) => NextStep::Unsent,
            (OutcomeClass::Transient, _) => later,
            (OutcomeClass::Ambiguous, 0) => NextStep::Exhausted,
            (OutcomeClass::Ambiguous, 1) => NextStep::Hold,
            (OutcomeClass::Ambiguous, 2) => NextStep::Resend,
            (OutcomeClass::Ambiguous, _) => later,
            (OutcomeClass::Halting, _) => NextStep::Untried,
        };
        let attempt = finished(&claim, class, next, self.seconds);
        self.finish(attempt).await;
    }

    async fn finish(&mut self, attempt: FinishedAttempt) {
        let batch = std::slice::from_ref(&attempt);
        let nothing = ClaimRequest::up_to(0);
        delivery::record_and_claim(&self.db, batch, nothing, at(self.seconds), LEASE).await.unwrap();
        if self.record.as_ref().is_some_and(|record| record.has_claim(&attempt)) {
            self.journal(&attempt);
            let sent = self.record.as_ref().and_then(|record| record.sent_hash);
            let rejection = self.rejection(sent.as_ref().map(|hash| hash.as_bytes()));
            self.apply(&LeadEvent::Answered { attempt, rejection });
        } else {
            let class = if attempt.class == OutcomeClass::Accepted { OutcomeClass::Ambiguous } else { attempt.class };
            let said = find_detail(&self.db).await;
            self.journal.push((class, attempt.sent_hash.clone(), attempt.http_status.map(i64::from), said));
            self.apply(&LeadEvent::AnsweredLate { attempt });
        }
    }

    async fn crash(&mut self) {
        let now = at(self.seconds);
        let recovered = orphan::recover(&self.db, OrphanScope::All, &resend(), now).await.unwrap();
        assert_eq!(recovered == 1, self.in_flight.is_some());
        let Some(claim) = self.in_flight.take() else { return };
        let record = self.record.as_ref().unwrap();
        let overtaken = record.sent_hash == Some(LeadRecord::OTHER_CONTENT);
        let sent = record.content_in_flight().filter(|_| overtaken).map(|body| ContentFingerprint::of(body.as_bytes()));
        let sent_hash = sent.or(record.sent_hash).unwrap().as_bytes().to_vec();
        let attempt = FinishedAttempt {
            http_status: None,
            detail: Some("the program ended while this request was on its way".to_owned()),
            duration: None,
            sent_hash,
            ..finished(&claim, OutcomeClass::Ambiguous, NextStep::Resend, self.seconds)
        };
        self.journal(&attempt);
        self.apply(&LeadEvent::Answered { attempt, rejection: None });
        self.lost = Some(claim);
    }

    async fn answer_late(&mut self, class: OutcomeClass) {
        let Some(claim) = self.lost.take() else { return };
        let next = if class == OutcomeClass::Accepted { NextStep::Done } else { NextStep::Untried };
        self.finish(finished(&claim, class, next, self.seconds)).await;
    }

    async fn release(&mut self, release: ReleaseKind, event: &LeadEvent) {
        held::release_all(&self.db, &HeldSelection::default(), release, at(self.seconds)).await.unwrap();
        self.apply(event);
    }
}

async fn find_detail(db: &StateDb) -> Option<String> {
    use conversica_sync::store::statement::StateStatement;
    let newest = StateStatement::new("select detail from outcome order by seq desc limit 1");
    db.fetch_one::<(Option<String>,)>(newest).await.unwrap().0
}

async fn live(db: StateDb, steps: &[Step]) -> Option<LeadRecord> {
    let mut life = Life::new(db);
    for (place, step) in steps.iter().enumerate() {
        let before = life.record.clone();
        life.step(step).await;
        let stored = find_record(&life.db, &id("1")).await.unwrap();
        assert_eq!(stored, life.record, "step {place}: {step:?} on {before:?}");
    }
    life.record
}

/// The same random lives on every run, one after the other in the same tables.
async fn the_rules_hold_on_this_engine(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let steps = prop::collection::vec(step(), 1..40).new_tree(&mut runner).unwrap().current();
        live(db.clone(), &steps).await;
        for table in ["decided", "decision", "outcome", "payload", "lead"] {
            db.execute(format!("delete from {table}")).await.unwrap();
        }
    }
}

async fn a_lead_first_seen_in_a_shrunken_source_can_be_approved_when_its_row_is_back(engine: Engine) {
    let place = engine.place();
    let steps = [
        Step::Row { content: Some(0), hold: Some(HoldReason::SourceShrank) },
        Step::MissingWithMost,
        Step::Back,
        Step::Approve,
    ];
    let record = live(place.state().await, &steps).await.unwrap();
    assert_eq!((record.status, record.hold_reason), (LeadStatus::Pending, None));
}

/// Conversica has an opt-out and a change waits for approval. Then an older request without the opt-out is answered late: it may
/// have arrived last.
async fn a_withdrawal_of_consent_is_not_held_after_a_late_answer(engine: Engine) {
    let place = engine.place();
    let steps = [
        Step::Row { content: Some(0), hold: None },
        Step::Claim(ClaimCounting::NewPeople),
        Step::Crash,
        Step::Row { content: Some(2), hold: None },
        Step::Claim(ClaimCounting::NewPeople),
        Step::Answer(OutcomeClass::Accepted, 0),
        Step::Row { content: Some(3), hold: Some(HoldReason::TooManyChanges) },
        Step::LateAnswer(OutcomeClass::Accepted),
    ];
    let db = place.state().await;
    assert_eq!(live(db.clone(), &steps[..7]).await.unwrap().status, LeadStatus::Held);
    db.execute("delete from lead").await.unwrap();
    db.execute("delete from outcome").await.unwrap();
    let record = live(db, &steps).await.unwrap();
    assert_eq!((record.status, record.urgent, record.hold_reason), (LeadStatus::Pending, true, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_does_with_every_event_what_the_rules_say(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { live(StateDb::open_state_in_memory().await.unwrap(), &steps).await; });
    }
}
