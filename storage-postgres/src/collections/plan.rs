//! What a commit changes, worked out here while the server holds the partition's lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    time::SystemTime,
};

use bytes::Bytes;
use storage_core::{
    Commit, Error, Json, Operation, Outcome, Precondition, PutMode, Result, SearchText, add_integer,
    next_version, sequence_key,
};

use super::{
    known::{Content, Known, Row, State},
    text,
};

/// A commit carried out on what is known.
pub(super) struct Plan<'c> {
    commit: &'c Commit,
    pub(super) known: &'c Known,
    pub(super) row: Row,
    /// The items as they are after the operations so far.
    pub(super) items: BTreeMap<String, State>,
    tags: HashMap<String, String>,
    /// What has to be known too: the plan is then void.
    pub(super) unknown: BTreeSet<String>,
    /// A bound reached beyond what is known of the beginning: the plan is then void.
    pub(super) beyond: bool,
    pub(super) outcomes: Vec<Outcome>,
}

impl<'c> Plan<'c> {
    /// Checks the preconditions and carries out the operations.
    ///
    /// # Errors
    /// As [`commit`](storage_core::CollectionStore::commit).
    pub(super) fn new(commit: &'c Commit, known: &'c Known, row: Row) -> Result<Self> {
        // A copy: what is written at the end is the difference.
        let items = known.items.clone();
        let tagged = items.iter().filter_map(|(sort, state)| Some((state.tag.clone()?, sort.clone())));
        let tags = tagged.collect();
        let outcomes = Vec::with_capacity(commit.operations.len());
        let unknown = BTreeSet::new();
        let mut plan = Self { commit, known, row, items, tags, unknown, beyond: false, outcomes };
        commit.preconditions.iter().try_for_each(|precondition| plan.check(precondition))?;
        plan.row.version = next_version(plan.row.version);
        for operation in &commit.operations {
            let outcome = plan.perform(operation)?;
            plan.outcomes.push(outcome);
        }
        Ok(plan)
    }

    fn check(&self, precondition: &Precondition) -> Result<()> {
        let holds = match precondition {
            Precondition::Version(version) => self.row.version == *version,
            Precondition::Absent(sort) => !self.items.contains_key(sort),
            Precondition::Present(sort) => self.items.contains_key(sort),
            Precondition::ItemVersion(sort, version) => {
                self.items.get(sort).is_some_and(|item| item.version == *version)
            }
            _ => return Err(Error::unsupported("postgres", "precondition")),
        };
        if holds { Ok(()) } else { Err(self.commit.conflict("a precondition of the commit does not hold")) }
    }

    fn perform(&mut self, operation: &Operation) -> Result<Outcome> {
        Ok(match operation {
            Operation::Put { sort, attributes, body, mode, search } => {
                match (self.items.contains_key(sort), mode) {
                    (true, PutMode::Insert) => {
                        return Err(self.commit.conflict("an item that should be new is there"));
                    }
                    (true, PutMode::InsertIfAbsent) => return Ok(Outcome::Applied(false)),
                    _ => {}
                }
                self.write(sort.clone(), attributes, body, None, search.as_ref());
                Outcome::Applied(true)
            }
            Operation::Append { prefix, attributes, body, tag, search } => {
                if let Some(sort) = tag.as_ref().and_then(|tag| self.tags.get(tag)) {
                    return Ok(Outcome::Appended { sequence: number(sort)?, new: false });
                }
                self.row.sequence += 1;
                let sort = sequence_key(prefix, self.row.sequence);
                self.write(sort, attributes, body, tag.as_deref(), search.as_ref());
                Outcome::Appended { sequence: self.row.sequence, new: true }
            }
            Operation::Delete { sort } => Outcome::Applied(self.remove(sort).is_some()),
            Operation::DeleteRange { from, to } => Outcome::Deleted(self.delete_range(from, to.as_deref())),
            Operation::Increment { sort, by } => self.increment(sort, *by)?,
            Operation::Trim { items, bytes, max_age } => {
                let since = max_age.and_then(|age| self.row.now.checked_sub(age));
                Outcome::Deleted(self.trim(*items, *bytes, since))
            }
            _ => return Err(Error::unsupported("postgres", "operation")),
        })
    }

