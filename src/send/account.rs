//! A fingerprint of the Conversica account: endpoint, username and password, keyed with a random number from the state. It tells
//! new credentials from old ones and never reveals them.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::config::ConversicaSettings;
use crate::conversica::lead::ContentFingerprint;
use crate::store::control::{self, ControlFact};
use crate::store::state_db::StateDb;

#[derive(Debug, Serialize, Deserialize)]
struct FingerprintKey {
    key: String,
}

impl ControlFact for FingerprintKey {
    const NAME: &'static str = "fingerprint_key";
}

/// The fingerprint of these credentials for this state, in hexadecimal.
pub async fn fingerprint(
    db: &StateDb,
    account: &ConversicaSettings,
    now: DateTime<Utc>,
) -> Result<String, sqlx::Error> {
    Ok(keyed(&read_key(db, now).await?, account))
}

/// A short name of this state, which no credentials change: alerts of several installations are told apart by it.
pub async fn installation(db: &StateDb, now: DateTime<Utc>) -> Result<String, sqlx::Error> {
    let key = read_key(db, now).await?;
    let name = ContentFingerprint::of(format!("alerts/{key}").as_bytes()).to_string();
    Ok(name.chars().take(12).collect())
}

/// Makes the key where the state has none yet.
async fn read_key(db: &StateDb, now: DateTime<Utc>) -> Result<String, sqlx::Error> {
    if let Some(fact) = control::read::<FingerprintKey>(db).await? {
        return Ok(fact.key);
    }
    let key = format!("{:032x}", rand::random::<u128>());
    control::write(db, &FingerprintKey { key: key.clone() }, now).await?;
    Ok(key)
}

/// The same without creating the key; `None` where the state has no key yet.
pub async fn known_fingerprint(db: &StateDb, account: &ConversicaSettings) -> Result<Option<String>, sqlx::Error> {
    Ok(control::read::<FingerprintKey>(db).await?.map(|fact| keyed(&fact.key, account)))
}

fn keyed(key: &str, account: &ConversicaSettings) -> String {
    let mut keyed = Vec::new();
    for part in [key, account.endpoint.as_str(), &account.username, account.password.expose_secret()] {
        // Lengths keep "ab"+"c" apart from "a"+"bc".
        keyed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        keyed.extend_from_slice(part.as_bytes());
    }
    ContentFingerprint::of(&keyed).to_string()
}
