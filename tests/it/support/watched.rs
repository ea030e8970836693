//! The daemon as its admin server shows it: the answers, read strictly. No answer may contain the password or data of the
//! scene's leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::binary::Running;
use super::scene::{PASSWORD, Scene};
use super::signal::Signal;
use super::wait::wait_for;

const SOON: Duration = Duration::from_secs(20);
/// A database connection has a time limit of ten seconds, and the program pauses between two attempts.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with its admin server.
pub struct Watched {
    pub daemon: Running,
    pub address: String,
}

pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub allow: String,
    pub body: String,
}

impl Watched {
    #[track_caller]
    pub fn start(scene: &Scene) -> Self {
        let mut daemon = scene.cli().spawn(&["run"]);
        let line = daemon.wait_for_line("\"message\":\"admin listening\"", PATIENCE);
        let line: Value = serde_json::from_str(&line).expect("a line of the log");
        assert_eq!(line["level"], "INFO");
        Self { address: line["address"].as_str().expect("an address").to_owned(), daemon }
    }

    #[track_caller]
    pub fn ask(&self, method: Method, path: &str) -> Answer {
        discreet(ask(&self.address, method, path))
    }

    /// As [`Watched::get`], with an `Accept` header.
    #[track_caller]
    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        discreet(ask_as(&self.address, Method::GET, path, accept))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path)
    }

    /// Waits until `/readyz` fails for that reason; returns its document.
    #[track_caller]
    pub fn wait_until_not_ready(&self, reason: &str) -> Value {
        let answer = wait_for(&format!("not ready: {reason}"), PATIENCE, || {
            let answer = self.get("/readyz");
            (answer.status == 503 && answer.json()["reasons"][0]["reason"] == reason).then(|| answer.json())
        });
        assert_eq!((&answer["ready"], answer["reasons"].as_array().map(Vec::len)), (&json!(false), Some(1)));
        assert!(answer["reasons"][0]["cure"].as_str().is_some_and(|cure| cure.len() > 20), "{answer}");
        assert_eq!(self.get("/healthz").status, 200, "it is alive all the same");
        answer
    }

    #[track_caller]
    pub fn wait_until_ready(&self) -> Value {
        wait_for("ready", PATIENCE, || {
            let answer = self.get("/readyz");
            (answer.status == 200).then(|| answer.json())
        })
    }

    /// The value of each sample; checks every line.
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics");
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        parsed(&answer.body)
    }

    /// As [`Watched::metrics`], once the state is readable again: a failure to read it is cached for a second.
    #[track_caller]
    pub fn metrics_again(&self) -> BTreeMap<String, f64> {
        wait_for("numbers again", PATIENCE, || (self.get("/metrics").status == 200).then(|| self.metrics()))
    }

    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, value: f64) {
        wait_for(&format!("{name} {value}"), SOON, || (self.metrics().get(name) == Some(&value)).then_some(()));
    }

    #[track_caller]
    pub fn end(self) {
        self.daemon.signal(Signal::Terminate);
        self.daemon.wait(SOON).expect_code(0);
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

#[track_caller]
fn discreet(answer: Answer) -> Answer {
    for secret in [PASSWORD, "Ann", "@example.com", "Rae"] {
        assert!(!answer.body.contains(secret), "{secret}: {}", answer.body);
    }
    answer
}

pub fn ask(address: &str, method: Method, path: &str) -> Answer {
    ask_as(address, method, path, "*/*")
}

fn ask_as(address: &str, method: Method, path: &str, accept: &str) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().expect("a client");
        let url = format!("http://{address}{path}");
        let answer =
            client.request(method, url).header("accept", accept).send().await.expect("the admin server answers");
        let header =
            |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().expect("a text")).to_owned();
        let (status, content_type, allow) = (answer.status().as_u16(), header("content-type"), header("allow"));
        Answer { status, content_type, allow, body: answer.text().await.expect("a body") }
    })
}

/// Reads the exposition strictly: HELP, then TYPE, then the samples of that name, and nothing else. A histogram has its
/// three kinds of samples.
#[track_caller]
pub fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut helped, mut family, mut is_histogram) = (String::new(), String::new(), false);
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a name and words");
            assert!(
                (name.starts_with("conversica_sync_") || name == "process_start_time_seconds") && words.ends_with('.'),
                "{line}"
            );
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert_eq!((name, kind == "counter"), (helped.as_str(), name.ends_with("_total")), "{line}");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            family = name.to_owned();
            is_histogram = kind == "histogram";
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let named = name.split('{').next().unwrap_or_default();
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| named.strip_suffix(part));
            assert_eq!(part.filter(|_| is_histogram).unwrap_or(named), family, "{line}");
            assert_eq!(part.is_some(), is_histogram, "{line}");
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} comes twice");
        }
    }
    samples
}

pub fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
}
