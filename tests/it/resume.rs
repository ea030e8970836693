//! An interrupted full compare continues at its mark, and misses nothing.

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::{accept_leads, at, refuse_lead, row};
use crate::support::reading::settings;
use conversica_sync::config::{OnDelete, ServiceSettings};
use conversica_sync::rules::cursor::PollCursor;
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::send::poll::{self, PollOutcome};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control::{self, CompareMark};
use conversica_sync::store::held;
use conversica_sync::store::lead;
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    an_interrupted_compare_goes_on_where_it_had_come_to,
    what_is_written_behind_the_mark_is_found_by_the_next_poll,
    a_mark_that_is_too_old_or_of_another_mapping_is_not_gone_on_from,
    a_table_that_was_emptied_behind_the_mark_is_held_as_a_whole_and_nobody_is_gone,
    a_rest_that_misses_most_of_its_rows_is_judged_with_all_the_others,
    a_compare_goes_on_past_keys_that_differ_in_case,
);

/// A standby cancels a long reading; here a function of the CRM does, behind the 3,500th row.
#[tokio::test]
async fn a_reading_that_the_server_cancels_goes_on_where_it_had_come_to() {
    let (crm, state_place) = (Engine::Postgres.place(), Engine::Postgres.place());
    fill(&crm, 5_000).await;
    crm.sql(
        "create table patience (rows integer); insert into patience values (3500); \
         create function patient(id integer) returns integer language plpgsql stable as $$ begin \
           if id > (select rows from patience) then raise exception using errcode = '40001', message = 'conflict'; end if; \
           return id; end $$; \
         create view slow as select id, case when patient(id) > 0 then town end as town, changed \
         from leads order by id limit 1000000",
    )
    .await;
    let mut settings = followed(&crm, "Nowhere");
    settings.source.table = Some("slow".to_owned());
    let state = state_place.state().await;
    let error = polled(&settings, &state, PollReach::AsDue, 0).await.unwrap_err();
    let said = conversica_sync::db::discreet::split_cure(&error);
    assert!(said.0.starts_with("[source] table slow cannot be read now: "), "{said:?}");
    assert!(said.1.is_some_and(|cure| cure.contains("max_standby_streaming_delay")), "{}", said.0);
    let mark = control::read::<CompareMark>(&state).await.unwrap().expect("a mark");
    assert!((1000..=3500).contains(&mark.rows), "{mark:?}");

    crm.sql("update patience set rows = 5000").await;
    let found = polled(&settings, &state, PollReach::AsDue, 1).await.unwrap();
    assert_eq!((found.rows, found.created as u64), (5_000, 5_000 - mark.rows), "{mark:?}");
    assert!(control::read::<CompareMark>(&state).await.unwrap().is_none());
}

async fn polled(
    settings: &ServiceSettings,
    state: &StateDb,
    reach: PollReach,
    minutes: i64,
) -> anyhow::Result<PollOutcome> {
    let crm = ConnectedCrm::open(settings).await?;
    let (tally, now) = (RunTally::default(), at(0) + TimeDelta::minutes(minutes));
    poll::poll(PollContext { crm: &crm, state, settings, tally: &tally, now }, reach).await
}

async fn fill(place: &Place, leads: u32) {
    place.sql("create table leads (id integer, town text, changed text)").await;
    place
        .sql(&format!(
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads}) \
             insert into leads select i, 'Town', '2026-01-01 10:00:00' from n"
        ))
        .await;
}

fn followed(place: &Place, city: &str) -> ServiceSettings {
    let source = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'";
    let mut settings = settings(place, source, &format!("city = {{ column = 'town', default = '{city}' }}"));
    settings.safety.approve_above = 0;
    settings
}

async fn city(state: &StateDb, id: &str) -> String {
    row(state, id).await.desired.unwrap()
}

