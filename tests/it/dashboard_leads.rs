//! The page of leads, over HTTP: who they are, how they are found, ordered and paged, and decisions about those that are marked.

use std::time::Duration;

use crate::support::browsing::{Browsing, Page};
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "a token of forty characters, or nearly so";

blocking_on_both_engines!(
    a_lead_is_found_by_its_name_its_address_its_number_and_its_id,
    the_list_is_read_in_both_directions_and_in_every_order,
    a_span_of_time_selects_and_counts,
    the_file_for_spreadsheets_has_every_lead_and_no_formula,
    marked_leads_are_sent_again_and_others_are_not,
    the_people_of_marked_leads_are_never_written_to_again,
);

/// A daemon that has sent its leads, and an operator who may act.
fn working(scene: &mut Scene, leads: u32) -> (Watched, Browsing) {
    scene.set_text("admin", "token", TOKEN);
    let watched = Watched::start(scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == leads);
    let mut browsing = Browsing::of(&watched.address);
    browsing.sign_in(TOKEN);
    (watched, browsing)
}

#[track_caller]
fn says(page: &Page, words: &[&str]) {
    for words in words {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
}

/// The paths of the leads that a page lists, in its order.
fn leads_of(page: &Page) -> Vec<String> {
    page.links("/leads/")
}

fn a_lead_is_found_by_its_name_its_address_its_number_and_its_id(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 60);
    scene.crm("alter table leads add column phone text");
    scene.crm(
        "update leads set first_name = 'Zoë', last_name = 'O''Hara', phone = '(555) 867-5309' where id = 7; \
         update leads set last_name = 'Quimby', email = 'zed@corner.example' where id = 8",
    );
    scene.set_text("lead", "cellPhone", "phone");
    let (watched, browsing) = working(&mut scene, 60);
    for (sought, lead) in [
        ("zo%C3%AB", "/leads/7"),
        ("O%27HARA+zo%C3%AB", "/leads/7"),
        ("5558675309", "/leads/7"),
        ("%2B1+555+867+5309", "/leads/7"),
        ("867-5309", "/leads/7"),
        ("quimby", "/leads/8"),
        ("ZED%40corner.example", "/leads/8"),
        ("ann8+quimby", "/leads/8"),
    ] {
        let page = browsing.get(&format!("/leads?q={sought}"));
        page.is_strict();
        assert_eq!((page.status, leads_of(&page)), (200, vec![lead.to_owned()]), "{sought}: {}", page.text());
        says(&page, &["Leads found for", "1 lead.", "Rae Rep", "Inbound Leads", "Up to date"]);
    }
    assert_eq!(browsing.get("/leads?q=8").location.as_deref(), Some("/leads/8"), "an id leads to its lead");
    let all = browsing.get("/leads?q=example");
    assert_eq!(leads_of(&all).len(), 50);
    says(&all, &["The search has not seen all leads yet."]);
    let rest = browsing.get(&all.links("/leads?q=").pop().expect("a way to go on"));
    assert_eq!(leads_of(&rest).len(), 10);
    assert!(leads_of(&rest).iter().all(|lead| !leads_of(&all).contains(lead)), "{}", rest.text());
    let nobody = browsing.get("/leads?q=bob%25");
    assert_eq!(nobody.status, 404);
    says(&nobody, &["No lead with the id bob% is known, and no name, e-mail address or telephone number fits."]);
    assert_eq!(Browsing::of(&watched.address).get("/leads?q=quimby").status, 303, "people are for those who sign in");
    watched.end();
}

