//! The place where posts are stored.

use crate::store::file_lock::StateFile;
use crate::store::state_db::StateDb;

/// The state and its file, for storing posts.
#[derive(Debug, Clone)]
pub struct PostStore {
    pub db: StateDb,
    /// Posts that were stored in a lost file must not be acknowledged.
    pub file: StateFile,
}
