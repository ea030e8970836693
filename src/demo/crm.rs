//! The demo's sample CRM: a car dealer's leads in SQLite, with columns named as no two CRMs agree to name them.
//!
//! Eight of the leads are faulty on purpose, each in a way of its own, to show what happens to them. It writes only to
//! the file that it is given, and never to one that already holds such a table.

mod change;
mod config;
pub mod people;

use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, Duration, NaiveDate, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Sqlite, SqliteConnection};

pub use change::{Changes, change_some};
pub use config::{CONFIG, Places, config_text};
use people::Person;

const LEADS: i64 = 300;

/// Which leads are faulty.
const FAULTS: [(i64, Fault); 8] = [
    (17, Fault::NoEmail),
    (52, Fault::EmailWithoutAt),
    (88, Fault::EmailWithoutDomain),
    (121, Fault::BlankFirstName),
    (159, Fault::NoFirstName),
    (203, Fault::ImpossibleDate),
    (240, Fault::NoOwner),
    (281, Fault::UnclearOptOut),
];

#[derive(Clone, Copy)]
enum Fault {
    NoEmail,
    EmailWithoutAt,
    EmailWithoutDomain,
    BlankFirstName,
    NoFirstName,
    ImpossibleDate,
    NoOwner,
    UnclearOptOut,
}

const TABLE: &str = "
create table leads (
    id integer primary key,
    first_name text,
    last_name text,
    email text,
    phone text,
    mobile text,
    source text,
    status integer not null,
    owner_name text,
    owner_email text,
    created_at text not null,
    updated_at text not null,
    do_not_contact text not null default 'N',
    vehicle_year integer,
    make text,
    model text,
    group_name text,
    notes text
)";

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub leads: u64,
    /// How many of them have something wrong, on purpose.
    pub faulty: u64,
}

struct Row {
    id: i64,
    person: Person,
    created_at: String,
    updated_at: String,
}

/// Makes the CRM at `path`. The same seed makes the same leads.
pub async fn create(path: &Path, seed: u64) -> anyhow::Result<Sample> {
    let mut connection = open(path, true).await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    let making = || format!("cannot make the sample CRM at {}: delete the file, or choose another", path.display());
    sqlx::query(TABLE).execute(&mut *transaction).await.with_context(making)?;
    sqlx::query("create index leads_updated_at on leads (updated_at, id)").execute(&mut *transaction).await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let rows: Vec<Row> = (1..=LEADS).map(|id| row(&mut rng, id)).collect();
    // SQLite's limit is 32,766 parameters a statement: 300 rows of 18 fit into one.
    insert(&mut transaction, rows).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(Sample { leads: LEADS.unsigned_abs(), faulty: FAULTS.len() as u64 })
}

fn row(rng: &mut StdRng, id: i64) -> Row {
    let mut person = people::person(rng, id);
    // Fixed dates, so that the same seed makes the same file on any day.
    let first_day = NaiveDate::from_ymd_opt(2026, 1, 5).unwrap_or_default().and_hms_opt(8, 0, 0).unwrap_or_default();
    let created = first_day.and_utc() + Duration::minutes(id * 840 + rng.random_range(0..600));
    let updated = created + Duration::minutes(rng.random_range(0..10_000));
    let mut created_at = stamp(created);
    match FAULTS.iter().find(|(faulty, _)| *faulty == id).map(|(_, fault)| fault) {
        None => {}
        Some(Fault::NoEmail) => person.email = None,
        Some(Fault::EmailWithoutAt) => person.email = person.email.map(|email| email.replace('@', "(at)")),
        Some(Fault::EmailWithoutDomain) => person.email = person.email.map(|email| email.replace("example", "")),
        Some(Fault::BlankFirstName) => person.first_name = Some("  ".to_owned()),
        Some(Fault::NoFirstName) => person.first_name = None,
        Some(Fault::ImpossibleDate) => created_at = "2026-02-30 10:15:00".to_owned(),
        Some(Fault::NoOwner) => person.owner = None,
        Some(Fault::UnclearOptOut) => person.do_not_contact = "ask her",
    }
    Row { id, person, created_at, updated_at: stamp(updated) }
}

async fn insert(connection: &mut SqliteConnection, rows: Vec<Row>) -> anyhow::Result<()> {
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

async fn open(path: &Path, create: bool) -> anyhow::Result<SqliteConnection> {
    // With a write-ahead log the daemon reads on while the CRM is being changed.
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(create);
    let connection = options.journal_mode(SqliteJournalMode::Wal).connect().await;
    connection.with_context(|| format!("cannot open the sample CRM {}", path.display()))
}

/// As SQLite's own `datetime()` writes it: UTC, to the second, without saying so.
fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
