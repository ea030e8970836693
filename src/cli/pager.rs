//! Long texts: buffered until the text above them is known, and shown through `$PAGER` on a terminal.

use std::ffi::OsString;
use std::io::{IsTerminal, Seek, Write};
use std::process::{Child, Command, Stdio};

use tempfile::SpooledTempFile;
use tokio::signal::unix::{SignalKind, signal};

/// Up to this size in memory, and beyond it in an unnamed file.
const IN_MEMORY: usize = 1024 * 1024;
/// No reader reads more, and the text must not fill a disk.
const MOST: u64 = 256 * 1024 * 1024;

/// A text that is written piece by piece and shown later.
pub struct BufferedText {
    text: SpooledTempFile,
    bytes: u64,
}

impl Default for BufferedText {
    fn default() -> Self {
        Self { text: SpooledTempFile::new(IN_MEMORY), bytes: 0 }
    }
}

impl BufferedText {
    /// Adds a piece; returns whether there was room for it.
    ///
    /// # Errors
    /// The temporary file's.
    pub fn add(&mut self, piece: &str) -> std::io::Result<bool> {
        if self.bytes + piece.len() as u64 > MOST {
            return Ok(false);
        }
        self.text.write_all(piece.as_bytes())?;
        self.bytes += piece.len() as u64;
        Ok(true)
    }

    /// Shows the buffered text between `above` and `below`.
    ///
    /// # Errors
    /// The temporary file's. A reader that closes the output early causes no error.
    pub fn show(mut self, above: &str, below: &str, pager: Option<TextPager>) -> std::io::Result<()> {
        let Some(mut pager) = pager.and_then(TextPager::start) else {
            return self.write(above, below, std::io::stdout());
        };
        if let Some(input) = pager.stdin.take() {
            self.write(above, below, input)?;
        }
        // The codes by which a shell reports that it cannot run the program.
        match pager.wait()?.code() {
            Some(126 | 127) => self.write(above, below, std::io::stdout()),
            _ => Ok(()),
        }
    }

    fn write(&mut self, above: &str, below: &str, mut out: impl Write) -> std::io::Result<()> {
        self.text.rewind()?;
        let written = out
            .write_all(above.as_bytes())
            .and_then(|()| std::io::copy(&mut self.text, &mut out))
            .and_then(|_| out.write_all(below.as_bytes()))
            .and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

/// The program that shows a long text page by page.
#[derive(Debug, PartialEq, Eq)]
pub struct TextPager(Option<OsString>);

impl TextPager {
    /// The pager in `$PAGER`, or `less -FRX`; `None` without a terminal or with an empty `$PAGER`.
    pub fn of_terminal() -> Option<Self> {
        if std::io::stdout().is_terminal() { Self::named(std::env::var_os("PAGER")) } else { None }
    }

    fn named(pager: Option<OsString>) -> Option<Self> {
        match pager {
            Some(name) if name.to_str().is_some_and(|name| name.trim().is_empty() || name.trim() == "cat") => None,
            pager => Some(Self(pager)),
        }
    }

    fn start(self) -> Option<Child> {
        let mut command = match self.0 {
            Some(line) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(line);
                shell
            }
            None => {
                let mut less = Command::new("less");
                less.arg("-FRX");
                less
            }
        };
        // Ctrl-C goes to all processes of the terminal. The pager handles it; if we ended, the pager would stay behind.
        let _ours = signal(SignalKind::interrupt());
        command.stdin(Stdio::piped()).spawn().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_pager_and_cat_are_none() {
        assert_eq!(TextPager::named(None), Some(TextPager(None)));
        for none in ["", " ", "cat"] {
            assert_eq!(TextPager::named(Some(none.into())), None);
        }
        assert_eq!(TextPager::named(Some("more -d".into())), Some(TextPager(Some("more -d".into()))));
    }
}
