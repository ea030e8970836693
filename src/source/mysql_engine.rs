//! Tables that a MySQL or MariaDB source reads, and those of storage engines without snapshots among them.

use sqlx::MySqlPool;

use crate::config::SourceSettings;
use crate::db::discreet;
use crate::source::{columns, mysql};

/// A table, and its storage engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnversionedTable {
    pub name: String,
    pub engine: String,
}

/// Every table that the user sees and that is of such an engine.
const UNVERSIONED: &str = "select table_name, engine from information_schema.tables \
     where table_type = 'BASE TABLE' and engine in ('MyISAM', 'Aria', 'MEMORY', 'CSV', 'MRG_MyISAM', 'ARCHIVE') \
     and table_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema') order by 1";

/// Every table that the user sees.
const ALL: &str = "select table_name, coalesce(engine, '') from information_schema.tables \
     where table_type = 'BASE TABLE' and table_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema') order by 1";

/// The tables of the source: those that occur in the statement, or below its views. A server leaves empty tables out.
///
/// # Errors
/// The database's, in words without data.
pub async fn tables_read(pool: &MySqlPool, source: &SourceSettings) -> Result<Vec<String>, sqlx::Error> {
    let found = read(pool, &columns::from_clause(source), ALL).await.map_err(discreet::of_source)?;
    Ok(found.into_iter().map(|table| table.name).collect())
}

/// Those of them that occur in the statement, or in the server's own version of it, which has the tables below a view. A server
/// leaves empty tables out of its version.
///
/// # Errors
/// The database's, in words without data.
pub async fn unversioned_tables(
    pool: &MySqlPool,
    source: &SourceSettings,
) -> Result<Vec<UnversionedTable>, sqlx::Error> {
    read(pool, &columns::from_clause(source), UNVERSIONED).await.map_err(discreet::of_source)
}

async fn read(pool: &MySqlPool, from: &str, known: &str) -> Result<Vec<UnversionedTable>, sqlx::Error> {
    let mut connection = mysql::acquire(pool).await?;
    let known = mysql::texts_within(&mut connection, known.to_owned()).await?;
    if known.is_empty() {
        return Ok(Vec::new());
    }
    // MariaDB writes its version down only when asked, with a keyword that MySQL no longer has. Neither shows a user the inside of a view
    // without the right to.
    let explain = format!("explain /*M! extended */ select t.* from {from} limit 1");
    let notes = match mysql::texts_within(&mut connection, explain).await {
        Ok(_) => mysql::texts_within(&mut connection, "show warnings".to_owned()).await?,
        Err(sqlx::Error::Database(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let notes: Vec<String> = notes.into_iter().filter_map(|note| note.into_iter().nth(2).flatten()).collect();
    let text = format!("{from} {}", notes.join(" "));
    let table = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().flatten();
        Some(UnversionedTable { name: row.next()?, engine: row.next()? })
    };
    Ok(known.into_iter().filter_map(table).filter(|table| is_word_of(&text, &table.name)).collect())
}

/// Whether a statement contains the name, and not as part of a longer one.
fn is_word_of(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let is_letter = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(&name)
        .any(|(at, found)| !text[..at].ends_with(is_letter) && !text[at + found.len()..].starts_with(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_word_of_the_statement() {
        assert!(is_word_of("select * from `crm`.`Leads` as t", "leads"));
        assert!(is_word_of("select * from leads", "leads"));
        assert!(!is_word_of("select * from old_leads, leads2", "leads"));
    }
}
