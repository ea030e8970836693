//! The table of the demo CRM.

use std::path::Path;

use anyhow::Context;
use chrono::DateTime;
use chrono::Utc;
use sqlx::ConnectOptions;
use sqlx::QueryBuilder;
use sqlx::Sqlite;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;

use crate::demo::crm::people::DemoPerson;

/// The faulty leads.
pub(crate) const FAULTS: [(i64, RowFault); 8] = [
    (17, RowFault::NoEmail),
    (52, RowFault::EmailWithoutAt),
    (88, RowFault::EmailWithoutDomain),
    (121, RowFault::BlankFirstName),
    (159, RowFault::NoFirstName),
    (203, RowFault::ImpossibleDate),
    (240, RowFault::NoOwner),
    (281, RowFault::UnclearOptOut),
];

pub(crate) struct DemoRow {
    pub(crate) id: i64,
    pub(crate) person: DemoPerson,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

pub(crate) async fn insert(connection: &mut SqliteConnection, rows: Vec<DemoRow>) -> anyhow::Result<()> {
    let mut statement = QueryBuilder::<Sqlite>::new(
        "insert into leads (id, first_name, last_name, email, phone, mobile, source, status, owner_name, owner_email, \
         created_at, updated_at, do_not_contact, vehicle_year, make, model, group_name, notes) ",
    );
    statement.push_values(rows, |mut values, DemoRow { id, person, created_at, updated_at }| {
        values.push_bind(id).push_bind(person.first_name).push_bind(person.last_name).push_bind(person.email);
        values.push_bind(person.phone).push_bind(person.mobile).push_bind(person.source).push_bind(person.status);
        values.push_bind(person.owner.map(|owner| owner.0)).push_bind(person.owner.map(|owner| owner.1));
        values.push_bind(created_at).push_bind(updated_at).push_bind(person.do_not_contact);
        values.push_bind(person.vehicle_year).push_bind(person.make).push_bind(person.model);
        values.push_bind(person.group_name).push_bind(person.notes);
    });
    statement.build().execute(connection).await.context("cannot add leads to the sample CRM")?;
    Ok(())
}

pub(crate) async fn open_new(path: &Path) -> anyhow::Result<SqliteConnection> {
    connect(path, SqliteConnectOptions::new().create_if_missing(true)).await
}

pub(crate) async fn open(path: &Path) -> anyhow::Result<SqliteConnection> {
    connect(path, SqliteConnectOptions::new()).await
}

async fn connect(path: &Path, options: SqliteConnectOptions) -> anyhow::Result<SqliteConnection> {
    // With a write-ahead log the daemon can read while the CRM changes.
    let connection = options.filename(path).journal_mode(SqliteJournalMode::Wal).connect().await;
    connection.with_context(|| format!("cannot open the sample CRM {}", path.display()))
}

/// In the format of SQLite's own `datetime()`: UTC, to the second, without a zone.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[derive(Clone, Copy)]
pub(crate) enum RowFault {
    NoEmail,
    EmailWithoutAt,
    EmailWithoutDomain,
    BlankFirstName,
    NoFirstName,
    ImpossibleDate,
    NoOwner,
    UnclearOptOut,
}
