//! Words: what texts and queries are cut into, the same on every store.

use std::{borrow::Cow, ops::Range};

use unicode_normalization::UnicodeNormalization;

/// The longest word, in bytes after folding; of a longer one the beginning counts.
const MAX_WORD_BYTES: usize = 128;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it is compared: in lower case, without accents.
    pub(super) folded: String,
    /// Where it stands in the text, in bytes.
    pub(super) range: Range<usize>,
}

/// Cuts a text into words: runs of letters and digits. What is not written with spaces (Chinese, Japanese, Thai and their
/// like) is a word for each character; as a query, several words that stand together are a phrase.
pub(super) fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

#[derive(Debug)]
pub(super) struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let mut word: Option<Word> = None;
        let rest = self.text.get(self.at..)?;
        let start = self.at;
        for (offset, character) in rest.char_indices() {
            let (from, to) = (start + offset, start + offset + character.len_utf8());
            let alone = stands_alone(character);
            if alone && word.is_some() {
                break;
            }
            match fold(character) {
                Folded::Part(part) => {
                    let word = word.get_or_insert_with(|| Word { folded: String::new(), range: from..to });
                    if word.folded.len() + part.len() <= MAX_WORD_BYTES {
                        word.folded.push_str(&part);
                    }
                    word.range.end = to;
                }
                // An accent belongs to the letter before it.
                Folded::Accent => {
                    if let Some(word) = &mut word {
                        word.range.end = to;
                    }
                }
                Folded::Between if word.is_some() => break,
                Folded::Between => {}
            }
            self.at = to;
            if alone && word.is_some() {
                break;
            }
        }
        if word.is_none() {
            self.at = self.text.len();
        }
        word
    }
}

enum Folded {
    Part(Cow<'static, str>),
    Accent,
    Between,
}

/// In lower case and without accents, after the compatibility decomposition of Unicode (NFKD, UAX #15).
fn fold(character: char) -> Folded {
    if character.is_ascii() {
        return if character.is_ascii_alphanumeric() {
            Folded::Part(ascii(character.to_ascii_lowercase()))
        } else {
            Folded::Between
        };
    }
    if is_accent(character) {
        return Folded::Accent;
    }
    let parts = std::iter::once(character).nfkd().filter(|part| !is_accent(*part) && part.is_alphanumeric());
    // A capital of some scripts becomes a letter and an accent.
    let folded: String = parts.flat_map(char::to_lowercase).filter(|part| part.is_alphanumeric()).collect();
    if folded.is_empty() { Folded::Between } else { Folded::Part(Cow::Owned(folded)) }
}

/// Most text is ASCII: its letters need no allocation.
fn ascii(lower: char) -> Cow<'static, str> {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
    let at = LETTERS.find(lower).unwrap_or_default();
    Cow::Borrowed(LETTERS.get(at..=at).unwrap_or_default())
}

/// The blocks of combining diacritical marks.
fn is_accent(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

/// Whether each character of its script is a word.
fn stands_alone(character: char) -> bool {
    matches!(character,
        '\u{e00}'..='\u{eff}' // Thai, Lao
        | '\u{1000}'..='\u{109f}' // Burmese
        | '\u{1780}'..='\u{17ff}' // Khmer
        | '\u{3040}'..='\u{30ff}' // Kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' // Han
    ) && character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<String> {
        words(text).map(|word| word.folded).collect()
    }

    #[test]
    fn texts_are_cut_into_folded_words() {
        for (text, expected) in [
            ("", &[][..]),
            (" ,.!", &[]),
            ("Hello, World", &["hello", "world"]),
            ("don't 3.14 a_b", &["don", "t", "3", "14", "a", "b"]),
            ("Äpfel ÄPFEL a\u{308}pfel", &["apfel", "apfel", "apfel"]),
            ("ﬁne ＡＢ½", &["fine", "ab12"]),
            ("İstanbul straße", &["istanbul", "straße"]),
            ("東京タワー", &["東", "京", "タ", "ワ", "ー"]),
            ("go東x", &["go", "東", "x"]),
            ("Привет МИР", &["привет", "мир"]),
            ("🦀crab🦀", &["crab"]),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let text = "«Äpfel» a\u{308}b東!";
        let found: Vec<&str> = words(text).map(|word| &text[word.range]).collect();
        assert_eq!(found, ["Äpfel", "a\u{308}b", "東"]);
    }

    #[test]
    fn of_a_long_word_the_beginning_counts() {
        let long = "x".repeat(100_000);
        let found: Vec<Word> = words(&long).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].folded.len(), found[0].range.clone()), (MAX_WORD_BYTES, 0..100_000));
    }
}
