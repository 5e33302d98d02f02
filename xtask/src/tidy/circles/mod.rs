//! Files that lead to each other by what they import: none of them can be understood before the others.
//!
//! A name that a module only exports again is that of the file which defines it, so a `mod.rs` that declares modules and
//! exports their names ties nothing.

mod graph;
mod module;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::member::{Member, Violation};
use graph::Graph;

/// The circles among the files of `member`.
pub(super) fn check(member: &Member) -> Vec<Violation> {
    let graph = Graph::of(&member.folder.join("src"), &member.sources);
    graph.circles().iter().filter_map(|circle| violation(&graph, circle)).collect()
}

fn violation(graph: &Graph, circle: &BTreeSet<&Path>) -> Option<Violation> {
    let mut what =
        format!("{} files that import each other; move what both need into the lower one", circle.len());
    for ((from, to), names) in &graph.names {
        if circle.contains(from.as_path()) && circle.contains(to.as_path()) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let _ = write!(what, "\n  {} -> {}: {}", from.display(), to.display(), names.join(", "));
        }
    }
    let file = circle.first()?.to_path_buf();
    Some(Violation { file, line: 1, what })
}
