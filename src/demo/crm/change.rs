//! A working day in the sample CRM, in rounds: salespeople change leads, a new lead comes in, a person opts out.
//!
//! Each round is one transaction, and each change sets `updated_at`, as a CRM does. Faulty leads do not change, so that the
//! demo's numbers stay explainable.

use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

use crate::demo::crm::people::{OWNERS, STATUSES, person, pick};
use crate::demo::crm::table::{DemoRow, FAULTS, insert, open, stamp};

/// Leads whose status or owner changes in a round.
const CHANGED_A_ROUND: usize = 3;

/// A person opts out once in this many rounds.
const OPT_OUT_EVERY: u64 = 4;

/// The changes of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoChanges {
    /// Leads whose status or owner changed.
    pub changed: u64,
    pub added: u64,
    pub opted_out: u64,
    /// Rows written without a change that Conversica receives.
    pub touched: u64,
    /// The same in words: "lead 17: status New → Sold". Ids only, no names of leads.
    pub told: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct DemoLead {
    id: i64,
    status: i64,
    owner_name: Option<String>,
    do_not_contact: String,
}

/// Plays one round. The same round on the same CRM does the same.
pub async fn change_some(path: &Path, round: u64, now: DateTime<Utc>) -> anyhow::Result<DemoChanges> {
    let mut connection = open(path).await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    let (mut rng, now) = (StdRng::seed_from_u64(round), stamp(now));
    let mut leads: Vec<DemoLead> =
        sqlx::query_as("select id, status, owner_name, do_not_contact from leads order by id")
            .fetch_all(&mut *transaction)
            .await
            .context("cannot read the sample CRM")?;
    let newest = leads.last().map_or(0, |lead| lead.id);
    leads.retain(|lead| lead.do_not_contact == "N" && !FAULTS.iter().any(|(faulty, _)| *faulty == lead.id));
    leads.shuffle(&mut rng);
    let mut leads = leads.into_iter();
    let mut changes = DemoChanges::default();

    let changed: Vec<DemoLead> =
        leads.by_ref().take(CHANGED_A_ROUND).map(|lead| changed(&mut rng, lead, &mut changes.told)).collect();
    changes.changed = changed.len() as u64;
    store(&mut transaction, changed, &now).await?;

    let id = newest + 1;
    let mut person = person(&mut rng, id);
    (person.status, person.do_not_contact) = (1, "N");
    changes.told.push(format!("lead {id}: new, from {}", person.source));
    insert(&mut transaction, vec![DemoRow { id, person, created_at: now.clone(), updated_at: now.clone() }]).await?;
    changes.added = 1;

    if round % OPT_OUT_EVERY == OPT_OUT_EVERY - 1
        && let Some(lead) = leads.next()
    {
        let statement = "update leads set do_not_contact = 'Y', updated_at = $2 where id = $1";
        changes.opted_out =
            sqlx::query(statement).bind(lead.id).bind(&now).execute(&mut *transaction).await?.rows_affected();
        changes.told.push(format!("lead {}: opted out", lead.id));
    }
    if let Some(lead) = leads.next() {
        let statement = "update leads set notes = $3, updated_at = $2 where id = $1";
        let touch =
            sqlx::query(statement).bind(lead.id).bind(&now).bind(format!("Called, no answer (call {})", round + 1));
        changes.touched = touch.execute(&mut *transaction).await?.rows_affected();
        changes.told.push(format!("lead {}: a note, which is not mapped, so nothing to send", lead.id));
    }
    transaction.commit().await.context("cannot change the sample CRM")?;
    connection.close().await?;
    Ok(changes)
}

/// Open leads progress; closed ones go to another salesperson.
fn changed(rng: &mut StdRng, mut lead: DemoLead, told: &mut Vec<String>) -> DemoLead {
    let id = lead.id;
    if let open @ 1..=2 = lead.status {
        lead.status = if open == 1 { pick(rng, &[2, 2, 3, 4]) } else { pick(rng, &[3, 4]) };
        told.push(format!("lead {id}: status {} → {}", status(open), status(lead.status)));
        return lead;
    }
    let before = lead.owner_name.unwrap_or_default();
    let others: Vec<&str> = OWNERS.iter().map(|(name, _)| *name).filter(|name| *name != before).collect();
    let owner = pick(rng, &others);
    told.push(format!("lead {id}: owner {before} → {owner}"));
    lead.owner_name = Some(owner.to_owned());
    lead
}

fn status(code: i64) -> &'static str {
    usize::try_from(code - 1).ok().and_then(|at| STATUSES.get(at)).copied().unwrap_or("unknown")
}

async fn store(connection: &mut SqliteConnection, leads: Vec<DemoLead>, now: &str) -> anyhow::Result<()> {
    if leads.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::<Sqlite>::new("with change (id, status, owner_name, owner_email) as (");
    statement.push_values(leads, |mut values, lead| {
        let email = OWNERS.iter().find(|(name, _)| Some(*name) == lead.owner_name.as_deref()).map(|(_, email)| *email);
        values.push_bind(lead.id).push_bind(lead.status).push_bind(lead.owner_name).push_bind(email);
    });
    statement.push(
        ") update leads set status = change.status, owner_name = change.owner_name, owner_email = change.owner_email, \
         updated_at = ",
    );
    statement.push_bind(now).push(" from change where leads.id = change.id");
    statement.build().execute(connection).await.context("cannot change leads of the sample CRM")?;
    Ok(())
}
