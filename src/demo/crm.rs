//! The demo's sample CRM: a car dealer's leads in SQLite, with column names of its own, as every CRM has them.
//!
//! Eight of the leads are faulty on purpose, each in another way, to show how the program treats them. It writes only to the
//! given file, and never to one that already holds such a table.

mod change;
mod config;
pub mod people;
pub mod table;

use std::path::Path;

use anyhow::Context;
use chrono::{Duration, NaiveDate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Connection;

use crate::demo::crm::table::{DemoRow, FAULTS, RowFault, insert, open_new, stamp};

pub use change::{DemoChanges, change_some};
pub use config::{CONFIG, DemoPlaces, config_text};

const LEADS: i64 = 300;

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

/// The new sample CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleCrm {
    pub leads: u64,
    /// Leads among them that are faulty on purpose.
    pub faulty: u64,
}

/// Creates the CRM at `path`. The same seed makes the same leads.
pub async fn create(path: &Path, seed: u64) -> anyhow::Result<SampleCrm> {
    let mut connection = open_new(path).await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    let making = || format!("cannot make the sample CRM at {}: delete the file, or choose another", path.display());
    sqlx::query(TABLE).execute(&mut *transaction).await.with_context(making)?;
    sqlx::query("create index leads_updated_at on leads (updated_at, id)").execute(&mut *transaction).await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let rows: Vec<DemoRow> = (1..=LEADS).map(|id| row(&mut rng, id)).collect();
    // SQLite's limit is 32,766 parameters per statement: 300 rows of 18 fit into one.
    insert(&mut transaction, rows).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(SampleCrm { leads: LEADS.unsigned_abs(), faulty: FAULTS.len() as u64 })
}

fn row(rng: &mut StdRng, id: i64) -> DemoRow {
    let mut person = people::person(rng, id);
    // Fixed dates, so that the same seed makes the same file on any day.
    let first_day = NaiveDate::from_ymd_opt(2026, 1, 5).unwrap_or_default().and_hms_opt(8, 0, 0).unwrap_or_default();
    let created = first_day.and_utc() + Duration::minutes(id * 840 + rng.random_range(0..600));
    let updated = created + Duration::minutes(rng.random_range(0..10_000));
    let mut created_at = stamp(created);
    match FAULTS.iter().find(|(faulty, _)| *faulty == id).map(|(_, fault)| fault) {
        None => {}
        Some(RowFault::NoEmail) => person.email = None,
        Some(RowFault::EmailWithoutAt) => person.email = person.email.map(|email| email.replace('@', "(at)")),
        Some(RowFault::EmailWithoutDomain) => person.email = person.email.map(|email| email.replace("example", "")),
        Some(RowFault::BlankFirstName) => person.first_name = Some("  ".to_owned()),
        Some(RowFault::NoFirstName) => person.first_name = None,
        Some(RowFault::ImpossibleDate) => created_at = "2026-02-30 10:15:00".to_owned(),
        Some(RowFault::NoOwner) => person.owner = None,
        Some(RowFault::UnclearOptOut) => person.do_not_contact = "ask her",
    }
    DemoRow { id, person, created_at, updated_at: stamp(updated) }
}
