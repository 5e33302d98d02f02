//! What an item is found by.

use std::{collections::HashMap, fmt};

use super::words::words;
use crate::{Error, Result};

/// The words of a text that are indexed: so many from its beginning, and 256 KiB of them at most.
///
/// Postgres tells 16,383 places in a text apart.
pub const MAX_TEXT_WORDS: usize = 16_000;
/// A `tsvector` of Postgres has less than 1 MiB, places included.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Postgres keeps so many places of a word.
const MAX_REPEATS: usize = 255;
/// Stands for a word that is not indexed, so that those around it do not move together. No word holds it.
const LEFT_OUT: &str = "\u{e000}";

/// The most labels of an item.
pub const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 64;

/// The words and labels that an item is found by; they are written in the same commit and go with it.
///
/// Of a text the first 16,000 words are indexed, 256 KiB at most, and of one word the first 255 places. Labels narrow a search
/// at no cost: who writes an item chooses them, such as one for a role and one for an owner.
///
/// ```
/// use storage_core::SearchText;
///
/// let text = SearchText::new("Likes green tea").with_label("r0user")?;
/// assert_eq!(text.words(), "likes green tea");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SearchText {
    words: String,
    labels: Vec<String>,
}

impl SearchText {
    /// What a text is found by.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut joined = String::with_capacity(text.len().min(MAX_TEXT_BYTES));
        let mut repeats: HashMap<String, usize> = HashMap::new();
        for (place, word) in words(text).take(MAX_TEXT_WORDS).enumerate() {
            if joined.len() + word.folded.len() >= MAX_TEXT_BYTES {
                break;
            }
            if place > 0 {
                joined.push(' ');
            }
            // Short texts repeat no word that often.
            let count = if text.len() <= MAX_REPEATS {
                0
            } else {
                let count = repeats.entry(word.folded.clone()).or_default();
                *count += 1;
                *count
            };
            joined.push_str(if count > MAX_REPEATS { LEFT_OUT } else { &word.folded });
        }
        Self { words: joined, labels: Vec::new() }
    }

    /// The same with a label.
    ///
    /// # Errors
    /// `InvalidInput` unless it has 1 to 64 of `a-z 0-9`, and for more than [`MAX_LABELS`].
    pub fn with_label(mut self, label: impl Into<String>) -> Result<Self> {
        let label = label.into();
        check_label(&label)?;
        if self.labels.len() == MAX_LABELS {
            return Err(Error::invalid_input(format!("an item may have {MAX_LABELS} labels")));
        }
        self.labels.push(label);
        Ok(self)
    }

    /// The words in the order of the text, folded, with a space between each two. One that stands only for its place is
    /// U+E000.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What it counts for in a commit.
    pub(crate) fn len(&self) -> usize {
        self.words.len() + self.labels.iter().map(String::len).sum::<usize>()
    }

    /// The words with their places, from 1 on; those that only stand for places are left out.
    pub fn places(&self) -> impl Iterator<Item = (&str, usize)> {
        let places = self.words.split(' ').zip(1..);
        places.filter(|(word, _)| !word.is_empty() && *word != LEFT_OUT)
    }
}

/// Only its size: values never appear in logs.
impl fmt::Debug for SearchText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SearchText({} bytes)", self.len())
    }
}

pub(crate) fn check_label(label: &str) -> Result<()> {
    let plain = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if plain && (1..=MAX_LABEL_BYTES).contains(&label.len()) {
        return Ok(());
    }
    let message = format!("a label has 1 to {MAX_LABEL_BYTES} characters of a-z and 0-9");
    Err(Error::invalid_input(message).with_key(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_beginning_is_indexed() {
        let many: String = (0..20_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(SearchText::new(&many).places().count(), MAX_TEXT_WORDS);
        let long: String = (0..10_000).map(|n| format!("{n:0120} ")).collect();
        let text = SearchText::new(&long);
        assert!(text.words().len() <= MAX_TEXT_BYTES, "{}", text.words().len());
        assert!(text.words().len() > MAX_TEXT_BYTES - 130);
    }

    #[test]
    fn a_word_that_is_repeated_too_often_keeps_the_others_apart() {
        let text = SearchText::new(&format!("{}last word", "again ".repeat(300)));
        assert_eq!(text.places().filter(|(word, _)| *word == "again").count(), MAX_REPEATS);
        assert_eq!(text.places().last(), Some(("word", 302)));
        assert!("\"last word\"".parse::<crate::SearchQuery>().unwrap().found_in(text.words()));
        assert!(!"\"again last\"".parse::<crate::SearchQuery>().unwrap().found_in(text.words()));
    }

    #[test]
    fn labels_are_checked() {
        let text = || SearchText::new("x");
        for label in ["", "A", "a b", "ä", "a_b", &"x".repeat(65)] {
            assert!(text().with_label(label).is_err(), "{label}");
        }
        let full = (0..MAX_LABELS).fold(text(), |text, n| text.with_label(format!("l{n}")).unwrap());
        assert!(full.with_label("one").is_err());
    }
}
