//! Leads that wait for approval: their number and their release. A release covers the leads that the operator was shown, and none
//! that were held since.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::db::trusted;
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::lead::locking;
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros};

/// Selects held leads; with no ids and no reason it selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldSelection {
    pub ids: Vec<String>,
    pub reason: Option<String>,
}

impl HeldSelection {
    /// All leads that are held for this reason.
    pub fn reason(reason: &str) -> Self {
        Self { ids: Vec::new(), reason: Some(reason.to_owned()) }
    }

    pub fn is_everything(&self) -> bool {
        self.ids.is_empty() && self.reason.is_none()
    }
}

/// The held leads at one moment. It identifies the set: a lead that is held later, or whose content changes later, has a hold
/// time after `newest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldLeads {
    pub leads: i64,
    /// People among them who were never sent from here; an approval would send them.
    pub new_people: i64,
    /// New people among these, if a baseline assumes that Conversica knows them.
    pub assumed_known: i64,
    /// Leads among them whose row is missing from the source. Any decision marks them gone and does not send them.
    pub missing: i64,
    /// Reason → leads.
    pub reasons: BTreeMap<String, i64>,
    /// When the newest of them was held with its present content.
    pub newest: Option<DateTime<Utc>>,
}

impl HeldLeads {
    /// A name for this set, short enough to copy from a screen; blank for an empty set. [`Self::named`] reads it.
    pub fn set_name(&self) -> String {
        self.newest.map(|newest| format!("{}-{}", self.leads, micros(newest))).unwrap_or_default()
    }

    /// The set with that name, with its number and time only; `None` for any other text.
    pub fn named(name: &str) -> Option<Self> {
        let (leads, newest) = name.split_once('-')?;
        let (leads, newest) = (leads.parse().ok().filter(|leads| *leads > 0)?, newest.parse().ok()?);
        Some(Self { leads, newest: Some(instant(newest)), ..Self::default() })
    }

    /// The reason, if all of them have the same one.
    fn only_reason(&self) -> Option<&str> {
        self.reasons.keys().next().filter(|_| self.reasons.len() == 1).map(String::as_str)
    }

    /// Whether this set has leads that `shown` did not have.
    pub fn has_outgrown(&self, shown: &HeldLeads) -> bool {
        self.leads > shown.leads || self.newest > shown.newest
    }
}

/// How released leads are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseKind {
    /// They are sent.
    Send,
    /// Nothing is sent. A lead that was never sent is assumed known to Conversica; for the others the content counts as
    /// delivered.
    Baseline,
}

impl ReleaseKind {
    /// The operator's decision that this is.
    fn action(self) -> DecisionAction {
        match self {
            ReleaseKind::Send => DecisionAction::Approve,
            ReleaseKind::Baseline => DecisionAction::Baseline,
        }
    }
}

/// The number of leads that a release concerned, counted in its own transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReleasedLeads {
    pub leads: u64,
    /// As in [`HeldLeads`].
    pub new_people: u64,
    pub assumed_known: u64,
    /// Leads whose rows are missing from the source.
    pub missing: u64,
}

/// The outcome of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseOutcome {
    Leads(ReleasedLeads),
    /// Nothing was released: the set is larger than the one that was shown.
    Grown,
}

/// A condition for the selected leads that were held up to and including an instant. Their newest content is held; an older
/// content may be in flight, or the row may be gone.
macro_rules! push_held {
    ($query:expr, $selection:expr, $until:expr) => {
        $query.push("hold_reason is not null and status <> 'invalid' and status <> 'in_sync'");
        if let Some(until) = $until {
            $query.push(" and held_at <= ").push_bind(micros(until));
        }
        if let Some(reason) = &$selection.reason {
            $query.push(" and hold_reason = ").push_bind(reason.as_str());
        }
        if !$selection.ids.is_empty() {
            $query.push(" and id in (");
            let mut list = $query.separated(", ");
            for id in &$selection.ids {
                list.push_bind(id.as_str());
            }
            $query.push(")");
        }
    };
}

