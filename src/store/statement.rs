//! A statement of the state as a value: a text with `$1` placeholders, and its arguments. Both engines take the same text.
//!
//! [`StateDb`] and [`StateTransaction`] run statements. Rows are read as tuples, or as structs that derive [`sqlx::FromRow`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, FromRow, Postgres, Sqlite, Transaction};

use crate::db::trusted;
use crate::store::state_db::StateDb;

/// An argument. The engine needs the type of a null too.
#[derive(Debug, Clone, PartialEq)]
pub enum StatementArgument {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! argument_from {
    ($type:ty, $variant:ident, $into:expr) => {
        impl From<$type> for StatementArgument {
            fn from(value: $type) -> Self {
                Self::$variant(Some($into(value)))
            }
        }
        impl From<Option<$type>> for StatementArgument {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map($into))
            }
        }
    };
}
argument_from!(&str, Text, str::to_owned);
argument_from!(&String, Text, String::clone);
argument_from!(String, Text, String::from);
argument_from!(i64, Integer, i64::from);
argument_from!(&[u8], Bytes, <[u8]>::to_vec);
argument_from!(Vec<u8>, Bytes, Vec::from);
argument_from!(&Vec<u8>, Bytes, Vec::clone);

/// A row that both engines can produce: every tuple of texts, integers and bytes, and every struct with `derive(FromRow)`.
pub trait StateRow: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> StateRow for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

#[derive(Debug, Clone, PartialEq)]
pub struct StateStatement {
    text: Cow<'static, str>,
    arguments: Vec<StatementArgument>,
    /// Where [`Self::push_bind`] wrote its placeholders.
    pushed: Vec<Range<usize>>,
    keeps_plan: bool,
}

impl StateStatement {
    /// A statement, or its beginning.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), arguments: Vec::new(), pushed: Vec::new(), keeps_plan: true }
    }

    /// Gives the next `$n` of the text its value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<StatementArgument>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// Appends text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Appends a placeholder with its value.
    pub fn push_bind(&mut self, value: impl Into<StatementArgument>) -> &mut Self {
        self.arguments.push(value.into());
        let number = self.arguments.len();
        let start = self.text.len();
        write!(self.text.to_mut(), "${number}").expect("a text can be appended to");
        self.pushed.push(start..self.text.len());
        self
    }

    /// Appends `values (…), (…)`. `fill` lists the values of one row.
    pub fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut StatementRow<'_>, T),
    ) -> &mut Self {
        self.push("values ");
        for (place, row) in rows.into_iter().enumerate() {
            self.push(if place == 0 { "(" } else { ", (" });
            fill(&mut StatementRow { statement: self, is_first: true }, row);
            self.push(")");
        }
        self
    }

    /// Appends values with commas between them.
    pub fn push_list<T: Into<StatementArgument>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        let mut row = StatementRow { statement: self, is_first: true };
        for value in values {
            row.push_bind(value);
        }
        self
    }

    /// Appends a statement whose values were all pushed.
    pub fn append(&mut self, other: StateStatement) -> &mut Self {
        let mut written = 0;
        for (place, value) in other.pushed.into_iter().zip(other.arguments) {
            self.push(&other.text[written..place.start]).push_bind(value);
            written = place.end;
        }
        self.push(&other.text[written..])
    }

    /// The text, for tests that prepare every statement.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// PostgreSQL makes a new plan for each run. A plan that was made while a table was empty reads the whole table in each run.
    #[must_use]
    pub fn plan_anew(mut self) -> Self {
        self.keeps_plan = false;
        self
    }

    /// SQLite looks up each `$n` in a list of all earlier ones, which takes seconds for a thousand leads. A `?` is not looked up.
    /// A statement that also has `$n` in its own text keeps them all; it has few values.
    fn sqlite_text(&self) -> String {
        if self.pushed.len() < self.arguments.len() {
            return self.text.to_string();
        }
        let mut text = String::with_capacity(self.text.len());
        let mut written = 0;
        for place in &self.pushed {
            text.push_str(&self.text[written..place.start]);
            text.push('?');
            written = place.end;
        }
        text.push_str(&self.text[written..]);
        text
    }

    fn for_sqlite(self) -> (sqlx::SqlStr, SqliteArguments) {
        let text = self.sqlite_text();
        let mut arguments = SqliteArguments::default();
        for argument in self.arguments {
            let added = match argument {
                StatementArgument::Text(value) => arguments.add(value),
                StatementArgument::Integer(value) => arguments.add(value),
                StatementArgument::Bytes(value) => arguments.add(value),
            };
            added.expect("texts, integers and bytes can be encoded");
        }
        (trusted(text), arguments)
    }

    fn for_postgres(self) -> (sqlx::SqlStr, PgArguments) {
        let mut arguments = PgArguments::default();
        for argument in self.arguments {
            let added = match argument {
                StatementArgument::Text(value) => arguments.add(value),
                StatementArgument::Integer(value) => arguments.add(value),
                StatementArgument::Bytes(value) => arguments.add(value),
            };
            added.expect("texts, integers and bytes can be encoded");
        }
        (trusted(self.text.into_owned()), arguments)
    }

    fn sqlite_query(self) -> Query<'static, Sqlite, SqliteArguments> {
        let (text, arguments) = self.for_sqlite();
        sqlx::query_with(text, arguments)
    }

    fn postgres_query(self) -> Query<'static, Postgres, PgArguments> {
        let keeps_plan = self.keeps_plan;
        let (text, arguments) = self.for_postgres();
        sqlx::query_with(text, arguments).persistent(keeps_plan)
    }

    fn sqlite_rows<T: StateRow>(self) -> QueryAs<'static, Sqlite, T, SqliteArguments> {
        let (text, arguments) = self.for_sqlite();
        sqlx::query_as_with(text, arguments)
    }

    fn postgres_rows<T: StateRow>(self) -> QueryAs<'static, Postgres, T, PgArguments> {
        let keeps_plan = self.keeps_plan;
        let (text, arguments) = self.for_postgres();
        sqlx::query_as_with(text, arguments).persistent(keeps_plan)
    }
}

