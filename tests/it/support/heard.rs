//! Conversica's posts as the state holds them before the write-back to the CRM. The tests insert them without the
//! receiver.

use serde_json::{Value, json};

use super::scene::Store;
use conversica_sync::conversica::heard;
use conversica_sync::conversica::post::PostKind;

/// A post, and the result of applying it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub kind: PostKind,
    pub id: String,
    pub body: String,
    effect: Option<String>,
    picture: Option<String>,
}

fn with_id(id: &str, mut keys: Value) -> String {
    keys["id"] = json!(id);
    keys.to_string()
}

impl Heard {
    /// A Lead Update whose keys are all news.
    pub fn update(id: &str, keys: Value) -> Self {
        let (effect, picture) = (Some(keys.to_string()), Some(keys.to_string()));
        Self { kind: PostKind::LeadUpdate, id: id.to_owned(), body: with_id(id, keys), effect, picture }
    }

    /// Only these keys are news.
    #[must_use]
    pub fn news(mut self, effect: Value) -> Self {
        self.effect = Some(effect.to_string());
        self
    }

    /// The merged picture of the lead after this update.
    #[must_use]
    pub fn picture(mut self, picture: Value) -> Self {
        self.picture = Some(picture.to_string());
        self
    }

    pub fn message(id: &str, action: &str, body: &str) -> Self {
        let keys = json!({"apiVersion": "7.2", "action": action, "date": "2026-02-03T04:05:06+00:00", "subject": "Hi", "body": body});
        Self { kind: PostKind::Message, id: id.to_owned(), body: with_id(id, keys), effect: None, picture: None }
    }

    pub fn chat_lead(keys: Value) -> Self {
        Self { kind: PostKind::ChatLead, id: String::new(), body: keys.to_string(), effect: None, picture: None }
    }

    /// The hash of the content, as the CRM stores it.
    pub fn key(&self) -> String {
        let post = heard::read(self.kind, self.body.as_bytes()).expect("a post that can be read");
        post.content_hash().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Inserts the post into the state, due at once.
    #[track_caller]
    pub fn put(&self, state: &Store) {
        state.sql(&self.sql(state));
    }

    /// Inserts the posts into the state in this order, together.
    #[track_caller]
    pub fn put_all(all: &[Self], state: &Store) {
        // A command line has room for 20.
        for some in all.chunks(20) {
            state.sql(&some.iter().map(|heard| heard.sql(state)).collect::<String>());
        }
    }

    fn sql(&self, state: &Store) -> String {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let or_null = |value: &Option<String>| value.as_deref().map_or("null".to_owned(), text);
        let bytes = |hex: &str| match state {
            Store::File(_) => format!("x'{hex}'"),
            Store::Database(_) => format!("'\\x{hex}'::bytea"),
        };
        let body: String = self.body.bytes().map(|byte| format!("{byte:02x}")).collect();
        let (hash, kind, id) = (bytes(&self.key()), self.kind.name(), text(&self.id));
        let lane = match self.kind {
            PostKind::ChatLead => "'chat\u{1f}' || seq".to_owned(),
            PostKind::LeadUpdate | PostKind::Message => text(&format!("{}\u{1f}", self.id)),
        };
        // Instants as in a real row, so that tests can compare them.
        let at = 1_767_225_845_000_000_i64;
        let conversation = match self.kind {
            PostKind::ChatLead => String::new(),
            PostKind::LeadUpdate | PostKind::Message => format!(
                "insert into conversation (id, client_id, picture, versions, first_heard_at, last_heard_at) \
                 values ({id}, '', {}, '{{}}', {at}, {at}) on conflict (id, client_id) do update set {} \
                 last_heard_at = excluded.last_heard_at + 1000000;",
                text(self.picture.as_deref().unwrap_or("{}")),
                if self.picture.is_some() { "picture = excluded.picture," } else { "" }
            ),
        };
        format!(
            "begin; {conversation} \
             insert into event (kind, id, client_id, received_at, body, content_hash, applied_at, effect) \
             values ('{kind}', {id}, '', {at}, {}, {hash}, {at}, {}); \
             insert into writeback (event_seq, lane, status, due_at) \
             select seq, {lane}, 'waiting', 0 from event where content_hash = {hash}; commit;",
            bytes(&body),
            or_null(&self.effect)
        )
    }
}
