//! No damage hides a withdrawal: after a damaged post that withdraws consent, whatever its answer was, the lead is not
//! sent as contactable. The reverse holds too: an ordinary post never counts as a withdrawal. Through the real program.
//!
//! `DAMAGED_POST_SEED` selects other posts; a failure names the seed.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::support::damaged_post::{Damage, DamagedPost, damaged_in, damaged_post, ordinary_post};
use crate::support::receiver::{PASSWORD, Receiver, USERNAME, basic, request, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::conversica::consent_word::ConsentChannel;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::conversica::{consent, heard, withdrawal};

const SOON: Duration = Duration::from_secs(60);
/// The first lead id in the CRM. No other text of a post contains these ids.
const FIRST: u32 = 470_001;

fn seed() -> u64 {
    std::env::var("DAMAGED_POST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(18)
}

fn scene(endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 0);
    with_receiver(&mut scene);
    scene.set_text("lead", "smsOptOut", "opt_out");
    scene.add(FIRST, FIRST + leads - 1);
    scene
}

fn described(body: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(body))
}

fn post(receiver: &Receiver, case: &DamagedPost) -> u16 {
    let authorization = match case.content_type {
        "" => basic(USERNAME, PASSWORD),
        content_type => format!("{}\r\nContent-Type: {content_type}", basic(USERNAME, PASSWORD)),
    };
    receiver.ask(&request("POST", case.path, Some(&authorization), &case.body)).status
}

/// Starts the daemon, and waits until Conversica has all leads as contactable.
fn started(scene: &Scene, endpoint: &StandIn, leads: u32) -> Receiver {
    let receiver = Receiver::start(scene);
    wait_until("all leads are sent", SOON, || endpoint.answered() >= leads as usize);
    receiver
}

/// Waits until all posts are applied, changes all rows, and waits until Conversica has the result.
fn changed(scene: &Scene, endpoint: &StandIn, last: u32) {
    wait_until("all posts are taken in", SOON, || {
        scene.state("select seq || '' from event where applied_at is null and examined_at is null").is_empty()
    });
    scene.crm("update leads set last_name = 'Changed'");
    wait_until("every changed row is sent", SOON, || {
        (FIRST..=last).all(|id| last_body(endpoint, id).is_some_and(|body| body["lastName"] == "Changed"))
    });
}

fn last_body(endpoint: &StandIn, id: u32) -> Option<Value> {
    endpoint.bodies_of(&id.to_string()).pop()
}

#[test]
fn after_a_damaged_post_that_says_stop_a_lead_is_not_sent_as_one_that_may_be_contacted() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut id = FIRST;
    let mut cases = Vec::new();
    // Each kind of damage alone or with others, several times.
    for _ in 0..4 {
        for damage in Damage::ALL {
            cases.push((id, damaged_in(&mut rng, &id.to_string(), damage)));
            id += 1;
        }
    }
    let leads = id - FIRST;
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint, leads);
    let receiver = started(&scene, &endpoint, leads);
    let statuses: Vec<u16> = cases.iter().map(|(_, case)| post(&receiver, case)).collect();
    changed(&scene, &endpoint, id - 1);
    receiver.end();
    let mut broken = Vec::new();
    for ((id, case), status) in cases.iter().zip(&statuses) {
        let key = match case.channel {
            ConsentChannel::Email => "optOut",
            ConsentChannel::Sms => "smsOptOut",
        };
        let bodies = endpoint.bodies_of(&id.to_string());
        let contactable = bodies.iter().any(|body| body["lastName"] == "Changed" && body[key] != true);
        let waits = scene.run(&["lead", &id.to_string(), "--json"]).json()["possible_opt_outs"]
            .as_array()
            .is_some_and(|possible| possible.iter().any(|possible| possible["decision"].is_null()));
        // A refused post was not understood, so it has to wait for the operator.
        if contactable || (*status != 200 && !waits) {
            let (path, damages) = (case.path, &case.damages);
            broken.push(format!("{id} {key} {damages:?} at {path} answered {status}: {}", described(&case.body)));
        }
    }
    assert!(broken.is_empty(), "with seed {seed}:\n{}", broken.join("\n"));
    assert!(statuses.contains(&200) && statuses.contains(&400), "the posts are of one kind only: {statuses:?}");
    let status = scene.run(&["status"]);
    assert!(status.code == Some(4) && status.stdout.contains("POSSIBLE OPT-OUTS"), "with seed {seed}: {status}");
}

