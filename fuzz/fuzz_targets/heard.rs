//! Any bytes at any path of the receiver are read or refused, never more; what is read has a hash of its own. What is read of a
//! Lead Update goes into the picture of its lead: once, however often it is heard, and as it is stored.
#![no_main]

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use conversica_sync::conversica::{consent, vocabulary, heard};
use conversica_sync::conversica::conversation::Conversation;
use conversica_sync::conversica::post::Kind;

fuzz_target!(|body: &[u8]| {
    for kind in Kind::ALL {
        match heard::read(kind, body) {
            Ok(post) => {
                assert!(kind == Kind::ChatLead || !post.lead.id.is_empty());
                assert_eq!(post.content_hash(), post.clone().content_hash());
                vocabulary::outside(&post.content);
                let mut picture = Conversation::default();
                picture.hear(&post.content, DateTime::UNIX_EPOCH);
                assert!(picture.hear(&post.content, DateTime::UNIX_EPOCH).is_empty());
                assert_eq!(Conversation::of_json(&picture.picture_json(), &picture.versions_json()), picture);
                consent::words(&post.content, DateTime::UNIX_EPOCH);
            }
            Err(unreadable) => assert!(!unreadable.0.is_empty()),
        }
    }
});
