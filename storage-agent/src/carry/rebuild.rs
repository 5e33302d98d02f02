//! Bringing a partition back, with its numbers.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use storage_core::{
    Commit, Error, ErrorKind, Expire, Json, MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS, Operation, Partition,
    PartitionInfo, Precondition, PutMode, Result, check_key, sequence_key,
};

use super::{
    due::{Now, is_late},
    format::{ItemLine, PartitionLine},
    kinds,
};
use crate::{
    checkpoints::COPYING,
    conversations,
    shared::{Shared, THREADS, expire},
};

/// How long the beginning of a partition stays unless its end is written: a program that dies leaves no half of one.
pub(super) const STAGED: Duration = Duration::from_secs(300);
/// What of a partition that does not fit one step is written in one: far from the deadline of a call, also on a busy store.
const STEP: usize = 2_000;
const STEP_BYTES: usize = 16 * 1024 * 1024;
/// Where numbers are given out that no item has.
const GAP: &str = "\u{1}import:";

/// A partition that is being brought back.
pub(super) struct Rebuild<'a> {
    shared: &'a Shared,
    partition: Partition,
    line: PartitionLine,
    /// What the partition must have, so that nobody else writes to it.
    version: u64,
    /// The number that the partition gave out last, and with what waits.
    given: u64,
    sequence: u64,
    operations: Vec<Operation>,
    bytes: usize,
    /// What comes with the last step.
    shown: Vec<Operation>,
    shown_bytes: usize,
    is_staged: bool,
    /// Hashes of the ids that messages brought.
    ids: HashSet<blake3::Hash>,
    pub(super) items: u64,
}

impl<'a> Rebuild<'a> {
    /// Begins in place of what is there.
    pub(super) async fn begin(
        shared: &'a Shared,
        line: PartitionLine,
        there: Option<PartitionInfo>,
    ) -> Result<Self> {
        let (version, given) = there.map_or((0, 0), |there| (there.version, there.sequence));
        let rebuild = Self {
            shared,
            partition: Partition::from_text(&line.name)?,
            line: line.clone(),
            version,
            given,
            sequence: given,
            operations: Vec::new(),
            bytes: 0,
            shown: Vec::new(),
            shown_bytes: 0,
            is_staged: false,
            ids: HashSet::new(),
            items: 0,
        };
        rebuild.again(line).await
    }

    /// The partition as it was a moment later: what was brought of it is void.
    pub(super) async fn again(mut self, line: PartitionLine) -> Result<Self> {
        if self.given > line.sequence {
            // Numbers go back with the partition alone.
            self.shared.collections()?.delete_partition(&self.partition).await?;
            (self.version, self.given) = (0, 0);
        }
        (self.line, self.sequence, self.is_staged) = (line, self.given, false);
        self.operations.clear();
        self.shown.clear();
        self.ids.clear();
        (self.bytes, self.shown_bytes, self.items) = (0, 0, 0);
        if self.version > 0 {
            self.operations.push(Operation::DeleteRange { from: String::new(), to: None });
        }
        Ok(self)
    }

    pub(super) async fn item(&mut self, item: &ItemLine) -> Result<()> {
        let (attributes, body) = kinds::content(item).map_err(Error::invalid_input)?;
        let bytes = attributes.len() + body.len();
        self.items += 1;
        if kinds::is_shown(self.partition.kind(), &item.sort) {
            if self.shown_bytes + bytes > MAX_COMMIT_BYTES / 2
                || self.shown.len() + 4 >= MAX_COMMIT_OPERATIONS / 2
            {
                let shown = std::mem::take(&mut self.shown);
                self.bytes += std::mem::take(&mut self.shown_bytes);
                self.operations.extend(shown);
                self.stage().await?;
            }
            self.shown.push(Operation::put(&item.sort, attributes, body, PutMode::Upsert));
            self.shown_bytes += bytes;
            return Ok(());
        }
        if (self.bytes > 0 && self.bytes + bytes > STEP_BYTES) || self.operations.len() >= STEP {
            self.stage().await?;
        }
        // Of a conversation only messages are in the order of their numbers: what keeps the id of one stands right behind it.
        let is_other = |prefix: &str| self.partition.kind() == conversations::KIND && !prefix.is_empty();
        let operation = match number(&item.sort).filter(|(prefix, _)| !is_other(prefix)) {
            // It takes its number along; what is put gives out none.
            Some((prefix, number)) if number > self.sequence && number <= self.line.sequence => {
                self.skip_to(number - 1).await?;
                self.sequence = number;
                let tag = self.id_of(&attributes);
                Operation::Append { prefix: prefix.to_owned(), attributes, body, tag, search: None }
            }
            _ => Operation::put(&item.sort, attributes, body, PutMode::Upsert),
        };
        self.operations.push(operation);
        self.bytes += bytes;
        Ok(())
    }

