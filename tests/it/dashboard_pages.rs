//! The pages beside the overview and the leads, over HTTP: deliveries of a lead, conversations, what a decision comes to, the list of
//! decisions, how to end a halt, settings, charts, posts and alerts.

use std::time::Duration;

use serde_json::json;

use crate::support::browsing::{Browsing, Page};
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "a token of forty characters, or nearly so";

blocking_on_both_engines!(
    each_delivery_is_shown_with_what_was_sent_and_what_was_answered,
    a_manager_sees_who_is_hot_who_replied_and_who_opted_out,
    a_decision_shows_what_it_comes_to_and_keeps_the_comment,
    posts_that_cannot_be_read_have_their_list,
);

#[track_caller]
fn says(page: &Page, words: &[&str]) {
    page.is_strict();
    for words in words {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
}

fn signed_in(scene: &mut Scene) -> (Watched, Browsing) {
    scene.set_text("admin", "token", TOKEN);
    let watched = Watched::start(scene);
    let mut browsing = Browsing::of(&watched.address);
    browsing.sign_in(TOKEN);
    (watched, browsing)
}

fn each_delivery_is_shown_with_what_was_sent_and_what_was_answered(engine: Engine) {
    let endpoint = StandIn::start(|request| {
        let odd = request.json()["lastName"] == "Odd";
        if odd { Reaction::status(422).body("the <b>name</b> looks odd") } else { Reaction::accept() }
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    let (watched, browsing) = signed_in(&mut scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    scene.crm("update leads set last_name = 'Odd' where id = 2");
    scene.wait_for_status("the rejection", SOON, |status| status["leads"]["rejected"] == 1);
    scene.crm("update leads set last_name = 'Even' where id = 2");
    scene.wait_for_status("it is fixed", SOON, |status| status["leads"]["in_sync"] == 2);
    let page = browsing.get("/leads/2");
    says(
        &page,
        &[
            "Ann2 Even · ann2@example.com · rep Rae Rep · Inbound Leads",
            "Deliveries",
            "HTTP 422",
            "Conversica said: “the <b>name</b> looks odd”",
            "lastName Odd",
            "lastName Bell",
            "lastName Even",
        ],
    );
    assert_eq!(page.body.matches("<details class=\"attempt\">").count(), 3, "{}", page.body);
    assert!(page.body.contains("data-local=\"20"), "the local time is put beside it: {}", page.body);
    assert!(!page.body.contains("<b>name"), "{}", page.body);
    let asked = browsing.get(page.links("/act/resend").first().expect("a way to send it again"));
    says(&asked, &["Send 1 lead again? 1 person that Conversica has accepted before."]);
    assert_eq!(browsing.post("/act/resend", &asked.form("/act/resend").pairs(), &[]).status, 303);
    crate::support::wait::wait_until("it is sent again", SOON, || endpoint.bodies_of("2").len() == 4);
    watched.end();
}

fn a_manager_sees_who_is_hot_who_replied_and_who_opted_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 6);
    scene.crm("update leads set owner_name = 'Sam <Sales>' where id > 3; update leads set conversation = 'Lease End' where id = 1");
    scene.set_text("lead", "conversationId", "conversation");
    scene.set_text("source", "row_url", "https://crm.example/leads/{id}");
    scene.set_text("admin", "token", TOKEN);
    with_receiver(&mut scene);
    let mut receiver = Receiver::start(&scene);
    let line = receiver.daemon.wait_for_line("\"message\":\"admin listening\"", SOON);
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of the log");
    let mut browsing = Browsing::of(line["address"].as_str().expect("an address"));
    browsing.sign_in(TOKEN);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 6);
    says(&browsing.wait_for("/conversations", "Nothing was heard from Conversica in this time."), &["Conversations"]);
    let now = chrono::Utc::now();
    let ago = |hours: i64| (now - chrono::TimeDelta::hours(hours)).to_rfc3339();
    for (id, keys) in [
        (
            "1",
            json!({"hotLead": true, "hotLeadDate": ago(2), "conversationStage": "Messaging", "firstMessageDate": ago(0)}),
        ),
        ("2", json!({"leadAtRisk": true, "leadAtRiskDate": ago(3), "conversationStage": "Messaging"})),
        ("3", json!({"actionRequired": true, "actionRequiredDate": ago(4), "conversationStage": "Conversica Stopped"})),
        (
            "4",
            json!({"lastResponseDate": ago(5), "conversationStatus": "Received Response", "conversationStage": "Messaging"}),
        ),
        ("5", json!({"doNotEmail": true, "conversationStage": "Lead Stopped"})),
        ("6", json!({"hotLead": true, "hotLeadDate": ago(24 * 20)})),
    ] {
        let mut body = keys;
        body["id"] = json!(id);
        assert_eq!(receiver.post("/conversica/lead", body.to_string()).status, 200);
    }
    let page = browsing.wait_for("/conversations?days=7", "people in conversations 6");
    let page = if page.text().contains("Opted out 1") {
        page
    } else {
        browsing.wait_for("/conversations?days=7", "Opted out 1")
    };
    for said in [
        "replied 1 (17 %)",
        "Hot leads 1 They want to talk: call them. Ann1 Bell",
        "Action required 1",
        "At risk 1",
        "Messaging 3",
        "Lease End 1 0 1 0 0 0",
        "Sam <Sales> 3 1 0 0 0 1",
        "half within",
    ] {
        assert!(page.text().contains(said), "{said}: {}", page.text());
    }
    assert!(page.body.contains("href=\"https://crm.example/leads/1\""), "{}", page.body);
    assert!(page.body.contains("href=\"/leads/1#said-title\""), "{}", page.body);
    assert!(!page.body.contains("<Sales>"), "{}", page.body);
    let month = browsing.wait_for("/conversations?days=30", "Hot leads 2");
    assert!(month.text().contains("people in conversations 6"), "{}", month.text());
    assert!(browsing.get("/leads/1").body.contains("href=\"https://crm.example/leads/1\""));
    assert_eq!(Browsing::of(&browsing.address).get("/conversations").status, 303, "people are for those who sign in");
    receiver.end();
}

fn a_decision_shows_what_it_comes_to_and_keeps_the_comment(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    scene.set("safety", "approve_above", "2");
    let (watched, browsing) = signed_in(&mut scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 4);
    scene.crm(
        "update leads set owner_name = 'Sam Sales' where id <= 3; update leads set first_name = 'Zed' where id = 1; \
         insert into leads (id, first_name, last_name, email, owner_name) values (9, 'New', 'Person', 'n@example.com', 'Rae')",
    );
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 4);
    let asked = browsing.get("/act/approve");
    says(
        &asked,
        &[
            "Effect",
            "What changes at Conversica repName 3 firstName 1",
            "People who are contacted for the first time New Person (9)",
            "repName Rae Rep Sam Sales",
        ],
    );
    let form = asked.form("/act/approve");
    let mut pairs = form.pairs();
    pairs.retain(|(name, _)| *name != "comment");
    pairs.push(("comment", "agreed with <the dealer>"));
    assert_eq!(browsing.post("/act/approve", &pairs, &[]).status, 303);
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == 5);
    let list = browsing.get("/decisions");
    says(&list, &["Approved: sent", "too_many_changes", "dashboard, 127.0.0.1", "agreed with <the dealer>"]);
    assert!(!list.body.contains("<the dealer>"), "{}", list.body);
    says(&browsing.get("/leads/2"), &["agreed with <the dealer>"]);
    let told = scene.run(&["lead", "2", "--json"]).json();
    assert_eq!(told["decisions"][0]["comment"], "agreed with <the dealer>", "{told:#}");
    assert_eq!(Browsing::of(&watched.address).get("/decisions").status, 303);
    watched.end();
}

