//! The reader's rows: lines of text in the form of PostgreSQL's `COPY`, many in one buffer. Pure.
//!
//! Tabs separate fields; `\N` is NULL; tab, line feed, carriage return and backslash are escaped in a value. An unchanged row is
//! never parsed: only its key is read, and its text is hashed as it came.

use std::borrow::Cow;
use std::ops::Range;

use crate::rules::json;
use crate::rules::mapping::SourceRow;
use crate::rules::value_fault::LOST_CHARACTER;

const NULL: &[u8] = b"\\N";

/// Lines without their ends, one after another.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RowBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    has_client: bool,
}

impl RowBatch {
    pub fn new(has_client: bool) -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), has_client }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// An empty batch with room for about as many rows.
    pub fn successor(&self) -> Self {
        let bytes = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 8);
        Self { bytes, ends: Vec::with_capacity(self.ends.len()), has_client: self.has_client }
    }

    /// Adds a line in the form of `COPY`, with or without its end.
    pub fn push_line(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        self.ends.push(self.bytes.len());
    }

    /// Adds a value to the row that [`RowBatch::end_row`] ends; `None` for NULL.
    pub fn push_value(&mut self, value: Option<&[u8]>) {
        let from = self.ends.last().copied().unwrap_or(0);
        if self.bytes.len() > from {
            self.bytes.push(b'\t');
        }
        match value {
            None => self.bytes.extend_from_slice(NULL),
            // Otherwise a row whose first value is blank would look like one that has not begun.
            Some(b"") if self.bytes.len() == from => self.bytes.extend_from_slice(b"\\"),
            Some(value) if value.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b'\\')) => {
                for byte in value {
                    match byte {
                        b'\t' => self.bytes.extend_from_slice(b"\\t"),
                        b'\n' => self.bytes.extend_from_slice(b"\\n"),
                        b'\r' => self.bytes.extend_from_slice(b"\\r"),
                        b'\\' => self.bytes.extend_from_slice(b"\\\\"),
                        other => self.bytes.push(*other),
                    }
                }
            }
            Some(value) => self.bytes.extend_from_slice(value),
        }
    }

    pub fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub fn line(&self, index: usize) -> RowLine<'_> {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        RowLine { text: &self.bytes[Range { start: from, end: self.ends[index] }], has_client: self.has_client }
    }

    pub fn lines(&self) -> impl Iterator<Item = RowLine<'_>> {
        (0..self.len()).map(|index| self.line(index))
    }
}

/// One row, as text.
#[derive(Debug, Clone, Copy)]
pub struct RowLine<'a> {
    text: &'a [u8],
    has_client: bool,
}

impl<'a> RowLine<'a> {
    /// The key and the client; `None` for NULL. Bytes that are not UTF-8 are replaced.
    pub fn key_and_client(self) -> (Option<Cow<'a, str>>, Option<Cow<'a, str>>) {
        let mut fields = self.fields();
        let key = fields.next().and_then(value);
        let client = if self.has_client { fields.next().and_then(value) } else { None };
        (key, client)
    }

    /// Whether key or client are not valid UTF-8, so that their text differs from the database.
    pub fn has_broken_name(self) -> bool {
        let names = if self.has_client { 2 } else { 1 };
        self.fields().take(names).any(|field| std::str::from_utf8(field).is_err())
    }

    /// Whether both rows have the same key and client; no client and a blank one are the same.
    pub fn has_name_of(self, other: RowLine<'_>) -> bool {
        let mut names = self.fields().zip(other.fields());
        if names.next().is_none_or(|(a, b)| a != b) {
            return false;
        }
        let blank = |field: &[u8]| field == NULL || field.is_empty();
        !self.has_client || names.next().is_some_and(|(a, b)| a == b || blank(a) && blank(b))
    }

    /// A hash of the text with this salt. Equal rows have the same hash, and different rows hardly ever do.
    pub fn hash(self, salt: u64) -> i64 {
        twox_hash::XxHash3_64::oneshot_with_seed(salt, self.text).cast_signed()
    }

    /// Parses the row.
    pub fn row(self) -> SourceRow {
        let mut fields = self.fields().map(|field| value(field).map(Cow::into_owned));
        let key = fields.next().flatten();
        let client = if self.has_client { fields.next().flatten() } else { None };
        let mut cells: Vec<Option<String>> = fields.map(|cell| cell.map(json::scalar)).collect();
        let names = if self.has_client { 2 } else { 1 };
        for (cell, field) in cells.iter_mut().flatten().zip(self.fields().skip(names).filter(|field| *field != NULL)) {
            // The database itself has this character: the text is valid, and the original letter was lost earlier.
            if cell.contains(char::REPLACEMENT_CHARACTER) && std::str::from_utf8(field).is_ok() {
                *cell = cell.replace(char::REPLACEMENT_CHARACTER, LOST_CHARACTER);
            }
        }
        SourceRow { key, client, cells }
    }

