//! The files of the packages exist, and any shell can read their scripts. (`.ci/release` builds the packages.)

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn deb() -> toml::Table {
    let manifest: toml::Table = text("Cargo.toml").parse().expect("TOML");
    manifest["package"]["metadata"]["deb"].as_table().expect("a section").clone()
}

/// Up to the first wildcard.
fn fixed(path: &str) -> &str {
    path.split(['*', '?']).next().expect("split yields one part").trim_end_matches('/')
}

#[test]
fn every_file_that_goes_into_the_package_is_there_or_made_for_it() {
    let deb = deb();
    let release = text(".ci/release");
    for asset in deb["assets"].as_array().expect("a list") {
        let source = asset[0].as_str().expect("a path");
        match source.strip_prefix("target/release/") {
            Some("conversica-sync") => {}
            Some(made) => {
                let made = fixed(made.strip_prefix("packaged/").expect("what is made lies there"));
                assert!(release.contains("\"$packaged\"/{man,completions,doc}"));
                assert!(
                    ["man", "doc"].contains(&made) || release.contains(&format!(">\"$packaged/{made}\"")),
                    "{source}"
                );
            }
            None => assert!(root().join(fixed(source)).exists(), "{source}"),
        }
    }
    for key in ["changelog", "maintainer-scripts"] {
        assert!(root().join(deb[key].as_str().expect("a path")).exists(), "{key}");
    }
    assert!(root().join(deb["license-file"][0].as_str().expect("a path")).exists());
}

#[test]
fn the_package_has_the_book_that_the_readme_leads_to() {
    let release = text(".ci/release");
    assert!(release.contains("cp README.md ") && release.contains("cp -r config docs \"$packaged/doc/\""), "{release}");
}

#[test]
fn the_units_run_what_the_package_installs() {
    for unit in ["conversica-sync.service", "conversica-sync@.service"] {
        assert!(text(&format!("config/systemd/{unit}")).contains("\nExecStart=/usr/bin/conversica-sync "), "{unit}");
    }
}

#[test]
fn the_package_has_the_version_of_the_program() {
    let first = text("config/debian/changelog").lines().next().map(str::to_owned).expect("a line");
    assert!(first.starts_with(&format!("conversica-sync ({}-", env!("CARGO_PKG_VERSION"))), "{first}");
}

#[test]
fn its_scripts_can_be_read_and_none_starts_a_daemon_or_deletes_what_people_made() {
    for script in ["postinst", "prerm", "postrm"] {
        let path = format!("config/debian/{script}");
        let output = Command::new("sh").arg("-n").arg(root().join(&path)).output().expect("sh is on the path");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        let text = text(&path);
        assert!(text.starts_with("#!/bin/sh\n#") && text.contains("\nset -e\n"), "{path}");
        // postinst prints these steps for people, and does not run them.
        let (before, after) = text.split_once("cat <<END").unwrap_or((&text, ""));
        let after = after.split_once("\nEND\n").map_or("", |(_, after)| after);
        for line in before.lines().chain(after.lines()).map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(!words.contains(&"start") && !words.contains(&"enable"), "{path}: {line}");
            let deletes = words.first() == Some(&"rm") || words.contains(&"deluser") || words.contains(&"userdel");
            assert!(!deletes || line.starts_with("rm -f /etc/systemd/system/"), "{path}: {line}");
        }
    }
}
