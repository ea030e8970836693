//! A clock was a year ahead for a while: once it is right, the facts written meanwhile delay nothing, and hide no
//! opt-out.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines, on_both_engines};
use crate::support::hearing::{apply_all, store, update};
use crate::support::lead_row::{at, claim_one, desired, held as held_change, id, row, tester, write};
use crate::support::reading::{open, settings};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use conversica_sync::conversica::consent::{HeardWord, WithdrawnConsent};
use conversica_sync::conversica::consent_word::{ChannelWord, ConsentChannel};
use conversica_sync::conversica::post::PostKind;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::fence::NewestPoller;
use conversica_sync::send::poll::poll;
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::store::consent::{self as ledger, LedgerEntry};
use conversica_sync::store::control::{self, CompareAsked, ControlFacts, ResumedAt, UnaskedLosses, UnaskedSends};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind, ReleaseOrder};
use conversica_sync::store::instance::InstanceId;
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{ahead, alert, pause, writeback};

const YEAR: i64 = 365 * 24 * 3600;

mod of_the_state {
    use super::*;

    on_both_engines!(
        consent_that_was_heard_by_a_clock_that_was_ahead_ends_no_later_opt_out,
        the_state_finds_the_same_withdrawals_as_the_rule,
        an_alert_whose_next_try_lies_in_another_year_is_handed_over_now,
        what_is_to_be_written_to_the_crm_in_another_year_is_written_now,
        facts_that_lie_ahead_count_as_of_now,
        an_approval_covers_no_content_that_comes_after_the_clock_is_right,
        a_comparison_that_was_asked_for_in_another_year_takes_place_once,
        the_poll_says_when_it_succeeded_by_the_right_clock,
    );

    async fn email_is_withdrawn(db: &StateDb) -> bool {
        ledger::stands(db, &[id("1")]).await.unwrap().get(&id("1")).is_some_and(|standing| standing.email.is_some())
    }

