//! Mistakes of an operator: each gives one clear message with its place and its fix, exit code 2, and leaves no files
//! behind.

use std::time::{Duration, Instant};

use crate::support::binary::{Cli, Output};
use crate::support::postgres::cluster;
use crate::support::scene::{PASSWORD, Scene};
use crate::support::stand_in::{StandIn, refused_port};

/// Checks that the output is one message, with a fix and without a backtrace, and that it contains all of `wanted`.
#[track_caller]
fn refused(output: Output, wanted: &[&str]) -> Output {
    let output = output.expect_code(2);
    let said = format!("{}{}", output.stdout, output.stderr);
    let errors = output.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!((errors, said.contains("cure: ")), (1, true), "one message with a cure: {output}");
    for word in ["panicked", "backtrace", "RUST_BACKTRACE", "Error {"] {
        assert!(!said.contains(word), "{word}: {output}");
    }
    for word in wanted {
        assert!(said.contains(word), "`{word}` is missing: {output}");
    }
    output
}

/// Runs `check`, `plan` and `once`; none of them creates a state.
#[track_caller]
fn refused_by_all(scene: &Scene, wanted: &[&str]) {
    for command in ["check", "plan", "once"] {
        refused(scene.run(&[command]), wanted);
        assert!(!scene.state_file().exists(), "{command} made a state: {:?}", scene.files());
    }
}

#[test]
fn without_a_configuration_the_places_looked_at_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(directory.path());
    for command in ["run", "once", "plan", "check", "status", "approve", "resume"] {
        refused(cli.run(&[command]), &["./conversica-sync.toml", "/etc/conversica-sync", "--config"]);
    }
    refused(cli.run(&["--config", "elsewhere.toml", "plan"]), &["elsewhere.toml", "does not exist"]);
    refused(cli.env("CONVERSICA_SYNC_CONFIG", "named.toml").run(&["plan"]), &["named.toml", "CONVERSICA_SYNC_CONFIG"]);
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "nothing was made");
}

#[test]
fn config_may_stand_before_and_after_the_command() {
    let scene = Scene::new("http://127.0.0.1:9/json/", 1);
    scene.cli();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(elsewhere.path());
    let file = scene.directory().join("conversica-sync.toml");
    let file = file.to_str().expect("a path in UTF-8");
    let before = cli.run(&["--config", file, "plan", "--json"]).expect_code(0).json();
    let after = cli.run(&["plan", "--config", file, "--json"]).expect_code(0).json();
    assert_eq!((&before["create"], &before), (&1.into(), &after));
    let named = cli.env("CONVERSICA_SYNC_CONFIG", file).run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(named, before);
}

#[test]
fn help_and_version_are_no_failure_and_wrong_usage_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(directory.path());
    let version = cli.run(&["--version"]).expect_code(0);
    assert_eq!(version.stdout.trim(), concat!("conversica-sync ", env!("CARGO_PKG_VERSION")));
    let commands = ["run", "once", "plan", "check", "status", "approve", "baseline", "retry", "resume", "config"];
    for arguments in commands.into_iter().map(|command| vec![command, "--help"]).chain([vec!["--help"], vec!["help"]]) {
        let output = cli.run(&arguments).expect_code(0);
        assert!(output.stdout.contains("Usage: conversica-sync") && output.stderr.is_empty(), "{output}");
    }
    let wrong: [&[&str]; 7] = [
        &[],
        &["bogus"],
        &["once", "--bogus"],
        &["once", "--max-wait", "soon"],
        &["retry"],
        &["retry", "--status", "pending"],
        &["retry", "7", "--all"],
    ];
    for arguments in wrong {
        let output = cli.run(arguments).expect_code(2);
        assert!(output.stderr.contains("Usage") || output.stderr.contains("--help"), "{output}");
    }
}

