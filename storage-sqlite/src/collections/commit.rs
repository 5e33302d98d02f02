//! A commit, in whatever transaction there is: whoever runs it undoes all of it where it fails.

use std::time::Duration;

use storage_core::{
    Commit, Committed, Error, Expire, Json, Operation, Outcome, Precondition, PutMode, SearchText,
    add_integer, epoch_millis, next_version, sequence_key, ttl_millis,
};

use super::{
    item::{Content, Items, Slot},
    partition::{self, Stored},
};
use crate::{error::Answer, statements::entries::View};

/// The digits of [`sequence_key`].
const SEQUENCE_DIGITS: usize = 20;

/// A partition while a commit changes it.
struct Change<'a> {
    commit: &'a Commit,
    stored: Stored,
    items: Items<'a>,
    written_at_ms: u64,
}

/// Does a commit. Changes nothing before every precondition was found to hold.
pub(super) fn commit(view: &View<'_>, commit: &Commit) -> Answer<Committed> {
    let name = commit.partition.as_str();
    let found = Stored::find(view, name)?;
    let (live, expired) = match found {
        Some(stored) if stored.is_live(view) => (Some(stored), None),
        found => (None, found),
    };
    for precondition in &commit.preconditions {
        if !holds(view, live.as_ref(), precondition)? {
            return Err(commit.conflict("a precondition of the commit does not hold").into());
        }
    }
    let stored = match live {
        Some(stored) => stored,
        None if commit.operations.is_empty() => {
            return Ok(Committed { version: 0, outcomes: Vec::new() });
        }
        None => {
            // Names are unique: the expired row gives up its own first.
            expired.map_or(Ok(()), |expired| partition::end(view, expired.id))?;
            Stored::begin(view, name)?
        }
    };
    Change::new(view, commit, stored).perform_all()
}

fn holds(view: &View<'_>, stored: Option<&Stored>, precondition: &Precondition) -> Answer<bool> {
    let find = |sort: &str| match stored {
        Some(stored) => Items { view, partition: stored.id }.find(sort),
        None => Ok(None),
    };
    Ok(match precondition {
        Precondition::Version(version) => stored.map_or(0, |stored| stored.version) == *version,
        Precondition::Absent(sort) => find(sort)?.is_none(),
        Precondition::Present(sort) => find(sort)?.is_some(),
        Precondition::ItemVersion(sort, version) => find(sort)?.is_some_and(|slot| slot.version == *version),
        _ => return Err(unknown()),
    })
}

impl<'a> Change<'a> {
    fn new(view: &'a View<'a>, commit: &'a Commit, mut stored: Stored) -> Self {
        stored.version = next_version(stored.version);
        let items = Items { view, partition: stored.id };
        Self { commit, stored, items, written_at_ms: epoch_millis(view.now) }
    }

    fn perform_all(mut self) -> Answer<Committed> {
        let (view, commit) = (self.items.view, self.commit);
        let mut outcomes = Vec::with_capacity(commit.operations.len());
        for operation in &commit.operations {
            view.check()?;
            outcomes.push(self.perform(operation)?);
        }
        self.stored.save(view, self.written_at_ms)?;
        match commit.expire {
            Expire::Keep => {}
            Expire::Never => self.stored.set_expiry(view, None)?,
            Expire::After(ttl) => {
                let at = self.written_at_ms.saturating_add(ttl_millis(ttl)?);
                self.stored.set_expiry(view, Some(at))?;
            }
        }
        Ok(Committed { version: self.stored.version, outcomes })
    }

    fn perform(&mut self, operation: &'a Operation) -> Answer<Outcome> {
        match operation {
            Operation::Put { sort, attributes, body, mode, search } => {
                let found = self.items.find(sort)?;
                match (&found, mode) {
                    (Some(_), PutMode::Insert) => {
                        Err(self.commit.conflict("an item that should be new is there").into())
                    }
                    (Some(_), PutMode::InsertIfAbsent) => Ok(Outcome::Applied(false)),
                    _ => {
                        self.write(sort, found.as_ref(), None, (attributes, body), search.as_ref())?;
                        Ok(Outcome::Applied(true))
                    }
                }
            }
            Operation::Append { prefix, attributes, body, tag, search } => {
                self.append(prefix, tag.as_deref(), (attributes, body), search.as_ref())
            }
            Operation::Delete { sort } => self.delete(sort).map(Outcome::Applied),
            Operation::DeleteRange { from, to } => {
                self.delete_range(from, to.as_deref()).map(Outcome::Deleted)
            }
            Operation::Increment { sort, by } => self.increment(sort, *by).map(Outcome::Sum),
            Operation::Trim { items, bytes, max_age } => {
                self.trim(*items, *bytes, *max_age).map(Outcome::Deleted)
            }
            _ => Err(unknown()),
        }
    }

