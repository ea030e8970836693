//! The dashboard and the alert rules that come with the program use only metrics that the daemon has.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_for;
use crate::support::watched::{Watched, metric_names, parsed};

const SOON: Duration = Duration::from_secs(30);

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&text("config/grafana/conversica-sync.json")).expect("the dashboard is JSON")
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_norway::from_str(&text("config/prometheus/alerts.yml")).expect("the rules are YAML");
    let groups = rules["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// Every text under that key, at any depth.
fn texts_of(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| match value {
            Value::String(text) if name == key => found.push(text.clone()),
            _ => texts_of(value, key, found),
        }),
        Value::Array(array) => array.iter().for_each(|value| texts_of(value, key, found)),
        _ => {}
    }
}

/// The metrics in an expression, each with the values that it needs for its labels.
fn named(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = ["conversica_sync_", "process_"].iter().filter_map(|word| rest.find(word)).min() {
        rest = &rest[start..];
        let (name, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        rest = after;
        let mut labels = Vec::new();
        if let Some(matchers) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) {
            for matcher in matchers.split("\",") {
                let (label, value) = matcher.split_once(['=', '~']).expect("a label and a value");
                let values = value.trim_start_matches('~').trim_matches('"');
                let ours = !["job", "instance"].contains(&label);
                labels.extend(
                    values
                        .split('|')
                        .filter(|_| ours)
                        .map(|value| (label.trim_end_matches('!').to_owned(), value.to_owned())),
                );
            }
        }
        found.push((name.to_owned(), labels));
    }
    found
}

#[test]
fn every_metric_that_dashboard_and_rules_speak_of_is_there_and_every_one_is_explained() {
    let endpoint =
        StandIn::start(|request| Reaction::status(if request.id.as_deref() == Some("1") { 400 } else { 200 }));
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set("safety", "new_leads_per_month", "100");
    let watched = Watched::start(&scene);
    let scrape = wait_for("every number to be known", SOON, || {
        let scrape = watched.get("/metrics").body;
        let metrics = parsed(&scrape);
        let known = ["last_successful_poll_timestamp_seconds{kind=\"full\"}", "pace_requests_per_second", "instances"];
        known.iter().all(|name| metrics.contains_key(&format!("conversica_sync_{name}"))).then_some(scrape)
    });
    watched.end();
    let samples: BTreeSet<String> = parsed(&scrape).into_keys().collect();
    let families: Vec<&str> = metric_names(&scrape).collect();

    let mut expressions: Vec<String> = Vec::new();
    texts_of(&dashboard(), "expr", &mut expressions);
    texts_of(&dashboard(), "query", &mut expressions);
    expressions.extend(rules().iter().map(|rule| rule["expr"].as_str().expect("an expression").to_owned()));
    assert!(expressions.len() > 40, "{expressions:?}");
    let mut used = BTreeSet::new();
    for expression in &expressions {
        for (name, labels) in named(expression) {
            let of_name: Vec<&String> =
                samples.iter().filter(|sample| sample.split('{').next() == Some(name.as_str())).collect();
            assert!(!of_name.is_empty(), "{name} is no metric of the daemon: {expression}");
            for (label, value) in labels.iter().filter(|(_, value)| !value.contains('$')) {
                let wanted = format!("{label}=\"{value}\"");
                assert!(of_name.iter().any(|sample| sample.contains(&wanted)), "{name} has no {wanted}: {expression}");
            }
            used.insert(name);
        }
    }
    // Every metric appears on the dashboard or in a rule.
    for family in &families {
        let is_used = used.iter().any(|name| name.trim_end_matches("_bucket").trim_end_matches("_sum") == *family);
        assert!(is_used, "neither the dashboard nor a rule shows {family}");
    }
    let page = text("docs/metrics.md");
    for family in families {
        let listed = [format!("\n| `{family}`"), format!("\n| `{family}{{")];
        assert!(listed.iter().any(|line| page.contains(line)), "the table in docs/metrics.md explains {family}");
    }
}

/// Whether the page of the book has that heading.
fn has_heading(page: &str, heading: &str) -> bool {
    let page = text(&format!("docs/{page}"));
    page.lines().any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading)
}

#[test]
fn what_the_dashboard_says_of_its_panels_leads_to_a_page_and_a_heading() {
    let mut descriptions = Vec::new();
    texts_of(&dashboard(), "description", &mut descriptions);
    let places: Vec<&String> = descriptions.iter().filter(|text| text.contains(".md")).collect();
    assert!(!places.is_empty(), "{descriptions:?}");
    for place in places {
        let (page, heading) = place.split_once(": ").unwrap_or_else(|| panic!("{place}"));
        let page = page.strip_prefix("docs/").unwrap_or_else(|| panic!("{place}"));
        assert!(has_heading(page, heading.trim_end_matches('.')), "{place}");
    }
}

#[test]
fn every_rule_says_what_is_wrong_what_cures_it_and_where_to_read_on() {
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().expect("a name").to_owned();
        let annotation =
            |key: &str| rule["annotations"][key].as_str().unwrap_or_else(|| panic!("{name}: {key}")).to_owned();
        assert!(annotation("summary").ends_with('.'), "{name}");
        let description = annotation("description");
        let place = description.split("docs/").nth(1).and_then(|rest| rest.strip_suffix("\"."));
        let (page, heading) =
            place.and_then(|place| place.split_once(": \"")).unwrap_or_else(|| panic!("{name}: {description}"));
        assert!(has_heading(page, heading), "{name}: {description}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
        assert!(names.insert(name.clone()), "{name} comes twice");
    }
}

#[test]
fn a_scraper_that_asks_for_openmetrics_gets_it_to_the_end() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 1);
    let watched = Watched::start(&scene);
    let answer =
        watched.get_as("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
    let has = |line: &str| assert!(answer.body.lines().any(|have| have == line), "{line}\n{}", answer.body);
    has("# TYPE conversica_sync_deliveries counter");
    has("# UNIT conversica_sync_delivery_duration_seconds seconds");
    has("# UNIT conversica_sync_state_size_bytes bytes");
    let in_text = watched.get("/metrics").body;
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
    };
    assert_eq!(names(&answer.body).difference(&names(&in_text)).collect::<Vec<_>>(), Vec::<&String>::new());
    watched.end();
}