/// As [`push_held`], for the leads that a release up to `newest` changes.
macro_rules! push_released {
    ($query:expr, $selection:expr, $newest:expr, $release:expr) => {
        if $release == ReleaseKind::Baseline {
            // A lead that is gone is included: if its row returned, it would be in sync.
            $query.push("status in ('held', 'gone') and ");
        }
        push_held!($query, $selection, Some($newest));
    };
}

/// Leads whose content a baseline does not touch: they are held only for their missing row, or their last row was invalid.
macro_rules! nothing_taken {
    () => {
        "gone_at is not null and hold_reason = 'source_shrank' or desired is null"
    };
}

/// Counts over held leads: people never sent from here, those among them who are assumed known, and missing rows.
const PEOPLE: &str = "count(case when status = 'held' and gone_at is null and (first_contact_at is null or assumed_at is not null) \
     then 1 end), count(case when status = 'held' and gone_at is null then assumed_at end), \
     count(case when status in ('held', 'gone') then gone_at end)";

/// The leads that are held now.
pub async fn look(db: &StateDb, selection: &HeldSelection) -> Result<HeldLeads, sqlx::Error> {
    let mut held = HeldLeads::default();
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("select hold_reason, count(*), max(held_at), ");
        query.push(PEOPLE).push(" from lead where ");
        push_held!(query, selection, None::<DateTime<Utc>>);
        query.push(" group by hold_reason");
        for row in query.build().fetch_all(pool).await? {
            let leads: i64 = row.try_get(1)?;
            held.leads += leads;
            held.newest = held.newest.max(row.try_get::<Option<i64>, _>(2)?.map(instant));
            held.new_people += row.try_get::<i64, _>(3)?;
            held.assumed_known += row.try_get::<i64, _>(4)?;
            held.missing += row.try_get::<i64, _>(5)?;
            held.reasons.insert(row.try_get(0)?, leads);
        }
        Ok(held)
    })
}

/// Whether any lead waits for approval, for that reason or for any.
pub async fn any(db: &StateDb, reason: Option<&str>) -> Result<bool, sqlx::Error> {
    let selection = HeldSelection { ids: Vec::new(), reason: reason.map(str::to_owned) };
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("select cast(1 as bigint) from lead where status = 'held' and ");
        push_held!(query, selection, None::<DateTime<Utc>>);
        query.push(" limit 1");
        let found: Option<i64> = query.build_query_scalar().fetch_optional(pool).await?;
        Ok(found.is_some())
    })
}

/// The number of leads that wait for approval.
pub async fn count(db: &StateDb) -> Result<i64, sqlx::Error> {
    on_state!(db, pool => {
        sqlx::query_scalar("select count(*) from lead where status = 'held' and status <> 'in_sync'").fetch_one(pool).await
    })
}

/// The reason and the beginning of the longest hold; `None` if no lead is held for a reason.
pub async fn longest_held(db: &StateDb) -> Result<Option<(String, DateTime<Utc>)>, sqlx::Error> {
    let sql = "select hold_reason, changed_at from lead where status = 'held' and status <> 'in_sync' and hold_reason is not null \
               order by changed_at limit 1";
    let first: Option<(String, i64)> = on_state!(db, pool => sqlx::query_as(sql).fetch_optional(pool).await)?;
    Ok(first.map(|(reason, changed_at)| (reason, instant(changed_at))))
}

/// How many of the held leads are people never sent from here, and how many of those are assumed known. It reads an index only,
/// because it is called often.
pub async fn first_contacts(db: &StateDb) -> Result<(i64, i64), sqlx::Error> {
    on_state!(db, pool => {
        sqlx::query_as(
            "select count(*), count(assumed_at) from lead where status = 'held' and gone_at is null \
             and (first_contact_at is null or assumed_at is not null)").fetch_one(pool).await
    })
}

/// Which held leads are released, and how.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseOrder<'a> {
    pub selection: &'a HeldSelection,
    /// What the operator was shown.
    pub shown: &'a HeldLeads,
    pub release: ReleaseKind,
    /// The person who decided, and `None` for a setting that has.
    pub who: Option<&'a DecisionMaker>,
}

