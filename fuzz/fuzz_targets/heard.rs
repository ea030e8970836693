//! Any bytes at any path of the receiver are read or refused, never more; what is read has a hash of its own.
#![no_main]

use conversica_sync::conversica::heard::{self, Kind};
use conversica_sync::conversica::vocabulary;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for kind in Kind::ALL {
        match heard::read(kind, body) {
            Ok(post) => {
                assert!(kind == Kind::ChatLead || !post.lead.id.is_empty());
                assert_eq!(post.content_hash(), post.clone().content_hash());
                vocabulary::outside(&post.content);
            }
            Err(unreadable) => assert!(!unreadable.0.is_empty()),
        }
    }
});
