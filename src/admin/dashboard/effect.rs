//! The effect of a decision, on the page that asks for it.

use super::frame::{lead_link, lead_name};
use super::verdict::counted;
use crate::admin::dashboard::board::DashboardContext;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::conversica::token::TokenVeil;
use crate::rules::decision_effect::DecisionEffect;
use crate::store::decided_contents::{self, DecidedLeads};
use crate::store::state_db::StateDb;
use crate::story::shown_value;
use crate::wording::number;

/// Leads that are read for it.
const LOOKED_AT: i64 = 2_000;

/// The effect, as a page shows it.
#[derive(Debug, Clone, Default)]
pub struct ShownEffect {
    /// Says so if only some of the leads were looked at.
    pub basis: Option<String>,
    pub keys: Vec<(String, String)>,
    pub unchanged: Option<String>,
    pub people: Vec<ShownLead>,
    pub more_people: Option<String>,
    pub samples: Vec<ShownSample>,
}

#[derive(Debug, Clone)]
pub struct ShownLead {
    pub name: String,
    pub link: String,
}

#[derive(Debug, Clone)]
pub struct ShownSample {
    pub lead: ShownLead,
    /// Key, value at Conversica, value that it gets.
    pub changes: Vec<[String; 3]>,
}

impl ShownEffect {
    /// Reads some of the leads that a decision about `all` leads concerns.
    pub async fn of(
        board: &DashboardContext,
        db: &StateDb,
        leads: DecidedLeads<'_>,
        all: i64,
    ) -> Result<Self, sqlx::Error> {
        let contents = decided_contents::read(db, leads, LOOKED_AT).await?;
        let effect = DecisionEffect::of(&contents);
        let veil = board.veil();
        let looked = i64::try_from(effect.leads).unwrap_or(i64::MAX);
        let basis =
            (looked < all).then(|| format!("Of {} that were looked at; the decision is about all.", counted(looked)));
        let more = effect.all_new_people.saturating_sub(effect.new_people.len() as u64);
        let samples = effect.samples.iter().map(|sample| ShownSample {
            lead: shown_lead(&sample.lead, &sample.name, &veil),
            changes: sample
                .changes
                .iter()
                .map(|(key, old, new)| [key.clone(), value(old.as_ref(), &veil), value(new.as_ref(), &veil)])
                .collect(),
        });
        Ok(Self {
            basis,
            keys: effect.changed_keys.iter().map(|(key, leads)| (key.clone(), number(*leads))).collect(),
            unchanged: (effect.unchanged > 0).then(|| {
                format!(
                    "{} with the content that Conversica has already.",
                    counted(i64::try_from(effect.unchanged).unwrap_or(0))
                )
            }),
            people: effect.new_people.iter().map(|(lead, name)| shown_lead(lead, name, &veil)).collect(),
            more_people: (more > 0).then(|| format!("and {} more", number(more))),
            samples: samples.collect(),
        })
    }

    pub fn is_nothing(&self) -> bool {
        self.keys.is_empty() && self.people.is_empty() && self.unchanged.is_none()
    }
}

fn shown_lead(lead: &LeadId, name: &str, veil: &TokenVeil) -> ShownLead {
    let id = lead_name(lead);
    let name = if name.is_empty() { id } else { format!("{} ({id})", printable(&veil.text(name))) };
    ShownLead { name, link: lead_link(lead) }
}

fn value(value: Option<&serde_json::Value>, veil: &TokenVeil) -> String {
    veil.text(&shown_value(value)).into_owned()
}
