//! One partition in memory: a commit changes it whole or puts back what it changed.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    Commit, Committed, Expire, Item, Json, Operation, Outcome, Partition, PartitionInfo, Precondition,
    PutMode, Result, SearchText, add_integer, epoch_millis, next_version, sequence_key, ttl_millis,
};

#[derive(Debug, Clone)]
pub(super) struct Stored {
    version: u64,
    sequence: u64,
    bytes: u64,
    updated_at: SystemTime,
    expires_at: Option<SystemTime>,
    items: BTreeMap<String, Item>,
    /// What items are found by.
    texts: HashMap<String, Arc<SearchText>>,
    /// The sort key and number of each tagged item, and the other way round.
    tags: HashMap<String, (String, u64)>,
    tagged: HashMap<String, String>,
}

/// What a commit has changed so far, to put back if it fails.
type Undo = Vec<(String, Option<Item>, Option<(String, u64)>, Option<Arc<SearchText>>)>;

impl Stored {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            version: 0,
            sequence: 0,
            bytes: 0,
            updated_at: now,
            expires_at: None,
            items: BTreeMap::new(),
            texts: HashMap::new(),
            tags: HashMap::new(),
            tagged: HashMap::new(),
        }
    }

    pub(super) fn is_live(&self, now: SystemTime) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    pub(super) fn info(&self, partition: Partition) -> PartitionInfo {
        PartitionInfo {
            items: self.items.len() as u64,
            bytes: self.bytes,
            sequence: self.sequence,
            expires_at: self.expires_at,
            ..PartitionInfo::new(partition, self.version, self.updated_at)
        }
    }

    pub(super) fn item(&self, sort: &str) -> Option<Item> {
        self.items.get(sort).cloned()
    }

    /// The items that are found by words, with these.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&Item, &Arc<SearchText>)> {
        self.texts.iter().filter_map(|(sort, text)| Some((self.items.get(sort)?, text)))
    }

    pub(super) fn range(
        &self,
        from: &str,
        to: Option<&str>,
    ) -> impl DoubleEndedIterator<Item = (&String, &Item)> {
        // `BTreeMap::range` panics on bounds in the wrong order; such a range is empty.
        let to = to.map(|to| to.max(from));
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.items.range::<str, _>((Bound::Included(from), upper))
    }

    pub(super) fn commit(&mut self, commit: &Commit, now: SystemTime) -> Result<Committed> {
        for precondition in &commit.preconditions {
            self.check(precondition, commit)?;
        }
        let before = (self.version, self.sequence, self.bytes);
        let now = UNIX_EPOCH + Duration::from_millis(epoch_millis(now));
        // Before the operations: an item carries the version of the commit that wrote it.
        self.version = next_version(self.version);
        let mut undo = Undo::new();
        let mut outcomes = Vec::with_capacity(commit.operations.len());
        for operation in &commit.operations {
            match self.perform(operation, commit, now, &mut undo) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    self.undo(undo);
                    (self.version, self.sequence, self.bytes) = before;
                    return Err(error.with_key(commit.partition.as_str()));
                }
            }
        }
        self.updated_at = now;
        match commit.expire {
            Expire::Keep => {}
            Expire::Never => self.expires_at = None,
            // `Commit::check` has checked it: an error here would leave the operations done.
            Expire::After(ttl) => self.expires_at = Some(now + Duration::from_millis(ttl_millis(ttl)?)),
        }
        Ok(Committed { version: self.version, outcomes })
    }

    fn check(&self, precondition: &Precondition, commit: &Commit) -> Result<()> {
        let holds = match precondition {
            Precondition::Version(version) => self.version == *version,
            Precondition::Absent(sort) => !self.items.contains_key(sort),
            Precondition::Present(sort) => self.items.contains_key(sort),
            Precondition::ItemVersion(sort, version) => {
                self.items.get(sort).is_some_and(|item| item.version == *version)
            }
        };
        if holds { Ok(()) } else { Err(commit.conflict("a precondition of the commit does not hold")) }
    }

    fn perform(
        &mut self,
        operation: &Operation,
        commit: &Commit,
        now: SystemTime,
        undo: &mut Undo,
    ) -> Result<Outcome> {
        Ok(match operation {
            Operation::Put { sort, attributes, body, mode, search } => {
                match (self.items.contains_key(sort), mode) {
                    (true, PutMode::Insert) => {
                        return Err(commit.conflict("an item that should be new is there"));
                    }
                    (true, PutMode::InsertIfAbsent) => return Ok(Outcome::Applied(false)),
                    _ => {}
                }
                self.write(sort, attributes.clone(), body.clone(), now, undo);
                self.texts.extend(search.clone().map(|text| (sort.clone(), Arc::new(text))));
                Outcome::Applied(true)
            }
            Operation::Append { prefix, attributes, body, tag, search } => {
                if let Some((_, sequence)) = tag.as_ref().and_then(|tag| self.tags.get(tag)) {
                    return Ok(Outcome::Appended { sequence: *sequence, new: false });
                }
                self.sequence += 1;
                let sort = sequence_key(prefix, self.sequence);
                self.write(&sort, attributes.clone(), body.clone(), now, undo);
                self.texts.extend(search.clone().map(|text| (sort.clone(), Arc::new(text))));
                if let Some(tag) = tag {
                    self.tags.insert(tag.clone(), (sort.clone(), self.sequence));
                    self.tagged.insert(sort, tag.clone());
                }
                Outcome::Appended { sequence: self.sequence, new: true }
            }
            Operation::Delete { sort } => Outcome::Applied(self.remove(sort, undo)),
            Operation::DeleteRange { from, to } => {
                let doomed: Vec<String> =
                    self.range(from, to.as_deref()).map(|(sort, _)| sort.clone()).collect();
                Outcome::Deleted(doomed.iter().filter(|sort| self.remove(sort, undo)).count() as u64)
            }
            Operation::Increment { sort, by } => {
                let found = self.items.get(sort);
                let sum = add_integer(found.map(|item| &item.attributes), *by)?;
                let body = found.map_or_else(Bytes::new, |item| item.body.clone());
                self.write(sort, Json::from(sum), body, now, undo);
                Outcome::Sum(sum)
            }
            Operation::Trim { items, bytes, max_age } => {
                let since = max_age.and_then(|age| now.checked_sub(age));
                Outcome::Deleted(self.trim(*items, *bytes, since, undo))
            }
        })
    }

    fn trim(
        &mut self,
        items: Option<u64>,
        bytes: Option<u64>,
        since: Option<SystemTime>,
        undo: &mut Undo,
    ) -> u64 {
        let mut deleted = 0;
        while let Some((sort, first)) = self.items.first_key_value() {
            let count = self.items.len() as u64;
            let too_many = items.is_some_and(|most| count > most);
            let too_large = bytes.is_some_and(|most| self.bytes > most) && count > 1;
            let too_old = since.is_some_and(|since| first.written_at < since);
            if first.version == self.version || !(too_many || too_large || too_old) {
                break;
            }
            let sort = sort.clone();
            self.remove(&sort, undo);
            deleted += 1;
        }
        deleted
    }

    fn write(&mut self, sort: &str, attributes: Json, body: Bytes, now: SystemTime, undo: &mut Undo) {
        self.remove(sort, undo);
        let body_bytes = body.len() as u64;
        let version = self.version;
        let item = Item { sort: sort.to_owned(), attributes, body, body_bytes, version, written_at: now };
        self.bytes += size(&item);
        self.items.insert(sort.to_owned(), item);
    }

    /// Takes an item out and remembers what was there.
    fn remove(&mut self, sort: &str, undo: &mut Undo) -> bool {
        let item = self.items.remove(sort);
        let tag = self
            .tagged
            .remove(sort)
            .and_then(|tag| self.tags.remove_entry(&tag))
            .map(|(tag, (_, n))| (tag, n));
        let found = item.is_some();
        self.bytes -= item.as_ref().map_or(0, size);
        // Also where there was nothing: undoing then takes out what was written there.
        undo.push((sort.to_owned(), item, tag, self.texts.remove(sort)));
        found
    }

    fn undo(&mut self, undo: Undo) {
        // Backwards: of an item that was written twice the first record has what was there before.
        for (sort, item, tag, text) in undo.into_iter().rev() {
            self.items.remove(&sort);
            self.texts.remove(&sort);
            self.texts.extend(text.map(|text| (sort.clone(), text)));
            if let Some(tag) = self.tagged.remove(&sort) {
                self.tags.remove(&tag);
            }
            if let Some(item) = item {
                self.items.insert(sort.clone(), item);
            }
            if let Some((tag, sequence)) = tag {
                self.tags.insert(tag.clone(), (sort.clone(), sequence));
                self.tagged.insert(sort, tag);
            }
        }
    }
}

fn size(item: &Item) -> u64 {
    (item.sort.len() + item.attributes.len() + item.body.len()) as u64
}
