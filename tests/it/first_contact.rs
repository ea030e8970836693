//! The last look before first contacts: several leads of one address, the first leads of a conversation, and leads that grow old
//! while they wait.

use std::time::Duration;

use chrono::Utc;
use conversica_sync::conversica::post::PostKind;
use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::with_receiver;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    of_one_address_the_earliest_is_contacted_and_the_others_wait,
    of_one_address_the_newest_is_contacted,
    a_setting_that_is_made_later_knows_the_people_from_before,
    a_shared_placeholder_of_hundreds_costs_one_contact,
    a_lead_that_waits_behind_one_that_will_not_go_is_contacted,
    the_address_that_conversica_has_counts_after_it_has_changed,
    an_approval_of_the_first_run_leaves_the_last_look_in_place,
    an_approval_ends_one_hold_of_the_last_look_and_not_the_next,
    leads_that_a_baseline_assumes_to_be_known_are_not_looked_at,
    so_many_go_first_until_conversica_works_one_of_them,
    canaries_that_are_refused_or_fail_leave_their_place_to_others,
    conversations_worked_before_the_upgrade_have_no_canaries,
    a_conversation_without_a_sign_of_life_is_named_after_twelve_hours,
    a_lead_that_grows_old_while_it_waits_is_held_before_its_request,
);

fn held(scene: &Scene) -> Value {
    let leads = scene.run(&["leads", "--status", "held", "--json"]).json();
    let leads = leads["leads"].as_array().expect("a list").iter();
    leads.map(|lead| json!([lead["id"], lead["hold_reason"]])).collect()
}

fn sent(endpoint: &StandIn) -> Vec<String> {
    let requests = endpoint.requests();
    let mut ids: Vec<String> = requests.iter().map(|request| request.request.id.clone().expect("an id")).collect();
    ids.sort_by_key(|id| id.parse::<u32>().expect("a number"));
    ids.dedup();
    ids
}

fn of_one_address_the_earliest_is_contacted_and_the_others_wait(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 12);
    scene.set_text("safety", "duplicates", "hold");
    scene.crm("update leads set email = 'ann@example.com' where id in (2, 10)");
    scene.crm("update leads set email = ' Ann@EXAMPLE.com' where id = 12");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!(status["hold"]["reason"], "duplicate_person", "{status:#}");
    assert_eq!(held(&scene), json!([["10", "duplicate_person"], ["12", "duplicate_person"]]));
    assert_eq!(sent(&endpoint).len(), 10);
    let said = scene.run(&["status"]).expect_code(4).stdout;
    assert!(said.contains("another lead has their e-mail address"), "{said}");
    // The row says more, and is still a duplicate.
    scene.crm("update leads set last_name = 'Bello' where id in (2, 10)");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), endpoint.bodies_of("10").len()), (2, 0), "a known person is updated");
    // A person decides.
    scene.run(&["approve", "12", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("12").len(), held(&scene)), (1, json!([["10", "duplicate_person"]])));
    // The address was wrong.
    scene.crm("update leads set email = 'ten@example.com' where id = 10");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("10").len(), 1);
    // Somebody who is known already comes again.
    scene.add(13, 13);
    scene.crm("update leads set email = 'ann@example.com' where id = 13");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(held(&scene), json!([["13", "duplicate_person"]]));
    // The setting ends it.
    scene.set_text("safety", "duplicates", "send");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("13").len(), 1);
    assert_eq!(scene.state("select cast(count(*) as text) from lead_address"), ["0"]);
}

fn of_one_address_the_newest_is_contacted(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    scene.crm("alter table leads add column created text");
    scene.set_text("safety", "duplicates", "newest").set_text("lead", "date", "created");
    scene.crm("update leads set email = 'ann@example.com' where id in (1, 2, 3)");
    scene.crm("update leads set created = '2026-01-0' || (4 - id) || ' 00:00:00' where id in (1, 2)");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(sent(&endpoint), ["1", "4", "5"], "the third has no date");
    assert_eq!(held(&scene), json!([["2", "duplicate_person"], ["3", "duplicate_person"]]));
    scene.run(&["baseline", "--reason", "duplicate_person", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent(&endpoint).len(), 3);
}

fn a_setting_that_is_made_later_knows_the_people_from_before(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.set_text("safety", "duplicates", "hold");
    scene.add(4, 5);
    let address = scene.crm("select email from leads where id = 2").remove(0);
    scene.crm(&format!("update leads set email = '{address}' where id = 4"));
    scene.run(&["once"]).expect_code(4);
    assert_eq!(held(&scene), json!([["4", "duplicate_person"]]));
    // Erased people leave nothing behind.
    scene.run(&["lead", "5", "--erase", "--conversica-told", "--yes"]).expect_code(0);
    assert_eq!(scene.state("select id from lead_address order by id"), ["1", "2", "3", "4"]);
}

fn a_shared_placeholder_of_hundreds_costs_one_contact(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 300);
    scene.set_text("safety", "duplicates", "hold").set("safety", "approve_above", "0");
    scene.crm("update leads set email = 'none@example.com' where id > 2");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["leads"]["held"], sent(&endpoint)), (&json!(297), vec!["1".into(), "2".into(), "3".into()]));
}

