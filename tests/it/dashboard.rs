//! The dashboard over HTTP, through the real binary: the content of its pages, who may read them and who may act, and
//! that every action needs a confirmation.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::browsing::{Browsing, Page};
use crate::support::engine::Engine;
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_for;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "a token of forty characters, or nearly so";

/// Rejects leads that contain `Odd`, until the test clears the switch.
fn picky() -> StandIn {
    StandIn::start(|request| {
        let odd = request.json()["lastName"] == "Odd";
        if odd { Reaction::status(422).body("the name looks odd") } else { Reaction::accept() }
    })
}

/// A daemon with a dashboard that accepts actions.
fn guarded(scene: &mut Scene) -> (Watched, Browsing) {
    scene.set_text("admin", "token", TOKEN);
    let watched = Watched::start(scene);
    let browsing = Browsing::of(&watched.address);
    (watched, browsing)
}

fn one_is_rejected(scene: &Scene) {
    scene.crm("update leads set last_name = 'Odd' where id = 2");
    scene.wait_for_status("the rejection", SOON, |status| status["leads"]["rejected"] == 1);
}

#[test]
fn the_overview_says_whether_it_works_and_what_is_stuck() {
    let endpoint = picky();
    let scene = Scene::new(&endpoint.url(), 3);
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 3);
    let page = browsing.wait_for("/", "All is well: Conversica holds what the CRM says");
    page.is_strict();
    assert!(page.text().contains("Nothing. No lead is stuck."), "{}", page.body);
    assert!(page.body.contains("<svg class=\"chart\"") && page.text().contains("accepted 3"), "{}", page.body);
    one_is_rejected(&scene);
    let page = browsing.wait_for("/", "Working, and 1 lead needs a person");
    assert!(page.text().contains("422: the name looks odd"), "{}", page.body);
    assert!(page.body.contains("<a href=\"/leads/2\">2</a>"), "{}", page.body);
    let counts = Browsing::of(&watched.address).get("/");
    counts.is_strict();
    assert!(!counts.body.contains("/act/"), "nobody has signed in: {}", counts.body);
    for said in ["Working, and 1 lead needs a person", "Without signing in you see counts, and no people."] {
        assert!(counts.text().contains(said), "{said}: {}", counts.text());
    }
    for hidden in ["the name looks odd", "/leads/2\""] {
        assert!(!counts.body.contains(hidden), "{hidden}: {}", counts.body);
    }

    let list = browsing.get("/leads?status=rejected");
    list.is_strict();
    assert!(list.text().contains("the name looks odd") && !list.body.contains("/leads/1\""), "{}", list.body);
    let lead = browsing.get("/leads/2");
    lead.is_strict();
    for said in ["Lead 2 rejected", "Conversica refused this content (422: the name looks odd)", "Odd", "attempt 1"] {
        assert!(lead.text().contains(said), "{said}: {}", lead.text());
    }
    assert!(lead.body.contains("class=\"differs\""), "{}", lead.body);
    assert_eq!(browsing.get("/leads?q=2").location.as_deref(), Some("/leads/2"));
    let nobody = browsing.get("/leads/77");
    assert!(nobody.status == 404 && nobody.text().contains("Lead 77 is not known"), "{}", nobody.body);
    for asset in ["/assets/style.css", "/assets/live.js", "/assets/icon.svg"] {
        let asset = browsing.get(asset);
        assert_eq!((asset.status, asset.header("cache-control")), (200, "public, max-age=86400"));
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
    }
    watched.end();
}

