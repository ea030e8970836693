//! The SQL that reads the source. It builds text and runs none of it.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::db::{self, literal};
use crate::rules::cursor::{NewestStamp, StampBound};
use crate::rules::read_scope::{ReadScope, WholeNames};
use crate::rules::source_column::{ColumnForm, SourceColumn};
use crate::rules::value_fault::NOT_SCALAR;
use crate::source::changed_at::ChangedAt;
use crate::source::columns;
use crate::source::crm::{ConnectedCrm, FittingSource};
use crate::source::dialect::SourceDialect;
use crate::source::read::mysql_text::{self, CellText};
use crate::source::read::number;
use crate::source::source_db::SourceDb;

/// The parts of the statements.
#[derive(Debug, Clone)]
pub(crate) struct ReadStatements {
    /// Key, client where there is one, and the cells, as text.
    pub list: String,
    /// Key and client of the list.
    pub names: String,
    cells: Vec<String>,
    pub from: String,
    pub changed_at: Option<ChangedAt>,
    /// The key's column in the source.
    key: String,
    key_as_text: String,
    client_as_text: Option<String>,
    client_type: Option<String>,
    dialect: SourceDialect,
    /// The forms of the list's cells; empty where every text stays as it is.
    pub forms: Vec<CellText>,
    key_type: String,
    /// The base type of the key, below all domains.
    plain_key_type: String,
    /// A table, whose keys are cheap to inspect; not a view or a query.
    table: Option<String>,
}

/// How the database sorts the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrdering {
    /// By the text of the key, in byte order: the database has to sort.
    Text,
    /// By the key itself, whose text sorts alike: an index may serve it.
    Native(IdOrder),
}

impl RowOrdering {
    pub const fn of_ids(self) -> IdOrder {
        match self {
            RowOrdering::Text => IdOrder::Bytes,
            RowOrdering::Native(order) => order,
        }
    }
}

impl ReadStatements {
    pub fn new(crm: &ConnectedCrm, fitting: &FittingSource) -> Self {
        let text = |name: &str| as_text(&crm.db, &fitting.columns, name);
        let key_as_text = text(&crm.source.key);
        let client_as_text = crm.source.client.as_deref().map(text);
        let names = std::iter::once(crm.source.key.as_str()).chain(crm.source.client.as_deref());
        let names = names.map(|name| listed(&crm.db, &fitting.columns, name)).collect::<Vec<_>>().join(", ");
        let cells: Vec<String> =
            crm.mapping.columns().iter().map(|name| cell(&crm.db, &fitting.columns, name)).collect();
        let key_column = columns::find(&crm.db, &fitting.columns, &crm.source.key);
        let client_column =
            crm.source.client.as_deref().and_then(|client| columns::find(&crm.db, &fitting.columns, client));
        Self {
            list: [std::slice::from_ref(&names), &cells].concat().join(", "),
            names,
            cells,
            from: columns::from_clause(&crm.source),
            changed_at: fitting.changed_at.clone(),
            key: format!("t.{}", crm.db.dialect().quote(key_column.map_or(&crm.source.key, |column| &column.name))),
            key_as_text,
            client_as_text,
            client_type: client_column.map(|column| column.plain_type.clone()),
            dialect: crm.db.dialect(),
            forms: match &crm.db {
                SourceDb::Mysql(_) => mysql_text::forms(crm.source.client.as_ref(), crm.mapping.columns(), |name| {
                    columns::find(&crm.db, &fitting.columns, name)
                }),
                SourceDb::Sqlite(_) | SourceDb::Postgres(_) => Vec::new(),
            },
            key_type: key_column.map(|column| column.type_name.clone()).unwrap_or_default(),
            plain_key_type: key_column.map(|column| column.plain_type.clone()).unwrap_or_default(),
            table: crm.source.table.clone(),
        }
    }

    /// Key and client as text, for a statement that is not read with `COPY`.
    pub fn names_as_text(&self) -> String {
        std::iter::once(&self.key_as_text).chain(&self.client_as_text).cloned().collect::<Vec<_>>().join(", ")
    }

