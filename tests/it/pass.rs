//! The main promise, through the real program and over real HTTP: the CRM's content arrives at Conversica, each lead
//! once, in exactly the mapped form; unchanged content is not sent; failed requests are retried until they succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::binary::Cli;
use crate::support::crm_leads::{body, body_named, create, insert, places, program};
use crate::support::engine::{Engine, Place, on_both_engines};
use conversica_sync::sandbox::{RunningSandbox, SandboxOptions, start};

on_both_engines!(
    ten_thousand_leads_arrive_once_and_then_only_what_changes,
    a_lead_that_cannot_be_sent_waits_until_its_row_is_mended,
    rows_that_vanish_are_gone_until_they_come_back,
    whatever_the_endpoint_does_every_lead_arrives_and_every_attempt_is_journalled,
);

/// A CRM, an empty state on the other engine, and a sandbox, with the program between them.
struct Scene {
    crm: Place,
    state: Place,
    sandbox: RunningSandbox,
    cli: Cli,
    _directory: TempDir,
}

impl Scene {
    async fn with(engine: Engine, leads: u32, faults: &str) -> Self {
        let options = SandboxOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            username: "sandbox".into(),
            password: "sandbox".into(),
            faults: faults.parse().unwrap(),
            seed: 7,
            play: None,
        };
        let sandbox = start(options).await.unwrap();
        let (crm, state) = places(engine);
        create(&crm, leads).await;
        let directory = tempfile::tempdir().unwrap();
        let cli = program(directory.path(), &crm, &state, &sandbox.endpoint()).deadline(Duration::from_secs(300));
        Self { crm, state, sandbox, cli, _directory: directory }
    }

    /// Runs one pass with that exit code; returns its document.
    async fn once(&self, code: i32) -> Value {
        let cli = self.cli.clone();
        // Not on the runtime's thread: the sandbox has to answer on it meanwhile.
        let output = tokio::task::spawn_blocking(move || cli.run(&["once", "--json"])).await.unwrap();
        output.expect_code(code).json()
    }

    /// Runs one pass; returns the number of leads that the sandbox accepted, and the document.
    async fn sent_by_once(&self, code: i32) -> (u64, Value) {
        let before = self.sandbox.counts();
        let document = self.once(code).await;
        let after = self.sandbox.counts();
        assert_eq!(after.posts - before.posts, after.accepted - before.accepted, "nothing was refused");
        assert_eq!(document["pass"]["accepted"], after.accepted - before.accepted);
        (after.accepted - before.accepted, document)
    }

    /// Checks that Conversica holds exactly these Lead objects, byte for byte.
    fn assert_held(&self, expected: impl Iterator<Item = String>) {
        let held: BTreeSet<String> = self.sandbox.leads().into_iter().collect();
        let expected: BTreeSet<String> = expected.collect();
        let wrong: Vec<_> = held.symmetric_difference(&expected).take(4).collect();
        assert!(wrong.is_empty(), "held {} of {}: {wrong:#?}", held.len(), expected.len());
    }
}

async fn ten_thousand_leads_arrive_once_and_then_only_what_changes(engine: Engine) {
    const LEADS: u32 = 10_000;
    let scene = Scene::with(engine, LEADS, "").await;
    let (sent, document) = scene.sent_by_once(0).await;
    assert_eq!(sent, u64::from(LEADS));
    scene.assert_held((1..=LEADS).map(body));
    assert_eq!(
        (document["leads"]["in_sync"].as_u64(), document["outcomes"]["accepted"].as_u64()),
        (Some(10_000), Some(10_000))
    );
    assert_eq!(document["pass"]["polled"]["rows"], LEADS);
    assert_eq!((&document["hold"], &document["halt"]), (&Value::Null, &Value::Null));

    assert_eq!(scene.sent_by_once(0).await.0, 0, "nothing has changed");

    let touch = "update leads set note = 'touched', source = case when source is null then '  ' else source end, \
                 first_name = '  ' || first_name, do_not_contact = case do_not_contact when 'Y' then '1' else '0' end";
    scene.crm.sql(touch).await;
    assert_eq!(scene.sent_by_once(0).await.0, 0, "no mapped value has changed");

    scene.crm.sql("update leads set last_name = 'Rose ' || id where id % 100 = 17").await;
    assert_eq!(scene.sent_by_once(0).await.0, 100);
    let now = |n: u32| if n % 100 == 17 { body_named(n, &format!("Rose {n}")) } else { body(n) };
    scene.assert_held((1..=LEADS).map(now));

    let counts = scene.sandbox.counts();
    assert_eq!((counts.repeated, counts.max_in_flight_per_lead), (0, 1));
}

