//! With `mode = "sql"`: the operator's statements, prepared, and an event's values for them.
//!
//! On PostgreSQL the server reports the type of each parameter. The value travels as text and the statement casts it, so the
//! database itself parses Conversica's text for any column type.

use chrono_tz::Tz;
use serde_json::{Map, Value};
use sqlx::mysql::MySqlArguments;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgErrorPosition};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{
    Connection as _, Either, Executor, MySql, PgConnection, Postgres, Sqlite, SqliteConnection, Statement as _,
    TypeInfo as _,
};

use crate::config::WritebackSettings;
use crate::conversica::heard;
use crate::conversica::lead::ValueKind;
use crate::conversica::post::PostKind;
use crate::conversica::post_text::decode_body;
use crate::db::trusted;
use crate::error::SetupError;
use crate::rules::heard_event::WaitingEvent;
use crate::rules::value;
use crate::source::dialect::SourceDialect;
use crate::source::named::{self, NamedStatement};
use crate::source::writeback::failure::WriteFailure;
use crate::source::writeback::tables::{format_instant, json_without_nul, without_nul};

/// The statements of one kind of event, in the order in which they run.
#[derive(Debug, Clone, Default)]
pub struct EventStatements {
    lead_update: Vec<NamedStatement>,
    message: Vec<NamedStatement>,
    chat_lead: Vec<NamedStatement>,
}

/// A statement ready to run.
#[derive(Debug, Clone)]
pub struct PreparedStatement {
    sql: String,
    parameters: Vec<StatementParameter>,
}

#[derive(Debug, Clone)]
struct StatementParameter {
    name: String,
    wants: ParameterType,
}

/// PostgreSQL's type of a parameter, as far as it affects how a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParameterType {
    /// A boolean as 1 or 0.
    Number,
    /// A text in quotes.
    Json,
    Anything,
}

impl ParameterType {
    fn of(type_name: &str) -> Self {
        match type_name {
            "INT2" | "INT4" | "INT8" | "NUMERIC" | "FLOAT4" | "FLOAT8" => ParameterType::Number,
            "JSON" | "JSONB" => ParameterType::Json,
            _ => ParameterType::Anything,
        }
    }
}

/// A statement of MySQL with its values bound.
pub(crate) type BoundStatement = Query<'static, MySql, MySqlArguments>;

/// The statements of all kinds, in the order of [`PostKind::ALL`].
pub type ReadyStatements = [Vec<PreparedStatement>; 3];

/// Parameters besides the keys that Conversica posts.
pub const EXTRA: [&str; 3] = ["receivedAt", RAW_BODY, "eventKey"];
const RAW_BODY: &str = "rawBody";

impl EventStatements {
    /// # Errors
    /// [`SetupError`] for a statement that cannot be parsed.
    pub fn read(settings: &WritebackSettings, engine: SourceDialect) -> Result<Self, SetupError> {
        let read = |kind: PostKind, text: &Option<String>| {
            let Some(text) = text else { return Ok(Vec::new()) };
            named::parse(text, engine).map_err(|error| {
                let cure = "parameters are written `:leadStatus`, as the keys of what Conversica posts; see docs/write-back.md";
                SetupError::new(format!("[writeback] {}: {error}", kind.name()), cure)
            })
        };
        Ok(Self {
            lead_update: read(PostKind::LeadUpdate, &settings.lead_update)?,
            message: read(PostKind::Message, &settings.message)?,
            chat_lead: read(PostKind::ChatLead, &settings.chat_lead)?,
        })
    }

    pub fn of(&self, kind: PostKind) -> &[NamedStatement] {
        match kind {
            PostKind::LeadUpdate => &self.lead_update,
            PostKind::Message => &self.message,
            PostKind::ChatLead => &self.chat_lead,
        }
    }

    pub async fn prepare_sqlite(&self, connection: &mut SqliteConnection) -> Result<ReadyStatements, WriteFailure> {
        let mut ready = ReadyStatements::default();
        for (kind, ready) in PostKind::ALL.into_iter().zip(&mut ready) {
            for named in self.of(kind) {
                let sql = named.numbered();
                let prepared = connection.prepare(trusted(sql.clone())).await;
                prepared.map_err(|error| WriteFailure::unfit(preparing(kind, None), error))?;
                let parameter =
                    |name: &str| StatementParameter { name: name.to_owned(), wants: ParameterType::Anything };
                ready.push(PreparedStatement { sql, parameters: named.names().into_iter().map(parameter).collect() });
            }
        }
        Ok(ready)
    }

