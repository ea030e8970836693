//! The recipes of config/recipes: each makes the right Lead objects from its tables, the same as the proposal of `init`.

use serde_json::{Map, Value};

use crate::support::binary::Cli;
use crate::support::crms;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;

/// The Lead objects that `plan` finds, by id, without invalid rows.
#[track_caller]
fn planned(scene: &Scene, file: &str) -> Map<String, Value> {
    let state = format!("sqlite://{}/state-of-{file}.db", scene.directory().display());
    let cli = Cli::new(scene.directory())
        .env("CONVERSICA_SYNC__SOURCE__URL", &scene.crm_store().url())
        .env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "correct horse")
        .env("CONVERSICA_SYNC__STATE__URL", &state);
    let plan = cli.run(&["--config", file, "plan", "--json"]).expect_code(4).json();
    let leads = plan["leads"].as_array().expect("leads").iter().filter(|lead| lead["action"] == "create");
    leads.map(|lead| (lead["id"].as_str().expect("an id").to_owned(), lead["changes"].clone())).collect()
}

/// `keys` are the keys that a recipe fills better than a proposal can.
#[track_caller]
fn assert_recipe(engine: Engine, tables: &str, recipe: &str, keys: &[&str]) {
    let scene = crms::scene(engine, tables);
    std::fs::write(scene.directory().join("recipe.toml"), recipe).expect("the directory is ours");
    let url = scene.crm_store().url();
    let arguments = [
        "init",
        "--url",
        &url,
        "--username",
        "acme-api",
        "--conversation",
        "Inbound Leads",
        "--output",
        "proposed.toml",
    ];
    let texts = ["--value", "leadSource=Website", "--value", "repName=The Sales Team"];
    Cli::new(scene.directory()).run(&[&arguments[..], &texts[..]].concat()).expect_code(0);
    let (mut recipe, mut proposed) = (planned(&scene, "recipe.toml"), planned(&scene, "proposed.toml"));
    assert!(!recipe.is_empty());
    for leads in [&mut recipe, &mut proposed] {
        let changes = leads.values_mut().filter_map(Value::as_object_mut);
        changes.for_each(|lead| keys.iter().for_each(|key| drop(lead.remove(*key))));
    }
    assert_eq!(Value::Object(recipe), Value::Object(proposed));
}

#[test]
fn odoo() {
    assert_recipe(Engine::Postgres, crms::ODOO, include_str!("../../config/recipes/odoo.toml"), &[]);
}

#[test]
fn twenty() {
    assert_recipe(Engine::Postgres, crms::TWENTY, include_str!("../../config/recipes/twenty.toml"), &["homePhone"]);
}

fn suitecrm(engine: Engine) {
    let recipe = include_str!("../../config/recipes/suitecrm.toml");
    // The recipe's own hint for SQLite.
    let sqlite = "max(l.date_modified, coalesce(address.date_modified, ''), coalesce(entry.date_modified, ''))";
    let greatest = "greatest(l.date_modified, address.date_modified, entry.date_modified)";
    let recipe = engine.pick(recipe.replace(greatest, sqlite), recipe.to_owned());
    assert_recipe(engine, &crms::suitecrm(engine), &recipe, &["repEmail"]);
}

fn plain(engine: Engine) {
    assert_recipe(engine, crms::PLAIN, include_str!("../../config/recipes/plain.toml"), &[]);
}

blocking_on_both_engines!(suitecrm, plain);
