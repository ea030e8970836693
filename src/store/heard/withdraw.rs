//! The leads whose consent the posts of a batch withdraw. A post names its lead by an id and a client, which may differ in
//! spelling from table `lead`. The rules are pure; [`withdraw`] queries the tables in the transaction of the batch.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::conversica::lead_name::normal_id;
use crate::store::consent::{self, LedgerEntry};
use crate::store::delivery::OptOuts;
use crate::store::heard::fold::{FoldedEvents, PossibleOptOut};
use crate::store::possible_opt_out::{self, HOLD, PossibleRow};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;

/// What [`withdraw`] writes.
pub(crate) struct WithdrawalBatch<'b> {
    pub folded: &'b FoldedEvents,
    /// The ids of leads that the posts may mean in another spelling.
    pub similar: &'b [String],
    pub opt_outs: OptOuts,
}

/// In a transaction: writes certain and possible changes of consent into their tables and into the desired content. Returns how
/// many leads became due.
pub(crate) async fn withdraw(
    db: &StateDb,
    transaction: &mut StateTransaction,
    batch: WithdrawalBatch<'_>,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let WithdrawalBatch { folded, similar, opt_outs } = batch;
    let mut ids = named_ids(folded);
    ids.extend(similar.iter().map(String::as_str));
    ids.sort_unstable();
    ids.dedup();
    let mut known = Vec::new();
    for some in ids.chunks(1000) {
        let rows: Vec<(String, String)> = transaction.fetch_all(possible_opt_out::known_statement(some)).await?;
        known.extend(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }));
    }
    let words = addressed_words(folded, &known);
    let mut leads: BTreeSet<LeadId> = words.iter().map(|entry| entry.lead.clone()).collect();
    for some in words.chunks(1000) {
        transaction.execute(consent::insert_statement(some)).await?;
    }
    let mut rows = possible_rows(folded, &known);
    if opt_outs != OptOuts::Keep {
        // The CRM's value is sent, whatever Conversica has posted.
        rows.iter_mut().for_each(|row| row.hold = None);
    }
    for some in rows.chunks(1000) {
        transaction.execute(possible_opt_out::insert_statement(some)).await?;
    }
    leads.extend(rows.into_iter().map(|row| row.lead).filter(|lead| !lead.id.is_empty()));
    let leads: Vec<LeadId> = leads.into_iter().collect();
    let mut due = 0;
    for some in leads.chunks(1000) {
        match opt_outs {
            OptOuts::Keep => due += consent::keep(transaction, some, now).await?,
            // They count again once the setting is changed back.
            OptOuts::Ignore => _ = consent::record_heard(transaction, some, now).await?,
        }
        transaction.execute(consent::look_again_statement(db, some)).await?;
    }
    Ok(due)
}

/// Every id that a post about consent names.
pub(crate) fn named_ids(folded: &FoldedEvents) -> Vec<&str> {
    let of_words = folded.words.iter().map(|entry| entry.lead.id.as_str());
    let of_posts = folded.possible.iter().chain(&folded.withdrawals).flat_map(ids_of);
    let ids: BTreeSet<&str> = of_words.chain(of_posts).filter(|id| !id.is_empty()).collect();
    ids.into_iter().collect()
}

fn ids_of(post: &PossibleOptOut) -> impl Iterator<Item = &str> {
    post.lead
        .iter()
        .map(|lead| lead.id.as_str())
        .chain(post.named.ids.iter().chain(&post.named.nested).map(String::as_str))
}

/// The ids in posts about consent that match no lead exactly, in their normal form. A name without any letter or digit resembles
/// no id.
pub(crate) fn unknown_names(folded: &FoldedEvents, known: &[LeadId]) -> Vec<String> {
    let known: BTreeSet<&str> = known.iter().map(|lead| lead.id.as_str()).collect();
    let ids = folded.possible.iter().chain(&folded.withdrawals).flat_map(ids_of);
    let names =
        ids.filter(|id| !known.contains(id)).map(normal_id).filter(|name| name.chars().any(char::is_alphanumeric));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The leads that an id may mean. An exact id goes before an id in another spelling. Among the leads found, an exact client goes
/// before a client in another spelling, and that before any client.
fn meant<'k>(id: &str, client_ids: &[String], known: &'k [LeadId]) -> Vec<&'k LeadId> {
    let exact: Vec<&LeadId> = known.iter().filter(|lead| lead.id == id).collect();
    let name = normal_id(id);
    let of_name = || known.iter().filter(|lead| !name.is_empty() && normal_id(&lead.id) == name).collect();
    let found: Vec<&LeadId> = if exact.is_empty() { of_name() } else { exact };
    let of_client = |is_client: &dyn Fn(&str) -> bool| -> Vec<&'k LeadId> {
        found.iter().copied().filter(|lead| is_client(&lead.client_id)).collect()
    };
    let exact = of_client(&|client_id| client_ids.iter().any(|named| named == client_id));
    if !exact.is_empty() {
        return exact;
    }
    let similar = of_client(&|client_id| client_ids.iter().any(|named| normal_id(named) == normal_id(client_id)));
    if similar.is_empty() { found } else { similar }
}

