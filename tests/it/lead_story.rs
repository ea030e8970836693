//! One lead's story.
