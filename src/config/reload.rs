//! Decides which changed settings a running daemon applies, and which ones wait for a restart. Pure.
//!
//! The daemon applies settings that can change between two requests: the account, the pace, the receiver's credentials, the log
//! level. The others determine what is read, how it is mapped and where it is stored: a partial change would match neither the
//! old nor the new settings.

use crate::config::ServiceSettings;
use crate::config::loaded::LoadedConfig;

/// The settings that are applied while the daemon runs.
const TAKEN: [&str; 8] = [
    "conversica.endpoint",
    "conversica.username",
    "conversica.password",
    "delivery.requests_per_second",
    "delivery.concurrency",
    "receive.username",
    "receive.password",
    "log.level",
];

/// The result of reading the settings again.
#[derive(Debug, Clone)]
pub struct ReloadOutcome {
    /// The running settings with the applied changes.
    pub settings: ServiceSettings,
    /// Keys that have changed and are in force now.
    pub taken: Vec<String>,
    /// Keys that have changed and wait for a restart.
    pub left: Vec<String>,
}

/// `running` are the settings in force; `started` are those of the start with the changes applied since.
pub fn reload(running: &ServiceSettings, started: &LoadedConfig, read: &LoadedConfig) -> ReloadOutcome {
    let mut changed: Vec<String> = Vec::new();
    for new in &read.effective {
        let old = started.effective.iter().find(|old| old.key == new.key);
        if old.map(|old| old.trace) != Some(new.trace) {
            changed.push(new.key.clone());
        }
    }
    let gone = started.effective.iter().filter(|old| !read.effective.iter().any(|new| new.key == old.key));
    changed.extend(gone.map(|old| old.key.clone()));
    // A receiver that appears or disappears is more than a changed password.
    let receives = running.receive.is_some() && read.settings.receive.is_some();
    let is_taken = |key: &String| TAKEN.contains(&key.as_str()) && (receives || !key.starts_with("receive."));
    let (taken, left) = changed.into_iter().partition(is_taken);

    let mut settings = running.clone();
    let new = &read.settings;
    settings.conversica.endpoint = new.conversica.endpoint.clone();
    settings.conversica.username = new.conversica.username.clone();
    settings.conversica.password = new.conversica.password.clone();
    settings.delivery.requests_per_second = new.delivery.requests_per_second;
    settings.delivery.concurrency = new.delivery.concurrency;
    settings.log.level = new.log.level;
    if let (Some(receive), Some(new)) = (&mut settings.receive, &new.receive) {
        receive.username = new.username.clone();
        receive.password = new.password.clone();
    }
    ReloadOutcome { settings, taken, left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProcessEnvironment, load_text};

    const BASE: &str = "[source]\nurl = \"sqlite:///crm.db\"\ntable = \"leads\"\nkey = \"id\"\n\
        [lead]\nfirstName = \"f\"\nemail = \"e\"\nleadSource = { value = \"Web\" }\nrepName = { value = \"R\" }\n\
        [conversica]\nrequire_conversation_id = false\nusername = \"acme-api\"\npassword = \"first-secret\"\n";

    fn loaded(toml: &str) -> LoadedConfig {
        load_text("test.toml", toml, &ProcessEnvironment::default()).unwrap()
    }

    #[test]
    fn nothing_has_changed_in_the_same_settings() {
        let (old, new) = (loaded(BASE), loaded(BASE));
        let reloaded = reload(&old.settings, &old, &new);
        assert_eq!((reloaded.taken, reloaded.left), (Vec::<String>::new(), Vec::<String>::new()));
    }

    #[test]
    fn account_pace_and_log_are_taken_over_and_the_rest_is_named() {
        let old = loaded(BASE);
        let text = BASE.replace("first-secret", "second-secret").replace("table = \"leads\"", "table = \"people\"");
        let text = format!(
            "{text}[delivery]\nrequests_per_second = 2\ntimeout = \"7s\"\n[log]\nlevel = \"debug\"\n\
             [receive]\nlisten = \"127.0.0.1:8443\"\nusername = \"u\"\npassword = \"another-secret\"\n"
        );
        let reloaded = reload(&old.settings, &old, &loaded(&text));
        let mut taken = reloaded.taken;
        taken.sort();
        assert_eq!(taken, ["conversica.password", "delivery.requests_per_second", "log.level"]);
        for key in ["source.table", "delivery.timeout", "receive.listen", "receive.password"] {
            assert!(reloaded.left.contains(&key.to_owned()), "{key}: {:?}", reloaded.left);
        }
        let settings = reloaded.settings;
        assert_eq!(settings.source.table.as_deref(), Some("leads"));
        assert_eq!(settings.delivery.requests_per_second, 2.0);
        assert_eq!(settings.delivery.timeout, old.settings.delivery.timeout);
        assert!(settings.receive.is_none());
        assert!(!format!("{:?}", old.effective).contains("first-secret"));
    }
}
