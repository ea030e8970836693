//! Tables `event` and `received_count`: the posts of Conversica as they arrived, before the receiver applies them.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::conversica::post::PostKind;
use crate::conversica::{any_withdrawal, consent, heard, vocabulary};
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::tombstone::{self, ErasedPeople};

/// The write-back lane of an event. The events of one lead share a lane and arrive in order; each chat lead has its own.
pub fn lane(kind: PostKind, lead: &LeadId, seq: i64) -> String {
    match kind {
        PostKind::LeadUpdate | PostKind::Message => format!("{}\u{1f}{}", lead.id, lead.client_id),
        PostKind::ChatLead => format!("chat\u{1f}{seq}"),
    }
}

/// One post to store.
#[derive(Clone)]
pub struct PostArrival {
    pub kind: PostKind,
    /// The lead as table `lead` names it; blank for an unreadable post.
    pub lead: LeadId,
    pub body: Vec<u8>,
    pub content_hash: ContentFingerprint,
    /// Why the post cannot be read.
    pub problem: Option<String>,
    /// Whether the post says something that Conversica has not published.
    pub outside_vocabulary: bool,
    /// Whether it is a Lead Update that withdraws consent.
    pub withdraws: bool,
    /// The lead that an unreadable post may be about.
    identity: Option<LeadId>,
}

impl PostArrival {
    /// Reads a post. Without `has_clients` a lead is identified by its id alone, whatever `clientId` Conversica posts.
    pub fn of(kind: PostKind, body: Vec<u8>, has_clients: bool) -> Self {
        let post = match heard::read(kind, &body) {
            Ok(post) => post,
            Err(unreadable) => return Self::unreadable(kind, body, unreadable.0),
        };
        let content_hash = post.content_hash();
        let outside_vocabulary = !vocabulary::outside(&post.content).is_empty();
        let withdraws = kind == PostKind::LeadUpdate && consent::withdraws(&post.content);
        let mut lead = post.lead;
        if !has_clients {
            lead.client_id.clear();
        }
        Self { kind, lead, body, content_hash, problem: None, outside_vocabulary, withdraws, identity: None }
    }

    /// A post that cannot be read, kept as it arrived.
    pub fn unreadable(kind: PostKind, body: Vec<u8>, problem: impl Into<String>) -> Self {
        let content_hash = heard::unreadable_hash(kind, &body);
        // Done here and not in the transaction that stores the post, because a body of a megabyte takes time.
        let identity = heard::identity(&body);
        let (lead, problem) = (LeadId::default(), Some(problem.into()));
        Self { kind, lead, body, content_hash, problem, outside_vocabulary: false, withdraws: false, identity }
    }

    /// The leads that the post may be about, as table `lead` names them; empty if that is not known.
    pub(crate) fn about(&self) -> impl Iterator<Item = LeadId> + use<> {
        let lead = match (&self.problem, self.kind) {
            (Some(_), _) => self.identity.clone(),
            (None, PostKind::ChatLead) => None,
            (None, PostKind::LeadUpdate | PostKind::Message) => Some(self.lead.clone()),
        };
        // For an unreadable post it is unknown whether clients tell leads apart, so both forms are given.
        let without_client = lead.clone().filter(|lead| self.problem.is_some() && !lead.client_id.is_empty());
        let without_client = without_client.map(|lead| LeadId { client_id: String::new(), ..lead });
        lead.into_iter().chain(without_client)
    }

    /// The name under which the post is counted.
    fn counted_as(&self) -> &'static str {
        if self.problem.is_some() { "unreadable" } else { self.kind.name() }
    }
}

/// A content, and how many arrivals of this batch repeat it.
type ArrivedContent<'a> = (&'a PostArrival, i64);

/// In a transaction: an opt-out of a person who was erased goes into their tombstone. It counts if they come back.
async fn withdraw_erased(
    transaction: &mut StateTransaction,
    arrivals: &[PostArrival],
    erased: &ErasedPeople,
    now: i64,
) -> Result<(), sqlx::Error> {
    for TombstoneWithdrawal { tag, email, sms } in withdrawn_of_erased(arrivals, erased, now) {
        transaction.execute(StateStatement::new(tombstone::WITHDRAW).bind(tag).bind(email).bind(sms)).await?;
    }
    Ok(())
}

