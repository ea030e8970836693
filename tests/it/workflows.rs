//! The workflows of GitHub: they can be read, have no more rights than they need, run files that exist, and release files by
//! the names that `cargo binstall`, `.ci/release` and the book give them. (GitHub runs them.)

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

const WORKFLOWS: [&str; 2] = ["ci.yml", "release.yml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn workflow(name: &str) -> Value {
    serde_norway::from_str(&text(&format!(".github/workflows/{name}")))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Each step, with its workflow and job.
fn steps() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for name in WORKFLOWS {
        for (job, content) in workflow(name)["jobs"].as_object().expect("jobs") {
            let steps = content["steps"].as_array().expect("steps");
            found.extend(steps.iter().map(|step| (format!("{name}: {job}"), step.clone())));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The `include` entries of a job's matrix, one key of each.
fn matrix(job: &str, key: &str) -> Vec<String> {
    let release = workflow("release.yml");
    let include = release["jobs"][job]["strategy"]["matrix"]["include"].as_array().expect("a matrix").clone();
    include.iter().map(|entry| entry[key].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn every_workflow_is_tested_here() {
    let entries = std::fs::read_dir(root().join(".github/workflows")).expect("workflows");
    let names: BTreeSet<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, WORKFLOWS.map(str::to_owned).into());
}

#[test]
fn actions_are_pinned_to_a_commit_with_the_version_beside_it() {
    for name in WORKFLOWS {
        let text = text(&format!(".github/workflows/{name}"));
        let uses: Vec<&str> = text.lines().filter_map(|line| line.split_once("uses: ").map(|(_, uses)| uses)).collect();
        assert!(!uses.is_empty(), "{name}");
        for line in uses {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{name}: {line}"));
            let (_, commit) = action.split_once('@').expect("a commit");
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {line}");
            assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{name}: {line}");
        }
    }
    for (place, step) in steps().iter().filter(|(_, step)| step["uses"].as_str().unwrap_or("").contains("checkout")) {
        assert_eq!(step["with"]["persist-credentials"], false, "{place}");
    }
}

#[test]
fn each_job_has_the_rights_that_it_needs_and_no_secret() {
    for name in WORKFLOWS {
        assert!(!text(&format!(".github/workflows/{name}")).contains("secrets."), "{name}");
    }
    assert_eq!(workflow("ci.yml")["permissions"], json!({ "contents": "read" }));
    let release = workflow("release.yml");
    assert_eq!(release["permissions"], json!({}));
    let rights = |job: &str| release["jobs"][job]["permissions"].clone();
    assert_eq!(rights("notes"), json!({ "contents": "read" }));
    assert_eq!(rights("files"), json!({ "contents": "read" }));
    assert_eq!(rights("image"), json!({ "contents": "read", "packages": "write" }));
    let publish = json!({ "contents": "write", "packages": "write", "id-token": "write", "attestations": "write" });
    assert_eq!(rights("publish"), publish);
    assert_eq!(release["jobs"].as_object().map(serde_json::Map::len), Some(4));
}

#[test]
fn scripts_can_be_read_and_run_files_that_are_there() {
    let (mut scripts, mut files) = (0, BTreeSet::new());
    for (place, step) in steps() {
        let Some(script) = step["run"].as_str() else { continue };
        scripts += 1;
        // What a stranger may choose (a branch's name) is a variable, never part of a script.
        assert!(!script.contains("${{"), "{place}: {script}");
        let output = Command::new("bash").args(["-n", "-c", script]).output().expect("bash is on the path");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        let words = script.split([' ', '\n', '\'']).filter(|word| word.starts_with(".ci/"));
        files.extend(words.map(str::to_owned));
    }
    assert!(scripts > 8, "{scripts}");
    assert_eq!(files, [".ci/release", ".ci/release-notes", ".ci/run"].map(str::to_owned).into());
    for file in files {
        let is_executable = Command::new("test").arg("-x").arg(root().join(&file)).status().expect("test").success();
        assert!(is_executable, "{file}");
        assert!(text(".ci/run").contains(&file), "{file} is checked by shellcheck");
    }
}

#[test]
fn every_build_uses_the_same_compiler_and_one_that_is_new_enough() {
    let dockerfile = text("Dockerfile");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("ARG BUILD_IMAGE=")).expect("an image");
    assert_eq!(workflow("ci.yml")["jobs"]["everything"]["container"]["image"], image);
    assert_eq!(workflow("ci.yml")["jobs"]["aarch64"]["container"], image);
    let release = text(".github/workflows/release.yml");
    let alpine = image.replace("-bookworm", "-alpine");
    assert!(release.contains(&format!(" {image} .ci/release\n")) && release.contains(&format!(" {alpine} sh ")));
    let (_, version) = image.split_once("/rust:").expect("a version");
    let minor = |version: &str| version.split(['.', '-']).nth(1).and_then(|minor| minor.parse::<u32>().ok());
    assert!(minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{image}");
}

/// As cargo-binstall fills in a template.
fn filled(template: &str, target: &str) -> String {
    let values = [
        ("repo", "https://github.com/owner/conversica-sync"),
        ("name", "conversica-sync"),
        ("bin", "conversica-sync"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("target", target),
    ];
    let fill = |text: String, (name, value): (&str, &str)| text.replace(&format!("{{ {name} }}"), value);
    values.into_iter().fold(template.to_owned(), fill)
}

#[test]
fn binstall_finds_the_program_in_the_files_of_a_release() {
    let manifest: toml::Table = text("Cargo.toml").parse().expect("TOML");
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let (url, directory) =
        (binstall["pkg-url"].as_str().expect("a URL"), binstall["bin-dir"].as_str().expect("a path"));
    assert_eq!(binstall["pkg-fmt"].as_str(), Some("tgz"));
    let release = text(".ci/release");
    assert!(release.contains("\nname=conversica-sync-$version-$target\n"));
    assert!(release.contains(">\"$out/$name.tar.gz\"") && release.contains("\nstage=$packaged/$name\n"));
    assert!(release.contains("\ncp -r \"$program\" ") && release.contains("\nprogram=$build/dist/conversica-sync\n"));
    let version = env!("CARGO_PKG_VERSION");
    let targets = matrix("files", "target");
    assert_eq!(targets.len(), 4);
    for target in &targets {
        let name = format!("conversica-sync-{version}-{target}");
        let place = "https://github.com/owner/conversica-sync/releases/download";
        assert_eq!(filled(url, target), format!("{place}/v{version}/{name}.tar.gz"));
        assert_eq!(filled(directory, target), format!("{name}/conversica-sync"));
    }
    // The tag has a `v`, and what was made is what is uploaded.
    assert_eq!(workflow("release.yml")["on"]["push"]["tags"], json!(["v*"]));
    let uploads = steps().into_iter().filter_map(|(_, step)| step["with"]["path"].as_str().map(str::to_owned));
    assert!(uploads.into_iter().any(|path| path == "target/release-*/conversica-sync*"));
    assert!(release.contains("\nout=$build/release-$version\n"));

    let deny: toml::Table = text(".deny.toml").parse().expect("TOML");
    let checked: BTreeSet<&str> =
        deny["graph"]["targets"].as_array().expect("targets").iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(checked, targets.iter().map(String::as_str).collect(), "licences are checked for what is released");
}

#[test]
fn the_book_names_what_a_release_has() {
    let page = text("docs/operations.md");
    let version = env!("CARGO_PKG_VERSION");
    for name in [
        format!("conversica-sync_{version}-1_amd64.deb"),
        format!("conversica-sync-{version}-x86_64-unknown-linux-gnu.tar.gz"),
        format!("conversica-sync-{version}-x86_64-unknown-linux-musl.tar.gz"),
        format!("ghcr.io/OWNER/conversica-sync:{version}"),
        format!("gh release download v{version} "),
    ] {
        assert!(page.contains(&name), "{name}");
    }
    let publish = text(".github/workflows/release.yml");
    for part in ["sha256sum -- conversica-sync* >SHA256SUMS", "image=ghcr.io/${GITHUB_REPOSITORY,,}", "sbom: true"] {
        assert!(publish.contains(part), "{part}");
    }
    assert_eq!(matrix("image", "platform"), ["linux/amd64", "linux/arm64"]);
}

/// `.ci/release-notes` in a tree with that manifest and those two changelogs.
fn notes(manifest: &str, changelog: &str, debian: &str) -> (bool, String) {
    let tree = tempfile::tempdir().expect("a directory");
    for directory in [".ci", "config/debian"] {
        std::fs::create_dir_all(tree.path().join(directory)).expect("the tree is ours");
    }
    let files = [("Cargo.toml", manifest), ("CHANGELOG.md", changelog), ("config/debian/changelog", debian)];
    for (path, text) in files {
        std::fs::write(tree.path().join(path), text).expect("the tree is ours");
    }
    let script = tree.path().join(".ci/release-notes");
    std::fs::copy(root().join(".ci/release-notes"), &script).expect("the tree is ours");
    let output =
        Command::new("bash").arg(&script).args(["v1.2.0", "owner/fork"]).output().expect("bash is on the path");
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).expect("text"))
}

#[test]
fn a_tag_that_fits_the_files_gets_its_part_of_the_changelog_and_another_no_release() {
    let manifest = "[package]\nversion = \"1.2.0\"\nrepository = \"https://github.com/owner/fork\"\n";
    let changelog = "# Changelog\n\n## 1.2.0 (2027-01-31)\n\n- News.\n\n## 1.1.0 (2026-12-01)\n\n- Old.\n";
    let debian = "conversica-sync (1.2.0-1) unstable; urgency=medium\n";
    let (fits, said) = notes(manifest, changelog, debian);
    assert!(fits && said.trim() == "- News.", "{said}");

    let refused = |manifest: &str, changelog: &str, debian: &str, why: &str| {
        let (fits, said) = notes(manifest, changelog, debian);
        assert!(!fits && said.contains(why) && said.lines().count() == 1, "{why}: {said}");
    };
    refused(&manifest.replace("1.2.0", "1.1.0"), changelog, debian, "version = \"1.2.0\"");
    refused(&manifest.replace("fork", "other"), changelog, debian, "repository = \"https://github.com/owner/fork\"");
    refused(manifest, &changelog.replace("2027-01-31", "unreleased"), debian, "a heading with a date");
    refused(manifest, &changelog.replace("1.2.0", "1.20.0"), debian, "a heading with a date");
    refused(manifest, changelog, &debian.replace("1.2.0", "1.1.0"), "config/debian/changelog");
}
