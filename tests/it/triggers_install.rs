//! `triggers print`, `install` and `remove`: the printed statements are the ones that run, under the right role, with the
//! fewest rights, and a removal leaves nothing behind.

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::postgres::cluster;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    what_is_installed_is_removed_without_a_trace,
    what_is_printed_can_be_run_by_hand_and_removed_by_hand,
    nothing_happens_without_a_yes,
    what_can_have_no_triggers_is_refused_with_words,
    a_table_that_is_no_log_of_ours_is_never_touched,
);

const NOWHERE: &str = "http://127.0.0.1:9/json/";

fn scene(engine: Engine) -> Scene {
    let mut scene = Scene::on(engine, NOWHERE, 3);
    scene.set_text("source", "changes", "triggers");
    scene
}

/// Everything that a schema dump would show: tables, indexes, sequences, types, functions, triggers, and rights.
fn dump(scene: &Scene, engine: Engine) -> Vec<String> {
    scene.crm(engine.pick(
        "select type || ' ' || name || ' ' || coalesce(sql, '') from sqlite_master order by 1",
        "select c.relkind::text || ' ' || c.relname || ' ' || coalesce(c.relacl::text, '') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' \
         union all select 'type ' || typname from pg_type t join pg_namespace n on n.oid = t.typnamespace \
         where n.nspname = 'public' \
         union all select 'function ' || proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = 'public' \
         union all select 'trigger ' || tgname from pg_trigger where not tgisinternal order by 1",
    ))
}

fn what_is_installed_is_removed_without_a_trace(engine: Engine) {
    let scene = scene(engine);
    let before = dump(&scene, engine);
    let installed = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(installed.stdout.contains("conversica_sync_leads_update"), "the statements are shown: {installed}");
    let there = dump(&scene, engine);
    assert_ne!(there, before);
    let polling = scene.cli().env("CONVERSICA_SYNC__SOURCE__CHANGES", "poll").run(&["check"]);
    assert!(polling.stdout.contains("which no instance drains"), "{polling}");
    let again = scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert!(again.stdout.contains("Installed already"), "{again}");
    assert_eq!(dump(&scene, engine), there);
    // Another key needs other triggers: the new ones replace the old ones.
    let mut rekeyed = scene.cli().env("CONVERSICA_SYNC__SOURCE__CLIENT", "owner_name");
    let check = rekeyed.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("not as these settings want it"), "{check}");
    rekeyed = rekeyed.env("CONVERSICA_SYNC__SAFETY__APPROVE_ABOVE", "7");
    rekeyed.run(&["triggers", "install", "--yes"]).expect_code(0);
    assert_eq!(dump(&scene, engine).len(), there.len());

    scene.run(&["triggers", "remove", "--yes"]).expect_code(0);
    assert_eq!(dump(&scene, engine), before);
    let nothing = scene.run(&["triggers", "remove"]).expect_code(0);
    assert!(nothing.stdout.contains("nothing to remove"), "{nothing}");
}

fn what_is_printed_can_be_run_by_hand_and_removed_by_hand(engine: Engine) {
    let scene = scene(engine);
    let before = dump(&scene, engine);
    let install = scene.run(&["triggers", "print", "--no-notify"]).expect_code(0).stdout;
    assert!(!install.contains("pg_notify"), "{install}");
    assert_eq!(dump(&scene, engine), before, "printing changes nothing");
    scene.crm(&install);
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("triggers  installed"), "{check}");
    assert_eq!(check.stdout.contains("--no-notify"), engine == Engine::Postgres, "{check}");
    scene.crm(&scene.run(&["triggers", "print", "--remove"]).expect_code(0).stdout);
    assert_eq!(dump(&scene, engine), before);
}

fn nothing_happens_without_a_yes(engine: Engine) {
    let scene = scene(engine);
    let before = dump(&scene, engine);
    let refused = scene.run(&["triggers", "install"]).expect_code(2);
    assert!(refused.stdout.contains("create table") && refused.stderr.contains("--yes"), "{refused}");
    assert_eq!(dump(&scene, engine), before);
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    let there = dump(&scene, engine);
    let refused = scene.run(&["triggers", "remove"]).expect_code(2);
    assert!(refused.stdout.contains("drop table") && refused.stderr.contains("--yes"), "{refused}");
    assert_eq!(dump(&scene, engine), there);
}

fn what_can_have_no_triggers_is_refused_with_words(engine: Engine) {
    let mut scene = scene(engine);
    scene.crm("create view people as select * from leads");
    scene.set_text("source", "table", "people");
    for arguments in [&["triggers", "install", "--yes"][..], &["run"], &["check"]] {
        let refused = scene.run(arguments).expect_code(2);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("is a view") && said.contains("changed_at"), "{refused}");
    }
    scene.set_text("source", "table", "leads").set_text("source", "change_log", &"x".repeat(60));
    let refused = scene.run(&["triggers", "print"]).expect_code(2);
    assert!(refused.stderr.contains("change_log") && refused.stderr.contains("longer"), "{refused}");
    scene.set("source", "table", "").set_text("source", "query", "select * from leads").set("source", "changes", "");
    scene.set("source", "change_log", "");
    let refused = scene.run(&["triggers", "print"]).expect_code(2);
    assert!(refused.stderr.contains("triggers watch one table"), "{refused}");
}

