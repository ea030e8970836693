//! A state of every earlier version is brought up to date, keeps what it holds, and nothing is sent for it.

use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::{Scene, Store};
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(a_state_of_every_earlier_version_keeps_what_it_holds_and_sends_nothing);

fn migrations(engine: Engine) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(engine.pick("migrations/sqlite", "migrations/postgres"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Applies the first migrations, beside the state as it is now, which goes by the name of `newest`.
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

/// The columns that a table has in both versions; numbers are given anew.
fn columns(scene: &Scene, engine: Engine, table: &str) -> String {
    let names = |newest: bool| -> Vec<String> {
        match engine {
            // Without those that are made of others.
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
