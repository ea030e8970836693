//! What every step of a poll is given: where it reads and writes, by which settings, and at which moment.

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::store::state_db::StateDb;

#[derive(Clone, Copy)]
pub struct PollContext<'a> {
    pub crm: &'a ConnectedCrm,
    pub state: &'a StateDb,
    pub settings: &'a ServiceSettings,
    pub tally: &'a RunTally,
    pub now: DateTime<Utc>,
}
