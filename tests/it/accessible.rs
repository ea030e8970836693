//! Every page of the dashboard in a real browser, on a telephone, a laptop and a wide screen, light and dark: nothing is wider than
//! the screen, axe-core finds no fault, and the keyboard reaches and shows what the mouse does.
//!
//! axe-core is `support/axe.min.js`, by Deque Systems under the MPL 2.0, as npm has it; no part of it is in the program.
//! With `CONVERSICA_SYNC_PICTURES=<directory>` the test writes a picture of each page there, as long as the page is.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::chromium::{Chromium, View};
use crate::support::heard::Heard;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "a token of forty characters, or nearly so";
const WIDTHS: [u32; 3] = [390, 1280, 1920];
const AXE: &str = include_str!("support/axe.min.js");

/// Each page, with a text that it has once it is there.
const PAGES: [(&str, &str, &str); 12] = [
    ("overview", "/", "leads wait for your decision"),
    ("leads", "/leads?status=all&order=newest", "All leads"),
    ("rejected", "/leads?status=rejected", "leadSource is not one of this account"),
    ("found", "/leads?q=ann", "Leads found for"),
    ("lead", "/leads/25", "Lead 25"),
    ("approve", "/act/approve", "Send"),
    ("suppress", "/act/suppress?id=3", "Never write to"),
    ("conversations", "/conversations", "Speed to lead"),
    ("charts", "/charts?range=month", "How long Conversica takes to answer"),
    ("decisions", "/decisions", "What operators have decided"),
    ("posts", "/posts", "Posts that cannot be read"),
    ("settings", "/settings?id=25", "What would Conversica get of a row?"),
];

/// A service with leads in every condition, and conversations.
fn busy_scene(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 64);
    scene.set_text("admin", "token", TOKEN);
    scene.set_text("lead", "conversationId", "conversation");
    scene.set("conversica", "conversations", "[\"Inbound Leads\", \"Service Follow-up\"]");
    scene.crm(
        "update leads set email = 'nobody' where id in (23, 31); update leads set conversation = 'Spring Campaign' where id > 60; \
         update leads set conversation = 'Service Follow-up', owner_name = 'Sam Sales' where id % 3 = 0 and id <= 60; \
         update leads set last_name = 'Featherstonehaugh-Cholmondeley', email = 'a.very.long.address.of.someone@department.example.com' \
         where id = 5",
    );
    scene
}

fn picky() -> StandIn {
    StandIn::start(|request| {
        let odd = matches!(request.id.as_deref(), Some("17" | "29"));
        if odd { Reaction::status(422).body("leadSource is not one of this account") } else { Reaction::accept() }
    })
}

/// What Conversica has posted about some of them.
fn conversations() -> Vec<Heard> {
    let mut heard = Vec::new();
    for id in 1..=30 {
        let keys = match id % 5 {
            0 => json!({"conversationStage": "Messaging", "conversationStatus": "Received Response", "hotLead": true}),
            1 => json!({"conversationStage": "Messaging", "conversationStatus": "Sent Message"}),
            2 => json!({"conversationStage": "Lead Stopped", "conversationStatus": "Unsubscribed", "doNotEmail": true}),
            3 => {
                json!({"conversationStage": "Conversica Stopped", "leadStatus": "Lead to Review", "actionRequired": true})
            }
            _ => json!({"conversationStage": "Preparing Lead", "leadAtRisk": true}),
        };
        heard.push(Heard::update(&id.to_string(), keys));
        if id == 25 {
            heard.push(Heard::update(
                "25",
                json!({"firstMessageDate": chrono::Utc::now().to_rfc3339(), "hotLead": true}),
            ));
        }
        if id % 5 == 0 {
            heard.push(Heard::message(&id.to_string(), "sent", "Hi Ann, do you have any questions?"));
            heard.push(Heard::message(&id.to_string(), "received", "Yes: what does it cost?"));
        }
    }
    heard
}

/// Sets the size and the colours, and waits for the fonts.
fn look(browser: &mut Chromium, view: View) {
    browser.look(view);
    browser.wait_until("the fonts are there", "document.fonts.status === 'loaded'");
}

/// The page at its whole length.
fn keep_picture(browser: &mut Chromium, view: View, name: &str) {
    let Some(directory) = std::env::var_os("CONVERSICA_SYNC_PICTURES") else { return };
    let length = browser.eval("document.documentElement.scrollHeight").as_u64().unwrap_or(0);
    let height = u32::try_from(length).unwrap_or(view.height).clamp(400, 6000);
    look(browser, View { height, ..view });
    let png = browser.screenshot();
    let colours = if view.dark { "dark" } else { "light" };
    let file = format!("{name}-{}-{colours}.png", view.width);
    std::fs::write(PathBuf::from(directory).join(file), png).expect("the directory is there");
}

/// What axe-core finds wrong, each with the first element that has it.
#[track_caller]
fn faults(browser: &mut Chromium) -> Vec<String> {
    browser.eval(&format!("{AXE}; 0"));
    let found = browser.eval(
        "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations.map((fault) => \
         fault.id + ': ' + fault.nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary).join(' | ')))",
    );
    serde_json::from_value(found).expect("a list of texts")
}

