//! The tables in the CRM's database that the write-back fills, and the statements that make them and write to them. Pure:
//! text in, text out.
//!
//! Each statement takes its rows as one JSON array, whatever their number. The program runs exactly the script that `writeback
//! print` shows.

use crate::config::{ServiceSettings, WritebackMode};
use crate::conversica::lead;
use crate::conversica::post::PostKind;
use crate::db::{quote, table_parts};
use crate::source::dialect::{SourceDialect, mysql_table};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Boolean,
    Instant,
}

/// How a write treats a row that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingRow {
    Replace,
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritebackTable {
    pub name: &'static str,
    /// The columns of the primary key come first.
    pub columns: Vec<(String, ColumnType)>,
    key: usize,
    known: ExistingRow,
    /// Columns of a further index.
    index: &'static [&'static str],
}

/// The tables and their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritebackDesign {
    pub engine: SourceDialect,
    pub schema: Option<String>,
    pub tables: Vec<WritebackTable>,
}

/// A text in an index of MySQL, compared by its characters as they are. Longer ones are refused.
const INDEXED_TEXT: &str = "varchar(255) character set utf8mb4 collate utf8mb4_bin";

/// The rows of a JSON array on MySQL. Instants are in UTC, in the one form that they all have; JSON's `true` is taken as the text
/// that it is.
fn mysql_rows(table: &WritebackTable) -> String {
    let quote = |column: &str| SourceDialect::Mysql.quote(column);
    let columns: Vec<String> =
        table.columns.iter().map(|(column, _)| format!("{} longtext path '$.{column}'", quote(column))).collect();
    let value = |(column, kind): &(String, ColumnType)| match kind {
        ColumnType::Text => format!("r.{}", quote(column)),
        ColumnType::Boolean => format!("r.{0} in ('true', '1')", quote(column)),
        ColumnType::Instant => format!("cast(replace(replace(r.{}, 'T', ' '), 'Z', '') as datetime(3))", quote(column)),
    };
    let values: Vec<String> = table.columns.iter().map(value).collect();
    format!("select {} from json_table(?, '$[*]' columns ({})) as r", values.join(", "), columns.join(", "))
}

/// The table of events that have arrived, with `mode = "sql"`.
pub const MARKER: &str = "conversica_writeback";

