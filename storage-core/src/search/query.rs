//! What a query asks for.

use super::words::words;
use crate::{Error, Result};

/// The longest query, in bytes.
pub const MAX_SEARCH_BYTES: usize = 1024;
/// The most words of a query.
const MAX_WORDS: usize = 64;

/// A query over texts, as people write it.
///
/// | written | finds texts with |
/// |---|---|
/// | `green tea` | both words, anywhere |
/// | `"green tea"` | the words one right after the other |
/// | `tea OR coffee` | one of them; binds more tightly than the space between others |
/// | `tea -green` | the first, but not the second |
/// | `neg*` | a word that begins so |
///
/// Words are runs of letters and digits, compared without regard to case and accents. A term that holds several, such as
/// `don't` or `東京`, is a phrase. There are no stop words and no stems: `deal` does not find `deals`, `deal*` does.
///
/// ```
/// use storage_core::SearchQuery;
///
/// let query: SearchQuery = r#""green tea" sencha OR match* -coffee"#.parse()?;
/// assert!(query.matches("Green tea: MATCHA"));
/// assert!(!query.matches("Green tea, matcha and coffee"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    all: Vec<Vec<Phrase>>,
    none: Vec<Phrase>,
}

/// Words that stand one right after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phrase {
    /// One at least, folded: letters and digits alone.
    pub words: Vec<String>,
    /// Whether the last is only the beginning of one.
    pub prefix: bool,
}

impl SearchQuery {
    /// Of each of these groups one phrase must be in the text; there is one group at least, each of one phrase at least.
    #[must_use]
    pub fn all(&self) -> &[Vec<Phrase>] {
        &self.all
    }

    /// None of these may be in the text.
    #[must_use]
    pub fn none(&self) -> &[Phrase] {
        &self.none
    }

    /// Whether a text is found by this, as a store decides: by its beginning, where it is longer than what is indexed.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.found_in(super::SearchText::new(text).words())
    }

    /// Whether words that are separated by spaces are.
    pub(crate) fn found_in(&self, words: &str) -> bool {
        let words: Vec<&str> = words.split(' ').collect();
        let holds = |phrase: &Phrase| (0..words.len()).any(|at| phrase.stands_at(&words, at));
        self.all.iter().all(|group| group.iter().any(holds)) && !self.none.iter().any(holds)
    }

    /// The phrases that a text may be found by.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Phrase> {
        self.all.iter().flatten()
    }
}

impl Phrase {
    /// Whether it begins at a place in a sequence of words.
    pub(crate) fn stands_at<T: AsRef<str>>(&self, words: &[T], at: usize) -> bool {
        let Some(found) = words.get(at..at + self.words.len()) else { return false };
        let last = self.words.len() - 1;
        self.words.iter().zip(found).enumerate().all(|(place, (word, found))| {
            let found = found.as_ref();
            if self.prefix && place == last { found.starts_with(word.as_str()) } else { found == word }
        })
    }
}

impl std::str::FromStr for SearchQuery {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` for more than [`MAX_SEARCH_BYTES`] or 64 words, and where there is no word that a text must have.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_SEARCH_BYTES {
            let message = format!("a query may have {MAX_SEARCH_BYTES} bytes; this one has {}", text.len());
            return Err(Error::invalid_input(message));
        }
        let (mut query, mut or, mut count) = (Self { all: Vec::new(), none: Vec::new() }, false, 0);
        for term in (Terms { rest: text }) {
            if term.text == "OR" && !term.quoted && !term.excluded {
                or = true;
                continue;
            }
            let words: Vec<String> = words(term.text).map(|word| word.folded).collect();
            count += words.len();
            if words.is_empty() {
                continue;
            }
            let phrase = Phrase { words, prefix: term.prefix };
            match query.all.last_mut() {
                _ if term.excluded => query.none.push(phrase),
                Some(group) if or => group.push(phrase),
                _ => query.all.push(vec![phrase]),
            }
            or = false;
        }
        if count > MAX_WORDS {
            let message = format!("a query may have {MAX_WORDS} words; this one has {count}");
            return Err(Error::invalid_input(message));
        }
        if query.all.is_empty() {
            return Err(Error::invalid_input("the query has no word to find").with_hint(
                "write one word or more, such as `green tea`; one with `-` before it only leaves out",
            ));
        }
        Ok(query)
    }
}

/// A term of a query.
struct Term<'a> {
    text: &'a str,
    quoted: bool,
    excluded: bool,
    prefix: bool,
}

struct Terms<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Terms<'a> {
    type Item = Term<'a>;

    fn next(&mut self) -> Option<Term<'a>> {
        let rest = self.rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let (excluded, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let (quoted, rest) = rest.strip_prefix('"').map_or((false, rest), |rest| (true, rest));
        let end = rest.find(|c: char| if quoted { c == '"' } else { c.is_whitespace() || c == '"' });
        // A quotation that does not end goes to the end.
        let (text, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let rest = if quoted { rest.strip_prefix('"').unwrap_or(rest) } else { rest };
        let after = if quoted { rest } else { text };
        let prefix = if quoted { after.starts_with('*') } else { after.ends_with('*') };
        self.rest = if quoted { rest.strip_prefix('*').unwrap_or(rest) } else { rest };
        Some(Term { text, quoted, excluded, prefix })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> SearchQuery {
        text.parse().unwrap()
    }

    #[test]
    fn queries_find_what_their_table_says() {
        for (query, text, found) in [
            ("green tea", "tea that is green", true),
            ("green tea", "tea that is red", false),
            ("\"green tea\"", "Green Tea!", true),
            ("\"green tea\"", "green, hot tea", false),
            ("tea OR coffee", "coffee", true),
            ("hot tea OR coffee", "hot coffee", true),
            ("hot tea OR coffee", "cold coffee", false),
            ("tea -green", "green tea", false),
            ("tea -\"green tea\"", "tea that is green", true),
            ("neg*", "negotiation", true),
            ("neg", "negotiation", false),
            ("\"green te\"*", "green tears", true),
            ("don't", "don t", true),
            ("don't", "t don", false),
            ("東京", "住所は東京です", true),
            ("東京", "京東", false),
            ("CAFÉ", "cafe", true),
            ("OR tea OR", "tea", true),
            ("a\"b c\"d", "b c d a", true),
            ("\"open end", "open end", true),
            ("-x tea ???", "tea", true),
        ] {
            assert_eq!(parsed(query).matches(text), found, "{query} in {text}");
        }
    }

    #[test]
    fn a_query_without_a_word_and_one_too_long_are_refused() {
        for text in ["", "  ", "-tea", "?!", "OR", "\"\"", "*", &"a ".repeat(65), &"x".repeat(1025)] {
            let error = text.parse::<SearchQuery>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
        }
        assert!("a ".repeat(64).parse::<SearchQuery>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_refused_and_finds_itself(text in "[a-zA-Z0-9 äß東*\"-]{0,40}") {
            if let Ok(query) = text.parse::<SearchQuery>() {
                let plain: Vec<&str> = query.wanted().flat_map(|p| &p.words).map(String::as_str).collect();
                prop_assert!(!plain.is_empty());
                if query.none().is_empty() {
                    prop_assert!(query.matches(&plain.join(" ")));
                }
            }
        }
    }
}
