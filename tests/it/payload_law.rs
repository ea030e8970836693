//! The state never forgets a sent content: after any order of changes, claims, answers, opt-outs, baselines, stops and
//! crashes, the content of every attempt is in the state, on both engines.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::engine::Engine;
use crate::support::hearing::update;
use crate::support::lead_row::{at, desired, finished, held, id, invalid, record, tester, unknown_is};
use conversica_sync::config::OnAmbiguous;
use conversica_sync::conversica::lead::ContentFingerprint;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{gone, lead, payload, stuck};

#[derive(Debug, Clone, Copy)]
enum Event {
    Row(u8),
    HeldRow(u8),
    Invalid,
    Vanish,
    Stop,
    OptOut,
    Claim,
    Answer(OutcomeClass, u8),
    /// The answer of a claim that has been recovered after a crash.
    Late(OutcomeClass),
    Crash(bool),
    Decide(ReleaseKind),
    Requeue,
}

fn event() -> impl Strategy<Value = Event> {
    let class = || prop::sample::select(OutcomeClass::ALL.to_vec());
    prop_oneof![
        6 => (0_u8..4).prop_map(Event::Row),
        1 => (0_u8..4).prop_map(Event::HeldRow),
        1 => Just(Event::Invalid),
        1 => Just(Event::Vanish),
        1 => Just(Event::Stop),
        1 => Just(Event::OptOut),
        6 => Just(Event::Claim),
        6 => (class(), 0_u8..3).prop_map(|(class, next)| Event::Answer(class, next)),
        2 => class().prop_map(Event::Late),
        2 => any::<bool>().prop_map(Event::Crash),
        1 => prop::sample::select(vec![ReleaseKind::Send, ReleaseKind::Baseline]).prop_map(Event::Decide),
        1 => Just(Event::Requeue),
    ]
}

fn content(k: u8) -> String {
    format!(r#"{{"id":"1","city":"{k}","optOut":false}}"#)
}

struct Play<'a> {
    db: &'a StateDb,
    seconds: i64,
    in_flight: Option<LeadClaim>,
    lost: Option<LeadClaim>,
    /// The bodies that the endpoint received.
    sent: Vec<String>,
}

impl Play<'_> {
    async fn step(&mut self, event: Event) {
        self.seconds += 5;
        let (db, now) = (self.db, at(self.seconds));
        match event {
            Event::Row(k) => lead::upsert(db, &[desired("1", &content(k))], now, now).await.unwrap(),
            Event::HeldRow(k) => lead::upsert(db, &[held("1", &content(k))], now, now).await.unwrap(),
            Event::Invalid => lead::upsert(db, &[invalid("1", "no address")], now, now).await.unwrap(),
            Event::Vanish => lead::mark_gone(db, &[id("1")], now).await.unwrap(),
            Event::Stop => drop(gone::stop(db, &[id("1")], now).await.unwrap()),
            Event::OptOut => drop(update(db, json!({"id": "1", "doNotEmail": true, "n": self.seconds}), now).await),
            Event::Claim => {
                let claims =
                    delivery::record_and_claim(db, &[], ClaimRequest::up_to(1), now, Duration::from_secs(60)).await;
                if let Some(claim) = claims.unwrap().pop() {
                    self.sent.push(claim.body.clone());
                    self.in_flight = Some(claim);
                }
            }
            Event::Answer(class, next) => {
                let Some(claim) = self.in_flight.take() else { return };
                self.answer(&claim, class, next).await;
            }
            Event::Late(class) => {
                let Some(claim) = self.lost.take() else { return };
                self.answer(&claim, class, 0).await;
            }
            Event::Crash(holds) => {
                self.lost = self.in_flight.take().or(self.lost.take());
                let unknown = if holds { OnAmbiguous::Hold } else { OnAmbiguous::Resend };
                orphan::recover(db, OrphanScope::All, &unknown_is(unknown), now).await.unwrap();
            }
            Event::Decide(release) => {
                let _ = held::release_all(db, &HeldSelection::default(), release, now).await.unwrap();
            }
            Event::Requeue => {
                stuck::requeue(
                    db,
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
        self.check().await;
    }

    async fn answer(&self, claim: &LeadClaim, class: OutcomeClass, next: u8) {
        let next = match (class, next) {
            (OutcomeClass::Accepted, _) => NextStep::Done,
            (OutcomeClass::Rejected, _) => NextStep::Rejected,
            (OutcomeClass::Halting, _) => NextStep::Untried,
            (OutcomeClass::Ambiguous, 0) if !claim.urgent => NextStep::Hold,
            (_, 1) => NextStep::Exhausted,
            (_, _) => NextStep::RetryAt(at(self.seconds + 1)),
        };
        record(self.db, &[finished(claim, class, next, self.seconds)]).await;
    }

    /// Checks that the content of every attempt is known, and is the one that was sent.
    async fn check(&self) {
        let hashes: Vec<Vec<u8>> = on_state!(self.db, pool => {
            sqlx::query_scalar("select sent_hash from outcome where sent_hash is not null order by seq")
                .fetch_all(pool).await.unwrap()
        });
        let contents = payload::contents(self.db, &id("1")).await.unwrap();
        for hash in hashes {
            let body = contents.get(&hash).unwrap_or_else(|| panic!("a content is lost; sent: {:?}", self.sent));
            assert!(self.sent.contains(body), "{body}");
            assert_eq!(ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec(), hash);
        }
        let twice: Vec<i64> = on_state!(self.db, pool => {
            sqlx::query_scalar("select count(*) from payload group by id, client_id, body having count(*) > 1")
                .fetch_all(pool).await.unwrap()
        });
        assert!(twice.is_empty(), "each content once");
    }
}

fn law(engine: Engine, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = engine.place();
    let db = runtime.block_on(async {
        match engine {
            Engine::Sqlite => StateDb::open_state_in_memory().await.unwrap(),
            Engine::Postgres => place.state().await,
        }
    });
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let play = |events: Vec<Event>| {
        runtime.block_on(async {
            for table in ["lead", "outcome", "payload", "event", "consent", "conversation", "decided"] {
                let sql = conversica_sync::db::trusted(format!("delete from {table}"));
                on_state!(&db, pool => drop(sqlx::query(sql).execute(pool).await.unwrap()));
            }
            let mut play = Play { db: &db, seconds: 10, in_flight: None, lost: None, sent: Vec::new() };
            for event in events {
                play.step(event).await;
            }
        });
    };
    // A late answer, while newer content is in flight and the row is gone.
    play(vec![
        Event::Row(0),
        Event::Claim,
        Event::Crash(false),
        Event::Claim,
        Event::Stop,
        Event::Late(OutcomeClass::Ambiguous),
        Event::Crash(false),
    ]);
    play(vec![
        Event::Row(0),
        Event::Claim,
        Event::Stop,
        Event::Crash(false),
        Event::Claim,
        Event::Late(OutcomeClass::Accepted),
        Event::Answer(OutcomeClass::Accepted, 0),
        Event::HeldRow(0),
        Event::Decide(ReleaseKind::Baseline),
    ]);
    let plays = runner.run(&prop::collection::vec(event(), 1..50), |events| {
        play(events);
        Ok(())
    });
    plays.unwrap();
}

#[test]
fn whatever_was_sent_stays_known_on_sqlite() {
    law(Engine::Sqlite, 200);
}

#[test]
fn whatever_was_sent_stays_known_on_postgres() {
    law(Engine::Postgres, 25);
}
