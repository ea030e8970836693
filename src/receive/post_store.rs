//! Where posts are stored.

use crate::store::file_lock::StateFile;
use crate::store::state_db::StateDb;

/// Where posts are stored.
#[derive(Debug, Clone)]
pub struct PostStore {
    pub db: StateDb,
    /// What is stored in a file that is gone must not be acknowledged.
    pub file: StateFile,
}
