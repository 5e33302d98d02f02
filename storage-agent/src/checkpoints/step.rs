//! A step: what a checkpoint and writes become in a thread's partition.

use std::collections::HashMap;

use storage_core::{Commit, Expire, Item, Json, Operation, Precondition, PutMode, Result};

use super::{
    blobs::{Staged, null},
    body::join_body,
    chunks::join_hashes,
    layout::{self, CheckpointAttributes, Head, Place, WriteAttributes},
    marks::Marks,
    metadata::Kept,
    prepare::{Parts, TaskParts},
    record::{Packer, Prepared, Record},
    types::{ChannelValue, NewCheckpoint},
};

/// A checkpoint to store, its payloads cut.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) new: NewCheckpoint,
    pub(super) parts: Parts,
}

/// What a step finds.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) head: Option<(Head, u64)>,
    /// Whether a checkpoint of its id is there.
    pub(super) replaces: bool,
    /// The hints of its payloads that are there, by their sort keys.
    pub(super) hints: HashMap<String, Item>,
    /// What is there for the versions of its values, by their sort keys; `None` where nobody has looked.
    pub(super) values: Option<HashMap<String, Item>>,
    /// The sort key of the epoch that must still be there.
    pub(super) epoch: Option<String>,
    pub(super) marks: Marks,
}

impl Step {
    /// The pieces, and the commit that refers to them.
    pub(super) fn commit(
        &self,
        before: Before,
        level: Option<i32>,
        expire: Expire,
    ) -> Result<(Vec<Operation>, Commit)> {
        let mut packer = Packer::new(level)?;
        let mut staged = Staged::default();
        let mut hints = Vec::new();
        for (part, prepared) in self.parts.payloads() {
            let Prepared::Tree(cut) = prepared else { continue };
            let hint = self.place.hint(part);
            staged.add(cut, before.hints.get(&hint), &mut packer)?;
            hints.push(Operation::put(hint, null(), join_hashes(cut.edges().into_iter()), PutMode::Upsert));
        }
        let mut commit = Commit::new(self.place.partition.clone()).expire(expire);
        commit.operations = stage_writes(&self.place, &self.parts.tasks, &mut staged, &mut packer)?;
        commit.operations.extend(layout::named(&self.place.partition, &self.new.key.thread_id)?);
        // What is there already is seldom, and worth another try, for which it is looked at.
        let mode = if before.values.is_some() { PutMode::InsertIfAbsent } else { PutMode::Insert };
        commit.operations.extend(self.values(&mut packer, mode)?);
        commit.operations.extend(hints);
        commit.operations.extend(self.metadata(&before, &mut packer)?);
        commit.operations.extend(self.checkpoint(&mut packer)?);
        commit.operations.push(before.head_after(&self.place, &self.new.key.checkpoint_id)?);
        before.marks.apply(&mut staged.operations, &mut commit);
        commit.preconditions.extend(staged.preconditions);
        commit.preconditions.push(match &before.head {
            Some((_, version)) => Precondition::ItemVersion(self.place.head(), *version),
            None => Precondition::Absent(self.place.head()),
        });
        commit.preconditions.extend(before.epoch.map(Precondition::Present));
        Ok((staged.operations, commit))
    }

    /// The whole metadata where it is large, or the removal of that of the checkpoint in whose place this comes.
    fn metadata(&self, before: &Before, packer: &mut Packer) -> Result<Option<Operation>> {
        let sort = self.place.metadata(&self.new.key.checkpoint_id);
        Ok(match &self.parts.metadata {
            Some(whole) => Some(Operation::put(sort, null(), whole.record(packer)?, PutMode::Upsert)),
            None => before.replaces.then_some(Operation::Delete { sort }),
        })
    }

    fn checkpoint(&self, packer: &mut Packer) -> Result<[Operation; 2]> {
        let id = &self.new.key.checkpoint_id;
        let kept = self.parts.kept.clone();
        let Kept { metadata, moved } = kept.map_or_else(|| Kept::of(&self.new.metadata), Ok)?;
        let attributes = CheckpointAttributes {
            parent: self.new.parent_id.clone(),
            ns: self.place.whole(&self.new.key.checkpoint_ns),
            kind: self.new.checkpoint.kind.clone(),
            metadata,
            moved,
        };
        let record = self.parts.checkpoint.record(packer)?;
        let body = join_body(&self.new.channel_versions, &record)?;
        let attributes = Json::from_serialize(&attributes)?;
        Ok([
            Operation::put(layout::index(id, &self.place.ns), null(), "", PutMode::Upsert),
            Operation::put(self.place.checkpoint(id), attributes, body, PutMode::Upsert),
        ])
    }

    fn values(&self, packer: &mut Packer, mode: PutMode) -> Result<Vec<Operation>> {
        let stored = self.new.new_values.iter().zip(&self.parts.values).map(|(value, prepared)| {
            let kind = Json::from_serialize(&value.value.as_ref().map(|payload| &payload.kind))?;
            let sort = self.place.value(&value.channel, &value.version);
            Ok(Operation::put(sort, kind, prepared.record(packer)?, mode))
        });
        stored.collect()
    }

    /// The sort keys of its values.
    pub(super) fn value_sorts(&self) -> impl Iterator<Item = String> {
        self.new.new_values.iter().map(|value| self.place.value(&value.channel, &value.version))
    }

    /// A value for whose version another one is there.
    pub(super) fn other_is_there(&self, before: &Before) -> Option<&ChannelValue> {
        let found = before.values.as_ref()?;
        let mut values = self.new.new_values.iter().zip(&self.parts.values);
        let other = values.find(|(value, prepared)| {
            let there = found.get(&self.place.value(&value.channel, &value.version));
            there.is_some_and(|item| !is_same(item, value, prepared))
        });
        other.map(|(value, _)| value)
    }
}

fn is_same(item: &Item, value: &ChannelValue, prepared: &Prepared) -> bool {
    let kind = value.value.as_ref().map(|payload| payload.kind.as_str());
    let there = layout::decode::<Option<String>>(item).ok().zip(Record::decode(&item.sort, &item.body).ok());
    there.is_some_and(|(there, record)| there.as_deref() == kind && prepared.is(&record))
}

impl Before {
    /// Always written, so that of two steps that saw the same head one fails.
    fn head_after(&self, place: &Place, id: &str) -> Result<Operation> {
        let head = match &self.head {
            Some((head, _)) => Head {
                id: head.id.as_str().max(id).to_owned(),
                count: head.count + u64::from(!self.replaces),
            },
            None => Head { id: id.to_owned(), count: 1 },
        };
        Ok(Operation::put(place.head(), Json::from_serialize(&head)?, "", PutMode::Upsert))
    }
}

/// The records of writes; their pieces are staged.
pub(super) fn stage_writes(
    place: &Place,
    tasks: &[TaskParts],
    staged: &mut Staged,
    packer: &mut Packer,
) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for task in tasks {
        for write in &task.writes {
            if let Prepared::Tree(cut) = &write.prepared {
                staged.add(cut, None, packer)?;
            }
            let (sort, whole) = place.write(&task.checkpoint_id, &task.task_id, write.index);
            let attributes = WriteAttributes {
                path: task.task_path.clone(),
                task: whole,
                channel: write.channel.clone(),
                kind: write.kind.clone(),
            };
            let mode = if write.index < 0 { PutMode::Upsert } else { PutMode::InsertIfAbsent };
            let record = write.prepared.record(packer)?;
            operations.push(Operation::put(sort, Json::from_serialize(&attributes)?, record, mode));
        }
    }
    Ok(operations)
}
