//! Names rows of the table that do not fit `where`, and have changed recently: a soft delete, or another status.

use crate::conversica::lead::LeadId;
use crate::db::discreet;
use crate::rules::cursor::StampBound;
use crate::source::read::PreparedReading;
use crate::source::source_db::SourceDb;

/// Rows per poll, the newest first; a full compare sees all of them.
const ROWS: usize = 5000;

impl PreparedReading {
    /// The keys and clients of rows with such stamps outside the filter; those that name no lead are left out. Nothing where the
    /// source is no table with a filter, or has no stamps.
    ///
    /// # Errors
    /// The database's.
    pub async fn names_outside(&self, db: &SourceDb, bound: &StampBound) -> Result<Vec<LeadId>, sqlx::Error> {
        let source = &self.source;
        let (Some(table), Some(filter), Some(changed_at)) =
            (&source.table, &source.filter, &self.statements.changed_at)
        else {
            return Ok(Vec::new());
        };
        // The filter is on lines of its own, because it may end in a comment.
        let sql = format!(
            "select {} from {} as t where (\n{filter}\n) is not true and {} order by {} desc limit {ROWS}",
            self.statements.names_as_text(),
            db.dialect().quote_table(table),
            changed_at.since(bound),
            changed_at.expression
        );
        let width = if self.has_client { 2 } else { 1 };
        let rows = db.fetch_texts(sql, width).await.map_err(discreet::of_source)?;
        let lead = |row: Vec<Option<String>>| {
            let mut names = row.into_iter();
            let id = names.next().flatten()?;
            Some(LeadId { id, client_id: names.next().flatten().unwrap_or_default() })
        };
        let mut leads: Vec<LeadId> = rows.into_iter().filter_map(lead).collect();
        leads.sort();
        leads.dedup();
        Ok(leads)
    }
}
