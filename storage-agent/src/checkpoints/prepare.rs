//! Cutting payloads, which takes milliseconds per megabyte, before and apart from the commit.

use std::sync::Arc;

use bytes::Bytes;
use storage_core::{Error, ErrorKind, Result, engine::background};

use super::{
    chunks::Cut,
    cuts::Cuts,
    layout::{Part, Place},
    metadata::{self, Kept},
    names::check_name,
    record::Prepared,
    types::{
        ChannelValue, ERROR_CHANNEL, INTERRUPT_CHANNEL, NewCheckpoint, Payload, RESUME_CHANNEL,
        SCHEDULED_CHANNEL, TaskWrites,
    },
};

/// From so many bytes on, cutting would keep other tasks of the thread waiting.
const BLOCKING_BYTES: usize = 256 * 1024;

/// Works on so many bytes, on a thread for blocking work where they are many.
pub(super) async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes < BLOCKING_BYTES {
        return Ok(work());
    }
    // Its threads serve callers of every runtime, and those without one.
    let done = background()?.spawn_blocking(work).await;
    done.map_err(|_| Error::new(ErrorKind::Unavailable, "the values could not be cut"))
}

/// The payloads of a step, ready to be stored.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) checkpoint: Prepared,
    /// What of the metadata stays with the checkpoint.
    pub(super) kept: Option<Kept>,
    /// The whole of it, where it is large.
    pub(super) metadata: Option<Prepared>,
    channels: Vec<String>,
    pub(super) values: Vec<Prepared>,
    pub(super) tasks: Vec<TaskParts>,
    /// Of all payloads.
    pub(super) bytes: usize,
}

/// The bytes of the checkpoint, of its metadata where that is large, and of the values.
fn bytes_of(new: &NewCheckpoint) -> impl Iterator<Item = (Part<'_>, Bytes)> {
    let bytes = |payload: Option<&Payload>| payload.and_then(|payload| payload.bytes.clone());
    let own = (Part::Checkpoint, bytes(Some(&new.checkpoint)));
    let values = new.new_values.iter();
    let values = values.map(move |value| (Part::Channel(&value.channel), bytes(value.value.as_ref())));
    let all = [own, (Part::Metadata, metadata::large(&new.metadata))].into_iter().chain(values);
    all.filter_map(|(part, bytes)| Some((part, bytes?)))
}

/// The writes of a task.
#[derive(Debug)]
pub(super) struct TaskParts {
    pub(super) checkpoint_id: String,
    pub(super) task_id: String,
    pub(super) task_path: String,
    pub(super) writes: Vec<WritePart>,
}

#[derive(Debug)]
pub(super) struct WritePart {
    pub(super) index: i64,
    pub(super) channel: String,
    pub(super) kind: String,
    pub(super) prepared: Prepared,
}

impl Parts {
    /// Cuts them, with the help of what is kept of the channels' earlier values.
    pub(super) async fn of(
        place: &Place,
        new: Option<&NewCheckpoint>,
        writes: &[TaskWrites],
        cuts: &Arc<Cuts>,
    ) -> Result<Self> {
        for id in new.iter().map(|new| &new.key.checkpoint_id) {
            place.check_id(id)?;
        }
        for task in writes {
            place.check_id(&task.checkpoint_id)?;
            check_name("task id", &task.task_id)?;
        }
        let written = writes.iter().flat_map(|task| &task.writes);
        let written: usize = written.filter_map(|(_, payload)| payload.bytes.as_ref()).map(Bytes::len).sum();
        let (mut bytes, mut work) = (written, written);
        for (part, payload) in new.into_iter().flat_map(bytes_of) {
            bytes += payload.len();
            work += cuts.work(&place.partition, place.hint(part), &payload);
        }
        let (place, new, writes, cuts) = (place.clone(), new.cloned(), writes.to_vec(), Arc::clone(cuts));
        off_thread(work, move || Self::cut(&place, new.as_ref(), &writes, &cuts, bytes)).await?
    }

    fn cut(
        place: &Place,
        new: Option<&NewCheckpoint>,
        writes: &[TaskWrites],
        cuts: &Cuts,
        bytes: usize,
    ) -> Result<Self> {
        let cut = |part: Part<'_>, bytes: &Bytes| cuts.cut(&place.partition, place.hint(part), bytes);
        let prepared =
            |part: Part<'_>, payload: Option<&Payload>| Prepared::of(payload, |bytes| cut(part, bytes));
        let value = |value: &ChannelValue| prepared(Part::Channel(&value.channel), value.value.as_ref());
        let values = || new.iter().flat_map(|new| &new.new_values);
        let large = new.and_then(|new| metadata::large(&new.metadata));
        Ok(Self {
            checkpoint: prepared(Part::Checkpoint, new.map(|new| &new.checkpoint)),
            kept: new.map(|new| Kept::of(&new.metadata)).transpose()?,
            metadata: large.map(|bytes| Prepared::bytes(&bytes, |bytes| cut(Part::Metadata, bytes))),
            channels: values().map(|value| value.channel.clone()).collect(),
            values: values().map(value).collect(),
            tasks: writes.iter().map(TaskParts::of).collect(),
            bytes,
        })
    }

    /// How many bytes were cut anew.
    pub(super) fn fresh(&self) -> usize {
        let written = self.tasks.iter().flat_map(|task| &task.writes).map(|write| &write.prepared);
        self.payloads().map(|(_, prepared)| prepared).chain(written).map(Prepared::fresh).sum()
    }

    /// The checkpoint, its metadata where that is large, and the values.
    pub(super) fn payloads(&self) -> impl Iterator<Item = (Part<'_>, &Prepared)> {
        let values = self.channels.iter().zip(&self.values);
        let values = values.map(|(channel, prepared)| (Part::Channel(channel), prepared));
        let metadata = self.metadata.iter().map(|prepared| (Part::Metadata, prepared));
        [(Part::Checkpoint, &self.checkpoint)].into_iter().chain(metadata).chain(values)
    }

    /// The sort keys of the hints that help to store them.
    pub(super) fn hints(&self, place: &Place) -> impl Iterator<Item = String> {
        let large = self.payloads().filter(|(_, prepared)| matches!(prepared, Prepared::Tree(_)));
        large.map(|(part, _)| place.hint(part))
    }
}

impl TaskParts {
    fn of(task: &TaskWrites) -> Self {
        let writes = task.writes.iter().enumerate().map(|(position, (channel, payload))| WritePart {
            index: index(channel, position),
            channel: channel.clone(),
            kind: payload.kind.clone(),
            prepared: Prepared::of(Some(payload), |bytes| Arc::new(Cut::of(bytes, None))),
        });
        Self {
            checkpoint_id: task.checkpoint_id.clone(),
            task_id: task.task_id.clone(),
            task_path: task.task_path.clone(),
            writes: writes.collect(),
        }
    }
}

/// The special channels have indexes of their own, so that they never meet a regular write.
fn index(channel: &str, position: usize) -> i64 {
    match channel {
        ERROR_CHANNEL => -1,
        SCHEDULED_CHANNEL => -2,
        INTERRUPT_CHANNEL => -3,
        RESUME_CHANNEL => -4,
        _ => i64::try_from(position).unwrap_or(i64::MAX),
    }
}