impl From<&'static str> for StateStatement {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

impl From<String> for StateStatement {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// The values of one row of [`StateStatement::push_values`].
pub struct StatementRow<'s> {
    statement: &'s mut StateStatement,
    is_first: bool,
}

impl StatementRow<'_> {
    pub fn push_bind(&mut self, value: impl Into<StatementArgument>) -> &mut Self {
        if !self.is_first {
            self.statement.push(", ");
        }
        self.is_first = false;
        self.statement.push_bind(value);
        self
    }
}

/// A writing transaction of the state. It is rolled back when it is dropped without a commit.
#[derive(Debug)]
pub enum StateTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl StateDb {
    /// Begins a writing transaction. See [`StateDb::begin_write`].
    pub async fn begin(&self) -> Result<StateTransaction, sqlx::Error> {
        Ok(match self {
            StateDb::Sqlite(pool) => StateTransaction::Sqlite(pool.begin_with(self.begin_write()).await?),
            StateDb::Postgres(pool) => StateTransaction::Postgres(pool.begin_with(self.begin_write()).await?),
        })
    }

    /// Runs a statement by itself. Returns how many rows it changed.
    pub async fn execute(&self, statement: impl Into<StateStatement>) -> Result<u64, sqlx::Error> {
        let statement = statement.into();
        Ok(match self {
            StateDb::Sqlite(pool) => statement.sqlite_query().execute(pool).await?.rows_affected(),
            StateDb::Postgres(pool) => statement.postgres_query().execute(pool).await?.rows_affected(),
        })
    }

    pub async fn fetch_all<T: StateRow>(&self, statement: impl Into<StateStatement>) -> Result<Vec<T>, sqlx::Error> {
        let statement = statement.into();
        match self {
            StateDb::Sqlite(pool) => statement.sqlite_rows().fetch_all(pool).await,
            StateDb::Postgres(pool) => statement.postgres_rows().fetch_all(pool).await,
        }
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<T: StateRow>(
        &self,
        statement: impl Into<StateStatement>,
    ) -> Result<Option<T>, sqlx::Error> {
        let statement = statement.into();
        match self {
            StateDb::Sqlite(pool) => statement.sqlite_rows().fetch_optional(pool).await,
            StateDb::Postgres(pool) => statement.postgres_rows().fetch_optional(pool).await,
        }
    }

    /// # Errors
    /// [`sqlx::Error::RowNotFound`] if there is no row.
    pub async fn fetch_one<T: StateRow>(&self, statement: impl Into<StateStatement>) -> Result<T, sqlx::Error> {
        self.fetch_optional(statement).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

impl StateTransaction {
    /// Goes after a `select` whose rows no other session is to change before this transaction ends. SQLite has one writer at a
    /// time.
    pub(crate) fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " for update",
        }
    }

    /// As [`Self::for_update`], without the rows that another session has locked.
    pub(crate) fn skip_locked(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " for update skip locked",
        }
    }

