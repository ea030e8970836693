//! `--output FILE`: a document about people. The file appears only when it is complete, and only its owner may read it.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::SetupError;

/// Standard output, or a file.
pub enum OutputTarget {
    Standard(BufWriter<std::io::Stdout>),
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl OutputTarget {
    pub fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(OutputTarget::Standard(BufWriter::new(std::io::stdout()))) };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let begun = NamedTempFile::new_in(folder).map_err(|error| cannot_write(file, &error))?;
        Ok(OutputTarget::File(BufWriter::new(begun), file.to_owned()))
    }

    pub fn writer(&mut self) -> &mut (dyn Write + Send) {
        match self {
            OutputTarget::Standard(out) => out,
            OutputTarget::File(out, _) => out,
        }
    }

    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            // The reader of the output may close it early.
            OutputTarget::Standard(mut out) => drop(out.flush()),
            OutputTarget::File(out, file) => {
                let begun = out.into_inner().map_err(|error| cannot_write(&file, error.error()))?;
                begun.persist(&file).map_err(|error| cannot_write(&file, &error.error))?;
            }
        }
        Ok(())
    }
}

fn cannot_write(file: &Path, error: &std::io::Error) -> SetupError {
    SetupError::new(
        format!("--output: {} cannot be written: {error}", file.display()),
        "name a file in a folder that exists, that you may write to, and that has room",
    )
}
