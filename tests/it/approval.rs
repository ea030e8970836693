//! An approval covers the leads that the operator was shown: sets that grow and shrink, single leads, a terminal, and all
//! other work at the same time.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::lead_row::{LEASE, at, desired, finished, tester, urgent, write};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::admission::ClaimFilter;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::decision::DecisionMaker;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind, ReleaseOrder};
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{due, lead, stuck};

const SOON: Duration = Duration::from_secs(20);

blocking_on_both_engines!(
    what_has_joined_since_it_was_shown_is_not_released_unasked_and_the_new_set_is,
    what_has_left_since_it_was_shown_keeps_nobody_else,
    a_changed_content_counts_as_grown,
    single_leads_and_reasons_are_decided_upon_apart,
    what_has_gone_meanwhile_is_no_rest,
    a_kill_during_the_poll_that_holds_loses_nothing_and_sends_nothing,
);

mod at_once {
    use super::decisions_polls_and_deliveries_at_the_same_time_end_without_a_deadlock;

    crate::support::engine::on_both_engines!(decisions_polls_and_deliveries_at_the_same_time_end_without_a_deadlock);
}

/// The leads of a first run, waiting for approval.
fn held(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), leads);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    scene
}

#[track_caller]
fn shown(scene: &Scene) -> String {
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    let set = plan["held"]["shown"].as_str().expect("a set").to_owned();
    let text = scene.run(&["plan"]).expect_code(4);
    assert!(text.stdout.contains(&format!("approve --shown {set}")), "{text}");
    assert!(text.stdout.contains(&format!("baseline --shown {set}")), "{text}");
    set
}

fn what_has_joined_since_it_was_shown_is_not_released_unasked_and_the_new_set_is(engine: Engine) {
    for word in ["approve", "baseline"] {
        let endpoint = StandIn::accepting();
        let scene = held(engine, &endpoint, 3);
        let set = shown(&scene);
        scene.add(4, 5);
        scene.run(&["once"]).expect_code(4);
        let refused = scene.run(&[word, "--shown", &set, "--yes"]).expect_code(4);
        assert!(refused.stdout.contains("3 leads then, 5 now"), "{refused}");
        assert_eq!(scene.status()["leads"]["held"], 5);
        let set = shown(&scene);
        scene.run(&[word, "--shown", &set, "--yes"]).expect_code(0);
        scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.answered(), if word == "approve" { 5 } else { 0 });
        assert_eq!(scene.status()["leads"][if word == "approve" { "in_sync" } else { "assumed" }], 5);
        scene.run(&[word, "--shown", "never-heard-of"]).expect_code(2);
    }
}

fn what_has_left_since_it_was_shown_keeps_nobody_else(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = held(engine, &endpoint, 4);
    let set = shown(&scene);
    scene.crm("update leads set email = null where id = 2; delete from leads where id = 3");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--shown", &set, "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(3);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("1").len(), endpoint.bodies_of("4").len()), (2, 1, 1));
}

fn a_changed_content_counts_as_grown(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = held(engine, &endpoint, 3);
    let set = shown(&scene);
    scene.crm("update leads set first_name = 'Zoe' where id = 2");
    scene.run(&["once"]).expect_code(4);
    let refused = scene.run(&["approve", "--shown", &set, "--yes"]).expect_code(4);
    assert!(refused.stdout.contains("Nothing was changed"), "{refused}");
    let asked = scene.run(&["approve"]).expect_code(2);
    assert!(asked.stderr.contains("Send 3 leads") && asked.stderr.contains("3 people will be contacted"), "{asked}");
    let asked = scene.run(&["baseline"]).expect_code(2);
    assert!(asked.stderr.contains("Treat 3 leads") && asked.stderr.contains("3 people"), "{asked}");
    assert_eq!((&scene.status()["leads"]["held"], endpoint.connections()), (&json!(3), 0));
}