/// Ids 1 to 6 in conversation A, 7 and 8 in B.
fn scene_of_canaries(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 8);
    scene.crm("update leads set conversation = case when id > 6 then 'B' else 'A' end");
    scene.set_text("lead", "conversationId", "conversation").set("safety", "canary_leads", "2");
    scene
}

fn so_many_go_first_until_conversica_works_one_of_them(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene_of_canaries(engine, &endpoint);
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("canary"), &json!(4)), "{status:#}");
    let first = sent(&endpoint);
    assert_eq!((first.len(), &first[2..]), (4, &["7".to_owned(), "8".to_owned()][..]), "two of each");
    // Taken is not worked.
    scene.hear(&[json!({"apiVersion": "7.2", "id": first[0], "conversationStage": "Preparing Lead"})]);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(sent(&endpoint).len(), 4);
    // Known people go on, and whoever opts out.
    scene.crm("update leads set last_name = 'Bello' where id = 7");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.bodies_of("7").len(), 2);
    // One of the others is let go by hand.
    let waits = held(&scene)[0][0].as_str().expect("an id").to_owned();
    scene.run(&["approve", &waits, "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of(&waits).len(), sent(&endpoint).len()), (1, 5));
    // A sign of life of B does not count for A.
    scene.hear(&[json!({"apiVersion": "7.2", "id": "8", "conversationStage": "Messaging"})]);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(sent(&endpoint).len(), 5);
    let message = json!({"apiVersion": "7.2", "id": first[1], "clientId": "", "action": "sent", "subject": "Hello",
        "body": "Hi", "date": "2026-01-01T00:00:00+00:00"});
    scene.post(PostKind::Message, &[message]);
    scene.with_state(async |db| crate::support::hearing::apply_all(db, Utc::now()).await);
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["leads"]["in_sync"], sent(&endpoint).len()), (&json!(8), 8), "{status:#}");
    scene.add(9, 30);
    scene.crm("update leads set conversation = 'A' where id > 8");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent(&endpoint).len(), 30, "both conversations are known to be worked");
}

fn canaries_that_are_refused_or_fail_leave_their_place_to_others(engine: Engine) {
    let endpoint = StandIn::start(|request| if request.n <= 3 { Reaction::status(400) } else { Reaction::accept() });
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.crm("delete from leads where id > 6");
    scene.set("delivery", "concurrency", "1");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    let leads = &status["leads"];
    let counts = (&leads["rejected"], &leads["in_sync"], &leads["held"]);
    assert_eq!(counts, (&json!(3), &json!(2), &json!(1)), "{status:#}");
    scene.set("safety", "canary_leads", "0");
    scene.run(&["once"]).expect_code(3);
    assert_eq!(sent(&endpoint).len(), 6, "the setting ends the hold");
}

fn conversations_worked_before_the_upgrade_have_no_canaries(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.set("safety", "canary_leads", "0");
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"apiVersion": "7.2", "id": "1", "firstMessageDate": "2026-01-01T00:00:00+00:00"})]);
    // As an earlier version leaves the state.
    scene.state("delete from conversation_progress");
    scene.state("delete from control where name = 'conversation_progress'");
    scene.set("safety", "canary_leads", "2").add(9, 12);
    scene.crm("update leads set conversation = case when id > 10 then 'B' else 'A' end where id > 8");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!(held(&scene), json!([["11", "canary"], ["12", "canary"]]), "{status:#}");
    assert_eq!(scene.state("select cast(contacted as text) from conversation_progress order by name"), ["8", "2"]);
}

