//! A plan as people and scripts see it: the numbers, the reasons, the lead in question.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::terminal::Terminal;
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    the_numbers_say_who_is_new_what_changes_and_why_rows_are_invalid,
    a_halt_is_said_first_and_other_credentials_lift_it,
    caps_say_when_the_last_new_person_is_written_to,
    the_token_is_shown_neither_where_it_would_be_sent_nor_where_it_was,
    whole_numbers_are_sorted_as_numbers_whatever_column_they_are_in,
);

const TOKEN: &str = "Plugh-token-1977";

#[track_caller]
fn says(text: &str, words: &[&str]) {
    // Two or more blanks separate the columns.
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let text = lines.join("\n");
    for words in words {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

fn ids(plan: &Value) -> Vec<&str> {
    plan["leads"].as_array().expect("a list").iter().map(|lead| lead["id"].as_str().expect("text")).collect()
}

fn whole_numbers_are_sorted_as_numbers_whatever_column_they_are_in(engine: Engine) {
    let endpoint = StandIn::accepting();
    for (kind, is_query) in
        [("integer", false), ("text", false), ("numeric", false), ("double precision", false), ("integer", true)]
    {
        let mut scene = Scene::on(engine, &endpoint.url(), 0);
        scene.crm("drop table leads");
        scene.crm(&format!(
            "create table leads (id {kind}, first_name text, last_name text, email text, owner_name text, \
             opt_out integer not null default 0, conversation text)"
        ));
        scene.add(1, 12);
        scene.crm(if kind == "text" {
            "update leads set id = '-3' where id = '12'"
        } else {
            "update leads set id = -3 where id = 12"
        });
        if is_query {
            scene.set("source", "table", "").set_text("source", "query", "select * from leads");
        }
        scene.set_text("source", "on_delete", "stop_messaging");
        let sorted = ["-3", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
        assert_eq!(ids(&scene.run(&["plan", "--json"]).expect_code(0).json()), sorted, "{kind}");
        assert_eq!(ids(&scene.run(&["plan", "--json", "--limit", "3"]).expect_code(0).json()), sorted[..3], "{kind}");
        scene.run(&["once"]).expect_code(0);
        scene.crm(if kind == "text" {
            "delete from leads where id in ('2', '10')"
        } else {
            "delete from leads where id in (2, 10)"
        });
        scene.crm("update leads set first_name = 'Zoe'");
        let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
        assert_eq!((ids(&plan), &plan["stop"]), (sorted.to_vec(), &json!(2)), "with those that are gone: {kind}");
    }
}

fn the_numbers_say_who_is_new_what_changes_and_why_rows_are_invalid(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 6);
    scene.set_text("lead", "conversationId", "conversation");
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Zoe' where id <= 3; update leads set last_name = 'Lee' where id = 3");
    scene.crm("update leads set opt_out = 1 where id = 4; update leads set conversation = 'Winback' where id = 5");
    scene.add(7, 20);
    scene.crm("update leads set conversation = 'Winback' where id = 9");
    scene.crm("update leads set email = 'Shared@example.com' where id in (9, 12, 13, 14)");
    scene.crm("update leads set email = '' where id between 15 and 20");
    scene.crm("update leads set owner_name = null where id = 20");
    let plan = scene.run(&["plan", "--json"]).expect_code(3).json();
    let numbers = ["create", "update", "stop", "invalid", "unchanged", "same_email", "same_email_uncompared"];
    assert_eq!(numbers.map(|key| plan[key].as_u64().expect(key)), [8, 4, 1, 6, 1, 1, 0]);
    assert_eq!(plan["new_people_by_conversation"], json!({"Inbound Leads": 7, "Winback": 1}));
    let changed = json!({"conversationId": 1, "firstName": 3, "lastName": 1, "optOut": 1});
    assert_eq!(plan["changed_keys"], changed);
    let reason = |at: usize| {
        let reason = &plan["invalid_reasons"][at];
        let first: Vec<&str> =
            reason["first"].as_array().unwrap().iter().map(|lead| lead["id"].as_str().unwrap()).collect();
        (reason["leads"].as_u64().unwrap(), reason["reason"].as_str().unwrap().split(':').next().unwrap(), first)
    };
    assert_eq!(reason(0), (6, "email", vec!["15", "16", "17", "18", "19"]));
    assert_eq!(reason(1), (1, "repName", vec!["20"]));
    let example = &plan["same_email_examples"][0];
    assert_eq!(
        (&example["leads"], &example["first"][0]["id"], &example["first"][2]["id"]),
        (&json!(4), &json!("9"), &json!("13"))
    );
    let text = scene.run(&["plan"]).expect_code(3).stdout;
    says(
        &text,
        &[
            "A pass would send 13 requests:\n8 people contacted for the first time\n7 in Inbound Leads\n1 in Winback\n4 updates\n1 \
             opt-outs and stops\nand leave alone:\n1 unchanged\n6 invalid\n0 gone",
            "6 email: is required, but blank (column \"email\"): 15, 16, 17, 18, 19, …",
            "1 repName: is required, but blank (column \"owner_name\"): 20",
            "these keys change:\n3 leads firstName\n1 lead conversationId\n1 lead lastName\n1 lead optOut",
            "1 e-mail address(es) belong to more than one id.\nthe same address: 9, 12, 13 and 1 more",
            "firstName: \"Ann3\" → \"Zoe\"\nlastName: \"Bell\" → \"Lee\"",
            "create 7 not known to Conversica\napiVersion: \"7.2\"\nconversationId: \"Inbound Leads\"",
        ],
    );
    assert!(
        text.contains("        firstName: \"Ann3\" → \"Zoe\"\n        lastName:  \"Bell\" → \"Lee\"\n"),
        "aligned:\n{text}"
    );
    assert!(!text.contains("hared@example.com stand"), "no address among the numbers:\n{text}");
    assert!(!text.contains("HALTED") && !text.contains("TOKEN") && !text.contains("a second"), "{text}");
}

fn a_halt_is_said_first_and_other_credentials_lift_it(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::status(401));
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(4);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["halt"]["reason"], &plan["create"]), (&json!("credentials"), &json!(2)));
    let text = scene.run(&["plan"]).expect_code(0).stdout;
    assert!(text.starts_with("HALTED (credentials) since "), "{text}");
    says(&text, &["nothing is sent.\ncure: "]);
    scene.set_text("conversica", "username", "somebody-else");
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(0).json()["halt"], Value::Null);
}

