//! Reads a source as a poll does: settings from a text, the real connection, every row mapped.

use super::engine::Place;
use super::lead_row::at;
use conversica_sync::config::{ProcessEnvironment, ServiceSettings, layers};
use conversica_sync::conversica::lead::LeadId;
use conversica_sync::error::SetupError;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::read_scope::ReadScope;
use conversica_sync::send::poll::{self, PollOutcome};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::source::read::PreparedReading;
use conversica_sync::store::state_db::StateDb;

/// Fills the required keys of every lead, so that a test maps only its own subject.
pub const CONSTANTS: &str = r#"
firstName = { value = "Ann" }
email = { value = "ann@example.com" }
leadSource = { value = "Web" }
repName = { value = "Robin" }
"#;

/// `source` and `lead` are the lines of those sections; `lead` may open `[lead.custom]` at its end.
pub fn settings(place: &Place, source: &str, lead: &str) -> ServiceSettings {
    let text = format!(
        "[source]\nurl = '{}'\n{source}\n[conversica]\nrequire_conversation_id = false\nusername = 'sandbox'\npassword = 'sandbox'\n\
         [safety]\nfirst_run = 'send'\n[lead]\n{CONSTANTS}\n{lead}\n",
        place.url
    );
    let loaded = layers::load_text("test.toml", &text, &ProcessEnvironment::default());
    loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).settings
}

/// Connects; panics when source and settings do not fit.
pub async fn open(place: &Place, source: &str, lead: &str) -> ConnectedCrm {
    ConnectedCrm::open(&settings(place, source, lead)).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The message for a source that does not fit.
pub async fn refusal(place: &Place, source: &str, lead: &str) -> SetupError {
    let error = ConnectedCrm::open(&settings(place, source, lead)).await.expect_err("it does not fit");
    error.downcast::<SetupError>().unwrap_or_else(|other| panic!("no message for a person: {other:#}"))
}

/// Every row, in the source's order.
pub async fn rows(crm: &ConnectedCrm) -> Vec<MappedRow> {
    let fitting = crm.fitting().await.expect("the source fits");
    let mut batches = PreparedReading::new(crm, &fitting, ReadScope::All).start(&crm.db);
    let mut mapped = Vec::new();
    while let Some(batch) = batches.next().await.unwrap_or_else(|error| panic!("{error}")) {
        mapped.extend(batch.lines().map(|line| crm.mapping.map(&line.row())));
    }
    mapped
}

pub async fn read(place: &Place, source: &str, lead: &str) -> Vec<MappedRow> {
    rows(&open(place, source, lead).await).await
}

/// The ids, in the source's order.
pub async fn ids(place: &Place, source: &str) -> Vec<LeadId> {
    read(place, source, "").await.into_iter().map(|mapped| mapped.lead).collect()
}

/// Runs one poll into that state.
pub async fn poll(crm: &ConnectedCrm, state: &StateDb, settings: &ServiceSettings) -> anyhow::Result<PollOutcome> {
    let tally = RunTally::default();
    poll::poll(PollContext { crm, state, settings, tally: &tally, now: at(0) }, PollReach::Everything).await
}