fn a_lead_that_grows_old_while_it_waits_is_held_before_its_request(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 0);
    scene.crm("alter table leads add column created text");
    scene.run(&["once"]).expect_code(0);
    scene.add(1, 3);
    let inquired = Utc::now();
    scene.crm(&format!("update leads set created = '{}' where id < 3", inquired.format("%Y-%m-%d %H:%M:%S%.6f")));
    scene.set_text("safety", "new_lead_older_than", "6s").set_text("lead", "date", "created");
    scene.run(&["pause", "--reason", "a holiday"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((held(&scene), endpoint.answered()), (json!([]), 0), "not too old yet");
    wait_until("six seconds", Duration::from_secs(20), || (Utc::now() - inquired).num_seconds() >= 6);
    scene.run(&["unpause"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((held(&scene), sent(&endpoint)), (json!([["1", "stale_lead"], ["2", "stale_lead"]]), vec!["3".into()]));
    scene.run(&["approve", "1", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(sent(&endpoint), ["1", "3"], "approved for good");
}

fn a_conversation_without_a_sign_of_life_is_named_after_twelve_hours(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.set("safety", "canary_leads", "0");
    scene.run(&["once"]).expect_code(0);
    let later =
        |scene: &Scene| scene.state("update conversation_progress set contacted_at = contacted_at - 43260000000");
    later(&scene);
    let silent = |scene: &Scene| scene.run(&["status", "--json"]).expect_code(0).json()["silent_conversations"].clone();
    assert_eq!(silent(&scene), json!([]), "without a receiver there are no signs");
    with_receiver(&mut scene);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(silent(&scene), json!([]), "with a new receiver there were none");
    scene.state("update control set at = at - 43260000000 where name = 'receiver'");
    scene.hear(&[json!({"apiVersion": "7.2", "id": "8", "conversationStatus": "First Message Schedule"})]);
    let status = scene.run(&["status", "--json"]).expect_code(0).json();
    let silent = &status["silent_conversations"];
    assert_eq!((&silent[0]["name"], &silent[0]["contacted"], &silent[1]), (&json!("A"), &json!(6), &Value::Null));
    let all = status["conversations"].as_array().expect("a list");
    assert_eq!((all.len(), &all[1]["name"], all[1]["worked_at"].is_string()), (2, &json!("B"), true), "{all:#?}");
    let said = scene.run(&["status"]).expect_code(0).stdout;
    assert!(said.contains("SILENT conversation A: 6 contacted since"), "{said}");
    scene.hear(&[json!({"apiVersion": "7.2", "id": "1", "lastMessageDate": "2026-01-01T00:00:00+00:00"})]);
    assert!(!scene.run(&["status"]).expect_code(0).stdout.contains("SILENT"));
}

fn a_lead_that_waits_behind_one_that_will_not_go_is_contacted(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(400),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    scene.set_text("safety", "duplicates", "hold");
    scene.run(&["once"]).expect_code(0);
    scene.add(2, 3);
    scene.crm("update leads set email = 'ann@example.com' where id > 1");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(held(&scene), json!([["3", "duplicate_person"]]));
    // The other one was rejected, so the next look lets this one go.
    scene.state("delete from control where name = 'duplicate_review'");
    let status = scene.run(&["once", "--json"]).expect_code(3).json();
    assert_eq!((&status["leads"]["in_sync"], held(&scene)), (&json!(2), json!([])), "{status:#}");
}

fn the_address_that_conversica_has_counts_after_it_has_changed(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 1);
    scene.set_text("safety", "duplicates", "hold");
    scene.crm("update leads set email = 'ann@example.com'");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set email = 'new@example.com'");
    scene.add(2, 3);
    scene.crm("update leads set email = 'ann@example.com' where id = 2");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(held(&scene), json!([["2", "duplicate_person"]]), "the mailbox had a first contact");
    // The address of a lead that was never contacted is forgotten with it.
    scene.crm("update leads set email = 'other@example.com' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2").len(), 1);
}

fn an_approval_of_the_first_run_leaves_the_last_look_in_place(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    let plan = scene.run(&["plan"]).expect_code(4).stdout;
    assert!(plan.contains("But of each conversation that Conversica has not been seen to work, 2 people"), "{plan}");
    scene.run(&["approve", "--yes"]).expect_code(0);
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("canary"), &json!(4)), "{status:#}");
    assert_eq!(sent(&endpoint).len(), 4);
}

fn leads_that_a_baseline_assumes_to_be_known_are_not_looked_at(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.crm("update leads set email = 'ann@example.com'");
    scene.set_text("safety", "first_run", "baseline").set_text("safety", "duplicates", "hold");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set last_name = 'Bello'");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((sent(&endpoint).len(), held(&scene)), (8, json!([])));
}

fn an_approval_ends_one_hold_of_the_last_look_and_not_the_next(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene_of_canaries(engine, &endpoint);
    scene.crm("update leads set conversation = 'A'; update leads set email = 'ann@example.com' where id in (1, 2)");
    scene.set("conversica", "conversations", r#"["B"]"#).set_text("safety", "duplicates", "hold");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--reason", "unknown_conversation", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.answered(), 2, "an approved name is no sign of life");
    let of = |reason: &str| {
        let held = held(&scene);
        let of_reason = held.as_array().expect("a list").iter().filter(|lead| lead[1] == reason);
        of_reason.map(|lead| lead[0].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("duplicate_person"), of("canary").len()), (vec!["2".to_owned()], 5));
    scene.run(&["approve", "2", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((of("duplicate_person").len(), of("canary").contains(&"2".to_owned())), (0, true));
    scene.run(&["approve", "2", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), of("canary").len()), (1, 5));
}
