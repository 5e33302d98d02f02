//! Opening: what is in the cache, what is in the home, and how the two become one.

use std::{fs, sync::Arc, time::Duration};

use storage_core::engine::spawn_thread;

use crate::{
    cache::{Last, Paths, Published, State},
    error::{Error, Result},
    format::{Id, Sums},
    home::{Home, probe},
    local::{Local, create},
    options::Options,
    proofs::Proofs,
    rebuild::Chain,
    reconcile::{self, Verdict},
    recover::{self, Found, Opened},
    remote::{Known, Remote},
    shared::{Content, Shared},
    verify::is_new,
    wal::Mark,
};

/// How often the lease is asked for, to publish what an earlier process had left; less and less often where it is the home
/// that fails.
const ASK_AGAIN: Duration = Duration::from_millis(500);
const ASK_AT_LAST: Duration = Duration::from_secs(30);

/// Runs what blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)?
}

pub(crate) async fn open(home: Arc<dyn Home>, options: Options) -> Result<Arc<Shared>> {
    let (paths, wait) = (Paths::new(&options.cache), options.cache_wait);
    let (folder, discard) = (paths.clone(), options.discard_after_rescue);
    let busy = options.busy_timeout;
    let (lock, proofs, opened, attending, found) = blocking(move || {
        let lock = folder.lock(wait)?;
        folder.sweep();
        let proofs = Proofs::read(&folder, &lock);
        let mut opened = Opened::new();
        let attending = recover::attend(&folder, &mut opened, busy);
        let found = examine(&folder, discard, &mut opened)?;
        Ok((lock, proofs, opened, attending, found))
    })
    .await?;
    let remote = Remote::new(home, options.retry, &paths);
    let mut head = remote.head().await?;
    let (state, sums, unsettled) = match found {
        Found::Nothing => fetch(&remote, &paths, &mut head, None).await?,
        Found::Torn(state) => fetch(&remote, &paths, &mut head, state.incarnation).await?,
        // An empty database, which another has overtaken.
        Found::Sound(state, _) if state.published.generation == 0 && head.is_some() => {
            fetch(&remote, &paths, &mut head, None).await?
        }
        Found::Sound(state, sums) => (state, sums, None),
        Found::Committed(state, sums, commit, here) => {
            let found = head.as_ref().map(|(head, _)| head);
            let verdict = reconcile::committed(&remote, found, (state, sums), commit, here).await?;
            follow(&remote, &paths, &mut head, verdict, discard).await?
        }
        Found::Other(state, here) => {
            let found = head.as_ref().map(|(head, _)| head);
            let verdict = reconcile::other(&remote, found, state, here).await?;
            follow(&remote, &paths, &mut head, verdict, discard).await?
        }
    };
    let local = blocking(move || Local::open(paths, state, sums, busy, (lock, opened))).await?;
    drop(attending);
    let content = Content { known: head, unsettled, inherited: unsettled, ..Content::default() };
    let shared = Shared::new(remote, options, local, content, proofs);
    settle(&shared).await?;
    // What was begun for a state that is the past now.
    shared.remote.downloads.sweep();
    Ok(shared)
}

/// What is in the cache, unless it was refused before; with `discard`, what was refused and kept goes.
fn examine(paths: &Paths, discard: bool, opened: &mut Opened) -> Result<Found> {
    match State::read(&paths.state())?.and_then(|state| state.diverged) {
        Some(_) if discard => paths.clear().map(|()| Found::Nothing),
        Some(path) => Err(Error::Diverged { path }),
        None => recover::examine(paths, opened),
    }
}

/// Does with a cache what its comparison with the home says.
async fn follow(
    remote: &Remote,
    paths: &Paths,
    head: &mut Option<Known>,
    verdict: Verdict,
    discard: bool,
) -> Result<(State, Sums, Option<Id>)> {
    match verdict {
        Verdict::Sound(state, sums) => Ok((state, sums, None)),
        Verdict::Unsettled(state, sums, commit) => Ok((state, sums, Some(commit))),
        Verdict::Anew(incarnation) => {
            check_incarnation(head.as_ref(), incarnation)?;
            keep(paths).await?;
            fetch(remote, paths, head, incarnation).await
        }
        Verdict::Diverged(_) if discard => {
            keep(paths).await?;
            fetch(remote, paths, head, None).await
        }
        Verdict::Diverged(Some(state)) => Err(refuse(paths, state).await),
        Verdict::Diverged(None) => Err(refuse_foreign(paths).await),
    }
}

/// Keeps a copy of a cache that is about to be fetched anew, unless there is nothing to keep.
async fn keep(paths: &Paths) -> Result<()> {
    let folder = paths.clone();
    let kept = blocking(move || match fs::exists(folder.database()).unwrap_or(true) {
        true => recover::keep_closed(&folder).map(Some),
        false => Ok(None),
    });
    if let Some(path) = kept.await? {
        tracing::warn!(path = %path.display(), "what is in the cache is not in the home; it is kept and fetched anew");
    }
    Ok(())
}