    /// Sets how whole numbers in a floating-point key or client of SQLite are written.
    pub fn call(&mut self, names: WholeNames) {
        if self.dialect != SourceDialect::Sqlite || names == WholeNames::Decimal {
            return;
        }
        let whole = |text: &String| {
            let column = text.strip_prefix("cast(").and_then(|text| text.strip_suffix(" as text)"));
            column.map_or_else(|| text.clone(), number::of_sqlite)
        };
        if number::may_be_real(&self.plain_key_type) {
            self.key_as_text = whole(&self.key_as_text);
        }
        if self.client_type.as_deref().is_some_and(number::may_be_real) {
            self.client_as_text = self.client_as_text.as_ref().map(whole);
        }
        self.names =
            std::iter::once(&self.key_as_text).chain(&self.client_as_text).cloned().collect::<Vec<_>>().join(", ");
        self.list = [std::slice::from_ref(&self.names), &self.cells].concat().join(", ");
    }

    /// All rows of the scope in order, or a few in any order.
    pub fn rows(&self, scope: &ReadScope, ordering: RowOrdering, limit: Option<usize>) -> String {
        let mut sql = format!("select {} from {}{}", self.list, self.from, self.condition(scope, ordering));
        match limit {
            Some(limit) => sql.push_str(&format!(" limit {limit}")),
            None => sql.push_str(&format!(" order by {}", self.order(ordering))),
        }
        sql
    }

    /// The newest `changed_at` of the scope, as text, and on SQLite the name of its type; `None` where the scope needs none.
    pub fn newest(&self, scope: &ReadScope) -> Option<String> {
        let changed_at = self.changed_at.as_ref()?;
        let maximum =
            |condition: &str| format!("(select max({}) from {}{condition})", changed_at.expression, self.from);
        let newest = match scope {
            // A resumed reading has its cursor from its beginning.
            ReadScope::All | ReadScope::From(..) => maximum(""),
            // Each range alone, so that an index ends the search; the first range nearly always has it.
            ReadScope::Since(window) => {
                let ranges =
                    changed_at.ranges(&window.newest).into_iter().map(|range| maximum(&format!(" and {range}")));
                format!("coalesce({}, null)", ranges.collect::<Vec<_>>().join(", "))
            }
            ReadScope::Keys(_) => return None,
        };
        Some(self.as_newest(&newest))
    }

    /// The same for all rows below the stamps in the future.
    pub fn newest_below(&self, ahead: &StampBound) -> Option<String> {
        let changed_at = self.changed_at.as_ref()?;
        let below = changed_at.below(ahead)?;
        Some(self.as_newest(&self.maximum(changed_at, &format!(" and {below}"))))
    }

    fn maximum(&self, changed_at: &ChangedAt, condition: &str) -> String {
        format!("(select max({}) from {}{condition})", changed_at.expression, self.from)
    }

    fn as_newest(&self, value: &str) -> String {
        let columns = match self.dialect {
            SourceDialect::Postgres => "m::text",
            SourceDialect::Sqlite => "cast(m as text), typeof(m)",
            SourceDialect::Mysql => "cast(m as char)",
        };
        format!("select {columns} from (select {value} as m) as newest")
    }

    /// Whether some row's `changed_at` has another time zone than the newest: asked only where the poll reads all rows anyway.
    pub fn another_zone(&self, scope: &ReadScope, newest: &NewestStamp) -> Option<String> {
        let changed_at = self.changed_at.as_ref().filter(|_| matches!(scope, ReadScope::All | ReadScope::From(..)))?;
        let shows = changed_at.shows(newest.tell_tale()?);
        Some(format!("select exists (select 1 from {} and {shows})", self.from))
    }

    /// On PostgreSQL and MySQL the type determines how keys sort, except for negative numbers: whether there are any.
    pub fn negative_keys(&self) -> Option<String> {
        let is_number = match self.dialect {
            SourceDialect::Sqlite => false,
            SourceDialect::Postgres => ["int2", "int4", "int8"].contains(&self.key_type.as_str()),
            SourceDialect::Mysql => mysql_text::is_integer(&self.key_type),
        };
        let asked = is_number && self.table.is_some();
        asked.then(|| format!("select coalesce(min({}) < 0, false) from {}", self.key, self.from))
    }

    pub fn is_uuid(&self) -> bool {
        self.dialect == SourceDialect::Postgres && self.key_type == "uuid"
    }

    /// On SQLite a column may hold values of any type: the least and greatest type of the keys, and whether one is negative.
    pub fn key_types(&self) -> Option<String> {
        let key = &self.key;
        self.table.as_ref()?;
        Some(format!("select min(typeof({key})), max(typeof({key})), coalesce(min({key}) < 0, 0) from {}", self.from))
    }

