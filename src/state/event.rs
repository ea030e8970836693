//! Tables `event` and `received_count`: what Conversica has posted, as it came, before anything is made of it.

use crate::conversica::heard::Kind;
use crate::conversica::lead::LeadId;

/// In which lane of the write-back an event goes: those of one lead arrive in their order, a chat lead goes by itself.
pub fn lane(kind: Kind, lead: &LeadId, seq: i64) -> String {
    match kind {
        Kind::LeadUpdate | Kind::Message => format!("{}\u{1f}{}", lead.id, lead.client_id),
        Kind::ChatLead => format!("chat\u{1f}{seq}"),
    }
}
