//! The write-back to MySQL and MariaDB: what the other engines do in another way. There no table can be made and unmade in a
//! transaction, and an insert does not tell which of its rows are new.

use std::collections::HashSet;

use sqlx::{Connection as _, Executor as _, MySqlConnection, MySqlPool};

use crate::conversica::post::PostKind;
use crate::db::trusted;
use crate::source::mysql;
use crate::source::writeback::ddl::{self, MARKER, WritebackDesign, WritebackTable};
use crate::source::writeback::failure::WriteFailure;
use crate::source::writeback::statements::{EventStatements, PreparedStatement, ReadyStatements, preparing};

/// Whether missing tables are made, or only the right to make them is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingTables {
    Make,
    Tell,
}

/// The names of the tables that are missing, or were until now.
///
/// # Errors
/// [`WriteFailure`] where a table cannot be made or written.
pub(crate) async fn prepare_tables(
    pool: &MySqlPool,
    design: &WritebackDesign,
    probes: Vec<(&'static str, String)>,
    then: MissingTables,
) -> Result<Vec<String>, WriteFailure> {
    let unfit = |doing: String| move |error| WriteFailure::unfit(doing, error);
    let mut connection = pool.acquire().await.map_err(unfit("connecting".to_owned()))?;
    let mut missing = Vec::new();
    for table in &design.tables {
        if is_there(&mut connection, design, table).await.map_err(unfit("looking for the tables".to_owned()))? {
            continue;
        }
        missing.push(table.name.to_owned());
        let create = unfit(format!("creating the table {}", design.quoted(table.name)));
        match then {
            MissingTables::Make => {
                for sql in design.create(table) {
                    connection.execute(sqlx::raw_sql(trusted(sql))).await.map_err(create.clone())?;
                }
            }
            MissingTables::Tell => expect_right_to_create(&mut connection, design).await.map_err(create)?,
        }
    }
    for (table, sql) in probes {
        if then == MissingTables::Tell && missing.iter().any(|name| name == table) {
            continue;
        }
        let probe = unfit(format!("writing to the table {}", design.quoted(table)));
        let mut transaction = connection.begin().await.map_err(probe.clone())?;
        sqlx::query(trusted(sql))
            .bind("[]")
            .persistent(false)
            .execute(&mut *transaction)
            .await
            .map_err(probe.clone())?;
        transaction.rollback().await.map_err(probe)?;
    }
    Ok(missing)
}

async fn is_there(
    connection: &mut MySqlConnection,
    design: &WritebackDesign,
    table: &WritebackTable,
) -> Result<bool, sqlx::Error> {
    let schema = design.schema.as_deref().map_or_else(|| "database()".to_owned(), |name| design.engine.literal(name));
    let sql = format!(
        "select count(*) from information_schema.tables where table_schema = {schema} and table_name = '{}'",
        table.name
    );
    let rows = mysql::texts_within(connection, sql).await?;
    Ok(rows.into_iter().flatten().flatten().next().is_some_and(|count| count != "0"))
}

/// Reads the user's grants, because making a table for a trial would leave it behind.
async fn expect_right_to_create(connection: &mut MySqlConnection, design: &WritebackDesign) -> Result<(), sqlx::Error> {
    let schema = match &design.schema {
        Some(schema) => schema.clone(),
        None => {
            let rows = mysql::texts_within(connection, "select database()".to_owned()).await?;
            rows.into_iter().flatten().flatten().next().unwrap_or_default()
        }
    };
    let grants = mysql::texts_within(connection, "show grants".to_owned()).await?;
    if grants.into_iter().flatten().flatten().any(|grant| allows_creation(&grant, &schema)) {
        return Ok(());
    }
    Err(sqlx::Error::Configuration("this user has no right to create tables there".into()))
}

/// Whether a line of `show grants` lets its user create tables in that database.
fn allows_creation(grant: &str, schema: &str) -> bool {
    let Some(grant) = grant.strip_prefix("GRANT ") else { return false };
    // A role, whose rights are not listed here.
    let Some((rights, place)) = grant.split_once(" ON ") else { return grant.starts_with('`') };
    let has_right = rights.split(',').any(|right| matches!(right.trim(), "ALL PRIVILEGES" | "ALL" | "CREATE"));
    let named = place.split(".*").next().unwrap_or_default().trim_matches('`').replace("\\_", "_");
    has_right && (place.starts_with("*.*") || named.eq_ignore_ascii_case(schema) || named.contains('%'))
}

/// Inserts the markers of the events that have none yet, and returns their keys. One instance writes at a time, by its lease.
///
/// # Errors
/// The database's.
pub(crate) async fn mark(
    connection: &mut MySqlConnection,
    design: &WritebackDesign,
    marks: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let wanted: Vec<serde_json::Value> = serde_json::from_str(marks).unwrap_or_default();
    let keys: Vec<&str> = wanted.iter().filter_map(|mark| mark["event_key"].as_str()).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let list = keys.iter().map(|key| design.engine.literal(key)).collect::<Vec<_>>().join(", ");
    let sql = format!("select event_key from {} where event_key in ({list}) for update", design.quoted(MARKER));
    let known: HashSet<String> = mysql::texts_within(connection, sql).await?.into_iter().flatten().flatten().collect();
    let fresh: Vec<String> = keys.into_iter().filter(|key| !known.contains(*key)).map(str::to_owned).collect();
    let insert = sqlx::query(trusted(design.write(&ddl::marker()))).bind(marks.to_owned());
    insert.persistent(false).execute(connection).await?;
    Ok(fresh)
}

/// As [`prepare_statements`], on a connection of the pool.
///
/// # Errors
/// [`WriteFailure`] for a statement that the server does not understand.
pub(crate) async fn prepare_alone(
    pool: &MySqlPool,
    statements: &EventStatements,
) -> Result<ReadyStatements, WriteFailure> {
    let mut connection = pool.acquire().await.map_err(|error| WriteFailure::unfit("connecting", error))?;
    prepare_statements(&mut connection, statements).await
}

/// Asks the server whether it understands the operator's statements, and runs none.
///
/// # Errors
/// [`WriteFailure`] for a statement that it does not understand.
pub(crate) async fn prepare_statements(
    connection: &mut MySqlConnection,
    statements: &EventStatements,
) -> Result<ReadyStatements, WriteFailure> {
    let mut ready = ReadyStatements::default();
    for (kind, ready) in PostKind::ALL.into_iter().zip(&mut ready) {
        for named in statements.of(kind) {
            let sql = named.with(|_| "?".to_owned());
            let prepared = connection.prepare(trusted(sql.clone())).await;
            prepared.map_err(|error| WriteFailure::unfit(preparing(kind, None), error))?;
            ready.push(PreparedStatement::of_places(sql, named.places()));
        }
    }
    let cleared = connection.clear_cached_statements().await;
    cleared.map_err(|error| WriteFailure::unfit("connecting", error))?;
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::dialect::SourceDialect;
    use crate::source::named;

    #[test]
    fn the_right_to_create_is_read_from_the_grants() {
        for grant in [
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`",
            "GRANT SELECT, CREATE ON `crm`.* TO `writer`@`%`",
            "GRANT CREATE ON `my\\_crm`.* TO `writer`@`%`",
            "GRANT `crm_owner`@`%` TO `writer`@`%`",
        ] {
            let schema = if grant.contains("my") { "my_crm" } else { "crm" };
            assert!(allows_creation(grant, schema), "{grant}");
        }
        for grant in [
            "GRANT USAGE ON *.* TO `writer`@`%`",
            "GRANT CREATE ON `other`.* TO `writer`@`%`",
            "GRANT SELECT, CREATE VIEW ON `crm`.* TO `writer`@`%`",
        ] {
            assert!(!allows_creation(grant, "crm"), "{grant}");
        }
    }

    #[test]
    fn statements_of_mysql_keep_their_quotes_comments_and_variables() {
        let sql = r#"update leads set a = 'it\'s :none', b = ":none", c = :status # :none
            where `:id` = :id and @x := 1 and d$e = 1"#;
        let read = named::parse(sql, SourceDialect::Mysql).expect("it is readable");
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].places(), ["status", "id"]);
        let text = read[0].with(|_| "?".to_owned());
        assert_eq!(text.matches('?').count(), 2, "{text}");
    }
}
