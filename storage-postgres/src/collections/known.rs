//! What is known of a partition while a commit changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use bytes::Bytes;
use storage_core::{Json, Result};
use tokio_postgres::Row as Answer;

use crate::statements::value::{column, unsigned};

/// The row of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) id: i64,
    /// 0 where the commit is its first.
    pub(super) version: u64,
    pub(super) sequence: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) now: SystemTime,
}

/// An item: as it is stored, or as the commit writes it.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) written_at: SystemTime,
    pub(super) attributes_bytes: u64,
    pub(super) body_bytes: u64,
    pub(super) tag: Option<String>,
    /// What it is found by, where it is written.
    pub(super) words: Option<String>,
    /// Of a stored item only where they will be counted with.
    pub(super) attributes: Option<Json>,
    pub(super) content: Content,
}

/// Where the body of an item is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// In the store, and nothing of the item changes.
    Stored,
    /// In the store, while the other columns are written.
    Kept,
    /// Here, to be written.
    Written(Bytes),
}

/// What is known of the items of a partition.
pub(super) struct Known {
    pub(super) items: BTreeMap<String, State>,
    pub(super) asked: BTreeSet<String>,
    /// Where what is known of the beginning ends; `None` where all is known.
    pub(super) head_end: Option<String>,
}

impl State {
    /// How many bytes it counts for.
    pub(super) fn size(&self, sort: &str) -> u64 {
        sort.len() as u64 + self.attributes_bytes + self.body_bytes
    }
}

impl Known {
    /// An item may be in the answer several times, once with its attributes.
    pub(super) fn insert(&mut self, sort: String, state: State) {
        if state.attributes.is_some() || !self.items.contains_key(&sort) {
            self.items.insert(sort, state);
        }
    }

    /// Whether it is known if there is such an item.
    pub(super) fn is_known(&self, sort: &str) -> bool {
        self.items.contains_key(sort) || self.asked.contains(sort)
    }

    /// Whether everything before this item is known.
    pub(super) fn reaches(&self, sort: &str) -> bool {
        self.head_end.as_deref().is_none_or(|end| sort <= end)
    }
}

/// An item as it is stored.
pub(super) fn state(answer: &Answer) -> Result<(String, State)> {
    let sort: String = column(answer, 0)?;
    let attributes: Option<String> = column(answer, 6)?;
    let attributes = attributes.map(|text| Json::from_stored(&sort, text)).transpose()?;
    let state = State {
        version: unsigned(column(answer, 1)?),
        attributes_bytes: unsigned(column(answer, 2)?),
        body_bytes: unsigned(column(answer, 3)?),
        tag: column(answer, 4)?,
        words: None,
        written_at: column(answer, 5)?,
        attributes,
        content: Content::Stored,
    };
    Ok((sort, state))
}