#[test]
fn the_api_says_what_the_commands_say() {
    let endpoint = picky();
    let scene = Scene::new(&endpoint.url(), 3);
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 3);
    one_is_rejected(&scene);
    browsing.wait_for("/", "Working, and 1 lead needs a person");
    let mut status: Value = browsing.get("/api/status").json();
    let mut printed = scene.status();
    for document in [&mut status, &mut printed] {
        document["last_poll"] = json!(null);
        document["pacing"] = json!(null);
        // On SQLite the moment of reading.
        document["instances"][0]["last_seen"] = json!(null);
    }
    assert_eq!(status, printed);
    let printed = scene.cli().run(&["leads", "--json"]).json();
    let leads = browsing.get("/api/leads").json();
    assert_eq!((&leads["leads"], &leads["total"]), (&printed["leads"], &printed["total"]));
    assert_eq!(browsing.get("/api/leads?status=in_sync&limit=1").json()["next"]["after"], "1");
    assert_eq!(browsing.get("/api/leads?status=in_sync&from=in_sync&after=1").json()["leads"][0]["id"], "3");
    assert_eq!(browsing.get("/api/lead/2").json(), scene.cli().run(&["lead", "2", "--json"]).json());
    assert_eq!(browsing.get("/api/lead/77").status, 404);
    watched.end();
}

#[test]
fn what_a_row_or_conversica_says_is_text_and_nothing_else() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let endpoint = StandIn::start(|_| Reaction::status(422).body(HOSTILE));
    let scene = Scene::without_source(&endpoint.url());
    scene.crm("create table leads (id text primary key, first_name text, last_name text, email text, owner_name text, opt_out int)");
    let ids = ["<script>alert(3)</script>", "a/b/../c?d=e#f%2F", "..", "ü 李", "\"><b>"];
    for (n, id) in ids.iter().enumerate() {
        let id = id.replace('\'', "''");
        let name = HOSTILE.replace('\'', "''");
        scene.crm(&format!("insert into leads values ('{id}', '{name}', '{name}', 'a{n}@example.com', 'Rae', 0)"));
    }
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("all are rejected", SOON, |status| status["leads"]["rejected"] == ids.len());
    let overview = browsing.wait_for("/", "5 leads need a person");
    let list = browsing.get("/leads?status=rejected&reason=%3Cscript%3E");
    let mut pages =
        vec![overview, browsing.get("/leads?q=%3Cscript%3E"), browsing.get("/leads?q=%3Cscript%3Ealert(4)")];
    let links = list.links("/leads/");
    assert_eq!(links.len(), ids.len(), "{}", list.body);
    pages.extend(links.iter().map(|link| browsing.get(link)));
    pages.push(list);
    for page in &pages {
        page.is_strict();
        for harm in ["<script>alert", "<img", "<b>", "\"'>"] {
            assert!(!page.body.contains(harm), "{harm}: {}", page.body);
        }
    }
    for link in &links {
        let page = browsing.get(link);
        assert_eq!(page.status, 200, "{link}: {}", page.body);
        assert!(page.body.contains("&#60;script&#62;alert(1)"), "{link}: {}", page.body);
    }
    watched.end();
}

#[test]
fn without_a_token_this_machine_sees_counts_and_nobody_sees_people() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let watched = Watched::start(&scene);
    let browsing = Browsing::of(&watched.address);
    browsing.wait_for("/", "All is well: Conversica holds");
    let pages = ["/", "/leads", "/leads/1", "/api/status", "/api/leads", "/api/lead/1", "/act/resume"];
    for (name, value) in
        [("host", "evil.example"), ("host", "192.0.2.1:80"), ("x-forwarded-for", "192.0.2.1"), ("via", "1.1 proxy")]
    {
        for path in pages {
            let page = browsing.get_with(path, &[(name, value)]);
            assert_eq!(page.status, 403, "{path} {name}: {value}");
            assert!(!page.body.contains("Ann") && page.text().contains("this machine only"), "{}", page.body);
        }
        assert_eq!(browsing.get_with("/healthz", &[(name, value)]).status, 200);
    }
    // A plain proxy on this machine asks just like this, for anybody.
    for path in ["/leads", "/leads/1", "/leads/?id=1", "/leads?q=1", "/act/resume", "/act/approve", "/act/retry?id=1"] {
        let page = browsing.get_with(path, &[("host", "localhost")]);
        assert!(page.status == 303 && page.body.is_empty(), "{path}: {}", page.status);
        assert!(page.location.is_some_and(|next| next.starts_with("/login?next=")), "{path}");
    }
    for path in ["/api/leads", "/api/lead/1", "/api/lead/?id=1"] {
        assert_eq!(browsing.get(path).status, 401, "{path}");
    }
    assert_eq!(browsing.get("/api/status").json()["leads"]["in_sync"], 1);
    assert_eq!(browsing.post("/act/resume", &[("shown", "1-1"), ("id", "1")], &[]).status, 303);
    assert_eq!(browsing.post("/login", &[("token", "")], &[]).status, 404, "there is none");
    assert!(browsing.get("/login").text().contains("conversica-sync dashboard"));
    watched.end();
}