    fn condition(&self, scope: &ReadScope, ordering: RowOrdering) -> String {
        match scope {
            ReadScope::All => String::new(),
            ReadScope::From(order, after) => self.beginning_at(*order, after, ordering),
            ReadScope::Since(window) => self.since(&window.rows),
            ReadScope::Keys(leads) => self.with_keys(leads),
        }
    }

    /// Compares the key itself where a text can be compared with it, so that an index serves. A lead must not seem to be missing
    /// because its key was compared in another form. An extra row does no harm.
    fn with_keys(&self, leads: &[LeadId]) -> String {
        let keys = leads.iter().map(|lead| lead.id.as_str());
        match self.dialect {
            SourceDialect::Postgres => {}
            SourceDialect::Sqlite => return self.with_keys_of_sqlite(keys.collect()),
            SourceDialect::Mysql => {
                let keys: Vec<&str> = keys.collect();
                return mysql_text::with_keys(&self.key, &self.key_as_text, &self.plain_key_type, &keys);
            }
        }
        let form = KeyForm::of_postgres(&self.plain_key_type);
        // A key that no value of the type can look like matches no row, and would only make the statement fail.
        let found = keys.filter(|key| form.may_be(key)).map(literal).collect::<Vec<_>>().join(", ");
        let key = if form == KeyForm::Other { &self.key_as_text } else { &self.key };
        format!(" and {key} = any(array[{found}]::{})", form.array())
    }

    fn with_keys_of_sqlite(&self, keys: Vec<&str>) -> String {
        // The reader replaced bytes that are no UTF-8 with this character; the original bytes are lost.
        if keys.iter().any(|key| key.contains(char::REPLACEMENT_CHARACTER)) {
            return String::new();
        }
        let kind = self.plain_key_type.as_str();
        // The text of a floating-point number is not always exact to the last bit.
        let is_rounded = |key: &&str| key.parse::<f64>().is_ok() && key.parse::<i64>().is_err();
        let is_whole = kind.contains("int") && !keys.iter().any(is_rounded);
        let texts = literal(&serde_json::json!(keys).to_string());
        if !is_whole && !kind.contains("text") {
            return format!(" and {} in (select value from json_each({texts}))", self.key_as_text);
        }
        // SQLite's affinity converts a text to a number if it is compared with a column of numbers. It does not convert blobs,
        // and any column may hold some.
        format!(
            " and {} in (select value from json_each({texts}) union all select cast(value as blob) from json_each({texts}))",
            self.key
        )
    }

    fn beginning_at(&self, order: IdOrder, after: &LeadId, ordering: RowOrdering) -> String {
        if order != ordering.of_ids() {
            return String::new();
        }
        match ordering {
            RowOrdering::Native(IdOrder::ByLength) => match after.id.parse::<i64>() {
                Ok(number) => format!(" and {} >= {number}", self.key),
                Err(_) => String::new(),
            },
            // In the order of the rows, which on SQLite may differ from the column's own order (`collate nocase`).
            RowOrdering::Native(IdOrder::Bytes) => format!(" and {} >= {}", self.key_in_bytes(), literal(&after.id)),
            RowOrdering::Text => {
                let key = self.dialect.by_bytes(&self.key_as_text);
                format!(" and {key} >= {}", self.dialect.byte_literal(&after.id))
            }
        }
    }

    fn since(&self, bound: &StampBound) -> String {
        self.changed_at.as_ref().map(|changed_at| format!(" and {}", changed_at.since(bound))).unwrap_or_default()
    }

    fn order(&self, ordering: RowOrdering) -> String {
        let key = match ordering {
            RowOrdering::Text => self.dialect.by_bytes(&self.key_as_text),
            RowOrdering::Native(IdOrder::Bytes) => self.key_in_bytes(),
            RowOrdering::Native(IdOrder::ByLength) => self.key.clone(),
        };
        match &self.client_as_text {
            None => key,
            // A row without a client comes first, as in the state's order.
            Some(client) => {
                let nulls = if self.dialect == SourceDialect::Postgres { " nulls first" } else { "" };
                format!("{key}, {}{nulls}", self.dialect.by_bytes(client))
            }
        }
    }

    /// A key of texts, or on PostgreSQL of UUIDs, which have no collation.
    fn key_in_bytes(&self) -> String {
        if self.dialect == SourceDialect::Postgres { self.key.clone() } else { self.dialect.by_bytes(&self.key) }
    }
}

