//! `check` of the state: whether it exists or could be created, which processes use it, and whether it stops leads from being
//! sent. The check opens it for reading, and never creates it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{Access, access};
use rustix::process::{Pid, test_kill_process};
use secrecy::ExposeSecret;

use crate::check::clock::{self, CheckStart};
use crate::check::disk::{directory_of, size};
use crate::check::item::CheckItem;
use crate::config::ServiceSettings;
use crate::error::SetupError;
use crate::rules::hold_reason::advice;
use crate::rules::lead_status::LeadStatus;
use crate::rules::mapping::LeadMapping;
use crate::rules::mapping_in_use::MappingInUse;
use crate::send::older_mapping;
use crate::source::source_db::SourceDb;
use crate::status::ServiceStanding;
use crate::store::postgres::POSTGRES_SCHEMA;
use crate::store::state_db::StateDb;
use crate::store::{control, file_lock, instance, lead, operator_pause, writer};
use crate::{db, wording};

const SECTION: &str = "state";

/// Items about the state, and facts for later checks.
#[derive(Default)]
pub(super) struct StateFindings {
    pub items: Vec<CheckItem>,
    /// Halted or held: the operator has to decide before all waiting leads are sent.
    pub waits_for_a_person: bool,
    /// A process sends from it at present.
    pub is_in_use: bool,
}

pub(super) async fn of_state(settings: &ServiceSettings, began: CheckStart) -> anyhow::Result<StateFindings> {
    let url = settings.state.url.expose_secret();
    let place = db::display_url(url);
    file_lock::refuse_lost(url)?;
    let Some(state) = StateDb::open_state_read_only(url).await? else {
        could_be_made(url).await?;
        let item = CheckItem::ok(SECTION, "place", format!("{place} can be made; there is none yet"));
        return Ok(StateFindings { items: vec![item], ..StateFindings::default() });
    };
    let found = of_existing(&state, settings, &place, began).await;
    state.close().await;
    found
}

async fn of_existing(
    state: &StateDb,
    settings: &ServiceSettings,
    place: &str,
    began: CheckStart,
) -> anyhow::Result<StateFindings> {
    let url = settings.state.url.expose_secret();
    let (engine, schema) = (state.engine_version().await?, state.newest_migration().await?);
    let counts = lead::counts(state).await?;
    let known: i64 = counts.values().sum();
    let assumed = match counts[&LeadStatus::Assumed] {
        0 => String::new(),
        assumed => format!(
            ", {} of them {}",
            wording::number(u64::try_from(assumed).unwrap_or(0)),
            wording::meaning(LeadStatus::Assumed)
        ),
    };
    let bytes = bytes_of(state, url).await?;
    let mut items = vec![CheckItem::ok(
        SECTION,
        "place",
        format!(
            "{place} is there and can be read: {engine}, schema {schema}, {} with {known} lead(s){assumed}",
            size(bytes)
        ),
    )];
    items.push(of_writing(state, url).await?);
    let company = company(state, url, began.now).await?;
    let is_in_use = company.is_some();
    let text =
        company.map_or("no instance sends from it at present".to_owned(), |company| format!("in use by {company}"));
    items.push(CheckItem::ok(SECTION, "company", text));
    items.extend(of_older_mapping(state, settings).await?);
    let standing = ServiceStanding::of(state).await?;
    if let Some(halt) = &standing.halt {
        let text = format!("halted ({}) since {}: nothing is sent", halt.reason, halt.since.format("%F %T UTC"));
        items.push(CheckItem::warn(SECTION, "halt", text).cure(halt.cure));
    }
    if let Some(hold) = &standing.hold {
        let since = hold.since.format("%F %T UTC");
        let text = format!(
            "held ({}) since {since}: {} waiting for approval; {}",
            hold.reason,
            wording::leads(hold.leads),
            hold.first_contacts()
        );
        let cure = format!("look: conversica-sync plan; then: {}", advice(&hold.reason));
        items.push(CheckItem::warn(SECTION, "hold", text).cure(cure));
    }
    if let Some(pause) = operator_pause::read(state, began.now).await? {
        let text = format!("paused by {} since {}: {}", pause.who, pause.since.format("%F %T UTC"), pause.names());
        items.push(CheckItem::warn(SECTION, "pause", text).cure("`conversica-sync unpause` ends it"));
    }
    if let StateDb::Postgres(pool) = state {
        items.push(clock::of_server("state", pool, began).await);
    }
    let waits_for_a_person = standing.halt.is_some() || standing.hold.is_some();
    Ok(StateFindings { items, waits_for_a_person, is_in_use })
}

/// An instance with this configuration would not poll, because another instance has a newer `[lead]`.
async fn of_older_mapping(state: &StateDb, settings: &ServiceSettings) -> anyhow::Result<Option<CheckItem>> {
    let Some(in_use) = control::read::<MappingInUse>(state).await? else { return Ok(None) };
    let mine = LeadMapping::new(settings).fingerprint().to_string();
    let Some(newest) = in_use.newest().filter(|_| in_use.has_replaced(&mine)) else { return Ok(None) };
    let newer = writer::instances_that_may_have(state, newest).await?;
    let item = CheckItem::warn(SECTION, "lead", older_mapping::describe(&in_use)).cure(older_mapping::CURE);
    Ok((newer > 0).then_some(item))
}