#[test]
fn a_link_from_the_command_line_signs_in_once() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let none = scene.cli().run(&["dashboard", "--address", "127.0.0.1:9"]).expect_code(2);
    assert!(none.stderr.contains("there is no state yet"), "{none}");
    let mut watched = Watched::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 1);
    let link = Browsing::link(&scene, &watched.address).expect("there is a state");
    let mut browsing = Browsing::of(&watched.address);
    for wrong in ["/enter", "/enter?code=", "/enter?code=0123456789abcdef"] {
        let page = browsing.get(wrong);
        assert!(page.status == 401 && page.header("set-cookie").is_empty(), "{wrong}: {}", page.status);
    }
    assert_eq!(browsing.head(&link), 401, "a preview does not use it up");
    let entered = browsing.get(&link);
    assert_eq!((entered.status, entered.location.as_deref()), (303, Some("/")));
    let again = browsing.get(&link);
    assert!(again.status == 401 && again.text().contains("This link was used"), "{}", again.text());
    browsing.keep_cookie(&entered);
    assert!(browsing.get("/leads/1").text().contains("Lead 1 in_sync"));
    assert_eq!(browsing.get("/act/retry?status=rejected").status, 200, "and may act");
    let line = watched.daemon.wait_for_line("signed in to the dashboard with a link", SOON);
    assert!(!line.contains("code="), "{line}");
    watched.end();
}

#[test]
fn with_a_token_nothing_is_shown_without_it() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("admin", "listen", "0.0.0.0:0");
    let refused = scene.cli().run(&["run"]).expect_code(2);
    assert!(refused.stderr.contains("admin.token"), "{refused}");
    let (watched, mut browsing) = guarded(&mut scene);
    let browsing_address = browsing.address.replace("0.0.0.0", "127.0.0.1");
    browsing.address = browsing_address;
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 1);
    for path in ["/", "/leads", "/leads/1", "/act/resume"] {
        let page = browsing.get(path);
        assert_eq!(page.status, 303, "{path}");
        let next = path.replace('/', "%2F");
        assert_eq!(page.location, Some(format!("/login?next={next}")));
        assert!(page.body.is_empty());
    }
    for path in ["/api/status", "/api/leads", "/api/lead/1"] {
        let answer = browsing.get(path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(browsing.get_with(path, &[("authorization", &bearer)]).status, 200, "{path}");
        assert_eq!(browsing.get_with(path, &[("authorization", "Bearer x")]).status, 401, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(browsing.get(path).status, 200, "{path}");
    }
    let form = browsing.get("/login?next=%2Fleads%2F1");
    form.is_strict();
    assert!(form.body.contains("value=\"/leads/1\"") && form.body.contains("type=\"password\""), "{}", form.body);
    assert!(browsing.get("/login?next=%2F%2Fevil.example").body.contains("name=\"next\" value=\"/\""));
    let signed = browsing.post("/login", &[("token", TOKEN), ("next", "/leads/1")], &[]);
    assert_eq!((signed.status, signed.location.as_deref()), (303, Some("/leads/1")));
    let cookie = signed.header("set-cookie");
    assert!(
        cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure") && !cookie.contains(TOKEN),
        "{cookie}"
    );
    let through_tls = browsing.post("/login", &[("token", TOKEN)], &[("x-forwarded-proto", "https")]);
    assert!(through_tls.header("set-cookie").ends_with("; Secure"));
    browsing.keep_cookie(&signed);
    assert!(browsing.get("/leads/1").text().contains("Lead 1 in_sync"));
    let out = browsing.get("/").form("/logout");
    assert_eq!(browsing.post("/logout", &[("form_token", "x")], &[]).status, 403);
    // A browser sends no cookie along with another site's form.
    let foreign = Browsing::of(&watched.address).post("/logout", &[], &[("origin", "http://evil.example")]);
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, ""), "nor does it lose one");
    assert_eq!(browsing.get("/").status, 200);
    assert_eq!(browsing.post("/logout", &out.pairs(), &[]).status, 303);
    assert_eq!(browsing.get("/").status, 303, "the session is over, whatever the cookie says");
    watched.end();
}

