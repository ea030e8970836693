//! A state of every earlier version is migrated and keeps its content, and the migration sends nothing.

use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::reaction::Reaction;
use crate::support::scene::{Scene, Store};
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_state_of_every_earlier_version_keeps_what_it_holds_and_sends_nothing,
    leads_that_an_earlier_version_took_as_baseline_become_assumed_and_accepted_ones_do_not,
);

fn migrations(engine: Engine) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(engine.pick("migrations/sqlite", "migrations/postgres"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Applies the first migrations, and keeps the current state beside it under the name `newest`.
fn older(scene: &Scene, files: &[PathBuf]) {
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(file, directory.path().join(file.file_name().unwrap())).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let migrator = Migrator::new(directory.path()).await.unwrap();
        match scene.state_store() {
            Store::File(path) => {
                std::fs::rename(path, path.with_extension("newest")).unwrap();
                let mut connection =
                    SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
                migrator.run(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Store::Database(database) => {
                let mut connection = PgConnection::connect(&database.url).await.unwrap();
                let begin = "alter schema conversica_sync rename to newest; create schema conversica_sync; \
                             set search_path = conversica_sync";
                sqlx::raw_sql(begin).execute(&mut connection).await.unwrap();
                migrator.run(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    });
}

/// The columns that a table has in both versions; the database assigns the numbers again.
fn columns(scene: &Scene, engine: Engine, table: &str) -> String {
    let names = |newest: bool| -> Vec<String> {
        match engine {
            // Without generated columns.
            Engine::Sqlite => scene.state(&format!(
                "attach '{}' as newest; select name from pragma_table_info('{table}', '{}')",
                scene.state_file().with_extension("newest").display(),
                if newest { "newest" } else { "main" }
            )),
            Engine::Postgres => scene.state(&format!(
                "select column_name from information_schema.columns where table_name = '{table}' and is_generated = 'NEVER' \
                 and table_schema = '{}'",
                if newest { "newest" } else { "conversica_sync" }
            )),
        }
    };
    let now = names(true);
    names(false).into_iter().filter(|name| name != "seq" && now.contains(name)).collect::<Vec<_>>().join(", ")
}

fn a_state_of_every_earlier_version_keeps_what_it_holds_and_sends_nothing(engine: Engine) {
    let files = migrations(engine);
    for version in 1..files.len() {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::on(engine, &endpoint.url(), 3);
        scene.crm("update leads set email = 'nobody' where id = 3");
        scene.run(&["once"]).expect_code(3);
        let content = "select desired from lead where id in ('1', '2') order by id";
        let (before, sent) = (scene.state(content), endpoint.answered());
        assert_eq!((before.len(), sent), (2, 2));
        older(&scene, &files[..version]);
        for table in ["lead", "outcome", "control"] {
            let columns = columns(&scene, engine, table);
            let attach = format!("attach '{}' as newest;", scene.state_file().with_extension("newest").display());
            let attach = engine.pick(attach.as_str(), "");
            scene.state(&format!("{attach} insert into {table} ({columns}) select {columns} from newest.{table}"));
        }
        scene.set("safety", "approve_above", "0");
        let status = scene.run(&["once", "--full", "--json"]).expect_code(3).json();
        assert_eq!(
            (&status["leads"]["in_sync"], &status["leads"]["invalid"]),
            (&json!(2), &json!(1)),
            "from {version}"
        );
        assert_eq!(scene.state(content), before, "from {version}");
        assert_eq!(endpoint.answered(), sent, "from {version}");
        scene.crm("update leads set last_name = 'Changed' where id = 1");
        scene.run(&["once"]).expect_code(3);
        assert_eq!(endpoint.answered(), sent + 1, "from {version}: what changes is sent");
    }
}

/// Copies the tables of the newest state into one of the first migrations.
fn moved_back(scene: &Scene, engine: Engine, files: &[PathBuf]) {
    if engine == Engine::Sqlite {
        // The file is moved without its write-ahead log.
        scene.state("pragma journal_mode = delete");
    }
    older(scene, files);
    for table in ["lead", "outcome", "control", "decision", "decided"] {
        let columns = columns(scene, engine, table);
        let columns = if table == "decision" { format!("seq, {columns}") } else { columns };
        let attach = format!("attach '{}' as newest;", scene.state_file().with_extension("newest").display());
        let attach = engine.pick(attach.as_str(), "");
        let numbers = if table == "decision" { engine.pick("", " overriding system value") } else { "" };
        // An earlier version wrote no such mark.
        let rows = if table == "control" { " where name <> 'write_mark'" } else { "" };
        scene.state(&format!(
            "{attach} insert into {table} ({columns}){numbers} select {columns} from newest.{table}{rows}"
        ));
    }
}

/// An earlier version wrote a baseline with its own time as first contact and as acceptance.
fn leads_that_an_earlier_version_took_as_baseline_become_assumed_and_accepted_ones_do_not(engine: Engine) {
    let files = migrations(engine);
    let endpoint = StandIn::start(|request| {
        if request.id.as_deref() == Some("3") { Reaction::status(422).body("no") } else { Reaction::accept() }
    });
    let mut scene = Scene::on(engine, &endpoint.url(), 6);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    // 1 and 2 are sent and accepted; 3, 4, 5 and 6 are taken as baseline, unsent.
    scene.run(&["approve", "1", "2", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    scene.run(&["baseline", "--yes"]).expect_code(0);
    scene.set("safety", "approve_above", "1");
    // 3 is rejected since; a baseline takes a later content of 2; 5 goes.
    scene.crm("update leads set first_name = 'Zoe' where id = 3");
    scene.run(&["once"]).expect_code(3);
    scene.set_text("safety", "conversation_changes", "hold").set_text("lead", "conversationId", "conversation");
    scene.set("safety", "approve_above", "0");
    scene.crm("update leads set conversation = 'Winback' where id = 2; delete from leads where id = 5");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["baseline", "--yes"]).expect_code(0);
    let sent = endpoint.answered();
    moved_back(&scene, engine, &files[..8]);
    let baseline = "(select max(at) from newest.decision where action = 'baseline')";
    let attach = format!("attach '{}' as newest;", scene.state_file().with_extension("newest").display());
    let attach = engine.pick(attach.as_str(), "");
    scene.state(&format!("{attach} update lead set delivered_at = first_contact_at where id in ('3', '4', '5', '6'); update lead set delivered_at = {baseline} where id = '2'"));
    let of = "select id || ' ' || case when assumed_at is null then 'sent' when assumed_at = first_contact_at then 'assumed' end \
              || ' ' || case when delivered_at is null then 'taken' else 'accepted' end from lead order by id";
    scene.run(&["once"]).expect_code(3);
    let expected =
        ["1 sent accepted", "2 sent taken", "3 assumed taken", "4 assumed taken", "5 assumed taken", "6 assumed taken"];
    assert_eq!(scene.state(of), expected);
    let status = scene.status();
    let leads = ["in_sync", "assumed", "rejected", "gone"].map(|name| status["leads"][name].as_u64());
    assert_eq!((leads, endpoint.answered()), ([2, 2, 1, 1].map(Some), sent), "{status:#}");
}
