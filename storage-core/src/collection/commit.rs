//! What a commit asks for and what it answers.

use std::time::Duration;

use bytes::Bytes;

use super::Partition;
use crate::{Error, Json, MAX_KEY_BYTES, Result, SearchText, check_key, ttl_millis};

/// The longest attributes of an item, in bytes of JSON text.
pub const MAX_ATTRIBUTES_BYTES: usize = 64 * 1024;
/// The most operations and preconditions of one commit.
pub const MAX_COMMIT_OPERATIONS: usize = 10_000;
/// The most bytes of the attributes and bodies of one commit, unless a single body may have more.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;

/// One atomic change of one partition.
///
/// ```
/// use storage_core::{Commit, Json, Operation, Partition};
///
/// let partition = Partition::new("conversation", &["s-1"])?;
/// let message = Operation::append("m:", Json::parse(r#"{"role":"user"}"#)?, "hello");
/// let commit = Commit::new(partition).with(message);
/// commit.check(1024)?;
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Commit {
    /// What is changed.
    pub partition: Partition,
    /// What must hold before.
    pub preconditions: Vec<Precondition>,
    /// What is done, in this order.
    pub operations: Vec<Operation>,
    /// What becomes of the partition's expiry.
    pub expire: Expire,
}

/// What becomes of a partition's expiry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expire {
    /// It stays; a new partition has none.
    #[default]
    Keep,
    /// It is removed.
    Never,
    /// It is set to this long from now.
    After(Duration),
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precondition {
    /// The partition has this version; 0: it is absent.
    Version(u64),
    /// There is no such item.
    Absent(String),
    /// There is such an item.
    Present(String),
    /// The item was last written by the commit that made this the partition's version: [`Item::version`](super::Item::version).
    ItemVersion(String, u64),
}

/// What a put does about an item that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// The whole commit is a `Conflict`.
    Insert,
    /// It stays as it is.
    InsertIfAbsent,
    /// It is written over.
    Upsert,
}

/// One step of a commit.
#[derive(Clone)]
#[non_exhaustive]
pub enum Operation {
    /// Writes an item.
    Put {
        /// Its sort key.
        sort: String,
        /// Its attributes.
        attributes: Json,
        /// Its body.
        body: Bytes,
        /// What becomes of one that is there.
        mode: PutMode,
        /// What [`search`](super::CollectionStore::search) finds it by; `None`: it is not found.
        search: Option<SearchText>,
    },
    /// Writes an item at the next number of the partition's sequence: its sort key is [`sequence_key`] of prefix and number.
    Append {
        /// What its sort key starts with; may be empty.
        prefix: String,
        /// Its attributes.
        attributes: Json,
        /// Its body.
        body: Bytes,
        /// Where an item of this tag is in the partition, nothing is written and that item's number is answered: an
        /// append that is tried again is done once. The tag goes with its item.
        tag: Option<String>,
        /// What [`search`](super::CollectionStore::search) finds it by; `None`: it is not found.
        search: Option<SearchText>,
    },
    /// Deletes an item.
    Delete {
        /// Its sort key.
        sort: String,
    },
    /// Deletes the items from a sort key to before another; `None` goes to the end.
    DeleteRange {
        /// The first.
        from: String,
        /// The first that stays.
        to: Option<String>,
    },
    /// Adds to the integer that is the attributes of an item; one that is not there counts as 0. Search finds it no longer.
    Increment {
        /// Its sort key.
        sort: String,
        /// What to add.
        by: i64,
    },
    /// Deletes items from the beginning of the partition until each bound holds, or the next was written by this commit: what
    /// a commit appends, it does not delete.
    Trim {
        /// So many items stay at most.
        items: Option<u64>,
        /// The partition has so many bytes at most; the last item stays, whatever it has.
        bytes: Option<u64>,
        /// Nothing at the beginning was written longer ago, by the clock that judges expiry.
        max_age: Option<Duration>,
    },
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Of a put or a delete: whether it changed anything.
    Applied(bool),
    /// Of an append: its number, and whether it was written now (else its tag was there).
    Appended {
        /// The number of the item.
        sequence: u64,
        /// Whether this commit wrote it.
        new: bool,
    },
    /// Of a range or a trim: how many items were deleted.
    Deleted(u64),
    /// Of an increment: the sum.
    Sum(i64),
}

/// What a commit answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition's version now; 0 where the commit had no operation and found none.
    pub version: u64,
    /// An outcome for each operation, in their order.
    pub outcomes: Vec<Outcome>,
}

/// The sort key of an appended item: the prefix and the number in 20 digits, so that bytes order as numbers do.
///
/// ```
/// assert_eq!(storage_core::sequence_key("m:", 7), "m:00000000000000000007");
/// ```
#[must_use]
pub fn sequence_key(prefix: &str, sequence: u64) -> String {
    format!("{prefix}{sequence:020}")
}

impl Operation {
    /// A put in the given mode.
    pub fn put(sort: impl Into<String>, attributes: Json, body: impl Into<Bytes>, mode: PutMode) -> Self {
        Self::Put { sort: sort.into(), attributes, body: body.into(), mode, search: None }
    }

    /// An append without a tag.
    pub fn append(prefix: impl Into<String>, attributes: Json, body: impl Into<Bytes>) -> Self {
        Self::Append { prefix: prefix.into(), attributes, body: body.into(), tag: None, search: None }
    }

