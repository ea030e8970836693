//! One table with triggers, and the text of what they do: they log keys of the touched row itself, or of the leads that a query
//! finds for it. Pure.

use crate::db::quote;
use crate::source::named::NamedStatement;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEngine {
    Sqlite,
    Postgres,
}

/// Whether the triggers notify listeners (PostgreSQL only; SQLite has no notifications).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerWake {
    Notify,
    /// The next poll finds the changes.
    Silent,
}

/// A table's name, qualified on PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualifiedName {
    pub schema: Option<String>,
    pub name: String,
}

impl QualifiedName {
    /// The name in SQL.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }

    /// The name with this at its end, in the same schema.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self { schema: self.schema.clone(), name: format!("{}{suffix}", self.name) }
    }
}

/// A table with triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggeredTable {
    pub table: QualifiedName,
    /// Added to the log's name in the names of function and triggers: empty for the table of the leads, and `_watch1` for the
    /// first entry of `[[source.watch]]`.
    pub suffix: String,
    pub keys: LoggedKeys,
}

/// The keys that a touched row puts into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedKeys {
    /// Its own: the key, and the client where there is one.
    Own(Vec<String>),
    Found(WatchQuery),
}

/// `leads` of an entry of `[[source.watch]]`, after its check against the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchQuery {
    pub statement: NamedStatement,
    /// The watched table's column at each place of the statement, in the table's own spelling.
    pub columns: Vec<String>,
    /// PostgreSQL: where the statement's names are looked up beside PostgreSQL's own; `None` where all of them say their schema.
    pub schema: Option<String>,
}

/// The columns of the log that a source fills.
pub const KEY_COLUMNS: [&str; 2] = ["key", "client"];
/// The row of a watched table in the function.
const WATCHED_ROW: &str = "conversica_row";
/// A lead that was found for it.
const FOUND_LEAD: &str = "conversica_lead";

impl WatchQuery {
    /// The query for a row of that name. It is on lines of its own, because it may end in a comment.
    pub fn of_row(&self, row: &str) -> String {
        let text = self.statement.with(|place| format!("{row}.{}", quote(&self.columns[place])));
        format!("(\n{}\n)", text.trim())
    }

    /// Each column once.
    fn parameters(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The schemas in which PostgreSQL looks up the names: only such in which no other role may create functions, or the function
    /// would run them with its owner's rights.
    pub fn search_path(schema: Option<&str>) -> String {
        match schema {
            Some(schema) => format!("pg_catalog, {}, pg_temp", quote(schema)),
            None => "pg_catalog, pg_temp".to_owned(),
        }
    }

    /// PostgreSQL: the leads of the rows of these tables, which have the touched rows.
    pub(super) fn of_tables(&self, tables: &[&str], width: usize) -> String {
        let parameters = self.parameters();
        let list = match parameters.is_empty() {
            true => "1".to_owned(),
            false => parameters.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", "),
        };
        // Rows with the same values have the same leads: the query runs once for them.
        let rows: Vec<String> = tables.iter().map(|table| format!("select {list} from {table}")).collect();
        let rows = match rows.as_slice() {
            [one] => one.replacen("select ", "select distinct ", 1),
            several => several.join(" union "),
        };
        let columns = &KEY_COLUMNS[..width];
        let texts: Vec<String> =
            columns.iter().map(|column| format!("{FOUND_LEAD}.{column}::text collate \"C\"")).collect();
        format!(
            "select distinct {} from ({rows}) as {WATCHED_ROW}\n      cross join lateral {} as {FOUND_LEAD} ({})\n      \
             where {FOUND_LEAD}.key is not null",
            texts.join(", "),
            self.of_row(WATCHED_ROW),
            columns.join(", ")
        )
    }

    /// PostgreSQL: a statement with the columns of the query's answer. `types` are those of the parameters, as PostgreSQL writes
    /// them, in the order of [`Self::columns`].
    pub(super) fn probe(&self, types: &[String]) -> String {
        let type_of =
            |column: &str| self.columns.iter().position(|known| known == column).map_or("text", |n| &types[n]);
        let nulls = self.parameters().into_iter();
        let nulls: Vec<String> =
            nulls.map(|column| format!("null::{} as {}", type_of(column), quote(column))).collect();
        let row = format!("select {}", if nulls.is_empty() { "1".to_owned() } else { nulls.join(", ") });
        format!(
            "select {FOUND_LEAD}.* from ({row} union {row}) as {WATCHED_ROW} cross join lateral {} as {FOUND_LEAD}",
            self.of_row(WATCHED_ROW)
        )
    }
}