#[test]
fn after_ten_wrong_tokens_none_is_tried_and_who_is_signed_in_stays() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    let (mut watched, mut browsing) = guarded(&mut scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 1);
    browsing.sign_in(TOKEN);
    let stranger = Browsing::of(&watched.address);
    let tries: Vec<Page> = (0..14).map(|n| stranger.post("/login", &[("token", &format!("wrong {n}"))], &[])).collect();
    assert!(tries.iter().take(10).all(|page| page.status == 401), "told what is wrong");
    for late in &tries[10..] {
        assert_eq!(late.status, 429);
        assert!(late.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 60));
    }
    assert_eq!(stranger.get_with("/api/status", &[("authorization", "Bearer wrong")]).status, 429);
    assert!(tries.iter().all(|page| page.header("set-cookie").is_empty()));
    // Otherwise a guess could be told right from wrong at any rate.
    assert_eq!(stranger.post("/login", &[("token", TOKEN)], &[]).status, 429);
    assert_eq!(browsing.get("/leads/1").status, 200);
    let link = Browsing::link(&scene, &watched.address).expect("a link");
    assert_eq!(stranger.get(&link).status, 303, "the command line lets in");
    let line = watched.daemon.wait_for_line("too many wrong admin tokens", SOON);
    assert!(!line.contains("wrong 9"), "{line}");
    assert_eq!(watched.daemon.stderr().matches("a request carried a wrong admin token").count(), 1);
    watched.end();
}

#[test]
fn a_short_token_is_refused_where_other_machines_can_guess_it() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    scene.set_text("admin", "token", "nineteen characters");
    scene.set_text("admin", "listen", "127.0.0.1:0");
    scene.cli().run(&["config", "show"]).expect_code(0);
    scene.set_text("admin", "listen", "0.0.0.0:0");
    let refused = scene.cli().run(&["config", "show"]).expect_code(2);
    assert!(refused.stderr.contains("fewer than 20 characters"), "{refused}");
    scene.set_text("admin", "token", "twenty characters ok");
    scene.cli().run(&["config", "show"]).expect_code(0);
}