async fn a_lead_that_cannot_be_sent_waits_until_its_row_is_mended(engine: Engine) {
    let scene = Scene::with(engine, 20, "").await;
    scene.crm.sql("update leads set email = 'nowhere', owner = ' ', do_not_contact = '?' where id = 7").await;
    scene.crm.sql("update leads set created_at = null, first_name = null where id = 8").await;
    let (sent, document) = scene.sent_by_once(3).await;
    assert_eq!((sent, document["leads"]["invalid"].as_u64()), (18, Some(2)));
    scene.assert_held((1..=20).filter(|n| ![7, 8].contains(n)).map(body));
    let reasons = invalid_reasons(&scene.state).await;
    let keys = |id: &str| -> Vec<&str> { reasons[id].iter().map(|reason| reason.split(':').next().unwrap()).collect() };
    assert_eq!(keys("7"), ["email", "optOut", "repName"]);
    assert_eq!(keys("8"), ["firstName"]);
    assert!(!format!("{reasons:?}").contains("nowhere"), "reasons never quote the row: {reasons:?}");
    assert_eq!(scene.sent_by_once(3).await.0, 0);

    scene
        .crm
        .sql("update leads set email = 'lead7@example.com', owner = 'Robin Roe', do_not_contact = 'N' where id = 7")
        .await;
    assert_eq!(scene.sent_by_once(3).await.0, 1, "one is fixed, one is not");
    scene.crm.sql("delete from leads where id = 8").await;
    insert(&scene.crm, &[8]).await;
    let (sent, document) = scene.sent_by_once(0).await;
    assert_eq!((sent, document["leads"]["invalid"].as_u64()), (1, Some(0)));
    scene.assert_held((1..=20).map(body));

    // A lead that Conversica holds becomes invalid and then returns to its content: there is nothing to send.
    scene.crm.sql("update leads set email = null where id = 3").await;
    assert_eq!(scene.sent_by_once(3).await.0, 0);
    scene.crm.sql("update leads set email = 'lead3@example.com' where id = 3").await;
    assert_eq!(scene.sent_by_once(0).await.0, 0);
}

async fn rows_that_vanish_are_gone_until_they_come_back(engine: Engine) {
    let scene = Scene::with(engine, 50, "").await;
    assert_eq!(scene.sent_by_once(0).await.0, 50);
    scene.crm.sql("delete from leads where id in (1, 25, 26, 50)").await;
    let (sent, document) = scene.sent_by_once(0).await;
    assert_eq!((sent, &document["leads"]["gone"], &document["pass"]["polled"]["gone"]), (0, &4.into(), &4.into()));
    assert_eq!(scene.sent_by_once(0).await.1["pass"]["polled"]["changed"], 0, "gone once");

    insert(&scene.crm, &[1, 25, 26, 51]).await;
    scene.crm.sql("update leads set last_name = 'Rose' where id = 26").await;
    let (sent, document) = scene.sent_by_once(0).await;
    assert_eq!((sent, &document["leads"]["gone"], &document["leads"]["in_sync"]), (2, &1.into(), &50.into()));
    let now = |n: u32| if n == 26 { body_named(n, "Rose") } else { body(n) };
    scene.assert_held((1..=51).map(now));
}

async fn whatever_the_endpoint_does_every_lead_arrives_and_every_attempt_is_journalled(engine: Engine) {
    const LEADS: u32 = 600;
    let faults = "500=6%,429=2%,cut=3%,drop=3%,timeout=1%,latency=0ms..3ms,retry_after=1s";
    let mut scene = Scene::with(engine, LEADS, faults).await;
    scene.cli = scene.cli.env("CONVERSICA_SYNC__DELIVERY__TIMEOUT", "2s");
    let document = scene.once(0).await;
    scene.assert_held((1..=LEADS).map(body));
    let counts = scene.sandbox.counts();
    assert_eq!(counts.max_in_flight_per_lead, 1);
    assert!(counts.max_in_flight > 1 && counts.max_in_flight <= 64, "{}", counts.max_in_flight);
    let journal = |class: &str| document["outcomes"][class].as_u64().unwrap();
    assert_eq!(
        (journal("accepted"), document["leads"]["in_sync"].as_u64()),
        (u64::from(LEADS), Some(u64::from(LEADS)))
    );
    assert_eq!((journal("rejected"), journal("halting")), (0, 0));
    assert_eq!(journal("transient") + journal("ambiguous"), counts.faults_injected);
    assert_eq!(journal("accepted") + counts.faults_injected, counts.posts, "every attempt has its line");

    // Only requests that the endpoint accepted without an answer came a second time, with the same content.
    let unanswered = counts.accepted - u64::from(LEADS);
    assert_eq!(counts.repeated, unanswered);
    assert!(unanswered > 0 && journal("ambiguous") > unanswered && journal("transient") > 0, "{document:#}");
    assert_eq!(scene.sent_by_once(0).await.0, 0);
}

async fn invalid_reasons(state: &Place) -> BTreeMap<String, Vec<String>> {
    use conversica_sync::store::state_db::StateDb;
    let db = StateDb::open_state_read_only(&state.url).await.unwrap().expect("there is a state");
    let sql = "select id, invalid_reasons from lead where invalid_reasons is not null";
    let rows: Vec<(String, String)> = on_state!(&db, pool => sqlx::query_as(sql).fetch_all(pool).await).unwrap();
    rows.into_iter().map(|(id, reasons)| (id, serde_json::from_str(&reasons).unwrap())).collect()
}
