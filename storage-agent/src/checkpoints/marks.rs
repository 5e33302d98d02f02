//! What a deletion and a copy leave in a thread's partition, and what it means for writers.

use std::{collections::HashMap, time::Duration};

use storage_core::{
    CollectionStore, Commit, Item, Operation, Partition, Precondition, Query, Result, prefix_successor,
};

use super::{
    commit::Failed,
    layout::{self, COPYING, DELETED, Deleted, Head, NAMED, Named, Place, conflict},
    pages::all,
};
use crate::shared::Shared;

/// The marks of a thread. That they stay as they were found is a precondition of what is written.
#[derive(Debug, Default)]
pub(super) struct Marks {
    deleted: Option<Item>,
    copying: Option<Item>,
    /// Whether the namespace has a checkpoint.
    begun: bool,
}

impl Marks {
    /// The sort keys of the marks.
    pub(super) const SORTS: [&str; 2] = [DELETED, COPYING];

    /// Takes the marks out of what was found, and what a copy that died has left, which is not there.
    pub(super) fn take(found: &mut HashMap<String, Item>, place: &Place) -> Self {
        let (deleted, copying) = (found.remove(DELETED), found.remove(COPYING));
        if copying.is_some() {
            found.clear();
        }
        Self { deleted, copying, begun: found.contains_key(&place.head()) }
    }

    pub(super) async fn of(store: &dyn CollectionStore, place: &Place) -> Result<Self> {
        let found = store.items(&place.partition, &[DELETED, COPYING, &place.head()]).await?;
        let mut found = found.into_iter().flatten().map(|item| (item.sort.clone(), item)).collect();
        Ok(Self::take(&mut found, place))
    }

    /// Whether the thread was deleted, and not begun anew.
    pub(super) fn is_gone(&self) -> bool {
        self.deleted.is_some() && !self.begun
    }

    /// Refuses what goes on from a checkpoint that was deleted with its thread, and the first checkpoint of a subgraph's call in
    /// a thread that was not begun anew.
    pub(super) async fn admit(
        &self,
        shared: &Shared,
        place: &Place,
        goes_on_from: Option<&str>,
    ) -> Result<(), Failed> {
        let Some(item) = &self.deleted else { return Ok(()) };
        let store = shared.collections()?;
        let deleted: Deleted = layout::decode(item)?;
        if self.lets_in(store, place, goes_on_from, &deleted).await? {
            return Ok(());
        }
        // Asked of the store at the end alone: it costs a commit.
        if item.written_at < shared.past(Duration::from_millis(deleted.millis)).await? {
            return Ok(());
        }
        let late = conflict(place, "the thread was deleted");
        Err(Failed::For(late.with_hint("begin anew with a checkpoint of the root that has no parent")))
    }

    async fn lets_in(
        &self,
        store: &dyn CollectionStore,
        place: &Place,
        goes_on_from: Option<&str>,
        deleted: &Deleted,
    ) -> Result<bool> {
        let Some(id) = goes_on_from else {
            let root = Place::by_key(&place.partition, "").head();
            let is_call = place.ns.contains(':') && !self.begun;
            return Ok(!is_call || store.items(&place.partition, &[&root]).await? != [None]);
        };
        Ok(id > deleted.id.as_str()
            || store.items(&place.partition, &[&place.checkpoint(id)]).await? != [None])
    }

    /// Adds the marks to a commit's preconditions, and to the first operations the removal of what a copy that died left.
    pub(super) fn apply(&self, first: &mut Vec<Operation>, commit: &mut Commit) {
        for (sort, mark) in Self::SORTS.into_iter().zip([&self.deleted, &self.copying]) {
            commit.preconditions.push(match mark {
                Some(item) => Precondition::ItemVersion(sort.to_owned(), item.version),
                None => Precondition::Absent(sort.to_owned()),
            });
        }
        if self.copying.is_some() {
            first.splice(0..0, all_but_epochs_and_deletion());
        }
    }
}

/// Removes what a partition holds, but what says who may write.
pub(super) fn all_but_epochs_and_deletion() -> [Operation; 3] {
    let behind = format!("{DELETED}\u{1}");
    [("", Some("e")), ("f", Some(DELETED)), (behind.as_str(), None)]
        .map(|(from, to)| Operation::DeleteRange { from: from.to_owned(), to: to.map(str::to_owned) })
}

/// What a thread's heads and marks say.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) checkpoints: u64,
    /// The greatest checkpoint id, also of before a deletion.
    pub(super) greatest: String,
    /// The thread's id, where the partition does not say it.
    pub(super) name: Option<String>,
    is_marked: bool,
}

impl State {
    pub(super) async fn of(store: &dyn CollectionStore, partition: &Partition) -> Result<Self> {
        let heads = Query::range(partition.clone(), "l-", prefix_successor("l:"), 1000);
        let mut state = Self::default();
        for item in all(store, heads).await? {
            match item.sort.as_str() {
                COPYING => state.is_marked = true,
                NAMED => state.name = Some(layout::decode::<Named>(&item)?.id),
                DELETED => {
                    state.is_marked = true;
                    state.greatest = state.greatest.max(layout::decode::<Deleted>(&item)?.id);
                }
                _ => {
                    let Head { id, count } = layout::decode(&item)?;
                    state.checkpoints += count;
                    state.greatest = state.greatest.max(id);
                }
            }
        }
        Ok(state)
    }

    /// Whether no thread is there, though a partition is.
    pub(super) fn is_gone(&self) -> bool {
        self.checkpoints == 0 && self.is_marked
    }
}