fn nothing_is_sent_unconfirmed(mut scene: Scene, endpoint: &StandIn) {
    scene.set("safety", "first_run", "");
    let (watched, mut browsing) = guarded(&mut scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 4);
    browsing.sign_in(TOKEN);
    let page = browsing.wait_for("/", "4 leads wait for your decision");
    assert!(page.text().contains("Held: 4 leads") && page.text().contains("first_run"), "{}", page.text());
    let asked = browsing.get("/act/approve?reason=first_run");
    asked.is_strict();
    let question = "Send 4 leads (held: first_run 4)? 4 people will be contacted for the first time.";
    assert!(asked.text().contains(question), "{}", asked.text());
    let form = asked.form("/act/approve");
    let pairs = form.pairs();
    let without: Vec<_> = pairs.iter().copied().filter(|(name, _)| *name != "form_token").collect();
    for (pairs, headers, why) in [
        (&without, &[][..], "no token of the session"),
        (&pairs, &[("sec-fetch-site", "cross-site")][..], "another site's page"),
        (&pairs, &[("sec-fetch-site", "same-site")], "another port's page"),
        (&pairs, &[("origin", "http://evil.example")], "another site's form"),
    ] {
        assert_eq!(browsing.post("/act/approve", pairs, headers).status, 403, "{why}");
    }
    let stranger = Browsing::of(&watched.address);
    let sent_away = stranger.post("/act/approve", &pairs, &[]);
    assert_eq!((sent_away.status, sent_away.location.as_deref()), (303, Some("/login?next=%2F")), "to sign in");
    assert_eq!(browsing.get("/act/approve?reason=first_run&shown=4-9999999999999999").status, 200);
    assert_eq!(
        browsing.post("/act/approve", &[("form_token", form.value("form_token"))], &[]).status,
        409,
        "nothing was shown"
    );

    scene.add(5, 6);
    scene.wait_for_status("two more", SOON, |status| status["hold"]["leads"] == 6);
    let again = browsing.post("/act/approve", &pairs, &[]);
    assert_eq!(again.status, 409);
    assert!(again.text().contains("More is held than was shown: 4 leads then, 6 now."), "{}", again.text());
    assert!(again.text().contains("Send 6 leads (held: first_run 6)?"), "{}", again.text());
    assert_eq!(scene.status()["hold"]["leads"], 6);
    assert_eq!(endpoint.requests().len(), 0, "nobody has confirmed anything yet");

    let done = browsing.post("/act/approve", &again.form("/act/approve").pairs(), &[]);
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/")));
    let page = browsing.get("/");
    assert!(page.text().contains("6 leads will be sent."), "{}", page.text());
    assert!(!browsing.get("/").text().contains("6 leads will be sent."), "said once");
    scene.wait_for_status("all are sent", SOON, |status| status["leads"]["in_sync"] == 6);
    assert_eq!(endpoint.requests().len(), 6);
    let page = browsing.wait_for("/", "All is well: Conversica holds");
    assert!(page.text().contains("approve (first_run), 6 leads, by dashboard, 127.0.0.1"), "{}", page.text());
    assert!(browsing.get("/leads/1").text().contains("approve by dashboard, 127.0.0.1, with others: 6 leads"));
    assert!(browsing.get("/act/approve?reason=first_run").text().contains("Nothing of that is held."));
    watched.end();
}

#[test]
fn nothing_is_sent_that_was_not_shown_and_confirmed() {
    let endpoint = StandIn::accepting();
    nothing_is_sent_unconfirmed(Scene::new(&endpoint.url(), 4), &endpoint);
}

#[test]
fn nothing_is_sent_that_was_not_shown_and_confirmed_on_postgresql() {
    let endpoint = StandIn::accepting();
    nothing_is_sent_unconfirmed(Scene::on(Engine::Postgres, &endpoint.url(), 4), &endpoint);
}

#[test]
fn a_baseline_sends_nothing_and_may_be_of_one_lead() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    let (watched, mut browsing) = guarded(&mut scene);
    scene.wait_for_status("the hold", SOON, |status| status["hold"]["leads"] == 3);
    browsing.sign_in(TOKEN);
    let lead = browsing.get("/leads/2");
    let link = lead.links("/act/baseline").pop().expect("a way to take it as delivered");
    let asked = browsing.get(&link);
    assert!(
        asked.text().contains("Treat 1 lead (held: first_run 1) as already delivered, and send nothing?"),
        "{}",
        asked.text()
    );
    assert!(
        !asked.text().contains("contacted for the first time") && !asked.text().contains("would get"),
        "{}",
        asked.text()
    );
    let done = browsing.post("/act/baseline", &asked.form("/act/baseline").pairs(), &[]);
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/leads/2")));
    let page = browsing.get("/leads/2");
    assert!(
        page.text().contains("1 lead is now assumed known, never sent.") && page.text().contains("Lead 2 assumed"),
        "{}",
        page.text()
    );
    assert_eq!(scene.status()["leads"]["held"], 2);
    let rest = browsing.get("/act/baseline").form("/act/baseline");
    assert_eq!(browsing.post("/act/baseline", &rest.pairs(), &[]).status, 303);
    scene
        .wait_for_status("nothing is held", SOON, |status| status["leads"]["assumed"] == 3 && status["hold"].is_null());
    assert_eq!(endpoint.requests().len(), 0);
    watched.end();
}

