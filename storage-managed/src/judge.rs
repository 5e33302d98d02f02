//! What a head that was found means for a commit: whether it is in the home, can still be published, or was overtaken.
//!
//! An id alone proves nothing: it may have been made twice, or stand at another generation. A commit is in the home where its
//! own generation has its id, on top of its own parent.

use crate::{
    error::Result,
    format::{
        Head, Hex, Id, MERGED, Named, SegmentHeader, base_name, base_prefix, parse_name, segment_prefix,
    },
    remote::Remote,
};

/// A commit that was made here on top of what is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) commit: Id,
    /// The commit that it was made on; none for the first.
    pub(crate) parent: Option<Id>,
    /// That of the home, once there is one.
    pub(crate) incarnation: Option<Id>,
    pub(crate) generation: u64,
    /// What the database is then.
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
}

/// What a head means for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in the home.
    Published,
    /// The head is at its parent: it can be published.
    Open,
    /// The head has gone on so far that it does not tell.
    Forgotten,
    /// Somebody else's stands in its place.
    Moved,
}

impl Made {
    pub(crate) fn standing(&self, head: Option<&Head>) -> Standing {
        let Some(head) = head else {
            return if self.parent.is_none() { Standing::Open } else { Standing::Moved };
        };
        if self.parent.is_some() && self.incarnation != Some(head.incarnation) {
            return Standing::Moved;
        }
        if head.generation < self.generation {
            let at_parent = head.generation + 1 == self.generation && Some(head.commit) == self.parent;
            return if at_parent { Standing::Open } else { Standing::Moved };
        }
        let before = head.commit_at(self.generation - 1).map(|(commit, _)| commit);
        match head.commit_at(self.generation) {
            Some((commit, _)) if commit != self.commit => Standing::Moved,
            Some(_) if before.is_some() && before != self.parent => Standing::Moved,
            Some(_) if head.generation == self.generation && !self.is_newest_of(head) => Standing::Moved,
            Some(_) => Standing::Published,
            None => Standing::Forgotten,
        }
    }

    /// Whether the head says of its newest commit what is known of this one.
    fn is_newest_of(&self, head: &Head) -> bool {
        (head.parent, head.page_count, head.checksum) == (self.parent, self.page_count, self.checksum)
    }

    /// Whether a segment is the change that leads to this commit.
    pub(crate) fn is_told_by(&self, header: &SegmentHeader) -> bool {
        let named = (header.generation, header.commit) == (self.generation, self.commit);
        let lineage = Some(header.incarnation) == self.incarnation && Some(header.parent) == self.parent;
        named && lineage && (header.page_count, header.checksum) == (self.page_count, self.checksum)
    }

    /// As [`standing`](Self::standing); what the head has forgotten, the objects beside it may still tell. What was merged into
    /// one with others stays [`Forgotten`](Standing::Forgotten).
    pub(crate) async fn standing_in(&self, remote: &Remote, head: Option<&Head>) -> Result<Standing> {
        match self.standing(head) {
            Standing::Forgotten if self.was_built_upon(remote).await? => Ok(Standing::Published),
            Standing::Forgotten if !self.was_merged(remote).await? => Ok(Standing::Moved),
            standing => Ok(standing),
        }
    }

    /// Whether somebody has built on this commit, which nobody does before it is published.
    async fn was_built_upon(&self, remote: &Remote) -> Result<bool> {
        // The first generation begins with a base that may not have been published.
        if self.generation > 1 {
            let bases = remote.list(&base_prefix(self.generation)).await?;
            let name = base_name(self.generation, self.commit);
            if bases.iter().any(|object| object.name == name) {
                return Ok(true);
            }
        }
        self.was_followed(remote).await
    }

    /// Whether there is a segment that builds on this commit, and on this content.
    pub(crate) async fn was_followed(&self, remote: &Remote) -> Result<bool> {
        let mut following = remote.list(&segment_prefix(self.generation + 1)).await?;
        following.extend(remote.list(MERGED).await?.into_iter().filter(|object| {
            matches!(parse_name(&object.name), Some(Named::Segment { first, .. }) if first == self.generation + 1)
        }));
        for next in following {
            let Some((header, _)) = remote.preamble(&next.name).await? else { continue };
            let same_home = self.incarnation.is_none_or(|known| known == header.incarnation);
            if same_home && (header.parent, header.parent_checksum) == (self.commit, self.checksum) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether its generation is one of several that were merged: whose it is cannot be told any more.
    async fn was_merged(&self, remote: &Remote) -> Result<bool> {
        let merged = remote.list(MERGED).await?;
        Ok(merged.iter().any(|object| {
            matches!(parse_name(&object.name), Some(Named::Segment { first, last, commit })
                if first <= self.generation && (self.generation < last || commit == self.commit))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Base;

    /// A head whose generations have the ids of their numbers.
    fn head(generation: u64) -> Head {
        let id = |number: u64| Hex(number.into());
        let base = Base { generation, commit: id(generation), page_count: 3, checksum: Hex(9) };
        let parent = generation.checked_sub(1).filter(|parent| *parent > 0).map(id);
        let commits = generation.saturating_sub(63).max(1)..=generation;
        Head {
            commits: commits.map(|at| (id(at), 10)).collect(),
            ..Head::of_base(Hex(77), 4096, base, parent)
        }
    }

    fn made(commit: u128, generation: u64) -> Made {
        Made {
            commit: Hex(commit),
            parent: generation.checked_sub(1).filter(|parent| *parent > 0).map(|parent| Hex(parent.into())),
            incarnation: Some(Hex(77)),
            generation,
            page_count: 3,
            checksum: Hex(9),
        }
    }

    #[test]
    fn only_its_own_generation_on_its_own_parent_publishes_a_commit() {
        use Standing::{Forgotten, Moved, Open, Published};
        let parent = |parent: u128, made: Made| Made { parent: Some(Hex(parent)), ..made };
        let table = [
            ("it is the newest", made(5, 5), 5, Published),
            ("others came behind it", made(5, 5), 9, Published),
            ("the head is at its parent", made(5, 5), 4, Open),
            ("its id is at an earlier generation", made(3, 5), 5, Moved),
            ("its id is at a later generation", made(7, 5), 9, Moved),
            ("its id is at its parent's generation", made(4, 5), 4, Open),
            ("its id is there on another parent", parent(3, made(5, 5)), 9, Moved),
            ("its id is the newest on another parent", parent(3, made(5, 5)), 5, Moved),
            ("its id is the newest with other content", Made { checksum: Hex(8), ..made(5, 5) }, 5, Moved),
            ("somebody else's is in its place", made(99, 5), 5, Moved),
            ("the head went back", made(5, 5), 3, Moved),
            ("the home was made anew", Made { incarnation: Some(Hex(1)), ..made(5, 5) }, 5, Moved),
            ("the head has forgotten it", made(5, 5), 200, Forgotten),
            ("the first", made(1, 1), 1, Published),
            ("the first, and somebody else's is there", made(9, 1), 1, Moved),
        ];
        for (what, made, at, expected) in table {
            assert_eq!(made.standing(Some(&head(at))), expected, "{what}");
        }
        assert_eq!(made(1, 1).standing(None), Open);
        assert_eq!(made(5, 5).standing(None), Moved, "the home is gone");
    }
}