    /// The same put or append, found by this; any other operation is as it was.
    #[must_use]
    pub fn searched(mut self, text: Option<SearchText>) -> Self {
        if let Self::Put { search, .. } | Self::Append { search, .. } = &mut self {
            *search = text;
        }
        self
    }

    /// The bytes that it carries.
    fn bytes(&self) -> usize {
        match self {
            Self::Put { attributes, body, search, .. } | Self::Append { attributes, body, search, .. } => {
                attributes.len() + body.len() + search.as_ref().map_or(0, SearchText::len)
            }
            _ => 0,
        }
    }

    fn check(&self, max_body_bytes: usize) -> Result<()> {
        match self {
            Self::Put { sort, attributes, body, .. } => {
                check_key(sort)?;
                check_content(sort, attributes, body, max_body_bytes)
            }
            Self::Append { prefix, attributes, body, tag, .. } => {
                check_key(&sequence_key(prefix, 0))?;
                tag.as_deref().map_or(Ok(()), check_key)?;
                check_content(prefix, attributes, body, max_body_bytes)
            }
            Self::Delete { sort } | Self::Increment { sort, .. } => check_key(sort),
            // Bounds are compared, not stored: an empty one is the beginning.
            Self::DeleteRange { from, to } => {
                [Some(from), to.as_ref()].into_iter().flatten().try_for_each(|bound| check_bound(bound))
            }
            Self::Trim { .. } => Ok(()),
        }
    }
}

/// Sizes alone: bodies never appear in logs.
impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, sort) = match self {
            Self::Put { sort, .. } => ("Put", sort.as_str()),
            Self::Append { prefix, .. } => ("Append", prefix.as_str()),
            Self::Delete { sort } => ("Delete", sort.as_str()),
            Self::DeleteRange { from, .. } => ("DeleteRange", from.as_str()),
            Self::Increment { sort, .. } => ("Increment", sort.as_str()),
            Self::Trim { .. } => ("Trim", ""),
        };
        f.debug_tuple(name).field(&sort).finish()
    }
}

impl Commit {
    /// A commit without operations.
    #[must_use]
    pub fn new(partition: Partition) -> Self {
        Self { partition, preconditions: Vec::new(), operations: Vec::new(), expire: Expire::Keep }
    }

    /// Adds an operation.
    #[must_use]
    pub fn with(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Adds a precondition.
    #[must_use]
    pub fn only_if(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Says what becomes of the expiry.
    #[must_use]
    pub fn expire(mut self, expire: Expire) -> Self {
        self.expire = expire;
        self
    }

    /// Checks everything that can be checked without the store; every store calls it before any I/O.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong.
    pub fn check(&self, max_body_bytes: usize) -> Result<()> {
        let steps = self.operations.len() + self.preconditions.len();
        if steps > MAX_COMMIT_OPERATIONS {
            let message = format!(
                "a commit may have {MAX_COMMIT_OPERATIONS} operations and preconditions; this one has {steps}"
            );
            return Err(Error::invalid_input(message).with_key(self.partition.as_str()));
        }
        if let Expire::After(ttl) = self.expire {
            ttl_millis(ttl)?;
        }
        for precondition in &self.preconditions {
            match precondition {
                Precondition::Version(_) => {}
                Precondition::Absent(sort)
                | Precondition::Present(sort)
                | Precondition::ItemVersion(sort, _) => check_key(sort)?,
            }
        }
        self.operations.iter().try_for_each(|operation| operation.check(max_body_bytes))?;
        let (bytes, most) = (
            self.operations.iter().map(Operation::bytes).sum::<usize>(),
            MAX_COMMIT_BYTES.max(max_body_bytes),
        );
        if bytes > most {
            let message = format!("a commit may carry {most} bytes; this one has {bytes}");
            return Err(Error::invalid_input(message).with_key(self.partition.as_str()));
        }
        Ok(())
    }

    /// The `Conflict` of a precondition, by its place, or of an [`PutMode::Insert`].
    #[must_use]
    pub fn conflict(&self, what: &str) -> Error {
        Error::new(crate::ErrorKind::Conflict, what.to_owned()).with_key(self.partition.as_str())
    }
}

fn check_content(sort: &str, attributes: &Json, body: &Bytes, max_body_bytes: usize) -> Result<()> {
    if attributes.len() > MAX_ATTRIBUTES_BYTES {
        let message =
            format!("attributes may have {MAX_ATTRIBUTES_BYTES} bytes; these have {}", attributes.len());
        return Err(Error::invalid_input(message)
            .with_key(sort)
            .with_hint("large data belongs into the body"));
    }
    if body.len() > max_body_bytes {
        let message = format!("a body may have {max_body_bytes} bytes; this one has {}", body.len());
        return Err(Error::invalid_input(message).with_key(sort));
    }
    Ok(())
}

/// Checks a bound of a range: nothing for the beginning, a sort key, or one with a character added, as
/// [`Query::after`](super::Query::after) makes them.
pub(super) fn check_bound(bound: &str) -> Result<()> {
    if bound.len() > MAX_KEY_BYTES + 1 || bound.contains('\0') {
        return Err(Error::invalid_input("a bound of a range is no sort key").with_key(bound));
    }
    Ok(())
}
