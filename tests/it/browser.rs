//! The dashboard in a real browser: the operator finds a rejected lead, retries it and sees it accepted, without a
//! reload, without a browser error, and without a request to another host.
//!
//! With `CONVERSICA_SYNC_SCREENSHOTS=<directory>` the test writes the pictures of docs/metrics.md there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::chromium::{Chromium, View};
use crate::support::heard::Heard;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "a token of forty characters, or nearly so";
const WIDE: View = View { width: 1180, height: 1000, dark: false };
const NARROW: View = View { width: 390, height: 844, dark: true };

/// Takes a screenshot and checks that it shows something; keeps it only when the variable names a directory.
#[track_caller]
fn picture(browser: &mut Chromium, view: View, name: &str) {
    browser.look(view);
    browser.wait_until("the fonts are there", "document.fonts.status === 'loaded'");
    let overflow = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, json!(0), "{name} is wider than the screen");
    let png = browser.screenshot();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name}: {} bytes", png.len());
    if let Some(directory) = std::env::var_os("CONVERSICA_SYNC_SCREENSHOTS") {
        std::fs::write(PathBuf::from(directory).join(name), png).expect("the directory is there");
    }
}

#[test]
fn a_refused_lead_is_found_retried_and_seen_mended_without_a_reload() {
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = refuses.clone();
    let endpoint = StandIn::start(move |request| {
        let odd = request.id.as_deref() == Some("17") && switch.load(Ordering::SeqCst);
        if odd { Reaction::status(422).body("leadSource is not one of this account") } else { Reaction::accept() }
    });
    let mut scene = Scene::new(&endpoint.url(), 48);
    scene.set_text("admin", "token", TOKEN);
    scene.crm("update leads set email = 'nobody' where id in (23, 31)");
    let watched = Watched::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| {
        status["leads"]["in_sync"] == 45 && status["leads"]["rejected"] == 1 && status["leads"]["invalid"] == 2
    });
    let at = |path: &str| format!("http://{}{path}", watched.address);
    let mut browser = Chromium::start();
    browser.look(WIDE);

    browser.open(&at("/"));
    browser.wait_for_text("Admin token, or your own");
    assert_eq!(browser.eval("document.activeElement.id"), "token");
    browser.type_text(TOKEN);
    browser.click("form.stack button");
    browser.wait_for_text("Working, and 3 leads need a person");
    browser.wait_for_text("422: leadSource is not one of this account");
    assert_eq!(browser.eval("document.cookie"), "", "no script sees the session");
    picture(&mut browser, WIDE, "overview.png");
    picture(&mut browser, View { dark: true, ..WIDE }, "overview-dark.png");
    picture(&mut browser, NARROW, "overview-telephone.png");
    picture(&mut browser, View { dark: false, ..NARROW }, "overview-telephone-light.png");
    browser.look(WIDE);

    browser.click("a[href='/leads/17']");
    browser.wait_for_text("Lead 17");
    browser.wait_for_text("Conversica refused this content");
    browser.eval("window.not_reloaded = true");
    refuses.store(false, Ordering::SeqCst);
    browser.click("a[href^='/act/retry']");
    browser.wait_for_text("Put 1 lead back in the queue?");
    picture(&mut browser, View { height: 520, ..WIDE }, "confirm.png");
    assert_eq!(endpoint.requests().iter().filter(|received| received.request.id.as_deref() == Some("17")).count(), 1);
    browser.click("#confirm");
    browser.wait_for_text("1 lead back in the queue.");
    browser.eval("window.not_reloaded = true");
    browser.wait_until("it is fixed", "document.querySelector('h1 .chip')?.textContent === 'in_sync'");
    assert_eq!(browser.eval("window.not_reloaded"), true, "the page fixed itself");

    Heard::put_all(&conversation("17"), scene.state_store());
    browser.wait_for_text("The lead");
    assert_eq!(browser.eval("window.not_reloaded"), true);
    picture(&mut browser, WIDE, "lead.png");
    picture(&mut browser, NARROW, "lead-telephone.png");
    browser.look(WIDE);
    browser.open(&at("/"));
    browser.wait_for_text("Working, and 2 leads need a person");
    browser.eval("window.not_reloaded = true");
    scene.crm("update leads set email = 'ann' || id || '@example.com'");
    browser.wait_for_text("All is well: Conversica holds what the CRM says");
    assert_eq!(browser.eval("window.not_reloaded"), true);
    scene.crm("update leads set email = 'nobody' where id in (4, 15, 28)");
    browser.wait_for_text("Working, and 3 leads need a person");
    browser.open(&at("/leads?status=invalid"));
    browser.wait_for_text("Leads: invalid");
    picture(&mut browser, WIDE, "list-invalid.png");
    browser.open(&at("/leads?status=in_sync"));
    browser.wait_for_text("Leads: in_sync");
    picture(&mut browser, WIDE, "list.png");
    picture(&mut browser, NARROW, "list-telephone.png");

    assert_eq!(browser.complaints(), Vec::<String>::new());
    let elsewhere = browser.requested().into_iter().filter(|url| !url.starts_with(&at("/")) && url != "about:blank");
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<String>::new());
    watched.end();
}

/// A lead who answers the assistant.
fn conversation(id: &str) -> Vec<Heard> {
    let said = |action, at: &str, text| {
        let mut message = Heard::message(id, action, text);
        message.body = message.body.replace("2026-02-03T04:05:06", at).replace("\"Hi\"", "\"Your request\"");
        message
    };
    let stage = json!({"conversationStage": "Messaging", "conversationStatus": "Received Response", "hotLead": true});
    vec![
        said(
            "sent",
            "2026-02-03T09:00:00",
            "Hi Ann, thank you for your interest! Rae asked me to get in touch. Do you have any questions?",
        ),
        said(
            "received",
            "2026-02-03T09:12:00",
            "Hi, sure, tomorrow after 3 pm works. You can reach me at (555) 867-5309. Ann",
        ),
        said("sent", "2026-02-03T09:12:30", "Great, Ann! Rae Rep will call you tomorrow after 3 pm."),
        Heard::update(id, stage),
    ]
}
