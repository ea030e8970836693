//! The demo of compose.yaml: its files exist, its parts fit together, and its CRM, settings and secrets really send leads
//! to its sandbox. (Building the image needs a container engine.)

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::binary::Cli;
use crate::support::postgres::Cluster;
use crate::support::watched::ask;

const SOON: Duration = Duration::from_secs(20);
const OURS: [&str; 2] = ["conversica-sync", "sandbox"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_norway::from_str(&text("compose.yaml")).expect("YAML")
}

fn settings() -> toml::Table {
    text("config/docker/conversica-sync.toml").parse().expect("TOML")
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The file behind each secret or config.
fn files(compose: &Value, kind: &str) -> Vec<(String, PathBuf)> {
    let entries = compose[kind].as_object().expect("entries").iter();
    entries.map(|(name, entry)| (name.clone(), root().join(entry["file"].as_str().expect("a file")))).collect()
}

#[test]
fn every_file_that_is_named_is_there_and_every_secret_is_used() {
    let compose = compose();
    let mut secrets = BTreeSet::new();
    for (name, file) in files(&compose, "secrets") {
        let secret = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(secret.contains("demo-only"), "{name} is made up, and says so");
        secrets.insert(name);
    }
    for (name, file) in files(&compose, "configs") {
        assert!(file.is_file(), "{name}: {}", file.display());
    }
    let mut used = BTreeSet::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        used.extend(texts(&service["secrets"]).into_iter().map(str::to_owned));
        for volume in texts(&service["volumes"]) {
            let (from, _) = volume.split_once(':').expect("from and to");
            let there = if from.starts_with('.') {
                root().join(from).is_file()
            } else {
                compose["volumes"].get(from).is_some()
            };
            assert!(there, "{name}: {volume}");
        }
    }
    assert_eq!(used, secrets);
}

#[test]
fn the_daemon_has_no_more_rights_than_it_needs_and_time_to_finish() {
    let compose = compose();
    for name in OURS {
        let service = &compose["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service["privileged"], Value::Null, "{name}");
    }
    let daemon = &compose["services"]["conversica-sync"];
    assert_eq!(daemon["stop_grace_period"], "60s");
    for port in texts(&daemon["ports"]) {
        assert!(port.starts_with("127.0.0.1:"), "open to this machine only: {port}");
    }
    // The container writes only the state, in a volume that outlives it.
    assert_eq!(texts(&daemon["volumes"]), ["state:/var/lib/conversica-sync"]);
    assert_eq!(settings()["state"]["url"].as_str(), Some("sqlite:///var/lib/conversica-sync/state.db"));
}

#[test]
fn the_image_is_what_it_says() {
    let dockerfile = text("Dockerfile");
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    for line in [version.as_str(), "USER 65532:65532", "HEALTHCHECK ", "ENTRYPOINT [\"/usr/bin/conversica-sync\"]"] {
        assert!(dockerfile.contains(line), "{line}");
    }
    let ignored = text(".dockerignore");
    let copied =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    for path in copied.flat_map(|line| line.split(' ').rev().skip(1).collect::<Vec<_>>()) {
        assert!(root().join(path).exists(), "{path}");
        assert!(ignored.lines().any(|line| line == format!("!{path}")), "{path} does not reach the build");
    }
}

/// Settings and secrets of the container in the test's own directory, with another database.
fn container(directory: &Path, database: &str) -> Cli {
    let secrets = directory.join("secrets");
    std::fs::create_dir(&secrets).expect("the directory is ours");
    let (_, place) = database.split_once('@').expect("a user");
    for (name, file) in files(&compose(), "secrets") {
        let secret = std::fs::read_to_string(file).expect("it is there");
        let secret = secret.replace("postgres/crm?sslmode=disable", place);
        std::fs::write(secrets.join(name), secret).expect("the directory is ours");
    }
    let settings = text("config/docker/conversica-sync.toml");
    let settings = settings.replace("/run/secrets", &secrets.display().to_string());
    let settings = settings.replace("/var/lib/conversica-sync", &directory.display().to_string());
    // Those ports may be in use on this machine.
    let settings = settings.replace("0.0.0.0:9464", "127.0.0.1:0").replace("127.0.0.1:8443", "127.0.0.1:0");
    Cli::new(directory).config(&settings)
}

#[test]
fn its_settings_secrets_and_crm_send_leads_to_its_sandbox() {
    let compose = compose();
    let given = texts(&compose["services"]["conversica-sync"]["secrets"]);
    for line in text("config/docker/conversica-sync.toml").lines().filter(|line| line.contains("/run/secrets/")) {
        let name = line.split("/run/secrets/").nth(1).and_then(|rest| rest.split('"').next()).expect("a name");
        assert!(given.contains(&name), "the container is not given {name}");
    }

    // The roles of the script belong to the whole server.
    let cluster = Cluster::private();
    let database = cluster.database();
    database.sql(&text("config/docker/demo-crm.sql"));

    let directory = tempfile::tempdir().expect("a directory");
    let service = &compose["services"]["sandbox"];
    let mut command = texts(&service["command"]);
    let settings = settings();
    let endpoint = settings["conversica"]["endpoint"].as_str().expect("an endpoint");
    let listen =
        command.iter_mut().find(|word| endpoint.contains(**word) && word.contains(':')).expect("listens there");
    *listen = "127.0.0.1:0";
    let receiver = settings["receive"]["listen"].as_str().expect("an address");
    assert!(command.contains(&format!("http://{receiver}").as_str()), "{command:?}");
    let mut sandbox = Cli::new(directory.path());
    for (name, value) in service["environment"].as_object().expect("variables") {
        sandbox = sandbox.env(name, value.as_str().expect("a text"));
    }
    let mut sandbox = sandbox.spawn(&command);
    let line = sandbox.wait_for_line("sandbox listening on ", SOON);
    let endpoint = line.rsplit(' ').next().expect("an endpoint");

    let cli = container(directory.path(), &database.url).env("CONVERSICA_SYNC__CONVERSICA__ENDPOINT", endpoint);
    let shown = cli.run(&["config", "show"]).expect_code(0);
    assert!(!shown.stdout.contains("demo-only"), "{shown}");
    let checked = cli.run(&["check"]).expect_code(0);
    assert!(checked.stdout.contains("300 rows"), "{checked}");
    let passed = cli.run(&["once", "--json"]).expect_code(3);
    assert_eq!(cli.run(&["status", "--json"]).json()["leads"]["invalid"], 5, "{passed}");
    let address = endpoint.trim_start_matches("http://").trim_end_matches("/json/");
    let arrived = ask(address, Method::GET, "/leads").json();
    let arrived = arrived.as_array().or(arrived["leads"].as_array()).map(Vec::len);
    assert_eq!(arrived, Some(295));
}
