//! The state as a whole, on both engines: created, opened again, refused when a newer version wrote it, its facts, its
//! file.

use std::os::unix::fs::PermissionsExt;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{at, deliver, desired, row};
use conversica_sync::conversica::outcome::{HaltReason, OutcomeClass};
use conversica_sync::db;
use conversica_sync::error::SetupError;
use conversica_sync::store::control::{self, ResumedAt, StoredHalt};
use conversica_sync::store::held::{self, HeldSelection};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::state_db::embedded_migrations;
use conversica_sync::store::{lead, outcome};

on_both_engines!(
    a_state_from_an_older_version_is_named_by_who_looks_and_brought_up_to_date_by_who_writes,
    facts_are_replaced_and_taken_away,
    a_state_from_a_newer_version_is_refused,
    an_existing_state_is_opened_again_with_what_it_holds,
);

#[test]
fn a_state_in_a_directory_that_cannot_be_made_use_of_is_a_mistake_that_a_person_can_mend() {
    let endpoint = crate::support::stand_in::StandIn::accepting();
    let mut scene = crate::support::scene::Scene::new(&endpoint.url(), 1);
    // Not even root may write there.
    scene.set_text("state", "url", "sqlite:///proc/conversica-sync/state.db");
    let refused = scene.run(&["once"]).expect_code(2);
    assert!(refused.stderr.contains("/proc/conversica-sync") && refused.stderr.contains("cure:"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_that_a_long_transaction_took_for_its_log_is_given_back() {
    let place = Engine::Sqlite.place();
    let db = place.state().await;
    let log = std::path::PathBuf::from(format!("{}-wal", db::sqlite_path(&place.url).unwrap().display()));
    let mebibytes = || std::fs::metadata(&log).unwrap().len() >> 20;
    on_state!(&db, pool => {
        sqlx::query("create table long as select randomblob(80 << 20) as content").execute(pool).await.map(drop)
    })
    .unwrap();
    assert!(mebibytes() >= 80, "all of it goes through the log: {} MiB", mebibytes());
    control::write(&db, &ResumedAt { at: at(1) }, at(1)).await.unwrap();
    assert!(mebibytes() <= 64, "{} MiB", mebibytes());
}

async fn facts_are_replaced_and_taken_away(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    assert_eq!(control::read::<StoredHalt>(&db).await.unwrap(), None);
    let halt = |detail: &str| StoredHalt {
        reason: HaltReason::Credentials,
        since: at(1),
        detail: Some(detail.to_owned()),
        account: "f".to_owned(),
    };
    control::write(&db, &halt("first"), at(1)).await.unwrap();
    control::write(&db, &halt("second — naïve \"quoted\""), at(2)).await.unwrap();
    control::write(&db, &ResumedAt { at: at(1) }, at(1)).await.unwrap();
    assert_eq!(control::read::<StoredHalt>(&db).await.unwrap(), Some(halt("second — naïve \"quoted\"")));
    assert!(control::clear::<StoredHalt>(&db).await.unwrap());
    assert!(!control::clear::<StoredHalt>(&db).await.unwrap());
    assert!(control::read::<ResumedAt>(&db).await.unwrap().is_some());
}

async fn a_state_from_a_newer_version_is_refused(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let version = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                   values (9999, 'from the future', true, $1, 0)";
    on_state!(&db, pool => sqlx::query(version).bind(vec![0_u8]).execute(pool).await.map(drop)).unwrap();
    db.close().await;
    for refused in [StateDb::open_state(&place.url).await.err(), StateDb::open_state_read_only(&place.url).await.err()]
    {
        let error = refused.expect("it is refused");
        let setup = error.downcast_ref::<SetupError>().expect("a mistake that a person can fix: exit code 2");
        assert!(setup.what.contains("newer") && setup.what.contains("9999"), "{setup}");
        assert!(setup.cure.contains("[state] url"), "{setup}");
    }
}

async fn an_existing_state_is_opened_again_with_what_it_holds(engine: Engine) {
    let place = engine.place();
    if engine == Engine::Sqlite {
        assert!(StateDb::open_state_read_only(&place.url).await.unwrap().is_none(), "looking creates nothing");
        assert!(!db::sqlite_path(&place.url).unwrap().exists());
    }
    let first = place.state().await;
    deliver(&first, desired("1", "a"), 0).await;
    first.close().await;
    let again = place.state().await;
    assert_eq!(row(&again, "1").await.status, "in_sync");
    let looking = StateDb::open_state_read_only(&place.url).await.unwrap().expect("there is a state now");
    assert_eq!(lead::page(&looking, None, 2).await.unwrap().len(), 1);
}

/// A state as the first version left it: a waiting withdrawal, a held lead, and a journal.
async fn a_state_from_an_older_version_is_named_by_who_looks_and_brought_up_to_date_by_who_writes(engine: Engine) {
    let place = engine.place();
    let migrations = tempfile::tempdir().unwrap();
    let first = format!("migrations/{}/0001_lead_outcome_control.sql", engine.pick("sqlite", "postgres"));
    let first = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(first);
    std::fs::copy(&first, migrations.path().join(first.file_name().unwrap())).unwrap();
    let migrator = sqlx::migrate::Migrator::new(migrations.path()).await.unwrap();
    let lead = "insert into lead (id, client_id, status, desired_hash, desired, attempts, changed_at, due_at, hold_reason) values";
    let blob = engine.pick("x'00'", "'\\x00'::bytea");
    let rows = format!(
        "{lead} ('urgent', '', 'pending', {blob}, 'a', 0, 7, 0, null), ('held', '', 'held', {blob}, 'b', 0, 8, 8, 'first_run'); \
         insert into outcome (id, client_id, at, class, attempt) values ('x', '', 1, 'accepted', 1), ('x', '', 2, 'accepted', 1)"
    );
    match engine {
        Engine::Sqlite => {
            let pool = sqlx::SqlitePool::connect(&format!("{}?mode=rwc", place.url)).await.unwrap();
            migrator.run(&pool).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
            pool.close().await;
        }
        Engine::Postgres => {
            let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
            let pool = options.connect(&place.url).await.unwrap();
            sqlx::raw_sql("create schema conversica_sync; set search_path = conversica_sync")
                .execute(&pool)
                .await
                .unwrap();
            migrator.run(&pool).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
            pool.close().await;
        }
    }
    let error = StateDb::open_state_read_only(&place.url).await.expect_err("who only looks changes nothing");
    let setup = error.downcast_ref::<SetupError>().expect("a person can fix it");
    assert!(setup.what.contains("older") && setup.cure.contains("once"), "{setup}");
    assert!(StateDb::state_exists(&place.url).await.unwrap());

    let db = place.state().await;
    let held = held::look(&db, &HeldSelection::default()).await.unwrap();
    assert_eq!((held.leads, held.newest.map(|at| at.timestamp_micros())), (1, Some(8)), "since it was written");
    let urgent: Vec<(String, i64, i64)> = on_state!(&db, pool => {
        sqlx::query_as("select id, urgent, due_at from lead where status = 'pending'").fetch_all(pool).await
    })
    .unwrap();
    assert_eq!(urgent, [("urgent".to_owned(), 1, 7)]);
    assert_eq!(outcome::counts(&db).await.unwrap()[&OutcomeClass::Accepted], 2);
    assert!(StateDb::open_state_read_only(&place.url).await.unwrap().is_some());
}

#[tokio::test]
async fn the_state_file_belongs_to_its_owner_alone() {
    let place = Engine::Sqlite.place();
    let db = place.state().await;
    deliver(&db, desired("1", "a"), 0).await;
    let files: Vec<_> = std::fs::read_dir(place.directory()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() > 1, "the state and its log");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn sqlite_is_new_enough_to_keep_its_log_whole() {
    let db = StateDb::open_state_in_memory().await.unwrap();
    let StateDb::Sqlite(pool) = &db else { panic!("in memory is SQLite") };
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await.unwrap();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
}

#[test]
fn every_migration_in_the_folder_is_compiled_in() {
    let files = |engine: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
        std::fs::read_dir(folder).unwrap().count()
    };
    assert_eq!(embedded_migrations(), (files("sqlite"), files("postgres")));
}
