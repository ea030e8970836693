//! A source that has lost most of its leads: no lead counts as gone and no person is stopped before the operator approves
//! it; when the rows are back, the leads are as before.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::lead_row::at;
use crate::support::reading;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;
use conversica_sync::config::ServiceSettings;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::poll::poll;
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::state_db::StateDb;

blocking_on_both_engines!(
    most_rows_deleted_are_held_and_an_approval_stops_whoever_conversica_knows,
    by_default_an_approval_sends_nothing_for_rows_that_are_gone,
    an_emptied_table_is_held_and_baseline_sends_nothing,
    a_table_swapped_for_one_with_other_keys_contacts_nobody_anew,
    other_keys_and_another_mapping_at_once_contact_nobody_anew,
    a_lost_filter_column_is_held,
    rows_that_come_back_end_the_hold_and_every_lead_stands_where_it_stood,
    withdrawals_flow_while_the_source_is_shrunk,
    half_of_the_leads_or_a_single_one_or_a_guard_that_is_off_hold_nothing,
    a_kill_in_the_middle_of_a_shrinking_compare_stops_nobody,
    what_was_shown_stays_shown_through_later_compares,
    a_decision_about_some_leaves_the_others_held,
    the_daemon_goes_on_by_itself_when_the_rows_are_back,
);

mod in_process {
    use super::while_it_is_shrunk_everything_is_compared_every_five_minutes;

    crate::support::engine::on_both_engines!(while_it_is_shrunk_everything_is_compared_every_five_minutes);
}

/// All leads are in sync; the settings send a stop for each lead whose row goes.
fn settled(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), leads);
    scene.set_text("source", "on_delete", "stop_messaging");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), leads as usize);
    scene
}

#[track_caller]
fn held(status: &Value, leads: u32) {
    let hold = &status["hold"];
    assert_eq!((&hold["reason"], &hold["leads"]), (&json!("source_shrank"), &json!(leads)), "{status:#}");
    assert_eq!(status["leads"]["held"], leads, "{status:#}");
    assert_eq!(status["leads"]["gone"], 0, "{status:#}");
}

fn stops(endpoint: &StandIn) -> usize {
    endpoint.requests().iter().filter(|received| received.request.json()["stopMessaging"] == true).count()
}

#[track_caller]
fn shown(scene: &Scene) -> String {
    scene.run(&["plan", "--json"]).expect_code(4).json()["held"]["shown"].as_str().expect("a set").to_owned()
}

fn most_rows_deleted_are_held_and_an_approval_stops_whoever_conversica_knows(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 10);
    scene.crm("delete from leads where id <= 6; update leads set first_name = 'Zoe' where id = 7");
    scene.add(11, 11);
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!((&plan["hold"], &plan["stop"], &plan["gone"]), (&json!("source_shrank"), &json!(6), &json!(6)));
    for _ in 0..2 {
        held(&scene.run(&["once", "--json"]).expect_code(4).json(), 8);
    }
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!((&plan["hold"], &plan["stop"]), (&json!("source_shrank"), &json!(6)));
    let listed = scene.run(&["leads", "--status", "held", "--reason", "source_shrank", "--json"]).expect_code(0).json();
    assert_eq!(listed["total"], 8);
    let text = scene.run(&["status"]).expect_code(4);
    assert!(text.stdout.contains("HELD (source_shrank)") && text.stdout.contains("missing from the source"), "{text}");
    scene.add(12, 12);
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 9);
    assert_eq!(endpoint.answered(), 10, "nothing leaves, and what comes later joins");

    let asked = scene.run(&["approve"]).expect_code(2);
    assert!(asked.stderr.contains("6 leads are gone from the source: Conversica is told to stop"), "{asked}");
    assert!(asked.stderr.contains("Send 3 leads") && asked.stderr.contains("2 people will be contacted"), "{asked}");
    let approved = scene.run(&["approve", "--yes"]).expect_code(0);
    assert!(
        approved.stdout.contains("6 leads are gone") && approved.stdout.contains("3 leads will be sent"),
        "{approved}"
    );
    for _ in 0..2 {
        scene.run(&["once"]).expect_code(0);
    }
    assert_eq!((endpoint.answered(), stops(&endpoint)), (19, 6));
    for id in 1..=6 {
        let bodies = endpoint.bodies_of(&id.to_string());
        let mut expected = bodies[0].clone();
        expected["stopMessaging"] = json!(true);
        assert_eq!(bodies[1..], [expected]);
    }
    let status = scene.status();
    assert_eq!(
        (&status["leads"]["gone"], &status["leads"]["in_sync"], &status["hold"]),
        (&json!(6), &json!(6), &Value::Null)
    );
}

