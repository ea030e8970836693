//! `check` of the settings themselves: the file, the origin of each secret, the alerts, the time zone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::check::changes;
use crate::check::item::CheckItem;
use crate::config::key::{self, KeySecrecy};
use crate::config::loaded::EffectiveSetting;
use crate::config::secret::{self, HIDDEN};
use crate::config::{LoadedConfig, ServiceSettings};
use crate::rules::cursor;
use crate::source::crm::ConnectedCrm;

pub(super) fn of_file(loaded: &LoadedConfig) -> Vec<CheckItem> {
    let place = loaded.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let mut items = vec![CheckItem::ok("settings", "file", format!("{place} is complete and consistent"))];
    if let Some(file) = &loaded.file {
        let places = [Some(file.as_path()), file.parent().filter(|parent| is_open_directory(parent))];
        let warnings = places.into_iter().flatten().filter_map(changeable);
        items.extend(warnings.map(|warning| CheckItem { section: "settings", name: "permissions", ..warning }));
    }
    items.extend(loaded.warnings.iter().map(|warning| CheckItem::warning("settings", "warning", warning)));
    items
}

/// Whether every user may replace the files of a directory. In one like /tmp (with the sticky bit) each only their own.
fn is_open_directory(directory: &Path) -> bool {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o1000 == 0)
}

/// A user who may write the file, or replace it, decides where leads are sent and which command runs.
fn changeable(file: &Path) -> Option<CheckItem> {
    let file = if file.as_os_str().is_empty() { Path::new(".") } else { file };
    let mode = fs::metadata(file).ok()?.permissions().mode();
    let file = file.display();
    let text = format!("{file} can be changed by every user of this machine");
    (mode & 0o002 != 0).then(|| CheckItem::warn("secrets", "permissions", text).cure(format!("chmod o-w {file}")))
}

/// Each secret that is set, with the layer that it comes from; never its value.
pub(super) fn of_secrets(loaded: &LoadedConfig) -> Vec<CheckItem> {
    let mut items = Vec::new();
    for effective in loaded.effective.iter().filter(|effective| is_secret(effective)) {
        let mut detail = format!("{} is set: {}", effective.key, effective.layer);
        let file = secret::file_of(&effective.layer);
        if let Some(mode) = file.and_then(|file| fs::metadata(file).ok()).map(|metadata| metadata.permissions().mode())
        {
            detail.push_str(&format!(", mode {:04o}", mode & 0o7777));
        }
        items.push(CheckItem::ok("secrets", "secret", detail));
        items.extend(file.and_then(changeable));
    }
    items
}

/// A URL counts as a secret if it contains a password.
fn is_secret(effective: &EffectiveSetting) -> bool {
    let Some(value) = effective.value.as_ref().and_then(|value| value.as_str()) else { return false };
    match key::find(&key::parts(&effective.key)).and_then(|key| key.secrecy) {
        Some(KeySecrecy::Whole) => true,
        Some(KeySecrecy::Url) => value.contains("***") || value.contains(HIDDEN),
        None => false,
    }
}

pub(super) fn of_alerts(settings: &ServiceSettings) -> Vec<CheckItem> {
    let alerts = &settings.alerts;
    let of_section = [("[alerts] url", alerts.url.is_some()), ("[alerts] command", alerts.command.is_some())]
        .map(|(name, is_set)| is_set.then(|| name.to_owned()));
    let of_entries = alerts.channel.iter().enumerate().map(|(place, channel)| {
        let kinds = channel.kinds.as_ref().map(|kinds| format!(", {} kinds", kinds.len())).unwrap_or_default();
        format!("channel {} ({}{kinds})", channel.name_at(place), channel.format().name())
    });
    let ways: Vec<String> = of_section.into_iter().flatten().chain(of_entries).map(|way| format!("by {way}")).collect();
    let told = ways.join(" and ");
    if ways.is_empty() {
        if settings.receive.is_some() {
            let text = "no alert goes out when a lead wants to be contacted: only the CRM and `received` show it";
            return vec![
                CheckItem::warn("alerts", "ways", text)
                    .cure("set [alerts] url or [alerts] command, or [[alerts.channel]]"),
            ];
        }
        // Without a receiver there is nothing to tell people.
        return Vec::new();
    }
    let of_leads = if settings.receive.is_some() { "of leads that need a person, and " } else { "" };
    let text =
        format!("alerts go {told}: {of_leads}when the service itself needs an operator, and when it no longer does");
    vec![CheckItem::ok("alerts", "ways", text)]
}

/// Stamps in the future usually belong to another time zone.
pub(super) async fn of_time_zone(crm: &ConnectedCrm, now: DateTime<Utc>) -> anyhow::Result<Vec<CheckItem>> {
    let zone = crm.source.time_zone;
    let there = now.with_timezone(&zone).format("%F %H:%M");
    let fitting = crm.fitting().await?;
    if let Some(changed_at) = &fitting.changed_at
        && let Some(newest) = changes::newest(crm, changed_at).await?
        && cursor::is_of_another_zone(&newest, zone, now)
    {
        let text = format!(
            "the newest changed_at is later than now, where times without a zone are those of {zone} (there it is {there})"
        );
        let cure = "set [source] time_zone to the zone in which the CRM writes its times";
        return Ok(vec![CheckItem::warn("time zone", "stamps", text).cure(cure)]);
    }
    let text = format!("times without a zone are those of {zone}, where it is {there}");
    Ok(vec![CheckItem::ok("time zone", "stamps", text)])
}
