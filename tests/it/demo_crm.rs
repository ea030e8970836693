//! The demo's sample CRM: its content, and the effect of a round of changes.

use std::path::Path;

use chrono::{DateTime, Utc};
use sqlx::{Connection, SqliteConnection};

use conversica_sync::demo::crm::{SampleCrm, change_some, create};

async fn opened(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

async fn count(path: &Path, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&mut opened(path).await).await.unwrap()
}

fn now() -> DateTime<Utc> {
    "2027-03-01T12:00:00Z".parse().unwrap()
}

async fn whole(path: &Path) -> Vec<(i64, Option<String>, Option<String>, i64, String)> {
    let statement = "select id, first_name, email, status, updated_at from leads order by id";
    sqlx::query_as(statement).fetch_all(&mut opened(path).await).await.unwrap()
}

#[tokio::test]
async fn the_sample_has_300_leads_of_which_eight_are_faulty_and_repeats_with_its_seed() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second, third) = (directory.path().join("1"), directory.path().join("2"), directory.path().join("3"));
    assert_eq!(create(&first, 1).await.unwrap(), SampleCrm { leads: 300, faulty: 8 });
    create(&second, 1).await.unwrap();
    create(&third, 2).await.unwrap();
    assert_eq!(whole(&first).await, whole(&second).await);
    assert_ne!(whole(&first).await, whole(&third).await);
    let good = "select count(*) from leads where email like '%_@example.___' and trim(first_name) <> '' \
                and datetime(created_at) = created_at and owner_name <> '' and do_not_contact in ('Y', 'N')";
    assert_eq!(count(&first, good).await, 292);
    let late = "select count(*) from leads where updated_at < created_at and id <> 203";
    assert_eq!(count(&first, late).await, 0);
}

#[tokio::test]
async fn a_sample_is_never_made_over_an_existing_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crm.db");
    create(&path, 1).await.unwrap();
    let refused = create(&path, 2).await.unwrap_err();
    assert!(format!("{refused:#}").contains("delete the file"), "{refused:#}");
    assert_eq!(count(&path, "select count(*) from leads").await, 300);
}

#[tokio::test]
async fn rounds_change_add_opt_out_and_touch_as_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crm.db");
    create(&path, 1).await.unwrap();
    let opted_out = "select count(*) from leads where do_not_contact = 'Y'";
    let before = count(&path, opted_out).await;
    for round in 0..12 {
        let changes = change_some(&path, round, now() + chrono::Duration::minutes(round as i64)).await.unwrap();
        assert_eq!((changes.changed, changes.added, changes.touched), (3, 1, 1), "{changes:?}");
        assert_eq!(changes.told.len() as u64, 5 + changes.opted_out, "{changes:?}");
        assert_eq!(count(&path, "select count(*) from leads").await, 301 + round as i64);
    }
    assert_eq!(count(&path, opted_out).await, before + 3);
    let last = "select count(*) from leads where updated_at = '2027-03-01 12:11:00'";
    assert_eq!(count(&path, last).await, 6);
}
