//! A statement of the state as a value: a text with `$1` placeholders, and its arguments. Both engines take the same text.
//!
//! [`StateDb`] runs single statements, and [`super::state_transaction`] several of them in a transaction. Rows are read as tuples, or as structs that derive [`sqlx::FromRow`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, FromRow, Postgres, Sqlite};

use crate::db::trusted;
use crate::store::row_arrays::{PostgresArgument, ValuesList, columns_of, rows_from};
use crate::store::state_db::StateDb;
pub use crate::store::statement_argument::StatementArgument;

/// A row that both engines can produce: every tuple of texts, integers and bytes, and every struct with `derive(FromRow)`.
pub trait StateRow: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> StateRow for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// Which plans PostgreSQL keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanKeeping {
    /// Those of statements that keep theirs, see [`StateStatement::plan_anew`].
    AsMarked,
    /// Also those of lists of rows, until a table has another size.
    WhileOfSize(TableSizes),
}

/// The sizes of the tables that grow, from which the server chooses its plans: how often each has doubled since it had one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableSizes {
    leads: u32,
    posts: u32,
}

impl TableSizes {
    pub(crate) fn of_pages(leads: i64, posts: i64) -> Self {
        let doubled = |pages: i64| pages.max(1).unsigned_abs().ilog2();
        Self { leads: doubled(leads), posts: doubled(posts) }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct StateStatement {
    text: Cow<'static, str>,
    arguments: Vec<StatementArgument>,
    /// Where [`Self::push_bind`] wrote its placeholders.
    pushed: Vec<Range<usize>>,
    /// What [`Self::push_values`] wrote.
    lists: Vec<ValuesList>,
    keeps_plan: bool,
}

impl StateStatement {
    /// A statement, or its beginning.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), arguments: Vec::new(), pushed: Vec::new(), lists: Vec::new(), keeps_plan: true }
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
        let (text, arguments) = (self.text.len(), self.arguments.len());
        let mut count = 0;
        self.push("values ");
        for (place, row) in rows.into_iter().enumerate() {
            count += 1;
            self.push(if place == 0 { "(" } else { ", (" });
            fill(&mut StatementRow { statement: self, is_first: true }, row);
            self.push(")");
        }
        self.lists.push(ValuesList {
            text: text..self.text.len(),
            arguments: arguments..self.arguments.len(),
            rows: count,
        });
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

    /// Appends a statement whose values were all pushed, without lists of rows.
    pub fn append(&mut self, other: StateStatement) -> &mut Self {
        debug_assert!(other.lists.is_empty() && other.pushed.len() == other.arguments.len());
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

    /// PostgreSQL makes a new plan for each run, as it does for a list of rows except where a delivery's transaction runs it. A plan that was made while a table was empty
    /// reads the whole table in each run.
    #[must_use]
    pub fn plan_anew(mut self) -> Self {
        self.keeps_plan = false;
        self
    }

    fn keeps_plan(&self, plans: &PlanKeeping) -> bool {
        match plans {
            PlanKeeping::AsMarked => self.keeps_plan && self.lists.is_empty(),
            PlanKeeping::WhileOfSize(_) => self.keeps_plan,
        }
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

    /// Rows are passed as an array for each column, so that the text does not depend on their number. A text with thousands of
    /// placeholders takes longer to parse than the statement to run.
    fn for_postgres(self, plans: &PlanKeeping) -> (sqlx::SqlStr, PgArguments) {
        let has_arrays = !self.lists.is_empty() && self.pushed.len() == self.arguments.len();
        let (mut text, arguments) = if has_arrays {
            self.with_arrays()
        } else {
            (self.text.into_owned(), self.arguments.into_iter().map(PostgresArgument::One).collect())
        };
        if let PlanKeeping::WhileOfSize(size) = plans {
            // Another text is another statement, with a plan of its own.
            let _ = write!(text, " -- {} {}", size.leads, size.posts);
        }
        let mut encoded = PgArguments::default();
        for argument in arguments {
            let added = match argument {
                PostgresArgument::One(StatementArgument::Text(value)) => encoded.add(value),
                PostgresArgument::One(StatementArgument::Integer(value)) => encoded.add(value),
                PostgresArgument::One(StatementArgument::Bytes(value)) => encoded.add(value),
                PostgresArgument::Texts(values) => encoded.add(values),
                PostgresArgument::Integers(values) => encoded.add(values),
                PostgresArgument::ByteTexts(values) => encoded.add(values),
            };
            added.expect("texts, integers and bytes can be encoded");
        }
        (trusted(text), encoded)
    }

    fn with_arrays(self) -> (String, Vec<PostgresArgument>) {
        let mut text = String::with_capacity(self.text.len());
        let mut arguments = Vec::new();
        let mut given: Vec<Option<StatementArgument>> = self.arguments.into_iter().map(Some).collect();
        let mut lists = self.lists.into_iter().peekable();
        let (mut written, mut place) = (0, 0);
        while place < given.len() {
            if let Some(list) = lists.next_if(|list| list.arguments.start == place) {
                text.push_str(&self.text[written..list.text.start]);
                let columns = columns_of(&mut given[list.arguments.clone()], list.rows);
                text.push_str(&rows_from(&columns, arguments.len()));
                arguments.extend(columns);
                (written, place) = (list.text.end, list.arguments.end);
            } else {
                text.push_str(&self.text[written..self.pushed[place].start]);
                arguments.extend(given[place].take().map(PostgresArgument::One));
                let _ = write!(text, "${}", arguments.len());
                (written, place) = (self.pushed[place].end, place + 1);
            }
        }
        text.push_str(&self.text[written..]);
        (text, arguments)
    }

    pub(crate) fn sqlite_query(self) -> Query<'static, Sqlite, SqliteArguments> {
        let (text, arguments) = self.for_sqlite();
        sqlx::query_with(text, arguments)
    }

    fn postgres_query(self) -> Query<'static, Postgres, PgArguments> {
        self.postgres_query_with(&PlanKeeping::AsMarked)
    }

    pub(crate) fn postgres_query_with(self, plans: &PlanKeeping) -> Query<'static, Postgres, PgArguments> {
        let keeps_plan = self.keeps_plan(plans);
        let (text, arguments) = self.for_postgres(plans);
        sqlx::query_with(text, arguments).persistent(keeps_plan)
    }

    pub(crate) fn sqlite_rows<T: StateRow>(self) -> QueryAs<'static, Sqlite, T, SqliteArguments> {
        let (text, arguments) = self.for_sqlite();
        sqlx::query_as_with(text, arguments)
    }

