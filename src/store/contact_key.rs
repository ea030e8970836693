//! The key by which addresses, numbers and domains are hashed. It is made once for each state. A list of hashes reveals no address;
//! with the whole state one can check whether a known address is on it, which is its purpose.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::rules::contact::{ContactKind, ContactPoint};
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::{StateReader, StateStatement};
use crate::store::tombstone::TombstoneKey;

/// The fact that holds the key.
const KEY_NAME: &str = "suppression_key";

/// The key, and whether any domain is listed; no row while there is no entry, so that no further query is needed.
const KEY: &str = "select body, case when exists (select 1 from suppression where source in ('list', 'query') and kind = 'domain') \
     then cast(1 as bigint) else cast(0 as bigint) end from control where name = 'suppression_key' and exists (select 1 from suppression)";

/// Hashes of this length do not collide.
const TAG_BYTES: usize = 16;

/// Hashes contact points.
#[derive(Clone)]
pub struct ContactKey {
    mac: Hmac<Sha256>,
    has_domains: bool,
}

impl ContactKey {
    fn parse(body: &str, has_domains: bool) -> Result<Self, sqlx::Error> {
        let key = TombstoneKey::parse(body)?;
        let mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("a key of any length will do");
        Ok(Self { mac, has_domains })
    }

    /// The keyed hash.
    pub fn tag(&self, point: &ContactPoint) -> Vec<u8> {
        let mut mac = self.mac.clone();
        mac.update(point.kind.name().as_bytes());
        mac.update(b":");
        mac.update(point.text.as_bytes());
        mac.finalize().into_bytes()[..TAG_BYTES].to_vec()
    }

    /// The hashes by which the person of a Lead object may be listed.
    pub fn tags_of_lead_object(&self, body: &str) -> Vec<Vec<u8>> {
        let points = ContactPoint::of_lead_object(body);
        let may_be_listed = |point: &&ContactPoint| self.has_domains || point.kind != ContactKind::Domain;
        points.iter().filter(may_be_listed).map(|point| self.tag(point)).collect()
    }
}

/// The key; `None` while no person is suppressed.
pub async fn find_key(reader: &mut impl StateReader) -> Result<Option<ContactKey>, sqlx::Error> {
    let rows: Vec<(String, i64)> = reader.read_all(KEY.into()).await?;
    rows.first().map(|(body, has_domains)| ContactKey::parse(body, *has_domains == 1)).transpose()
}

/// The key, made if there is none.
pub(crate) async fn make_key(transaction: &mut StateTransaction, at: i64) -> Result<ContactKey, sqlx::Error> {
    let new =
        StateStatement::new("insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do nothing");
    transaction.execute(new.bind(KEY_NAME).bind(TombstoneKey::generate().body()).bind(at)).await?;
    let find = StateStatement::new("select body from control where name = $1").bind(KEY_NAME);
    let (body,): (String,) = transaction.fetch_one(find).await?;
    ContactKey::parse(&body, true)
}