fn single_leads_and_reasons_are_decided_upon_apart(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = held(engine, &endpoint, 5);
    let approved = scene.run(&["approve", "1", "4", "--yes"]).expect_code(0);
    assert!(approved.stdout.contains("2 leads will be sent"), "{approved}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("1").len(), endpoint.bodies_of("4").len()), (2, 1, 1));
    for misspelt in [
        &["approve", "--reason", "ambiguous", "--yes"][..],
        &["approve", "999", "--yes"],
        &["baseline", "999", "--yes"],
    ] {
        let nothing = scene.run(misspelt).expect_code(2);
        assert!(
            nothing.stderr.contains("Nothing of that is held") && nothing.stderr.contains("leads --status held"),
            "{nothing}"
        );
    }
    scene.run(&["baseline", "2", "--yes"]).expect_code(0);
    scene.add(6, 6);
    assert_eq!(scene.run(&["once", "--json"]).expect_code(4).json()["leads"]["held"], 3, "the hold still stands");
    scene.run(&["approve", "--reason", "first_run", "--yes"]).expect_code(0);
    scene.add(7, 7);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (6, 0));
}

fn what_has_gone_meanwhile_is_no_rest(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = held(engine, &endpoint, 3);
    scene.crm("create table away as select * from leads where id = 2; delete from leads where id = 2");
    scene.run(&["once"]).expect_code(4);
    let output = scene.run(&["baseline", "--yes"]).expect_code(0);
    assert!(!output.stdout.contains("joined meanwhile"), "{output}");
    scene.crm("insert into leads select * from away");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((&scene.status()["leads"]["assumed"], endpoint.connections()), (&json!(3), 0));
}

fn a_kill_during_the_poll_that_holds_loses_nothing_and_sends_nothing(engine: Engine) {
    const LEADS: u32 = 6000;
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), LEADS);
    scene.set("safety", "first_run", "");
    scene.killed_daemon("the first leads held", || {
        scene.status()["leads"]["held"].as_u64().is_some_and(|leads| leads > 0)
    });
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["leads"]["held"], &status["hold"]["reason"]), (&json!(LEADS), &json!("first_run")));
    assert_eq!(endpoint.connections(), 0);
    let output = scene.run(&["baseline", "--yes"]).expect_code(0);
    assert!(output.stdout.contains("6,000 leads are now assumed known, never sent"), "{output}");
}

