//! The manifests of `config/kubernetes`: their parts fit together, and fit the image, the settings and the real program. (A cluster
//! applies them.)

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::binary::Cli;
use crate::support::receiver::{answers, basic, receiving_at, request, send};
use crate::support::signal::Signal;
use crate::support::watched::ask;

const SOON: Duration = Duration::from_secs(20);
const BASE: &str = "config/kubernetes/base";
const SEVERAL: &str = "config/kubernetes/postgres-state";
const MONITORING: &str = "config/kubernetes/monitoring";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a file.
fn documents(path: &str) -> Vec<Value> {
    let text = text(path);
    let documents = serde_norway::Deserializer::from_str(&text).map(Value::deserialize);
    documents.map(|document| document.unwrap_or_else(|error| panic!("{path}: {error}"))).collect()
}

fn document(path: &str) -> Value {
    documents(path).pop().unwrap_or_else(|| panic!("{path} is empty"))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn settings() -> toml::Table {
    text(&format!("{BASE}/conversica-sync.toml")).parse().expect("TOML")
}

/// The pod and its only container.
fn pod() -> (Value, Value) {
    let pod = document(&format!("{BASE}/deployment.yaml"))["spec"]["template"]["spec"].clone();
    let container = pod["containers"][0].clone();
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    (pod, container)
}

/// The entry of a list with that value under that key.
fn entry<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let mut entries = list.as_array().into_iter().flatten();
    entries.find(|entry| entry[key] == value).unwrap_or_else(|| panic!("no {key} {value} in {list}"))
}

/// A line of the Dockerfile, without its beginning.
fn of_image(beginning: &str) -> String {
    let dockerfile = text("Dockerfile");
    let line = dockerfile.lines().find_map(|line| line.strip_prefix(beginning));
    line.unwrap_or_else(|| panic!("no {beginning}")).to_owned()
}

#[test]
fn every_file_is_used_and_every_file_that_is_used_is_there() {
    // Not part of what is applied: an example, the way in, and the head of a document.
    let apart = ["secret.example.yaml", "ingress.yaml", "rules-head.yaml"];
    for directory in [BASE, SEVERAL, MONITORING] {
        let list = document(&format!("{directory}/kustomization.yaml"));
        let mut used: BTreeSet<PathBuf> = texts(&list["resources"]).into_iter().map(PathBuf::from).collect();
        let generated = list["configMapGenerator"].as_array().into_iter().flatten();
        used.extend(generated.flat_map(|map| texts(&map["files"])).map(PathBuf::from));
        let patches = list["patches"].as_array().into_iter().flatten();
        used.extend(patches.filter_map(|patch| patch["path"].as_str()).map(PathBuf::from));
        for path in &used {
            let path = root().join(directory).join(path);
            assert!(path.is_file() || path.join("kustomization.yaml").is_file(), "{}", path.display());
        }
        for file in std::fs::read_dir(root().join(directory)).expect("a directory") {
            let name = PathBuf::from(file.expect("an entry").file_name());
            let is_apart = apart.iter().any(|apart| name.as_os_str() == *apart);
            let is_list = name.as_os_str() == "kustomization.yaml";
            assert!(is_apart || is_list || used.contains(&name), "{directory}: {} is not used", name.display());
        }
    }
    let grafana = document("config/grafana/kustomization.yaml");
    assert_eq!(texts(&grafana["configMapGenerator"][0]["files"]), ["conversica-sync.json"]);
    assert!(text(&format!("{BASE}/kustomization.yaml")).contains("#- ingress.yaml\n"));
}