#[test]
fn an_ordinary_post_is_never_taken_for_a_withdrawal() {
    const POSTS_A_LEAD: usize = 2;
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let leads = 40;
    let last = FIRST + leads - 1;
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint, leads);
    let receiver = started(&scene, &endpoint, leads);
    let mut posts = Vec::new();
    for id in FIRST..=last {
        for _ in 0..POSTS_A_LEAD {
            let (path, body) = ordinary_post(&mut rng, &id.to_string());
            let answer = receiver.post(path, &body);
            assert_eq!(answer.status, 200, "with seed {seed}: {}", described(&body));
            posts.push((id, body));
        }
    }
    changed(&scene, &endpoint, last);
    receiver.end();
    let mut alarms = Vec::new();
    for (id, body) in &posts {
        let sent = last_body(&endpoint, *id).expect("it was sent");
        if sent["optOut"] != false || sent["smsOptOut"] != false {
            alarms.push(format!("{id}: {}", described(body)));
        }
    }
    assert!(alarms.is_empty(), "with seed {seed}:\n{}", alarms.join("\n"));
    let status = scene.run(&["status", "--json"]);
    assert_eq!(status.json()["received"]["possible_opt_outs"], 0, "with seed {seed}: {status}");
    assert_eq!(status.code, Some(0), "with seed {seed}: {status}");
}

fn kind_at(path: &str) -> PostKind {
    match path {
        "/conversica/message" => PostKind::Message,
        "/conversica/create" => PostKind::ChatLead,
        _ => PostKind::LeadUpdate,
    }
}

/// Whether a post withdraws that consent of that lead by the rules alone: for certain, or until the operator has decided.
fn withdraws(kind: PostKind, body: &[u8], id: &str, channel: ConsentChannel) -> bool {
    let (mut is_withdrawn, mut ids) = (false, Vec::new());
    let possible = match heard::read(kind, body) {
        Ok(post) => {
            let words = match kind {
                PostKind::LeadUpdate => consent::words(&post.content, chrono::DateTime::UNIX_EPOCH),
                PostKind::Message | PostKind::ChatLead => Vec::new(),
            };
            is_withdrawn = words.iter().any(|word| !word.given && word.channel == channel);
            let possible = withdrawal::in_readable(&post, &words);
            ids.push(post.lead.id);
            possible
        }
        Err(_) => withdrawal::in_unreadable(kind, body),
    };
    if let Some(possible) = possible {
        ids.extend(possible.named.ids);
        is_withdrawn |= possible.channels.contains(&channel);
    }
    is_withdrawn && ids.iter().any(|named| named == id)
}

#[test]
fn no_kind_of_damage_hides_a_stop_from_the_rules() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hidden = Vec::new();
    for n in 0..10_000 {
        let id = format!("{}", 470_001 + n);
        let case = damaged_post(&mut rng, &id);
        if !withdraws(kind_at(case.path), &case.body, &id, case.channel) {
            hidden.push(format!("{:?} {:?} at {}: {}", case.channel, case.damages, case.path, described(&case.body)));
        }
    }
    assert!(hidden.is_empty(), "with seed {seed}, {} hidden:\n{}", hidden.len(), hidden.join("\n"));
}

#[test]
fn the_rules_take_no_ordinary_post_for_a_stop() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    for n in 0..2_000 {
        let id = format!("{}", 470_001 + n);
        let (path, body) = ordinary_post(&mut rng, &id);
        let is_taken = ConsentChannel::ALL.into_iter().any(|channel| withdraws(kind_at(path), &body, &id, channel));
        assert!(!is_taken, "with seed {seed}: {}", described(&body));
    }
}
