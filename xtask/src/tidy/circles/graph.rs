//! Which file takes what from which other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::source::Source;
use super::module::{self, Module, Names};

/// Imports of imports that are followed; more are names that stand for each other.
const IMPORTS: usize = 8;

/// The files of a crate.
pub(super) struct Graph {
    /// What the first takes from the second.
    pub(super) names: BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>,
}

/// The modules of a crate, by their paths from its root.
struct Crate {
    modules: BTreeMap<Names, Module>,
    files: BTreeMap<Names, PathBuf>,
}

impl Graph {
    /// Of the files below `folder`, which has the root of the crate. Tests are left out.
    pub(super) fn of(folder: &Path, sources: &[Source]) -> Self {
        let whole = Crate::of(folder, sources);
        let mut names = BTreeMap::<_, BTreeSet<String>>::new();
        for (path, module) in &whole.modules {
            let Some(file) = whole.file(path) else { continue };
            let named = module.taken().filter_map(|taken| whole.resolve(path, taken, IMPORTS));
            // All of a module is as good as what it defines.
            let all = module.globs.iter().filter(|glob| !glob.exported);
            let all = all.filter_map(|glob| whole.all_of(path, &glob.path));
            for (other, name) in named.chain(all) {
                if let Some(other) = whole.file(&other).filter(|other| *other != file) {
                    names.entry((file.clone(), other.clone())).or_default().insert(name);
                }
            }
        }
        Self { names }
    }

    /// The sets of files that lead to each other.
    pub(super) fn circles(&self) -> BTreeSet<BTreeSet<&Path>> {
        let files: BTreeSet<&Path> = self.names.keys().map(|(file, _)| file.as_path()).collect();
        let reached: BTreeMap<&Path, BTreeSet<&Path>> =
            files.iter().map(|file| (*file, self.reached(file))).collect();
        let leads = |from: &Path, to: &Path| reached.get(from).is_some_and(|files| files.contains(to));
        let on_circles = files.iter().filter(|file| leads(file, file));
        on_circles
            .map(|file| {
                files.iter().copied().filter(|other| leads(file, other) && leads(other, file)).collect()
            })
            .collect()
    }

    /// All files that a file leads to.
    fn reached<'a>(&'a self, from: &'a Path) -> BTreeSet<&'a Path> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            let arrows = self.names.keys().filter(|(from, _)| from == file);
            open.extend(arrows.map(|(_, to)| to.as_path()).filter(|to| reached.insert(*to)));
        }
        reached
    }
}

impl Crate {
    fn of(folder: &Path, sources: &[Source]) -> Self {
        let mut whole = Self { modules: BTreeMap::new(), files: BTreeMap::new() };
        let has_library = sources.iter().any(|source| source.path == folder.join("lib.rs"));
        for source in sources.iter().filter(|source| !source.is_test) {
            let Ok(file) = source.path.strip_prefix(folder) else { continue };
            // Programs beside a library are nobody's modules.
            if file.starts_with("bin") || (has_library && file == Path::new("main.rs")) {
                continue;
            }
            let path = path_of(file);
            module::read(&path, &source.syntax.items, &mut whole.modules);
            whole.files.insert(path, source.path.clone());
        }
        let is_test = |path: &Names| {
            (1..=path.len()).any(|length| {
                let (parents, name) = (path.get(..length - 1), path.get(length - 1));
                let parent = parents.and_then(|parents| whole.modules.get(parents));
                parent.zip(name).is_some_and(|(parent, name)| parent.tests.contains(name))
            })
        };
        let tests: Vec<Names> = whole.modules.keys().filter(|path| is_test(path)).cloned().collect();
        tests.iter().for_each(|path| _ = whole.modules.remove(path));
        whole
    }

    /// The file of a module; one within a file is in that of its parent.
    fn file(&self, path: &[String]) -> Option<&PathBuf> {
        (0..=path.len()).rev().find_map(|length| self.files.get(path.get(..length)?))
    }

    /// The module that defines what a path in the module at `from` names, and its name there. `None` for what is another
    /// crate's, and for a module, which is named for what is in it.
    fn resolve(&self, from: &[String], path: &[String], imports: usize) -> Option<(Names, String)> {
        let (at, inner) = begin(from, path)?;
        let (name, further) = inner.split_first()?;
        let module = self.modules.get(&at)?;
        let child = [&at[..], std::slice::from_ref(name)].concat();
        if !further.is_empty() && self.modules.contains_key(&child) {
            return self.resolve(&child, &[&["self".to_owned()], further].concat(), imports);
        }
        if module.defined.contains(name) {
            return Some((at, name.clone()));
        }
        let imports = imports.checked_sub(1)?;
        if let Some(import) = module.imports.get(name) {
            return self.resolve(&at, &[&import.path, further].concat(), imports);
        }
        let mut globs = module.globs.iter().filter_map(|glob| self.module(&at, &glob.path));
        globs.find_map(|other| self.resolve(&other, inner, imports))
    }

    /// The module that a path names, for all that it defines.
    fn all_of(&self, from: &[String], path: &[String]) -> Option<(Names, String)> {
        let path = self.module(from, path)?;
        let defines = self.modules.get(&path).is_some_and(|module| !module.defined.is_empty());
        defines.then(|| (path, "*".to_owned()))
    }

    /// The module that a path names, where it is of this crate.
    fn module(&self, from: &[String], path: &[String]) -> Option<Names> {
        let (at, inner) = begin(from, path)?;
        let path = [&at[..], inner].concat();
        self.modules.contains_key(&path).then_some(path)
    }
}

/// The module in which to look for the other segments of a path.
fn begin<'a>(from: &[String], path: &'a [String]) -> Option<(Names, &'a [String])> {
    let mut at = from.to_vec();
    let mut path = path;
    while let Some((first, further)) = path.split_first() {
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => _ = at.pop()?,
            _ => break,
        }
        path = further;
    }
    Some((at, path))
}

/// `a/b.rs` and `a/b/mod.rs` are the module `a::b`.
fn path_of(file: &Path) -> Names {
    let mut path: Names =
        file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let is_root = path.len() == 1 && path.first().is_some_and(|name| name == "lib" || name == "main");
    if is_root || path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}
