//! A writing transaction of the state, and how it begins.

use sqlx::{Postgres, Sqlite, Transaction};

use crate::store::state_db::StateDb;
use crate::store::statement::{PlanKeeping, StateReader, StateRow, StateStatement, TableSizes};

/// A writing transaction of the state. It is rolled back when it is dropped without a commit.
#[derive(Debug)]
pub enum StateTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(PostgresTransaction),
}

#[derive(Debug)]
pub struct PostgresTransaction {
    pub(crate) transaction: Transaction<'static, Postgres>,
    plans: PlanKeeping,
}

impl StateDb {
    /// Begins a writing transaction. See [`StateDb::begin_write`].
    pub async fn begin(&self) -> Result<StateTransaction, sqlx::Error> {
        Ok(match self {
            StateDb::Sqlite(pool) => StateTransaction::Sqlite(pool.begin_with(self.begin_write()).await?),
            StateDb::Postgres(pool) => StateTransaction::Postgres(PostgresTransaction {
                transaction: pool.begin_with(self.begin_write()).await?,
                plans: PlanKeeping::AsMarked,
            }),
        })
    }

    /// As [`Self::begin`]. PostgreSQL keeps the statements of its transactions, and may keep their plans, for as long as the tables have
    /// about these sizes: reading and planning their texts takes longer than running them. A plan that was made while a table was small
    /// reads the whole table.
    pub(crate) async fn begin_with_kept_plans(&self, sizes: TableSizes) -> Result<StateTransaction, sqlx::Error> {
        let mut begun = self.begin().await?;
        if let StateTransaction::Postgres(transaction) = &mut begun {
            transaction.plans = PlanKeeping::WhileOfSize(sizes);
        }
        Ok(begun)
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
            Self::Postgres(PostgresTransaction { transaction, plans }) => {
                statement.postgres_query_with(plans).execute(&mut **transaction).await?.rows_affected()
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
            Self::Postgres(PostgresTransaction { transaction, plans }) => {
                statement.postgres_rows_with(plans).fetch_all(&mut **transaction).await
            }
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
            Self::Postgres(PostgresTransaction { transaction, plans }) => {
                statement.postgres_rows_with(plans).fetch_optional(&mut **transaction).await
            }
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
            Self::Postgres(PostgresTransaction { transaction, .. }) => transaction.commit().await,
        }
    }

    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(PostgresTransaction { transaction, .. }) => transaction.rollback().await,
        }
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