#[test]
fn a_retry_is_of_one_lead_or_of_a_status_and_a_halt_is_lifted() {
    let endpoint = StandIn::start(|request| match request.n {
        n if n <= 3 => Reaction::status(422).body("no"),
        4 | 5 => Reaction::accept(),
        6 => Reaction::status(403).body("locked"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::new(&endpoint.url(), 3);
    let (watched, mut browsing) = guarded(&mut scene);
    scene.wait_for_status("all are rejected", SOON, |status| status["leads"]["rejected"] == 3);
    browsing.sign_in(TOKEN);
    let asked = browsing.get(browsing.get("/leads/1").links("/act/retry").first().expect("a way to retry"));
    assert!(
        asked.text().contains("Put 1 lead back in the queue? 1 person will be contacted for the first time."),
        "{}",
        asked.text()
    );
    assert_eq!(endpoint.requests().len(), 3);
    let done = browsing.post("/act/retry", &asked.form("/act/retry").pairs(), &[]);
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/leads/1")));
    assert!(browsing.get("/leads/1").text().contains("1 lead back in the queue."));
    scene.wait_for_status("one is fixed", SOON, |status| status["leads"]["in_sync"] == 1);

    let asked = browsing.get("/act/retry?status=rejected");
    assert!(asked.text().contains("Put 2 leads back in the queue? 2 people"), "{}", asked.text());
    assert_eq!(browsing.post("/act/retry", &asked.form("/act/retry").pairs(), &[]).status, 303);
    scene.wait_for_status("a halt", SOON, |status| !status["halt"].is_null());
    let page = browsing.wait_for("/", "Halted: nothing is sent");
    assert!(page.text().contains("Halted: forbidden") && page.text().contains("account manager"), "{}", page.text());
    assert!(!page.links("/act/resume").is_empty(), "{}", page.body);
    let asked = browsing.get("/act/resume");
    assert!(asked.text().contains("Lift the halt (forbidden) of"), "{}", asked.text());
    let token = asked.form("/act/resume").value("form_token").to_owned();
    let other = browsing.post("/act/resume", &[("form_token", &token), ("shown", "1")], &[]);
    assert!(other.status == 409 && !scene.status()["halt"].is_null(), "another halt was shown: {}", other.text());
    assert_eq!(browsing.post("/act/resume", &asked.form("/act/resume").pairs(), &[]).status, 303);
    assert!(browsing.get("/").text().contains("The halt is lifted."));
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 3);
    watched.end();
}

#[test]
fn a_long_list_is_told_page_by_page() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 120);
    scene.set("safety", "first_run", "");
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    browsing.wait_for("/", "120 leads wait for your decision");
    let (mut seen, mut link) = (Vec::new(), Some("/leads".to_owned()));
    while let Some(page) = link.take().map(|link| browsing.get(&link)) {
        let leads = page.links("/leads/");
        assert!(leads.len() <= 50 && !leads.is_empty(), "{}", page.body);
        seen.extend(leads);
        link = page.links("/leads?").into_iter().find(|link| link.contains("after="));
    }
    let found = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((found, seen.len()), (120, 120));
    assert!(browsing.get("/leads?reason=first").links("/leads/").len() == 50);
    assert!(browsing.get("/leads?reason=nonsense").text().contains("No lead matches."));
    watched.end();
}

#[test]
fn a_state_that_is_away_is_said() {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(Engine::Postgres, &endpoint.url(), 1);
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    browsing.wait_for("/", "All is well: Conversica holds");
    scene.state("alter schema conversica_sync rename to mislaid");
    let page = wait_for("it is said", SOON, || Some(browsing.get("/")).filter(|page| page.status == 503));
    page.is_strict();
    assert!(page.text().contains("The state cannot be read"), "{}", page.text());
    assert_eq!((browsing.get("/leads/1").status, browsing.get("/api/lead/1").status), (503, 503));
    scene.state_store().sql("alter schema mislaid rename to conversica_sync");
    browsing.wait_for("/", "All is well: Conversica holds");
    watched.end();
}
