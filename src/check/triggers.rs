//! `check` of the triggers: whether changes reach the log, whether the log reaches us, and whether unused triggers remain.

use std::time::Duration;

use crate::check::item::CheckItem;
use crate::config::duration;
use crate::db::discreet;
use crate::db::pooler::{self, SessionKind};
use crate::source::changes::design;
use crate::source::changes::ground;
use crate::source::changes::log::{ChangeLog, LogBacklog};
use crate::source::changes::standing::{self, TriggerStanding};
use crate::source::changes::watch::{SHARED_SESSION, SHARED_SESSION_CURE};
use crate::source::changes::watch_query;
use crate::source::crm::ConnectedCrm;

const SECTION: &str = "triggers";

/// `log` is `None` with polling: then the check only searches for unused triggers.
pub(super) async fn of_triggers(
    crm: &ConnectedCrm,
    log: Option<anyhow::Result<ChangeLog>>,
) -> anyhow::Result<Vec<CheckItem>> {
    let log = match log {
        None => return unused(crm).await,
        Some(log) => log?,
    };
    let standing = log.look().await?;
    let silent = standing::is_silent(&standing, &log.design);
    let wake = match &standing {
        TriggerStanding::Complete { wake, .. } => Some(*wake),
        TriggerStanding::Absent | TriggerStanding::Incomplete(_) | TriggerStanding::Foreign => None,
    };
    let misowned = of_owner(&standing);
    standing.complete(&log.design)?;
    log.try_writing().await.map_err(|error| standing::unwritable(&log.design, &error))?;
    let LogBacklog { rows, oldest_seconds } = log.backlog().await?;
    let name = log.design.log.quoted();
    let mut items = vec![if rows == 0 {
        CheckItem::ok(SECTION, "log", format!("installed; the change log {name} is empty"))
    } else {
        let oldest = match u64::try_from(oldest_seconds).unwrap_or(0) {
            0 => "less than a second".to_owned(),
            seconds => duration::format(Duration::from_secs(seconds)),
        };
        let text = format!("installed; {rows} row(s) wait in the change log {name}, the oldest for {oldest}");
        CheckItem::ok(SECTION, "log", text)
    }];
    if silent {
        let text = "installed with --no-notify: changes are found at the next poll";
        items.push(
            CheckItem::warn(SECTION, "notify", text)
                .cure("nothing, if that is meant; else `triggers install --notify`"),
        );
    }
    if !silent {
        items.extend(of_notifications(&log).await);
    }
    let doubts = ground::doubts(&crm.db, &log.design, wake).await?;
    items.extend(doubts.into_iter().map(|doubt| CheckItem::warn(SECTION, "table", doubt.what).cure(doubt.cure)));
    items.extend(misowned);
    if let Err(error) = ground::refuse_foreign_type(&crm.db, &log.design).await {
        items.extend(CheckItem::failed(SECTION, "type", &error));
    }
    let (tables, owner) = (&*log.design.tables, log.design.owner.as_deref());
    if let Err(error) = watch_query::refuse_unsafe(&crm.db, &crm.source, (tables, owner)).await {
        items.extend(CheckItem::failed(SECTION, "watch", &error));
    }
    Ok(items)
}

/// Behind a pooler that shares sessions no notification arrives; `run` then waits for the next poll.
async fn of_notifications(log: &ChangeLog) -> Option<CheckItem> {
    let options = log.listener_options()?;
    match pooler::session_kind(&options).await {
        Ok(SessionKind::Own) => Some(CheckItem::ok(SECTION, "notify", "notifications come: a change is read at once")),
        Ok(SessionKind::Shared) => Some(CheckItem::warn(SECTION, "notify", SHARED_SESSION).cure(SHARED_SESSION_CURE)),
        Err(error) => {
            let error = discreet::of_source(error);
            let text = format!(
                "it cannot be found out whether notifications come ({error}): without them changes are found at the next poll"
            );
            let cure = "if a connection pooler is in front of the database, give it four sessions for this user (default_pool_size)";
            Some(CheckItem::warn(SECTION, "notify", text).cure(cure))
        }
    }
}

/// Triggers that run with the rights of another role than the table's owner: a risk for the owner.
fn of_owner(standing: &TriggerStanding) -> Option<CheckItem> {
    let TriggerStanding::Complete { misowned: Some(what), .. } = standing else { return None };
    let cure = "run `conversica-sync triggers install` as a superuser (--url-file): it makes log and function again, as the \
                owner's";
    Some(CheckItem::fail(SECTION, "owner", what.clone()).cure(cure))
}

/// A change log that no process drains only grows.
async fn unused(crm: &ConnectedCrm) -> anyhow::Result<Vec<CheckItem>> {
    // Most sources have no triggers, and many cannot have any: neither is a finding.
    let Ok(design) = design::design(&crm.db, &crm.source).await else { return Ok(Vec::new()) };
    let others = ground::other_logs(&crm.db, &design).await?;
    let others = others.iter().map(ground::other_log);
    let mut items: Vec<CheckItem> =
        others.map(|other| CheckItem::warn(SECTION, "table", other.what).cure(other.cure)).collect();
    let standing = standing::look(&crm.db, &design).await?;
    items.extend(of_owner(&standing));
    let unused = match standing {
        TriggerStanding::Complete { .. } | TriggerStanding::Incomplete(_) => true,
        TriggerStanding::Absent | TriggerStanding::Foreign => false,
    };
    let log = design.log.quoted();
    let item = CheckItem::warn(SECTION, "log", format!("there are triggers that fill {log}, which no instance drains"))
        .cure("write [source] changes = \"triggers\", or run `conversica-sync triggers remove`");
    items.extend(unused.then_some(item));
    Ok(items)
}
