//! The dashboard counts to the last lead, and alike on every page, however many leads there are.

use std::time::Duration;

use serde_json::json;

use crate::support::browsing::{Browsing, Page};
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);

blocking_on_both_engines!(
    more_than_a_thousand_leads_of_each_kind_are_counted_exactly,
    assumed_leads_are_shown_as_never_sent_on_every_page,
);

/// 1,370 leads rejected for two reasons, 1,250 invalid for two, 1,380 held for two; no later poll changes them.
fn crowded(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 4_000);
    scene.set("safety", "first_run", "").set_text("source", "poll_interval", "1h");
    scene.run(&["once"]).expect_code(4);
    scene.state(
        "update lead set status = 'rejected', hold_reason = null, held_at = null, last_outcome = 'rejected', \
         last_http_status = 422, last_outcome_at = 1, last_detail = case when cast(id as bigint) <= 1300 then 'the name looks odd' \
         else 'no such rep' end where cast(id as bigint) <= 1370; \
         update lead set status = 'invalid', hold_reason = null, held_at = null, invalid_reasons = \
         case when cast(id as bigint) <= 2600 then '[\"email: is required, but blank\"]' \
         else '[\"email: is required, but blank\",\"repName: is required\"]' end \
         where cast(id as bigint) between 1371 and 2620; \
         update lead set hold_reason = 'ambiguous', first_contact_at = 1 where cast(id as bigint) > 3990",
    );
    scene
}

#[track_caller]
fn says(page: &Page, words: &[&str]) {
    for words in words {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
}

fn more_than_a_thousand_leads_of_each_kind_are_counted_exactly(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = crowded(engine, &endpoint);
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("a poll", SOON, |status| status["last_poll"].is_object());
    let page = browsing.wait_for("/", "1,380 leads wait for your decision");
    says(
        &page,
        &[
            "Held: 1,380 leads",
            "1,370 people would be contacted for the first time",
            "first_run 1,370 leads",
            "ambiguous 10 leads",
            "422: the name looks odd 1,300 leads",
            "422: no such rep 70 leads",
            "email: is required, but blank 1,250 leads",
            "repName: is required 20 leads",
            "rejected 1,370",
            "invalid 1,250",
            "held 1,380",
        ],
    );
    assert!(!page.text().contains("at least"), "{}", page.text());
    let list = browsing.get("/leads");
    says(&list, &["waiting or stuck 4,000", "rejected 1,370", "invalid 1,250", "held 1,380"]);
    let hold = browsing.get("/api/status").json()["hold"].clone();
    assert_eq!((&hold["leads"], &hold["new_people"]), (&json!(1380), &json!(1370)), "{hold:#}");
    assert_eq!(browsing.get("/api/leads?status=rejected&limit=7").json()["total"], 1370);
    let held = watched.get("/readyz").json()["held"].clone();
    assert_eq!((&held["leads"], &held["new_people"]), (&json!(1380), &json!(1370)), "{held:#}");
    watched.wait_for_metric("conversica_sync_held_new_people", 1370.0);
    watched.end();
}

fn assumed_leads_are_shown_as_never_sent_on_every_page(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1_370);
    scene.set_text("safety", "first_run", "baseline");
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("the baseline", SOON, |status| status["leads"]["assumed"] == 1370);
    let page = browsing.wait_for("/", "1,370 leads are assumed known to Conversica, never sent");
    says(&page, &["assumed 1,370 assumed known to Conversica, never sent", "in_sync 0"]);
    assert!(!page.text().contains("All is well: Conversica holds"), "{}", page.text());
    let list = browsing.get("/leads?status=assumed");
    says(&list, &["Leads: assumed", "assumed 1,370", "waiting or stuck 0", "in_sync 0"]);
    let next = list.links("/leads?status=assumed&").pop().expect("a next page");
    says(&browsing.get(&next), &["Leads: assumed", "assumed 1,370"]);
    let lead = browsing.get("/leads/7");
    says(&lead, &["Lead 7 assumed", "assumed known to Conversica, never sent", "it was never sent"]);
    for lie in ["first took it", "Accepted last", "and holds", "holds what the CRM says"] {
        assert!(!lead.text().contains(lie), "{lie}: {}", lead.text());
    }
    assert_eq!(browsing.get("/api/leads?status=assumed&limit=3").json()["total"], 1370);
    assert_eq!(browsing.get("/api/lead/7").json()["status"], "assumed");
    watched.wait_for_metric("conversica_sync_leads{status=\"assumed\"}", 1370.0);
    watched.wait_for_metric("conversica_sync_leads{status=\"in_sync\"}", 0.0);
    assert_eq!(endpoint.answered(), 0);
    watched.end();
}
