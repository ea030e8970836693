//! Single sign-on through the real binary: a proxy names the operator in a header, which counts from its address only.

use std::time::Duration;

use crate::support::browsing::Browsing;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const HEADER: &str = "x-forwarded-user";

/// Three held leads, and two operators without tokens whom a proxy at that address may name.
fn scene(endpoint: &StandIn, from: &str) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    let operators = "[{ name = \"anna\", role = \"act\" }, { name = \"ben\", role = \"look\" }]";
    scene.set("admin", "operator", operators).set_text("admin", "sso_header", "X-Forwarded-User");
    scene.set("admin", "sso_from", &format!("[{from:?}]"));
    scene
}

#[test]
fn whom_the_proxy_names_decides_under_that_name_and_nobody_else() {
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint, "127.0.0.1");
    let watched = Watched::start(&scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 3);
    let visitor = Browsing::of(&watched.address);
    let unnamed = visitor.get("/");
    assert_eq!((unnamed.status, unnamed.location.as_deref()), (303, Some("/login?next=%2F")));
    let sign_in = visitor.get("/login");
    sign_in.is_strict();
    assert!(sign_in.text().contains("signed in by the proxy"), "{}", sign_in.text());
    for name in ["carl", "Anna", "anna ben"] {
        let refused = visitor.get_with("/leads", &[(HEADER, name)]);
        refused.is_strict();
        assert!(
            refused.status == 403 && refused.text().contains("who is no operator here"),
            "{name}: {}",
            refused.body
        );
        assert_eq!(visitor.get_with("/api/leads", &[(HEADER, name)]).status, 403);
    }
    let anna = [(HEADER, "anna")];
    assert_eq!(visitor.get_with("/api/leads", &anna).status, 200);
    let page = visitor.get_with("/leads/1", &anna);
    page.is_strict();
    assert!(page.status == 200 && page.text().contains("anna") && !page.body.contains("/logout"), "{}", page.body);

    let asked = visitor.get_with("/act/approve?reason=first_run", &anna);
    let form = asked.form("/act/approve");
    let without: Vec<(&str, &str)> = form.pairs().into_iter().filter(|(name, _)| *name != "form_token").collect();
    assert_eq!(visitor.post("/act/approve", &without, &anna).status, 403, "a page of another site knows no form token");
    let cross_site = [(HEADER, "anna"), ("sec-fetch-site", "cross-site")];
    assert_eq!(visitor.post("/act/approve", &form.pairs(), &cross_site).status, 403);
    assert_eq!(visitor.post("/act/approve", &form.pairs(), &[(HEADER, "ben")]).status, 403, "ben may look");
    assert_eq!(visitor.post("/act/approve", &form.pairs(), &[]).status, 303, "to the sign-in");
    assert!(endpoint.requests().is_empty(), "nobody who may decide has decided");
    assert_eq!(visitor.post("/act/approve", &form.pairs(), &anna).status, 303);
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == 3);
    let story = scene.cli().run(&["lead", "1", "--json"]);
    assert!(story.stdout.contains("anna (dashboard, 127.0.0.1)"), "{story}");
    watched.end();
}

#[test]
fn the_header_is_ignored_from_any_other_address() {
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint, "10.0.0.0/8");
    let watched = Watched::start(&scene);
    let visitor = Browsing::of(&watched.address);
    let named = visitor.get_with("/leads", &[(HEADER, "anna"), ("x-forwarded-for", "10.1.2.3")]);
    assert_eq!((named.status, named.location.as_deref()), (303, Some("/login?next=%2Fleads")));
    assert_eq!(visitor.get_with("/api/leads", &[(HEADER, "anna")]).status, 401);
    watched.end();
}

#[test]
fn a_header_that_anybody_could_set_is_refused_at_the_start() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(&endpoint, "0.0.0.0/0");
    let refused = scene.run(&["run"]).expect_code(2);
    assert!(refused.stderr.contains("`admin.sso_from` has `0.0.0.0/0`, which means every address"), "{refused}");
    scene.set("admin", "sso_from", "");
    let refused = scene.run(&["run"]).expect_code(2);
    assert!(refused.stderr.contains("anybody could set the header"), "{refused}");
}
