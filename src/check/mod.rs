//! Checks that everything is ready: settings, source, mapping, state, endpoint and receiver, item by item. It sends nothing,
//! shows credentials to no server, and leaves no traces.
//!
//! [`item`] is the list, and pure; each of the others checks one part. Checks that do not depend on a failed one still run.

mod changes;
mod clock;
mod disk;
mod endpoint;
pub mod item;
mod keys;
mod mapping;
pub mod names;
mod receiver;
mod settings;
mod source;
mod state;
mod suppression;
mod tables;
mod triggers;
mod writeback;

use std::time::Instant;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use crate::check::item::{CheckItem, CheckReport};
use crate::check::receiver::DaemonPresence;
use crate::config::{ChangeDetection, LoadedConfig, ServiceSettings};
use crate::db::failure_cure::{self, FailureSubject};
use crate::source::changes::log::ChangeLog;
use crate::source::crm::ConnectedCrm;

/// The sections after the settings.
const AFTER_SETTINGS: [&str; 10] =
    ["source", "rights", "changes", "mapping", "time zone", "clock", "state", "disk", "endpoint", "receiver"];

/// Runs all checks; `tell` receives each item as soon as it is known.
pub async fn walk(
    loaded: &anyhow::Result<LoadedConfig>,
    now: DateTime<Utc>,
    mut tell: impl FnMut(&CheckItem),
) -> CheckReport {
    let mut list = CheckReport::default();
    let mut add = |list: &mut CheckReport, items: Vec<CheckItem>| {
        items.iter().for_each(&mut tell);
        list.items.extend(items);
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            add(&mut list, CheckItem::failed("settings", "file", error));
            let skipped = |section| CheckItem::skipped(section, "all", "needs the settings");
            add(&mut list, AFTER_SETTINGS.map(skipped).into());
            return list;
        }
    };
    let settings = &loaded.settings;
    add(&mut list, settings::of_file(loaded));
    add(&mut list, settings::of_secrets(loaded));
    let began = clock::CheckStart { now, at: Instant::now() };
    match open(settings).await {
        Ok((crm, log)) => {
            let mut source = SourceLook { crm: &crm, is_refused: false };
            add(&mut list, source.items("source", "rows", source::of_source(&crm)).await);
            add(&mut list, source.items("source", "key", keys::of_names(&crm)).await);
            add(&mut list, source.items("source", "suppression_query", suppression::of_query(&crm, settings)).await);
            // The server tells the role's rights even if the role may not read the table.
            add(&mut list, or_failed("rights", "role", source::of_rights(&crm, settings, now).await));
            if settings.source.changes == ChangeDetection::Poll {
                add(&mut list, source.items("changes", "changed_at", changes::of_changes(&crm, now)).await);
            }
            let changes = settings.source.changes;
            let section = if changes == ChangeDetection::Poll { "changes" } else { "triggers" };
            add(&mut list, source.items(section, "tables", tables::of_tables(&crm, changes)).await);
            add(&mut list, or_failed("triggers", "log", triggers::of_triggers(&crm, log).await));
            add(&mut list, source.items("mapping", "rows", mapping::of_rows(&crm)).await);
            add(&mut list, source.items("mapping", "whole_numbers", mapping::of_whole_numbers(&crm)).await);
            add(&mut list, mapping::of_keys(settings));
            add(&mut list, source.items("time zone", "stamps", settings::of_time_zone(&crm, now)).await);
            add(&mut list, vec![clock::of_source(&crm, began).await]);
            crm.db.close().await;
        }
        Err(error) => {
            add(&mut list, CheckItem::failed("source", "connect", &error));
            let skipped = |section, name| CheckItem::skipped(section, name, "needs the source");
            add(
                &mut list,
                vec![skipped("rights", "role"), skipped("changes", "changed_at"), skipped("mapping", "rows")],
            );
            add(&mut list, mapping::of_keys(settings));
            add(&mut list, vec![skipped("time zone", "stamps"), skipped("clock", "source")]);
        }
    }
    let state = state::of_state(settings, began).await.unwrap_or_else(|error| state::StateFindings {
        items: CheckItem::failed("state", "place", &error),
        ..state::StateFindings::default()
    });
    list.waits_for_a_person = state.waits_for_a_person;
    add(&mut list, state.items);
    add(&mut list, disk::of_disks(settings));
    add(&mut list, or_failed("writeback", "tables", writeback::of_writeback(settings).await));
    add(&mut list, endpoint::of_endpoint(settings).await);
    let daemon = if state.is_in_use { DaemonPresence::Runs } else { DaemonPresence::Absent };
    add(&mut list, receiver::of_receiver(settings, now, daemon));
    add(&mut list, settings::of_alerts(settings));
    list
}

/// The source, and the change log or why it is unusable: the rest of the source can be checked without it.
async fn open(settings: &ServiceSettings) -> anyhow::Result<(ConnectedCrm, Option<anyhow::Result<ChangeLog>>)> {
    let mut without_log = settings.clone();
    without_log.source.changes = ChangeDetection::Poll;
    let crm = ConnectedCrm::open(&without_log).await?;
    let log = match settings.source.changes {
        ChangeDetection::Poll => None,
        ChangeDetection::Triggers => {
            Some(ChangeLog::open(&crm.db, &settings.source, settings.source.url.expose_secret()).await)
        }
    };
    Ok((crm, log))
}

/// Runs the checks of the source until the database refuses to be read.
struct SourceLook<'a> {
    crm: &'a ConnectedCrm,
    is_refused: bool,
}

impl SourceLook<'_> {
    /// The items of one check, with the cure if the database refuses to be read. After such a refusal, later checks would only
    /// repeat it, and are skipped.
    async fn items(
        &mut self,
        section: &'static str,
        name: &'static str,
        looked: impl Future<Output = anyhow::Result<Vec<CheckItem>>>,
    ) -> Vec<CheckItem> {
        if self.is_refused {
            return vec![CheckItem::skipped(section, name, "needs the source")];
        }
        looked.await.unwrap_or_else(|error| {
            self.is_refused = is_access_refused(&error);
            CheckItem::failed(section, name, &self.crm.explained(error))
        })
    }
}

fn is_access_refused(error: &anyhow::Error) -> bool {
    let database = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error());
    database.is_some_and(|database| failure_cure::cure_error(database).subject == FailureSubject::Rights)
}

fn or_failed(section: &'static str, name: &'static str, items: anyhow::Result<Vec<CheckItem>>) -> Vec<CheckItem> {
    items.unwrap_or_else(|error| CheckItem::failed(section, name, &error))
}