    /// Writes an item over what is there, whose tag goes.
    fn write(
        &mut self,
        sort: &str,
        found: Option<&Slot>,
        tag: Option<&str>,
        (attributes, body): (&Json, &[u8]),
        search: Option<&SearchText>,
    ) -> Answer<()> {
        let (version, written_at_ms) = (self.stored.version, self.written_at_ms);
        let content = Content { version, written_at_ms, tag, attributes, body, search };
        match found {
            Some(slot) => self.items.replace(slot, &content)?,
            None => self.items.insert(sort, &content)?,
        }
        self.count(sort, found, attributes.len() + body.len());
        Ok(())
    }

    /// Counts an item that now has so many bytes besides its sort key.
    fn count(&mut self, sort: &str, found: Option<&Slot>, bytes: usize) {
        match found {
            Some(slot) => self.stored.bytes = self.stored.bytes.saturating_sub(slot.bytes),
            None => {
                self.stored.items += 1;
                self.stored.bytes += sort.len() as u64;
            }
        }
        self.stored.bytes += bytes as u64;
    }

    fn append(
        &mut self,
        prefix: &str,
        tag: Option<&str>,
        content: (&Json, &[u8]),
        search: Option<&SearchText>,
    ) -> Answer<Outcome> {
        if let Some(tag) = tag
            && let Some(sort) = self.items.tagged(tag)?
        {
            return Ok(Outcome::Appended { sequence: sequence_of(&sort)?, new: false });
        }
        self.stored.sequence += 1;
        let sequence = self.stored.sequence;
        let sort = sequence_key(prefix, sequence);
        // Somebody may have put an item where the next number goes.
        let found = self.items.find(&sort)?;
        self.write(&sort, found.as_ref(), tag, content, search)?;
        Ok(Outcome::Appended { sequence, new: true })
    }

    fn delete(&mut self, sort: &str) -> Answer<bool> {
        let Some(slot) = self.items.find(sort)? else { return Ok(false) };
        self.items.remove(slot.id)?;
        self.discount(1, slot.bytes + sort.len() as u64);
        Ok(true)
    }

    fn delete_range(&mut self, from: &str, to: Option<&str>) -> Answer<u64> {
        let (items, bytes) = self.items.remove_range(from, to)?;
        self.discount(items, bytes);
        Ok(items)
    }

    fn discount(&mut self, items: u64, bytes: u64) {
        self.stored.items = self.stored.items.saturating_sub(items);
        self.stored.bytes = self.stored.bytes.saturating_sub(bytes);
    }

    fn increment(&mut self, sort: &str, by: i64) -> Answer<i64> {
        let name = |error: Error| error.with_key(self.commit.partition.as_str());
        let Some(slot) = self.items.find(sort)? else {
            let sum = add_integer(None, by).map_err(name)?;
            self.write(sort, None, None, (&Json::from(sum), &[]), None)?;
            return Ok(sum);
        };
        let before = self.items.attributes(sort, &slot)?;
        let sum = add_integer(Some(&before), by).map_err(name)?;
        let after = Json::from(sum);
        self.items.replace_attributes(&slot, self.stored.version, self.written_at_ms, &after)?;
        self.discount(0, before.len() as u64);
        self.stored.bytes += after.len() as u64;
        Ok(sum)
    }

    /// Deletes from the beginning until each bound holds; reads one item more than it deletes.
    fn trim(&mut self, items: Option<u64>, bytes: Option<u64>, max_age: Option<Duration>) -> Answer<u64> {
        let since = max_age.and_then(|age| self.items.view.now.checked_sub(age));
        let (mut count, mut size) = (self.stored.items, self.stored.bytes);
        let first = self.items.first_to_stay(|version, written_at, item_bytes| {
            let too_many = items.is_some_and(|most| count > most);
            let too_large = bytes.is_some_and(|most| size > most) && count > 1;
            let too_old = since.is_some_and(|since| written_at < since);
            count = count.saturating_sub(1);
            size = size.saturating_sub(item_bytes);
            version != self.stored.version && (too_many || too_large || too_old)
        })?;
        self.delete_range("", first.as_deref())
    }
}

/// The number of an appended item.
fn sequence_of(sort: &str) -> Answer<u64> {
    let digits = sort.len().checked_sub(SEQUENCE_DIGITS).and_then(|start| sort.get(start..));
    let number = digits.and_then(|digits| digits.parse().ok());
    Ok(number.ok_or_else(|| Error::corrupt("a tagged item has no sequence number").with_key(sort))?)
}

/// An operation or precondition of a later release of the core.
fn unknown() -> crate::error::Fault {
    Error::unsupported(crate::backend::NAME, "commit").into()
}