fn by_default_an_approval_sends_nothing_for_rows_that_are_gone(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = settled(engine, &endpoint, 5);
    scene.set_text("source", "on_delete", "ignore");
    scene.crm("delete from leads where id > 1");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 4);
    let asked = scene.run(&["approve"]).expect_code(2);
    assert!(asked.stderr.contains("4 leads are gone from the source: nothing is sent"), "{asked}");
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.set_text("source", "on_delete", "stop_messaging");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((endpoint.answered(), &status["leads"]["gone"]), (5, &json!(4)), "decided is decided");
}

fn an_emptied_table_is_held_and_baseline_sends_nothing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 5);
    scene.crm("delete from leads");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 5);
    let done = scene.run(&["baseline", "--yes"]).expect_code(0);
    assert!(done.stdout.contains("5 leads are gone from the source: nothing is sent"), "{done}");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((endpoint.answered(), &status["leads"]["gone"]), (5, &json!(5)));
    // The state still knows the content that Conversica holds.
    scene.add(1, 5);
    scene.crm("update leads set first_name = 'Zoe' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (6, 2));
}

fn a_table_swapped_for_one_with_other_keys_contacts_nobody_anew(engine: Engine) {
    for (limit, leads) in [("1000", 20), ("0", 20), ("5", 20), ("0", 11_000)] {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::on(engine, &endpoint.url(), leads);
        scene.set_text("source", "on_delete", "stop_messaging").set("safety", "approve_above", limit);
        scene.set_text("safety", "first_run", "baseline");
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set id = id + 100000");
        held(&scene.run(&["once", "--json"]).expect_code(4).json(), 2 * leads);
        // The keys change again: the leads of the second keys were never contacted, and are not missed.
        scene.crm("update leads set id = id + 100000");
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["leads"]["held"], &status["leads"]["gone"]), (&json!(2 * leads), &json!(leads)));
        scene.crm("update leads set id = id - 200000");
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!((&status["leads"]["assumed"], &status["leads"]["held"]), (&json!(leads), &json!(0)), "{status:#}");
        assert_eq!(endpoint.connections(), 0, "limit {limit}, {leads} leads");
    }
}

fn other_keys_and_another_mapping_at_once_contact_nobody_anew(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 20);
    scene.set_text("safety", "first_run", "baseline").set("safety", "approve_above", "0");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set id = id + 100000");
    scene.set_text("lead", "leadSource", "owner_name");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 40);
    assert_eq!(endpoint.connections(), 0);
}

fn a_lost_filter_column_is_held(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = settled(engine, &endpoint, 10);
    scene.set_text("source", "where", "conversation = 'Nobody'");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 10);
    scene.set("source", "where", "");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((endpoint.answered(), &status["leads"]["in_sync"]), (10, &json!(10)));
}

