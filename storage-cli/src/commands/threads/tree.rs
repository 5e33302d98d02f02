//! Checkpoints as a tree: each below the one it follows, and what forks apart from each other.

use std::collections::{BTreeMap, HashSet};

/// How lines of a tree are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    node: &'static str,
    branch: &'static str,
    last: &'static str,
    beside: &'static str,
}

impl Lines {
    /// For a terminal.
    pub(super) const DRAWN: Self = Self { node: "● ", branch: "├─", last: "└─", beside: "│ " };
    /// For whatever else reads them.
    pub(super) const PLAIN: Self = Self { node: "* ", branch: "|-", last: "`-", beside: "| " };
}

/// The nodes in the order of the tree, each with what stands before its name. Nodes are pairs of an id and the one they follow, in
/// the order of their ids; those that follow none of the others are roots, and so is one of each circle.
pub(super) fn tree(nodes: &[(&str, Option<&str>)], lines: Lines) -> Vec<(usize, String)> {
    let there: HashSet<&str> = nodes.iter().map(|(id, _)| *id).collect();
    let mut children = BTreeMap::<&str, Vec<usize>>::new();
    let mut roots = Vec::new();
    for (place, (_, parent)) in nodes.iter().enumerate() {
        match parent.filter(|parent| there.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(place),
            None => roots.push(place),
        }
    }
    let (mut drawn, mut seen) = (Vec::with_capacity(nodes.len()), HashSet::new());
    for root in roots.into_iter().chain(0..nodes.len()) {
        // What stands before the node itself, and before those below it.
        let mut next = vec![(root, String::new(), String::new())];
        while let Some((place, own, below)) = next.pop() {
            let Some((id, _)) = nodes.get(place).filter(|_| seen.insert(place)) else { continue };
            drawn.push((place, format!("{own}{}", lines.node)));
            let followers = children.get(id).map_or(&[][..], Vec::as_slice);
            for (number, follower) in followers.iter().enumerate().rev() {
                let (mark, beside) = match followers.len() {
                    1 => ("", ""),
                    all if number + 1 < all => (lines.branch, lines.beside),
                    _ => (lines.last, "  "),
                };
                next.push((*follower, format!("{below}{mark}"), format!("{below}{beside}")));
            }
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(nodes: &[(&str, Option<&str>)], lines: Lines) -> String {
        let line = |(place, before): (usize, String)| format!("{before}{}", nodes[place].0);
        tree(nodes, lines).into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn forks_branch_and_what_follows_alone_stays_in_line() {
        let nodes = [
            ("1", Some("pruned")),
            ("2", Some("1")),
            ("3", Some("2")),
            ("4", Some("3")),
            ("5", Some("2")),
            ("6", Some("5")),
            ("7", Some("5")),
            ("8", None),
        ];
        assert_eq!(drawn(&nodes, Lines::DRAWN), "● 1\n● 2\n├─● 3\n│ ● 4\n└─● 5\n  ├─● 6\n  └─● 7\n● 8");
        assert_eq!(drawn(&nodes[..5], Lines::PLAIN), "* 1\n* 2\n|-* 3\n| * 4\n`-* 5");
    }

    #[test]
    fn each_node_stands_there_once_also_where_parents_form_a_circle() {
        let nodes = [("1", Some("2")), ("2", Some("1")), ("3", Some("3"))];
        assert_eq!(drawn(&nodes, Lines::PLAIN), "* 1\n* 2\n* 3");
    }

    #[test]
    fn a_long_line_is_drawn() {
        let ids: Vec<String> = (0..100_000).map(|n| format!("{n:06}")).collect();
        let node = |n: usize| (ids[n].as_str(), n.checked_sub(1).map(|parent| ids[parent].as_str()));
        let nodes: Vec<_> = (0..ids.len()).map(node).collect();
        assert_eq!(tree(&nodes, Lines::PLAIN).len(), ids.len());
    }
}
