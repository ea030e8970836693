//! `suppress import FILE`: one entry a line, in constant memory. Lines without a usable entry are skipped and named by their number.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::cli::context::{ExitCode, settings, writable_state};
use crate::cli::progress;
use crate::clock;
use crate::console::say;
use crate::error::SetupError;
use crate::rules::contact::{ContactFault, ContactPoint, LONGEST_CONTACT};
use crate::store::suppression::{self, ENTRIES_AT_ONCE};
use crate::wording::number;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Lines that are named; the others are counted.
const NAMED: u64 = 20;

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let (input, bytes) = open(&args.file)?;
    let state = writable_state(&loaded.settings).await?;
    let bar = progress::bar().map(|(bar, _)| bar);
    if let Some(bar) = &bar {
        bar.set_length(bytes);
        bar.set_message("bytes imported");
    }
    let mut lines = EntryLines { input: BufReader::new(input), number: 0, bytes: 0, line: Vec::new() };
    let (mut added, mut named, mut bad) = (0, 0, 0);
    loop {
        let mut batch = Vec::with_capacity(ENTRIES_AT_ONCE);
        while batch.len() < ENTRIES_AT_ONCE
            && let Some(entry) = lines.next_entry().map_err(|error| unreadable(&args.file, &error))?
        {
            match entry {
                Ok(point) => batch.push(point),
                Err(fault) => {
                    bad += 1;
                    if bad <= NAMED {
                        say(format_args!("Line {} is skipped: it {}.", number(lines.number), fault.in_words()));
                    }
                }
            }
        }
        if batch.is_empty() {
            break;
        }
        named += batch.len() as u64;
        added += suppression::add(&state, &batch, clock::now()).await?;
        if let Some(bar) = &bar {
            bar.set_position(lines.bytes);
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    if bad > NAMED {
        say(format_args!("… and {} more lines.", number(bad - NAMED)));
    }
    say(format_args!(
        "{} entries read, {} new on the list, {} lines skipped. The next pass applies it.",
        number(named),
        number(added),
        number(bad)
    ));
    Ok(if bad > 0 { ExitCode::Attention } else { ExitCode::Done })
}

fn open(file: &Path) -> Result<(Box<dyn Read + Send>, u64), SetupError> {
    if file == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), 0));
    }
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    let bytes = opened.metadata().map_or(0, |found| found.len());
    Ok((Box::new(opened), bytes))
}

fn unreadable(file: &Path, error: &std::io::Error) -> SetupError {
    SetupError::new(
        format!("{} cannot be read: {error}", file.display()),
        "name a file that exists and that you may read",
    )
}

/// The entries of a file.
struct EntryLines<R> {
    input: BufReader<R>,
    /// The number of the present line, from 1.
    number: u64,
    bytes: u64,
    /// The beginning of the present line: no entry is longer.
    line: Vec<u8>,
}

impl<R: Read> EntryLines<R> {
    /// The next line that is not blank and no comment (`#`); `None` at the end.
    fn next_entry(&mut self) -> std::io::Result<Option<Result<ContactPoint, ContactFault>>> {
        while self.read_line()? {
            let Ok(text) = std::str::from_utf8(&self.line) else { return Ok(Some(Err(ContactFault::NotText))) };
            let text = text.trim_start_matches('\u{feff}').trim();
            let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(Some(ContactPoint::parse(text)));
            }
        }
        Ok(None)
    }

    /// Reads the next line, without what goes beyond the longest entry.
    fn read_line(&mut self) -> std::io::Result<bool> {
        self.line.clear();
        let mut is_any = false;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                self.number += u64::from(is_any);
                return Ok(is_any);
            }
            is_any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let read = end.map_or(buffer.len(), |end| end + 1);
            let room = (4 * LONGEST_CONTACT).saturating_sub(self.line.len());
            self.line.extend(&buffer[..end.unwrap_or(read).min(room)]);
            self.input.consume(read);
            self.bytes += read as u64;
            if end.is_some() {
                self.number += 1;
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_entry_and_a_bad_one_is_known_by_its_number() {
        let long = "x".repeat(100_000);
        let text = format!("\u{feff}ann@example.com\r\n\n# no more\n\"+1 555 867 5309\"\n{long}\nnobody\nexample.com");
        let mut bytes = text.into_bytes();
        bytes.extend(b"\n\xff\xfe@x.com\n");
        let mut lines = EntryLines { input: BufReader::new(bytes.as_slice()), number: 0, bytes: 0, line: Vec::new() };
        let mut found = Vec::new();
        while let Some(entry) = lines.next_entry().unwrap() {
            found.push((lines.number, entry.map(|point| point.text)));
        }
        let expected = [
            (1, Ok("ann@example.com".to_owned())),
            (4, Ok("+15558675309".to_owned())),
            (5, Err(ContactFault::TooLong)),
            (6, Err(ContactFault::NotADomain)),
            (7, Ok("example.com".to_owned())),
            (8, Err(ContactFault::NotText)),
        ];
        assert_eq!(found, expected);
        assert_eq!(lines.bytes, bytes.len() as u64);
    }
}
