//! `.env` files, read as python-dotenv reads them for the Python agents.
//!
//! No crate does: dotenvy replaces `$name` too, which cuts passwords, and gives up at the first line that it cannot read.

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DotEnv {
    /// Names and texts, in order; the last of a name stands.
    pub(crate) values: Vec<(String, String)>,
    /// The numbers of the lines that are no `NAME=value`, and were passed over.
    pub(crate) wrong: Vec<usize>,
}

impl DotEnv {
    /// Reads a file. `variable` is what stands for `${NAME}` before what the file itself says.
    pub(crate) fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut file = Self::default();
        let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut number = 1;
        loop {
            let line = rest.trim_start();
            number += line_ends(&rest[..rest.len() - line.len()]);
            if line.is_empty() {
                return file;
            }
            let after = match binding(line) {
                Some((found, after)) => {
                    if let Some((name, raw)) = found {
                        let text = file.replaced(&raw, variable);
                        file.values.push((name, text));
                    }
                    after
                }
                None => {
                    file.wrong.push(number);
                    line.split_once(['\n', '\r']).map_or("", |(_, after)| after)
                }
            };
            number += line_ends(&line[..line.len() - after.len()]);
            rest = after;
        }
    }

    /// A text with `${NAME}` and `${NAME:-default}` replaced, and nothing else.
    fn replaced(&self, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            replaced.push_str(before);
            match reference(after) {
                Some((name, default, after)) => {
                    let known = variable(name).or_else(|| self.get(name));
                    replaced.push_str(&known.unwrap_or_else(|| default.to_owned()));
                    rest = after;
                }
                None => {
                    replaced.push_str("${");
                    rest = after;
                }
            }
        }
        replaced + rest
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.values.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, text)| text.clone())
    }
}

/// The line ends in a text; `\r\n` is one.
fn line_ends(text: &str) -> usize {
    text.matches(['\n', '\r']).count() - text.matches("\r\n").count()
}

/// Name and default of a reference, and what comes after its `}`.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    let (inner, after) = text.split_once('}')?;
    match inner.split_once(':') {
        None => Some((inner, "", after)),
        Some((name, default)) => Some((name, default.strip_prefix('-')?, after)),
    }
}

/// Name and raw text of an assignment, unless the line is a comment; and what comes after it.
type Binding<'a> = (Option<(String, String)>, &'a str);

/// The assignment or the comment with which a text begins.
fn binding(text: &str) -> Option<Binding<'_>> {
    if text.starts_with('#') {
        return Some((None, end_of_line(text)?));
    }
    let text = text.strip_prefix("export").and_then(after_blanks).unwrap_or(text);
    let (name, after) = name(text)?;
    let after = after.trim_start_matches(is_blank).strip_prefix('=')?;
    let (value, after) = match after_blanks(after) {
        Some(comment) if comment.starts_with('#') => (String::new(), comment),
        _ => value(after.trim_start_matches(is_blank))?,
    };
    Some((Some((name.to_owned(), value)), end_of_line(after)?))
}

/// What comes after at least one blank.
fn after_blanks(text: &str) -> Option<&str> {
    let after = text.trim_start_matches(is_blank);
    (after.len() < text.len()).then_some(after)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n' && c != '\r'
}

fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return quoted.split_once('\'').filter(|(name, _)| !name.is_empty());
    }
    let end = text.find(|c: char| c.is_whitespace() || "=#".contains(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The text of a value, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(&text[1..], quote),
        _ => {
            let end = text.find(['\n', '\r']).unwrap_or(text.len());
            let (line, after) = text.split_at(end);
            Some((without_comment(line).trim_end().to_owned(), after))
        }
    }
}

/// A `#` begins a comment after white space alone.
fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, char)| line[..*at].ends_with(char::is_whitespace);
    let comment = line.char_indices().filter(|(_, c)| *c == '#').find(begins);
    comment.map_or(line, |(at, _)| &line[..at])
}

/// The text up to the closing quote, with what is escaped in it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((value, &text[at + 1..]));
        }
        let escaped = chars.peek().filter(|_| c == '\\').and_then(|(_, next)| unescaped(*next, quote));
        if escaped.is_some() {
            chars.next();
        }
        value.push(escaped.unwrap_or(c));
    }
    None
}

/// What a character after a backslash stands for, where it is an escape.
fn unescaped(c: char, quote: char) -> Option<char> {
    match c {
        '\\' | '\'' => Some(c),
        _ if quote == '\'' => None,
        '"' => Some('"'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        _ => None,
    }
}

/// What comes after the end of a line that holds nothing more but a comment.
fn end_of_line(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(is_blank);
    let rest = if text.starts_with('#') { text.trim_start_matches(|c| c != '\n' && c != '\r') } else { text };
    let after = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r']));
    after.or_else(|| rest.is_empty().then_some(""))
}

#[cfg(test)]
mod tests;