    pub async fn prepare_postgres(&self, connection: &mut PgConnection) -> Result<ReadyStatements, WriteFailure> {
        let mut ready = ReadyStatements::default();
        for (kind, ready) in PostKind::ALL.into_iter().zip(&mut ready) {
            for named in self.of(kind) {
                let prepared = infer(connection, named).await;
                ready.push(prepared.map_err(|(error, at)| WriteFailure::unfit(preparing(kind, at), error))?);
            }
        }
        Ok(ready)
    }
}

pub(crate) fn preparing(kind: PostKind, at: Option<usize>) -> String {
    let at = at.map(|at| format!(" (at character {at})")).unwrap_or_default();
    format!("preparing [writeback] {}{at}", kind.name())
}

/// Finds the type at every parameter's place; each place has a number of its own, as it may have a type of its own.
async fn infer(
    connection: &mut PgConnection,
    named: &NamedStatement,
) -> Result<PreparedStatement, (sqlx::Error, Option<usize>)> {
    let mut texts: Vec<usize> = Vec::new();
    loop {
        let write = |place: usize| {
            let cast = if texts.contains(&place) { "::text" } else { "" };
            format!("${}{cast}", place + 1)
        };
        // Without the savepoint, a failure would end the transaction.
        let mut savepoint = connection.begin().await.map_err(|error| (error, None))?;
        let prepared = savepoint.prepare(trusted(named.with(write))).await;
        savepoint.rollback().await.map_err(|error| (error, None))?;
        // Only a named statement tells the types of its parameters. It must be closed before the transaction that it was prepared
        // in ends.
        connection.clear_cached_statements().await.map_err(|error| (error, None))?;
        let error = match prepared {
            Ok(statement) => {
                let types = match statement.parameters() {
                    Some(Either::Left(types)) => types.to_vec(),
                    _ => Vec::new(),
                };
                return finish(connection, named, &types).await.map_err(|error| (error, None));
            }
            Err(error) => error,
        };
        // `:x is null` shows no type; text works.
        match untyped(&error).filter(|place| *place < named.places().len() && !texts.contains(place)) {
            Some(place) => texts.push(place),
            None => {
                let at = position(&error).map(|at| named.position(at, write));
                return Err((error, at));
            }
        }
    }
}

async fn finish(
    connection: &mut PgConnection,
    named: &NamedStatement,
    types: &[sqlx::postgres::PgTypeInfo],
) -> Result<PreparedStatement, sqlx::Error> {
    let oids: Vec<i64> = types.iter().map(|kind| kind.oid().map_or(25, |oid| i64::from(oid.0))).collect();
    // -1, not null: otherwise a `char(3)` would be read as `char(1)`.
    let names: Vec<String> = sqlx::query_scalar(
        "select format_type(t.oid::oid, -1) from unnest($1::bigint[]) with ordinality t (oid, n) order by n",
    )
    .bind(&oids)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let sql = named.with(|place| match names.get(place) {
        Some(name) => format!("cast(${}::text as {name})", place + 1),
        None => format!("${}::text", place + 1),
    });
    let wants = |place: usize| ParameterType::of(types.get(place).map_or("", |kind| kind.name()));
    let parameters = named
        .places()
        .iter()
        .enumerate()
        .map(|(place, name)| StatementParameter { name: name.clone(), wants: wants(place) });
    Ok(PreparedStatement { sql, parameters: parameters.collect() })
}

/// The place, from 0, of a parameter whose type the server cannot determine.
fn untyped(error: &sqlx::Error) -> Option<usize> {
    let database = error.as_database_error().filter(|database| database.code().as_deref() == Some("42P18"))?;
    let digits: String = database.message().split('$').nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<usize>().ok()?.checked_sub(1)
}

fn position(error: &sqlx::Error) -> Option<usize> {
    match error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.position()? {
        PgErrorPosition::Original(at) => Some(at),
        PgErrorPosition::Internal { .. } => None,
    }
}

impl PreparedStatement {
    /// A statement with a parameter at each place, in their order; its parameters take any value.
    pub(crate) fn of_places(sql: String, places: &[String]) -> Self {
        let parameter = |name: &String| StatementParameter { name: name.clone(), wants: ParameterType::Anything };
        Self { sql, parameters: places.iter().map(parameter).collect() }
    }

