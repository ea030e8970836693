//! Stores posts as the receiver does, and applies them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::scene::Scene;
use conversica_sync::conversica::heard;
use conversica_sync::conversica::post::PostKind;
use conversica_sync::store::delivery::OptOuts;
use conversica_sync::store::heard::{AppliedEvents, HeardPolicy, apply};
use conversica_sync::store::state_db::StateDb;

/// A policy with all effects.
pub const ALL: HeardPolicy = HeardPolicy { writeback: true, alerts: true, opt_outs: OptOuts::Keep, ends_wait: true };

/// Stores a post; an identical earlier post makes it a repeat.
pub async fn store(db: &StateDb, kind: PostKind, body: &Value, at: DateTime<Utc>) {
    let bytes = body.to_string().into_bytes();
    let post = heard::read(kind, &bytes).expect("a readable post");
    on_state!(db, pool => {
        sqlx::query(
            "insert into event (kind, id, client_id, received_at, body, content_hash) values ($1, $2, '', $3, $4, $5) \
             on conflict (content_hash) do update set repeats = event.repeats + 1")
            .bind(kind.name()).bind(&post.lead.id).bind(at.timestamp_micros()).bind(&bytes)
            .bind(post.content_hash().as_bytes()).execute(pool).await.expect("an event is stored");
    });
}

/// Applies all stored posts.
pub async fn apply_all(db: &StateDb, now: DateTime<Utc>) -> AppliedEvents {
    apply(db, ALL, now).await.expect("events are applied")
}

/// Stores a Lead Update and applies it.
pub async fn update(db: &StateDb, body: Value, at: DateTime<Utc>) -> AppliedEvents {
    store(db, PostKind::LeadUpdate, &body, at).await;
    apply_all(db, at).await
}

/// Reads numbers, or texts as JSON.
pub async fn ask(db: &StateDb, sql: &'static str) -> Vec<String> {
    on_state!(db, pool => sqlx::query_scalar(sql).fetch_all(pool).await.expect("the state answers"))
}

impl Scene {
    /// Opens the scene's state and does something with it.
    pub fn with_state<T>(&self, work: impl AsyncFnOnce(&StateDb) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let db = StateDb::open_state(&self.state_store().url()).await.expect("the state opens");
            let result = work(&db).await;
            db.close().await;
            result
        })
    }

    /// Stores posts now, as the receiver does.
    pub fn post(&self, kind: PostKind, bodies: &[Value]) {
        self.with_state(async |db| {
            for body in bodies {
                store(db, kind, body, Utc::now()).await;
            }
        });
    }

    /// Stores Lead Updates now, and applies them.
    pub fn hear(&self, bodies: &[Value]) {
        self.post(PostKind::LeadUpdate, bodies);
        self.with_state(async |db| apply_all(db, Utc::now()).await);
    }
}
