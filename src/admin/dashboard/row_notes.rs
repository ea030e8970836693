//! The notes on a lead's row, for its page: cleaned values and omitted keys. They come from the source, not from the state, and
//! are cached briefly, because an open page asks every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::admin::window::StatusCache;
use crate::clock;
use crate::config::ServiceSettings;
use crate::conversica::lead::LeadId;
use crate::story::row::read_notes;

const SERVES: Duration = Duration::from_secs(15);
/// The most leads in the cache.
const REMEMBERED: usize = 200;

/// The newest notes on each lead's row; none where the source did not answer.
#[derive(Debug, Default)]
pub struct RowNotes(Mutex<HashMap<LeadId, (Instant, Vec<String>)>>);

impl RowNotes {
    /// The notes on the row of a lead that the state knows.
    pub async fn of_lead(&self, window: &StatusCache, settings: &ServiceSettings, lead: &LeadId) -> Vec<String> {
        if let Some((asked_at, notes)) = self.remembered().get(lead)
            && asked_at.elapsed() < SERVES
        {
            return notes.clone();
        }
        let notes = window.read(async |db| Ok(read_notes(settings, db, lead, clock::now()).await)).await;
        let notes = notes.flatten().unwrap_or_default();
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (asked_at, _)| asked_at.elapsed() < SERVES);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(lead.clone(), (Instant::now(), notes.clone()));
        }
        notes
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<LeadId, (Instant, Vec<String>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