/// The only lead of that id, if a post names no client.
fn only_lead<'k>(lead: &LeadId, known: &'k [LeadId]) -> Option<&'k LeadId> {
    let mut of_id = known.iter().filter(|known| known.id == lead.id);
    let first = of_id.next().filter(|_| lead.client_id.is_empty())?;
    of_id.next().is_none().then_some(first)
}

/// The ledger entries, each with its lead: a post without a client means the only lead that has its id.
fn addressed_words(folded: &FoldedEvents, known: &[LeadId]) -> Vec<LedgerEntry> {
    let addressed = |entry: &LedgerEntry| {
        let lead = only_lead(&entry.lead, known).unwrap_or(&entry.lead).clone();
        LedgerEntry { lead, ..entry.clone() }
    };
    folded.words.iter().map(addressed).collect()
}

fn possible_rows(folded: &FoldedEvents, known: &[LeadId]) -> Vec<PossibleRow> {
    let damaged = folded.possible.iter().map(|post| (post, leads_of_damaged(post, known)));
    let withdrawals = folded.withdrawals.iter().map(|post| (post, leads_in_doubt(post, known)));
    let rows = damaged.chain(withdrawals).flat_map(|(post, leads)| {
        let of_lead = move |lead: LeadId| {
            let certain = post.channels.iter().map(|channel| (*channel, None));
            certain.chain(post.unclear.iter().map(|channel| (*channel, Some(HOLD)))).map(move |(channel, hold)| {
                PossibleRow { event_seq: post.event_seq, lead: lead.clone(), channel, at: post.at, hold }
            })
        };
        leads.into_iter().flat_map(of_lead)
    });
    // One post may say the same twice: in its withdrawal and in its damaged part.
    let mut seen = BTreeSet::new();
    rows.filter(|row| seen.insert((row.event_seq, row.lead.clone(), row.channel))).collect()
}

/// The leads that a damaged post may be about: its own lead and the leads that it names. For an unknown name, the name itself is
/// the lead. Without any name, the result is one lead without an id.
fn leads_of_damaged(post: &PossibleOptOut, known: &[LeadId]) -> BTreeSet<LeadId> {
    let mut leads = BTreeSet::new();
    if let Some(own) = &post.lead {
        let found = meant(&own.id, std::slice::from_ref(&own.client_id), known);
        leads.extend(if found.is_empty() { vec![own] } else { found }.into_iter().cloned());
    }
    // If the object names a known lead, the ids nested in it belong to other leads.
    let is_known =
        post.lead.as_ref().is_some_and(|own| !meant(&own.id, std::slice::from_ref(&own.client_id), known).is_empty());
    let nested = post.named.nested.iter().filter(|_| !is_known);
    for id in post.named.ids.iter().chain(nested) {
        let found = meant(id, &post.named.client_ids, known);
        if found.is_empty() {
            let client_ids = post.named.client_ids.iter().cloned().chain([String::new()]);
            leads.extend(client_ids.map(|client_id| LeadId { id: id.clone(), client_id }));
        }
        leads.extend(found.into_iter().cloned());
    }
    // By an e-mail address alone, if the post names no lead otherwise.
    leads.extend(post.by_email.iter().cloned());
    if leads.is_empty() {
        leads.insert(LeadId::default());
    }
    leads
}