/// How a PostgreSQL type writes its keys and compares them with such texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyForm {
    Integer,
    Decimal,
    Uuid,
    /// `char(n)`: trailing blanks do not count.
    Padded,
    Text,
    /// Any other type: compares by text, which reads every row. An unknown enum label would fail the statement, and a float has
    /// several spellings.
    Other,
}

impl KeyForm {
    fn of_postgres(plain_type: &str) -> Self {
        match plain_type {
            "int2" | "int4" | "int8" => Self::Integer,
            "numeric" => Self::Decimal,
            "uuid" => Self::Uuid,
            "char" | "bpchar" => Self::Padded,
            "text" | "varchar" => Self::Text,
            _ => Self::Other,
        }
    }

    const fn array(self) -> &'static str {
        match self {
            Self::Integer => "bigint[]",
            Self::Decimal => "numeric[]",
            Self::Uuid => "uuid[]",
            Self::Padded => "bpchar[]",
            Self::Text | Self::Other => "text[]",
        }
    }

    /// Whether a value of the type may look like this; if not, PostgreSQL may refuse the text.
    fn may_be(self, text: &str) -> bool {
        match self {
            Self::Integer => text.parse::<i64>().is_ok(),
            Self::Decimal => is_decimal(text),
            Self::Uuid => {
                let is_of_uuid = |(at, byte): (usize, u8)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => byte.is_ascii_hexdigit(),
                };
                text.len() == 36 && text.bytes().enumerate().all(is_of_uuid)
            }
            Self::Padded | Self::Text | Self::Other => true,
        }
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Every version of PostgreSQL accepts `NaN`; infinities are values since 14.
    ["NaN", "Infinity", "-Infinity"].contains(&text) || (are_digits(whole) && are_digits(rest))
}

/// PostgreSQL types that `COPY` writes exactly as a cast to text would, so that the server need not do it twice.
const COPIED_AS_TEXT: [&str; 10] =
    ["int2", "int4", "int8", "numeric", "text", "varchar", "date", "timestamp", "timestamptz", "uuid"];

/// The text of [`as_text`], shortened for a statement that is read with `COPY`.
fn listed(db: &SourceDb, columns: &[SourceColumn], name: &str) -> String {
    match (db, columns::find(db, columns, name)) {
        (SourceDb::Postgres(_), Some(column)) if COPIED_AS_TEXT.contains(&column.type_name.as_str()) => {
            format!("t.{}", db::quote(&column.name))
        }
        (SourceDb::Mysql(_), column) => mysql_text::listed(column, name),
        _ => as_text(db, columns, name),
    }
}

/// A mapped column's value in the list: the input of [`crate::rules::json::scalar`]. PostgreSQL checks a `jsonb` value when it is
/// written; a `json` value may make the server fail.
fn cell(db: &SourceDb, columns: &[SourceColumn], name: &str) -> String {
    match (db, columns::find(db, columns, name)) {
        (SourceDb::Postgres(_), Some(column)) if column.form == ColumnForm::Json && column.type_name != "jsonb" => {
            let (json, mark) = (format!("t.{}::json", db::quote(&column.name)), &NOT_SCALAR[1..]);
            format!(
                "case json_typeof({json}) when 'null' then null when 'object' then chr(1) || '{mark}' \
                 when 'array' then chr(1) || '{mark}' else chr(1) || '{mark}' || {json}::text end"
            )
        }
        (SourceDb::Sqlite(_), Some(column)) if number::may_be_real(&column.plain_type) => {
            number::of_sqlite(&format!("t.{}", db::quote(&column.name)))
        }
        (SourceDb::Postgres(_), Some(column)) if number::is_float(&column.plain_type) => {
            number::of_postgres(&format!("t.{}", db::quote(&column.name)), &column.plain_type)
        }
        (SourceDb::Postgres(_), Some(column)) if column.plain_type == "numeric" => {
            number::of_numeric(&format!("t.{}", db::quote(&column.name)))
        }
        (SourceDb::Mysql(_), column) => mysql_text::cell(column, name),
        _ => listed(db, columns, name),
    }
}

