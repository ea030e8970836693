//! Secrets outside the settings: `KEY_file` and systemd's credentials; and URLs with hidden passwords.
//!
//! No message of this file holds a secret's value.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

use crate::config::check::ConfigProblems;
use crate::config::environment::ProcessEnvironment;
use crate::config::key::{self, ConfigKey, KeyKind};
use crate::config::layer::ConfigLayer;

/// The text in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// The origin of a secret with a file of its own starts with this.
const FROM_FILE: &str = "file ";
const NAMED_BY: &str = ", named by ";

/// The layer of the credentials directory: a file named `conversica.password` sets that key.
///
/// `others` are the layers that have the entries of lists of tables: `admin.operator.0.token` sets the key of an entry that exists.
/// One without its entry is a mistake: entries are counted, so the entry may have been removed, and another person's token may
/// mean the next one.
pub fn credentials(
    environment: &ProcessEnvironment,
    others: &[&ConfigLayer],
    problems: &mut ConfigProblems,
) -> ConfigLayer {
    let mut layer = ConfigLayer::default();
    let Some(directory) = &environment.credentials_directory else { return layer };
    let secrets = secrets(others.iter().copied());
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if key::entry_at(&key::parts(&name)).is_some() && !secrets.iter().any(|key| key.name == name) {
            problems.add(
                &format!("credentials directory, file {name}"),
                "it belongs to no entry of the configuration",
                "Entries are counted from 0. Remove the file, or, where an entry was removed, rename the files of the entries \
                 that followed it.",
            );
        }
    }
    for key in secrets.iter().filter(|key| key.has_file_twin()) {
        let file = directory.join(&key.name);
        if file.exists() {
            let origin = format!("credentials directory, file {}", key.name);
            layer.values.insert(twin(key), Value::new(Some(&origin), file.to_string_lossy().into_owned()));
        }
    }
    layer
}

/// Keeps each secret only in the last layer that has it, and reads it from its file there. Files of overridden layers are not
/// read: a missing file that is not needed is no mistake.
pub fn settle(layers: &mut [ConfigLayer], problems: &mut ConfigProblems, warnings: &mut Vec<String>) {
    for key in &secrets(layers.iter()) {
        if key.kind == KeyKind::Headers {
            read_headers(key, layers, problems, warnings);
            continue;
        }
        let (path, twin) = (key_path(key), twin(key));
        for layer in layers.iter_mut() {
            let both = layer.values.contains_key(&path) && layer.values.contains_key(&twin);
            if both && let Some(file) = layer.values.remove(&twin) {
                problems.add(
                    file.origin().unwrap_or("settings"),
                    format!("both `{0}` and `{0}_file` are set", key.name),
                    "Remove one of the two.",
                );
            }
        }
        let has = |layer: &ConfigLayer| layer.values.contains_key(&path) || layer.values.contains_key(&twin);
        let Some(top) = layers.iter().rposition(has) else { continue };
        for layer in &mut layers[..top] {
            layer.values.remove(&path);
            layer.values.remove(&twin);
        }
        if let Some(file) = layers[top].values.remove(&twin) {
            match read(key, &file, warnings) {
                Ok(secret) => {
                    layers[top].values.insert(path, secret);
                }
                Err((what, cure)) => {
                    problems.spoil(&key.name);
                    problems.add(file.origin().unwrap_or("settings"), what, cure);
                }
            }
        }
    }
}

/// Replaces each `NAME_file` among the headers by the header `NAME`, with the text of that file.
fn read_headers(
    key: &ConfigKey,
    layers: &mut [ConfigLayer],
    problems: &mut ConfigProblems,
    warnings: &mut Vec<String>,
) {
    let path = key_path(key);
    for value in layers.iter_mut().filter_map(|layer| layer.values.get_mut(&path)) {
        let place = value.origin().unwrap_or("settings").to_owned();
        let ValueKind::Table(entries) = &mut value.kind else { continue };
        let files: Vec<String> = entries.keys().filter(|name| name.ends_with("_file")).cloned().collect();
        for twin in files {
            let Some(file) = entries.remove(&twin) else { continue };
            let header = twin.trim_end_matches("_file").to_owned();
            let name = format!("{}.{header}", key.name);
            if entries.contains_key(&header) {
                problems.add(&place, format!("both `{name}` and `{name}_file` are set"), "Remove one of the two.");
                continue;
            }
            match read(&ConfigKey { name, ..key.clone() }, &file, warnings) {
                Ok(secret) => _ = entries.insert(header, secret),
                Err((what, cure)) => {
                    problems.spoil(&key.name);
                    problems.add(&place, what, cure);
                }
            }
        }
    }
}

/// The secrets among all keys, and among those of the entries that the layers have.
fn secrets<'l>(layers: impl Iterator<Item = &'l ConfigLayer>) -> Vec<ConfigKey> {
    let entries: BTreeSet<(&str, &str)> = layers
        .flat_map(|layer| layer.values.keys())
        .filter_map(|path| key::entry_at(path))
        .map(|(list, number)| (list.name.as_str(), number))
        .collect();
    let of_entries = entries.into_iter().flat_map(|(name, number)| {
        let list = key::lists().iter().find(|list| list.name == name);
        list.map_or_else(Vec::new, |list| list.keys_of_entry(number))
    });
    key::all().iter().cloned().chain(of_entries).filter(|key| key.secrecy.is_some()).collect()
}

fn key_path(key: &ConfigKey) -> Vec<String> {
    key.name.split('.').map(str::to_owned).collect()
}

fn twin(key: &ConfigKey) -> Vec<String> {
    format!("{}_file", key.name).split('.').map(str::to_owned).collect()
}

