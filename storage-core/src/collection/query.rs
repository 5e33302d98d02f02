//! What a query asks for and what it answers.

use std::time::SystemTime;

use bytes::Bytes;

use super::{Partition, commit::check_bound};
use crate::{Error, Json, Result, prefix_successor};

/// The most items of one page.
pub const MAX_PAGE_ITEMS: usize = 10_000;
/// A page ends early, with [`Page::more`] set, when its bodies and attributes pass this; it has one item at least.
pub const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Items of one partition, in the order of their sort keys.
///
/// ```
/// use storage_core::{Order, Partition, Query};
///
/// // The latest ten messages, the newest first, without their bodies.
/// let partition = Partition::new("conversation", &["s-1"])?;
/// let query = Query::prefix(partition, "m:", 10).order(Order::Descending).without_bodies();
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose items.
    pub partition: Partition,
    /// The first sort key, whichever the order; empty for the beginning.
    pub from: String,
    /// The first sort key beyond; `None` for the end.
    pub to: Option<String>,
    /// Which end comes first.
    pub order: Order,
    /// How many items at most.
    pub limit: usize,
    /// Whether items carry their bodies.
    pub bodies: bool,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The least sort key first.
    #[default]
    Ascending,
    /// The greatest sort key first.
    Descending,
}

impl Query {
    /// All items, from the beginning.
    #[must_use]
    pub fn all(partition: Partition, limit: usize) -> Self {
        Self { partition, from: String::new(), to: None, order: Order::Ascending, limit, bodies: true }
    }

    /// The items whose sort keys start with a prefix.
    #[must_use]
    pub fn prefix(partition: Partition, prefix: &str, limit: usize) -> Self {
        Self { from: prefix.to_owned(), to: prefix_successor(prefix), ..Self::all(partition, limit) }
    }

    /// The items from a sort key to before another.
    #[must_use]
    pub fn range(partition: Partition, from: impl Into<String>, to: Option<String>, limit: usize) -> Self {
        Self { from: from.into(), to, ..Self::all(partition, limit) }
    }

    /// Which end comes first.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Leaves the bodies out; the store does not read them.
    #[must_use]
    pub fn without_bodies(mut self) -> Self {
        self.bodies = false;
        self
    }

    /// The query for what comes after `page`; `None` where that was all.
    #[must_use]
    pub fn after(mut self, page: &Page) -> Option<Self> {
        let last = page.items.last().filter(|_| page.more)?;
        match self.order {
            // No key lies between a key and itself with the least character added.
            Order::Ascending => self.from = format!("{}\u{1}", last.sort),
            Order::Descending => self.to = Some(last.sort.clone()),
        }
        Some(self)
    }

    /// Checks everything that can be checked without the store; every store calls it before any I/O.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_PAGE_ITEMS).contains(&self.limit) {
            let message = format!("a page has 1 to {MAX_PAGE_ITEMS} items; {} were asked for", self.limit);
            return Err(Error::invalid_input(message).with_key(self.partition.as_str()));
        }
        [Some(&self.from), self.to.as_ref()].into_iter().flatten().try_for_each(|bound| check_bound(bound))
    }
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its sort key.
    pub sort: String,
    /// Its attributes.
    pub attributes: Json,
    /// Its body; empty where the query left bodies out.
    pub body: Bytes,
    /// The bytes of its body, also where the query left it out.
    pub body_bytes: u64,
    /// The partition's version that wrote it last.
    pub version: u64,
    /// When it was written last, to the millisecond.
    pub written_at: SystemTime,
}

/// Some items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The items, in the order asked for.
    pub items: Vec<Item>,
    /// Whether there are more: [`Query::after`] asks for them.
    pub more: bool,
}