/// Tests whether the state could be created, without creating it.
async fn could_be_made(url: &str) -> anyhow::Result<()> {
    if let Some(path) = db::sqlite_path(url) {
        let directory = directory_of(&path);
        tempfile::tempfile_in(&directory).map_err(|error| {
            SetupError::new(
                format!("the state cannot be made in {}: {error}", directory.display()),
                "make that directory and give it to the user that runs conversica-sync, or set [state] url",
            )
        })?;
        return Ok(());
    }
    // Opened for reading: it creates nothing, and asks for the rights.
    let SourceDb::Postgres(pool) = SourceDb::open_source(url, db::LOCK_TIMEOUT).await? else { return Ok(()) };
    let (role, may): (String, bool) = sqlx::query_as(
        "select quote_ident(current_user), coalesce(has_schema_privilege(to_regnamespace($1)::oid, 'create'), \
         has_database_privilege(current_database(), 'create'))",
    )
    .bind(POSTGRES_SCHEMA)
    .fetch_one(&pool)
    .await?;
    pool.close().await;
    if may {
        return Ok(());
    }
    let schema = POSTGRES_SCHEMA;
    Err(SetupError::new(
        format!(
            "the state cannot be made at {}: {role} may not make the schema {schema}, or tables in it",
            db::display_url(url)
        ),
        format!("let an administrator run in that database: create schema {schema} authorization {role}"),
    )
    .into())
}

async fn of_writing(state: &StateDb, url: &str) -> anyhow::Result<CheckItem> {
    let refused = match state {
        StateDb::Sqlite(_) => {
            let file = db::sqlite_path(url).unwrap_or_default();
            let unwritable =
                [directory_of(&file), file].into_iter().find(|path| access(path, Access::WRITE_OK).is_err());
            // SQLite writes its log and its lock beside the file.
            unwritable.map(|path| format!("this user may not write to {}", path.display()))
        }
        StateDb::Postgres(pool) => {
            let (role, may, standby): (String, bool, bool) = sqlx::query_as(
                "select quote_ident(current_user), has_table_privilege('lead', 'insert') \
                 and has_table_privilege('lead', 'update') and has_table_privilege('lead', 'delete'), pg_is_in_recovery()",
            )
            .fetch_one(pool)
            .await?;
            match (may, standby) {
                (_, true) => Some("this is a standby, which is read-only".to_owned()),
                (false, false) => Some(format!("{role} may not write to it")),
                (true, false) => None,
            }
        }
    };
    Ok(match refused {
        None => CheckItem::ok(SECTION, "writable", "it can be written"),
        Some(text) => CheckItem::fail(SECTION, "writable", text)
            .cure("give it to the user that runs conversica-sync, or set [state] url to one that it may write"),
    })
}

/// The processes that send from it at present.
async fn company(state: &StateDb, url: &str, now: DateTime<Utc>) -> anyhow::Result<Option<String>> {
    Ok(match state {
        StateDb::Sqlite(_) => db::sqlite_path(url).and_then(|file| holder(&file)),
        StateDb::Postgres(pool) => {
            let instances = writer::instances(pool).await?;
            let names: Vec<String> = instance::list(state, now).await?.into_iter().map(|one| one.name).collect();
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            (instances > 0).then(|| format!("{instances} instance(s){names}"))
        }
    })
}

/// Reads the lock file. It does not try the lock itself: a process that starts at that moment would be refused.
fn holder(state: &Path) -> Option<String> {
    let mut lock = state.to_owned().into_os_string();
    lock.push(".lock");
    let mut holder = String::new();
    File::open(PathBuf::from(lock)).ok()?.take(200).read_to_string(&mut holder).ok()?;
    let pid: i32 = holder.strip_prefix("process ")?.split(' ').next()?.parse().ok()?;
    // A process that may not be signalled exists as well.
    let gone = test_kill_process(Pid::from_raw(pid)?) == Err(rustix::io::Errno::SRCH);
    (!gone).then(|| holder.lines().next().unwrap_or_default().to_owned())
}

async fn bytes_of(state: &StateDb, url: &str) -> anyhow::Result<u64> {
    let StateDb::Postgres(pool) = state else {
        let file = db::sqlite_path(url).unwrap_or_default().into_os_string();
        let with = |end: &str| {
            let mut name = file.clone();
            name.push(end);
            fs::metadata(PathBuf::from(name)).map_or(0, |metadata| metadata.len())
        };
        return Ok(with("") + with("-wal"));
    };
    let bytes: i64 = sqlx::query_scalar(
        "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class \
         where relkind = 'r' and relnamespace = current_schema()::regnamespace",
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
