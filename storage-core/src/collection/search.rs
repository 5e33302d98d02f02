//! What a search asks for and what it answers.

use std::time::SystemTime;

use super::{Item, Partition};
use crate::{Error, Result, SearchQuery, search::check_label};

/// The most hits of one answer.
pub const MAX_HITS: usize = 100;
/// The most hits that are passed over before.
const MAX_OFFSET: usize = 100_000;
/// The most partitions that a search is narrowed to.
const MAX_PARTITIONS: usize = 10_000;
/// A hit's body that is longer is left out; [`CollectionStore::items`](super::CollectionStore::items) reads it.
pub const MAX_HIT_BODY_BYTES: usize = 64 * 1024;

/// Items that are found by their words, in the partitions of one kind.
///
/// ```
/// use storage_core::Search;
///
/// let search = Search::new("conversation", "green tea".parse()?).label("r0user").limit(5);
/// search.check()?;
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Search {
    /// The kind of the partitions.
    pub kind: String,
    /// In these alone, unless there are none.
    pub partitions: Vec<Partition>,
    /// What is asked for.
    pub query: SearchQuery,
    /// Labels that each hit has.
    pub labels: Vec<String>,
    /// Hits that were written then or later.
    pub written_since: Option<SystemTime>,
    /// How many hits are passed over.
    pub offset: usize,
    /// How many hits at most.
    pub limit: usize,
}

impl Search {
    /// The ten best hits in the partitions of a kind.
    #[must_use]
    pub fn new(kind: impl Into<String>, query: SearchQuery) -> Self {
        let (partitions, labels) = (Vec::new(), Vec::new());
        Self { kind: kind.into(), partitions, query, labels, written_since: None, offset: 0, limit: 10 }
    }

    /// In these partitions alone.
    #[must_use]
    pub fn within(mut self, partitions: Vec<Partition>) -> Self {
        self.partitions = partitions;
        self
    }

    /// Only what has this label too.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }

    /// So many hits at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Checks everything that can be checked without the store; every store calls it before any I/O.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong.
    pub fn check(&self) -> Result<()> {
        Partition::range(&self.kind, &[])?;
        self.labels.iter().try_for_each(|label| check_label(label))?;
        if let Some(other) = self.partitions.iter().find(|partition| partition.kind() != self.kind) {
            let message = format!("the search is for partitions of the kind `{}`", self.kind);
            return Err(Error::invalid_input(message).with_key(other.as_str()));
        }
        for (what, number, least, most) in [
            ("hits", self.limit, 1, MAX_HITS),
            ("hits passed over", self.offset, 0, MAX_OFFSET),
            ("partitions", self.partitions.len(), 0, MAX_PARTITIONS),
        ] {
            if !(least..=most).contains(&number) {
                let message = format!("a search has {least} to {most} {what}; {number} were asked for");
                return Err(Error::invalid_input(message));
            }
        }
        Ok(())
    }
}

/// An item that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Where it is.
    pub partition: Partition,
    /// The item; without its body where that is longer than [`MAX_HIT_BODY_BYTES`].
    pub item: Item,
    /// How well it fits: greater is better, comparable within one answer alone. Each store has its own measure.
    pub score: f64,
}