fn the_list_is_read_in_both_directions_and_in_every_order(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 120);
    let (watched, browsing) = working(&mut scene, 120);
    scene.crm("update leads set last_name = 'Changed' where id = 77");
    browsing.wait_for("/leads?status=in_sync&order=newest", "Ann77 Changed");
    let newest = browsing.wait_for("/leads?status=in_sync&order=newest", "120 leads");
    assert_eq!(leads_of(&newest)[0], "/leads/77", "the newest change comes first");
    assert!(newest.body.contains("aria-sort=\"descending\""), "{}", newest.body);
    for order in ["", "&order=newest", "&order=oldest", "&since=2020-01-01&order=id"] {
        let (mut forth, mut pages) = (Vec::new(), Vec::new());
        let mut link = Some(format!("/leads?status=all{order}"));
        while let Some(path) = link.take() {
            let page = browsing.get(&path);
            forth.extend(leads_of(&page));
            link = page.links("/leads?").into_iter().find(|link| link.contains("after="));
            pages.push(page);
        }
        let mut each = forth.clone();
        each.sort();
        each.dedup();
        assert_eq!((pages.len(), forth.len(), each.len()), (3, 120, 120), "{order}");
        let mut back = Vec::new();
        let mut page = pages.pop();
        while let Some(present) = page.take() {
            back.splice(0..0, leads_of(&present));
            let earlier = present.links("/leads?").into_iter().find(|link| link.contains("before="));
            page = earlier.map(|link| browsing.get(&link));
        }
        assert_eq!(back, forth, "{order}");
    }
    watched.end();
}

fn a_span_of_time_selects_and_counts(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 70);
    let (watched, browsing) = working(&mut scene, 70);
    let day = |date: &str| {
        let midnight = date.parse::<chrono::NaiveDate>().expect("a day").and_hms_opt(0, 0, 0).expect("midnight");
        midnight.and_utc().timestamp_micros()
    };
    let (first, second) = (day("2020-02-03"), day("2020-02-04"));
    scene.state(&format!(
        "update lead set changed_at = {first} where cast(id as bigint) <= 60; \
         update lead set changed_at = {second} - 1 where id = '60'; update lead set changed_at = {second} where id = '61'"
    ));
    let page = browsing.get("/leads?status=all&since=2020-02-03&until=2020-02-03");
    says(&page, &["60 leads", "All leads"]);
    assert_eq!(leads_of(&page)[0], "/leads/60");
    let rest = browsing.get(&page.links("/leads?").pop().expect("a next page"));
    assert_eq!(leads_of(&page).len() + leads_of(&rest).len(), 60);
    says(&rest, &["60 leads"]);
    says(&browsing.get("/leads?status=in_sync&since=2020-02-04&until=2020-02-05"), &["1 lead"]);
    says(&browsing.get("/leads?status=in_sync&until=2020-02-02"), &["0 leads", "No lead matches."]);
    says(&browsing.get("/leads?status=rejected&since=2020-02-03"), &["0 leads", "No lead matches."]);
    watched.end();
}

fn the_file_for_spreadsheets_has_every_lead_and_no_formula(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1_203);
    scene.crm("update leads set first_name = '=HYPERLINK(1)', last_name = 'a, \"b\"' where id = 3");
    let (watched, browsing) = working(&mut scene, 1_203);
    let list = browsing.get("/leads?status=in_sync");
    let file = browsing.get(list.links("/leads.csv").first().expect("a way to the file"));
    assert_eq!((file.status, file.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert_eq!(file.header("cache-control"), "no-store");
    let lines: Vec<&str> = file.body.lines().collect();
    assert_eq!(lines.len(), 1_204, "{:?}", lines.first());
    assert!(lines[0].starts_with("id,client_id,name,email,telephone,rep,conversation,source,status,"), "{}", lines[0]);
    let third = lines.iter().find(|line| line.starts_with("3,")).expect("the lead");
    assert!(
        third.starts_with("3,,\"'=HYPERLINK(1) a, \"\"b\"\"\",ann3@example.com,,Rae Rep,Inbound Leads,"),
        "{third}"
    );
    assert_eq!(browsing.get("/leads.csv?status=held").body.lines().count(), 1, "the names of the columns");
    assert_eq!(Browsing::of(&watched.address).get("/leads.csv?status=in_sync").status, 303);
    watched.end();
}

fn marked_leads_are_sent_again_and_others_are_not(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 5);
    let (watched, browsing) = working(&mut scene, 5);
    let list = browsing.get("/leads?status=in_sync");
    for needed in ["formaction=\"/act/resend\"", "formaction=\"/act/suppress\"", "name=\"chosen\" value=\"1\""] {
        assert!(list.body.contains(needed), "{needed}: {}", list.body);
    }
    assert!(!list.body.contains("formaction=\"/act/approve\""), "nothing is held");
    for deed in ["resend", "approve", "baseline", "retry", "suppress"] {
        let page = browsing.get(&format!("/act/{deed}?chosen=1&back=%2Fleads"));
        says(&page, &["No lead is marked."]);
        assert!(!page.body.contains("id=\"confirm\""), "{deed}: {}", page.body);
    }
    let asked = browsing.get("/act/resend?chosen=1&id=2&id=4&back=%2Fleads%3Fstatus%3Din_sync");
    asked.is_strict();
    says(&asked, &["Send 2 leads again? 2 people that Conversica has accepted before.", "Inbound Leads: 2 leads"]);
    assert_eq!(endpoint.requests().len(), 5, "nobody has confirmed anything yet");
    let form = asked.form("/act/resend");
    let done = browsing.post("/act/resend", &form.pairs(), &[]);
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/leads?status=in_sync")));
    crate::support::wait::wait_until("both are sent again", SOON, || endpoint.requests().len() == 7);
    scene.wait_for_status("both are accepted", SOON, |status| status["leads"]["in_sync"] == 5);
    let repeated = browsing.post("/act/resend", &form.pairs(), &[]);
    assert_eq!(repeated.status, 409, "{}", repeated.text());
    says(&repeated, &["Some of these leads were sent since they were shown."]);
    let times = |id: &str| endpoint.bodies_of(id).len();
    assert_eq!(["1", "2", "3", "4", "5"].map(times), [1, 2, 1, 2, 1]);
    watched.end();
}