/// Releases the leads that were shown, in one transaction; nothing if `shown` has been outgrown. Leads whose row is missing are
/// marked gone either way; after [`ReleaseKind::Send`], [`super::gone::settle`] queues their stops.
pub async fn release(db: &StateDb, order: ReleaseOrder<'_>, now: DateTime<Utc>) -> Result<ReleaseOutcome, sqlx::Error> {
    let ReleaseOrder { selection, shown, release, who } = order;
    let Some(newest) = shown.newest else { return Ok(ReleaseOutcome::Leads(ReleasedLeads::default())) };
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let mut noted: Option<i64> = None;
        if let Some(who) = who {
            let mut begin = decision::begin_query(release.action(), who, shown.only_reason(), now);
            let seq = begin.build_query_scalar().fetch_one(&mut *transaction).await?;
            let mut note = QueryBuilder::new(
                "insert into decided (id, client_id, decision_seq) \
                 with meant (meant_id, meant_client_id) as (select id, client_id from lead where ");
            push_released!(note, selection, newest, release);
            note.push(locking(db)).push(") select meant_id, meant_client_id, ").push_bind(seq).push(" from meant");
            note.build().execute(&mut *transaction).await?;
            noted = Some(seq);
        }
        // The update below changes exactly the leads counted here: PostgreSQL has locked them, and SQLite has one writer.
        let mut count = QueryBuilder::new("select ");
        count.push(PEOPLE).push(" from lead where ");
        match noted {
            Some(seq) => {
                count.push("(id, client_id) in (select id, client_id from decided where decision_seq = ").push_bind(seq);
                count.push(")");
            }
            None => {
                push_released!(count, selection, newest, release);
            }
        }
        let (new_people, assumed_known, missing): (i64, i64, i64) =
            count.build_query_as().fetch_one(&mut *transaction).await?;
        let mut update = QueryBuilder::new("with meant (meant_id, meant_client_id) as (select id, client_id from ");
        match noted {
            // Exactly the leads that are locked already, because locks are taken in one order.
            Some(seq) => _ = update.push("decided where decision_seq = ").push_bind(seq),
            None => {
                update.push("lead where ");
                push_released!(update, selection, newest, release);
                update.push(locking(db));
            }
        }
        update.push(") update lead set hold_reason = null, held_at = null, status_before = null, ");
        update.push(match release {
            ReleaseKind::Send => {
                "attempts = case when status = 'in_flight' then attempts else 0 end, \
                 first_failed_at = case when status = 'in_flight' then first_failed_at end, \
                 urgent = case when status = 'held' and gone_at is not null \
                          then case when first_contact_at is null then 0 else 1 end else urgent end, \
                 status = case when status = 'held' and gone_at is not null then 'gone' \
                          when status = 'held' then 'pending' else status end, due_at = "
            }
            ReleaseKind::Baseline => concat!(
                "status = case when status = 'held' and gone_at is null then 'in_sync' else 'gone' end, urgent = 0, \
                 delivered = case when ",
                nothing_taken!(),
                " then delivered end, delivered_hash = case when ",
                nothing_taken!(),
                " then delivered_hash else desired_hash end, delivered_at = case when ",
                nothing_taken!(),
                // Only an answer of Conversica sets the time of acceptance.
                " then delivered_at end, assumed_at = case when ",
                nothing_taken!(),
                " or first_contact_at is not null then assumed_at else "
            ),
        });
        update.push_bind(micros(now));
        if release == ReleaseKind::Baseline {
            // These leads count as known from now on, so withdrawals of consent and stops are sent for them.
            update.push(concat!(" end, first_contact_at = case when ", nothing_taken!(), " then first_contact_at"));
            update.push(" else coalesce(first_contact_at, ").push_bind(micros(now)).push(") end");
        }
        update.push(" from meant where lead.id = meant_id and lead.client_id = meant_client_id");
        let released = update.build().execute(&mut *transaction).await?.rows_affected();
        if i64::try_from(released).is_ok_and(|released| released > shown.leads) {
            // More leads are held than the operator was shown: some joined after the count was read.
            return Ok(ReleaseOutcome::Grown);
        }
        if let Some(seq) = noted {
            let leads = i64::try_from(released).unwrap_or(i64::MAX);
            sqlx::query(decision::COUNT).bind(leads).bind(seq).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        let number = |of: i64| u64::try_from(of).unwrap_or(0);
        Ok(ReleaseOutcome::Leads(ReleasedLeads {
            leads: released,
            new_people: number(new_people),
            assumed_known: number(assumed_known),
            missing: number(missing),
        }))
    })
}