fn rows_that_come_back_end_the_hold_and_every_lead_stands_where_it_stood(engine: Engine) {
    let endpoint = StandIn::start(|request| Reaction::status(if request.body.contains("Refused") { 400 } else { 200 }));
    let mut scene = settled(engine, &endpoint, 10);
    scene.crm("update leads set first_name = 'Refused' where id = 2; update leads set email = null where id = 3");
    scene.run(&["once"]).expect_code(3);
    let before = scene.state("select id || ' ' || status || ' ' || due_at from lead order by id");
    scene.crm("create table away as select * from leads where id <= 8; delete from leads where id <= 8");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 8);
    scene.add(11, 11);
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 9);
    scene.crm("update away set first_name = 'Zoe' where id = 4; insert into leads select * from away where id > 1");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!((&plan["hold"], &plan["stop"]), (&Value::Null, &json!(1)), "{plan:#}");
    let sent = endpoint.requests().len();
    let status = scene.run(&["once", "--json"]).expect_code(3).json();
    assert_eq!((&status["hold"], &status["leads"]["gone"]), (&Value::Null, &json!(1)), "{status:#}");
    let of_these = |lines: &[String]| {
        let lines = lines.iter().filter(|line| !["1 ", "11", "4 "].contains(&&line[..2]));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    let after = scene.state("select id || ' ' || status || ' ' || due_at from lead order by id");
    assert_eq!(of_these(&after), of_these(&before));
    let later: Vec<_> = endpoint.requests()[sent..].iter().map(|r| r.request.id.clone().unwrap()).collect();
    assert_eq!(later.len(), 3, "the one that is really gone, the one that changed, the one that joined: {later:?}");
    assert_eq!(stops(&endpoint), 1);
    scene.set("safety", "approve_above", "2");
    scene.crm("delete from leads where id <= 8");
    scene.run(&["once"]).expect_code(4);
    scene.add(12, 14);
    scene.run(&["once"]).expect_code(4);
    scene.crm("insert into leads select * from away where id > 1");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!(
        (&status["hold"]["reason"], &status["hold"]["leads"]),
        (&json!("too_many_changes"), &json!(3)),
        "{status:#}"
    );
}

fn withdrawals_flow_while_the_source_is_shrunk(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 10);
    scene.crm("create table away as select * from leads where id <= 8; delete from leads where id <= 8");
    scene.crm("update leads set opt_out = 1 where id = 9");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 8);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("9").len()), (11, 2));
    // The row returns with a withdrawal of consent.
    scene.crm("update away set opt_out = 1; insert into leads select * from away where id = 3");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), 7);
    assert_eq!((endpoint.answered(), &endpoint.bodies_of("3")[1]["optOut"]), (12, &json!(true)));
}

fn half_of_the_leads_or_a_single_one_or_a_guard_that_is_off_hold_nothing(engine: Engine) {
    for (leads, keep, share, gone) in [(10, 5, "0.5", 5), (1, 0, "0.5", 1), (10, 0, "0", 10), (10, 9, "1.0", 1)] {
        let endpoint = StandIn::accepting();
        let mut scene = settled(engine, &endpoint, leads);
        scene.set("safety", "source_shrinks_below", share);
        scene.crm(&format!("delete from leads where id > {keep}"));
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!((&status["leads"]["gone"], stops(&endpoint)), (&json!(gone), gone as usize), "{leads} {share}");
    }
}

fn a_kill_in_the_middle_of_a_shrinking_compare_stops_nobody(engine: Engine) {
    const LEADS: u32 = 30_000;
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), LEADS);
    scene.set_text("source", "on_delete", "stop_messaging").set_text("safety", "first_run", "baseline");
    scene.run(&["once"]).expect_code(0);
    scene.crm("create table away as select * from leads where id > 10; delete from leads where id > 10");
    scene.killed_daemon("the first leads held", || {
        scene.state("select id from lead where status = 'held' and status <> 'in_sync' limit 1").len() == 1
    });
    let status = scene.status();
    assert_eq!((&status["leads"]["gone"], &status["leads"]["pending"]), (&json!(0), &json!(0)), "{status:#}");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), LEADS - 10);
    scene.crm("insert into leads select * from away");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["leads"]["assumed"], endpoint.connections()), (&json!(LEADS), 0));
}