    fn fields(self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split(|byte| *byte == b'\t')
    }
}

fn value(field: &[u8]) -> Option<Cow<'_, str>> {
    if field == NULL {
        return None;
    }
    if !field.contains(&b'\\') {
        return Some(String::from_utf8_lossy(field));
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some(b'b') => bytes.push(0x08),
                Some(b'f') => bytes.push(0x0c),
                Some(b'n') => bytes.push(b'\n'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b't') => bytes.push(b'\t'),
                Some(b'v') => bytes.push(0x0b),
                Some(other) => bytes.push(*other),
                None => {}
            },
            other => bytes.push(*other),
        }
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(rows: &[Vec<Option<String>>], has_client: bool) -> RowBatch {
        let mut batch = RowBatch::new(has_client);
        for row in rows {
            for value in row {
                batch.push_value(value.as_deref().map(str::as_bytes));
            }
            batch.end_row();
        }
        batch
    }

    #[test]
    fn what_postgresql_writes_is_read() {
        let mut batch = RowBatch::new(true);
        batch.push_line(b"7\tnorth\t\\N\ta\\tb\\\\c\\nd\\re\\vf\t\t\\\\N\n");
        let row = batch.line(0).row();
        assert_eq!((row.key.as_deref(), row.client.as_deref()), (Some("7"), Some("north")));
        let cells: Vec<_> = row.cells.iter().map(Option::as_deref).collect();
        assert_eq!(cells, [None, Some("a\tb\\c\nd\re\u{b}f"), Some(""), Some("\\N")]);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        let mut batch = RowBatch::new(false);
        batch.push_value(Some(b"1"));
        batch.push_value(Some(b"Mu\xfcller\\"));
        batch.end_row();
        assert_eq!(batch.line(0).row().cells, [Some("Mu\u{fffd}ller\\".to_owned())]);
    }

    #[test]
    fn rows_of_the_same_name_and_broken_names_are_found() {
        let text = |text: &str| Some(text.to_owned());
        let rows = [
            vec![text("7"), None, text("a")],
            vec![text("7"), text(""), text("b")],
            vec![text("7"), text("north"), None],
            vec![text("70"), None, None],
        ];
        let (with_client, without) = (batch(&rows, true), batch(&rows, false));
        let same = |batch: &RowBatch, a, b| batch.line(a).has_name_of(batch.line(b));
        assert_eq!(
            [same(&with_client, 0, 1), same(&with_client, 1, 2), same(&with_client, 0, 3)],
            [true, false, false]
        );
        assert_eq!([same(&without, 0, 2), same(&without, 2, 3)], [true, false]);
        let mut broken = RowBatch::new(true);
        for value in [&b"7"[..], b"M\xfcnchen", b"x", b"M\xfc", b"", b"x", b"7", b"", b"\xfc"] {
            broken.push_value(Some(value));
            if value == b"x" || value == b"\xfc" {
                broken.end_row();
            }
        }
        assert_eq!([0, 1, 2].map(|row| broken.line(row).has_broken_name()), [true, true, false]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            rows in proptest::collection::vec(proptest::collection::vec(proptest::option::of("[a\\\\\t\n\rNÄ\u{0}]{0,4}"), 3), 0..4),
            has_client: bool,
        ) {
            let batch = batch(&rows, has_client);
            let read: Vec<Vec<Option<String>>> = batch.lines().map(|line| {
                let row = line.row();
                let (key, client) = line.key_and_client();
                assert_eq!((key.as_deref(), client.as_deref()), (row.key.as_deref(), row.client.as_deref()));
                let client = if has_client { vec![row.client] } else { Vec::new() };
                [vec![row.key], client, row.cells].concat()
            }).collect();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn rows_that_differ_have_other_hashes(a in proptest::collection::vec(proptest::option::of("[\\\\\tN]{0,2}"), 3), b in proptest::collection::vec(proptest::option::of("[\\\\\tN]{0,2}"), 3)) {
            let batch = batch(&[a.clone(), b.clone()], false);
            prop_assert_eq!(batch.line(0).hash(1) == batch.line(1).hash(1), a == b);
            prop_assert_ne!(batch.line(0).hash(1), batch.line(0).hash(2));
        }
    }
}
