//! `[lead]` changes while leads wait: content of the old mapping is not sent any more.

use std::time::Duration;

use chrono::TimeDelta;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::{
    LEASE, accept_leads, at, claim, claim_one, deliver, desired, finished, id, record, refuse_lead, row, statuses,
    write,
};
use crate::support::postgres::Cluster;
use crate::support::reading::settings;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use conversica_sync::config::ServiceSettings;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::ClaimFilter;
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::mapping_in_use::MappingInUse;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::held::{self, ReleaseKind};
use conversica_sync::store::orphan;
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    a_mapping_that_is_taken_back_half_way_leaves_nothing_behind,
    twenty_five_thousand_changes_go_when_thirty_thousand_are_allowed_and_are_held_when_twenty_thousand_are,
    a_poll_that_died_before_it_knew_how_much_there_is_holds_what_the_next_one_finds,
    what_a_poll_that_died_has_kept_back_goes_when_the_next_one_finds_it_allowed,
    what_holds_a_single_lead_is_not_let_go_with_a_poll,
);

async fn polled(crm: &Place, state: &StateDb, settings: &ServiceSettings, minutes: i64) -> anyhow::Result<PollOutcome> {
    let source = ConnectedCrm::open(settings).await?;
    assert!(crm.url.starts_with(if crm.engine == Engine::Sqlite { "sqlite" } else { "postgres" }));
    poll(
        PollContext {
            crm: &source,
            state,
            settings,
            tally: &RunTally::default(),
            now: at(0) + TimeDelta::minutes(minutes),
        },
        PollReach::AsDue,
    )
    .await
}

/// A CRM with `leads` rows, all with the same change stamp.
async fn crm(engine: Engine, leads: u32) -> Place {
    let place = engine.place();
    place.sql("create table leads (id integer, town text, changed text)").await;
    add(&place, 1, leads).await;
    place
}

async fn add(place: &Place, first: u32, last: u32) {
    place
        .sql(&format!(
            "with recursive n (i) as (select {first} union all select i + 1 from n where i < {last}) \
             insert into leads select i, 'Town', '2026-06-01 10:00:00' from n"
        ))
        .await;
}

fn mapped(place: &Place, town: &str, approve_above: u32) -> ServiceSettings {
    let source = "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'";
    let mut settings = settings(place, source, &format!("city = {{ column = 'town', default = '{town}' }}"));
    settings.safety.approve_above = approve_above;
    settings
}

async fn a_mapping_that_is_taken_back_half_way_leaves_nothing_behind(engine: Engine) {
    let crm = crm(engine, 1500).await;
    let place = engine.other().place();
    let state = place.state().await;
    // Without a limit the poll holds nothing until its end: the changes that it found before it failed are in the queue.
    let unguarded = || {
        let mut settings = mapped(&crm, "Ulm", 0);
        settings.safety.source_shrinks_below = 0.0;
        settings
    };
    let (right, wrong) = (unguarded(), {
        let mut wrong = unguarded();
        let other = settings(&crm, "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'", "city = { value = 'Wrong' }");
        wrong.lead = other.lead;
        wrong
    });
    polled(&crm, &state, &right, 0).await.unwrap();
    for claim in claim(&state, 2000, 60).await {
        record(&state, &[finished(&claim, OutcomeClass::Accepted, NextStep::Done, 61)]).await;
    }
    statuses(&state, &[(LeadStatus::InSync, 1500)]).await;
    // The poll fails at a lead that the state refuses, long after it has written the first leads.
    refuse_lead(&place, "1500").await;
    polled(&crm, &state, &wrong, 10).await.expect_err("the state does not take the last lead");
    assert!(!claim(&state, 1, 700).await.is_empty(), "some were written");
    let half = control::read::<MappingInUse>(&state).await.unwrap().unwrap();
    accept_leads(&place).await;
    orphan::recover(&state, orphan::OrphanScope::All, &right.delivery, at(701)).await.unwrap();

    let fingerprint = ConnectedCrm::open(&right).await.unwrap().mapping.fingerprint().to_string();
    assert_ne!(half.fingerprint, fingerprint, "what is in the queue is nobody's: it waits for the poll");
    polled(&crm, &state, &right, 20).await.unwrap();
    assert_eq!(control::read::<LastPoll>(&state).await.unwrap().unwrap().kind, "full");
    // All but the lead whose outcome is unknown.
    statuses(&state, &[(LeadStatus::InSync, 1499), (LeadStatus::Pending, 1)]).await;
    assert!(claim_one(&state, 1300).await.body.contains("\"city\":\"Town\""));
    assert_eq!(control::read::<MappingInUse>(&state).await.unwrap().unwrap().fingerprint, fingerprint);
}