#[test]
fn a_mistake_in_the_settings_names_file_line_key_and_cure() {
    let good = Scene::new("http://127.0.0.1:9/json/", 1);
    let good_text = good.config_text();
    let broken: [(&str, &str, &[&str]); 10] = [
        ("table = \"leads\"", "tabel = \"leads\"", &["conversica-sync.toml:", "source.tabel", "did you mean `table`"]),
        ("[conversica]", "[conversika]", &["conversika", "did you mean `conversica`"]),
        ("firstName = ", "first_name = ", &["lead.first_name", "firstName"]),
        ("poll_interval = \"100ms\"", "poll_interval = 5", &["conversica-sync.toml:", "source.poll_interval", "15s"]),
        ("requests_per_second = 1000", "requests_per_second = \"many\"", &["delivery.requests_per_second"]),
        ("requests_per_second = 1000", "requests_per_second = 0", &["delivery.requests_per_second", "out of range"]),
        ("username = \"acme-api\"", "", &["`conversica.username` is not set", "Add under [conversica]"]),
        ("username = \"acme-api\"", "username = \"acme\"", &["conversica.username", "five characters"]),
        ("http://127.0.0.1:9/json/", "http://crm.example.com/json/", &["conversica.endpoint", "not HTTPS", "https://"]),
        ("repName = ", "# repName = ", &["`lead.repName` is not mapped", "Add under [lead]"]),
    ];
    for (from, to, wanted) in broken {
        assert!(good_text.contains(from), "{from}");
        let cli = good.cli().config(&good_text.replace(from, to));
        for command in ["plan", "status", "run"] {
            let output = refused(cli.run(&[command]), wanted);
            assert!(output.stdout.is_empty() && !output.stderr.contains(PASSWORD), "{output}");
        }
    }
    assert_eq!(good.files(), ["conversica-sync.toml", "crm.db"], "nothing was made");
}

#[test]
fn several_mistakes_are_told_at_once() {
    let good = Scene::new("http://127.0.0.1:9/json/", 1);
    let text = good.config_text().replace("table = ", "tabel = ").replace("username = ", "user = ");
    let output = good.cli().config(&text).run(&["plan"]).expect_code(2);
    assert!(output.stderr.contains("source.tabel") && output.stderr.contains("conversica.user"), "{output}");
}

#[test]
fn a_text_that_is_not_toml_is_refused_with_its_line() {
    let scene = Scene::new("http://127.0.0.1:9/json/", 1);
    let cli = scene.cli().config(&format!("[conversica]\npassword = \"{PASSWORD}\n"));
    let output = refused(cli.run(&["plan"]), &["conversica-sync.toml:2:", "not TOML"]);
    assert!(!output.stderr.contains(PASSWORD), "{output}");
}

#[test]
fn a_source_that_is_not_there_is_named_and_no_state_is_made() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    refused_by_all(&scene, &["[source] url", "crm.db", "there is no file"]);
    assert!(!scene.directory().join("crm.db").exists(), "the CRM's file is not ours to make");

    std::fs::write(scene.directory().join("crm.db"), "no database at all\n".repeat(100)).expect("a file");
    refused_by_all(&scene, &["[source] url", "not a database"]);

    let url = format!("postgres://reader:{PASSWORD}@127.0.0.1:{}/crm", refused_port());
    scene.set_text("source", "url", &url);
    let start = Instant::now();
    refused_by_all(&scene, &["[source] url", "refused", "reader", "/crm", "host 127.0.0.1", "start the server"]);
    assert!(start.elapsed() < Duration::from_secs(9), "a refused connection needs no waiting: {:?}", start.elapsed());
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_missing_table_or_column_is_answered_with_the_nearest_name() {
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 1);
    scene.set_text("source", "table", "leds");
    refused_by_all(&scene, &["[source] table leds", "no such table", "did you mean \"leads\""]);
    scene.set_text("source", "table", "leads").set_text("lead", "email", "emial");
    refused_by_all(&scene, &["\"emial\"", "[lead] email", "did you mean \"email\""]);
    scene.set_text("lead", "email", "email").set_text("source", "key", "ident");
    refused_by_all(&scene, &["\"ident\"", "[source] key"]);
    scene.set_text("source", "key", "id").set_text("source", "changed_at", "updated_at");
    refused_by_all(&scene, &["[source] changed_at", "updated_at"]);
}

#[test]
fn a_missing_table_or_column_in_postgresql_is_answered_likewise() {
    let database = cluster().database();
    database.sql(
        "create table leads (id bigint, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", &database.url).set_text("source", "table", "leds");
    refused_by_all(&scene, &["[source] table leds", "did you mean \"leads\""]);
    scene.set_text("source", "table", "leads").set_text("lead", "email", "emial");
    refused_by_all(&scene, &["\"emial\"", "[lead] email", "did you mean \"email\""]);
}

