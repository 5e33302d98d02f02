//! The functions of a file, and how long they are.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Block, File, Ident, ImplItemFn, ItemFn, TraitItemFn};

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// Lines of code between its braces.
    pub(super) length: usize,
}

/// All functions of `file`, methods and functions within functions included, given its lines of code.
pub(super) fn of(file: &File, code: &BTreeSet<usize>) -> Vec<Function> {
    let mut finder = Finder { code, functions: Vec::new() };
    finder.visit_file(file);
    finder.functions
}

struct Finder<'a> {
    code: &'a BTreeSet<usize>,
    functions: Vec<Function>,
}

impl Finder<'_> {
    fn add(&mut self, name: &Ident, body: &Block) {
        let open = body.brace_token.span.open().start().line;
        let close = body.brace_token.span.close().start().line;
        // Between the lines of the braces; a body on one line counts as none.
        let length = if close > open { self.code.range(open + 1..close).count() } else { 0 };
        self.functions.push(Function { name: name.to_string(), line: name.span().start().line, length });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig.ident, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