fn read(key: &ConfigKey, file: &Value, warnings: &mut Vec<String>) -> Result<Value, (String, String)> {
    let place = file.origin().unwrap_or("settings");
    let ValueKind::String(name) = &file.kind else {
        return Err((format!("`{}_file` must be the path of a file", key.name), "Write it in quotes.".to_owned()));
    };
    let path = PathBuf::from(name);
    let failed = |error: &io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
            io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        (
            format!("`{}_file` names {name}, which cannot be read: {reason}", key.name),
            format!(
                "Put the secret into {name}, readable by the user that conversica-sync runs as, or name another file."
            ),
        )
    };
    let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
    warnings.extend(world_readable(&path).then(|| {
        format!("{name} (`{}_file`) can be read by every user of this machine; cure: chmod 600 {name}", key.name)
    }));
    // Editors and `echo` end a file with a newline that is not part of the secret; further newlines may be.
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.trim().is_empty() {
        return Err((
            format!("`{}_file` names {name}, which is empty", key.name),
            format!("Put the secret into {name}."),
        ));
    }
    if let Some(fault) = stray_characters(secret) {
        return Err((
            format!("`{}_file` names {name}, which {fault}", key.name),
            format!(
                "Write the secret into {name} and nothing else (printf '%s' SECRET > FILE). Where it really has such characters, \
                 write it as `{}` in the settings.",
                key.name
            ),
        ));
    }
    let origin = if place.starts_with("credentials directory") {
        place.to_owned()
    } else {
        format!("{FROM_FILE}{name}{NAMED_BY}{place}")
    };
    Ok(Value::new(Some(&origin), secret))
}

/// Characters that editors and shells leave in a file and that belong to no secret. A wrong password costs a log-in, and halts
/// everything, so it is not tried.
fn stray_characters(secret: &str) -> Option<&'static str> {
    let is_stray = |c: char| c.is_whitespace() || c.is_control();
    if secret.starts_with('\u{feff}') {
        Some("begins with a byte order mark (U+FEFF), as some editors write it")
    } else if secret.starts_with(is_stray) {
        Some("begins with a blank, a tab or a line break")
    } else if secret.contains(['\r', '\n']) {
        Some("has more than one line")
    } else if secret.ends_with(is_stray) {
        Some("ends with a blank, a tab or a carriage return")
    } else if secret.contains(|c: char| c.is_control() || c == '\u{feff}' || c == '\u{200b}') {
        Some("has a character that cannot be seen")
    } else {
        None
    }
}

/// The file in an origin, if the secret has one of its own.
pub fn file_of(origin: &str) -> Option<&Path> {
    let (file, _) = origin.strip_prefix(FROM_FILE)?.rsplit_once(NAMED_BY)?;
    Some(Path::new(file))
}

/// Below /run/secrets Docker's mode is 0444, and the mount is the container's own.
pub(super) fn world_readable(path: &Path) -> bool {
    !path.starts_with("/run/secrets")
        && fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
}

/// A URL with its password hidden, and every other part that may be a secret.
pub fn redact_url(text: &str) -> String {
    let scheme = text.split(':').next().filter(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+'));
    let Some(scheme) = scheme.filter(|scheme| scheme.len() < text.len()) else { return HIDDEN.to_owned() };
    let nothing_sure = format!("{scheme}://{HIDDEN}");
    if scheme.eq_ignore_ascii_case("sqlite") {
        // A file name, which `Url` would rewrite; only its parameters can hold a key.
        let (file, query) = text.split_once('?').map_or((text, None), |(file, query)| (file, Some(query)));
        return query.map_or_else(|| file.to_owned(), |query| format!("{file}?{}", redacted_query(query)));
    }
    let Ok(mut url) = url::Url::parse(text) else { return nothing_sure };
    // A password with `/`, `?` or `#` ends the authority early, and the rest of it would be shown as path or query.
    let after_host = [url.path(), url.query().unwrap_or(""), url.fragment().unwrap_or("")];
    if after_host.iter().any(|part| part.contains('@')) || url.fragment().is_some() || url.cannot_be_a_base() {
        return nothing_sure;
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return nothing_sure;
    }
    let query = url.query().map(redacted_query);
    url.set_query(query.as_deref());
    url.to_string()
}

fn redacted_query(query: &str) -> String {
    let is_secret = |name: &str| {
        let name = name.to_lowercase();
        ["pass", "pwd", "secret", "token", "key"].iter().any(|word| name.contains(word))
    };
    let parts = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_url_is_hidden() {
        for (url, shown) in [
            ("postgres://reader:hunter2@db/crm", "postgres://reader:***@db/crm"),
            ("postgres://reader:hun@ter2@db/crm?sslmode=require", "postgres://reader:***@db/crm?sslmode=require"),
            ("postgres://reader@db/crm", "postgres://reader@db/crm"),
            (
                "postgres:///crm?host=/run/postgresql&password=hunter2",
                "postgres:///crm?host=/run/postgresql&password=***",
            ),
            ("sqlite:///var/lib/crm.db", "sqlite:///var/lib/crm.db"),
            ("sqlite:crm.db?mode=ro", "sqlite:crm.db?mode=ro"),
            ("https://integrations-api.conversica.com/json/", "https://integrations-api.conversica.com/json/"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }

    #[test]
    fn a_url_that_is_not_understood_is_hidden_whole() {
        for url in [
            "postgres://reader:12#hunter2@db/crm",
            "postgres://reader:12/hunter2@db/crm",
            "postgres://reader:12?hunter2@db/crm",
            "postgres://reader:hun#ter2@db/crm",
            "reader:hunter2@db/crm",
            "hunter2",
            "host=db password=hunter2",
            "",
        ] {
            assert!(!redact_url(url).contains("ter2"), "{}", redact_url(url));
        }
    }
}