    pub(super) async fn consent_that_was_heard_by_a_clock_that_was_ahead_ends_no_later_opt_out(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", r#"{"id":"1","optOut":false}"#)], 0).await;
        // One post without a date, and one with a date further ahead than that clock.
        update(&db, json!({"id": "1", "doNotEmail": false}), at(YEAR)).await;
        let dated = json!({"id": "1", "doNotEmail": false, "lastMessageDate": at(2 * YEAR).to_rfc3339()});
        update(&db, dated, at(YEAR + 1)).await;
        assert!(!email_is_withdrawn(&db).await);
        // The clock is right again. The opt-out's date is some minutes before its arrival.
        let opt_out = json!({"id": "1", "doNotEmail": true, "lastMessageDate": at(-300).to_rfc3339()});
        update(&db, opt_out, at(0)).await;
        assert!(email_is_withdrawn(&db).await);
        let claim = claim_one(&db, 1).await;
        assert!(claim.body.contains(r#""optOut":true"#), "{}", claim.body);
        let shown = ledger::of_lead(&db, &id("1")).await.unwrap();
        assert_eq!(shown.iter().map(|entry| entry.word.given).collect::<Vec<_>>(), [true, true, false]);
        // The write-back to the CRM contains the opt-out too.
        let effects = crate::support::hearing::ask(&db, "select effect from event order by seq desc limit 1").await;
        assert!(effects[0].contains(r#""doNotEmail":true"#), "{effects:?}");
        update(&db, json!({"id": "1", "doNotEmail": false, "mood": "glad"}), at(60)).await;
        assert!(!email_is_withdrawn(&db).await, "consent that is given after that counts");
    }

    pub(super) async fn the_state_finds_the_same_withdrawals_as_the_rule(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        let mut runner = TestRunner::deterministic();
        let strategy = prop::collection::vec((any::<bool>(), any::<bool>(), 0_i64..5, 0_i64..5), 1..7);
        for case in 0..200 {
            let lead = id(&case.to_string());
            let words = strategy.new_tree(&mut runner).unwrap().current();
            let entries: Vec<LedgerEntry> = words
                .into_iter()
                .map(|(sms, given, dated, heard)| LedgerEntry {
                    lead: lead.clone(),
                    word: ChannelWord {
                        channel: if sms { ConsentChannel::Sms } else { ConsentChannel::Email },
                        given,
                        at: at(dated),
                    },
                    heard_at: at(heard),
                    event_seq: None,
                })
                .collect();
            ledger::record(&db, &entries).await.unwrap();
            let heard: Vec<HeardWord> = entries.iter().map(LedgerEntry::heard_word).collect();
            let found = ledger::stands(&db, std::slice::from_ref(&lead)).await.unwrap();
            assert_eq!(found.get(&lead).copied().unwrap_or_default(), WithdrawnConsent::of(&heard), "{entries:#?}");
        }
    }

    pub(super) async fn an_alert_whose_next_try_lies_in_another_year_is_handed_over_now(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[desired("1", r#"{"id":"1"}"#)], 0).await;
        update(&db, json!({"id": "1", "hotLead": true}), at(YEAR)).await;
        let taken = alert::take(&db, 5, at(30), at(0)).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].created_at, at(0), "it is given up a day after this, not a day after that year");
        alert::again(&db, taken[0].seq, "{}", at(900)).await.unwrap();
        assert_eq!(alert::take(&db, 5, at(30), at(1)).await.unwrap(), [], "a wait that can be is kept");
        assert_eq!(alert::take(&db, 5, at(930), at(900)).await.unwrap().len(), 1);
    }

    pub(super) async fn what_is_to_be_written_to_the_crm_in_another_year_is_written_now(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        let longest = Duration::from_secs(900);
        for mood in ["calm", "glad"] {
            update(&db, json!({"id": "1", "mood": mood}), at(YEAR)).await;
        }
        store(&db, PostKind::LeadUpdate, &json!({"id": "2", "mood": "calm"}), at(0)).await;
        apply_all(&db, at(600)).await;
        let due = writeback::due(&db, longest, at(0)).await.unwrap();
        assert_eq!(due.iter().map(|event| event.lead.id.as_str()).collect::<Vec<_>>(), ["1", "1"]);
        assert_eq!(writeback::due(&db, longest, at(600)).await.unwrap().len(), 3);
    }

    async fn write_facts_of_that_year(db: &StateDb) {
        let year = at(YEAR);
        control::write(db, &CompareAsked { at: year }, year).await.unwrap();
        control::write(db, &UnaskedSends { since: year, leads: 3, lost: 1 }, year).await.unwrap();
        control::write(db, &UnaskedLosses { since: year, leads: 2 }, year).await.unwrap();
        control::write(db, &ResumedAt { at: year }, year).await.unwrap();
    }

    pub(super) async fn facts_that_lie_ahead_count_as_of_now(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write_facts_of_that_year(&db).await;
        let fence = NewestPoller { instance: InstanceId::default() };
        control::write(&db, &fence, at(YEAR)).await.unwrap();
        pause::ask(&db, at(100), at(0)).await.unwrap();
        let facts = ahead::correct_facts(&db, ControlFacts::read(&db).await.unwrap(), at(5)).await.unwrap();
        assert_eq!(facts.get::<CompareAsked>().unwrap(), Some(CompareAsked { at: at(5) }));
        assert_eq!(facts.get::<UnaskedSends>().unwrap(), Some(UnaskedSends { since: at(5), leads: 3, lost: 1 }));
        assert_eq!(facts.get::<UnaskedLosses>().unwrap(), Some(UnaskedLosses { since: at(5), leads: 2 }));
        assert_eq!(facts.get::<ResumedAt>().unwrap(), Some(ResumedAt { at: at(5) }));
        // The next poll leaves corrected facts as they are, and facts without an instant stay unchanged.
        let facts = ahead::correct_facts(&db, facts, at(50)).await.unwrap();
        assert_eq!(facts.get::<UnaskedSends>().unwrap().map(|unasked| unasked.since), Some(at(5)));
        assert_eq!(facts.get::<NewestPoller>().unwrap(), Some(fence));
        let fence_at = crate::support::hearing::ask(&db, "select cast(at as text) from control where name = 'polling'");
        assert_eq!(fence_at.await, [at(YEAR).timestamp_micros().to_string()]);
        assert_eq!(pause::asked_until(&db, at(50)).await.unwrap(), Some(at(100)));
    }

    pub(super) async fn an_approval_covers_no_content_that_comes_after_the_clock_is_right(engine: Engine) {
        let place = engine.place();
        let db = place.state().await;
        write(&db, &[held_change("1", "a"), held_change("2", "a")], YEAR).await;
        control::write(&db, &CompareAsked { at: at(YEAR) }, at(YEAR)).await.unwrap();
        ahead::correct_facts(&db, ControlFacts::read(&db).await.unwrap(), at(0)).await.unwrap();
        let everything = HeldSelection::default();
        let shown = held::look(&db, &everything).await.unwrap();
        write(&db, &[held_change("1", "not shown")], 10).await;
        held::release(
            &db,
            ReleaseOrder { selection: &everything, shown: &shown, release: ReleaseKind::Send, who: &tester() },
            at(20),
            |_| (),
        )
        .await
        .unwrap();
        assert_eq!(row(&db, "1").await.status, "held");
        assert_eq!(row(&db, "2").await.status, "pending");
    }

    pub(super) async fn a_comparison_that_was_asked_for_in_another_year_takes_place_once(engine: Engine) {
        let (crm, place) = (engine.place(), engine.place());
        let state = place.state().await;
        let table = "create table leads (id bigint primary key, town text, changed bigint); insert into leads values (1, 'Ulm', 1799999000)";
        crm.sql(table).await;
        let source = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'";
        let (settings, crm) = (settings(&crm, source, "city = 'town'"), open(&crm, source, "city = 'town'").await);
        let mut kinds = Vec::new();
        for second in [0, 20, 40, 60, 80] {
            if second == 40 {
                control::write(&state, &CompareAsked { at: at(YEAR) }, at(YEAR)).await.unwrap();
            }
            poll(
                PollContext {
                    crm: &crm,
                    state: &state,
                    settings: &settings,
                    tally: &RunTally::default(),
                    now: at(second),
                },
                PollReach::AsDue,
            )
            .await
            .unwrap();
            kinds.push(control::read::<LastPoll>(&state).await.unwrap().unwrap().kind);
        }
        assert_eq!(kinds, ["full", "incremental", "full", "incremental", "incremental"]);
        assert_eq!(control::read::<CompareAsked>(&state).await.unwrap(), None);
    }

    pub(super) async fn the_poll_says_when_it_succeeded_by_the_right_clock(engine: Engine) {
        let (crm, place) = (engine.place(), engine.place());
        let state = place.state().await;
        crm.sql("create table leads (id bigint primary key, town text); insert into leads values (1, 'Ulm')").await;
        let source = "table = 'leads'\nkey = 'id'";
        let (settings, crm) = (settings(&crm, source, "city = 'town'"), open(&crm, source, "city = 'town'").await);
        let tally = RunTally::default();
        for second in [YEAR, 0] {
            poll(
                PollContext { crm: &crm, state: &state, settings: &settings, tally: &tally, now: at(second) },
                PollReach::AsDue,
            )
            .await
            .unwrap();
        }
        let last = control::read::<LastPoll>(&state).await.unwrap().unwrap();
        assert_eq!((last.at, last.succeeded_at.values().max()), (at(0), Some(&at(0))));
    }
}

mod of_the_program {
    use super::*;

    blocking_on_both_engines!(what_waits_until_another_year_is_sent_by_the_next_pass);

    pub(super) fn what_waits_until_another_year_is_sent_by_the_next_pass(engine: Engine) {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::on(engine, &endpoint.url(), 3);
        scene.set("safety", "new_leads_per_hour", "4");
        scene.run(&["once"]).expect_code(0);
        let year = Utc::now() + TimeDelta::days(365);
        scene.with_state(async |db| {
            // The state after a pass with that clock: a retry, a claim, and a counted contact.
            let sql = "update lead set status = 'retrying', due_at = $1, first_failed_at = $1, attempts = 1, last_outcome = 'transient', \
                 delivered_hash = null, introduced_at = $1, first_contact_at = $1, changed_at = $1 where id in ('1', '2')";
            on_state!(db, pool => sqlx::query(sql).bind(year.timestamp_micros()).execute(pool).await.map(drop).unwrap());
            control::write(db, &CompareAsked { at: year }, year).await.unwrap();
            let mut last = control::read::<LastPoll>(db).await.unwrap().unwrap();
            last.at = year;
            control::write(db, &last, year).await.unwrap();
        });
        scene.add(4, 4);
        scene.run(&["once"]).expect_code(0);
        let status = scene.status();
        assert_eq!((&status["leads"]["in_sync"], endpoint.requests().len()), (&json!(4), 6), "{status}");
        assert!(!status["last_poll"].to_string().contains(&year.format("%Y").to_string()), "{}", status["last_poll"]);
    }
}
