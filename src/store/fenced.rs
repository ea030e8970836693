//! Sessions of a PostgreSQL state that refuses their writes after another poll has set a newer fencing token (see
//! [`crate::send::turn`]).

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{Executor as _, PgConnection, PgPool};

use crate::db::{ACQUIRE_TIMEOUT, trusted};
use crate::store::postgres::session_settings;

/// The fencing token for writes; a later poll may replace it.
#[derive(Debug, Clone, Default)]
pub struct FenceMark(Arc<Mutex<String>>);

impl FenceMark {
    pub fn set(&self, fence: &str) {
        fence.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A pool of one connection, because a poll does one thing after the other. The pool sets the fencing token whenever it hands the
/// session out; triggers of the state check it.
pub fn fenced_pool(pool: &PgPool, mark: &FenceMark) -> PgPool {
    let (connected, acquired) = (mark.clone(), mark.clone());
    let session: Arc<str> = session_settings().into();
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Setting the token also shows that the server answers.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (session, fence) = (session.clone(), connected.get());
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(trusted(session.to_string()))).await?;
                name_fence(connection, fence).await
            })
        })
        .before_acquire(move |connection, _| {
            let fence = acquired.get();
            Box::pin(async move { name_fence(connection, fence).await.map(|()| true) })
        })
        .connect_lazy_with((*pool.connect_options()).clone())
}

async fn name_fence(connection: &mut PgConnection, fence: String) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('conversica_sync.fence', $1, false)").bind(fence).execute(connection).await.map(drop)
}
