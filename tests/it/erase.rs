//! A person is erased, on both engines: no data about them remains, and they are never contacted again.

use serde_json::json;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::everything::{dump, hex, tables};
use crate::support::hearing::{apply_all, update};
use crate::support::lead_row::{
    LEASE, at, claim, claim_one, deliver, desired, finished, held, id, record, returned, tester, write,
};
use conversica_sync::conversica::lead::LeadId;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::rules::admission::{CapSpan, ClaimFilter, NewPeopleCap};
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::consent::{self, LedgerEntry};
use conversica_sync::store::control::{self, CompareAsked};
use conversica_sync::store::decision::DecisionMaker;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::erase::{self, ErasureOutcome, ErasureReach, ToldFact};
use conversica_sync::store::event::{self, PostArrival};
use conversica_sync::store::heard::reading;
use conversica_sync::store::heard::replay::{ReplayOutcome, replay};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind, ReleaseOrder};
use conversica_sync::store::record::{IMPERSONAL, PERSONAL, RecordLookup};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{lead, lead_address, orphan, tombstone};

on_both_engines!(
    every_table_is_known_to_name_people_or_not,
    nothing_of_a_person_remains_in_any_table,
    who_may_still_be_written_to_by_conversica_is_not_erased,
    what_a_poll_saw_before_is_not_written_after,
    an_answer_that_comes_late_is_not_journalled,
    what_conversica_posts_of_them_is_counted_and_forgotten,
    caps_count_who_was_written_to_erased_or_not,
    who_is_allowed_back_is_somebody_new_who_has_still_opted_out,
    told_to_stop_first_nothing_else_leaves_and_polls_do_not_take_it_back,
    whoever_writes_at_the_same_time_nothing_of_them_remains,
);

/// Occurs in every text about the person, and in no other text.
const MARK: &str = "Quetzalcoatl";

pub fn somebody() -> DecisionMaker {
    DecisionMaker::new("tests")
}

pub async fn erased(db: &StateDb, lead: &LeadId, seconds: i64) -> ErasureOutcome {
    erase::erase(db, lead, ToldFact::ByHand, &somebody(), at(seconds)).await.unwrap()
}

fn body(id: &str, city: &str) -> String {
    json!({"id": id, "firstName": MARK, "email": format!("{MARK}@mail.example"), "city": city, "optOut": false})
        .to_string()
}

async fn every_table_is_known_to_name_people_or_not(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let mut known: Vec<&str> = PERSONAL.iter().map(|(table, ..)| *table).chain(IMPERSONAL).collect();
    known.sort_unstable();
    assert_eq!(tables(&db).await, known, "a new table is to be exported and erased, or said to name nobody");
    for table in tables(&db).await {
        let sql = format!("select * from {table} where 1 = 0");
        let columns: Vec<String> = match &db {
            StateDb::Sqlite(pool) => {
                sqlx::query_scalar("select name from pragma_table_info($1)").bind(&table).fetch_all(pool).await
            }
            StateDb::Postgres(pool) => {
                sqlx::query_scalar(
                    "select cast(column_name as text) from information_schema.columns \
                     where table_schema = 'conversica_sync' and table_name = $1",
                )
                .bind(&table)
                .fetch_all(pool)
                .await
            }
        }
        .unwrap();
        let has = |name: &str| columns.iter().any(|column| column == name);
        let by = PERSONAL.iter().find(|(name, ..)| *name == table).map(|(_, by, _)| *by);
        match by {
            Some(RecordLookup::Lead) => assert!(has("id") && has("client_id"), "{sql}"),
            Some(RecordLookup::Event) => assert!(has("event_seq") || has("seq"), "{sql}"),
            None => assert!(!has("id") && !has("client_id"), "{table} names people"),
        }
    }
}

