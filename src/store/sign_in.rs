//! Table `control`: the links that sign in to the dashboard once. The state keeps their digests only.
//!
//! Who may write the state may decide for the service anyway, so `conversica-sync dashboard` makes a link without a token.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::control::{self, ControlFact};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// How long a link is valid.
pub const LINK_LASTS: TimeDelta = TimeDelta::minutes(10);
/// The most links at a time; a further one ends the oldest.
const MOST: usize = 5;

/// The links that were not used yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInLinks {
    links: Vec<SignInLink>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignInLink {
    digest: String,
    until: DateTime<Utc>,
}

impl ControlFact for SignInLinks {
    const NAME: &'static str = "sign_in_links";
}

/// Makes the code of a new link.
pub async fn offer(db: &StateDb, now: DateTime<Utc>) -> Result<String, sqlx::Error> {
    let code = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let mut stored = control::read::<SignInLinks>(db).await?.unwrap_or_default();
    stored.links.retain(|link| is_valid(link, now));
    stored.links.push(SignInLink { digest: digest(&code), until: now + LINK_LASTS });
    let surplus = stored.links.len().saturating_sub(MOST);
    stored.links.drain(..surplus);
    control::write(db, &stored, now).await?;
    Ok(code)
}

/// Whether a link with this code is valid.
pub async fn is_offered(db: &StateDb, code: &str, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let stored = control::read::<SignInLinks>(db).await?.unwrap_or_default();
    Ok(has(&stored, &digest(code), now))
}

/// Uses a link up. Returns whether it was valid: of several requests with one link, one is let in.
pub async fn redeem(db: &StateDb, code: &str, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let digest = digest(code);
    let sql = "select body from control where name = $1";
    let stored: Option<(String,)> = db.fetch_optional(StateStatement::new(sql).bind(SignInLinks::NAME)).await?;
    let Some((before,)) = stored else { return Ok(false) };
    let mut links: SignInLinks = serde_json::from_str(&before).map_err(|error| sqlx::Error::Decode(error.into()))?;
    if !has(&links, &digest, now) {
        return Ok(false);
    }
    links.links.retain(|link| link.digest != digest);
    let after = serde_json::to_string(&links).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let replace = StateStatement::new("update control set body = $2 where name = $1 and body = $3");
    Ok(db.execute(replace.bind(SignInLinks::NAME).bind(after).bind(before)).await? == 1)
}

fn has(stored: &SignInLinks, digest: &str, now: DateTime<Utc>) -> bool {
    stored.links.iter().any(|link| link.digest == digest && is_valid(link, now))
}

/// A link with a later end than any can have was made by a clock that ran ahead.
fn is_valid(link: &SignInLink, now: DateTime<Utc>) -> bool {
    now < link.until && link.until <= now + LINK_LASTS
}

/// A code has 256 random bits, so a plain digest of it cannot be reversed, and comparing digests tells nothing about the code.
fn digest(code: &str) -> String {
    Sha256::digest(code.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds)
    }

    #[tokio::test]
    async fn a_link_lets_in_once_within_ten_minutes() {
        let db = StateDb::open_state_in_memory().await.unwrap();
        assert!(!redeem(&db, "x", at(0)).await.unwrap(), "there is none yet");
        let (first, second) = (offer(&db, at(0)).await.unwrap(), offer(&db, at(60)).await.unwrap());
        assert!(!is_offered(&db, "", at(60)).await.unwrap());
        assert!(is_offered(&db, &first, at(60)).await.unwrap());
        assert!(redeem(&db, &first, at(599)).await.unwrap());
        assert!(!redeem(&db, &first, at(599)).await.unwrap(), "it was used");
        assert!(!redeem(&db, &second, at(660)).await.unwrap(), "too late");
        assert!(!redeem(&db, &second, at(59)).await.unwrap(), "a clock that was ahead made it");
    }

    #[tokio::test]
    async fn the_state_keeps_no_code_and_few_links() {
        let db = StateDb::open_state_in_memory().await.unwrap();
        let mut codes = Vec::new();
        for second in 0..7 {
            codes.push(offer(&db, at(second)).await.unwrap());
        }
        let (body,): (String,) = db.fetch_one("select body from control where name = 'sign_in_links'").await.unwrap();
        assert!(codes.iter().all(|code| !body.contains(code)));
        let mut valid = Vec::new();
        for code in &codes {
            valid.push(is_offered(&db, code, at(10)).await.unwrap());
        }
        assert_eq!(valid, [false, false, true, true, true, true, true]);
    }
}