impl TriggeredTable {
    /// The statements of a trigger on SQLite. `log` is the quoted name of the log, `width` the number of its key columns that the
    /// source fills.
    pub(super) fn sqlite_body(&self, event: &str, log: &str, width: usize) -> String {
        let columns = KEY_COLUMNS[..width].join(", ");
        let insert = |row: &str, condition: &str| {
            format!("  insert into {log} ({columns}, at) {};\n", self.sqlite_entries(row, condition, width))
        };
        match event {
            "insert" => return insert("new", ""),
            "update" => {}
            _ => return insert("old", ""),
        }
        let watched = match &self.keys {
            LoggedKeys::Own(columns) => columns.iter().map(String::as_str).collect(),
            LoggedKeys::Found(query) => query.parameters(),
        };
        // As text and byte by byte, as the program distinguishes leads: the column itself may treat A and a, or 1 and 1.0, as
        // equal.
        let text = |row: &str, column: &str| format!("cast({row}.{} as text) collate binary", quote(column));
        let moved: Vec<String> =
            watched.iter().map(|column| format!("{} is not {}", text("old", column), text("new", column))).collect();
        // The same values find the same leads.
        let before = if moved.is_empty() { String::new() } else { insert("old", &moved.join(" or ")) };
        format!("{}{before}", insert("new", ""))
    }

    /// The log's entries for a row, if the condition holds.
    fn sqlite_entries(&self, row: &str, condition: &str, width: usize) -> String {
        let now = "cast(strftime('%s', 'now') as integer)";
        let columns = &KEY_COLUMNS[..width];
        match &self.keys {
            LoggedKeys::Own(own) => {
                let values: Vec<String> = own.iter().map(|column| format!("{row}.{}", quote(column))).collect();
                let values = values.join(", ");
                match condition {
                    "" => format!("values ({values}, {now})"),
                    condition => format!("select {values}, {now} where {condition}"),
                }
            }
            LoggedKeys::Found(query) => {
                // The first part of the compound select gives the columns their names.
                let names: Vec<String> = columns.iter().map(|name| format!("null as {name}")).collect();
                let condition = if condition.is_empty() { String::new() } else { format!(" and ({condition})") };
                format!(
                    "select {}, {now} from (select {} where 0 union all select * from {}) where key is not null{condition}",
                    columns.join(", "),
                    names.join(", "),
                    query.of_row(row)
                )
            }
        }
    }

    /// The body of the function on PostgreSQL; `wake` are its lines that notify. One insert per statement, however many rows it
    /// touched. Keys are stored as text, as in the state: the column's type may change later, and text stays exact where the type
    /// treats A and a, or 1.0 and 1, as equal.
    pub(super) fn postgres_body(&self, log: &str, width: usize, wake: &str) -> String {
        let columns = KEY_COLUMNS[..width].join(", ");
        let into = format!("insert into {log} ({columns})");
        match &self.keys {
            LoggedKeys::Own(key_columns) => {
                let values: Vec<String> =
                    key_columns.iter().map(|column| format!("{}::text collate \"C\"", quote(column))).collect();
                let values = values.join(", ");
                let into = format!("{into} select {values} from");
                format!(
                    "\nbegin\n  if tg_op = 'INSERT' then\n    {into} conversica_new;\n  elsif tg_op = 'UPDATE' then\n    {into} \
                     conversica_new\n      union select {values} from conversica_old;\n  elsif tg_op = 'DELETE' then\n    {into} \
                     conversica_old;\n  else\n    insert into {log} (key) values (null);\n  end if;\n{wake}  return null;\nend\n"
                )
            }
            LoggedKeys::Found(query) => {
                let of = |tables: &[&str]| format!("{into} {}", query.of_tables(tables, width));
                // A column of the operator's query may be called `found`, as a variable of every function is. The path is written
                // here too, so that a change of it is found by comparing texts.
                format!(
                    "\n#variable_conflict use_column\n-- names are looked up in {}\nbegin\n  if tg_op = 'INSERT' then\n    {};\n  \
                     elsif tg_op = 'UPDATE' then\n    {};\n  elsif tg_op = 'DELETE' then\n    {};\n  else\n    insert into {log} (key) \
                     values (null);\n  end if;\n{wake}  return null;\nend\n",
                    WatchQuery::search_path(query.schema.as_deref()),
                    of(&["conversica_new"]),
                    of(&["conversica_new", "conversica_old"]),
                    of(&["conversica_old"])
                )
            }
        }
    }

    /// PostgreSQL: the search path of the function.
    pub(super) fn search_path(&self) -> String {
        match &self.keys {
            LoggedKeys::Own(_) => WatchQuery::search_path(None),
            LoggedKeys::Found(query) => WatchQuery::search_path(query.schema.as_deref()),
        }
    }
}