/// A lead with data in every table, and another lead that must stay.
async fn full(db: &StateDb, who: &str) {
    let own = held(who, &body(who, "Ulm"));
    lead_address::keep_changed(db, std::slice::from_ref(&own), at(0)).await.unwrap();
    write(db, &[own, held("other", r#"{"id":"other","email":"o@mail.example"}"#)], 0).await;
    let shown = held::look(db, &HeldSelection::default()).await.unwrap();
    let (selection, operator) = (HeldSelection::default(), somebody().with_comment(&format!("{MARK} agreed")));
    let order = ReleaseOrder { selection: &selection, shown: &shown, release: ReleaseKind::Send, who: &operator };
    held::release(db, order, at(1), |_| ()).await.unwrap();
    for claim in claim(db, 10, 2).await {
        record(db, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, 3)]).await;
    }
    for (city, seconds) in [("Bonn", 10), ("Rome", 20)] {
        deliver(db, desired(who, &body(who, city)), seconds).await;
    }
    let said =
        json!({"id": who, "hotLead": true, "doNotEmail": true, "discoveredEmail1": format!("{MARK}@home.example")});
    update(db, said, at(30)).await;
    write(db, &[desired(who, &body(who, "Oslo"))], 31).await;
    let chat = json!({"firstName": MARK, "lastName": "x", "email": format!("{}@MAIL.example", MARK.to_lowercase()), "conversationHistory": []});
    let posts = [
        PostArrival::of(
            PostKind::Message,
            json!({"id": who, "action": "sent", "date": "2026-01-01T00:00:00Z", "body": MARK}).to_string().into_bytes(),
            false,
        ),
        PostArrival::of(PostKind::ChatLead, chat.to_string().into_bytes(), false),
        PostArrival::of(
            PostKind::Message,
            format!("{{\"id\": \"{who}\", \"doNotEmail\": true, \"body\": \"{MARK}\n\"}}").into_bytes(),
            false,
        ),
        PostArrival::of(PostKind::LeadUpdate, br#"{"id": "other", "hotLead": true}"#.to_vec(), false),
        PostArrival::of(PostKind::LeadUpdate, br#"{"hotLead": "#.to_vec(), false),
    ];
    event::store(db, &posts, at(32)).await.unwrap();
    apply_all(db, at(33)).await;
    let failed = LastPoll {
        at: at(34),
        kind: "full".into(),
        rows: 0,
        changed: 0,
        duration_ms: 0,
        error: Some(format!("two rows have the key {who}")),
        cure: None,
        unnamed: 0,
        failing_since: Some(at(34)),
        succeeded_at: Default::default(),
        instances: None,
    };
    control::write(db, &failed, at(34)).await.unwrap();
}

async fn nothing_of_a_person_remains_in_any_table(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    // The id itself is personal data.
    let who = format!("{MARK}@key.example");
    full(&db, &who).await;
    let all = tables(&db).await;
    let before = dump(&db, &all).await;
    for (table, ..) in PERSONAL {
        assert!(before.contains(&format!("{table}: ")), "{table} is not tried:\n{before}");
    }
    assert!(matches!(erased(&db, &id(&who), 40).await, ErasureOutcome::Done(rows) if rows >= 12));
    let after = dump(&db, &all).await;
    let small = after.to_lowercase();
    for mark in [MARK.to_lowercase(), hex(MARK), hex(&MARK.to_lowercase())] {
        assert!(!small.contains(&mark), "{mark}:\n{after}");
    }
    for (table, rows) in
        [("lead", 1), ("outcome", 1), ("event", 2), ("conversation", 1), ("alert", 1), ("tombstone", 1)]
    {
        let found = after.lines().filter(|line| line.starts_with(&format!("{table}: "))).count();
        assert_eq!(found, rows, "{table}:\n{after}");
    }
    assert!(
        after.contains("erase") && after.contains("approve"),
        "what was decided stays, but not about whom:\n{after}"
    );
    assert!(tombstone::since(&db, &id(&who)).await.unwrap().is_some());
    assert_eq!(tombstone::since(&db, &id("other")).await.unwrap(), None);
    assert_eq!(erased(&db, &id(&who), 41).await, ErasureOutcome::Done(0), "it may be repeated");
    if engine == Engine::Sqlite {
        assert!(erase::scrub(&db).await.unwrap());
        let files: Vec<u8> = std::fs::read_dir(place.directory())
            .unwrap()
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        let text = String::from_utf8_lossy(&files).to_lowercase();
        assert!(!text.contains(&MARK.to_lowercase()), "the files still have it");
        assert!(text.contains("o@mail.example"));
    }
}

async fn who_may_still_be_written_to_by_conversica_is_not_erased(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let known = async |lead: &str, seconds: i64| {
        erase::erase(&db, &id(lead), ToldFact::AsFarAsIsKnown, &somebody(), at(seconds)).await.unwrap()
    };
    write(&db, &[desired("new", "{}")], 0).await;
    let on_its_way = claim_one(&db, 1).await;
    assert_eq!(known("new", 2).await, ErasureOutcome::Refused(ErasureReach::InFlight));
    assert_eq!(erased(&db, &id("new"), 2).await, ErasureOutcome::Refused(ErasureReach::InFlight), "whoever says what");
    record(&db, &[finished(&on_its_way, OutcomeClass::Rejected, NextStep::Rejected, 3)]).await;
    assert!(matches!(known("new", 4).await, ErasureOutcome::Done(_)), "it was refused: nobody was ever written to");
    assert_eq!(known("nobody", 4).await, ErasureOutcome::Done(0), "before their row was ever read");

    deliver(&db, desired("known", r#"{"id":"known","optOut":false}"#), 5).await;
    assert_eq!(known("known", 6).await, ErasureOutcome::Refused(ErasureReach::MayWrite));
    write(&db, &[desired("known", r#"{"id":"known","optOut":true}"#)], 7).await;
    assert_eq!(known("known", 8).await, ErasureOutcome::Refused(ErasureReach::MayWrite), "it is not told yet");
    let opt_out = claim_one(&db, 9).await;
    record(&db, &[finished(&opt_out, OutcomeClass::Ambiguous, NextStep::Resend, 10)]).await;
    assert_eq!(
        known("known", 11).await,
        ErasureOutcome::Refused(ErasureReach::MayWrite),
        "it is unknown whether it arrived"
    );
    let again = claim_one(&db, 12).await;
    record(&db, &[finished(&again, OutcomeClass::Accepted, NextStep::Done, 13)]).await;
    assert!(matches!(known("known", 14).await, ErasureOutcome::Done(_)), "it accepted that they have opted out");

    update(&db, json!({"id": "elsewhere", "hotLead": true}), at(15)).await;
    assert_eq!(known("elsewhere", 16).await, ErasureOutcome::Refused(ErasureReach::SpeaksOfThem));
    assert!(matches!(erased(&db, &id("elsewhere"), 17).await, ErasureOutcome::Done(_)));
}

async fn what_a_poll_saw_before_is_not_written_after(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", "a"), 0).await;
    erased(&db, &id("1"), 1).await;
    let rows = [desired("1", "b"), desired("2", "b")];
    lead::upsert(&db, &rows, at(2), at(2)).await.unwrap();
    let words = consent::newest(&db).await.unwrap();
    for words in [words, words + 1] {
        consent::upsert(&db, &[desired("1", "c"), desired("2", "c")], words, at(3), at(3)).await.unwrap();
        consent::upsert(&db, &[desired("1", "c")], words, at(3), at(3)).await.unwrap();
    }
    returned(&db, &[id("1")], 4).await;
    let word = conversica_sync::conversica::consent_word::ChannelWord {
        channel: conversica_sync::conversica::consent_word::ConsentChannel::Email,
        given: true,
        at: at(1),
    };
    let entry = |lead: &str| LedgerEntry { lead: id(lead), word, heard_at: at(5), event_seq: None };
    consent::record(&db, &[entry("1"), entry("2")]).await.unwrap();
    let claims = claim(&db, 10, 100).await;
    assert_eq!(claims.iter().map(|claim| claim.lead.id.as_str()).collect::<Vec<_>>(), ["2"]);
    assert_eq!(consent::of_lead(&db, &id("1")).await.unwrap(), []);
    assert_eq!(consent::of_lead(&db, &id("2")).await.unwrap().len(), 1);
}

async fn an_answer_that_comes_late_is_not_journalled(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a"), desired("2", "a")], 0).await;
    let claims = claim(&db, 10, 1).await;
    // Another instance recovers the claims as lost.
    let unknown = crate::support::lead_row::resend();
    orphan::recover(&db, orphan::OrphanScope::All, &unknown, at(2)).await.unwrap();
    erased(&db, &id("1"), 3).await;
    let late: Vec<_> = claims.iter().map(|claim| finished(claim, OutcomeClass::Accepted, NextStep::Done, 4)).collect();
    record(&db, &late).await;
    let of: Vec<String> = on_state!(&db, pool => sqlx::query_scalar("select id from outcome order by seq").fetch_all(pool).await.unwrap());
    assert_eq!(of, ["2", "2"]);
}

async fn counts(db: &StateDb) -> Vec<(String, i64)> {
    on_state!(db, pool => {
        sqlx::query_as("select name, count from received_count order by name").fetch_all(pool).await.unwrap()
    })
}

async fn what_conversica_posts_of_them_is_counted_and_forgotten(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let garbled = PostArrival::of(PostKind::Message, b"{\"id\": \"1\", \"body\": \"\n\"".to_vec(), false);
    event::store(&db, std::slice::from_ref(&garbled), at(0)).await.unwrap();
    let waits = reading::list(&db, &reading::EventFilter::default(), 9).await.unwrap().remove(0);
    erased(&db, &id("1"), 1).await;
    assert_eq!(
        reading::list(&db, &reading::EventFilter::default(), 9).await.unwrap(),
        [],
        "what could not be read is gone too"
    );
    let of = |text: &str| PostArrival::of(PostKind::LeadUpdate, text.as_bytes().to_vec(), false);
    let posts = [
        of(r#"{"id":"1","hotLead":true}"#),
        of(r#"{"id":"2"}"#),
        of(r#"{"id":"1","hotLead":true}"#),
        of(r#"{"leadId":1,"clientId":"x"}"#),
    ];
    event::store(&db, &posts, at(2)).await.unwrap();
    event::store(&db, &[of(r#"{"id":"1"}"#), garbled], at(3)).await.unwrap();
    let kept = reading::list(&db, &reading::EventFilter::default(), 9).await.unwrap();
    assert_eq!(kept.iter().map(|heard| heard.lead.id.as_str()).collect::<Vec<_>>(), ["2"]);
    let expected = [("erased", 5), ("lead_update", 1), ("unknown_lead", 1), ("unreadable", 1)];
    assert_eq!(counts(&db).await, expected.map(|(name, count)| (name.to_owned(), count)));
    let applied = apply_all(&db, at(4)).await;
    assert_eq!((applied.events, applied.alerts), (1, 0));
    // The operator fixes a post that they opened earlier.
    let fixed = replay(
        &db,
        &waits,
        Some(br#"{"id":"1","action":"sent","date":"2026-01-01T00:00:00Z","body":"x"}"#),
        false,
        at(5),
    );
    assert_eq!(fixed.await.unwrap(), ReplayOutcome::Erased);
    assert_eq!(reading::list(&db, &reading::EventFilter::default(), 9).await.unwrap().len(), 1);
}

async fn caps_count_who_was_written_to_erased_or_not(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let cap = NewPeopleCap { people: 2, span: CapSpan::Sliding(std::time::Duration::from_secs(3600)) };
    let admit = ClaimFilter::Capped(vec![cap]);
    let claim = async |seconds: i64| {
        let wanted = ClaimRequest { admit: &admit, ..ClaimRequest::up_to(1) };
        delivery::record_and_claim(&db, &[], wanted, at(seconds), LEASE).await.unwrap().pop()
    };
    for who in ["1", "2"] {
        write(&db, &[desired(who, "a")], 0).await;
        let sent = claim(1).await.unwrap();
        record(&db, &[finished(&sent, OutcomeClass::Accepted, NextStep::Done, 2)]).await;
    }
    erased(&db, &id("1"), 3).await;
    write(&db, &[desired("3", "a")], 4).await;
    assert_eq!(claim(5).await, None, "two were written to within the hour");
    let due = conversica_sync::store::due::next_due_at(&db, &admit, at(5)).await.unwrap();
    assert_eq!(due.capped_until, Some(at(3601)));
    assert!(claim(3602).await.is_some());
}

async fn who_is_allowed_back_is_somebody_new_who_has_still_opted_out(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let said = r#"{"id":"1","optOut":false}"#;
    deliver(&db, desired("1", said), 0).await;
    update(&db, json!({"id": "1", "doNotEmail": true}), at(1)).await;
    erased(&db, &id("1"), 2).await;
    assert!(!erase::allow(&db, &id("2"), &somebody(), at(3)).await.unwrap(), "who was not erased");
    assert!(erase::allow(&db, &id("1"), &somebody(), at(3)).await.unwrap());
    assert!(!erase::allow(&db, &id("1"), &somebody(), at(3)).await.unwrap(), "once");
    assert!(control::read::<CompareAsked>(&db).await.unwrap().is_some(), "their row is looked for");
    write(&db, &[desired("1", said)], 4).await;
    let back = claim_one(&db, 5).await;
    assert_eq!((back.body.as_str(), back.attempt), (r#"{"id":"1","optOut":true}"#, 1), "they had opted out");
}

async fn told_to_stop_first_nothing_else_leaves_and_polls_do_not_take_it_back(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("1", r#"{"id":"1","city":"Ulm"}"#), 0).await;
    write(&db, &[held("1", r#"{"id":"1","city":"Bonn"}"#)], 1).await;
    assert!(erase::stop_first(&db, &id("1"), at(2)).await.unwrap());
    // A poll that read the row earlier, and a new one.
    write(&db, &[desired("1", r#"{"id":"1","city":"Rome"}"#)], 3).await;
    returned(&db, &[id("1")], 4).await;
    let by_now = erase::erase(&db, &id("1"), ToldFact::AsFarAsIsKnown, &somebody(), at(5)).await.unwrap();
    assert_eq!(by_now, ErasureOutcome::Refused(ErasureReach::Stopping));
    let stop = claim_one(&db, 6).await;
    assert_eq!(stop.body, r#"{"id":"1","city":"Ulm","stopMessaging":true}"#);
    record(&db, &[finished(&stop, OutcomeClass::Rejected, NextStep::Rejected, 7)]).await;
    let by_now = erase::erase(&db, &id("1"), ToldFact::AsFarAsIsKnown, &somebody(), at(8)).await.unwrap();
    assert_eq!(by_now, ErasureOutcome::Refused(ErasureReach::StopFailed));
    conversica_sync::store::stuck::requeue(
        &db,
        RetryOrder { statuses: &[LeadStatus::Rejected], ids: None, reason: None, who: &tester() },
        at(9),
        |_| (),
    )
    .await
    .unwrap();
    let stop = claim_one(&db, 10).await;
    record(&db, &[finished(&stop, OutcomeClass::Accepted, NextStep::Done, 11)]).await;
    let by_now = erase::erase(&db, &id("1"), ToldFact::AsFarAsIsKnown, &somebody(), at(12)).await.unwrap();
    assert!(matches!(by_now, ErasureOutcome::Done(_)), "{by_now:?}");
    assert_eq!(lead::page(&db, None, 9).await.unwrap(), []);
}

/// Polls, deliveries and posts go on over other connections while the operator erases some people.
async fn whoever_writes_at_the_same_time_nothing_of_them_remains(engine: Engine) {
    let place = engine.place();
    let (db, other) = (place.state().await, place.state().await);
    let people: Vec<String> = (0..12).map(|n| format!("{MARK}{n}x")).collect();
    let changes =
        |round: i64| -> Vec<_> { people.iter().map(|who| desired(who, &body(who, &round.to_string()))).collect() };
    let polls = async {
        for round in 0..25 {
            // The real program retries polls and deliveries too.
            let _ = consent::upsert(&db, &changes(round), -1, at(round), at(round)).await;
            tokio::task::yield_now().await;
        }
    };
    let deliveries = async {
        let mut in_flight = Vec::new();
        for round in 0..40 {
            let done: Vec<_> = in_flight
                .drain(..)
                .map(|claim| finished(&claim, OutcomeClass::Accepted, NextStep::Done, 100 + round))
                .collect();
            let wanted = ClaimRequest::up_to(5);
            if let Ok(claims) = delivery::record_and_claim(&other, &done, wanted, at(100 + round), LEASE).await {
                in_flight = claims;
            }
            tokio::task::yield_now().await;
        }
        let done: Vec<_> =
            in_flight.drain(..).map(|claim| finished(&claim, OutcomeClass::Accepted, NextStep::Done, 200)).collect();
        if !done.is_empty() {
            record(&other, &done).await;
        }
    };
    let posts = async {
        for round in 0..25 {
            let of = |who: &String| {
                PostArrival::of(
                    PostKind::LeadUpdate,
                    json!({"id": who, "hotLead": true, "n": round}).to_string().into_bytes(),
                    false,
                )
            };
            let batch: Vec<PostArrival> = people.iter().map(of).collect();
            event::store(&db, &batch, at(round)).await.unwrap();
            apply_all(&other, at(round)).await;
        }
    };
    let erasures = async {
        for who in &people[..6] {
            loop {
                match erased(&db, &id(who), 300).await {
                    ErasureOutcome::Done(_) => break,
                    ErasureOutcome::Refused(ErasureReach::InFlight) | ErasureOutcome::Busy => {
                        tokio::task::yield_now().await
                    }
                    ErasureOutcome::Refused(other) => panic!("{other:?}"),
                }
            }
        }
    };
    tokio::join!(polls, deliveries, posts, erasures);
    let left = dump(&db, &tables(&db).await).await;
    for who in &people[..6] {
        assert!(!left.contains(who.as_str()) && !left.contains(&hex(who)), "{who}:\n{left}");
    }
    for who in &people[6..] {
        assert!(left.contains(who.as_str()), "{who}");
    }
}
