//! Where `init` keeps the secrets of a new configuration.

use std::path::Path;
use std::path::PathBuf;

/// The place of the URL.
pub enum UrlStorage {
    /// In the configuration: the URL has no secret.
    Config,
    /// In an existing file.
    File(PathBuf),
    /// In a new file beside the configuration: the URL has a secret.
    NewFile,
    /// In an environment variable.
    Environment,
}

/// The CRM database.
pub struct InitSource {
    pub url: String,
    pub kept: UrlStorage,
}

pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
