//! Table `possible_opt_out`: posts that may withdraw a person's consent, but are damaged or name no lead exactly. Until an
//! operator decides, each counts as a withdrawal or holds its lead (`HOLD`). [`super::consent`] reads it together with the
//! ledger.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::lead::LeadId;
use crate::store::consent::{self, LedgerEntry};
use crate::store::control::{self, CompareAsked};
use crate::store::decision::DecisionMaker;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// The value of `settled_by` for a post that leaves consent in doubt and that no operator has decided on. Nothing is sent to the
/// lead, and Conversica is not told of an opt-out.
pub(crate) const HOLD: &str = "hold";

/// In SQL, over a lead: no post holds it.
pub(crate) const NOT_HELD: &str = " and (urgent = 1 or not exists (select 1 from possible_opt_out p where p.id = lead.id \
     and p.client_id = lead.client_id and p.settled_at is null and p.settled_by is not null))";

/// A row of the table, for a post, a lead and a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PossibleRow {
    pub event_seq: i64,
    pub lead: LeadId,
    pub channel: ConsentChannel,
    pub at: DateTime<Utc>,
    /// [`HOLD`], or `None` if the post counts as a withdrawal.
    pub hold: Option<&'static str>,
}

/// The operator's decision on such a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOutDecision {
    /// The person wants no more messages.
    Confirmed,
    /// The post is no opt-out.
    Dismissed,
}

impl OptOutDecision {
    pub const fn name(self) -> &'static str {
        match self {
            OptOutDecision::Confirmed => "confirmed",
            OptOutDecision::Dismissed => "dismissed",
        }
    }
}

/// The outcome of settling a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Settled, for these leads.
    Settled(Vec<LeadId>),
    /// There is nothing to confirm or to dismiss.
    NothingWaits,
    /// The post names no lead whose opt-out could be confirmed.
    NamesNoLead,
}

/// A row for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PossibleOptOutShown {
    pub event_seq: i64,
    pub channel: String,
    pub at: DateTime<Utc>,
    pub decision: Option<String>,
    pub settled_at: Option<DateTime<Utc>>,
}

/// The columns of a [`PossibleOptOutShown`], in its order.
type ShownRow = (i64, String, i64, Option<String>, Option<i64>);

/// The leads with these ids, of any client. The list must not be empty.
pub(crate) fn known_statement(ids: &[&str]) -> StateStatement {
    let mut statement = StateStatement::new("select id, client_id from lead where id in (");
    statement.push_list(ids.iter().copied()).push(")");
    statement
}

/// The leads whose ids may have one of these normal forms, and some others. The list must not be empty.
pub(crate) fn similar_statement(names: &[String]) -> StateStatement {
    let mut statement = StateStatement::new("select id, client_id from lead where ");
    for (place, name) in names.iter().enumerate() {
        statement.push(if place == 0 { "" } else { " or " });
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let number = name.trim_start_matches('0');
            statement.push("ltrim(id, '0') = ").push_bind(number);
            statement.push(" or ltrim(id, '0') like ").push_bind(format!("{number}.%"));
        } else {
            // A UUID may be stored with dashes. Its first eight digits are together in every spelling.
            let run = name.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|run| run.len()).unwrap_or_default();
            let part = if run.len() == 32 { &run[..8] } else { run };
            statement.push("lower(id) like ").push_bind(format!("%{part}%"));
        }
    }
    statement
}

/// Adds rows, or opens them again. The list must not be empty.
pub(crate) fn insert_statement(rows: &[PossibleRow]) -> StateStatement {
    let mut statement =
        StateStatement::new("insert into possible_opt_out (event_seq, id, client_id, channel, at, settled_by) ");
    statement.push_values(rows, |row, possible| {
        row.push_bind(possible.event_seq)
            .push_bind(&possible.lead.id)
            .push_bind(&possible.lead.client_id)
            .push_bind(possible.channel.name())
            .push_bind(micros(possible.at))
            .push_bind(possible.hold);
    });
    statement.push(
        " on conflict (event_seq, id, client_id, channel) do update \
         set settled_at = null, decision = null, settled_by = excluded.settled_by",
    );
    statement
}

/// A fixed post has its own effect on consent when it is applied, so its possible opt-out ends then.
pub(crate) fn settle_fixed_statement(event_seqs: &[i64], now: DateTime<Utc>) -> StateStatement {
    let mut statement = StateStatement::new("update possible_opt_out set decision = 'mended', settled_at = ");
    statement.push_bind(micros(now));
    statement.push(" where settled_at is null and event_seq in (select seq from event where seq in (");
    statement.push_list(event_seqs.iter().copied()).push(") or mended_as in (");
    statement.push_list(event_seqs.iter().copied()).push("))");
    statement
}

/// Deletes the rows without a lead of deleted posts. Rows about other leads stay. The list must not be empty.
pub(crate) fn forget_statement(event_seqs: &[i64]) -> StateStatement {
    let mut statement = StateStatement::new("delete from possible_opt_out where id = '' and event_seq in (");
    statement.push_list(event_seqs.iter().copied()).push(")");
    statement
}