fn posts_that_cannot_be_read_have_their_list(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set_text("admin", "token", TOKEN);
    with_receiver(&mut scene);
    let mut receiver = Receiver::start(&scene);
    let line = receiver.daemon.wait_for_line("\"message\":\"admin listening\"", SOON);
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of the log");
    let mut browsing = Browsing::of(line["address"].as_str().expect("an address"));
    browsing.sign_in(TOKEN);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 1);
    says(&browsing.get("/posts"), &["Posts that cannot be read None.", "Posts that the CRM has refused None."]);
    assert_eq!(receiver.post("/conversica/message", "{\"id\": \"1\", <i>cut").status, 400);
    let page = browsing.wait_for("/posts", "Post 1 (message)");
    says(&page, &["conversica-sync received replay", "{\"id\": \"1\", <i>cut"]);
    assert!(!page.body.contains("<i>cut"), "{}", page.body);
    receiver.end();
}

#[test]
fn after_a_401_the_first_button_is_how_to_fix_it() {
    let endpoint = StandIn::start(|_| Reaction::status(401).body("Invalid username or password"));
    let mut scene = Scene::new(&endpoint.url(), 3);
    let (watched, browsing) = signed_in(&mut scene);
    let page = browsing.wait_for("/", "Halted: credentials");
    let (help, lift) = (page.body.find("href=\"/halted\""), page.body.find("href=\"/act/resume\""));
    assert!(help.is_some() && help < lift, "{}", page.body);
    assert!(
        page.body.contains("<a class=\"button\" href=\"/halted\">")
            && page.body.contains("<a class=\"button quiet\" href=\"/act/resume\">")
    );
    says(
        &browsing.get("/halted"),
        &["password_file", "systemctl reload conversica-sync", "Each wrong try brings a lock nearer."],
    );
    assert!(Browsing::of(&watched.address).get("/halted").status == 303);
    assert_eq!(endpoint.requests().len(), 1);
    watched.end();
}

