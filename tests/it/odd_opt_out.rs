//! An opt-out key on a column with other content: many odd values are no opt-outs, and none of them is sent as one.

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    an_opt_out_key_mapped_onto_a_text_column_withdraws_nobodys_consent,
    an_opt_out_column_that_turns_into_texts_withdraws_nobodys_consent_but_what_is_clear,
    a_few_odd_values_among_many_rows_are_sent_as_opt_outs,
);

/// Delivered leads, with a flag and a text column that is no flag.
fn delivered(engine: Engine, endpoint: &StandIn, leads: usize) -> Scene {
    let scene = Scene::on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(
        "create table leads (id integer primary key, first_name text, last_name text, email text, owner_name text, \
         opt_out text, status text)",
    );
    for id in 1..=leads {
        scene.crm(&format!(
            "insert into leads values ({id}, 'Ann', 'Bell', 'ann{id}@example.com', 'Rae Rep', '0', 'Open {}')",
            id % 3
        ));
    }
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), leads);
    scene
}

fn withdrawn(endpoint: &StandIn) -> usize {
    let said = |body: &&serde_json::Value| body["optOut"] == true || body["stopMessaging"] == true;
    (1..=40).flat_map(|id| endpoint.bodies_of(&id.to_string())).filter(|body| said(&body)).count()
}

fn an_opt_out_key_mapped_onto_a_text_column_withdraws_nobodys_consent(engine: Engine) {
    for (key, leads) in [("optOut", 12), ("stopMessaging", 3)] {
        let endpoint = StandIn::accepting();
        let mut scene = delivered(engine, &endpoint, leads);
        scene.set_text("lead", key, "status");
        let plan = scene.run(&["plan", "--json"]).json();
        assert_eq!((&plan["stop"], &plan["invalid"]), (&json!(0), &json!(leads)), "{plan:#}");
        scene.run(&["once"]).expect_code(4);
        // Later polls do not send them row by row either.
        scene.crm("update leads set first_name = 'Zoe' where id = 1");
        scene.run(&["once"]).expect_code(4);
        scene.run(&["once", "--full"]).expect_code(4);
        assert_eq!(endpoint.answered(), leads, "nothing is sent");
        let status = scene.run(&["status"]).expect_code(4);
        assert!(status.stdout.contains(&format!("POSSIBLE OPT-OUTS in the rows of {leads} leads")), "{status}");
        let lead = scene.run(&["lead", "2"]).stdout;
        assert!(lead.contains("correct the mapping or the values"), "{lead}");
        // With the mapping corrected, the rows are leads again.
        scene.set_text("lead", key, "opt_out");
        scene.run(&["once"]);
        assert_eq!((withdrawn(&endpoint), &scene.status()["opt_out_values"]["unclear"]), (0, &json!(0)));
    }
}

fn an_opt_out_column_that_turns_into_texts_withdraws_nobodys_consent_but_what_is_clear(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = delivered(engine, &endpoint, 20);
    scene.crm("update leads set opt_out = 'Eligible'");
    scene.crm("update leads set opt_out = 'Unsubscribed' where id = 7");
    scene.crm("update leads set opt_out = '1' where id = 8");
    scene.run(&["once", "--full"]).expect_code(4);
    assert_eq!((withdrawn(&endpoint), endpoint.answered()), (2, 22), "the clear ones go");
    assert!([7, 8].iter().all(|id| endpoint.bodies_of(&id.to_string()).len() == 2));
    // Once the operator has corrected the values, a single odd one counts again.
    scene.crm("update leads set opt_out = '0' where id not in (7, 8)");
    scene.run(&["once", "--full"]);
    scene.crm("update leads set opt_out = '2026-11-20' where id = 9");
    scene.run(&["once", "--full"]);
    assert_eq!((withdrawn(&endpoint), endpoint.bodies_of("9").len()), (3, 2));
}

fn a_few_odd_values_among_many_rows_are_sent_as_opt_outs(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = delivered(engine, &endpoint, 12);
    scene.crm("update leads set opt_out = '2026-11-20' where id <= 4");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!((withdrawn(&endpoint), endpoint.answered()), (4, 16));
}
