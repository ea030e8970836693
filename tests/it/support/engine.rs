//! Both engines behind one interface, for tests that are the same on each: an empty database, its URL, and statements on
//! it.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::postgres::cluster;
use conversica_sync::store::state_db::StateDb;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Makes two tests of each named function, one an engine: `on_sqlite::…` and `on_postgres::…`. With `blocking:` in front,
/// for functions that are not async.
macro_rules! on_both_engines {
    (blocking: $($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                super::$name(crate::support::engine::Engine::Sqlite);
            })*
        }
        mod on_postgres {
            $(#[test]
            fn $name() {
                super::$name(crate::support::engine::Engine::Postgres);
            })*
        }
    };
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::support::engine::Engine::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::support::engine::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// The same for functions that block, such as those that run the program in a scene.
macro_rules! blocking_on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                super::$name(crate::support::engine::Engine::Sqlite);
            })*
        }
        mod on_postgres {
            $(#[test]
            fn $name() {
                super::$name(crate::support::engine::Engine::Postgres);
            })*
        }
    };
}
pub(crate) use blocking_on_both_engines;

/// An empty database for one test; an SQLite file is deleted on drop.
pub struct Place {
    pub engine: Engine,
    pub url: String,
    directory: Option<TempDir>,
}

impl Engine {
    pub fn place(self) -> Place {
        match self {
            Engine::Sqlite => {
                let directory = tempfile::tempdir().expect("a directory");
                let url = format!("sqlite://{}/test.db", directory.path().display());
                Place { engine: self, url, directory: Some(directory) }
            }
            Engine::Postgres => Place { engine: self, url: cluster().database().url, directory: None },
        }
    }

    /// The one of the two texts that is for this engine.
    pub fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Engine::Sqlite => sqlite,
            Engine::Postgres => postgres,
        }
    }

    pub fn other(self) -> Self {
        self.pick(Engine::Postgres, Engine::Sqlite)
    }
}

impl Place {
    /// An existing database, or the same one for another user.
    pub fn at(engine: Engine, url: String) -> Self {
        Place { engine, url, directory: None }
    }

    /// Runs statements over their own connection, as the owner of the data.
    pub async fn sql(&self, statements: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        let done = match self.engine {
            Engine::Sqlite => {
                let url = format!("{}?mode=rwc", self.url);
                let mut connection = SqliteConnection::connect(&url).await.expect("the file opens");
                connection.execute(sql).await.map(drop)
            }
            Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
                connection.execute(sql).await.map(drop)
            }
        };
        done.unwrap_or_else(|error| panic!("{:?} refused `{statements}`: {error}", self.engine));
    }

    /// A fresh state in this place.
    pub async fn state(&self) -> StateDb {
        StateDb::open_state(&self.url).await.expect("a fresh state")
    }

    /// The SQLite file's directory.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.as_ref().expect("only SQLite has a file").path()
    }
}