fn caps_say_when_the_last_new_person_is_written_to(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 2);
    scene.set("safety", "new_leads_per_day", "5").set("delivery", "requests_per_second", "0.1");
    let text = scene.run(&["plan"]).expect_code(0).stdout;
    says(
        &text,
        &[
            "At 0.1 a second ([delivery] requests_per_second) 2 requests take about 20 s.",
            "At 5 new people a day the last of",
        ],
    );
    scene.set("delivery", "requests_per_second", "1000");
    scene.run(&["once"]).expect_code(0);
    // Two of today's five are used: with twelve more the last one goes after two days.
    scene.add(3, 14);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    let day = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("an instant");
    let last = day(plan["forecast"]["last_new_person_at"].as_str().expect("it takes a while"));
    let first = scene.run(&["lead", "1", "--json"]).json()["first_contact_at"].as_str().map(day).expect("sent");
    assert_eq!((last - first).num_hours() / 24, 2, "{first} {last}");
    scene.set("safety", "first_run", "").set_text("safety", "first_run", "baseline");
    assert_eq!(scene.run(&["plan", "--json"]).json()["baseline"], false, "the first run is over");
}

#[test]
fn a_first_run_as_a_baseline_is_said_to_send_nothing() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 2);
    scene.set_text("safety", "first_run", "baseline");
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(0).json()["baseline"], true);
    assert!(scene.run(&["plan"]).stdout.starts_with("FIRST RUN AS A BASELINE"));
}

