//! What a module defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemUse, Macro, Meta, Path, UseTree, Visibility};

/// Segments of a path: `crate::a::B` is three.
pub(super) type Names = Vec<String>;

/// A module, of a file or within one. Tests are left out.
#[derive(Default)]
pub(super) struct Module {
    /// Functions, types, constants and the like.
    pub(super) defined: BTreeSet<String>,
    /// Modules that are tests, declared here.
    pub(super) tests: BTreeSet<String>,
    /// What names stand for.
    pub(super) imports: BTreeMap<String, Import>,
    /// Modules all of whose names are imported.
    pub(super) globs: Vec<Import>,
    /// Paths of several segments in its code.
    pub(super) paths: BTreeSet<Names>,
    /// What its code names without a path, and the first segments of paths.
    first: BTreeSet<String>,
}

/// What is imported, and whether it is exported again.
pub(super) struct Import {
    pub(super) path: Names,
    pub(super) exported: bool,
}

impl Module {
    /// What its own code takes from elsewhere. What it only exports again is another's.
    pub(super) fn taken(&self) -> impl Iterator<Item = &Names> {
        let used = |(name, import): &(&String, &Import)| !import.exported || self.first.contains(*name);
        let imported = self.imports.iter().filter(used).map(|(_, import)| &import.path);
        imported.chain(&self.paths)
    }

    fn add_imports(&mut self, tree: &UseTree, mut path: Names, exported: bool) {
        let (name, path) = match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                return self.add_imports(&part.tree, path, exported);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_imports(tree, path.clone(), exported));
            }
            UseTree::Glob(_) => return self.globs.push(Import { path, exported }),
            UseTree::Name(name) if name.ident == "self" => (path.last().cloned().unwrap_or_default(), path),
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                (name.ident.to_string(), path)
            }
            UseTree::Rename(renamed) => {
                path.extend((renamed.ident != "self").then(|| renamed.ident.to_string()));
                (renamed.rename.to_string(), path)
            }
        };
        if name == "_" {
            self.paths.insert(path);
        } else {
            self.imports.insert(name, Import { path, exported });
        }
    }

    fn add_path(&mut self, path: Names) {
        self.first.extend(path.first().cloned());
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

/// Takes the items of the module at `path` apart, and of those within it.
pub(super) fn read(path: &[String], items: &[Item], modules: &mut BTreeMap<Names, Module>) {
    let mut module = Module::default();
    for item in items {
        let is_test = attributes(item).iter().any(is_for_tests);
        match item {
            Item::Mod(inner) if is_test => _ = module.tests.insert(inner.ident.to_string()),
            _ if is_test => {}
            Item::Mod(inner) => {
                if let Some((_, items)) = &inner.content {
                    read(&[path, &[inner.ident.to_string()]].concat(), items, modules);
                }
            }
            _ => {
                module.defined.extend(name(item));
                module.visit_item(item);
            }
        }
    }
    modules.insert(path.to_vec(), module);
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_imports(&item.tree, Names::new(), !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add_path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        add_paths(self, call.tokens.clone());
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The paths in what a macro is given.
fn add_paths(module: &mut Module, tokens: TokenStream) {
    let mut path = Names::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(name) => {
                if colons != 2 {
                    module.add_path(std::mem::take(&mut path));
                }
                path.push(name.to_string());
                colons = 0;
            }
            other => {
                module.add_path(std::mem::take(&mut path));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    add_paths(module, group.stream());
                }
            }
        }
    }
    module.add_path(path);
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let names = |name: &str| {
        let words = list.tokens.to_string();
        words.split(|c: char| !c.is_alphanumeric()).any(|word| word == name)
    };
    attribute.path().is_ident("cfg") && names("test") && !names("not")
}

fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
