//! Table `tombstone`: erased people. Nothing may be sent to them again. [`super::erase`] creates and removes tombstones; this
//! file reads them.
//!
//! An id may itself be personal data. So a tombstone has only an HMAC-SHA256 of client and id, under a random key of this state
//! (fact `erasure_key` in table `control`). The hash by itself reveals nothing. With the whole state one can check whether a
//! known or guessed id was erased; that is its purpose.
//!
//! A writer that may write about a lead missing from table `lead` checks in its own transaction, by `erased_among`, because
//! its earlier reads may be older than the tombstone.

use std::collections::{HashMap, HashSet};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::conversica::lead::LeadId;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;

/// The fact that holds the key.
pub(crate) const KEY_NAME: &str = "erasure_key";

/// The key, or no row if no person was ever erased, so that no further query is needed.
const KEY: &str = "select body from control where name = 'erasure_key' and exists (select 1 from tombstone)";

/// Writes to a tombstone since when the person does not want e-mails, and text messages, as far as either is known.
pub(crate) const WITHDRAW: &str = "update tombstone set email_withdrawn_at = coalesce($2, email_withdrawn_at), \
     sms_withdrawn_at = coalesce($3, sms_withdrawn_at) where tag = $1";

/// Identifies people without their names.
pub struct TombstoneKey([u8; 32]);

impl TombstoneKey {
    pub(crate) fn generate() -> Self {
        Self(rand::random())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The stored form.
    pub(crate) fn body(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({"key": hex}).to_string()
    }

    /// Without the key it is unknown who was erased, so nothing may be written about any person.
    pub(crate) fn parse(body: &str) -> Result<Self, sqlx::Error> {
        let parsed = || {
            let body: Value = serde_json::from_str(body).ok()?;
            let hex = body.get("key")?.as_str().filter(|hex| hex.len() == 64 && hex.is_ascii())?;
            let mut key = [0; 32];
            for (place, byte) in key.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).ok()?;
            }
            Some(Self(key))
        };
        parsed().ok_or_else(|| sqlx::Error::Decode("the key of the keyed hashes cannot be read".into()))
    }

    /// The hash that identifies a person.
    pub(crate) fn tag(&self, lead: &LeadId) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        for part in [&lead.client_id, &lead.id] {
            // Lengths keep "ab"+"c" apart from "a"+"bc".
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// The erased people among those that were asked about.
#[derive(Debug, Default)]
pub struct ErasedPeople(HashMap<LeadId, Vec<u8>>);

impl ErasedPeople {
    fn of(asked: Vec<(Vec<u8>, LeadId)>, found: Vec<Vec<u8>>) -> Self {
        let found: HashSet<Vec<u8>> = found.into_iter().collect();
        Self(asked.into_iter().filter(|(tag, _)| found.contains(tag)).map(|(tag, lead)| (lead, tag)).collect())
    }

    pub fn has(&self, lead: &LeadId) -> bool {
        self.0.contains_key(lead)
    }

    /// The tag of that person, if they were erased.
    pub(crate) fn tag(&self, lead: &LeadId) -> Option<&[u8]> {
        self.0.get(lead).map(Vec::as_slice)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In a transaction that has not locked or written anything yet: the erased people among `leads`, which is not consumed if no
/// person was ever erased. No further erasure happens until the transaction ends.
pub(crate) async fn erased_among(
    transaction: &mut StateTransaction,
    leads: impl Iterator<Item = LeadId>,
) -> Result<ErasedPeople, sqlx::Error> {
    keep_erasures_out(transaction).await?;
    let Some((key,)) = transaction.fetch_optional::<(String,)>(KEY).await? else { return Ok(ErasedPeople::default()) };
    let key = TombstoneKey::parse(&key)?;
    let asked: Vec<(Vec<u8>, LeadId)> = leads.map(|lead| (key.tag(&lead), lead)).collect();
    let mut found = Vec::new();
    for some in asked.chunks(2000) {
        found.extend(transaction.fetch_all::<(Vec<u8>,)>(among_statement(some)).await?);
    }
    Ok(ErasedPeople::of(asked, found.into_iter().map(|(tag,)| tag).collect()))
}

/// Makes erasures wait until the transaction ends. SQLite has one writer at a time.
pub(crate) async fn keep_erasures_out(transaction: &mut StateTransaction) -> Result<(), sqlx::Error> {
    if let StateTransaction::Postgres(_) = transaction {
        transaction.execute(SHARED_LOCK).await?;
    }
    Ok(())
}

/// The letters "csyncers".
const SHARED_LOCK: &str = "select pg_advisory_xact_lock_shared(7166204947097547379)";

/// The list must not be empty.
fn among_statement(asked: &[(Vec<u8>, LeadId)]) -> StateStatement {
    let mut statement = StateStatement::new("select tag from tombstone where tag in (");
    statement.push_list(asked.iter().map(|(tag, _)| tag)).push(")");
    statement
}

/// The key, if any person was ever erased. A caller that reads it once and then uses [`among`] saves a query for each batch while
/// there is no tombstone.
pub async fn key(db: &StateDb) -> Result<Option<TombstoneKey>, sqlx::Error> {
    let body: Option<(String,)> = db.fetch_optional(KEY).await?;
    body.map(|(body,)| TombstoneKey::parse(&body)).transpose()
}

/// The erased people among these, for a caller that only reads: one statement for up to 2,000.
pub async fn among(
    db: &StateDb,
    key: &TombstoneKey,
    leads: impl Iterator<Item = &LeadId>,
) -> Result<ErasedPeople, sqlx::Error> {
    let asked: Vec<(Vec<u8>, LeadId)> = leads.map(|lead| (key.tag(lead), lead.clone())).collect();
    let mut found = Vec::new();
    for some in asked.chunks(2000) {
        found.extend(db.fetch_all::<(Vec<u8>,)>(among_statement(some)).await?);
    }
    Ok(ErasedPeople::of(asked, found.into_iter().map(|(tag,)| tag).collect()))
}

/// Since when that person is erased; `None` if they are not.
pub async fn since(db: &StateDb, lead: &LeadId) -> Result<Option<i64>, sqlx::Error> {
    let Some(key) = key(db).await? else { return Ok(None) };
    let find = StateStatement::new("select at from tombstone where tag = $1").bind(key.tag(lead));
    Ok(db.fetch_optional::<(i64,)>(find).await?.map(|(at,)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(id: &str, client_id: &str) -> LeadId {
        LeadId { id: id.to_owned(), client_id: client_id.to_owned() }
    }

    #[test]
    fn a_tag_belongs_to_one_person_of_one_state() {
        let key = TombstoneKey([7; 32]);
        let tag = key.tag(&lead("bc", "a"));
        assert_eq!(tag, TombstoneKey::parse(&key.body()).unwrap().tag(&lead("bc", "a")));
        for (other, of) in [(&key, lead("c", "ab")), (&key, lead("a", "bc")), (&TombstoneKey([8; 32]), lead("bc", "a"))]
        {
            assert_ne!(other.tag(&of), tag);
        }
        assert!(TombstoneKey::parse("{}").is_err() && TombstoneKey::parse(r#"{"key":"00"}"#).is_err());
    }
}
