//! A CRM with any number of generated leads: the SQL that inserts them, and the Lead object that Conversica has to
//! receive for each, computed here and not by the program.

use std::fmt::Write as _;

use super::binary::Cli;
use super::engine::{Engine, Place};

/// First names with characters that SQL or JSON has to quote; the second form is the JSON one.
const FIRST_NAMES: [(&str, &str); 5] =
    [("Ann", "Ann"), ("Zoë", "Zoë"), ("O'Neill", "O'Neill"), ("Sam \"Q\"", "Sam \\\"Q\\\""), ("李", "李")];

const MAPPING: &str = r#"
[lead]
conversationId = { value = "Inbound Leads" }
firstName = "first_name"
lastName = "last_name"
email = "email"
leadSource = { column = "source", default = "Website" }
leadStatus = { column = "status", map = { "1" = "New", "2" = "Sold", "*" = "Other" } }
optOut = "do_not_contact"
repName = "owner"
date = "created_at"
[lead.custom]
dealerGroup = "grp"
"#;

/// Creates the table with leads 1 to `leads`.
pub async fn create(place: &Place, leads: u32) {
    let moment = place.engine.pick("text", "timestamp");
    place
        .sql(&format!(
            "create table leads (id bigint primary key, first_name text, last_name text, email text, source text, \
             status integer, do_not_contact char(1), owner text, created_at {moment}, grp text, note text)"
        ))
        .await;
    for first in (1..=leads).step_by(500) {
        let ids: Vec<u32> = (first..=leads.min(first + 499)).collect();
        insert(place, &ids).await;
    }
}

/// Inserts these leads with their first content.
pub async fn insert(place: &Place, ids: &[u32]) {
    let mut sql = String::from("insert into leads values ");
    for (position, n) in ids.iter().enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        let first_name = FIRST_NAMES[*n as usize % 5].0.replace('\'', "''");
        let source = if n % 3 == 0 { "null".to_owned() } else { format!("' Fair {} '", n % 7) };
        let (status, dnc, group) =
            (n % 4, if n % 10 == 0 { 'Y' } else { 'N' }, if n % 2 == 0 { "'North'" } else { "''" });
        let _ = write!(
            sql,
            "{separator}({n}, '{first_name}', 'Doe {n}', 'lead{n}@example.com', {source}, {status}, '{dnc}', 'Robin Roe', \
             '2026-01-02 03:04:{:02}', {group}, 'x')",
            n % 60
        );
    }
    place.sql(&sql).await;
}

/// The Lead object of lead `n` with this last name.
pub fn body_named(n: u32, last_name: &str) -> String {
    let first_name = FIRST_NAMES[n as usize % 5].1;
    let source = if n.is_multiple_of(3) { "Website".to_owned() } else { format!("Fair {}", n % 7) };
    let status = ["Other", "New", "Sold", "Other"][n as usize % 4];
    let opt_out = n.is_multiple_of(10);
    let group = if n.is_multiple_of(2) { ",\"dealerGroup\":\"North\"" } else { "" };
    format!(
        "{{\"apiVersion\":\"7.2\",\"id\":\"{n}\",\"conversationId\":\"Inbound Leads\",\"firstName\":\"{first_name}\",\
         \"lastName\":\"{last_name}\",\"email\":\"lead{n}@example.com\",\"leadSource\":\"{source}\",\
         \"leadStatus\":\"{status}\",\"optOut\":{opt_out},\"repName\":\"Robin Roe\",\
         \"date\":\"2026-01-02T03:04:{:02}+00:00\"{group}}}",
        n % 60
    )
}

/// The Lead object of lead `n` with its first content.
pub fn body(n: u32) -> String {
    body_named(n, &format!("Doe {n}"))
}

/// The program, configured to send these leads to that endpoint as fast as it can.
pub fn program(directory: &std::path::Path, crm: &Place, state: &Place, endpoint: &str) -> Cli {
    Cli::new(directory).config(&format!(
        "[source]\nurl = '{}'\ntable = 'leads'\nkey = 'id'\n{MAPPING}\n\
         [conversica]\nendpoint = '{endpoint}'\nusername = 'sandbox'\npassword = 'sandbox'\n\
         [delivery]\nrequests_per_second = 100000\nconcurrency = 64\ntimeout = '60s'\n\
         [delivery.retry]\ninitial_interval = '10ms'\nmax_interval = '200ms'\n\
         [safety]\nfirst_run = 'send'\napprove_above = 0\n[state]\nurl = '{}'\n",
        crm.url, state.url
    ))
}

/// Source on this engine, state on the other.
pub fn places(engine: Engine) -> (Place, Place) {
    (engine.place(), engine.other().place())
}