/// Further leads that a withdrawal may be about. If the withdrawal names no known lead, it waits for an operator without a lead;
/// its ledger entry counts once the CRM has a lead of that name.
fn leads_in_doubt(post: &PossibleOptOut, known: &[LeadId]) -> BTreeSet<LeadId> {
    let Some(own) = &post.lead else { return BTreeSet::new() };
    let client_ids = std::slice::from_ref(&own.client_id);
    let is_certain = known.contains(own) || only_lead(own, known).is_some();
    let mut leads = BTreeSet::new();
    if !is_certain {
        leads.extend(meant(&own.id, client_ids, known).into_iter().cloned());
    }
    for id in &post.named.ids {
        leads.extend(meant(id, client_ids, known).into_iter().cloned());
    }
    leads.remove(own);
    if leads.is_empty() && !is_certain {
        leads.insert(LeadId::default());
    }
    leads
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::conversica::consent_word::ConsentChannel;
    use crate::conversica::withdrawal::NamedLeads;

    fn lead(id: &str, client_id: &str) -> LeadId {
        LeadId { id: id.to_owned(), client_id: client_id.to_owned() }
    }

    #[test]
    fn an_id_within_a_post_names_a_lead_only_where_the_post_itself_names_none_that_is_known() {
        let named = NamedLeads { nested: vec!["2".to_owned()], ..NamedLeads::default() };
        let of = |own: &str| PossibleOptOut {
            event_seq: 1,
            lead: Some(lead(own, "")),
            named: named.clone(),
            by_email: Vec::new(),
            channels: vec![ConsentChannel::Email],
            unclear: Vec::new(),
            at: DateTime::UNIX_EPOCH,
        };
        let known = [lead("1", ""), lead("2", "")];
        let of = |own: &str| leads_of_damaged(&of(own), &known).into_iter().collect::<Vec<_>>();
        assert_eq!(of("1"), [lead("1", "")], "lead 2 is another person's");
        assert_eq!(of("9"), [lead("2", ""), lead("9", "")]);
    }

    fn in_doubt(own: LeadId, others: &[&str], known: &[LeadId]) -> Vec<LeadId> {
        let post = PossibleOptOut {
            event_seq: 1,
            lead: Some(own),
            named: NamedLeads { ids: others.iter().map(|id| (*id).to_owned()).collect(), ..NamedLeads::default() },
            by_email: Vec::new(),
            channels: vec![ConsentChannel::Email],
            unclear: Vec::new(),
            at: DateTime::UNIX_EPOCH,
        };
        leads_in_doubt(&post, known).into_iter().collect()
    }

    #[test]
    fn a_name_without_any_letter_or_digit_is_not_looked_for() {
        let post = |id: &str| PossibleOptOut {
            event_seq: 1,
            lead: Some(lead(id, "")),
            named: NamedLeads::default(),
            by_email: Vec::new(),
            channels: vec![ConsentChannel::Email],
            unclear: Vec::new(),
            at: DateTime::UNIX_EPOCH,
        };
        let folded =
            FoldedEvents { withdrawals: ["-", "?", "--", "7x", "1"].map(post).into(), ..FoldedEvents::default() };
        assert_eq!(unknown_names(&folded, &[lead("1", "")]), ["7x"]);
    }

    #[test]
    fn a_withdrawal_counts_for_its_lead_and_is_in_doubt_for_whatever_else_it_may_mean() {
        let known = [lead("1", "A"), lead("2", "A"), lead("2", "B"), lead("3", "A")];
        assert_eq!(in_doubt(lead("1", "A"), &[], &known), [], "to the letter");
        assert_eq!(in_doubt(lead("1", ""), &[], &known), [], "the only lead of that id");
        assert_eq!(in_doubt(lead("1", "a"), &[], &known), [lead("1", "A")]);
        assert_eq!(in_doubt(lead("1", "Acme Motors"), &[], &known), [lead("1", "A")]);
        assert_eq!(in_doubt(lead("2", ""), &[], &known), [lead("2", "A"), lead("2", "B")]);
        assert_eq!(in_doubt(lead("2", "b"), &[], &known), [lead("2", "B")]);
        assert_eq!(in_doubt(lead("003", "A"), &[], &known), [lead("3", "A")]);
        assert_eq!(in_doubt(lead("c0ffee", "A"), &["3"], &known), [lead("3", "A")], "leadId differs from id");
        assert_eq!(in_doubt(lead("1", "A"), &["3"], &known), [lead("3", "A")], "both are known");
        assert_eq!(in_doubt(lead("9", "A"), &["8"], &known), [LeadId::default()], "none is known");
    }
}
