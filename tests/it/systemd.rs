//! The units: systemd accepts them without a warning, rates their exposure as low, and does not restart a service that
//! the operator has to fix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use conversica_sync::config::{duration, key, schema};

const SINGLE: &str = "conversica-sync.service";
const SEVERAL: &str = "conversica-sync@.service";
/// Of `systemd-analyze security`; 10 is the worst.
const EXPOSED_AT_MOST: f64 = 1.1;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(unit(name)).expect("the unit is there")
}

/// The settings in their order; a key may come several times.
fn settings(name: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text(name).lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
        settings.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    settings
}

#[track_caller]
fn only(name: &str, key: &str) -> String {
    match settings(name).get(key).map(Vec::as_slice) {
        Some([value]) => value.clone(),
        other => panic!("{name}: {key} is {other:?}"),
    }
}

/// The unit as on a machine with an installed program: here the program is elsewhere.
fn installed(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(name);
    let program = env!("CARGO_BIN_EXE_conversica-sync");
    std::fs::write(&file, text(name).replace("/usr/bin/conversica-sync", program)).expect("the directory is ours");
    (directory, file)
}

#[track_caller]
fn analyze(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("systemd-analyze").args(arguments).arg(file).env("SYSTEMD_PAGER", "").output();
    let output = output.unwrap_or_else(|error| {
        panic!("systemd-analyze: {error}; to install it: apt-get install --no-install-recommends systemd")
    });
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", file.display());
    said
}

#[test]
fn systemd_reads_them_without_a_complaint() {
    for name in [SINGLE, SEVERAL] {
        let (_directory, file) = installed(name);
        assert_eq!(analyze(&["verify", "--man=no"], &file), "", "{name}");
    }
}

#[test]
fn little_is_exposed() {
    for name in [SINGLE, SEVERAL] {
        let (_directory, file) = installed(name);
        let said = analyze(&["security", "--offline=yes", "--no-pager"], &file);
        let level = said.split("Overall exposure level for").nth(1).and_then(|rest| rest.split(':').nth(1));
        let level = level.and_then(|rest| rest.split_whitespace().next()).expect("a level");
        assert!(level.parse::<f64>().expect("a number") <= EXPOSED_AT_MOST, "{said}");
    }
}

#[test]
fn what_a_person_has_to_mend_is_never_started_again_and_a_crash_not_for_ever() {
    for name in [SINGLE, SEVERAL] {
        assert_eq!(only(name, "Restart"), "on-failure");
        assert_eq!(only(name, "RestartPreventExitStatus"), "2 4");
        // With the pauses between restarts, the service still reaches the burst limit within the interval.
        let seconds = |key| duration::parse(&only(name, key).replace("min", "m")).expect("a duration").as_secs();
        let burst: u64 = only(name, "StartLimitBurst").parse().expect("a number");
        assert!(seconds("RestartSec") * burst < seconds("StartLimitIntervalSec") / 2, "{name}");
        assert_eq!(only(name, "Type"), "notify");
        assert!(only(name, "ExecReload").ends_with("-HUP $MAINPID"));
    }
}

#[test]
fn what_is_on_its_way_can_be_finished() {
    let defaults: toml::Table = schema::DEFAULTS.parse().expect("TOML");
    let timeout = defaults["delivery"]["timeout"].as_str().expect("a text");
    let timeout = duration::parse(timeout).expect("a duration");
    for name in [SINGLE, SEVERAL] {
        let stop = duration::parse(&only(name, "TimeoutStopSec")).expect("a duration");
        assert!(stop >= timeout + Duration::from_secs(15), "{name}: {stop:?}");
    }
}

#[test]
fn every_secret_can_be_a_credential_and_none_has_to_be() {
    let secrets = key::all().iter().filter(|key| key.secrecy.is_some());
    let mut secrets: Vec<String> = secrets.map(|key| key.name.clone()).collect();
    // The endpoint itself is not secret; it counts as a secret because an address may contain one.
    secrets.retain(|name| name != "conversica.endpoint");
    secrets.sort();
    for (name, prefix) in [(SINGLE, "conversica-sync"), (SEVERAL, "conversica-sync.%i")] {
        let mut named: Vec<String> = Vec::new();
        for credential in &settings(name)["LoadCredential"] {
            let (id, place) = credential.split_once(':').expect("a name and a place");
            assert_eq!(place, format!("{prefix}.{id}"), "{name}: without a directory a missing file is no failure");
            named.push(id.to_owned());
        }
        named.sort();
        assert_eq!(named, secrets, "{name}");
    }
}

/// Two files, because a template needs an instance name; their settings are the same.
#[test]
fn the_two_differ_in_their_places_only() {
    let (mut one, mut several) = (settings(SINGLE), settings(SEVERAL));
    for key in ["Description", "ExecStart", "StateDirectory", "WorkingDirectory", "LoadCredential"] {
        assert_ne!(one.remove(key), several.remove(key), "{key}");
    }
    assert_eq!(one, several);
    assert_eq!(only(SINGLE, "StateDirectory"), "conversica-sync");
    assert_eq!(only(SEVERAL, "StateDirectory"), "conversica-sync/%i", "each has its own");
    assert!(only(SEVERAL, "ExecStart").contains("--config /etc/conversica-sync/%i.toml run"));
}