fn what_was_shown_stays_shown_through_later_compares(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 6);
    scene.crm("delete from leads where id <= 4");
    scene.run(&["once"]).expect_code(4);
    let set = shown(&scene);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(shown(&scene), set);
    scene.add(7, 7);
    scene.run(&["once"]).expect_code(4);
    let refused = scene.run(&["approve", "--shown", &set, "--yes"]).expect_code(4);
    assert!(refused.stdout.contains("4 leads then, 5 now"), "{refused}");
    assert_eq!(endpoint.answered(), 6);
    scene.run(&["approve", "--shown", &shown(&scene), "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), stops(&endpoint)), (11, 4));
}

fn a_decision_about_some_leaves_the_others_held(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 10);
    scene.crm("delete from leads where id <= 6");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "1", "2", "3", "--yes"]).expect_code(0);
    for _ in 0..2 {
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["hold"]["leads"], &status["leads"]["gone"]), (&json!(3), &json!(3)), "{status:#}");
    }
    assert_eq!(stops(&endpoint), 3);
}

fn the_daemon_goes_on_by_itself_when_the_rows_are_back(engine: Engine) {
    let soon = Duration::from_secs(20);
    let endpoint = StandIn::accepting();
    let scene = settled(engine, &endpoint, 10);
    let daemon = scene.daemon();
    scene.crm("create table away as select * from leads; delete from leads");
    scene.wait_for_status("the hold", soon, |status| status["hold"]["leads"] == 10);
    scene.crm("insert into leads select * from away; update leads set first_name = 'Zoe' where id = 5");
    wait_until("the change at the endpoint", soon, || endpoint.bodies_of("5").len() == 2);
    scene.wait_for_status("everybody in step", soon, |status| status["leads"]["in_sync"] == 10);
    assert_eq!((endpoint.answered(), &scene.status()["hold"]), (11, &Value::Null));
    drop(daemon);
}

async fn while_it_is_shrunk_everything_is_compared_every_five_minutes(engine: Engine) {
    let (crm_place, place) = (engine.place(), engine.place());
    crm_place.sql("create table leads (id integer primary key, town text, changed text)").await;
    let rows = |changed: &str| {
        let rows: Vec<String> = (1..=6).map(|id| format!("({id}, 'Town {id}', '{changed}')")).collect();
        format!("insert into leads values {}", rows.join(", "))
    };
    crm_place.sql(&rows("2027-01-15 07:00:00")).await;
    let state = place.state().await;
    let settings: ServiceSettings =
        reading::settings(&crm_place, "table = 'leads'\nkey = 'id'\nchanged_at = 'changed'", "city = 'town'");
    let crm = ConnectedCrm::open(&settings).await.unwrap();
    let at_minute = async |minute: i64, reach: PollReach| {
        let now = at(0) + TimeDelta::minutes(minute);
        poll(PollContext { crm: &crm, state: &state, settings: &settings, tally: &RunTally::default(), now }, reach)
            .await
            .unwrap();
        control::read::<LastPoll>(&state).await.unwrap().unwrap().kind
    };
    assert_eq!(at_minute(0, PollReach::AsDue).await, "full");
    assert_eq!(at_minute(6, PollReach::AsDue).await, "incremental");
    crm_place.sql("delete from leads where id > 1").await;
    assert_eq!(at_minute(7, PollReach::Everything).await, "full");
    assert_eq!(held_for_it(&state).await, 5);
    assert_eq!(at_minute(11, PollReach::AsDue).await, "incremental");
    // The rows return with a new stamp: an incremental poll sees them, but cannot know that all are back.
    crm_place.sql("delete from leads").await;
    crm_place.sql(&rows("2027-01-15 08:11:00")).await;
    assert_eq!(at_minute(11, PollReach::AsDue).await, "incremental");
    assert_eq!(held_for_it(&state).await, 5);
    assert_eq!(at_minute(12, PollReach::AsDue).await, "full");
    assert_eq!(held_for_it(&state).await, 0);
    assert_eq!(at_minute(18, PollReach::AsDue).await, "incremental");
}

async fn held_for_it(state: &StateDb) -> i64 {
    use conversica_sync::rules::hold_reason::HoldReason;
    use conversica_sync::store::held::HeldSelection;
    use conversica_sync::store::held::look;
    look(state, &HeldSelection::reason(HoldReason::SourceShrank)).await.unwrap().leads
}
