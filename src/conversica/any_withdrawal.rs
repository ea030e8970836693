//! The channels that a post may withdraw consent from, for certain or perhaps. It is asked of posts about a person who is erased: no
//! operator can look at such a post later. Pure.

use crate::conversica::consent::{self, EARLIEST};
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::heard;
use crate::conversica::post::PostKind;
use crate::conversica::withdrawal;

/// `problem` is why the post could not be read when it came.
pub fn list_withdrawn(kind: PostKind, body: &[u8], problem: Option<&str>) -> Vec<ConsentChannel> {
    let mut channels = Vec::new();
    let found = match heard::read(kind, body) {
        _ if problem == Some(heard::TOO_LARGE) => withdrawal::in_too_large(kind, body),
        Err(_) => withdrawal::in_unreadable(kind, body),
        Ok(post) => {
            let words = if kind == PostKind::LeadUpdate { consent::words(&post.content, EARLIEST) } else { Vec::new() };
            channels.extend(words.iter().filter(|word| !word.given).map(|word| word.channel));
            withdrawal::in_readable(&post, &words)
        }
    };
    channels.extend(found.into_iter().flat_map(|found| found.channels.into_iter().chain(found.unclear)));
    channels.sort();
    channels.dedup();
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_withdraw_consent_is_listed() {
        let of = |body: &str| list_withdrawn(PostKind::LeadUpdate, body.as_bytes(), None);
        assert_eq!(of(r#"{"id":"1","doNotEmail":true}"#), [ConsentChannel::Email]);
        assert_eq!(
            of(r#"{"id":"1","smsOptOut":true,"doNotEmail":true}"#),
            [ConsentChannel::Email, ConsentChannel::Sms]
        );
        assert_eq!(of(r#"{"id":"1","smsOptOut":tr"#), [ConsentChannel::Sms]);
        assert_eq!(of(r#"{"id":"1","hotLead":true,"doNotEmail":false}"#), []);
        assert_eq!(list_withdrawn(PostKind::LeadUpdate, b"{\"id\":\"1\"", Some(heard::TOO_LARGE)).len(), 2);
    }
}
