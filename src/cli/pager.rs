//! Long texts: kept aside until what stands above them is known, and shown through `$PAGER` on a terminal.

use std::ffi::OsString;
use std::io::{IsTerminal, Seek, Write};
use std::process::{Child, Command, Stdio};

use tempfile::SpooledTempFile;
use tokio::signal::unix::{SignalKind, signal};

/// Kept in memory up to this, and beyond it in a file without a name.
const IN_MEMORY: usize = 1024 * 1024;
/// Nobody reads more; a disk should not be filled with it.
const MOST: u64 = 256 * 1024 * 1024;

/// A text that is written piece by piece, and shown later.
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
    /// Adds a piece; whether there was room for it.
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

    /// Shows what was put aside between `above` and `below`.
    ///
    /// # Errors
    /// The temporary file's. Whoever reads may stop reading: that is none.
    pub fn show(mut self, above: &str, below: &str, pager: Option<TextPager>) -> std::io::Result<()> {
        let Some(mut pager) = pager.and_then(TextPager::start) else {
            return self.write(above, below, std::io::stdout());
        };
        if let Some(input) = pager.stdin.take() {
            self.write(above, below, input)?;
        }
        // As a shell says that there is no such program.
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
    /// The one that `$PAGER` names, or `less -FRX`; none where nobody would see it, or nobody wants it.
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
        // Ctrl-C is the pager's: it comes to all processes of the terminal, and would leave the pager behind without us.
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
