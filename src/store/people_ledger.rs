//! The ledger of people (table `suppression`): what a poll adds to it; and how it is made, once, from the leads of a state that an
//! earlier version has written.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadId;
use crate::rules::person_word::PersonWord;
use crate::rules::suppression_ground::SuppressionSource;
use crate::store::control::{self, ControlFact};
use crate::store::person_consent::{self, record_words, withdrawn_by_content};
use crate::store::state_db::StateDb;
use crate::store::{consent, lead_record, tombstone};

/// The ledger of people has the opt-outs of the leads that were known then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PeopleLedgerMade {
    at: DateTime<Utc>,
}

impl ControlFact for PeopleLedgerMade {
    const NAME: &'static str = "people_ledger";
}

/// Leads that may have opted out.
const MAY_BE_OUT: &str = "(desired like '%ptOut\":true%' or delivered like '%ptOut\":true%' \
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
            words.extend(person_consent::heard_of(record, heard));
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

/// As `record_words`, in a transaction of its own, for a poll. Erased people are left out.
pub async fn record(db: &StateDb, words: &[PersonWord], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if !person_consent::has_news(db, words).await? {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let leads = words.iter().map(|word| word.lead.clone());
    let erased = tombstone::erased_among(&mut transaction, leads).await?;
    let mut words: Vec<PersonWord> = words.iter().filter(|word| !erased.has(&word.lead)).cloned().collect();
    // A post may have been taken in since the poll asked what was heard.
    let leads: BTreeSet<LeadId> = words.iter().map(|word| word.lead.clone()).collect();
    let leads: Vec<LeadId> = leads.into_iter().collect();
    lead_record::lock_versions(&mut transaction, &leads).await?;
    let standing = consent::withdrawn_of(&mut transaction, &leads).await?;
    for word in words.iter_mut().filter(|word| word.source == SuppressionSource::Conversica) {
        *word = PersonWord::heard(&word.lead, standing.get(&word.lead), word.content.as_deref());
    }
    record_words(&mut transaction, &words, now).await?;
    transaction.commit().await
}
