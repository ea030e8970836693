//! A page of leads as one value that the database builds. If a million leads are read row by row, both drivers spend more time on
//! them than on the rest of a full compare without changes.

use std::collections::VecDeque;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::conversica::lead::{LeadId, RowHash};
use crate::rules::hold_reason::HoldReason;
use crate::store::state_db::StateDb;

/// Leads in the format of [`column()`].
#[derive(Debug)]
pub(crate) struct PackedLeads(pub VecDeque<ComparedLead>);

/// The expression to select from rows that have `id`, `client_id`, `row_hash`, `gone_at` and `hold_reason`. It leaves the hash
/// out if an operator or a later compare has to check the lead.
pub(crate) fn column(db: &StateDb) -> String {
    let shrank = format!("coalesce(hold_reason, '') = '{}'", HoldReason::SourceShrank.name());
    let hash = format!("case when gone_at is null and not ({shrank}) then row_hash end");
    let gone = format!("gone_at is not null and not ({shrank})");
    match db {
        StateDb::Sqlite(_) => format!(
            "string_agg(octet_length(id) || ' ' || octet_length(client_id) || ' ' || coalesce({hash}, '-') \
             || case when {gone} then ' - ' else ' . ' end || id || client_id, '')"
        ),
        // Formatting numbers as text would cost several times as much.
        StateDb::Postgres(_) => format!(
            "string_agg(int8send(octet_length(id) * {ID}::bigint + octet_length(client_id) * {CLIENT} \
             + case when {gone} then {GONE} else 0 end + case when ({hash}) is null then {UNHASHED} else 0 end) \
             || int8send(coalesce(row_hash, 0)) || textsend(id || client_id), '')"
        ),
    }
}

// The first number of a lead in PostgreSQL's form: the bytes of its id and its client, and two flags.
const ID: u64 = 1 << 32;
const CLIENT: u64 = 4;
const GONE: u64 = 2;
const UNHASHED: u64 = 1;

impl FromRow<'_, SqliteRow> for PackedLeads {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let text: Option<&str> = row.try_get(0)?;
        of_text(text.unwrap_or_default()).map(Self).ok_or_else(not_in_form)
    }
}

impl FromRow<'_, PgRow> for PackedLeads {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let bytes: Option<&[u8]> = row.try_get(0)?;
        of_bytes(bytes.unwrap_or_default()).map(Self).ok_or_else(not_in_form)
    }
}

fn not_in_form() -> sqlx::Error {
    sqlx::Error::Decode("a page of leads is not in its own form".into())
}

/// `7 0 -12345 . lead-42` and so on, without separators.
fn of_text(mut text: &str) -> Option<VecDeque<ComparedLead>> {
    let mut page = VecDeque::with_capacity(text.len() / 40);
    while !text.is_empty() {
        let mut parts = text.splitn(5, ' ');
        let (id, client): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (hash, state, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let gone = state == "-";
        let row_hash = if hash == "-" { None } else { Some(RowHash(hash.parse().ok()?)) };
        let lead = LeadId { id: rest.get(..id)?.to_owned(), client_id: rest.get(id..id + client)?.to_owned() };
        page.push_back(ComparedLead { lead, row_hash, gone });
        text = rest.get(id + client..)?;
    }
    Some(page)
}

/// For each lead two big-endian numbers of eight bytes, lengths with flags and the hash, then id and client.
fn of_bytes(mut bytes: &[u8]) -> Option<VecDeque<ComparedLead>> {
    let mut page = VecDeque::with_capacity(bytes.len() / 24);
    while !bytes.is_empty() {
        let (lengths, rest) = bytes.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let lengths = u64::from_be_bytes(*lengths);
        let (id, rest) = rest.split_at_checked(usize::try_from(lengths / ID).ok()?)?;
        let (client, rest) = rest.split_at_checked(usize::try_from(lengths % ID / CLIENT).ok()?)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let row_hash = (lengths & UNHASHED == 0).then(|| RowHash(i64::from_be_bytes(*hash)));
        let lead = LeadId { id: text(id)?, client_id: text(client)? };
        page.push_back(ComparedLead { lead, row_hash, gone: lengths & GONE != 0 });
        bytes = rest;
    }
    Some(page)
}

/// The facts of a lead that a full compare needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedLead {
    pub lead: LeadId,
    /// The hash of the row that made its content; `None` if the compare has to map the row again.
    pub row_hash: Option<RowHash>,
    /// An earlier compare found the row missing, and nothing remains to be done.
    pub gone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(page: &VecDeque<ComparedLead>) -> Vec<(&str, &str, Option<RowHash>, bool)> {
        page.iter().map(|it| (it.lead.id.as_str(), it.lead.client_id.as_str(), it.row_hash, it.gone)).collect()
    }

    const EXPECTED: [(&str, &str, Option<RowHash>, bool); 3] =
        [("7a", "", Some(RowHash(-77)), false), ("é8", " n3", None, true), ("x y", "", None, false)];

    #[test]
    fn a_page_of_text_is_read_whatever_the_keys_are() {
        let page = of_text("2 0 -77 . 7a3 3 - - é8 n33 0 - . x y").unwrap();
        assert_eq!(leads(&page), EXPECTED);
        assert_eq!(of_text("7 0 - . a"), None);
    }

    #[test]
    fn a_page_of_bytes_is_read_whatever_the_keys_are() {
        let mut bytes = Vec::new();
        for (id, client, hash, gone) in EXPECTED {
            let flags = if gone { GONE } else { 0 } + if hash.is_none() { UNHASHED } else { 0 };
            let lengths = id.len() as u64 * ID + client.len() as u64 * CLIENT + flags;
            bytes.extend(lengths.to_be_bytes());
            bytes.extend(hash.map_or(5, |hash| hash.0).to_be_bytes());
            bytes.extend(id.bytes().chain(client.bytes()));
        }
        assert_eq!(leads(&of_bytes(&bytes).unwrap()), EXPECTED);
        assert_eq!(of_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(of_bytes(&bytes[..20]), None);
    }
}