/// Records an operator's decision about a post. A confirmed opt-out goes into the ledger with the present time, so that no post
/// that arrived meanwhile ends it. After a dismissal the rows of the leads are read again.
pub async fn settle(
    db: &StateDb,
    event_seq: i64,
    decision: OptOutDecision,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<SettleOutcome, sqlx::Error> {
    if decision == OptOutDecision::Confirmed && holds_lead(db, event_seq).await? {
        // Conversica was not told of it, so the next poll compares every row instead of waiting for the next full compare.
        control::write(db, &CompareAsked { at: now }, now).await?;
    }
    let mut transaction = db.begin().await?;
    let open = StateStatement::new(
        "select id, client_id, channel from possible_opt_out where event_seq = $1 and settled_at is null \
         order by id, client_id",
    );
    let rows: Vec<(String, String, String)> = transaction.fetch_all(open.bind(event_seq)).await?;
    let put_aside = StateStatement::new(
        "update event set settled_at = $1 where seq = $2 and problem is not null and mended_as is null and settled_at is null",
    );
    let put_aside = transaction.execute(put_aside.bind(micros(now)).bind(event_seq)).await?;
    if rows.is_empty() && (put_aside == 0 || decision == OptOutDecision::Confirmed) {
        transaction.rollback().await?;
        return Ok(SettleOutcome::NothingWaits);
    }
    let mut words = Vec::new();
    for (id, client_id, channel) in rows {
        let Some(channel) = ConsentChannel::from_name(&channel).filter(|_| !id.is_empty()) else { continue };
        let word = ChannelWord { channel, given: false, at: now };
        let lead = LeadId { id, client_id };
        words.push(LedgerEntry { lead, word, heard_at: now, event_seq: Some(event_seq) });
    }
    let leads: BTreeSet<LeadId> = words.iter().map(|entry| entry.lead.clone()).collect();
    let leads: Vec<LeadId> = leads.into_iter().collect();
    if decision == OptOutDecision::Confirmed {
        // The consent in a readable post counts already, under the name in the post.
        let readable = StateStatement::new(
            "select count(*) from event where seq = $1 and problem is null and kind = 'lead_update'",
        );
        let (readable,): (i64,) = transaction.fetch_one(readable.bind(event_seq)).await?;
        if words.is_empty() && readable == 0 {
            transaction.rollback().await?;
            return Ok(SettleOutcome::NamesNoLead);
        }
        if !words.is_empty() {
            transaction.execute(consent::insert_statement(&words)).await?;
        }
    }
    let settle = StateStatement::new(
        "update possible_opt_out set settled_at = $1, decision = $2, settled_by = $3 \
         where event_seq = $4 and settled_at is null",
    );
    let settle = settle.bind(micros(now)).bind(decision.name()).bind(who.as_str()).bind(event_seq);
    transaction.execute(settle).await?;
    if !leads.is_empty() {
        // The row of a lead may be gone, and no poll reads it again.
        consent::record_heard(&mut transaction, &leads, now).await?;
        transaction.execute(consent::look_again_statement(db, &leads)).await?;
    }
    transaction.commit().await?;
    Ok(SettleOutcome::Settled(leads))
}

/// Whether the post holds a lead.
async fn holds_lead(db: &StateDb, event_seq: i64) -> Result<bool, sqlx::Error> {
    let held = StateStatement::new(
        "select count(*) from possible_opt_out where event_seq = $1 and settled_at is null and settled_by is not null",
    );
    let (held,): (i64,) = db.fetch_one(held.bind(event_seq)).await?;
    Ok(held > 0)
}

/// The leads that each of these posts may be about, in the order of their ids. Posts that an operator has dismissed or replaced
/// are left out.
pub async fn leads_of_events(db: &StateDb, event_seqs: &[i64]) -> Result<BTreeMap<i64, Vec<LeadId>>, sqlx::Error> {
    let mut leads: BTreeMap<i64, Vec<LeadId>> = BTreeMap::new();
    if event_seqs.is_empty() {
        return Ok(leads);
    }
    let mut statement = StateStatement::new(
        "select distinct event_seq, id, client_id from possible_opt_out \
         where id <> '' and (decision is null or decision = 'confirmed') and event_seq in (",
    );
    statement.push_list(event_seqs.iter().copied()).push(") order by event_seq, id, client_id");
    let rows: Vec<(i64, String, String)> = db.fetch_all(statement).await?;
    for (event_seq, id, client_id) in rows {
        leads.entry(event_seq).or_default().push(LeadId { id, client_id });
    }
    Ok(leads)
}

/// Leads of possible opt-outs that wait for an operator, at most `limit`.
pub async fn waiting_leads(db: &StateDb, limit: i64) -> Result<Vec<LeadId>, sqlx::Error> {
    let waiting = StateStatement::new(
        "select distinct id, client_id from possible_opt_out where settled_at is null and id <> '' \
         order by id, client_id limit $1",
    );
    let rows: Vec<(String, String)> = db.fetch_all(waiting.bind(limit)).await?;
    Ok(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect())
}

/// The possible opt-outs of a lead, open and decided, oldest first.
pub async fn of_lead(db: &StateDb, lead: &LeadId) -> Result<Vec<PossibleOptOutShown>, sqlx::Error> {
    let of_lead = StateStatement::new(
        "select event_seq, channel, at, \
         case when settled_at is null and settled_by is not null then 'held' else decision end, settled_at \
         from possible_opt_out where id = $1 and client_id = $2 order by seq",
    );
    let rows: Vec<ShownRow> = db.fetch_all(of_lead.bind(&lead.id).bind(&lead.client_id)).await?;
    let shown = rows.into_iter().map(|(event_seq, channel, at, decision, settled_at)| PossibleOptOutShown {
        event_seq,
        channel,
        at: instant(at),
        decision,
        settled_at: settled_at.map(instant),
    });
    Ok(shown.collect())
}
