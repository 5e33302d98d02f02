//! The one glob grammar of every store.
//!
//! `*` any text, `?` any character, `[abc]` `[a-z]` one of them, `[!a]` `[^a]` none of them, `\` takes the next
//! character literally (inside a class too). A `]` that stands first in a class is a member of it. A class that is
//! not closed, or whose range runs backwards, is literal text. `_` and `%` mean themselves.

use crate::{Error, Result};

/// The longest pattern, in bytes: each byte of the longest key, escaped or in a class, fits.
pub const MAX_PATTERN_BYTES: usize = 4 * crate::MAX_KEY_BYTES;

/// A parsed pattern, matched the same way in front of every store.
///
/// ```
/// use storage_core::Glob;
///
/// let glob = Glob::new("deal:[a-c]?\\*")?;
/// assert!(glob.matches("deal:b7*"));
/// assert!(!glob.matches("deal:b7x"));
/// assert_eq!(glob.literal_prefix(), "deal:");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Glob {
    pattern: String,
    tokens: Vec<Token>,
    prefix: String,
}

#[derive(Debug, Clone)]
enum Token {
    Literal(char),
    AnyChar,
    AnyText,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Parses a pattern. Every text is a pattern, apart from those no key could match.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern with a NUL character or of more than [`MAX_PATTERN_BYTES`].
    pub fn new(pattern: &str) -> Result<Self> {
        if pattern.len() > MAX_PATTERN_BYTES {
            let message =
                format!("a pattern may have {MAX_PATTERN_BYTES} bytes; this one has {}", pattern.len());
            return Err(Error::invalid_input(message));
        }
        if pattern.as_bytes().contains(&0) {
            return Err(Error::invalid_input("a pattern may not hold a NUL character"));
        }
        let tokens = tokens(pattern);
        let literal = tokens.iter().map_while(|token| match token {
            Token::Literal(c) => Some(*c),
            _ => None,
        });
        let prefix = literal.collect();
        Ok(Self { pattern: pattern.to_owned(), tokens, prefix })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// The text that every match starts with; may be empty.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        &self.prefix
    }

    /// The one key that can match, for a pattern without wildcards.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        self.tokens.iter().all(|token| matches!(token, Token::Literal(_))).then_some(&*self.prefix)
    }

    /// Whether exactly the keys with [`literal_prefix`](Self::literal_prefix) match, as for `deal:*`.
    #[must_use]
    pub fn is_prefix_only(&self) -> bool {
        let mut rest = self.tokens.iter().skip_while(|token| matches!(token, Token::Literal(_))).peekable();
        rest.peek().is_some() && rest.all(|token| matches!(token, Token::AnyText))
    }

    /// The first text, in byte order, after all that start with the literal prefix; `None` where there is none.
    #[must_use]
    pub fn upper_bound(&self) -> Option<String> {
        prefix_successor(&self.prefix)
    }

    /// Whether the whole of `key` matches. Linear in the pattern times the key at worst.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let mut tokens = self.tokens.as_slice();
        let mut rest = key.chars();
        // Where to go on after a mismatch: the tokens after the last `*`, and the text it has not swallowed yet.
        let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
        loop {
            if let Some((Token::AnyText, after)) = tokens.split_first() {
                tokens = after;
                retry = Some((after, rest.clone()));
                continue;
            }
            let mut next = rest.clone();
            match (tokens.split_first(), next.next()) {
                (None, None) => return true,
                (Some((token, after)), Some(c)) if token.accepts(c) => {
                    tokens = after;
                    rest = next;
                }
                _ => {
                    let Some((after, text)) = &mut retry else { return false };
                    if text.next().is_none() {
                        return false;
                    }
                    tokens = after;
                    rest = text.clone();
                }
            }
        }
    }
}

impl Token {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == c,
            Self::AnyChar | Self::AnyText => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::AnyText,
            '?' => Token::AnyChar,
            '\\' => Token::Literal(rest.next().unwrap_or('\\')),
            '[' => match class(rest.clone()) {
                Some((token, after)) => {
                    rest = after;
                    token
                }
                None => Token::Literal('['),
            },
            other => Token::Literal(other),
        });
    }
    tokens
}

