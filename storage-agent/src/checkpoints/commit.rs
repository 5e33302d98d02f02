//! Commits of any size, and their retries.

use std::{future::Future, time::Duration};

use storage_core::{
    CollectionStore, Commit, Committed, Error, ErrorKind, MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS, Operation,
    Precondition, Result,
};

/// How often a step that somebody else's commit got in the way of is tried.
const TRIES: u32 = 64;

/// Commits; what is too large for one commit in several, of which each demands that nothing came between it and the one
/// before. Readers may see the first ones alone: what they must not see alone comes last.
pub(super) async fn commit_all(store: &dyn CollectionStore, commit: Commit) -> Result<Committed> {
    let steps = commit.operations.len() + commit.preconditions.len();
    let bytes: usize = commit.operations.iter().map(carried).sum();
    if steps <= MAX_COMMIT_OPERATIONS && bytes <= MAX_COMMIT_BYTES {
        return store.commit(commit).await;
    }
    let Commit { partition, preconditions, operations, expire } = commit;
    let mut preconditions = Some(preconditions);
    let mut committed = Committed { version: 0, outcomes: Vec::new() };
    let mut operations = operations.into_iter().peekable();
    while operations.peek().is_some() {
        let checks = preconditions.take().unwrap_or_else(|| vec![Precondition::Version(committed.version)]);
        let room = MAX_COMMIT_OPERATIONS.saturating_sub(checks.len()).max(1);
        let mut group = Commit::new(partition.clone()).expire(expire);
        group.preconditions = checks;
        let mut bytes = 0;
        while let Some(operation) = operations.next_if(|operation| {
            bytes += carried(operation);
            group.operations.is_empty() || (group.operations.len() < room && bytes <= MAX_COMMIT_BYTES)
        }) {
            group.operations.push(operation);
        }
        let Committed { version, outcomes } = store.commit(group).await?;
        committed.version = version;
        committed.outcomes.extend(outcomes);
    }
    Ok(committed)
}

/// What counts towards the bytes of a commit.
pub(super) fn carried(operation: &Operation) -> usize {
    match operation {
        Operation::Put { attributes, body, .. } | Operation::Append { attributes, body, .. } => {
            attributes.len() + body.len()
        }
        _ => 0,
    }
}

/// Why a try has to be repeated, or not.
pub(super) enum Failed {
    /// Something moved meanwhile: look again.
    Moved(Error),
    /// It would fail again.
    For(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Conflict { Self::Moved(error) } else { Self::For(error) }
    }
}

/// Tries until nothing moves meanwhile, a bounded number of times, with pauses that spread competitors out.
pub(super) async fn retried<T, F>(mut attempt: impl FnMut(u32) -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failed>>,
{
    let mut tries = 0;
    loop {
        match attempt(tries).await {
            Ok(value) => return Ok(value),
            Err(Failed::For(error)) => return Err(error),
            Err(Failed::Moved(error)) if tries + 1 >= TRIES => return Err(error),
            Err(Failed::Moved(_)) => {}
        }
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=200 << tries.min(8)))).await;
        tries += 1;
    }
}
