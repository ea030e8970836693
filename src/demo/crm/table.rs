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

use crate::demo::crm::people::Person;

/// Which leads are faulty.
pub(crate) const FAULTS: [(i64, Fault); 8] = [
    (17, Fault::NoEmail),
    (52, Fault::EmailWithoutAt),
    (88, Fault::EmailWithoutDomain),
    (121, Fault::BlankFirstName),
    (159, Fault::NoFirstName),
    (203, Fault::ImpossibleDate),
    (240, Fault::NoOwner),
    (281, Fault::UnclearOptOut),
];

pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) person: Person,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

pub(crate) async fn insert(connection: &mut SqliteConnection, rows: Vec<Row>) -> anyhow::Result<()> {
    let mut statement = QueryBuilder::<Sqlite>::new(
        "insert into leads (id, first_name, last_name, email, phone, mobile, source, status, owner_name, owner_email, \
         created_at, updated_at, do_not_contact, vehicle_year, make, model, group_name, notes) ",
    );
    statement.push_values(rows, |mut values, Row { id, person, created_at, updated_at }| {
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

pub(crate) async fn open(path: &Path, create: bool) -> anyhow::Result<SqliteConnection> {
    // With a write-ahead log the daemon reads on while the CRM is being changed.
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(create);
    let connection = options.journal_mode(SqliteJournalMode::Wal).connect().await;
    connection.with_context(|| format!("cannot open the sample CRM {}", path.display()))
}

/// As SQLite's own `datetime()` writes it: UTC, to the second, without saying so.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[derive(Clone, Copy)]
pub(crate) enum Fault {
    NoEmail,
    EmailWithoutAt,
    EmailWithoutDomain,
    BlankFirstName,
    NoFirstName,
    ImpossibleDate,
    NoOwner,
    UnclearOptOut,
}