async fn twenty_five_thousand_changes_go_when_thirty_thousand_are_allowed_and_are_held_when_twenty_thousand_are(
    engine: Engine,
) {
    let crm = crm(engine, 1).await;
    for (allowed, status) in [(30_000, LeadStatus::Pending), (20_000, LeadStatus::Held)] {
        let place = engine.place();
        let state = place.state().await;
        crm.sql("delete from leads where id > 1").await;
        let settings = mapped(&crm, "Ulm", allowed);
        polled(&crm, &state, &settings, 0).await.unwrap();
        add(&crm, 2, 25_000).await;
        let found = polled(&crm, &state, &settings, 1).await.unwrap();
        assert_eq!((found.created, found.held), (24_999, if allowed == 20_000 { 24_999 } else { 0 }));
        let rest = if status == LeadStatus::Held {
            vec![(status, 24_999), (LeadStatus::Pending, 1)]
        } else {
            vec![(status, 25_000)]
        };
        statuses(&state, &rest).await;
        let hold = held::standing(&state).await.unwrap();
        assert_eq!(hold.is_some(), allowed == 20_000, "{hold:?}");
    }
}

async fn a_poll_that_died_before_it_knew_how_much_there_is_holds_what_the_next_one_finds(engine: Engine) {
    let crm = crm(engine, 1).await;
    let place = engine.place();
    let state = place.state().await;
    let settings = mapped(&crm, "Ulm", 12_000);
    polled(&crm, &state, &settings, 0).await.unwrap();
    claim_one(&state, 1).await;
    // The poll ends at a lead that the state refuses, with nine thousand leads written and no decision made: the keys
    // come in text order.
    add(&crm, 2, 11_500).await;
    refuse_lead(&place, "82").await;
    polled(&crm, &state, &settings, 1).await.expect_err("the state does not take one of the leads");
    assert!(claim(&state, 10, 120).await.is_empty(), "nothing leaves unasked");
    assert!(held::count_staged(&state).await.unwrap().all > 0);
    accept_leads(&place).await;
    add(&crm, 20_000, 22_000).await;
    polled(&crm, &state, &settings, 2).await.unwrap();
    statuses(&state, &[(LeadStatus::InFlight, 1), (LeadStatus::Held, 11_499 + 2001)]).await;
    let everything = held::HeldSelection::default();
    assert_eq!(held::release_all(&state, &everything, ReleaseKind::Send, at(500)).await.unwrap(), 13_500);
    polled(&crm, &state, &settings, 9).await.unwrap();
    assert!(held::standing(&state).await.unwrap().is_none());
}