    fn postgres_rows<T: StateRow>(self) -> QueryAs<'static, Postgres, T, PgArguments> {
        self.postgres_rows_with(&PlanKeeping::AsMarked)
    }

    pub(crate) fn postgres_rows_with<T: StateRow>(
        self,
        plans: &PlanKeeping,
    ) -> QueryAs<'static, Postgres, T, PgArguments> {
        let keeps_plan = self.keeps_plan(plans);
        let (text, arguments) = self.for_postgres(plans);
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

impl StateDb {
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
        let (text, arguments) = statement.clone().with_arrays();
        assert_eq!(
            text,
            "insert into t (a, b) select * from unnest($1::text[], $2::bigint[]) as v (column1, column2) \
             on conflict do nothing; select 1 where 5 in ($3, $4)"
        );
        let (texts, numbers) = (["x", "y"].map(|text| Some(text.to_owned())), [Some(1), Some(2)]);
        assert_eq!(arguments[0], PostgresArgument::Texts(texts.to_vec()));
        assert_eq!(arguments[1], PostgresArgument::Integers(numbers.to_vec()));
        assert_eq!(arguments[3], PostgresArgument::One(StatementArgument::Integer(Some(4))));
        assert_eq!(statement.arguments[2], StatementArgument::Text(Some("y".to_owned())));
    }

    #[test]
    fn a_list_of_rows_is_prepared_once_while_the_tables_keep_their_sizes() {
        let text = |plans: &PlanKeeping| {
            let mut statement = StateStatement::new("insert into t (a) ");
            statement.push_values([1_i64], |row, a| _ = row.push_bind(a));
            (statement.keeps_plan(plans), statement.for_postgres(plans).0.as_str().to_owned())
        };
        let of = |leads, posts| text(&PlanKeeping::WhileOfSize(TableSizes::of_pages(leads, posts)));
        let (is_kept, plain) = text(&PlanKeeping::AsMarked);
        assert!(!is_kept && !plain.contains("--"), "{plain}");
        assert!(of(100, 0).0);
        assert_eq!(of(100, 0), of(127, 1), "about the same sizes");
        assert_ne!(of(127, 1), of(128, 1), "the leads have doubled");
        assert_ne!(of(127, 1), of(127, 2), "the posts have");
        let anew = StateStatement::new("select 1").plan_anew();
        assert!(!anew.keeps_plan(&PlanKeeping::WhileOfSize(TableSizes::of_pages(1, 1))));
    }
}
