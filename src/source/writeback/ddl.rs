//! The tables in the CRM's database that the write-back fills, and the statements that make them and write to them. Pure:
//! text in, text out.
//!
//! Each statement takes its rows as one JSON array, whatever their number. The program runs exactly the script that `writeback
//! print` shows.

use crate::config::{ServiceSettings, WritebackMode};
use crate::conversica::lead;
use crate::conversica::post::PostKind;
use crate::db::{quote, sqlite_path, table_parts};
use crate::source::changes::ddl::{QualifiedName, SourceEngine};

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
    pub engine: SourceEngine,
    pub schema: Option<String>,
    pub tables: Vec<WritebackTable>,
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
        let engine = if sqlite_path(url).is_some() { SourceEngine::Sqlite } else { SourceEngine::Postgres };
        let parts = settings.source.table.as_deref().map(table_parts).unwrap_or_default();
        let both = engine == SourceEngine::Postgres && sqlite_path(source).is_none();
        let schema = (both && parts.len() > 1).then(|| parts[parts.len() - 2].clone());
        let tables = match writeback.mode {
            WritebackMode::Tables => vec![leads(), messages(), chat_leads()],
            WritebackMode::Sql => vec![marker()],
            WritebackMode::Off => Vec::new(),
        };
        Self { engine, schema, tables }
    }

    /// The name in SQL.
    pub fn quoted(&self, name: &str) -> String {
        QualifiedName { schema: self.schema.clone(), name: name.to_owned() }.quoted()
    }

    /// The statements that make a table.
    pub fn create(&self, table: &WritebackTable) -> Vec<String> {
        let name = self.quoted(table.name);
        let mut lines: Vec<String> = Vec::new();
        for (index, (column, kind)) in table.columns.iter().enumerate() {
            let required = if index < table.key { " not null" } else { "" };
            lines.push(format!("  {} {}{required}", quote(column), self.type_name(*kind)));
        }
        let key: Vec<String> = table.columns[..table.key].iter().map(|(column, _)| quote(column)).collect();
        lines.push(format!("  primary key ({})", key.join(", ")));
        let mut statements = vec![format!("create table if not exists {name} (\n{}\n)", lines.join(",\n"))];
        if !table.index.is_empty() {
            let columns: Vec<String> = table.index.iter().map(|column| quote(column)).collect();
            let index = quote(&format!("{}_lead", table.name));
            statements.push(format!("create index if not exists {index} on {name} ({})", columns.join(", ")));
        }
        statements
    }

    /// The whole script, with the grants for the writing role.
    pub fn script(&self, role: Option<&str>) -> String {
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
        let names: Vec<String> = table.columns.iter().map(|(column, _)| quote(column)).collect();
        let rows = match self.engine {
            SourceEngine::Sqlite => {
                let values: Vec<String> =
                    table.columns.iter().map(|(column, _)| format!("json_extract(r.value, '$.{column}')")).collect();
                // Without `where true`, SQLite reads `on conflict` as the condition of a join.
                format!("select {} from json_each($1) as r where true", values.join(", "))
            }
            SourceEngine::Postgres => {
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
            SourceEngine::Sqlite => "select value from json_each($1)",
            SourceEngine::Postgres => "select json_array_elements_text($1::json)",
        };
        format!("delete from {} where event_key in ({keys})", self.quoted(MARKER))
    }

    fn type_name(&self, kind: ColumnType) -> &'static str {
        match (self.engine, kind) {
            (_, ColumnType::Text) | (SourceEngine::Sqlite, ColumnType::Instant) => "text",
            (SourceEngine::Sqlite, ColumnType::Boolean) => "integer",
            (SourceEngine::Postgres, ColumnType::Boolean) => "boolean",
            (SourceEngine::Postgres, ColumnType::Instant) => "timestamptz",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(engine: SourceEngine, schema: Option<&str>) -> WritebackDesign {
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
        let script = design(SourceEngine::Postgres, Some("the \"crm\"")).script(Some("o'brien"));
        assert!(script.starts_with("begin;\n") && script.ends_with("commit;\n"), "{script}");
        assert!(script.contains(r#"create table if not exists "the ""crm"""."conversica_leads" ("#), "{script}");
        assert!(script.contains("  \"hot_lead\" boolean,\n  \"hot_lead_date\" timestamptz,"), "{script}");
        assert!(script.contains("grant select, insert, update on"), "{script}");
        assert!(script.contains("to \"o'brien\";"), "{script}");
        let script = design(SourceEngine::Sqlite, None).script(None);
        assert!(script.contains("  \"hot_lead\" integer,\n  \"hot_lead_date\" text,"), "{script}");
        assert!(!script.contains("grant"), "{script}");
    }
}