#[test]
fn an_id_of_several_clients_is_not_decided_about() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene.crm(
        "create table leads (id text, dealer text, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    scene.crm(
        "insert into leads values ('7', 'north', 'Ann', 'North', 'ann@north.example', 'Rae', 0), \
         ('7', 'south', 'Bea', 'South', 'bea@south.example', 'Rae', 0), ('8', 'south', 'Cat', 'South', 'cat@south.example', 'Rae', 0)",
    );
    scene.set_text("source", "client", "dealer");
    let (watched, browsing) = working(&mut scene, 3);
    for deed in ["resend", "suppress"] {
        let refused = browsing.get(&format!("/act/{deed}?chosen=1&id=8&id=7"));
        says(&refused, &["7 is the id of leads of several clients"]);
        assert!(!refused.body.contains("id=\"confirm\""), "{deed}: {}", refused.body);
    }
    let asked = browsing.get("/act/suppress?chosen=1&id=8");
    says(&asked, &["Never write to the people of 1 lead again?", "Cat South"]);
    let form = asked.form("/act/suppress");
    scene.crm("update leads set email = 'cat@new.example' where id = '8'");
    crate::support::wait::wait_until("the new address", SOON, || endpoint.bodies_of("8").len() == 2);
    scene.wait_for_status("it is accepted", SOON, |status| status["leads"]["in_sync"] == 3);
    let changed = browsing.post("/act/suppress", &form.pairs(), &[]);
    assert_eq!(changed.status, 409, "another address than the one that was shown: {}", changed.text());
    watched.end();
}

fn the_people_of_marked_leads_are_never_written_to_again(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    let (watched, browsing) = working(&mut scene, 3);
    let asked = browsing.get("/act/suppress?chosen=1&id=2&back=%2Fleads");
    asked.is_strict();
    says(&asked, &["Never write to the people of 1 lead again?", "1 e-mail address and 0 telephone numbers"]);
    let pairs = asked.form("/act/suppress");
    let without: Vec<_> = pairs.pairs().into_iter().filter(|(name, _)| *name != "form_token").collect();
    assert_eq!(browsing.post("/act/suppress", &without, &[]).status, 403);
    assert_eq!(browsing.post("/act/suppress", &pairs.pairs(), &[]).status, 303);
    says(&browsing.get("/"), &["1 address or number added to the suppression list."]);
    crate::support::wait::wait_until("Conversica is told", SOON, || {
        endpoint.bodies_of("2").last().is_some_and(|body| body["optOut"] == true)
    });
    scene.crm("update leads set email = 'ann2@example.com' where id = 3");
    crate::support::wait::wait_until("whoever has the address", SOON, || {
        endpoint.bodies_of("3").last().is_some_and(|body| body["optOut"] == true)
    });
    assert_eq!(endpoint.bodies_of("1").len(), 1, "the domain is not on the list");
    let said = browsing.wait_for("/", "suppress, by dashboard, 127.0.0.1");
    assert!(!said.text().contains("ann2@"), "{}", said.text());
    watched.end();
}
