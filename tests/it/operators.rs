//! Operators with tokens of their own, through the real binary: who may look, who may act, and the name that a decision carries.

use std::time::Duration;

use crate::support::browsing::Browsing;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const ANNA: &str = "a long token that only anna has";
const BEN: &str = "a long token that only ben has";
const ADMIN: &str = "a long token that the team shares";
/// Every page that leads to an action, and the form of each.
const ACTIONS: [&str; 7] = [
    "/act/approve",
    "/act/baseline?reason=first_run",
    "/act/retry?status=rejected",
    "/act/retry?id=1",
    "/act/resume",
    "/act/pause",
    "/act/unpause",
];

fn with_operators(scene: &mut Scene) -> Watched {
    let anna = format!("{{ name = \"anna\", token = {ANNA:?}, role = \"act\" }}");
    let file = scene.directory().join("token_of_ben");
    std::fs::write(&file, format!("{BEN}\n")).expect("the file is written");
    let ben = format!("{{ name = \"ben\", token_file = {file:?}, role = \"look\" }}");
    scene.set("admin", "operator", &format!("[{anna}, {ben}]"));
    Watched::start(scene)
}

fn held(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    scene
}

#[test]
fn who_may_look_sees_everything_and_decides_nothing() {
    let endpoint = StandIn::accepting();
    let mut scene = held(&endpoint);
    let watched = with_operators(&mut scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 3);
    let mut ben = Browsing::of(&watched.address);
    assert_eq!(ben.get("/").status, 303, "operators' tokens lock the dashboard without an admin token");
    ben.sign_in(BEN);
    let page = ben.wait_for("/", "3 leads wait for your decision");
    page.is_strict();
    assert!(page.text().contains("ben (may look)"), "{}", page.text());
    for path in ["/", "/leads?status=held", "/leads/1"] {
        let page = ben.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("/act/"), "{path} offers an action: {}", page.body);
    }
    let out = ben.get("/").form("/logout");
    let form_token = out.value("form_token");
    for path in ACTIONS {
        let asked = ben.get(path);
        asked.is_strict();
        assert!(
            asked.status == 403 && asked.text().contains("You may look here, and not decide"),
            "{path}: {}",
            asked.body
        );
        let (action, query) = path.split_once('?').unwrap_or((path, ""));
        let (name, value) = query.split_once('=').unwrap_or(("reason", ""));
        let form = [("form_token", form_token), ("shown", "3"), (name, value)];
        assert_eq!(ben.post(action, &form, &[]).status, 403, "{path}");
    }
    for (token, status) in [(BEN, 200), (ANNA, 200), (ADMIN, 401), ("anna", 401), ("", 401)] {
        let bearer = format!("Bearer {token}");
        assert_eq!(stranger(&watched).get_with("/api/leads", &[("authorization", &bearer)]).status, status);
    }
    assert_eq!(scene.status()["hold"]["leads"], 3);
    assert!(endpoint.requests().is_empty(), "nobody who may decide has decided");
    watched.end();
}

fn stranger(watched: &Watched) -> Browsing {
    Browsing::of(&watched.address)
}

#[test]
fn a_decision_carries_the_name_of_the_operator() {
    let endpoint = StandIn::accepting();
    let mut scene = held(&endpoint);
    scene.set_text("admin", "token", ADMIN);
    let watched = with_operators(&mut scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 3);
    let mut anna = Browsing::of(&watched.address);
    anna.sign_in(ANNA);
    let page = anna.wait_for("/", "3 leads wait for your decision");
    assert!(page.text().contains("anna") && !page.text().contains("may look"), "{}", page.text());
    let asked = anna.get("/act/approve?reason=first_run");
    assert_eq!(anna.post("/act/approve", &asked.form("/act/approve").pairs(), &[]).status, 303);
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == 3);
    let story = scene.cli().run(&["lead", "1", "--json"]);
    assert!(story.stdout.contains("anna (dashboard, 127.0.0.1)"), "{story}");
    let mut team = Browsing::of(&watched.address);
    team.sign_in(ADMIN);
    let asked = team.get("/act/pause");
    assert_eq!(asked.status, 200, "the admin token beside them may act");
    let stderr = watched.daemon.stderr();
    for token in [ANNA, BEN, ADMIN] {
        assert!(!stderr.contains(token), "{stderr}");
    }
    watched.end();
}

#[test]
fn check_and_config_show_name_each_operator_and_no_token() {
    let endpoint = StandIn::accepting();
    let mut scene = held(&endpoint);
    with_operators(&mut scene).end();
    for command in [&["config", "show"][..], &["check"]] {
        let output = scene.cli().run(command);
        for said in ["admin.operator.0.token", "admin.operator.1.token"] {
            assert!(output.stdout.contains(said), "{said}: {output}");
        }
        for token in [ANNA, BEN] {
            assert!(!output.stdout.contains(token) && !output.stderr.contains(token), "{output}");
        }
    }
}
