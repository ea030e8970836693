//! `init` on MariaDB databases, and the recipe for SuiteCRM on its own engine.

use serde_json::{Map, Value, json};

use crate::init::assert_lead;
use crate::support::binary::{Cli, Output};
use crate::support::crms;
use crate::support::engine::Engine;
use crate::support::mariadb::{MariaDatabase, mariadb};

const GIVEN: [&str; 4] = ["--username", "acme-api", "--conversation", "Inbound Leads"];

struct InitScene {
    crm: MariaDatabase,
    directory: tempfile::TempDir,
}

impl InitScene {
    fn new(tables: &str) -> Self {
        let crm = mariadb().database();
        // The tables of the tests quote names as the standard does.
        crm.sql(&format!("set sql_mode = 'ANSI_QUOTES'; {tables}"));
        Self { crm, directory: tempfile::tempdir().expect("a directory") }
    }

    fn init(&self, more: &[&str]) -> Output {
        let arguments =
            [&["init", "--url", &self.crm.url, "--endpoint", "http://127.0.0.1:9/json/"], &GIVEN[..], more].concat();
        Cli::new(self.directory.path()).run(&arguments)
    }

    fn written(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("conversica-sync.toml")).expect("init has written it")
    }

    /// The values of the Lead objects that `plan` finds, by id.
    #[track_caller]
    fn planned(&self, file: &str) -> Value {
        let state = format!("sqlite://{}/state-{file}.db", self.directory.path().display());
        let cli = Cli::new(self.directory.path())
            .env("CONVERSICA_SYNC__SOURCE__URL", &self.crm.url)
            .env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "correct horse")
            .env("CONVERSICA_SYNC__STATE__URL", &state);
        let plan = cli.run(&["--config", file, "plan", "--json"]).expect_code(4).json();
        let leads = plan["leads"].as_array().expect("leads").iter().filter(|lead| lead["action"] == "create");
        let lead = |lead: &Value| {
            let changes = lead["changes"].as_object().expect("changes");
            let values: Map<String, Value> =
                changes.iter().map(|(key, change)| (key.clone(), change[1].clone())).collect();
            (lead["id"].as_str().expect("an id").to_owned(), Value::Object(values))
        };
        Value::Object(leads.map(lead).collect())
    }
}

#[test]
fn suitecrm_is_read_with_its_addresses_and_opt_outs() {
    let scene = InitScene::new(&crms::suitecrm(Engine::Sqlite));
    let output = scene.init(&[]).expect_code(0);
    assert!(output.stdout.contains("looks like SuiteCRM"), "{output}");
    let leads = scene.planned("conversica-sync.toml");
    let ann = json!({ "firstName": "Ann", "lastName": "Bell", "email": "ann@example.net", "leadSource": "Web Site",
        "leadStatus": "New", "city": "Oakland", "optOut": false, "cellPhone": "(555) 010-1010" });
    assert_lead(&leads, "l1", &ann);
    let owner = json!({ "repName": "Sarah Smith", "repEmail": "sarah@example.com" });
    assert_lead(&leads, "l1", &owner);
    assert_lead(&leads, "l2", &json!({ "email": "bo@example.net", "optOut": true }));
    assert!(leads.get("l3").is_none(), "deleted: {leads:#}");
    let written = scene.written();
    assert!(written.contains("`") && written.contains("greatest(") && !written.contains(" AS text)"), "{written}");

    let recipe = include_str!("../../config/recipes/suitecrm-mysql.toml");
    std::fs::write(scene.directory.path().join("recipe.toml"), recipe).expect("the directory is ours");
    let by_recipe = scene.planned("recipe.toml");
    assert_lead(&by_recipe, "l1", &ann);
    assert_lead(&by_recipe, "l1", &json!({ "repName": "Sarah Smith" }));
    assert_lead(&by_recipe, "l2", &json!({ "email": "bo@example.net", "optOut": true }));
    assert!(by_recipe.get("l3").is_none(), "deleted: {by_recipe:#}");
}

#[test]
fn a_plain_table_is_read_with_its_references() {
    let scene = InitScene::new(crms::PLAIN);
    scene.init(&[]).expect_code(0);
    let leads = scene.planned("conversica-sync.toml");
    let ann = json!({ "firstName": "Ann", "lastName": "Bell", "email": "ann@example.net", "leadSource": "Website",
        "repName": "Rae Rep", "optOut": false, "date": "2026-03-01T01:00:00+00:00" });
    assert_lead(&leads, "1", &ann);
    assert_lead(&leads, "2", &json!({ "leadSource": "Fair", "optOut": true }));
    assert!(leads.get("4").is_none(), "deleted: {leads:#}");
    let check = Cli::new(scene.directory.path()).env("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "x").run(&["check"]);
    assert!(check.stdout.contains("changed_at is a timestamp"), "{check}");
}

#[test]
fn a_table_in_german_is_understood_and_flags_keep_their_meaning() {
    let scene = InitScene::new(crms::GERMAN);
    scene.crm.sql(
        "alter table interessenten add geloescht tinyint(1) not null default 0, add abgemeldet_am datetime null; \
         set sql_mode = ''; update interessenten set abgemeldet_am = '0000-00-00 00:00:00'; \
         insert into interessenten (kundennummer, vorname, nachname, e_mail_adresse, quelle, betreuer, geloescht, geaendert_am) \
         values (3, 'Karl', 'Weg', 'karl@example.net', 'Web', 'Rita Rat', 1, now()), \
         (4, 'Lea', 'Ruhe', 'lea@example.net', 'Web', 'Rita Rat', 0, now()); \
         update interessenten set abgemeldet_am = '2026-03-01 10:00:00' where kundennummer = 4",
    );
    scene.init(&[]).expect_code(0);
    let leads = scene.planned("conversica-sync.toml");
    assert_lead(&leads, "1", &json!({ "firstName": "Jörg", "lastName": "Groß", "city": "Berlin", "optOut": false }));
    assert_lead(&leads, "4", &json!({ "optOut": true }));
    assert!(leads.get("3").is_none(), "deleted: {leads:#}");
}