async fn an_interrupted_compare_goes_on_where_it_had_come_to(engine: Engine) {
    let (crm, place) = (engine.place(), engine.other().place());
    let state = place.state().await;
    fill(&crm, 53_000).await;
    let settings = followed(&crm, "Ulm");
    // The poll fails at a lead that the state refuses, long after it has written the first leads.
    refuse_lead(&place, "53000").await;
    polled(&settings, &state, PollReach::AsDue, 0).await.expect_err("the state does not take the last lead");
    let mark = control::read::<CompareMark>(&state).await.unwrap().expect("how far it has come is written down");
    assert!((50_000..53_000).contains(&mark.rows), "{mark:?}");
    assert_eq!(mark.id, mark.rows.to_string());
    assert!(
        !lead::known(
            &state,
            &[conversica_sync::conversica::lead::LeadId { id: mark.id.clone(), client_id: String::new() }]
        )
        .await
        .unwrap()
        .is_empty(),
        "and all that lies before is on the disk"
    );

    accept_leads(&place).await;
    crm.sql("update leads set town = 'Back-dated' where id in (7, 52900)").await;
    let polled_rest = polled(&settings, &state, PollReach::AsDue, 10).await.unwrap();
    assert_eq!(polled_rest.rows, 53_000, "counted with those of the first part");
    assert!(polled_rest.created <= 53_000 - mark.rows, "{polled_rest:?}");
    assert!(city(&state, "52900").await.contains("Back-dated"));
    assert!(!city(&state, "7").await.contains("Back-dated"), "as with every compare that had passed a row already");
    assert_eq!(control::read::<CompareMark>(&state).await.unwrap(), None);
    let cursor = control::read::<PollCursor>(&state).await.unwrap().unwrap();
    assert_eq!(cursor.full_at, at(0), "the next one is due as if it had run through");

    // A compare by hand reads every row.
    let whole = polled(&settings, &state, PollReach::Everything, 20).await.unwrap();
    assert_eq!((whole.rows, whole.updated + whole.created), (53_000, 1));
    assert!(city(&state, "7").await.contains("Back-dated"));
}

/// The mark that an interrupted compare of ten rows leaves.
async fn marked(crm: &Place, state: &StateDb, settings: &ServiceSettings, id: u32) {
    fill(crm, 10).await;
    polled(settings, state, PollReach::AsDue, 0).await.unwrap();
    let cursor = control::read::<PollCursor>(state).await.unwrap().unwrap();
    let mark = mark(settings, &cursor, id, at(0) + TimeDelta::hours(25)).await;
    control::write(state, &mark, at(0)).await.unwrap();
}

async fn mark(settings: &ServiceSettings, cursor: &PollCursor, id: u32, began_at: DateTime<Utc>) -> CompareMark {
    CompareMark {
        source: cursor.source.clone(),
        mapping: ConnectedCrm::open(settings).await.unwrap().mapping.fingerprint().to_string(),
        order: conversica_sync::conversica::lead::IdOrder::ByLength,
        id: id.to_string(),
        client_id: String::new(),
        began_at,
        newest: cursor.newest.clone(),
        settled: cursor.settled.clone().unwrap(),
        rows: u64::from(id),
        unnamed: 0,
    }
}

async fn a_table_that_was_emptied_behind_the_mark_is_held_as_a_whole_and_nobody_is_gone(engine: Engine) {
    let (crm, place) = (engine.place(), engine.other().place());
    let state = place.state().await;
    let mut settings = followed(&crm, "Ulm");
    settings.source.on_delete = OnDelete::StopMessaging;
    marked(&crm, &state, &settings, 6).await;
    crm.sql("delete from leads").await;
    let rest = polled(&settings, &state, PollReach::AsDue, 26 * 60).await.unwrap();
    assert_eq!((rest.gone, rest.stopped, rest.held), (0, 0, 10), "what was met before the mark is no longer there");
    assert_eq!(held::standing(&state).await.unwrap().unwrap().reason, HoldReason::SourceShrank);
    assert_eq!(control::read::<CompareMark>(&state).await.unwrap(), None);

    // While the hold is open, no compare continues: it would let go unread leads before the mark.
    let cursor = control::read::<PollCursor>(&state).await.unwrap().unwrap();
    let mark = mark(&settings, &cursor, 6, at(0) + TimeDelta::hours(27)).await;
    control::write(&state, &mark, at(0)).await.unwrap();
    crm.sql("insert into leads values (7, 'Town', '2026-01-01 10:00:00'), (8, 'Town', '2026-01-01 10:00:00')").await;
    crm.sql("insert into leads values (9, 'Town', '2026-01-01 10:00:00'), (10, 'Town', '2026-01-01 10:00:00')").await;
    let rest = polled(&settings, &state, PollReach::AsDue, 27 * 60 + 1).await.unwrap();
    assert_eq!((rest.rows, rest.gone, rest.stopped), (4, 0, 0));
}

