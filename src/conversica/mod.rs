//! What Conversica defines: the Lead object, the endpoint's answers and a client for it, and its posts to us.

pub mod acceptance;
pub mod any_withdrawal;
pub mod consent;
pub mod consent_word;
pub mod content;
pub mod conversation;
pub mod excerpt;
pub mod heard;
pub mod heard_dates;
pub mod lead;
pub mod lead_name;
pub mod lenient;
pub mod outcome;
pub mod post;
pub mod post_text;
pub mod sign_of_life;
pub mod stop_words;
pub mod token;
pub mod vocabulary;
pub mod withdrawal;
