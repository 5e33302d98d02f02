//! `cargo xtask tidy`: budgets of size, no circle of files, and each thing where a reader looks for it.
//!
//! Lines of code are lines that hold at least one token of Rust: neither blank lines nor comments nor
//! documentation count.

mod circles;
mod functions;
mod layout;
mod lines;
mod member;
mod places;
mod sizes;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;
use member::Member;
use source::Source;

/// Prints all violations, and fails when there are any.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let members = members(shell)?;
    let sources: Vec<&Source> = members.iter().flat_map(|member| &member.sources).collect();
    let mut violations = Vec::new();
    for member in &members {
        violations.extend(layout::check(shell.root(), member));
        violations.extend(places::check(member));
        violations.extend(circles::check(member));
    }
    violations.extend(sources.iter().flat_map(|source| sizes::check(source)));
    violations.extend(sizes::check_share(&sources));
    for warning in sources.iter().filter_map(|source| sizes::warn(source)) {
        println!("note: {warning}");
    }
    println!("{}", sizes::summary(&sources));
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() { Ok(()) } else { Err(format!("{} violations", violations.len()).into()) }
}

fn members(shell: &Shell) -> Result<Vec<Member>> {
    let packages = workspace::members(shell)?.packages;
    packages
        .iter()
        .map(|package| {
            let folder = package.manifest_path.parent().ok_or("a manifest without a folder")?;
            let folder = folder.as_std_path().canonicalize()?;
            let folder = folder.strip_prefix(shell.root().canonicalize()?)?.to_path_buf();
            let sources = sources(shell.root(), &folder)?;
            Ok(Member { name: package.name.to_string(), folder, sources })
        })
        .collect()
}

/// All Rust files of the package in `folder`, in the order of their names.
fn sources(root: &Path, folder: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    rust_files(&root.join(folder), &mut files)?;
    files.sort();
    files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root)?.to_path_buf();
            let is_test = source::is_test_file(path.strip_prefix(folder)?);
            let text = std::fs::read_to_string(file)?;
            Source::parse(path, is_test, &text).map_err(|error| format!("{}: {error}", file.display()).into())
        })
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
