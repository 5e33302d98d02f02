//! What is shown of a text that was found.

use std::ops::Range;

use super::{
    query::SearchQuery,
    text::MAX_TEXT_WORDS,
    words::{Word, words},
};

/// A part of a text in which a query was found.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Snippet {
    /// The part; where it was cut, `…` stands.
    pub text: String,
    /// Where in it words stand that were asked for, in bytes.
    pub matches: Vec<Range<usize>>,
}

/// Only sizes: values never appear in logs.
impl std::fmt::Debug for Snippet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snippet({} bytes, {} matches)", self.text.len(), self.matches.len())
    }
}

impl SearchQuery {
    /// The part of a text, of about `bytes` at most, in which most of what was asked for stands; its beginning, where nothing
    /// does.
    ///
    /// ```
    /// use storage_core::SearchQuery;
    ///
    /// let query: SearchQuery = "tea".parse()?;
    /// let snippet = query.snippet("In the morning she likes green tea, most of all.", 24);
    /// assert_eq!(snippet.text, "…likes green tea, most of…");
    /// assert_eq!(&snippet.text[snippet.matches[0].clone()], "tea");
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    #[must_use]
    pub fn snippet(&self, text: &str, bytes: usize) -> Snippet {
        let all: Vec<Word> = words(text).take(MAX_TEXT_WORDS).collect();
        let found = self.places(&all);
        let Some(window) = best(&all, &found, bytes) else { return beginning(text, bytes) };
        let (Some(first), Some(last)) = (all.get(window.start), all.get(window.end.saturating_sub(1))) else {
            return beginning(text, bytes);
        };
        let start = if window.start == 0 && last.range.end <= bytes { 0 } else { first.range.start };
        let end =
            if window.end == all.len() && text.len() - start <= bytes { text.len() } else { last.range.end };
        let mut snippet = Snippet { text: String::new(), matches: Vec::new() };
        snippet.text.push_str(if start > 0 { "…" } else { "" });
        let shift = snippet.text.len();
        snippet.text.push_str(text.get(start..end).unwrap_or_default());
        snippet.text.push_str(if end < text.len() { "…" } else { "" });
        for (word, _) in found.iter().filter_map(|(place, phrase)| Some((all.get(*place)?, phrase))) {
            if word.range.start >= start && word.range.end <= end {
                snippet.matches.push(word.range.start - start + shift..word.range.end - start + shift);
            }
        }
        snippet
    }

    /// The places of the words that were asked for, each with the number of a phrase it belongs to, in order.
    fn places(&self, words: &[Word]) -> Vec<(usize, usize)> {
        let mut places = std::collections::BTreeMap::new();
        for at in 0..words.len() {
            for (number, phrase) in self.wanted().enumerate() {
                if phrase.stands_at(words, at) {
                    places.extend((at..at + phrase.words.len()).map(|place| (place, number)));
                }
            }
        }
        places.into_iter().collect()
    }
}

impl AsRef<str> for Word {
    fn as_ref(&self) -> &str {
        &self.folded
    }
}

/// The words from a first to before a last that fit, and hold the most phrases, then the most words, that were asked for.
fn best(words: &[Word], found: &[(usize, usize)], bytes: usize) -> Option<Range<usize>> {
    let width = |from: usize, to: usize| Some(words.get(to)?.range.end - words.get(from)?.range.start);
    let mut most: Option<((usize, usize), Range<usize>)> = None;
    for (n, (from, _)) in found.iter().enumerate() {
        let fits = found.iter().skip(n).take_while(|(to, _)| width(*from, *to).is_some_and(|w| w <= bytes));
        let inside: Vec<&(usize, usize)> = fits.collect();
        let phrases = inside.iter().map(|(_, phrase)| phrase).collect::<std::collections::HashSet<_>>();
        let score = (phrases.len(), inside.len());
        let last = inside.last().map_or(*from, |(to, _)| *to);
        if most.as_ref().is_none_or(|(best, _)| score > *best) {
            most = Some((score, *from..last + 1));
        }
        // What comes later has fewer words left to hold.
        if inside.len() == found.len() - n {
            break;
        }
    }
    let (_, mut window) = most?;
    // As much before it as after, as far as there is room.
    loop {
        let before = window.start.checked_sub(1).filter(|from| fits(words, *from, window.end, bytes));
        window.start = before.unwrap_or(window.start);
        let after = Some(window.end).filter(|to| fits(words, window.start, to + 1, bytes));
        window.end = after.map_or(window.end, |to| to + 1);
        if before.is_none() && after.is_none() {
            return Some(window);
        }
    }
}

fn fits(words: &[Word], from: usize, to: usize, bytes: usize) -> bool {
    let (Some(first), Some(last)) = (words.get(from), to.checked_sub(1).and_then(|last| words.get(last)))
    else {
        return false;
    };
    last.range.end - first.range.start <= bytes
}

fn beginning(text: &str, bytes: usize) -> Snippet {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    Snippet { text: format!("{}{cut}", text.get(..end).unwrap_or_default()), matches: Vec::new() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(query: &str, text: &str, bytes: usize) -> String {
        let snippet = query.parse::<SearchQuery>().unwrap().snippet(text, bytes);
        let mut marked = snippet.text;
        for range in snippet.matches.iter().rev() {
            marked.insert(range.end, ']');
            marked.insert(range.start, '[');
        }
        marked
    }

    #[test]
    fn a_snippet_shows_where_most_of_it_stands() {
        let text = "Tea. Once she had coffee with milk; then green tea with milk, and sugar.";
        assert_eq!(marked("tea milk", text, 19), "…green [tea] with [milk]…");
        assert_eq!(marked("\"green tea\"", text, 12), "…[green] [tea]…");
        assert_eq!(
            marked("te* OR coff*", text, 1000),
            text.replace("Tea", "[Tea]").replace("coffee", "[coffee]").replace("n tea", "n [tea]")
        );
        assert_eq!(marked("absent", text, 8), "Tea. Onc…");
        assert_eq!(marked("x", "", 8), "");
    }

    proptest! {
        #[test]
        fn a_snippet_of_any_text_is_part_of_it(text in "[ab ä東.]{0,60}", bytes in 0_usize..40) {
            let snippet = "a OR b* OR 東".parse::<SearchQuery>().unwrap().snippet(&text, bytes);
            prop_assert!(text.contains(snippet.text.trim_matches('…')));
            for range in snippet.matches {
                prop_assert!(snippet.text.get(range).is_some());
            }
        }
    }
}
