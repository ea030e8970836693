//! An SQLite source whose file is replaced by another under the same name while the daemon runs, as when a backup is
//! restored: from then on the daemon reads and writes the new file, and compares every row of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::scene::{Scene, Store, sqlite};
use crate::support::settled::settled;
use crate::support::stand_in::StandIn;
use crate::triggers;
use conversica_sync::source::source_db::SourceDb;

const SOON: Duration = Duration::from_secs(30);

/// Replaces the source with a copy that these statements have changed.
fn swap(scene: &Scene, statements: &str) {
    let Store::File(path) = scene.crm_store() else { panic!("a file") };
    let copy: PathBuf = scene.directory().join("copy.db");
    scene.crm(&format!("vacuum into '{}'", copy.display()));
    sqlite(&copy, statements).expect("SQLite takes the statements");
    std::fs::rename(&copy, path).expect("it has its place");
}

#[test]
fn a_file_with_a_retyped_column_holds_the_poll_and_the_one_after_it_is_read() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 4);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    swap(
        &scene,
        "alter table leads rename to old; \
         create table leads (id integer primary key, first_name text, last_name integer, email text, owner_name text, \
         opt_out integer not null default 0, conversation text); \
         insert into leads select id, first_name, 7, email, owner_name, opt_out, conversation from old; drop table old",
    );
    scene.wait_for_status("the retyped column", SOON, |status| {
        status["last_poll"]["error"].as_str().is_some_and(|error| error.contains("has changed"))
    });
    assert_eq!(endpoint.answered(), 4, "nothing is sent for it");
    swap(
        &scene,
        "alter table leads rename to old; \
         create table leads (id integer primary key, first_name text, last_name text, email text, owner_name text, \
         opt_out integer not null default 0, conversation text); \
         insert into leads select id, first_name, 'Newer', email, owner_name, opt_out, conversation from old; \
         drop table old",
    );
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.answered(), 8);
    drop(daemon);
}

#[test]
fn behind_triggers_the_new_file_is_compared_whole_and_then_watched() {
    let endpoint = StandIn::accepting();
    let scene = triggers::scene(Engine::Sqlite, &endpoint, 4);
    let daemon = scene.daemon();
    settled(&scene, &[&endpoint], SOON);
    // The copy's log is empty, and the next poll is ten minutes away.
    swap(&scene, "update leads set last_name = 'Restored' where id = 2; delete from conversica_sync_leads");
    settled(&scene, &[&endpoint], SOON);
    scene.crm("update leads set last_name = 'Later' where id = 3");
    settled(&scene, &[&endpoint], SOON);
    assert_eq!(endpoint.answered(), 6);
    drop(daemon);
}

#[tokio::test]
async fn what_is_written_back_goes_into_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("crm.db"), directory.path().join("copy.db"));
    sqlx::raw_sql("").fetch_optional(&sqlx::SqlitePool::connect(&url(&path)).await.unwrap()).await.unwrap();
    let SourceDb::Sqlite(pool) = SourceDb::writeback(&format!("sqlite://{}", path.display()), SOON).unwrap() else {
        panic!()
    };
    sqlx::query("create table told (number integer)").execute(&pool).await.unwrap();
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    sqlx::query("insert into told values (1)").execute(&pool).await.unwrap();
    let other = sqlx::SqlitePool::connect(&url(&path)).await.unwrap();
    let told: i64 = sqlx::query_scalar("select count(*) from told").fetch_one(&other).await.unwrap();
    assert_eq!(told, 1);
}

fn url(path: &std::path::Path) -> String {
    format!("sqlite://{}?mode=rwc", path.display())
}
