//! Resumes an interrupted full compare where it stopped: otherwise a daemon that restarts, or a source that is sometimes
//! unreachable, would never get through ten million rows.
//!
//! It resumes only if all rows before the mark are decided and on disk, with the cursor of its own beginning, and only for as
//! long as a compare stays valid. An operator who asks for a compare gets a whole one. Rows before the mark may have changed
//! since: if the rest misses many leads, the poll compares everything again.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::rules::cursor::NewestStamp;
use crate::rules::read_scope::ReadScope;
use crate::rules::settled::SettledMoment;
use crate::send::merge::RowMerge;
use crate::store::control::CompareMark;

/// Rows between two marks: some seconds.
const MARK_ROWS: u64 = 50_000;

/// The progress of a full compare, written now and then.
pub(crate) struct CompareProgress {
    mark: CompareMark,
    /// Rows up to the last mark of this process.
    marked_rows: u64,
    is_full: bool,
}

/// The mark to resume from, if it fits this source and mapping and is recent enough.
pub(crate) fn fresh(
    mark: Option<CompareMark>,
    source: &str,
    mapping: &str,
    interval: Duration,
    now: DateTime<Utc>,
) -> Option<CompareMark> {
    mark.filter(|mark| {
        let age = (now - mark.began_at).to_std().unwrap_or(Duration::MAX);
        mark.source == source && mark.mapping == mapping && age < interval
    })
}

/// The scope of the rest of a full compare.
pub(crate) fn scope(mark: &CompareMark) -> ReadScope {
    ReadScope::From(mark.order, LeadId { id: mark.id.clone(), client_id: mark.client_id.clone() })
}

/// What a mark holds for: the source and mapping that are compared, and the moment up to which everything is committed.
pub struct MarkBasis<'a> {
    pub source: &'a str,
    pub mapping: &'a str,
    pub settled: &'a SettledMoment,
}

impl CompareProgress {
    /// `earlier` is the mark that this compare resumes from, if any.
    pub fn new(merge: &RowMerge<'_>, earlier: Option<CompareMark>, basis: &MarkBasis<'_>, now: DateTime<Utc>) -> Self {
        let begun = || CompareMark {
            source: basis.source.to_owned(),
            mapping: basis.mapping.to_owned(),
            order: merge.order(),
            id: String::new(),
            client_id: String::new(),
            began_at: now,
            newest: merge.newest().cloned(),
            settled: basis.settled.clone(),
            rows: 0,
            unnamed: 0,
        };
        let mark = earlier.filter(|_| merge.is_resumed()).unwrap_or_else(begun);
        Self { mark, marked_rows: 0, is_full: merge.is_full() }
    }

    /// Whether every row of the source is read.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Rows, including those before the mark.
    pub fn rows(&self, merge: &RowMerge<'_>) -> u64 {
        self.mark.rows + merge.rows()
    }

    /// Rows whose key names no lead, including those before the mark.
    pub fn unnamed(&self, merge: &RowMerge<'_>) -> u64 {
        self.mark.unnamed + merge.unnamed()
    }

    /// The value from the beginning of the compare.
    pub fn newest(&self) -> Option<NewestStamp> {
        self.mark.newest.clone()
    }

    /// The value from the beginning of the compare.
    pub fn settled(&self) -> SettledMoment {
        self.mark.settled.clone()
    }

    pub fn is_marked(&self) -> bool {
        self.marked_rows > 0
    }

    pub fn began_at(&self) -> DateTime<Utc> {
        self.mark.began_at
    }

    /// The position to record, once enough rows lie behind it.
    pub fn due(&mut self, merge: &RowMerge<'_>) -> Option<CompareMark> {
        if merge.rows() < self.marked_rows + MARK_ROWS {
            return None;
        }
        self.reached(merge)
    }

    /// The position so far, for a compare that cannot go on now.
    pub fn reached(&mut self, merge: &RowMerge<'_>) -> Option<CompareMark> {
        if !self.is_full {
            return None;
        }
        let lead = merge.position()?;
        self.marked_rows = merge.rows();
        let (rows, unnamed) = (self.rows(merge), self.unnamed(merge));
        Some(CompareMark { id: lead.id.clone(), client_id: lead.client_id.clone(), rows, unnamed, ..self.mark.clone() })
    }
}