fn a_table_that_is_no_log_of_ours_is_never_touched(engine: Engine) {
    let mut scene = scene(engine);
    scene.crm("create table lead_history (id integer, note text); insert into lead_history values (1, 'keep')");
    scene.set_text("source", "change_log", "lead_history");
    for arguments in [&["triggers", "install", "--yes"][..], &["triggers", "remove", "--yes"], &["once"]] {
        let refused = scene.run(arguments).expect_code(2);
        assert!(refused.stderr.contains("is not a change log"), "{refused}");
    }
    assert_eq!(scene.crm("select note from lead_history"), ["keep"]);
}

#[test]
fn the_reader_reads_and_empties_the_log_and_the_crm_needs_no_right_to_it() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 3);
    let owner = scene.crm_store().url();
    let name = scene.crm("select current_database()").concat();
    let (reader, writer) = (format!("reader_{name}"), format!("writer_{name}"));
    let roles = cluster().database();
    roles.sql(&format!("create role {reader} login; create role {writer} login"));
    scene.crm(&format!(
        "grant select on leads to {reader}; grant select, insert, update, delete, truncate on leads to {writer}"
    ));
    let reader_url = owner.replacen("postgres@", &format!("{reader}@"), 1);
    scene.set_text("source", "changes", "triggers").set_text("source", "url", &reader_url);

    // The reader may create nothing; the owner's URL comes from a file, or from the environment.
    let refused = scene.run(&["triggers", "install", "--yes"]).expect_code(2);
    assert!(refused.stderr.contains("--url-file") && refused.stderr.contains("nothing was changed"), "{refused}");
    let file = scene.directory().join("owner-url");
    std::fs::write(&file, format!("{owner}\n")).unwrap();
    scene.run(&["triggers", "install", "--yes", "--url-file", file.to_str().unwrap()]).expect_code(0);
    let may = |role: &str, right: &str| {
        scene.crm(&format!("select has_table_privilege('{role}', 'conversica_sync_leads', '{right}')::text")).concat()
    };
    let rights: Vec<String> = ["select", "delete", "insert", "update", "truncate", "references", "trigger"]
        .into_iter()
        .filter(|right| may(&reader, right) == "true")
        .map(str::to_owned)
        .collect();
    assert_eq!(rights, ["select", "delete"]);
    for right in ["select", "delete", "insert"] {
        assert_eq!(may(&writer, right), "false");
    }
    let callable = "select has_function_privilege($, 'conversica_sync_leads()', 'execute')::text";
    assert_eq!(scene.crm(&callable.replace('$', &format!("'{writer}'"))), ["false"]);

    scene.run(&["once"]).expect_code(0);
    scene.crm(&format!(
        "set role {writer}; update leads set last_name = 'Rightless' where id = 1; delete from leads where id = 2; reset role"
    ));
    let once = scene.run(&["once"]);
    assert_eq!(scene.status()["leads"]["gone"], 1, "{once}");
    assert_eq!(scene.status()["last_poll"]["kind"], "incremental");
    assert_eq!(endpoint.requests().len(), 4);
    assert_eq!(scene.crm("select count(*)::text from conversica_sync_leads"), ["0"]);

    scene.crm(&format!("revoke delete on conversica_sync_leads from {reader}"));
    let check = scene.run(&["check"]).expect_code(2);
    assert!(check.stdout.contains("may not read the change log and delete from it"), "{check}");
    let remove = scene.cli().env("CONVERSICA_SYNC_OWNER_URL", &owner).run(&["triggers", "remove", "--yes"]);
    remove.expect_code(0);
}

#[test]
fn a_partitioned_table_is_followed_through_its_parent_and_check_says_what_is_not() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(Engine::Postgres, &endpoint.url(), 0);
    scene.crm(
        "drop table leads; create table leads (id integer primary key, first_name text, last_name text, email text, \
         owner_name text, opt_out integer not null default 0, conversation text) partition by range (id); \
         create table low partition of leads for values from (0) to (100); \
         create table high partition of leads for values from (100) to (200)",
    );
    scene.add(1, 4);
    scene.set_text("source", "changes", "triggers");
    scene.run(&["triggers", "install", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    // The row moves to another partition: the old key is gone, the new one is there.
    scene.crm("update leads set id = id + 100 where id = 3");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(scene.status()["leads"]["gone"], 1);
    assert_eq!(endpoint.requests().len(), 5);
    let check = scene.run(&["check"]);
    assert!(check.stdout.contains("2 partition(s)") && check.stdout.contains("full compares only"), "{check}");
}