    /// Returns how many rows the statement changed.
    pub async fn execute(&mut self, statement: impl Into<StateStatement>) -> Result<u64, sqlx::Error> {
        let statement = statement.into();
        Ok(match self {
            Self::Sqlite(transaction) => statement.sqlite_query().execute(&mut **transaction).await?.rows_affected(),
            Self::Postgres(transaction) => {
                statement.postgres_query().execute(&mut **transaction).await?.rows_affected()
            }
        })
    }

    pub async fn fetch_all<T: StateRow>(
        &mut self,
        statement: impl Into<StateStatement>,
    ) -> Result<Vec<T>, sqlx::Error> {
        let statement = statement.into();
        match self {
            Self::Sqlite(transaction) => statement.sqlite_rows().fetch_all(&mut **transaction).await,
            Self::Postgres(transaction) => statement.postgres_rows().fetch_all(&mut **transaction).await,
        }
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<T: StateRow>(
        &mut self,
        statement: impl Into<StateStatement>,
    ) -> Result<Option<T>, sqlx::Error> {
        let statement = statement.into();
        match self {
            Self::Sqlite(transaction) => statement.sqlite_rows().fetch_optional(&mut **transaction).await,
            Self::Postgres(transaction) => statement.postgres_rows().fetch_optional(&mut **transaction).await,
        }
    }

    /// # Errors
    /// [`sqlx::Error::RowNotFound`] if there is no row.
    pub async fn fetch_one<T: StateRow>(&mut self, statement: impl Into<StateStatement>) -> Result<T, sqlx::Error> {
        self.fetch_optional(statement).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}

/// Reads the state: with single statements, or inside a transaction.
pub trait StateReader: Send {
    fn read_all<T: StateRow>(
        &mut self,
        statement: StateStatement,
    ) -> impl Future<Output = Result<Vec<T>, sqlx::Error>> + Send;
}

impl StateReader for &StateDb {
    async fn read_all<T: StateRow>(&mut self, statement: StateStatement) -> Result<Vec<T>, sqlx::Error> {
        self.fetch_all(statement).await
    }
}

impl StateReader for StateTransaction {
    async fn read_all<T: StateRow>(&mut self, statement: StateStatement) -> Result<Vec<T>, sqlx::Error> {
        self.fetch_all(statement).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_in_the_order_of_their_values() {
        let mut statement = StateStatement::new("insert into t (a, b) ");
        statement.push_values([("x", 1_i64), ("y", 2)], |row, (a, b)| {
            row.push_bind(a).push_bind(b);
        });
        statement.push(" on conflict do nothing; select 1 where 5 in (").push_list([3_i64, 4]).push(")");
        assert_eq!(
            statement.text(),
            "insert into t (a, b) values ($1, $2), ($3, $4) on conflict do nothing; select 1 where 5 in ($5, $6)"
        );
        assert_eq!(
            statement.sqlite_text(),
            "insert into t (a, b) values (?, ?), (?, ?) on conflict do nothing; select 1 where 5 in (?, ?)"
        );
        let mut mixed = StateStatement::new("select $1, ").bind(1_i64);
        assert_eq!(mixed.push_bind(2_i64).sqlite_text(), "select $1, $2");
        assert_eq!(statement.arguments[2], StatementArgument::Text(Some("y".to_owned())));
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_changes_nothing() {
        let db = StateDb::open_state_in_memory().await.unwrap();
        let fact = || {
            StateStatement::new("insert into control (name, body, at) values ($1, $2, $3)")
                .bind("n")
                .bind("{}")
                .bind(7_i64)
        };
        let mut transaction = db.begin().await.unwrap();
        assert_eq!(transaction.execute(fact()).await.unwrap(), 1);
        drop(transaction);
        let find = || StateStatement::new("select body, at from control where name = $1").bind("n");
        assert_eq!(db.fetch_optional::<(String, i64)>(find()).await.unwrap(), None);
        let mut transaction = db.begin().await.unwrap();
        transaction.execute(fact()).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(db.fetch_one::<(String, i64)>(find()).await.unwrap(), ("{}".to_owned(), 7));
    }
}
