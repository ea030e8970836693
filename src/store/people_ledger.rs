//! Makes the ledger of people (table `suppression`) from the leads of a state that an earlier version has written, once.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadId;
use crate::rules::person_word::PersonWord;
use crate::store::control::{self, ControlFact};
use crate::store::person_consent::{record_words, withdrawn_by_content};
use crate::store::state_db::StateDb;
use crate::store::{consent, lead_record};

/// The ledger of people has the opt-outs of the leads that were known then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PeopleLedgerMade {
    at: DateTime<Utc>,
}

impl ControlFact for PeopleLedgerMade {
    const NAME: &'static str = "people_ledger";
}

/// Leads that may have opted out.
const MAY_BE_OUT: &str = "(desired like '%ptOut\":true%' \
     or exists (select 1 from consent c where c.id = lead.id and c.client_id = lead.client_id) \
     or exists (select 1 from possible_opt_out p where p.id = lead.id and p.client_id = lead.client_id))";

/// Enters the opt-outs of all leads, unless that was done. An opt-out comes from Conversica where the ledger of consent has it, and
/// from the row otherwise. Interrupted, it begins again.
pub async fn make_ledger(db: &StateDb, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if control::read::<PeopleLedgerMade>(db).await?.is_some() {
        return Ok(());
    }
    let mut after = LeadId::default();
    loop {
        let mut transaction = db.begin().await?;
        let mut choice = lead_record::choose();
        choice.push(MAY_BE_OUT);
        let records = lead_record::lock_some(&mut transaction, choice, &after).await?;
        let Some(last) = records.last() else { break };
        after = last.lead.clone();
        let leads: Vec<LeadId> = records.iter().map(|record| record.lead.clone()).collect();
        let standing = consent::withdrawn_of(&mut transaction, &leads).await?;
        let mut words = Vec::new();
        for record in &records {
            let content = record.desired.as_deref().or_else(|| record.accepted_content());
            let heard = standing.get(&record.lead);
            words.push(PersonWord::heard(&record.lead, heard, content));
            if heard.is_none() {
                let withdrawn = withdrawn_by_content(content.unwrap_or_default());
                words.push(PersonWord::of_row(&record.lead, &withdrawn, content));
            }
        }
        record_words(&mut transaction, &words, now).await?;
        transaction.commit().await?;
    }
    control::write(db, &PeopleLedgerMade { at: now }, now).await
}