    /// The id by which a message is known from now on, too. Of several with one, as no store has them, the first keeps it: an append
    /// whose tag is there writes nothing.
    fn id_of(&mut self, attributes: &Json) -> Option<String> {
        if self.partition.kind() != conversations::KIND {
            return None;
        }
        let id = conversations::id_of(attributes).filter(|id| check_key(id).is_ok())?;
        self.ids.insert(blake3::hash(id.as_bytes())).then_some(id)
    }

    /// Gives out the numbers up to one, which no item has.
    async fn skip_to(&mut self, last: u64) -> Result<()> {
        while self.sequence < last {
            if self.operations.len() + 2 >= STEP {
                self.stage().await?;
            }
            let room = (STEP - self.operations.len()) as u64;
            let some = room.min(last - self.sequence);
            let (from, to) = (self.sequence + 1, self.sequence + some + 1);
            for _ in 0..some {
                self.operations.push(Operation::append(GAP, Json::from(0), ""));
            }
            self.operations.push(Operation::DeleteRange {
                from: sequence_key(GAP, from),
                to: Some(sequence_key(GAP, to)),
            });
            self.sequence += some;
        }
        Ok(())
    }

    /// Writes what has gathered, to stay if all is written.
    async fn stage(&mut self) -> Result<()> {
        if !self.is_staged && self.partition.kind() == THREADS {
            let mark = Operation::put(COPYING, Json::from(0), "", PutMode::Upsert);
            self.operations.push(mark);
        }
        self.is_staged = true;
        self.commit(Expire::After(STAGED)).await
    }

    async fn commit(&mut self, expire: Expire) -> Result<()> {
        let mut commit =
            Commit::new(self.partition.clone()).only_if(Precondition::Version(self.version)).expire(expire);
        commit.operations = std::mem::take(&mut self.operations);
        self.bytes = 0;
        let written = if self.partition.kind() == conversations::KIND {
            self.shared.commit_found(commit, conversations::texts::text).await
        } else {
            self.shared.collections()?.commit(commit).await
        };
        let committed = written.map_err(|error| match error.kind() {
            ErrorKind::Conflict => written_to(self.partition.as_str()),
            _ => error,
        });
        (self.version, self.given) = (committed?.version, self.sequence);
        Ok(())
    }

    /// Writes the end, with which the partition stays as long as it did.
    pub(super) async fn end(mut self, now: Now) -> Result<u64> {
        self.skip_to(self.line.sequence).await?;
        let (shown, bytes) = (std::mem::take(&mut self.shown), std::mem::take(&mut self.shown_bytes));
        let is_too_much = self.bytes + bytes > MAX_COMMIT_BYTES
            || self.operations.len() + shown.len() + 2 > MAX_COMMIT_OPERATIONS;
        if is_too_much {
            self.stage().await?;
        }
        self.operations.extend(shown);
        if self.is_staged && self.partition.kind() == THREADS {
            self.operations.push(Operation::Delete { sort: COPYING.to_owned() });
        }
        let expires_at = self.line.expires_at;
        // What passed while it was written goes at once.
        let left = || expires_at.map(|second| now.left(second).unwrap_or(Duration::from_millis(1)));
        let began = Instant::now();
        self.commit(expire(left())).await?;
        if expires_at.is_some() && is_late(began) {
            self.commit(expire(left())).await?;
        }
        Ok(self.items)
    }
}

/// The `Conflict` of a partition that somebody else has.
pub(super) fn written_to(name: &str) -> Error {
    let message = "the partition was written to while it was imported";
    Error::new(ErrorKind::Conflict, message).with_key(name).with_hint("import the same file again")
}

/// The prefix and the number of a sort key that [`sequence_key`] made.
fn number(sort: &str) -> Option<(&str, u64)> {
    let (prefix, digits) = sort.split_at_checked(sort.len().checked_sub(20)?)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(|number| (prefix, number))
}