async fn decisions_polls_and_deliveries_at_the_same_time_end_without_a_deadlock(engine: Engine) {
    const LEADS: usize = 200;
    const ROUNDS: i64 = 25;
    let place = engine.place();
    let db = place.state().await;
    let changes = |round: i64| -> Vec<LeadChange> {
        let change = |n: usize| match (n as i64 + round) % 4 {
            0 => crate::support::lead_row::held(&format!("{n:03}"), &format!("{n} in round {round}")),
            1 => urgent(&format!("{n:03}"), &format!("{n} in round {round}")),
            _ => desired(&format!("{n:03}"), &format!("{n} in round {round}")),
        };
        (0..LEADS).rev().map(change).collect()
    };
    write(&db, &changes(0), 0).await;
    let poll = async {
        for round in 1..=ROUNDS {
            write(&db, &changes(round), round).await;
            held::send_staged(&db, at(round)).await.unwrap();
        }
    };
    let decide = async {
        for round in 1..=ROUNDS {
            let release = if round % 2 == 0 { ReleaseKind::Send } else { ReleaseKind::Baseline };
            let everything = HeldSelection::default();
            let held = held::look(&db, &everything).await.unwrap();
            held::release(
                &db,
                ReleaseOrder { selection: &everything, shown: &held, release, who: &DecisionMaker::new("tests") },
                at(round),
                |_| (),
            )
            .await
            .unwrap();
            stuck::requeue(
                &db,
                RetryOrder {
                    statuses: &[LeadStatus::Rejected, LeadStatus::Exhausted],
                    ids: None,
                    reason: None,
                    who: &tester(),
                },
                at(round),
                |_| (),
            )
            .await
            .unwrap();
        }
    };
    let others = async {
        for round in 1..=ROUNDS {
            due::hurry_withdrawals(&db, at(round)).await.unwrap();
            due::hold_surplus_tests(&db, 1, at(round)).await.unwrap();
        }
    };
    let deliver = async {
        let mut ended = Vec::new();
        for seconds in 1..=60 {
            ended.reverse();
            let claims = delivery::record_and_claim(
                &db,
                &ended,
                ClaimRequest { leads: 48, admit: &ClaimFilter::TestLeads(150), ..ClaimRequest::NOTHING },
                at(seconds),
                LEASE,
            )
            .await
            .unwrap();
            let outcome = |(n, claim)| match n % 4 {
                0 => finished(claim, OutcomeClass::Accepted, NextStep::Done, seconds),
                1 => finished(claim, OutcomeClass::Transient, NextStep::RetryAt(at(seconds + 1)), seconds),
                2 => finished(claim, OutcomeClass::Ambiguous, NextStep::Hold, seconds),
                _ => finished(claim, OutcomeClass::Rejected, NextStep::Rejected, seconds),
            };
            ended = claims.iter().enumerate().map(outcome).collect();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(poll, decide, others, deliver);
    assert_eq!(lead::counts(&db).await.unwrap().values().sum::<i64>(), LEADS as i64);
}

/// `approve` as an operator starts it at a terminal.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn approve(scene: &Scene) -> Self {
        scene.cli();
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", concat!(env!("CARGO_BIN_EXE_conversica-sync"), " approve"), "/dev/null"]);
        command.current_dir(scene.directory()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script is installed: it is in bsdutils");
        let mut output = child.stdout.take().expect("it is piped");
        let screen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        let keyboard = child.stdin.take().expect("it is piped");
        Self { child, keyboard, screen }
    }

    /// Waits for the n-th question.
    fn asked(&self, n: usize) -> String {
        let start = std::time::Instant::now();
        wait_until("the question on the screen", SOON + Duration::from_secs(1), || {
            let screen = self.screen.lock().unwrap();
            assert!(start.elapsed() < SOON, "question {n} did not come: {screen}");
            screen.matches("[y/N]").count() == n
        });
        self.screen.lock().unwrap().clone()
    }

    fn answer(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").expect("the terminal takes it");
    }

    fn ended(mut self, code: i32) -> String {
        wait_until("the end", SOON, || self.child.try_wait().expect("it is ours").is_some());
        let status = self.child.wait().expect("it is ours");
        let screen = self.screen.lock().unwrap().clone();
        assert_eq!(status.code(), Some(code), "{screen}");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn at_a_terminal_a_no_changes_nothing_and_what_joins_before_the_yes_is_asked_about_in_turn() {
    let endpoint = StandIn::accepting();
    let scene = held(Engine::Sqlite, &endpoint, 3);
    let mut terminal = Terminal::approve(&scene);
    assert!(terminal.asked(1).contains("Send 3 leads (held: first_run 3)? 3 people will be contacted"));
    terminal.answer("n");
    drop(terminal);
    assert_eq!(scene.status()["leads"]["held"], 3);

    let mut terminal = Terminal::approve(&scene);
    terminal.asked(1);
    scene.add(4, 5);
    scene.run(&["once"]).expect_code(4);
    terminal.answer("y");
    let screen = terminal.asked(2);
    assert!(screen.contains("3 leads will be sent") && screen.contains("Send 2 leads"), "{screen}");
    assert_eq!(scene.status()["leads"]["held"], 2, "the first yes covers what was shown");
    terminal.answer("y");
    terminal.ended(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 5);
}

#[test]
fn approving_decides_the_first_run_though_a_poll_comes_in_between() {
    let endpoint = StandIn::accepting();
    let scene = held(Engine::Sqlite, &endpoint, 3);
    let mut daemon = scene.daemon();
    scene.run(&["approve", "--yes"]).expect_code(0);
    endpoint.wait_for_requests(3, SOON);
    scene.add(4, 6);
    endpoint.wait_for_requests(6, SOON);
    assert!(!daemon.stderr().contains("deadlock"));
    daemon.wait_for_line("\"message\":\"running\"", SOON);
    daemon.kill();
}