async fn a_rest_that_misses_most_of_its_rows_is_judged_with_all_the_others(engine: Engine) {
    let (crm, place) = (engine.place(), engine.other().place());
    let state = place.state().await;
    let settings = followed(&crm, "Ulm");
    marked(&crm, &state, &settings, 6).await;
    crm.sql("delete from leads where id in (7, 8, 9)").await;
    let rest = polled(&settings, &state, PollReach::AsDue, 26 * 60).await.unwrap();
    assert_eq!((rest.rows, rest.gone, rest.held), (7, 3, 0), "three of ten may go");
    assert_eq!(held::standing(&state).await.unwrap(), None);
    assert_eq!(control::read::<CompareMark>(&state).await.unwrap(), None);
}

async fn what_is_written_behind_the_mark_is_found_by_the_next_poll(engine: Engine) {
    let (crm, place) = (engine.place(), engine.other().place());
    let state = place.state().await;
    let settings = followed(&crm, "Ulm");
    marked(&crm, &state, &settings, 6).await;
    // Written between the two parts, before and behind the mark, with correct stamps.
    crm.sql("update leads set town = 'New', changed = '2026-01-01 10:30:00' where id in (3, 8)").await;
    crm.sql("delete from leads where id = 9").await;
    let rest = polled(&settings, &state, PollReach::AsDue, 26 * 60).await.unwrap();
    assert_eq!((rest.rows, rest.updated + rest.created, rest.gone), (9, 1, 1));
    assert!(!city(&state, "3").await.contains("New"));
    let next = polled(&settings, &state, PollReach::AsDue, 26 * 60 + 1).await.unwrap();
    assert_eq!(next.updated + next.created, 1, "the cursor is that of the beginning");
    assert!(city(&state, "3").await.contains("New"));
}

async fn a_mark_that_is_too_old_or_of_another_mapping_is_not_gone_on_from(engine: Engine) {
    for (minutes, city) in [(50 * 60, "Ulm"), (26 * 60, "Bonn")] {
        let (crm, place) = (engine.place(), engine.other().place());
        let state = place.state().await;
        marked(&crm, &state, &followed(&crm, "Ulm"), 6).await;
        crm.sql("update leads set town = 'Back-dated' where id = 3").await;
        let whole = polled(&followed(&crm, city), &state, PollReach::AsDue, minutes).await.unwrap();
        assert_eq!((whole.rows, whole.updated + whole.created), (10, 1), "{city}");
        assert_eq!(control::read::<CompareMark>(&state).await.unwrap(), None, "{city}");
    }
}

async fn a_compare_goes_on_past_keys_that_differ_in_case(engine: Engine) {
    let (crm, place) = (engine.place(), engine.other().place());
    let state = place.state().await;
    let key = engine.pick("text collate nocase", "text");
    crm.sql(&format!("create table leads (id {key}, town text, changed text)")).await;
    // In byte order, lower-case letters come last; without case, `a…` comes before `K…`.
    for (letter, leads) in [("K", 51_000), ("a", 2_000)] {
        crm.sql(&format!(
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads}) \
             insert into leads select '{letter}' || (100000 + i), 'Town', '2026-01-01 10:00:00' from n"
        ))
        .await;
    }
    let settings = followed(&crm, "Ulm");
    crm.sql("insert into leads values ('z', 'Town', '2026-01-01 10:00:00')").await;
    refuse_lead(&place, "z").await;
    polled(&settings, &state, PollReach::AsDue, 0).await.expect_err("the state does not take the last lead");
    let mark = control::read::<CompareMark>(&state).await.unwrap().expect("how far it has come is written down");
    assert!(mark.id.starts_with('K'), "{mark:?}");
    accept_leads(&place).await;
    crm.sql("delete from leads where id = 'z'").await;
    let rest = polled(&settings, &state, PollReach::AsDue, 10).await.unwrap();
    assert_eq!((rest.rows, rest.gone), (53_000, 0));
    assert!(city(&state, "a102000").await.contains("Town"));
}
