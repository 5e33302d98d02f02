//! Commits of any size, and their retries.

use std::future::Future;

use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, MAX_COMMIT_BYTES, Operation, PartitionInfo, Precondition,
    Result, engine::back_off,
};

/// How often a step that somebody else's commit got in the way of is tried.
const TRIES: u32 = 64;

/// Commits the pieces of payloads and what refers to them: in one commit, or where they are too large for one, first the
/// pieces, which nobody sees by themselves, and then all the rest at once. Each commit demands that nothing came between
/// it and the one before. None has more than `most` operations and preconditions, but for the last.
pub(super) async fn commit_all(
    store: &dyn CollectionStore,
    pieces: Vec<Operation>,
    mut commit: Commit,
    most: usize,
) -> Result<()> {
    let steps = pieces.len() + commit.operations.len() + commit.preconditions.len();
    let bytes: usize = pieces.iter().chain(&commit.operations).map(carried).sum();
    if steps <= most && bytes <= MAX_COMMIT_BYTES {
        commit.operations.splice(0..0, pieces);
        return store.commit(commit).await.map(drop);
    }
    // What would be refused at the end is refused before anything is written.
    commit.check(usize::MAX)?;
    for group in groups(pieces, most) {
        let mut before = Commit::new(commit.partition.clone()).expire(commit.expire);
        before.operations = group;
        before.preconditions = std::mem::take(&mut commit.preconditions);
        let version = store.commit(before).await?.version;
        commit.preconditions = vec![Precondition::Version(version)];
    }
    store.commit(commit).await.map(drop)
}

/// Operations in groups of which each fits one commit of `most` operations, with room for preconditions.
pub(super) fn groups(operations: Vec<Operation>, most: usize) -> Vec<Vec<Operation>> {
    let mut groups = Vec::new();
    let (mut group, mut bytes) = (Vec::new(), 0);
    for operation in operations {
        let more = carried(&operation);
        if group.len() >= most / 2 || (bytes + more > MAX_COMMIT_BYTES / 2 && bytes > 0) {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += more;
        group.push(operation);
    }
    groups.push(group);
    groups
}

/// What counts towards the bytes of a commit.
fn carried(operation: &Operation) -> usize {
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
        back_off(tries).await;
        tries += 1;
    }
}

/// The failure of a look at a partition: what is missing because of a commit in between is no damage.
pub(super) async fn unless_moved(
    store: &dyn CollectionStore,
    before: &PartitionInfo,
    error: Error,
) -> Result<Failed, Failed> {
    let now = store.partition(&before.partition).await?;
    if now.is_some_and(|now| now.version == before.version) {
        return Ok(Failed::For(error));
    }
    let message = "the thread is written to all the time";
    Ok(Failed::Moved(Error::new(ErrorKind::Conflict, message).with_key(before.partition.as_str())))
}