/// Parses what follows a `[`; `None` where it is no class.
fn class(mut rest: std::str::Chars<'_>) -> Option<(Token, std::str::Chars<'_>)> {
    let mut after_sign = rest.clone();
    let negated = matches!(after_sign.next(), Some('!' | '^'));
    if negated {
        rest = after_sign;
    }
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next()? {
            ']' if !ranges.is_empty() => return Some((Token::Class { negated, ranges }, rest)),
            '\\' => rest.next()?,
            c => c,
        };
        let high = range_end(&mut rest)?.unwrap_or(low);
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

/// Takes `-x` where it makes a range; a `-` before the closing `]` is a member. `None` where the pattern ends.
fn range_end(rest: &mut std::str::Chars<'_>) -> Option<Option<char>> {
    let mut ahead = rest.clone();
    if ahead.next()? != '-' {
        return Some(None);
    }
    let high = match ahead.next()? {
        ']' => return Some(None),
        '\\' => ahead.next()?,
        c => c,
    };
    *rest = ahead;
    Some(Some(high))
}

/// The least text that is greater, byte for byte, than every text that starts with `prefix`.
///
/// UTF-8 orders as its code points do, so counting up the last character that can be counted up is enough.
#[must_use]
pub fn prefix_successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // `char::MAX` has no successor: the character before it is counted up instead.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// Escapes `text` so that, as a pattern, it matches itself alone.
///
/// ```
/// use storage_core::{Glob, escape_glob};
///
/// assert!(Glob::new(&escape_glob("deal:a*b"))?.matches("deal:a*b"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[must_use]
pub fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grammar_by_table() {
        let table = [
            ("*", "", true),
            ("*", "any:thing", true),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("opt_decision:*", "optXdecision:1", false),
            ("deal:100%", "deal:100x", false),
            ("deal:*", "Deal:1", false),
            ("[abc]", "b", true),
            ("[a-c]", "c", true),
            ("[a-c]", "d", false),
            ("[!a-c]", "d", true),
            ("[^a]", "a", false),
            ("[]a]", "]", true),
            ("[!]]", "]", false),
            ("[a-]", "-", true),
            ("[\\]]", "]", true),
            ("[\\a-\\c]", "b", true),
            ("[abc", "[abc", true),
            ("[abc", "a", false),
            ("[z-a]", "[z-a]", true),
            ("[]", "[]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", true),
            ("a**b", "ab", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, key, expected) in table {
            assert_eq!(Glob::new(pattern).unwrap().matches(key), expected, "{pattern} on {key}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let glob = Glob::new(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&"a".repeat(199)));
        assert!(!glob.matches(&format!("{}b", "a".repeat(1000))));
    }

    #[test]
    fn bounds_of_a_prefix() {
        assert_eq!(prefix_successor("deal:").as_deref(), Some("deal;"));
        assert_eq!(prefix_successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(prefix_successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_successor("\u{10ffff}"), None);
        assert_eq!(prefix_successor(""), None);
        assert!(Glob::new("deal:*").unwrap().is_prefix_only());
        assert!(!Glob::new("deal:?").unwrap().is_prefix_only());
        assert_eq!(Glob::new("a\\*").unwrap().exact(), Some("a*"));
    }

    #[test]
    fn patterns_that_no_key_can_match_are_refused() {
        assert!(Glob::new("a\0*").is_err());
        assert!(Glob::new(&"*".repeat(MAX_PATTERN_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn an_escaped_text_matches_itself_alone(text in ".{0,20}", other in ".{0,20}") {
            prop_assume!(!text.contains('\0'));
            let glob = Glob::new(&escape_glob(&text)).unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }

        #[test]
        fn every_match_lies_in_the_prefix_range(pattern in "[ab*?\\[\\]\\\\!^-]{0,8}", key in "[ab\\[\\]!^*-]{0,8}") {
            let glob = Glob::new(&pattern).unwrap();
            if glob.matches(&key) {
                prop_assert!(key.starts_with(glob.literal_prefix()));
                prop_assert!(glob.upper_bound().is_none_or(|upper| key < upper));
            }
        }
    }
}
