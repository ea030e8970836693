//! `[source] changed_at` in SQL: checked against the source, and compared with a bound.

use sqlx::postgres::{PgTypeInfo, PgTypeKind};
use sqlx::{Column as _, Executor, TypeInfo};

use crate::config::SourceSettings;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::rules::cursor::{NumberRange, StampBound, StampKind, TellTale};
use crate::rules::source_column::SourceColumn;
use crate::source::columns;
use crate::source::dialect::SourceDialect;
use crate::source::mysql_catalog;
use crate::source::source_db::SourceDb;

/// `[source] changed_at` after its check against the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedAt {
    /// Its SQL expression, comparable with a bound.
    pub expression: String,
    /// The kind of its values; `None` where they cannot be compared with a time: then every poll reads everything. On SQLite each
    /// value shows its kind when it is read.
    pub kind: Option<StampKind>,
    dialect: SourceDialect,
}

impl ChangedAt {
    /// The condition on rows that have changed since a bound.
    pub fn since(&self, bound: &StampBound) -> String {
        format!("({})", self.ranges(bound).join(" or "))
    }

    /// The parts of the condition, in the order of [`StampBound`]'s ranges; an index can serve each.
    pub fn ranges(&self, bound: &StampBound) -> Vec<String> {
        let expression = &self.expression;
        match bound {
            StampBound::Numbers(ranges) => ranges.iter().map(|range| self.within(range, i64::to_string)).collect(),
            StampBound::Moment(text) if self.dialect == SourceDialect::Mysql => {
                // The session is in UTC, and MariaDB knows no zones in texts.
                let text = text.strip_suffix("+00").unwrap_or(text);
                vec![format!("{expression} >= {}", db::literal(text))]
            }
            StampBound::Moment(text) => {
                let kind = match self.kind {
                    Some(StampKind::TimestampTz) => "::timestamptz",
                    Some(StampKind::Timestamp) => "::timestamp",
                    Some(StampKind::Date) => "::date",
                    Some(StampKind::Number | StampKind::Text) | None => "",
                };
                vec![format!("{expression} >= {}{kind}", db::literal(text))]
            }
            StampBound::Texts(ranges) => {
                let texts = ranges.iter().map(|range| self.within(range, |text| db::literal(text)));
                // SQLite allows any type in any column, and every number sorts below every text: a cursor of texts always reads
                // the numbers too, and a cursor of numbers the texts.
                texts.chain((self.dialect == SourceDialect::Sqlite).then(|| format!("{expression} < ''"))).collect()
            }
        }
    }

    /// The condition on rows below all of a bound's first range.
    pub fn below(&self, bound: &StampBound) -> Option<String> {
        let least = match bound {
            StampBound::Numbers(ranges) => ranges.first()?.from.to_string(),
            StampBound::Moment(text) => db::literal(text),
            StampBound::Texts(ranges) => db::literal(&ranges.first()?.from),
        };
        Some(format!("{} < {least}", self.expression))
    }

    fn within<T>(&self, range: &NumberRange<T>, write: impl Fn(&T) -> String) -> String {
        let (expression, from) = (&self.expression, write(&range.from));
        match &range.below {
            None => format!("{expression} >= {from}"),
            Some(below) => format!("({expression} >= {from} and {expression} < {})", write(below)),
        }
    }

    /// The condition on texts that show another time zone.
    pub fn shows(&self, tell_tale: TellTale) -> String {
        let expression = &self.expression;
        match tell_tale {
            TellTale::SaysAZone => format!(
                "({expression} like '%Z' or {expression} like '%z' or {expression} like '%:%+%' or {expression} like '%:%-%')"
            ),
            TellTale::SaysNoUtc => {
                let is_text = match self.dialect {
                    SourceDialect::Postgres | SourceDialect::Mysql => "true",
                    SourceDialect::Sqlite => &format!("typeof({expression}) = 'text'"),
                };
                format!("{expression} not like '%Z' and {expression} not like '%z' and {is_text}")
            }
        }
    }
}

/// Prepares `[source] changed_at` against the source.
///
/// # Errors
/// [`SetupError`] when it does not fit; the database's error when it is unreachable.
pub async fn prepare(
    db: &SourceDb,
    source: &SourceSettings,
    columns: &[SourceColumn],
) -> anyhow::Result<Option<ChangedAt>> {
    let Some(setting) = &source.changed_at else { return Ok(None) };
    let expression = as_expression(db, columns, setting);
    let sql = format!("select {expression} as changed_at from {}", columns::from_clause(source));
    let prepared: Result<Option<StampKind>, sqlx::Error> = match db {
        SourceDb::Sqlite(pool) => {
            async {
                columns::fresh_sqlite(pool).await?.prepare(db::trusted(sql)).await?;
                Ok(None)
            }
            .await
        }
        SourceDb::Postgres(pool) => {
            async {
                let columns = columns::columns_of(pool, &sql).await?;
                Ok(columns.first().and_then(|column| postgres_kind(column.type_info())))
            }
            .await
        }
        SourceDb::Mysql(pool) => mysql_catalog::stamp_kind(pool, &sql).await,
    };
    let dialect = db.dialect();
    match prepared.map_err(discreet::of_source) {
        Ok(kind) => {
            let expression = match kind {
                // By bytes: the server's collations of texts take `2026-03-01` and `2026-03-01 ` for the same.
                Some(StampKind::Text) if dialect == SourceDialect::Mysql => {
                    dialect.by_bytes(&format!("cast({expression} as char)"))
                }
                Some(StampKind::Text) => format!("({expression})::text collate \"C\""),
                _ => expression,
            };
            Ok(Some(ChangedAt { expression, kind, dialect }))
        }
        Err(error) if db::is_outage(&error) => Err(error.into()),
        Err(error) if let Some(refused) = columns::refuse_access(source, &error) => Err(refused.into()),
        Err(error) => Err(SetupError::new(
            format!("[source] changed_at = \"{setting}\" does not fit {}: {error}", columns::place(source)),
            "name a column of the source, or write an SQL expression over its columns",
        )
        .into()),
    }
}

fn postgres_kind(type_info: &PgTypeInfo) -> Option<StampKind> {
    if let PgTypeKind::Domain(base) = type_info.kind() {
        return postgres_kind(base);
    }
    match type_info.name().to_ascii_uppercase().as_str() {
        "TIMESTAMPTZ" => Some(StampKind::TimestampTz),
        "TIMESTAMP" => Some(StampKind::Timestamp),
        "DATE" => Some(StampKind::Date),
        "INT2" | "INT4" | "INT8" | "NUMERIC" | "FLOAT4" | "FLOAT8" => Some(StampKind::Number),
        "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "NAME" => Some(StampKind::Text),
        _ => None,
    }
}

/// Writes `changed_at` in SQL: a column's name is quoted and qualified (SQLite reads a mistyped `"name"` as a text); an
/// expression stays as the operator wrote it.
fn as_expression(db: &SourceDb, columns: &[SourceColumn], changed_at: &str) -> String {
    match columns::find(db, columns, changed_at) {
        Some(column) => format!("t.{}", db.dialect().quote(&column.name)),
        None => format!("({changed_at})"),
    }
}
