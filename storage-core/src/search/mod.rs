//! Full-text search: what a text is found by, what a query asks for, and what is shown of a hit.
//!
//! Texts and queries are cut into words here, not by the stores, so that each store finds the same.

mod query;
mod rank;
mod snippet;
mod text;
mod words;

pub use query::{MAX_SEARCH_BYTES, Phrase, SearchQuery};
pub(crate) use rank::ranked;
pub use snippet::Snippet;
pub(crate) use text::check_label;
pub use text::{MAX_LABELS, MAX_TEXT_WORDS, SearchText};
