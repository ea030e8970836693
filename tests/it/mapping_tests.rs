//! `test`: mapping tests from files, without a database.

use crate::support::scene::Scene;

/// The settings name a database that is not there.
fn scene() -> Scene {
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", "postgres://reader@127.0.0.1:9/crm");
    scene
}

#[track_caller]
fn write(scene: &Scene, text: &str) -> String {
    let file = scene.directory().join("mapping.test.toml");
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn rows_that_make_what_the_file_says_pass() {
    let scene = scene();
    let file = write(
        &scene,
        r#"
        [[test]]
        name = "a part of the keys"
        row = { id = 1, first_name = " Ann ", last_name = "Lee", email = "ann@example.com", owner_name = "Rae", opt_out = 1 }
        has = { id = "1", firstName = "Ann", optOut = true }
        [[test]]
        name = "no way to write to"
        row = { id = "x2", last_name = "Lee", email = "nowhere", owner_name = "Rae" }
        invalid = ["email", "firstName"]
        "#,
    );
    let said = scene.run(&["test", &file]).expect_code(0);
    assert_eq!(said.stdout.trim(), "2 passed, 0 failed.", "{said}");
}

#[test]
fn a_difference_is_shown_by_key_and_exits_with_1() {
    let scene = scene();
    let file = write(
        &scene,
        r#"
        [[test]]
        name = "another name"
        row = { id = 1, first_name = "Ann", last_name = "Lee", email = "ann@example.com", owner_name = "Rae" }
        has = { firstName = "Anne" }
        lacks = ["email"]
        [[test]]
        row = { id = 2, first_name = "Ann", last_name = "Lee", email = "ann@example.com", owner_name = "Rae" }
        invalid = ["email"]
        [[test]]
        row = { id = 3, frist_name = "Ann" }
        has = { id = "3" }
        [[test]]
        row = { id = 4, first_name = "Ann", last_name = "Lee", email = "ann@example.com", owner_name = "Rae" }
        lead = { id = "4", firstName = "Ann", lastName = "Lee", repName = "Rae", conversationId = "Inbound Leads" }
        "#,
    );
    let said = scene.run(&["test", &file]).expect_code(1);
    for line in [
        "another name",
        "- \"Anne\"  (the test)",
        "+ \"Ann\"  (the mapping)",
        "number 2",
        "the test says that the row is invalid, and it makes a lead",
        "no key is mapped from a column frist_name; did you mean first_name?",
        "+ \"ann@example.com\"  (the mapping)",
        "0 passed, 4 failed.",
    ] {
        assert!(said.stdout.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_file_that_holds_no_tests_is_named_with_its_place() {
    let scene = scene();
    for text in ["", "[[test]]\nlead = { id = 1 }", "[[test]]\nrow = { id = 1 }\nwants = 1", "not toml"] {
        let file = write(&scene, text);
        let said = scene.run(&["test", &file]).expect_code(2);
        assert!(said.stderr.contains("mapping.test.toml is no file of mapping tests"), "{text}: {said}");
    }
    let said = scene.run(&["test", "/nowhere/x.toml"]).expect_code(2);
    assert!(said.stderr.contains("/nowhere/x.toml cannot be read"), "{said}");
    let empty = write(&scene, "test = []");
    let said = scene.run(&["test", &empty]).expect_code(2);
    assert!(said.stderr.contains("hold no tests"), "{said}");
    let row = "[[test]]\nrow = { id = 1, first_name = \"Ann\" }\n";
    for (part, wanted) in [("lacks = [\"optout\"]", "did you mean optOut?"), ("invalid = [\"\"]", "is blank")] {
        let file = write(&scene, &format!("{row}{part}"));
        let said = scene.run(&["test", &file]).expect_code(1);
        assert!(said.stdout.contains(wanted), "{part}: {said}");
    }
    let nothing = write(&scene, "[[test]]\nrow = { id = 1 }");
    let said = scene.run(&["test", &nothing]).expect_code(1);
    assert!(said.stdout.contains("the test says nothing"), "{said}");
}

#[test]
fn a_key_that_the_account_requires_makes_the_lead_invalid_in_test_plan_and_check() {
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 2);
    scene.crm("update leads set last_name = null where id = 2");
    scene.set("lead", "required", "[\"lastName\"]");
    let file = write(
        &scene,
        "[[test]]\nrow = { id = 1, first_name = \"Ann\", email = \"a@example.com\", owner_name = \"Rae\" }\ninvalid = [\"lastName\"]",
    );
    scene.run(&["test", &file]).expect_code(0);
    let plan = scene.run(&["plan", "--json"]).expect_code(3).json();
    assert_eq!((&plan["create"], &plan["invalid"]), (&1.into(), &1.into()));
    let why = "lastName: is required by `required` in [lead], but blank (column \"last_name\")";
    assert!(plan.to_string().contains(&why.replace('"', "\\\"")), "{plan:#}");
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains(&format!("1 row(s): {why}; id: 2")), "{check}");
    let by_variable = scene.cli().env("CONVERSICA_SYNC__LEAD__REQUIRED", "[]").run(&["plan", "--json"]);
    assert_eq!(by_variable.expect_code(0).json()["create"], 2);
}