/// A column's value as the database's own text, whatever its type; quoted and qualified.
fn as_text(db: &SourceDb, columns: &[SourceColumn], name: &str) -> String {
    let column = columns::find(db, columns, name);
    let quoted = db::quote(column.map_or(name, |column| &column.name));
    match (db, column.map(|column| column.form)) {
        (SourceDb::Sqlite(_), _) => format!("cast(t.{quoted} as text)"),
        (SourceDb::Mysql(_), _) => mysql_text::as_text(column, name),
        (SourceDb::Postgres(_), Some(ColumnForm::Json)) => format!(
            "case when jsonb_typeof(t.{quoted}::jsonb) in ('object', 'array') then chr(1) || '{}' \
             else t.{quoted}::jsonb #>> '{{}}' end",
            &NOT_SCALAR[1..]
        ),
        (SourceDb::Postgres(_), _) => format!("t.{quoted}::text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(kind: &str, on_postgres: bool) -> ReadStatements {
        ReadStatements {
            list: "t.\"id\"".to_owned(),
            names: "t.\"id\"".to_owned(),
            cells: Vec::new(),
            from: "leads as t where true".to_owned(),
            changed_at: None,
            key: "t.\"id\"".to_owned(),
            key_as_text: if on_postgres { "t.\"id\"::text" } else { "cast(t.\"id\" as text)" }.to_owned(),
            client_as_text: None,
            client_type: None,
            dialect: if on_postgres { SourceDialect::Postgres } else { SourceDialect::Sqlite },
            forms: Vec::new(),
            key_type: kind.to_owned(),
            plain_key_type: kind.to_owned(),
            table: Some("leads".to_owned()),
        }
    }

    fn leads(keys: &[&str]) -> Vec<LeadId> {
        keys.iter().map(|key| LeadId { id: (*key).to_owned(), client_id: String::new() }).collect()
    }

    #[test]
    fn keys_of_postgres_are_compared_in_the_type_that_their_index_has() {
        let keys = leads(&["7", "7.50", "x'y", "0189d0a3-5a2f-7c3e-8000-00000000000a"]);
        for (kind, condition) in [
            ("int2", "t.\"id\" = any(array['7']::bigint[])"),
            ("numeric", "t.\"id\" = any(array['7', '7.50']::numeric[])"),
            ("uuid", "t.\"id\" = any(array['0189d0a3-5a2f-7c3e-8000-00000000000a']::uuid[])"),
            ("char", "t.\"id\" = any(array['7', '7.50', 'x''y', '0189d0a3-5a2f-7c3e-8000-00000000000a']::bpchar[])"),
            (
                "date",
                "t.\"id\"::text = any(array['7', '7.50', 'x''y', '0189d0a3-5a2f-7c3e-8000-00000000000a']::text[])",
            ),
        ] {
            assert_eq!(statements(kind, true).with_keys(&keys), format!(" and {condition}"));
        }
    }

    #[test]
    fn numbers_of_postgres_are_told_from_what_it_would_refuse() {
        assert!(["7", "-7.00", "0", "NaN", "00.1"].into_iter().all(is_decimal));
        assert!(
            ["", "-", ".", "7.", ".5", "1e5", "7 ", "+7", "x", "--1", "1.2.3"]
                .into_iter()
                .all(|text| !is_decimal(text))
        );
    }

    #[test]
    fn an_index_of_sqlite_finds_texts_and_bytes() {
        let crm = rusqlite::Connection::open_in_memory().unwrap();
        crm.execute_batch(
            "create table leads (id text primary key, name text); insert into leads (id) values ('a'), (x'62'), ('c')",
        )
        .unwrap();
        let sql = statements("text", false).rows(&ReadScope::Keys(leads(&["a", "b", "zz"])), RowOrdering::Text, None);
        let texts = |sql: &str, column: usize| -> Vec<String> {
            let mut statement = crm.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok(row.get_ref(column)?.as_bytes().unwrap().to_vec())).unwrap();
            rows.map(|text| String::from_utf8(text.unwrap()).unwrap()).collect()
        };
        assert_eq!(texts(&sql, 0), ["a", "b"]);
        let plan = texts(&format!("explain query plan {sql}"), 3);
        assert!(plan.iter().any(|step| step.starts_with("SEARCH t USING")), "{plan:?}");
        assert!(plan.iter().all(|step| !step.starts_with("SCAN t")), "{plan:?}");
    }

    #[test]
    fn a_key_of_sqlite_whose_text_has_lost_something_is_looked_for_in_every_row() {
        assert_eq!(statements("text", false).with_keys(&leads(&["a\u{fffd}"])), "");
        assert!(statements("integer", false).with_keys(&leads(&["7", "0.3"])).starts_with(" and cast("));
        assert!(statements("integer", false).with_keys(&leads(&["7", "-3"])).starts_with(" and t.\"id\" in"));
    }
}