/// Stores a batch in one transaction: new contents are added, known contents are counted as repeated. When this returns `Ok`,
/// everything is on the disk.
pub async fn store(db: &StateDb, arrivals: &[PostArrival], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if arrivals.is_empty() {
        return Ok(());
    }
    let now = micros(now);
    let mut transaction = db.begin().await?;
    let about = arrivals.iter().flat_map(PostArrival::about);
    let erased = tombstone::erased_among(&mut transaction, about).await?;
    withdraw_erased(&mut transaction, arrivals, &erased, now).await?;
    let (arrivals, refused) = kept(arrivals, &erased);
    match db {
        StateDb::Sqlite(_) => store_sqlite(&mut transaction, &arrivals, refused, now).await?,
        StateDb::Postgres(_) => store_postgres(&mut transaction, &arrivals, refused, now).await?,
    }
    transaction.commit().await
}

async fn store_sqlite(
    transaction: &mut StateTransaction,
    arrivals: &[&PostArrival],
    refused: i64,
    now: i64,
) -> Result<(), sqlx::Error> {
    let (contents, _) = distinct(arrivals);
    if !contents.is_empty() {
        let (before,): (i64,) =
            transaction.fetch_one("select coalesce((select seq from sqlite_sequence where name = 'event'), 0)").await?;
        transaction.execute(insert_sqlite_statement(&contents, now)).await?;
        if contents.iter().any(|(arrival, _)| arrival.withdraws) {
            transaction.execute(take_again_statement(&contents)).await?;
        }
        transaction.execute(count_sqlite_statement(&contents, arrivals.len(), before)).await?;
    }
    if refused > 0 {
        transaction.execute(StateStatement::new(COUNT_ERASED).bind(refused)).await?;
    }
    Ok(())
}

async fn store_postgres(
    transaction: &mut StateTransaction,
    arrivals: &[&PostArrival],
    refused: i64,
    now: i64,
) -> Result<(), sqlx::Error> {
    let (contents, places) = distinct(arrivals);
    let mut counts = BTreeMap::new();
    if !contents.is_empty()
        && let StateTransaction::Postgres(connection) = transaction
    {
        let kept = insert_postgres(&mut connection.transaction, &contents, now).await?;
        if contents.iter().any(|(arrival, _)| arrival.withdraws) {
            transaction.execute(take_again_statement(&contents)).await?;
        }
        counts = self::counts(&contents, &places, kept);
    }
    if refused > 0 {
        counts.insert("erased", refused);
    }
    if !counts.is_empty() {
        transaction.execute(count_postgres_statement(&counts)).await?;
    }
    Ok(())
}

const COUNT_ERASED: &str = "insert into received_count (name, count) values ('erased', $1) \
     on conflict (name) do update set count = received_count.count + excluded.count";

/// The posts that are not about erased people, and the number of the others. Posts about erased people are acknowledged, counted
/// and dropped.
fn kept<'a>(arrivals: &'a [PostArrival], erased: &ErasedPeople) -> (Vec<&'a PostArrival>, i64) {
    let is_kept = |arrival: &&PostArrival| erased.is_empty() || !arrival.about().any(|lead| erased.has(&lead));
    let kept: Vec<&PostArrival> = arrivals.iter().filter(is_kept).collect();
    let refused = arrivals.len() - kept.len();
    (kept, i64::try_from(refused).unwrap_or(i64::MAX))
}

/// What is written to the tombstone of a person who was erased.
struct TombstoneWithdrawal {
    tag: Vec<u8>,
    email: Option<i64>,
    sms: Option<i64>,
}

