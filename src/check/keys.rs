//! `check` of the source's key: whether every row has a key that names a lead, and no two rows share one.
//!
//! It reads the keys in order, so that equal ones are adjacent: in constant memory, and for a limited time.

use std::time::{Duration, Instant};

use crate::check::item::CheckItem;
use crate::console::printable;
use crate::db;
use crate::rules::line::{RowBatch, RowLine};
use crate::rules::read_scope::ReadScope;
use crate::send::merge::copies;
use crate::source::columns;
use crate::source::crm::ConnectedCrm;
use crate::source::read::PreparedReading;

const SECTION: &str = "source";
const NAME: &str = "key";
/// The time limit; after it the check reports what it has read so far.
const PATIENCE: Duration = Duration::from_secs(20);
/// Keys that the item lists.
const NAMED: usize = 5;

pub(super) async fn of_names(crm: &ConnectedCrm) -> anyhow::Result<Vec<CheckItem>> {
    let fitting = crm.fitting().await?;
    let started = Instant::now();
    let mut batches = PreparedReading::new(crm, &fitting, ReadScope::All).names_only().start(&crm.db);
    let mut found = KeyFindings::default();
    let first = || if fitting.has_unique_key { KeysCompared::FirstOfUnique } else { KeysCompared::First };
    let compared = loop {
        match tokio::time::timeout(PATIENCE.saturating_sub(started.elapsed()), batches.next()).await {
            Ok(Ok(Some(batch))) => found.add(batch),
            Ok(Ok(None)) => break KeysCompared::All,
            Ok(Err(error)) if db::is_outage(&error) => break first(),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => break first(),
        }
    };
    found.end();
    Ok(found.items(crm, compared))
}

/// Which keys were compared before the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeysCompared {
    All,
    /// The first ones; the database itself sees to it that no two are the same.
    FirstOfUnique,
    First,
}

/// Findings in the keys read so far.
#[derive(Default)]
struct KeyFindings {
    rows: u64,
    without_key: u64,
    broken: u64,
    unfit: u64,
    /// The last batch; its last key may continue in the next one.
    last: RowBatch,
    /// Rows with that key so far.
    same: u64,
    repeated_keys: u64,
    repeated_rows: u64,
    first: Vec<String>,
}

impl KeyFindings {
    fn add(&mut self, batch: RowBatch) {
        let mut previous = std::mem::take(&mut self.last);
        for index in 0..batch.len() {
            let line = batch.line(index);
            self.rows += 1;
            if !self.is_named(line) {
                self.end_of(index.checked_sub(1).map(|before| batch.line(before)).or_else(|| last_of(&previous)));
                continue;
            }
            let before = index.checked_sub(1).map(|before| batch.line(before)).or_else(|| last_of(&previous));
            if self.same > 0 && before.is_some_and(|before| before.has_name_of(line)) {
                self.same += 1;
            } else {
                self.end_of(before);
                self.same = 1;
            }
        }
        if !batch.is_empty() {
            previous = batch;
        }
        self.last = previous;
    }

    fn end(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.end_of(last_of(&last));
    }

    /// Ends the run of rows with the key of that line.
    fn end_of(&mut self, line: Option<RowLine<'_>>) {
        if self.same > 1 {
            self.repeated_keys += 1;
            self.repeated_rows += self.same;
            if let Some(line) = line.filter(|_| self.first.len() < NAMED) {
                let (key, client) = line.key_and_client();
                let key = key.unwrap_or_default();
                let client = client.filter(|client| !client.is_empty());
                let of = client.map(|client| format!(" of client {}", printable(&client))).unwrap_or_default();
                self.first.push(format!("{}{of} ({} rows)", printable(&key), self.same));
            }
        }
        self.same = 0;
    }

    fn is_named(&mut self, line: RowLine<'_>) -> bool {
        if copies::named(line).is_some() {
            return true;
        }
        match line.key_and_client() {
            (None, _) => self.without_key += 1,
            _ if line.has_broken_name() => self.broken += 1,
            _ => self.unfit += 1,
        }
        false
    }

    fn items(self, crm: &ConnectedCrm, compared: KeysCompared) -> Vec<CheckItem> {
        let (place, key) = (columns::place(&crm.source), &crm.source.key);
        let mut items = Vec::new();
        if self.repeated_keys > 0 {
            let more = if self.repeated_keys > self.first.len() as u64 { ", …" } else { "" };
            let text = format!(
                "{place}: the key column \"{key}\" is not unique: {} rows share {} key(s), and make no valid lead: {}{more}",
                self.repeated_rows,
                self.repeated_keys,
                self.first.join(", ")
            );
            let cure = "remove the rows that are too many, choose a [source] key that is unique, add [source] client where each \
                        tenant counts for itself, or use [source] query with one row a lead";
            items.push(CheckItem::fail(SECTION, NAME, text).cure(cure));
        }
        let faults = [
            (self.without_key, "have no value in"),
            (self.broken, "are not valid UTF-8 text in"),
            (self.unfit, "are longer than 1,000 bytes or hold a NUL character in"),
        ];
        for (rows, fault) in faults.into_iter().filter(|(rows, _)| *rows > 0) {
            let text = format!(
                "{place}: {rows} row(s) {fault} the key column \"{key}\" (or the client): they are left out, and while there are \
                 such rows, no lead is taken for gone"
            );
            let cure = "a lead needs a key that stays the same: give those rows one, leave them out with [source] where, or \
                        choose another [source] key";
            items.push(CheckItem::fail(SECTION, NAME, text).cure(cure));
        }
        if items.is_empty() {
            let rows = self.rows;
            items.push(match compared {
                KeysCompared::All => CheckItem::ok(SECTION, NAME, "every row has a key, and no two rows the same"),
                KeysCompared::FirstOfUnique => {
                    CheckItem::ok(SECTION, NAME, format!("the key is unique; the first {rows} keys can be used"))
                }
                KeysCompared::First => {
                    let text =
                        format!("not all keys could be compared in time: of the first {rows}, no two are the same");
                    CheckItem::warn(SECTION, NAME, text)
                        .cure("create a unique index on the key, where the source is a table")
                }
            });
        }
        items
    }
}

fn last_of(batch: &RowBatch) -> Option<RowLine<'_>> {
    batch.len().checked_sub(1).map(|last| batch.line(last))
}