#[test]
fn the_pod_has_the_user_the_places_and_the_ports_of_image_and_settings() {
    let (pod, container) = pod();
    let user = of_image("USER ");
    let (user, group) = user.split_once(':').expect("user and group");
    let (user, group) = (json!(user.parse::<u32>().unwrap()), json!(group.parse::<u32>().unwrap()));
    let context = &pod["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsGroup"], &context["fsGroup"]), (&user, &group, &group));
    assert_eq!(
        (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    let rights = &container["securityContext"];
    assert_eq!(rights["readOnlyRootFilesystem"], true);
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert_eq!(rights["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(pod["automountServiceAccountToken"], false);

    let state = of_image("VOLUME ");
    let mounts = &container["volumeMounts"];
    assert_eq!(entry(mounts, "name", "state")["mountPath"], state);
    let settings = settings();
    assert_eq!(settings["state"]["url"].as_str(), Some(format!("sqlite://{state}/state.db").as_str()));
    // The third place where the program looks for its configuration, when no option and no variable names one.
    let configuration = entry(mounts, "name", "settings");
    assert_eq!(configuration["mountPath"], "/etc/conversica-sync/conversica-sync.toml");
    assert_eq!(configuration["subPath"], "conversica-sync.toml");
    let claim = entry(&pod["volumes"], "name", "state")["persistentVolumeClaim"]["claimName"].clone();
    assert_eq!(document(&format!("{BASE}/volume-claim.yaml"))["metadata"]["name"], claim);

    for (name, section) in [("admin", "admin"), ("receive", "receive")] {
        let port = &entry(&container["ports"], "name", name)["containerPort"];
        assert_eq!(settings[section]["listen"].as_str(), Some(format!("0.0.0.0:{port}").as_str()));
        let services = documents(&format!("{BASE}/services.yaml"));
        let named = |service: &&Value| service["metadata"]["name"] == format!("conversica-sync-{name}");
        let service = &services.iter().find(named).expect("a service")["spec"];
        assert_eq!(service["ports"][0]["targetPort"], name);
        assert_eq!(service["publishNotReadyAddresses"], true, "a halted daemon still takes opt-outs in");
    }
    // More than the longest request, and a quarter of a minute.
    assert_eq!(pod["terminationGracePeriodSeconds"], 60);
    assert_eq!(document(&format!("{BASE}/kustomization.yaml"))["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn one_daemon_has_the_file_and_several_have_none() {
    let one = document(&format!("{BASE}/deployment.yaml"));
    assert_eq!((&one["spec"]["replicas"], &one["spec"]["strategy"]["type"]), (&json!(1), &json!("Recreate")));
    let several = document(&format!("{SEVERAL}/several-daemons.yaml"));
    assert_eq!(several["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(several["metadata"]["name"], one["metadata"]["name"]);
    let pod = &several["spec"]["template"]["spec"];
    assert_eq!(entry(&pod["volumes"], "name", "state")["$patch"], "delete");
    let container = entry(&pod["containers"], "name", "conversica-sync");
    assert_eq!(entry(&container["volumeMounts"], "mountPath", &of_image("VOLUME "))["$patch"], "delete");
    let list = document(&format!("{SEVERAL}/kustomization.yaml"));
    assert!(texts(&list["resources"]).contains(&"../base"));
    let patch = list["patches"][1]["patch"].as_str().expect("a patch");
    assert!(patch.contains("kind: PersistentVolumeClaim") && patch.contains("$patch: delete"), "{patch}");
}

/// The secrets that the settings and the several daemons name.
fn named_secrets() -> BTreeSet<String> {
    let settings = text(&format!("{BASE}/conversica-sync.toml"));
    let files = settings.lines().filter_map(|line| line.split_once("_file = \"/run/secrets/")?.1.split('"').next());
    files.map(str::to_owned).collect()
}

#[test]
fn the_example_has_every_secret_and_none_is_real() {
    let example = document(&format!("{BASE}/secret.example.yaml"));
    let values = example["stringData"].as_object().expect("secrets");
    for (name, value) in values {
        assert!(value.as_str().expect("a text").contains("example-only"), "{name} is made up, and says so");
    }
    let several = document(&format!("{SEVERAL}/several-daemons.yaml"));
    let variable = several["spec"]["template"]["spec"]["containers"][0]["env"][0].clone();
    assert_eq!(variable["name"], "CONVERSICA_SYNC__STATE__URL");
    let state = &variable["valueFrom"]["secretKeyRef"];
    let mut named = named_secrets();
    named.insert(state["key"].as_str().expect("a key").to_owned());
    assert_eq!(values.keys().cloned().collect::<BTreeSet<_>>(), named);
    let (pod, container) = pod();
    let secret = entry(&pod["volumes"], "name", "secrets")["secret"]["secretName"].clone();
    assert_eq!((&secret, &example["metadata"]["name"]), (&state["name"], &secret));
    assert_eq!(entry(&container["volumeMounts"], "name", "secrets")["mountPath"], "/run/secrets");
    assert!(text(&format!("{BASE}/deployment.yaml")).contains("defaultMode: 0440"), "for the pod's group alone");
}

/// The container's settings and the example's secrets, in the test's own directory.
fn container(directory: &Path) -> Cli {
    let secrets = directory.join("secrets");
    std::fs::create_dir(&secrets).expect("the directory is ours");
    let example = document(&format!("{BASE}/secret.example.yaml"));
    for name in named_secrets() {
        // A database that is away at once: nobody looks up the example's name.
        let value = example["stringData"][&name].as_str().expect("a text");
        let value = value.replace("crm-database.example.com", "127.0.0.1:1");
        let file = secrets.join(name);
        std::fs::write(&file, value).expect("the directory is ours");
        let like_the_pod = std::fs::Permissions::from_mode(0o440);
        std::fs::set_permissions(&file, like_the_pod).expect("the file is ours");
    }
    let settings = text(&format!("{BASE}/conversica-sync.toml"));
    let settings = settings.replace("/run/secrets", &secrets.display().to_string());
    let settings = settings.replace(&of_image("VOLUME "), &directory.display().to_string());
    // Those ports may be in use on this machine.
    Cli::new(directory).config(&settings.replace("0.0.0.0:9464", "0.0.0.0:0").replace("0.0.0.0:8443", "0.0.0.0:0"))
}

#[test]
fn its_settings_are_valid_and_several_daemons_take_the_state_of_the_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = container(directory.path());
    let shown = cli.run(&["config", "show"]).expect_code(0);
    assert!(!shown.stdout.contains("example-only") && !shown.stderr.contains("warning"), "{shown}");
    let example = document(&format!("{BASE}/secret.example.yaml"));
    let state = example["stringData"]["state_url"].as_str().expect("a URL");
    let shown = cli.env("CONVERSICA_SYNC__STATE__URL", state).run(&["config", "show"]).expect_code(0);
    let line = shown.stdout.lines().find(|line| line.starts_with("state.url ")).expect("a setting");
    assert!(line.contains("postgres://conversica_state:***@state-database.example.com/conversica"), "{shown}");
    assert!(!shown.stderr.contains("warning"), "{shown}");
}

#[test]
fn its_probes_tell_a_daemon_that_waits_from_one_that_hangs_and_posts_come_in_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = container(directory.path()).spawn(&["run"]);
    let line = daemon.wait_for_line("\"message\":\"admin listening\"", SOON);
    let line: Value = serde_json::from_str(&line).expect("a line of the log");
    let address = line["address"].as_str().expect("an address").replace("0.0.0.0", "127.0.0.1");
    let receiver = receiving_at(&mut daemon, false).replace("0.0.0.0", "127.0.0.1");
    let (_, container) = pod();
    let probe = |name: &str| {
        let get = &container[name]["httpGet"];
        assert_eq!(get["port"], "admin");
        ask(&address, Method::GET, get["path"].as_str().expect("a path"))
    };
    assert_eq!((probe("startupProbe").status, probe("livenessProbe").status), (200, 200));
    let ready = probe("readinessProbe");
    assert_eq!((ready.status, &ready.json()["reasons"][0]["reason"]), (503, &json!("source")));

    let ingress = document(&format!("{BASE}/ingress.yaml"));
    let prefix = ingress["spec"]["rules"][0]["http"]["paths"][0]["path"].as_str().expect("a path").to_owned();
    let example = document(&format!("{BASE}/secret.example.yaml"));
    let password = example["stringData"]["receive_password"].as_str().expect("a text");
    let login = basic("conversica", password);
    let body = json!({ "id": "1", "hotLead": true }).to_string();
    let post = request("POST", &format!("{prefix}/lead"), Some(&login), body.as_bytes());
    assert_eq!(answers(&send(&receiver, &post))[0].status, 200);
    daemon.signal(Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

#[test]
fn the_documented_command_makes_a_rule_document_of_the_alert_rules() {
    let comment = text(&format!("{MONITORING}/kustomization.yaml"));
    let command = comment.lines().find_map(|line| line.strip_prefix("#     {")).expect("a command");
    assert!(text("docs/operations.md").contains(&format!("$ {{{command}\n")), "{command}");
    let (made, applied) = command.rsplit_once(" | ").expect("a pipe");
    assert_eq!(applied, "kubectl apply --filename -");
    let output = Command::new("bash").args(["-c", &format!("{{{made}")]).current_dir(root()).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_norway::from_slice(&output.stdout).expect("YAML");
    assert_eq!(made["kind"], "PrometheusRule");
    assert_eq!(made["spec"], document("config/prometheus/alerts.yml"));
    // The rules expect this name of the job.
    let monitor = document(&format!("{MONITORING}/pod-monitor.yaml"));
    let label = monitor["spec"]["jobLabel"].as_str().expect("a label");
    let list = document(&format!("{BASE}/kustomization.yaml"));
    assert_eq!(list["labels"][0]["pairs"][label], "conversica-sync");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "admin");
}

#[test]
fn files_that_the_book_names_are_there() {
    let page = text("docs/operations.md");
    let words = page.split(|c: char| c.is_whitespace() || ['`', ';', ')', ',', ':'].contains(&c));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("config/") && word.len() > 7).collect();
    assert!(named.len() > 4, "{named:?}");
    for path in named {
        assert!(root().join(path.trim_end_matches('.')).exists(), "{path}");
    }
}