#[test]
fn a_column_whose_values_have_no_plain_text_is_refused_with_its_type() {
    let database = cluster().database();
    database.sql(
        "create table leads (id bigint, first_name text, last_name text, email text[], owner_name bytea, opt_out int)",
    );
    let mut scene = Scene::without_source("http://127.0.0.1:9/json/");
    scene.set_text("source", "url", &database.url);
    refused_by_all(&scene, &["\"email\"", "text[]", "\"owner_name\"", "bytea", "[source] query"]);
}

#[test]
fn keys_that_repeat_or_are_missing_are_named_by_check() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    scene
        .crm("create table leads (id text, first_name text, last_name text, email text, owner_name text, opt_out int)");
    for id in ["'A1'", "'A1'", "'B2'", "'B2'", "'B2'", "'C3'"] {
        scene.crm(&format!("insert into leads values ({id}, 'Ann', 'Bell', 'ann@example.com', 'Rae', 0)"));
    }
    let wanted = ["key column \"id\" is not unique: 5 rows share 2 key(s)", "A1 (2 rows), B2 (3 rows)", "[source] key"];
    refused(scene.run(&["check"]), &wanted);
    scene.run(&["once"]).expect_code(3);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("C3").len()), (1, 1));
    scene.crm("update leads set id = case rowid when 1 then null when 2 then null else 'K' || rowid end");
    refused(scene.run(&["check"]), &["2 row(s) have no value in the key column \"id\"", "[source] where"]);
    scene.set_text("source", "where", "id is not null");
    let check = scene.run(&["check"]).expect_code(0);
    assert!(check.stdout.contains("no two rows the same"), "{check}");
}

#[test]
fn a_state_of_a_newer_version_is_left_alone() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    scene.state(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', 1, x'00', 0)",
    );
    for command in ["once", "run", "plan", "check", "status", "resume"] {
        refused(scene.run(&[command]), &["newer conversica-sync", "9999", "state.db"]);
    }
    assert_eq!(endpoint.answered(), 1);
}

#[test]
fn a_state_that_cannot_be_made_is_named_with_its_directory() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 1);
    // `run` waits for a directory, which may be mounted late. Below a file no user can create anything, not even root.
    for (place, commands) in [("missing", ["check", "once"].as_slice()), ("crm.db", &["check", "once", "run"])] {
        let directory = scene.directory().join(place);
        scene.set_text("state", "url", &format!("sqlite://{}/state.db", directory.display()));
        for command in commands {
            refused(scene.run(&[*command]), &["state", &directory.display().to_string(), "[state] url"]);
        }
    }
    std::fs::write(scene.state_file(), "no database at all\n".repeat(100)).expect("a file");
    let url = format!("sqlite://{}", scene.state_file().display());
    scene.set_text("state", "url", &url);
    for command in ["check", "once", "run", "status", "plan"] {
        refused(scene.run(&[command]), &["state.db", "not a database", "[state] url"]);
    }
    let url = format!("postgres://writer:{PASSWORD}@127.0.0.1:{}/state", refused_port());
    scene.set_text("state", "url", &url);
    // `run` waits for a server that is unreachable.
    for command in ["check", "once", "status", "plan"] {
        refused(scene.run(&[command]), &["state", "refused", "[state] url"]);
    }
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn one_sqlite_file_cannot_be_source_and_state() {
    let mut scene = Scene::new("http://127.0.0.1:9/json/", 1);
    let url = format!("sqlite:{}", scene.directory().join("crm.db").display());
    scene.set_text("state", "url", &url);
    refused(scene.run(&["once"]), &["state.url", "same SQLite file", "source.url"]);
}

#[test]
fn passwords_are_never_printed_at_any_log_level() {
    let database = cluster().database();
    database.sql(
        "create table leads (id bigint, first_name text, last_name text, email text, owner_name text, opt_out int)",
    );
    let endpoint = StandIn::accepting();
    let mut scene = Scene::without_source(&endpoint.url());
    // With trust authentication the server accepts any password.
    let url = database.url.replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1);
    scene.set_text("source", "url", &url).set_text("log", "level", "trace");
    for arguments in
        [&["config", "show"][..], &["config", "show", "--json"], &["check"], &["plan"], &["once"], &["status"]]
    {
        // The scene's `run` fails when the output contains the password.
        scene.run(arguments).expect_code(0);
    }
    scene.set_text("source", "table", "missing");
    refused(scene.run(&["once"]), &[]);
    scene.set_text("source", "url", &url.replacen("localhost", "/nowhere", 1));
    refused(scene.run(&["once"]), &[]);
}