/// `leadStatus` as a column: `lead_status`.
pub fn column_of(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

fn table(name: &'static str, key: usize, known: ExistingRow, columns: &[(&str, ColumnType)]) -> WritebackTable {
    let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    WritebackTable { name, columns, key, known, index: &[] }
}

fn type_of(kind: lead::ValueKind) -> ColumnType {
    match kind {
        lead::ValueKind::Text => ColumnType::Text,
        lead::ValueKind::Boolean => ColumnType::Boolean,
        lead::ValueKind::Datetime => ColumnType::Instant,
    }
}

/// One row per lead: the result of all its Lead Updates.
pub fn leads() -> WritebackTable {
    let mut leads = table(
        "conversica_leads",
        2,
        ExistingRow::Replace,
        &[("id", ColumnType::Text), ("client_id", ColumnType::Text)],
    );
    leads.columns.extend(PostKind::LeadUpdate.keys().iter().map(|(key, kind)| (column_of(key), type_of(*kind))));
    leads.columns.extend(
        [
            ("other_keys", ColumnType::Text),
            ("first_heard_at", ColumnType::Instant),
            ("last_heard_at", ColumnType::Instant),
        ]
        .map(|(name, kind)| (name.to_owned(), kind)),
    );
    leads
}

pub fn messages() -> WritebackTable {
    use ColumnType::{Instant, Text};
    let columns = [
        ("message_key", Text),
        ("id", Text),
        ("client_id", Text),
        ("action", Text),
        ("date", Instant),
        ("subject", Text),
        ("body", Text),
        ("api_version", Text),
        ("other_keys", Text),
        ("received_at", Instant),
    ];
    WritebackTable {
        index: &["id", "client_id", "date"],
        ..table("conversica_messages", 1, ExistingRow::Keep, &columns)
    }
}

pub fn chat_leads() -> WritebackTable {
    use ColumnType::{Instant, Text};
    let columns = [
        ("chat_key", Text),
        ("client_id", Text),
        ("first_name", Text),
        ("last_name", Text),
        ("email", Text),
        ("conversation_history", Text),
        ("received_at", Instant),
        ("body", Text),
    ];
    table("conversica_chat_leads", 1, ExistingRow::Keep, &columns)
}

pub fn marker() -> WritebackTable {
    table(MARKER, 1, ExistingRow::Keep, &[("event_key", ColumnType::Text), ("written_at", ColumnType::Instant)])
}

impl WritebackDesign {
    /// In the schema of the source's table if that is qualified; else in the role's `search_path`.
    pub fn of(settings: &ServiceSettings) -> Self {
        use secrecy::ExposeSecret;
        let writeback = &settings.writeback;
        let source = settings.source.url.expose_secret();
        let url = writeback.url.as_ref().map_or(source, |url| url.expose_secret());
        let engine = SourceDialect::of_url(url);
        let table = settings.source.table.as_deref().filter(|_| engine == SourceDialect::of_url(source));
        let schema = match (engine, table) {
            (SourceDialect::Sqlite, _) | (_, None) => None,
            (SourceDialect::Postgres, Some(table)) => {
                let parts = table_parts(table);
                (parts.len() > 1).then(|| parts[parts.len() - 2].clone())
            }
            (SourceDialect::Mysql, Some(table)) => mysql_table(table).0,
        };
        let tables = match writeback.mode {
            WritebackMode::Tables => vec![leads(), messages(), chat_leads()],
            WritebackMode::Sql => vec![marker()],
            WritebackMode::Off => Vec::new(),
        };
        Self { engine, schema, tables }
    }

    /// The name in SQL.
    pub fn quoted(&self, name: &str) -> String {
        let schema = self.schema.as_ref().map(|schema| self.engine.quote(schema) + ".").unwrap_or_default();
        schema + &self.engine.quote(name)
    }

    /// The statements that make a table.
    pub fn create(&self, table: &WritebackTable) -> Vec<String> {
        let name = self.quoted(table.name);
        let mut lines: Vec<String> = Vec::new();
        for (index, (column, kind)) in table.columns.iter().enumerate() {
            let required = if index < table.key { " not null" } else { "" };
            let is_indexed = index < table.key || table.index.contains(&column.as_str());
            let type_name = match (self.engine, kind) {
                (SourceDialect::Mysql, ColumnType::Text) if is_indexed => INDEXED_TEXT,
                _ => self.type_name(*kind),
            };
            lines.push(format!("  {} {type_name}{required}", self.engine.quote(column)));
        }
        let key: Vec<String> = table.columns[..table.key].iter().map(|(column, _)| self.engine.quote(column)).collect();
        lines.push(format!("  primary key ({})", key.join(", ")));
        if self.engine == SourceDialect::Mysql && !table.index.is_empty() {
            // MySQL makes no index "if not exists".
            let columns: Vec<String> = table.index.iter().map(|column| self.engine.quote(column)).collect();
            lines.push(format!(
                "  index {} ({})",
                self.engine.quote(&format!("{}_lead", table.name)),
                columns.join(", ")
            ));
        }
        let options = if self.engine == SourceDialect::Mysql { " engine = InnoDB character set utf8mb4" } else { "" };
        let mut statements = vec![format!("create table if not exists {name} (\n{}\n){options}", lines.join(",\n"))];
        if self.engine == SourceDialect::Mysql {
            return statements;
        }
        if !table.index.is_empty() {
            let columns: Vec<String> = table.index.iter().map(|column| quote(column)).collect();
            let index = quote(&format!("{}_lead", table.name));
            statements.push(format!("create index if not exists {index} on {name} ({})", columns.join(", ")));
        }
        statements
    }

    /// The whole script, with the grants for the writing role.
    pub fn script(&self, role: Option<&str>) -> String {
        if self.engine == SourceDialect::Mysql {
            // MySQL commits each statement that makes a table by itself.
            let statements = self.tables.iter().flat_map(|table| self.create(table));
            return statements.map(|statement| format!("{statement};\n")).collect();
        }
        let mut statements = vec!["begin".to_owned()];
        statements.extend(self.tables.iter().flat_map(|table| self.create(table)));
        statements.extend(role.into_iter().flat_map(|role| self.grants(role)));
        statements.push("commit".to_owned());
        statements.iter().map(|statement| format!("{statement};\n")).collect()
    }

    /// The rights that the write-back uses on its own tables (PostgreSQL).
    fn grants(&self, role: &str) -> Vec<String> {
        let on: Vec<String> = self.tables.iter().map(|table| self.quoted(table.name)).collect();
        // The write-back deletes markers of events that the CRM refused after all.
        let rights = if self.tables.iter().any(|table| table.name == MARKER) {
            "select, insert, delete"
        } else {
            "select, insert, update"
        };
        let schema =
            self.schema.iter().map(|schema| format!("grant usage on schema {} to {}", quote(schema), quote(role)));
        schema.chain([format!("grant {rights} on {} to {}", on.join(", "), quote(role))]).collect()
    }

    /// Writes the rows of `$1`, a JSON array of objects with the columns' names.
    pub fn write(&self, table: &WritebackTable) -> String {
        let names: Vec<String> = table.columns.iter().map(|(column, _)| self.engine.quote(column)).collect();
        let rows = match self.engine {
            SourceDialect::Mysql => mysql_rows(table),
            SourceDialect::Sqlite => {
                let values: Vec<String> =
                    table.columns.iter().map(|(column, _)| format!("json_extract(r.value, '$.{column}')")).collect();
                // Without `where true`, SQLite reads `on conflict` as the condition of a join.
                format!("select {} from json_each($1) as r where true", values.join(", "))
            }
            SourceDialect::Postgres => {
                let types: Vec<String> = table
                    .columns
                    .iter()
                    .map(|(column, kind)| format!("{} {}", quote(column), self.type_name(*kind)))
                    .collect();
                let values: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
                format!("select {} from json_to_recordset($1::json) as r ({})", values.join(", "), types.join(", "))
            }
        };
        let key = names[..table.key].join(", ");
        if self.engine == SourceDialect::Mysql {
            let own = self.quoted(table.name);
            let set = match table.known {
                // Not `insert ignore`, which would cut values that do not fit.
                ExistingRow::Keep => format!("{0} = {own}.{0}", names[0]),
                ExistingRow::Replace => {
                    let set: Vec<String> =
                        names[table.key..].iter().map(|name| format!("{name} = values({name})")).collect();
                    set.join(", ")
                }
            };
            return format!("insert into {own} ({}) {rows} on duplicate key update {set}", names.join(", "));
        }
        let conflict = match table.known {
            ExistingRow::Keep => "nothing".to_owned(),
            ExistingRow::Replace => {
                let set: Vec<String> =
                    names[table.key..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
                format!("update set {}", set.join(", "))
            }
        };
        let name = self.quoted(table.name);
        format!("insert into {name} ({}) {rows} on conflict ({key}) do {conflict}", names.join(", "))
    }

    /// As [`WritebackDesign::write`] for markers; returns the new ones.
    pub fn mark(&self) -> String {
        format!("{} returning event_key", self.write(&marker()))
    }

    /// Deletes markers: `$1` is a JSON array of their keys.
    pub fn unmark(&self) -> String {
        let keys = match self.engine {
            SourceDialect::Sqlite => "select value from json_each($1)",
            SourceDialect::Postgres => "select json_array_elements_text($1::json)",
            SourceDialect::Mysql => {
                "select j.event_key collate utf8mb4_bin from json_table(?, '$[*]' columns (event_key longtext path '$')) as j"
            }
        };
        format!("delete from {} where event_key in ({keys})", self.quoted(MARKER))
    }

    fn type_name(&self, kind: ColumnType) -> &'static str {
        match (self.engine, kind) {
            (SourceDialect::Mysql, ColumnType::Text) => "longtext",
            (SourceDialect::Mysql, ColumnType::Boolean) => "boolean",
            (SourceDialect::Mysql, ColumnType::Instant) => "datetime(3)",
            (_, ColumnType::Text) | (SourceDialect::Sqlite, ColumnType::Instant) => "text",
            (SourceDialect::Sqlite, ColumnType::Boolean) => "integer",
            (SourceDialect::Postgres, ColumnType::Boolean) => "boolean",
            (SourceDialect::Postgres, ColumnType::Instant) => "timestamptz",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(engine: SourceDialect, schema: Option<&str>) -> WritebackDesign {
        WritebackDesign { engine, schema: schema.map(str::to_owned), tables: vec![leads(), messages(), chat_leads()] }
    }

    #[test]
    fn keys_become_columns_in_snake_case() {
        assert_eq!(column_of("leadStatus"), "lead_status");
        assert_eq!(column_of("discoveredPhone1"), "discovered_phone1");
        assert_eq!(column_of("apiVersion"), "api_version");
        let columns: Vec<String> = leads().columns.into_iter().map(|(name, _)| name).collect();
        let distinct: std::collections::BTreeSet<&String> = columns.iter().collect();
        assert_eq!(distinct.len(), columns.len());
        assert!(
            columns.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
    }

    #[test]
    fn the_script_is_one_transaction_and_grants_what_is_used_and_no_more() {
        let script = design(SourceDialect::Postgres, Some("the \"crm\"")).script(Some("o'brien"));
        assert!(script.starts_with("begin;\n") && script.ends_with("commit;\n"), "{script}");
        assert!(script.contains(r#"create table if not exists "the ""crm"""."conversica_leads" ("#), "{script}");
        assert!(script.contains("  \"hot_lead\" boolean,\n  \"hot_lead_date\" timestamptz,"), "{script}");
        assert!(script.contains("grant select, insert, update on"), "{script}");
        assert!(script.contains("to \"o'brien\";"), "{script}");
        let script = design(SourceDialect::Sqlite, None).script(None);
        assert!(script.contains("  \"hot_lead\" integer,\n  \"hot_lead_date\" text,"), "{script}");
        assert!(!script.contains("grant"), "{script}");
    }
}