    fn delete_range(&mut self, from: &str, to: Option<&str>) -> u64 {
        // `BTreeMap::range` panics on bounds in the wrong order; such a range is empty.
        let upper = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(from)));
        let inside = self.items.range::<str, _>((Bound::Included(from), upper));
        let doomed: Vec<String> = inside.map(|(sort, _)| sort.clone()).collect();
        doomed.iter().filter(|sort| self.remove(sort).is_some()).count() as u64
    }

    fn increment(&mut self, sort: &str, by: i64) -> Result<Outcome> {
        let found = self.items.get(sort);
        let wrong = |error: Error| error.with_key(self.commit.partition.as_str());
        let sum = add_integer(found.and_then(|item| item.attributes.as_ref()), by).map_err(wrong)?;
        let old = self.remove(sort);
        let (body_bytes, content) = match old {
            None => (0, Content::Written(Bytes::new())),
            Some(State { content: Content::Written(body), body_bytes, .. }) => {
                (body_bytes, Content::Written(body))
            }
            Some(old) => (old.body_bytes, Content::Kept),
        };
        self.put(sort.to_owned(), Json::from(sum), body_bytes, content, (None, None));
        Ok(Outcome::Sum(sum))
    }

    fn trim(&mut self, items: Option<u64>, bytes: Option<u64>, since: Option<SystemTime>) -> u64 {
        let mut deleted = 0;
        while self.row.items > 0 {
            let first = self.items.first_key_value().filter(|(sort, _)| self.known.reaches(sort));
            let Some((sort, first)) = first else {
                self.beyond = true;
                break;
            };
            let too_many = items.is_some_and(|most| self.row.items > most);
            let too_large = bytes.is_some_and(|most| self.row.bytes > most) && self.row.items > 1;
            let too_old = since.is_some_and(|since| first.written_at < since);
            if first.version == self.row.version || !(too_many || too_large || too_old) {
                break;
            }
            let sort = sort.clone();
            self.remove(&sort);
            deleted += 1;
        }
        deleted
    }

    fn write(
        &mut self,
        sort: String,
        attributes: &Json,
        body: &Bytes,
        tag: Option<&str>,
        search: Option<&SearchText>,
    ) {
        self.remove(&sort);
        if let Some(tag) = tag {
            self.tags.insert(tag.to_owned(), sort.clone());
        }
        let content = Content::Written(body.clone());
        let found_by = (tag.map(ToOwned::to_owned), search.map(text::vector));
        self.put(sort, attributes.clone(), body.len() as u64, content, found_by);
    }

    fn put(
        &mut self,
        sort: String,
        attributes: Json,
        body_bytes: u64,
        content: Content,
        (tag, words): (Option<String>, Option<String>),
    ) {
        let state = State {
            version: self.row.version,
            written_at: self.row.now,
            attributes_bytes: attributes.len() as u64,
            body_bytes,
            tag,
            words,
            attributes: Some(attributes),
            content,
        };
        self.row.items += 1;
        self.row.bytes += state.size(&sort);
        self.items.insert(sort, state);
    }

    fn remove(&mut self, sort: &str) -> Option<State> {
        if !self.known.is_known(sort) {
            self.unknown.insert(sort.to_owned());
        }
        let item = self.items.remove(sort)?;
        // Never below zero, whatever somebody else wrote into the tables.
        self.row.items = self.row.items.saturating_sub(1);
        self.row.bytes = self.row.bytes.saturating_sub(item.size(sort));
        if let Some(tag) = &item.tag {
            self.tags.remove(tag);
        }
        Some(item)
    }
}

/// The number of an appended item.
fn number(sort: &str) -> Result<u64> {
    let digits = sort.len().checked_sub(20).and_then(|at| sort.get(at..));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::corrupt("an item with a tag has no number").with_key(sort))
}
