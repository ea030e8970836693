//! Reads an unreadable event again, with the present program or from a body that the operator has fixed. The result is stored as
//! a new event; the original stays as it arrived.

use chrono::{DateTime, Utc};

use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::conversica::{any_withdrawal, heard, vocabulary};
use crate::store::heard::reading::HeardEvent;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{micros, tombstone};

/// The outcome of reading an event again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// The event now has this number.
    As(i64),
    /// The same content had arrived before, as this event.
    Known(i64),
    /// It still cannot be read, for this reason.
    Unreadable(String),
    /// It is about an erased person, and is deleted.
    Erased,
}

/// Reads `event` again, or `body` instead of it. `has_clients` says whether clients tell our leads apart.
pub async fn replay(
    db: &StateDb,
    event: &HeardEvent,
    body: Option<&[u8]>,
    has_clients: bool,
    now: DateTime<Utc>,
) -> Result<ReplayOutcome, sqlx::Error> {
    let body = body.unwrap_or(&event.body);
    let post = match heard::read(event.kind, body) {
        Ok(post) => post,
        Err(unreadable) => {
            let problem = StateStatement::new("update event set problem = $1 where seq = $2 and mended_as is null");
            db.execute(problem.bind(&unreadable.0).bind(event.seq)).await?;
            return Ok(ReplayOutcome::Unreadable(unreadable.0));
        }
    };
    let hash = post.content_hash();
    let outside = event.kind != PostKind::ChatLead && !vocabulary::outside(&post.content).is_empty();
    let client_id = if has_clients { post.lead.client_id } else { String::new() };
    let lead = LeadId { id: post.lead.id, client_id };
    let mut transaction = db.begin().await?;
    let about = (event.kind != PostKind::ChatLead).then(|| lead.clone());
    let erased = tombstone::erased_among(&mut transaction, about.into_iter()).await?;
    if let Some(tag) = erased.tag(&lead) {
        let channels = any_withdrawal::list_withdrawn(event.kind, body, None);
        let of = |channel| channels.contains(&channel).then_some(micros(now));
        let withdraw = StateStatement::new(tombstone::WITHDRAW).bind(tag);
        transaction.execute(withdraw.bind(of(ConsentChannel::Email)).bind(of(ConsentChannel::Sms))).await?;
        transaction.execute(StateStatement::new("delete from event where seq = $1").bind(event.seq)).await?;
        transaction.commit().await?;
        return Ok(ReplayOutcome::Erased);
    }
    let insert = StateStatement::new(
        "insert into event (kind, id, client_id, received_at, body, content_hash) values ($1, $2, $3, $4, $5, $6) \
         on conflict (content_hash) do nothing returning seq",
    );
    let insert = insert.bind(event.kind.name()).bind(&lead.id).bind(&lead.client_id).bind(micros(event.received_at));
    let made: Option<(i64,)> = transaction.fetch_optional(insert.bind(body).bind(hash.as_bytes())).await?;
    let (seq,): (i64,) = match made {
        Some(made) => made,
        None => {
            let known = StateStatement::new("select seq from event where content_hash = $1");
            transaction.fetch_one(known.bind(hash.as_bytes())).await?
        }
    };
    if seq == event.seq {
        // The event could be read when it arrived, and can be read again: it waits to be applied.
        let reopen = StateStatement::new("update event set problem = null, settled_at = null where seq = $1");
        transaction.execute(reopen.bind(seq)).await?;
        transaction.commit().await?;
        return Ok(ReplayOutcome::As(seq));
    }
    let replaced = StateStatement::new("update event set mended_as = $1 where seq = $2");
    transaction.execute(replaced.bind(seq).bind(event.seq)).await?;
    if made.is_none() {
        // If the same content has been applied already, its consent counts, so the possible opt-out ends here.
        // Otherwise it ends when the content is applied.
        let end = StateStatement::new(
            "update possible_opt_out set settled_at = $1, decision = 'mended' where event_seq = $2 and settled_at is null \
             and exists (select 1 from event where seq = $3 and applied_at is not null)",
        );
        transaction.execute(end.bind(micros(now)).bind(event.seq).bind(seq)).await?;
    }
    let mut counted = vec![if made.is_some() { event.kind.name() } else { "repeat" }];
    if made.is_some() && event.kind != PostKind::ChatLead {
        let known = StateStatement::new("select cast(1 as bigint) from lead where id = $1 and client_id = $2");
        let known: Option<(i64,)> = transaction.fetch_optional(known.bind(&lead.id).bind(&lead.client_id)).await?;
        counted.extend(known.is_none().then_some("unknown_lead"));
        counted.extend(outside.then_some("outside_vocabulary"));
    }
    for name in counted {
        let count = StateStatement::new(
            "insert into received_count (name, count) values ($1, 1) \
             on conflict (name) do update set count = received_count.count + 1",
        );
        transaction.execute(count.bind(name)).await?;
    }
    transaction.commit().await?;
    Ok(if made.is_some() { ReplayOutcome::As(seq) } else { ReplayOutcome::Known(seq) })
}
