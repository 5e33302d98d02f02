//! The files that each crate has.

use std::path::Path;

use super::member::{Member, Violation};

const BACKENDS: [&str; 3] = ["storage-sqlite", "storage-redis", "storage-postgres"];
/// A file may become a folder with a `mod.rs`.
const BACKEND_MODULES: [&str; 3] = ["config", "backend", "error"];

/// The files that `member` lacks.
pub(super) fn check(root: &Path, member: &Member) -> Vec<Violation> {
    let folder = root.join(&member.folder);
    let mut missing = Vec::new();
    if !folder.join("README.md").is_file() {
        missing.push(("README.md".to_string(), "write what the crate is for, and how to use it"));
    }
    if BACKENDS.contains(&member.name.as_str()) {
        let source = folder.join("src");
        let has = |module: &str| {
            source.join(format!("{module}.rs")).is_file() || source.join(module).join("mod.rs").is_file()
        };
        missing.extend(BACKEND_MODULES.iter().filter(|module| !has(module)).map(|module| {
            (format!("src/{module}.rs"), "each backend has it, so that readers of one find their way in all")
        }));
    }
    let violation = |(file, why): (String, &str)| Violation {
        file: member.folder.join(file),
        line: 1,
        what: format!("is missing: {why}"),
    };
    missing.into_iter().map(violation).collect()
}
