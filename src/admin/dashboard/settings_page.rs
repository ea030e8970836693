//! The settings that decide what Conversica gets: the mapping, and, for one row of the CRM, the Lead object that it makes.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};

use super::frame::{PageFrame, QueryParameters, page};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::clock;
use crate::config::{FieldRule, ServiceSettings, WhenNull, duration};
use crate::console::printable;
use crate::conversica::lead::LeadKey;
use crate::conversica::token::TokenVeil;
use crate::rules::mapping::MappedRow;
use crate::story::row::find_rows;
use crate::story::shown_value;
use crate::wording::number;

#[derive(Template)]
#[template(path = "admin/dashboard/settings_page.html", config = ".askama.toml")]
struct SettingsPage {
    frame: PageFrame,
    rules: Vec<[String; 3]>,
    facts: Vec<(&'static str, String)>,
    id: String,
    rows: Vec<PreviewedRow>,
    /// Why there is none.
    nothing: Option<&'static str>,
}

/// What one row makes.
struct PreviewedRow {
    lead: String,
    fields: Vec<(String, String)>,
    faults: Vec<String>,
    notes: Vec<String>,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let id = asked.get("id").trim().to_owned();
    let (rows, nothing) = if id.is_empty() || id.contains('\0') {
        (Vec::new(), None)
    } else {
        let settings = &board.settings;
        let window = &board.desk.window;
        let found = window.read_with_crm(async |db| Ok(find_rows(settings, db, &id, None, clock::now()).await)).await;
        match found.flatten() {
            None => (Vec::new(), Some("The CRM did not answer in time, or cannot be read at present.")),
            Some(rows) if rows.is_empty() => {
                (Vec::new(), Some("The CRM has no row with this id, or it does not fit where under [source]."))
            }
            Some(rows) => (rows.iter().map(|row| previewed(row, &board.veil())).collect(), None),
        }
    };
    let frame = PageFrame::of(&board, &visitor, "Settings");
    let shown = SettingsPage {
        frame,
        rules: rules(&board.settings),
        facts: facts(&board.settings),
        id: printable(&id).into_owned(),
        rows,
        nothing,
    };
    page(StatusCode::OK, &shown)
}

fn previewed(row: &MappedRow, veil: &TokenVeil) -> PreviewedRow {
    let body = row.desired.as_deref().ok();
    let body: Map<String, Value> = body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let shown = |text: &str| printable(&veil.text(text)).into_owned();
    let faults = row.desired.as_ref().err().into_iter().flatten();
    PreviewedRow {
        lead: super::frame::lead_name(&row.lead),
        fields: body.iter().map(|(key, value)| (key.clone(), shown(&shown_value(Some(value))))).collect(),
        faults: faults.map(|fault| shown(fault)).collect(),
        notes: row.notes.iter().map(|note| shown(note)).collect(),
    }
}

/// Key, where it comes from, and what is done with it.
fn rules(settings: &ServiceSettings) -> Vec<[String; 3]> {
    let lead = &settings.lead;
    let published = LeadKey::ALL.iter().filter_map(|key| Some((key.name().to_owned(), lead.published.get(key)?)));
    let custom = lead.custom.iter().map(|(key, rule)| (key.clone(), rule));
    published.chain(custom).map(|(key, rule)| of_rule(key, rule)).collect()
}

fn of_rule(key: String, rule: &FieldRule) -> [String; 3] {
    match rule {
        FieldRule::Value(value) => [key, format!("always “{value}”"), String::new()],
        FieldRule::Column { column, default, map, when_null } => {
            let mut parts = Vec::new();
            if !map.is_empty() {
                let pairs: Vec<String> = map.iter().take(12).map(|(from, to)| format!("{from} → {to}")).collect();
                let more = if map.len() > pairs.len() { ", …" } else { "" };
                parts.push(format!("translated: {}{more}", pairs.join(", ")));
            }
            parts.extend(default.as_ref().map(|default| format!("if it is blank: “{default}”")));
            match when_null {
                WhenNull::Omit => {}
                WhenNull::Empty => parts.push("if it is null: sent as a blank text".to_owned()),
            }
            [key, format!("column {column}"), parts.join("; ")]
        }
    }
}

fn facts(settings: &ServiceSettings) -> Vec<(&'static str, String)> {
    let (source, delivery, safety) = (&settings.source, &settings.delivery, &settings.safety);
    let or_off = |count: u32| if count == 0 { "no limit".to_owned() } else { number(count.into()) };
    vec![
        ("The CRM is looked at every", duration::format(source.poll_interval)),
        ("Requests a second, at most", delivery.requests_per_second.to_string()),
        ("More changes at once than this wait for approval", or_off(safety.approve_above)),
        ("New people an hour, at most", or_off(safety.new_leads_per_hour)),
        ("New people a day, at most", or_off(safety.new_leads_per_day)),
        ("New people a month, at most", or_off(safety.new_leads_per_month)),
    ]
}