fn the_token_is_shown_neither_where_it_would_be_sent_nor_where_it_was(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(422).body("no Plugh-token-1977 here"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 4);
    let quiet = |scene: &Scene, arguments: &[&str]| {
        let output = scene.run(arguments);
        assert!(!format!("{output}").contains(TOKEN), "the token is shown: {output}");
        output
    };
    scene.set_text("conversica", "test_lead_token", TOKEN).set("conversica", "test_lead_limit", "3");
    let plan = quiet(&scene, &["plan", "--json"]).expect_code(4).json();
    assert_eq!(plan["leads"][0]["changes"]["lastName"], json!([null, "(test lead token)"]));
    assert_eq!((&plan["test_leads"], &plan["forecast"]), (&json!({"limit": 3, "left": 3}), &Value::Null));
    let text = quiet(&scene, &["plan"]).expect_code(4).stdout;
    assert!(text.starts_with("THE TEST LEAD TOKEN IS SET: "), "{text}");
    scene.run(&["once"]);
    let lead = quiet(&scene, &["lead", "1", "--json"]).expect_code(0).json();
    assert_eq!(
        (&lead["desired"]["lastName"], &lead["delivered"]["lastName"]),
        (&json!("(test lead token)"), &json!("(test lead token)"))
    );
    for lead in ["1", "2"] {
        assert!(quiet(&scene, &["lead", lead]).expect_code(0).stdout.contains("(test lead token)"));
    }
    quiet(&scene, &["lead", "2", "--json"]).expect_code(0);
    // The operator removes the token to go live; the state still has it.
    scene.set("conversica", "test_lead_token", "");
    let plan = quiet(&scene, &["plan", "--json", "--lead", "1"]).json();
    assert_eq!(plan["leads"][0]["changes"], json!({"lastName": ["(last name of a test lead)", "Bell"]}));
    quiet(&scene, &["plan"]);
    for arguments in [&["lead", "1"][..], &["lead", "1", "--json"]] {
        quiet(&scene, arguments).expect_code(0);
    }
}

#[test]
fn only_what_was_asked_for_is_shown_and_the_numbers_stay() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Zoe' where id = 1; ");
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.add(4, 60);
    scene.crm("update leads set email = '' where id > 50");
    let asked = |arguments: &[&str]| {
        let plan = scene.run(&[&["plan", "--json"], arguments].concat()).expect_code(3).json();
        assert_eq!((&plan["create"], &plan["invalid"]), (&json!(47), &json!(10)));
        ids(&plan).join(" ")
    };
    assert_eq!(asked(&[]).split(' ').count(), 59);
    assert_eq!(asked(&["--only", "update"]), "1");
    assert_eq!(asked(&["--only", "stop", "--only", "update"]), "1 2");
    assert_eq!(asked(&["--only", "create,stop", "--limit", "3"]), "2 4 5");
    assert_eq!(asked(&["--only", "invalid", "--limit", "1"]), "51");
    assert_eq!(asked(&["--lead", "7", "--lead", "55", "--lead", "3"]), "7 55", "3 is unchanged");
    assert_eq!(asked(&["--limit", "0"]), "");
    let shown = |arguments: &[&str]| scene.run(&[&["plan"], arguments].concat()).expect_code(3).stdout;
    let creates = |text: &str| text.lines().filter(|line| line.starts_with("create ")).count();
    assert!(shown(&[]).contains("… and 39 more"));
    let text = shown(&["--only", "create", "--limit", "40"]);
    assert!(creates(&text) == 40 && text.contains("… and 7 more") && text.contains("send 49 requests"), "{text}");
    assert!(shown(&["--lead", "3"]).contains("No lead that a pass would send"));
    let refused = scene.run(&["plan", "--only", "delete"]).expect_code(2);
    assert!(refused.stderr.contains("create, update, assumed_known, stop, invalid"), "{refused}");
}

#[test]
fn the_text_shows_twenty_leads_unless_a_limit_is_given_and_no_reader_has_to_read_all_of_it() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 30);
    let creates = |text: &str| text.lines().filter(|line| line.starts_with("create ")).count();
    let text = scene.run(&["plan"]).expect_code(0).stdout;
    assert!(text.starts_with("A pass would send 30 requests:"), "{text}");
    assert!(creates(&text) == 20 && text.contains("… and 10 more"), "{text}");
    assert_eq!(creates(&scene.run(&["plan", "--limit", "30"]).expect_code(0).stdout), 30);
    let text = scene.run(&["plan", "--only", "create", "--limit", "7"]).expect_code(0).stdout;
    assert!(creates(&text) == 7 && text.contains("… and 23 more"), "{text}");
    // A terminal shows the same.
    let terminal = Terminal::open();
    terminal.of(scene.cli()).run(&["plan"]).expect_code(0);
    wait_until("the terminal shows it", Duration::from_secs(10), || creates(&terminal.shown()) == 20);
}