fn withdrawn_of_erased(arrivals: &[PostArrival], erased: &ErasedPeople, now: i64) -> Vec<TombstoneWithdrawal> {
    let mut withdrawn = Vec::new();
    for arrival in arrivals.iter().filter(|_| !erased.is_empty()) {
        let tags: Vec<Vec<u8>> = arrival.about().filter_map(|lead| erased.tag(&lead).map(<[u8]>::to_vec)).collect();
        if tags.is_empty() {
            continue;
        }
        let channels = any_withdrawal::list_withdrawn(arrival.kind, &arrival.body, arrival.problem.as_deref());
        let of = |channel| channels.contains(&channel).then_some(now);
        let (email, sms) = (of(ConsentChannel::Email), of(ConsentChannel::Sms));
        withdrawn.extend(tags.into_iter().map(|tag| TombstoneWithdrawal { tag, email, sms }));
    }
    withdrawn
}

/// Each content once, and its place in that list.
fn distinct<'a>(arrivals: &[&'a PostArrival]) -> (Vec<ArrivedContent<'a>>, HashMap<ContentFingerprint, usize>) {
    let mut places: HashMap<ContentFingerprint, usize> = HashMap::with_capacity(arrivals.len());
    let mut contents: Vec<ArrivedContent<'_>> = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        match places.entry(arrival.content_hash) {
            std::collections::hash_map::Entry::Occupied(place) => contents[*place.get()].1 += 1,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(contents.len());
                contents.push((arrival, 0));
            }
        }
    }
    (contents, places)
}

/// How the insert treats a content that is already stored.
const ON_CONFLICT: &str = " on conflict (content_hash) do update \
     set repeats = event.repeats + excluded.repeats + 1, repeated_at = excluded.received_at";

