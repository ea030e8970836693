//! Channels of alerts: each gets its kinds in its own form, a failing one costs the others nothing, and no secret is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::binary::Running;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::mail_server::MailServer;
use crate::support::network::TlsFront;
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Gate, Reaction, StandIn};
use crate::support::wait::{wait_for, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUTING_KEY: &str = "routing-key-Xyzzy-78";
const TOKEN: &str = "hook-token-Xyzzy-77";
const BEARER: &str = "bearer-Xyzzy-79";
const MAIL_PASSWORD: &str = "mail-password-Xyzzy-80";
const SECRETS: [&str; 4] = [ROUTING_KEY, TOKEN, BEARER, MAIL_PASSWORD];

blocking_on_both_engines!(
    each_channel_gets_the_beginning_and_the_end_in_its_own_form,
    a_channel_that_fails_or_hangs_costs_the_others_nothing,
);

fn discreet(said: &str) {
    for secret in SECRETS.iter().chain(&["Wilhelmina", "Quackenbush", "://alerts"]) {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

fn end(daemon: Running) {
    daemon.signal(Signal::Terminate);
    discreet(&daemon.wait(PATIENCE).expect_code(0).stderr);
}

/// A Conversica that answers with the status that the test sets.
fn fickle(status: u16) -> (StandIn, Arc<AtomicU16>) {
    let answers = Arc::new(AtomicU16::new(status));
    let switch = answers.clone();
    (StandIn::start(move |_| Reaction::status(switch.load(Ordering::SeqCst))), answers)
}

fn set_channels(scene: &mut Scene, channels: &[String]) {
    scene.set("alerts", "channel", &format!("[{}]", channels.join(", ")));
}

fn hook(format: &str, url: &str, more: &str) -> String {
    format!("{{ name = {format:?}, format = {format:?}, url = {url:?}{more} }}")
}

fn mail(server: &MailServer, user: &str) -> String {
    let url = format!("smtp://{user}127.0.0.1:{}", server.port());
    format!(
        "{{ name = \"post\", format = \"email\", smtp_url = {url:?}, from = \"Sync <sync@example.com>\", \
         to = [\"ops@example.com\", \"On Call <call@example.com>\"] }}"
    )
}

fn bodies(hook: &StandIn) -> Vec<Value> {
    let told = hook.requests().into_iter().filter(|received| received.answered.is_some_and(|status| status < 300));
    told.map(|received| received.request.json()).collect()
}

#[track_caller]
fn wait_for_bodies(hook: &StandIn, many: usize) -> Vec<Value> {
    wait_for("the channel to be told", PATIENCE, || Some(bodies(hook)).filter(|bodies| bodies.len() >= many))
}

fn each_channel_gets_the_beginning_and_the_end_in_its_own_form(engine: Engine) {
    let (endpoint, answers) = fickle(401);
    let (slack, teams, pagerduty, plain, other) = (
        StandIn::accepting(),
        StandIn::start(|_| Reaction::status(202)),
        StandIn::start(|_| Reaction::status(202)),
        StandIn::accepting(),
        StandIn::accepting(),
    );
    let post = MailServer::start().asking_to_sign_in();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    let file = scene.directory().join("bearer");
    std::fs::write(&file, format!("Bearer {BEARER}\n")).expect("the file is written");
    let headers = format!(", headers = {{ Authorization_file = {file:?}, X-Team = \"ops\" }}");
    let channels = [
        hook("slack", &format!("{}{TOKEN}", slack.url()), ""),
        hook("teams", &teams.url(), ""),
        hook("pagerduty", &pagerduty.url(), &format!(", routing_key = {ROUTING_KEY:?}")),
        hook("json", &plain.url(), &headers),
        mail(&post, &format!("alerts:{MAIL_PASSWORD}@")),
        format!("{{ kinds = [\"held\", \"hot_lead\"], url = {:?} }}", other.url()),
    ];
    set_channels(&mut scene, &channels);
    let daemon = scene.daemon();
    let document = wait_for_bodies(&plain, 1)[0].clone();
    let halt = scene.status()["halt"].clone();
    let (since, cure) = (halt["since"].as_str().expect("a time"), halt["cure"].as_str().expect("a cure"));
    assert_eq!(
        (&document["kind"], &document["state"], &document["since"]),
        (&json!("halted"), &json!("begun"), &json!(since))
    );
    let request = &plain.requests()[0].request;
    assert_eq!(request.header("authorization"), Some(format!("Bearer {BEARER}").as_str()));
    assert_eq!((request.header("x-team"), request.header("content-type")), (Some("ops"), Some("application/json")));

    let title = "Halted: nothing is sent to Conversica";
    let host = document["host"].as_str().expect("a host");
    let version = env!("CARGO_PKG_VERSION");
    let body = &wait_for_bodies(&slack, 1)[0];
    assert_eq!(body["text"], title);
    assert_eq!(
        body["blocks"][0],
        json!({"type": "header", "text": {"type": "plain_text", "text": title, "emoji": false}})
    );
    assert_eq!(body["blocks"][1]["text"], json!({"type": "mrkdwn", "text": format!("*What to do:* {cure}")}));
    let field = |name: &str, value: &str| json!({"type": "mrkdwn", "text": format!("*{name}:* {value}")});
    let fields =
        [field("Reason", "credentials"), field("Since", since), field("Machine", host), field("Version", version)];
    assert_eq!(body["blocks"][2], json!({"type": "section", "fields": fields}));
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(slack.requests()[0].request.path, format!("/json/{TOKEN}"));

    let body = &wait_for_bodies(&teams, 1)[0];
    let card = &body["attachments"][0];
    assert_eq!(
        (&body["type"], &card["contentType"]),
        (&json!("message"), &json!("application/vnd.microsoft.card.adaptive"))
    );
    let content = &card["content"];
    assert_eq!((&content["type"], &content["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    assert_eq!((&content["body"][0]["text"], &content["body"][0]["color"]), (&json!(title), &json!("Attention")));
    assert_eq!(content["body"][1]["text"], format!("What to do: {}", cure.replace('[', "\\[").replace(']', "\\]")));
    assert_eq!(content["body"][2]["facts"][0], json!({"title": "Reason", "value": "credentials"}));

    let event = wait_for_bodies(&pagerduty, 1)[0].clone();
    assert_eq!((&event["routing_key"], &event["event_action"]), (&json!(ROUTING_KEY), &json!("trigger")));
    let payload = &event["payload"];
    assert_eq!((&payload["summary"], &payload["source"]), (&json!(title), &json!(host)));
    assert_eq!((&payload["severity"], &payload["class"]), (&json!("critical"), &json!("halted")));
    assert_eq!((&payload["timestamp"], &payload["component"]), (&document["at"], &json!("conversica-sync")));
    assert_eq!(payload["custom_details"]["Reason"], "credentials");

    wait_until("the mail to arrive", PATIENCE, || post.mails().len() == 1);
    let begun = post.mails()[0].clone();
    assert_eq!(
        (begun.from.as_str(), &begun.to[..]),
        ("sync@example.com", &["ops@example.com".to_owned(), "call@example.com".to_owned()][..])
    );
    assert!(begun.auth.as_deref().is_some_and(|line| line.starts_with("AUTH PLAIN ")), "{begun:?}");
    assert_eq!(begun.header("Subject"), Some(format!("[conversica-sync] {title}").as_str()));
    assert_eq!(begun.header("Auto-Submitted"), Some("auto-generated"));
    assert!(begun.text().contains("Reason: credentials") && begun.text().contains("What to do: "), "{begun:?}");

    answers.store(200, Ordering::SeqCst);
    scene.run(&["resume"]).expect_code(0);
    assert_eq!(wait_for_bodies(&slack, 2)[1]["text"], "Resolved: the halt is lifted");
    assert_eq!(wait_for_bodies(&teams, 2)[1]["attachments"][0]["content"]["body"][0]["color"], "Good");
    let resolved = &wait_for_bodies(&pagerduty, 2)[1];
    assert_eq!((&resolved["event_action"], &resolved["dedup_key"]), (&json!("resolve"), &event["dedup_key"]));
    assert_eq!(wait_for_bodies(&plain, 2)[1]["state"], "ended");
    wait_until("the mail to arrive", PATIENCE, || post.mails().len() == 2);
    let ended = &post.mails()[1];
    assert_eq!(ended.header("Subject"), Some("[conversica-sync] Resolved: the halt is lifted"));
    assert_eq!(
        (ended.header("In-Reply-To"), ended.header("References")),
        (begun.header("References"), begun.header("References"))
    );
    assert_ne!(ended.header("Message-ID"), begun.header("Message-ID"));
    wait_until("the alerts to be over", PATIENCE, || scene.status()["alerts"]["waiting"] == 0);
    assert!(other.requests().is_empty(), "it is not told of this kind");
    end(daemon);
    for command in [&["config", "show"][..], &["check"], &["config", "show", "--json"]] {
        let output = scene.cli().run(command);
        discreet(&format!("{}{}", output.stdout, output.stderr));
    }
}

fn a_channel_that_fails_or_hangs_costs_the_others_nothing(engine: Engine) {
    let gate = Gate::new();
    let held = gate.clone();
    let hanging = StandIn::start(move |_| Reaction::accept().when_opened(&held));
    let failing = StandIn::start(|request| Reaction::status(if request.n <= 2 { 503 } else { 200 }));
    let working = StandIn::accepting();
    let post = MailServer::start();
    post.set_refusing(true);
    let mut scene = Scene::on(engine, "http://127.0.0.1:9/json/", 0);
    scene.set_text("alerts", "timeout", "5s").set_text("log", "level", "trace");
    set_channels(
        &mut scene,
        &[
            format!("{{ name = \"hanging\", url = {:?} }}", hanging.url()),
            format!("{{ name = \"failing\", url = {:?}, kinds = [\"hot_lead\"] }}", failing.url()),
            format!("{{ name = \"working\", url = {:?} }}", working.url()),
            mail(&post, ""),
        ],
    );
    let mut daemon = scene.daemon();
    let put = |n: u32| {
        let body = json!({"kind": "hot_lead", "id": n.to_string(), "client_id": "", "at": "2026-01-01T00:00:00Z",
                          "rep_name": "Wilhelmina Quackenbush"});
        scene.state(&format!(
            "insert into alert (kind, id, client_id, occasion, body, created_at, due_at) \
             values ('hot_lead', '{n}', '', 'o{n}', '{body}', {}, 0)",
            chrono::Utc::now().timestamp_micros()
        ));
    };
    (1..=20).for_each(put);
    wait_for_bodies(&working, 20);
    let line = daemon.wait_for_line("an alert could not be delivered; retrying", PATIENCE);
    assert!(line.contains("no answer within the time limit") && line.contains("mail server status 550"), "{line}");
    assert!(hanging.requests().len() < 20, "a channel that hangs is tried by one alert at a time");
    gate.open();
    post.set_refusing(false);
    // What is under way ends, and what waits is told after a restart.
    end(daemon);
    scene.state("update alert set due_at = 0 where done_at is null");
    let daemon = scene.daemon();
    wait_until("all to be over", PATIENCE, || {
        scene.state("select count(*) || '' from alert where done_at is null") == ["0"]
    });
    assert_eq!(working.requests().len(), 20, "told once each");
    let taken = |hook: &StandIn| {
        let mut ids: Vec<String> = bodies(hook).iter().map(|body| body["id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    };
    assert_eq!((taken(&hanging), taken(&failing), taken(&working)), (20, 20, 20));
    assert_eq!(post.mails().len(), 20);
    assert!(!post.mails().iter().any(|mail| mail.data.contains("Quackenbush")), "ids and counts only");
    end(daemon);
}

#[test]
fn a_test_goes_through_every_channel_and_says_how_each_did() {
    let (slack, gone) = (StandIn::accepting(), StandIn::start(|_| Reaction::status(404)));
    let pagerduty = StandIn::start(|_| Reaction::status(202));
    let post = MailServer::start();
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 1);
    let none = scene.cli().run(&["alerts", "test"]).expect_code(2);
    assert!(none.stderr.contains("no channel is set") && none.stderr.contains("cure: "), "{none}");
    scene.set_text("alerts", "command", "cat > told");
    set_channels(
        &mut scene,
        &[
            hook("slack", &slack.url(), ", kinds = [\"held\"]"),
            hook("pagerduty", &pagerduty.url(), &format!(", routing_key = {ROUTING_KEY:?}")),
            mail(&post, ""),
            format!("{{ url = \"{}{TOKEN}\" }}", gone.url()),
        ],
    );
    let output = scene.cli().run(&["alerts", "test"]).expect_code(1);
    let row = |name: &str| {
        let line = output
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {output}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("command"), "command json command told");
    assert_eq!(row("slack"), "slack slack url told");
    assert_eq!(row("pagerduty"), "pagerduty pagerduty url told");
    assert_eq!(row("post"), "post email smtp_url told");
    assert_eq!(row("channel.3 "), "channel.3 json url FAILED: status 404");
    assert_eq!(
        row("channel.3:"),
        "channel.3: cure: make a new webhook and write its address: the service does not know this one (any more)"
    );
    assert_eq!(bodies(&slack)[0]["text"], "A test of this channel: nothing is wrong");
    let events = bodies(&pagerduty);
    assert_eq!((&events[0]["event_action"], &events[1]["event_action"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!((&events[0]["dedup_key"], &events[0]["payload"]["severity"]), (&events[1]["dedup_key"], &json!("info")));
    assert_eq!(post.mails().len(), 1);
    let told = std::fs::read_to_string(scene.directory().join("told")).expect("the command was told");
    assert_eq!(serde_json::from_str::<Value>(&told).expect("a document")["kind"], "test");
    discreet(&format!("{}{}", output.stdout, output.stderr));

    let one = scene.cli().run(&["alerts", "test", "--channel", "slack", "--json"]).expect_code(0).json();
    assert_eq!(
        one["channels"],
        json!([
            {"name": "slack", "format": "slack", "way": "url", "told": true, "reason": null, "cure": null}
        ])
    );
    assert_eq!((bodies(&slack).len(), bodies(&pagerduty).len()), (2, 2));
    let unknown = scene.cli().run(&["alerts", "test", "--channel", "slak"]).expect_code(2);
    assert!(unknown.stderr.contains("there is no channel `slak`: did you mean `slack`?"), "{unknown}");
    post.set_refusing(true);
    let refused = scene.cli().run(&["alerts", "test", "--channel", "post"]).expect_code(1);
    assert!(refused.stdout.contains("mail server status 550") && refused.stdout.contains("post: cure: "), "{refused}");
    discreet(&refused.stdout);
}

#[test]
fn a_mail_server_with_tls_is_spoken_to_if_its_certificate_is_trusted() {
    let post = MailServer::start().asking_to_sign_in();
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 1);
    let roots = scene.directory().join("roots.pem");
    let front = TlsFront::before(post.port(), &roots);
    let url = format!("smtps://alerts:{MAIL_PASSWORD}@localhost:{}", front.port);
    let channel = format!(
        "{{ name = \"post\", format = \"email\", smtp_url = {url:?}, from = \"sync@example.com\", to = [\"ops@example.com\"] }}"
    );
    set_channels(&mut scene, &[channel]);
    let trusting = scene.cli().env("SSL_CERT_FILE", &roots.display().to_string());
    trusting.run(&["alerts", "test"]).expect_code(0);
    let mail = post.mails().pop().expect("a mail");
    assert_eq!(mail.to, ["ops@example.com"]);
    assert!(mail.auth.is_some_and(|line| line.starts_with("AUTH PLAIN ")));
    let refused = scene.cli().run(&["alerts", "test"]).expect_code(1);
    assert!(refused.stdout.contains("TLS with the mail server failed"), "{refused}");
    discreet(&format!("{}{}", refused.stdout, refused.stderr));
    assert_eq!(post.mails().len(), 1);
}
