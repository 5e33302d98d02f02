//! A Rust file, taken apart.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use proc_macro2::TokenStream;
use syn::{File, Item, ItemMod, Meta};

use super::functions::{self, Function};
use super::lines;

/// A Rust file, taken apart.
pub(super) struct Source {
    /// Relative to the workspace's folder.
    pub(super) path: PathBuf,
    /// Whether all of it is tests.
    pub(super) is_test: bool,
    pub(super) tokens: TokenStream,
    pub(super) syntax: File,
    pub(super) functions: Vec<Function>,
    /// The lines from the attribute to the closing brace of each `#[cfg(test)] mod`.
    pub(super) test_modules: Vec<RangeInclusive<usize>>,
    code: BTreeSet<usize>,
}

impl Source {
    /// Takes `text` apart.
    pub(super) fn parse(path: PathBuf, is_test: bool, text: &str) -> syn::Result<Source> {
        let tokens: TokenStream = text.parse()?;
        let syntax = syn::parse_file(text)?;
        let code = lines::of_code(tokens.clone());
        let functions = functions::of(&syntax, &code);
        let test_modules = test_modules(&syntax);
        Ok(Source { path, is_test, tokens, syntax, functions, test_modules, code })
    }

    /// How many lines of code are within `lines`.
    pub(super) fn code_within(&self, lines: &RangeInclusive<usize>) -> usize {
        self.code.range(lines.clone()).count()
    }

    /// How many lines of code there are, test modules apart.
    pub(super) fn code_without_tests(&self) -> usize {
        self.code.iter().filter(|line| !self.is_in_test_module(**line)).count()
    }

    /// The functions that are no tests.
    pub(super) fn productive_functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|function| !self.is_test && !self.is_in_test_module(function.line))
    }

    pub(super) fn is_in_test_module(&self, line: usize) -> bool {
        self.test_modules.iter().any(|module| module.contains(&line))
    }
}

/// Whether the file at `path`, relative to its package, is a test by its place or name.
pub(super) fn is_test_file(path: &Path) -> bool {
    let in_tests = path.components().any(|component| {
        [Component::Normal("tests".as_ref()), Component::Normal("benches".as_ref())].contains(&component)
    });
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    in_tests || stem == "tests" || stem.ends_with("_tests")
}

fn test_modules(file: &File) -> Vec<RangeInclusive<usize>> {
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module),
        _ => None,
    });
    modules.filter_map(test_module).collect()
}

fn test_module(module: &ItemMod) -> Option<RangeInclusive<usize>> {
    let (braces, _) = module.content.as_ref()?;
    let attribute = module.attrs.iter().find(|attribute| match &attribute.meta {
        Meta::List(list) => attribute.path().is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })?;
    Some(attribute.pound_token.spans[0].start().line..=braces.span.close().end().line)
}