/// A withdrawal that Conversica posts again, after consent was given, is a new withdrawal: its event is applied again.
fn take_again_statement(contents: &[ArrivedContent<'_>]) -> StateStatement {
    let mut statement =
        StateStatement::new("update event set applied_at = null where applied_at is not null and content_hash in (");
    let again = contents.iter().filter(|(arrival, _)| arrival.withdraws);
    statement.push_list(again.map(|(arrival, _)| arrival.content_hash.as_bytes()));
    statement.push(
        ") and exists (select 1 from consent g where g.id = event.id and g.client_id = event.client_id and g.given = 1 \
         and g.seq > (select max(w.seq) from consent w where w.id = event.id and w.client_id = event.client_id \
         and w.channel = g.channel and w.given = 0 and w.event_seq = event.seq))",
    );
    statement
}

fn insert_sqlite_statement(contents: &[ArrivedContent<'_>], now: i64) -> StateStatement {
    let mut statement = StateStatement::new(
        "insert into event (kind, id, client_id, body, content_hash, problem, repeats, received_at, repeated_at) \
         select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, ",
    );
    statement.push_bind(now).push(", case when v.column7 > 0 then ").push_bind(now).push(" end from (");
    statement.push_values(contents, |row, (arrival, repeats)| {
        row.push_bind(arrival.kind.name())
            .push_bind(&arrival.lead.id)
            .push_bind(&arrival.lead.client_id)
            .push_bind(&arrival.body)
            .push_bind(arrival.content_hash.as_bytes())
            .push_bind(arrival.problem.as_deref())
            .push_bind(*repeats);
    });
    // `where true` is needed: without it SQLite reads `on` as the condition of a join.
    statement.push(") v where true").push(ON_CONFLICT);
    statement
}

/// Rows after `before` are new, because SQLite has no other writer meanwhile. The database counts them, because each row that it
/// returns costs a change of threads.
fn count_sqlite_statement(contents: &[ArrivedContent<'_>], arrivals: usize, before: i64) -> StateStatement {
    let mut statement =
        StateStatement::new("with fresh as (select kind, id, client_id, problem, content_hash from event where seq > ");
    statement.push_bind(before).push(
        ") insert into received_count (name, count) select name, n from (\
         select case when problem is null then kind else 'unreadable' end as name, count(*) as n from fresh group by 1 \
         union all select 'unknown_lead', count(*) from fresh where kind <> 'chat_lead' and problem is null \
         and not exists (select 1 from lead where lead.id = fresh.id and lead.client_id = fresh.client_id) \
         union all select 'repeat', ",
    );
    statement.push_bind(i64::try_from(arrivals).unwrap_or(i64::MAX)).push(" - (select count(*) from fresh)");
    let mut outside = contents.iter().filter(|(arrival, _)| arrival.outside_vocabulary).peekable();
    if outside.peek().is_some() {
        statement.push(" union all select 'outside_vocabulary', count(*) from fresh where content_hash in (");
        statement.push_list(outside.map(|(arrival, _)| arrival.content_hash.as_bytes())).push(")");
    }
    statement.push(") where n > 0 on conflict (name) do update set count = received_count.count + excluded.count");
    statement
}

/// For a content: its hash, its number of repeats after the insert, and 1 if table `lead` does not have its lead.
type StoredContent = (Vec<u8>, i64, i64);

/// Arrays instead of rows, so that batches of every size use one prepared statement. Instances that store the same contents at
/// the same time meet at the unique index. Each inserts in the order of the hashes, so that no deadlock arises. The sequence
/// numbers still follow the order of arrival.
async fn insert_postgres(
    connection: &mut PgConnection,
    contents: &[ArrivedContent<'_>],
    now: i64,
) -> Result<Vec<StoredContent>, sqlx::Error> {
    let sql = format!(
        "with arrival as materialized ( \
             select nextval('event_seq_seq') as seq, a.* from ( \
                 select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::bigint[]) \
                 with ordinality as u (kind, id, client_id, body, content_hash, problem, repeats, n) order by n) a) \
         insert into event \
             (seq, kind, id, client_id, body, content_hash, problem, repeats, received_at, repeated_at) \
         overriding system value \
         select seq, kind, id, client_id, body, content_hash, problem, repeats, $8, case when repeats > 0 then $8 end \
         from arrival order by content_hash {ON_CONFLICT} \
         returning content_hash, repeats, cast(case when kind <> 'chat_lead' and problem is null and not exists \
         (select 1 from lead l where l.id = event.id and l.client_id = event.client_id) then 1 else 0 end as bigint)"
    );
    let column = |of: fn(&PostArrival) -> &str| contents.iter().map(|(a, _)| of(a)).collect::<Vec<_>>();
    sqlx::query_as(crate::db::trusted(sql))
        .bind(column(|a| a.kind.name()))
        .bind(column(|a| &a.lead.id))
        .bind(column(|a| &a.lead.client_id))
        .bind(contents.iter().map(|(a, _)| a.body.as_slice()).collect::<Vec<_>>())
        .bind(contents.iter().map(|(a, _)| a.content_hash.as_bytes()).collect::<Vec<_>>())
        .bind(contents.iter().map(|(a, _)| a.problem.as_deref()).collect::<Vec<_>>())
        .bind(contents.iter().map(|(_, repeats)| *repeats).collect::<Vec<_>>())
        .bind(now)
        .fetch_all(connection)
        .await
}

/// How much a batch adds to each count.
fn counts(
    contents: &[ArrivedContent<'_>],
    places: &HashMap<ContentFingerprint, usize>,
    kept: Vec<StoredContent>,
) -> BTreeMap<&'static str, i64> {
    let mut counts = BTreeMap::new();
    let mut add = |name: &'static str, count: i64| *counts.entry(name).or_default() += count;
    for (hash, repeats, unknown_lead) in kept {
        let hash = <[u8; 16]>::try_from(hash).ok().map(ContentFingerprint);
        let Some((arrival, repeated)) = hash.and_then(|hash| contents.get(*places.get(&hash)?)) else { continue };
        // A content that was stored before has one repeat more than this batch repeats it.
        let is_new = repeats == *repeated;
        add("repeat", if is_new { *repeated } else { repeated + 1 });
        if is_new {
            add(arrival.counted_as(), 1);
            add("unknown_lead", unknown_lead);
            add("outside_vocabulary", i64::from(arrival.outside_vocabulary));
        }
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// The last statement of its transaction, because instances that share the state wait for each other at these rows.
fn count_postgres_statement(counts: &BTreeMap<&'static str, i64>) -> StateStatement {
    let mut statement = StateStatement::new("insert into received_count (name, count) ");
    statement.push_values(counts, |row, (name, count)| {
        row.push_bind(*name).push_bind(*count);
    });
    statement.push(" on conflict (name) do update set count = received_count.count + excluded.count");
    statement
}
