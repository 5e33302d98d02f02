//! Which lines hold code.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// The lines that hold at least one token. The parser turns documentation into attributes; those don't count.
pub(super) fn of_code(tokens: TokenStream) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    add(tokens, &mut lines);
    lines
}

fn add(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' && documentation(after) > 0 => {
                rest = after.get(documentation(after)..).unwrap_or_default();
            }
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    mark(group.span_open(), lines);
                    mark(group.span_close(), lines);
                }
                add(group.stream(), lines);
            }
            token => mark(token.span(), lines),
        }
    }
}

/// How many of the tokens after a `#` make it documentation: `[doc = "..."]` or `![doc = "..."]`.
fn documentation(after: &[TokenTree]) -> usize {
    match after {
        [TokenTree::Group(attribute), ..] if is_documentation(attribute.stream()) => 1,
        [TokenTree::Punct(mark), TokenTree::Group(attribute), ..]
            if mark.as_char() == '!' && is_documentation(attribute.stream()) =>
        {
            2
        }
        _ => 0,
    }
}

fn is_documentation(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    let name = tokens.next().is_some_and(|token| token.to_string() == "doc");
    name && tokens.next().is_some_and(|token| token.to_string() == "=")
}

fn mark(span: Span, lines: &mut BTreeSet<usize>) {
    lines.extend(span.start().line..=span.end().line);
}
