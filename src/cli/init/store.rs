//! Writes the configuration: a file for this user alone, which replaces no file without --force.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::init::args::Args;
use crate::cli::init::kept::{InitSource, UrlStorage, absolute};
use crate::error::SetupError;

/// The configuration file, and the files that it names.
pub struct ConfigTarget {
    /// The configuration, as the operator named it.
    pub file: PathBuf,
    /// For a URL with a secret in it.
    pub url_file: PathBuf,
    pub password_file: PathBuf,
    pub state_url: String,
    force: bool,
}

impl ConfigTarget {
    /// # Errors
    /// [`SetupError`] where the file is there already, or its directory is not.
    pub fn new(args: &Args, config: Option<&Path>) -> Result<Self, SetupError> {
        let file = args.output.as_deref().or(config).unwrap_or(Path::new("conversica-sync.toml")).to_owned();
        let full = absolute(&file);
        let directory = full.parent().unwrap_or(Path::new("/")).to_owned();
        if !directory.is_dir() {
            let what = format!("{}: there is no directory {}", file.display(), directory.display());
            return Err(SetupError::new(what, "make it, or name another file with --output"));
        }
        let target = Self {
            url_file: directory.join("conversica_source_url"),
            password_file: args
                .password_file
                .as_deref()
                .map_or_else(|| directory.join("conversica_password"), absolute),
            state_url: args.state.clone().unwrap_or_else(|| state_url(&directory)),
            force: args.force,
            file,
        };
        target.refuse_existing(&target.file)?;
        Ok(target)
    }

    /// # Errors
    /// [`SetupError`] where a file is there already, or cannot be written.
    pub fn write(&self, text: &str, source: &InitSource) -> Result<(), SetupError> {
        if matches!(source.kept, UrlStorage::NewFile) {
            self.put(&self.url_file, &format!("{}\n", source.url))?;
        }
        self.put(&self.file, text)
    }

    fn refuse_existing(&self, file: &Path) -> Result<(), SetupError> {
        if self.force || !file.exists() {
            return Ok(());
        }
        Err(SetupError::new(
            format!("{} is there already, and is left as it is", file.display()),
            "name another file with --output, or replace it with --force",
        ))
    }

    /// Whole or not at all, and readable for this user only from the first byte: the temporary file has mode 0600.
    fn put(&self, file: &Path, text: &str) -> Result<(), SetupError> {
        self.refuse_existing(file)?;
        let full = absolute(file);
        let directory = full.parent().unwrap_or(Path::new("/"));
        let failed = |error: std::io::Error| {
            let what = format!("{} cannot be written: {error}", file.display());
            SetupError::new(what, "name a file in a directory that you may write, with --output")
        };
        let mut temporary =
            tempfile::Builder::new().prefix(".conversica-sync-").tempfile_in(directory).map_err(failed)?;
        temporary.write_all(text.as_bytes()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        let kept = if self.force { temporary.persist(&full) } else { temporary.persist_noclobber(&full) };
        kept.map(drop).map_err(|error| failed(error.error))
    }
}

/// The service's state directory, if the service is installed; else a file beside the configuration.
fn state_url(directory: &Path) -> String {
    let service = Path::new("/var/lib/conversica-sync");
    if service.is_dir() {
        format!("sqlite://{}/state.db", service.display())
    } else {
        format!("sqlite://{}/conversica-sync-state.db", directory.display())
    }
}