#[test]
fn every_page_is_for_everybody_at_every_width_in_both_colours() {
    let endpoint = picky();
    let scene = busy_scene(&endpoint);
    let watched = Watched::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| {
        let leads = &status["leads"];
        leads["rejected"] == 2 && leads["invalid"] == 2 && leads["held"] == 4 && leads["pending"] == 0
    });
    Heard::put_all(&conversations(), scene.state_store());
    // As if it had been heard just now, with an opt-out, an alert and a dead letter.
    let now = chrono::Utc::now().timestamp_micros();
    scene.state(&format!(
        "update conversation set last_heard_at = {now}, first_heard_at = {now}; \
         insert into consent (id, client_id, channel, given, at, heard_at, source) values ('2', '', 'email', 0, {now}, {now}, 'conversica'); \
         insert into alert (kind, id, client_id, occasion, body, created_at, due_at) values ('hot_lead', '5', '', 'x', '{{}}', {now}, {now}); \
         update writeback set status = 'stopped', detail = 'no such column: hot' where event_seq = 3; \
         insert into decision (at, action, who, reason, leads, comment) values ({now}, 'approve', 'anna (dashboard, 10.0.0.7)', 'too_many_changes', 1250, \
         'agreed with the dealer')"
    ));
    let at = |path: &str| format!("http://{}{path}", watched.address);
    let mut browser = Chromium::start();
    let signing_in = View { width: 1280, height: 900, dark: false };
    browser.look(signing_in);
    browser.open(&at("/"));
    browser.wait_for_text("Admin token, or your own");
    let mut wrong: Vec<String> = faults(&mut browser).into_iter().map(|fault| format!("sign in: {fault}")).collect();
    browser.type_text(TOKEN);
    browser.click("form.stack button");
    browser.wait_for_text("Leads");
    for (name, path, text) in PAGES {
        browser.look(signing_in);
        browser.open(&at(path));
        browser.wait_for_text(text);
        for dark in [false, true] {
            for width in WIDTHS {
                let view = View { width, height: 900, dark };
                look(&mut browser, view);
                let overflow =
                    browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
                if overflow != json!(0) {
                    wrong.push(format!("{name} is {overflow} wider than a screen of {width}"));
                }
                // Contrast depends on the colours, and what is shown on the width.
                if width != 1920 {
                    wrong.extend(
                        faults(&mut browser).into_iter().map(|fault| format!("{name} {width} {dark}: {fault}")),
                    );
                }
                keep_picture(&mut browser, view, name);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
    watched.end();
}

fn press(browser: &mut Chromium, key: &str, code: u32) {
    for kind in ["rawKeyDown", "keyUp"] {
        let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
        browser.call("Input.dispatchKeyEvent", event);
    }
}

#[test]
fn the_keyboard_reaches_what_the_mouse_reaches_and_shows_where_it_is() {
    let endpoint = picky();
    let scene = busy_scene(&endpoint);
    let watched = Watched::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["rejected"] == 2);
    let mut browser = Chromium::start();
    browser.look(View { width: 1280, height: 900, dark: false });
    browser.open(&format!("http://{}/login", watched.address));
    browser.wait_for_text("Admin token, or your own");
    browser.type_text(TOKEN);
    browser.click("form.stack button");
    browser.wait_for_text("wait for your decision");
    browser.open(&format!("http://{}/leads?status=rejected", watched.address));
    browser.wait_for_text("Leads: rejected");
    let reachable = "a[href], button, input:not([type=hidden]):not([hidden]), select, textarea, [tabindex='0']";
    let wanted = browser.eval(&format!(
        "[...document.querySelectorAll({})].filter((e) => e.getClientRects().length).length",
        json!(reachable)
    ));
    let (mut reached, mut hidden) = (std::collections::BTreeSet::new(), Vec::new());
    // A field for a date has several stops.
    for step in 0..wanted.as_u64().unwrap_or(0) + 12 {
        press(&mut browser, "Tab", 9);
        let place = browser.eval(&format!(
            "(() => {{ const e = document.activeElement; if (!e || e === document.body) return null; \
             const all = [...document.querySelectorAll({})]; const style = getComputedStyle(e); \
             return [all.indexOf(e), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, e.outerHTML.slice(0, 80)]; }})()",
            json!(reachable)
        ));
        if step == 0 {
            assert!(place[2].as_str().is_some_and(|html| html.contains("Skip to the content")), "{place}");
        }
        if let (Some(place), Some(shows)) = (place[0].as_i64().filter(|place| *place >= 0), place[1].as_bool()) {
            reached.insert(place);
            if !shows {
                hidden.push(place);
            }
        }
    }
    assert_eq!(Value::from(reached.len()), wanted, "{reached:?}");
    assert!(hidden.is_empty(), "no outline: {hidden:?}");
    browser.eval("document.querySelector('input[name=id]').focus()");
    for kind in ["keyDown", "keyUp"] {
        let event = json!({ "type": kind, "key": " ", "code": "Space", "text": " ", "windowsVirtualKeyCode": 32 });
        browser.call("Input.dispatchKeyEvent", event);
    }
    assert_eq!(browser.eval("document.querySelectorAll('input[name=id]:checked').length"), json!(1));
    watched.end();
}