#[test]
fn the_settings_show_the_mapping_and_what_a_row_would_make() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.crm("update leads set email = 'nobody' where id = 2");
    scene.set("lead", "leadStatus", "{ column = \"opt_out\", map = { \"0\" = \"New\" } }");
    let (watched, browsing) = signed_in(&mut scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    let sent = endpoint.requests().len();
    says(
        &browsing.get("/settings"),
        &[
            "firstName column first_name",
            "conversationId always “Inbound Leads”",
            "leadStatus column opt_out translated: 0 → New",
        ],
    );
    says(&browsing.get("/settings?id=1"), &["Lead 1", "firstName Ann1", "leadStatus New", "email ann1@example.com"]);
    says(&browsing.get("/settings?id=2"), &["It would not be sent:", "email"]);
    says(&browsing.get("/settings?id=77"), &["The CRM has no row with this id"]);
    let secret = browsing.get("/settings").body;
    assert!(!secret.contains(crate::support::scene::PASSWORD) && !secret.contains(TOKEN));
    assert_eq!(endpoint.requests().len(), sent, "nothing is sent by looking");
    watched.end();
}

#[test]
fn charts_have_ranges_axes_and_answer_times() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 12);
    let (watched, browsing) = signed_in(&mut scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 12);
    for (range, each) in [("hour", "two minutes"), ("day", "an hour"), ("week", "six hours"), ("month", "a day")] {
        let page = browsing.get(&format!("/charts?range={range}"));
        let each = format!("each bar is {each}");
        says(&page, &[&each, "accepted 12", "Half of the answers came within", "(12 attempts)"]);
        assert!(
            page.body.contains("class=\"scale soft\"") && page.body.contains("12 accepted</title>"),
            "{}",
            page.body
        );
    }
    watched.end();
}

#[test]
fn a_retry_of_leads_that_were_replaced_since_they_were_shown_asks_again() {
    let endpoint = StandIn::start(|request| {
        let odd = request.json()["lastName"] == "Odd";
        if odd { Reaction::status(422).body("the name looks odd") } else { Reaction::accept() }
    });
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.crm("update leads set last_name = 'Odd' where id = 1");
    let (watched, browsing) = signed_in(&mut scene);
    scene.wait_for_status("the first is rejected", SOON, |status| status["leads"]["rejected"] == 1);
    let form = browsing.get("/act/retry?status=rejected").form("/act/retry");
    scene.crm("update leads set last_name = 'Bell' where id = 1");
    scene.wait_for_status("the first is right in the CRM", SOON, |status| status["leads"]["in_sync"] == 3);
    scene.crm("update leads set last_name = 'Odd' where id = 2");
    scene.wait_for_status("another is rejected", SOON, |status| status["leads"]["rejected"] == 1);
    let sent = endpoint.requests().len();
    let refused = browsing.post("/act/retry", &form.pairs(), &[]);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("Other leads are stuck than were shown."), "{}", refused.text());
    assert_eq!((scene.status()["leads"]["rejected"].as_i64(), endpoint.requests().len()), (Some(1), sent));
    watched.end();
}