async fn what_a_poll_that_died_has_kept_back_goes_when_the_next_one_finds_it_allowed(engine: Engine) {
    for allowed in [12_000, 0] {
        let crm = crm(engine, 11_500).await;
        let place = engine.place();
        let state = place.state().await;
        let settings = mapped(&crm, "Ulm", allowed);
        polled(&crm, &state, &settings, 0).await.unwrap();
        statuses(&state, &[(LeadStatus::Pending, 11_500)]).await;
        crm.sql("update leads set town = 'Bonn'").await;
        refuse_lead(&place, "8199").await;
        let day = 24 * 60;
        polled(&crm, &state, &settings, day).await.expect_err("the state does not take the last lead");
        assert!(held::count_staged(&state).await.unwrap().all > 0, "some thousand were written down");
        accept_leads(&place).await;
        polled(&crm, &state, &settings, day + 1).await.unwrap();
        statuses(&state, &[(LeadStatus::Pending, 11_500)]).await;
        assert!(held::standing(&state).await.unwrap().is_none());
        assert_eq!(held::count_staged(&state).await.unwrap().all, 0);

        // With a lower limit by then, all are held.
        crm.sql("update leads set town = 'Kiel'").await;
        refuse_lead(&place, "8199").await;
        polled(&crm, &state, &settings, 3 * day).await.expect_err("the state does not take the last lead");
        accept_leads(&place).await;
        polled(&crm, &state, &mapped(&crm, "Ulm", 9000), 3 * day + 1).await.unwrap();
        statuses(&state, &[(LeadStatus::Held, 11_500)]).await;
        let hold = held::standing(&state).await.unwrap().unwrap();
        assert_eq!(hold.reason, HoldReason::TooManyChanges);
        assert_eq!(held::count_staged(&state).await.unwrap().all, 0);
    }
}

async fn what_holds_a_single_lead_is_not_let_go_with_a_poll(engine: Engine) {
    let place = engine.place();
    let state = place.state().await;
    deliver(&state, desired("1", "a"), 0).await;
    write(&state, &[desired("1", "b")], 1).await;
    let unknown = claim_one(&state, 2).await;
    record(&state, &[finished(&unknown, OutcomeClass::Ambiguous, NextStep::Hold, 3)]).await;
    // A poll that judges its sends at its end.
    let staged = |id, body| LeadChange { hold_reason: Some(HoldReason::Staged), ..desired(id, body) };
    write(&state, &[staged("1", "c"), staged("2", "a")], 4).await;
    assert_eq!(held::send_staged(&state, at(5)).await.unwrap(), 1);
    assert_eq!(row(&state, "1").await.hold_reason.as_deref(), Some("ambiguous"));
    assert_eq!(claim_one(&state, 6).await.lead, id("2"));
    // A first run with a configured decision does not mention it either.
    let crm = crm(engine, 0).await;
    crm.sql("delete from leads; insert into leads values (1, 'Town', '2026-06-01 10:00:00')").await;
    polled(&crm, &state, &mapped(&crm, "Ulm", 0), 1).await.unwrap();
    assert_eq!(row(&state, "1").await.status, "held");
    let none = delivery::record_and_claim(
        &state,
        &[],
        ClaimRequest { leads: 10, admit: &ClaimFilter::Everybody, ..ClaimRequest::NOTHING },
        at(900),
        LEASE,
    )
    .await
    .unwrap();
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn what_an_old_mapping_made_is_not_sent_after_the_restart_even_while_the_source_is_away() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let cluster = Cluster::private();
    let database = cluster.database();
    database.sql(
        "create table leads (id bigint primary key, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    database.sql("insert into leads select i, 'Ann', 'Bell', 'ann' || i || '@example.com', 'Rae', 0 from generate_series(1, 5) i");
    let endpoint = StandIn::start(|request| Reaction::status(if request.body.contains("Old") { 503 } else { 200 }));
    let mut scene = Scene::without_source(&endpoint.url());
    scene.set_text("source", "url", &database.url).set("lead", "leadSource", "{ value = \"Old\" }");
    scene.set("delivery.breaker", "failures", "2");
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    let before = endpoint.requests().len();
    cluster.stop();
    scene.set("lead", "leadSource", "{ value = \"New\" }");
    let mut daemon = scene.cli().spawn(&["run"]);
    daemon.wait_for_line("the source is away; waiting for it", PATIENCE);
    cluster.start();
    scene.wait_for_status("all in step", PATIENCE, |status| status["leads"]["in_sync"] == 5);
    daemon.kill();
    let after = endpoint.requests().split_off(before);
    assert!(after.iter().all(|received| received.request.json()["leadSource"] == "New"), "{after:#?}");
    assert_eq!(after.len(), 5);
}