/// Refuses a home that is not the one that a cache is of.
fn check_incarnation(head: Option<&Known>, incarnation: Option<Id>) -> Result<()> {
    let found = head.map(|(head, _)| head.incarnation);
    match incarnation {
        Some(known) if found != Some(known) => {
            Err(Error::Recreated { known: known.to_string(), found: found.map(|found| found.to_string()) })
        }
        _ => Ok(()),
    }
}

/// Keeps what has diverged; the next open says so too.
async fn refuse(paths: &Paths, mut state: State) -> Error {
    let paths = paths.clone();
    let kept = blocking(move || {
        let path = recover::keep_closed(&paths)?;
        state.diverged = Some(path.clone());
        state.write(&paths, Last::Now)?;
        Ok(path)
    });
    kept.await.map_or_else(|error| error, |path| Error::Diverged { path })
}

async fn refuse_foreign(paths: &Paths) -> Error {
    let nothing = Published {
        generation: 0,
        commit: None,
        page_size: 0,
        page_count: 0,
        checksum: Id::default(),
        mark: Mark::default(),
    };
    let folder = paths.clone();
    let state = match blocking(move || State::read(&folder.state())).await {
        Ok(state) => state.unwrap_or_else(|| State::new(None, nothing)),
        Err(error) => return error,
    };
    refuse(paths, state).await
}

/// A cache from the home alone, or an empty one where the home is empty. Where the head has moved on meanwhile, `head` is
/// the one that was fetched.
async fn fetch(
    remote: &Remote,
    paths: &Paths,
    head: &mut Option<Known>,
    known: Option<Id>,
) -> Result<(State, Sums, Option<Id>)> {
    // Before anything goes that is here.
    check_incarnation(head.as_ref(), known)?;
    let folder = paths.clone();
    blocking(move || folder.clear()).await?;
    if head.is_none() && !is_new(&*remote.home).await? {
        *head = remote.head().await?;
    }
    let Some(head) = head else {
        probe(&*remote.home).await?;
        let folder = paths.clone();
        return blocking(move || {
            let (state, sums) = create(&folder)?;
            Ok((state, sums, None))
        })
        .await;
    };
    let (state, sums) = download(remote, paths, head, known).await?;
    Ok((state, sums, None))
}

/// Builds the database beside and gives it its name once it is whole.
async fn download(
    remote: &Remote,
    paths: &Paths,
    newest: &mut Known,
    incarnation: Option<Id>,
) -> Result<(State, Sums)> {
    let temporary = paths.staged("database")?;
    for _ in 0..5 {
        let head = &newest.0;
        if let Some(known) = incarnation.filter(|known| *known != head.incarnation) {
            let found = Some(head.incarnation.to_string());
            return Err(Error::Recreated { known: known.to_string(), found });
        }
        let (_, _, sums) = match Chain::build_newest(remote, head, &temporary).await? {
            Ok(built) => built,
            Err(missing) => {
                *newest = remote.head_instead_of(newest, &missing).await?;
                continue;
            }
        };
        let published = Published::of(head, Mark::default());
        let (state, folder) = (State::new(Some(head.incarnation), published), paths.clone());
        return blocking(move || {
            state.write(&folder, Last::Now)?;
            folder.put_in_place(&temporary)?;
            Ok((state, sums))
        })
        .await;
    }
    Err(Error::moving())
}

/// Publishes what a crash had left, and follows the home.
async fn settle(shared: &Arc<Shared>) -> Result<()> {
    if shared.content.lock().await.unsettled.is_some() {
        return match shared.write_lock_within(Duration::ZERO).await {
            // Whoever only reads does not wait for somebody else's lease, nor fail where the home takes no writes now. The next
            // write publishes it first.
            Err(error) if error.can_wait() => {
                shared.set_dirty(true);
                publish_later(shared);
                Ok(())
            }
            settled => settled.map(drop),
        };
    }
    let mut content = shared.content.lock().await;
    match content.known.take() {
        Some(known) => shared.follow(&mut content, known).await?,
        None => shared.check_gone().await?,
    }
    shared.view().fresh_at = Some(shared.now());
    Ok(())
}

/// Publishes what a crash had left as soon as the lease can be had. Asks now and then instead of waiting for it: nobody who
/// closes or writes meanwhile waits for this.
fn publish_later(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    spawn_thread("storage-managed-publish", async move {
        let mut pause = ASK_AGAIN;
        loop {
            tokio::time::sleep(pause).await;
            let Some(shared) = shared.upgrade() else { return };
            match shared.write_lock_within(Duration::ZERO).await {
                Err(Error::LeaseTaken { .. }) => {}
                Err(error) if error.can_wait() => pause = (pause * 2).min(ASK_AT_LAST),
                Err(Error::Closed) => return,
                settled => {
                    if let Err(error) = shared.noted(settled.map(drop)) {
                        tracing::warn!(%error, "what an earlier process had left is not published; the next write tries again");
                    }
                    return;
                }
            }
        }
    });
}