    pub(crate) fn query_mysql(&self, values: &Map<String, Value>) -> BoundStatement {
        let mut query: BoundStatement = sqlx::query(trusted(self.sql.clone()));
        for parameter in &self.parameters {
            query = match values.get(&parameter.name) {
                None | Some(Value::Null) => query.bind(None::<String>),
                Some(Value::String(text)) if let Some(at) = mysql_instant(&parameter.name, text) => query.bind(at),
                Some(Value::Bool(yes)) => query.bind(*yes),
                Some(Value::Number(number)) => match number.as_i64() {
                    Some(whole) => query.bind(whole),
                    None => query.bind(number.as_f64()),
                },
                Some(Value::String(text)) => query.bind(without_nul(text)),
                Some(other) => query.bind(json_without_nul(&other.to_string())),
            };
        }
        query
    }

    pub fn query_sqlite(&self, values: &Map<String, Value>) -> Query<'static, Sqlite, SqliteArguments> {
        let mut query = sqlx::query(trusted(self.sql.clone()));
        for parameter in &self.parameters {
            query = match values.get(&parameter.name) {
                None | Some(Value::Null) => query.bind(None::<String>),
                Some(Value::Bool(yes)) => query.bind(i64::from(*yes)),
                Some(Value::Number(number)) => match number.as_i64() {
                    Some(whole) => query.bind(whole),
                    None => query.bind(number.as_f64()),
                },
                Some(Value::String(text)) => query.bind(without_nul(text)),
                Some(other) => query.bind(json_without_nul(&other.to_string())),
            };
        }
        query
    }

    pub fn query_postgres(&self, values: &Map<String, Value>) -> Query<'static, Postgres, PgArguments> {
        let mut query = sqlx::query(trusted(self.sql.clone()));
        for parameter in &self.parameters {
            query = query.bind(match (values.get(&parameter.name), parameter.wants) {
                (None | Some(Value::Null), _) => None,
                (Some(Value::Bool(yes)), ParameterType::Number) => Some(u8::from(*yes).to_string()),
                // This parameter is JSON already.
                (Some(Value::String(text)), ParameterType::Json) if parameter.name == RAW_BODY => {
                    Some(json_without_nul(text))
                }
                (Some(Value::String(text)), ParameterType::Number | ParameterType::Anything) => Some(without_nul(text)),
                (Some(other), _) => Some(json_without_nul(&other.to_string())),
            });
        }
        query
    }
}

/// A moment as MySQL's `datetime` takes it, in UTC; MariaDB reads no time zones. `None` for any other value.
fn mysql_instant(name: &str, text: &str) -> Option<String> {
    let is_moment =
        |kind: &PostKind| kind.keys().iter().any(|(key, kind)| *key == name && *kind == ValueKind::Datetime);
    if name != EXTRA[0] && !PostKind::ALL.iter().any(is_moment) {
        return None;
    }
    let at = value::datetime(text.trim(), Tz::UTC)?;
    Some(at.format("%F %T%.3f").to_string())
}

/// The values of the parameters; `None` for a Lead Update without news.
pub fn values(event: &WaitingEvent) -> Option<Map<String, Value>> {
    let post = heard::read(event.kind, &event.body).ok()?;
    let said = |text: &str| if text.is_empty() { Value::Null } else { Value::String(text.to_owned()) };
    let version = post.content.get("apiVersion").cloned();
    let mut values = match event.kind {
        PostKind::Message | PostKind::ChatLead => post.content,
        PostKind::LeadUpdate => {
            let effect: Map<String, Value> =
                event.effect.as_deref().and_then(|effect| serde_json::from_str(effect).ok()).unwrap_or_default();
            if effect.is_empty() {
                return None;
            }
            effect
        }
    };
    let id = said(if post.lead.id.is_empty() { &event.lead.id } else { &post.lead.id });
    for (key, value) in [
        ("id", id.clone()),
        ("leadId", id),
        ("clientId", said(&post.lead.client_id)),
        ("apiVersion", version.unwrap_or_default()),
        ("receivedAt", Value::String(format_instant(event.received_at))),
        (RAW_BODY, Value::String(decode_body(&event.body).text)),
        ("eventKey", Value::String(event.key.clone())),
    ] {
        values.insert(key.to_owned(), value);
    }
    Some(values)
}

/// Every name that a parameter of such an event may have, as far as Conversica has published the keys.
pub fn known_names(kind: PostKind) -> Vec<&'static str> {
    let own = ["id", "leadId", "clientId"].into_iter().chain(EXTRA);
    let history = (kind == PostKind::ChatLead).then_some("conversationHistory");
    kind.keys().iter().map(|(key, _)| *key).chain(own).chain(history).collect()
}