/// Releases all held leads of the selection, because a setting decided so. Returns how many leads it released.
pub async fn release_all(
    db: &StateDb,
    selection: &HeldSelection,
    release: ReleaseKind,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    loop {
        let held = look(db, selection).await?;
        let order = ReleaseOrder { selection, shown: &held, release, who: None };
        if let ReleaseOutcome::Leads(leads) = self::release(db, order, now).await? {
            return Ok(leads.leads);
        }
    }
}

/// Releases leads that a poll held for this reason since that moment, until it knew that no approval is needed.
pub async fn release_since(
    db: &StateDb,
    reason: &str,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    on_state!(db, pool => {
        let mut update = QueryBuilder::new(
            "with free (free_id, free_client_id) as (select id, client_id from lead \
             where status = 'held' and status <> 'in_sync' and gone_at is null and hold_reason = ");
        update.push_bind(reason).push(" and held_at >= ").push_bind(micros(since)).push(locking(db));
        update.push(") update lead set hold_reason = null, held_at = null, status = 'pending', due_at = ");
        update.push_bind(micros(now)).push(" from free where lead.id = free_id and lead.client_id = free_client_id");
        Ok(update.build().execute(pool).await?.rows_affected())
    })
}

/// How many leads with existing rows are held for that reason since that moment.
pub async fn kept_since(db: &StateDb, reason: &str, since: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    on_state!(db, pool => {
        sqlx::query_scalar(
            "select count(*) from lead where status = 'held' and status <> 'in_sync' and gone_at is null \
             and hold_reason = $1 and held_at >= $2")
            .bind(reason).bind(micros(since)).fetch_one(pool).await
    })
}

/// Replaces the reason of leads held since that moment. Returns how many leads it changed.
pub async fn rename(db: &StateDb, reason: &str, since: Option<DateTime<Utc>>, to: &str) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "with meant (meant_id, meant_client_id) as (select id, client_id from lead \
         where status <> 'in_sync' and gone_at is null and hold_reason = $1 and held_at >= $2{}) \
         update lead set hold_reason = $3 from meant where lead.id = meant_id and lead.client_id = meant_client_id",
        locking(db)
    );
    let since = since.map_or(i64::MIN, micros);
    Ok(on_state!(db, pool => {
        sqlx::query(trusted(sql)).bind(reason).bind(since).bind(to).execute(pool).await?.rows_affected()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_known_again_by_its_name_and_tells_a_larger_or_newer_one_apart() {
        let held = HeldLeads { leads: 3, newest: Some(instant(1_800_000_000_000_000)), ..HeldLeads::default() };
        let named = HeldLeads::named(&held.set_name()).unwrap();
        assert_eq!((named.leads, named.newest), (held.leads, held.newest));
        assert!(!held.has_outgrown(&named));
        assert!(HeldLeads { leads: 4, ..held.clone() }.has_outgrown(&named));
        assert!(HeldLeads { newest: Some(instant(1_800_000_000_000_001)), ..held.clone() }.has_outgrown(&named));
        assert!(!HeldLeads { leads: 2, ..held }.has_outgrown(&named), "some have gone");
        assert_eq!(HeldLeads::default().set_name(), "");
        for name in ["", "3", "-", "0-5", "x-5", "3-x", "-3-5"] {
            assert_eq!(HeldLeads::named(name), None, "{name}");
        }
    }
}
