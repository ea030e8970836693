//! Where the secrets of a new configuration are kept.

use std::path::Path;
use std::path::PathBuf;

/// Where the URL stays.
pub enum UrlStorage {
    /// In the configuration: there is no secret in it.
    Config,
    /// In a file that is there already.
    File(PathBuf),
    /// In a file of its own, which is written with the configuration: there is a secret in it.
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
