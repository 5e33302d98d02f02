//! Opening: what is in the cache, what is in the home, and how the two become one.

use std::{fs, sync::Arc};

use crate::{
    cache::{Paths, Published, State},
    error::{Error, Result},
    format::{HEAD, Id, Sums},
    home::{Home, probe},
    local::{Local, create},
    options::Options,
    rebuild::Chain,
    recover::{self, Found},
    remote::{Known, Remote},
    shared::{Content, Shared},
    wal::Mark,
};

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)?
}

pub(crate) async fn open(home: Arc<dyn Home>, options: Options) -> Result<Arc<Shared>> {
    let (paths, wait) = (Paths::new(&options.cache), options.cache_wait);
    let (folder, discard) = (paths.clone(), options.discard_after_rescue);
    let (lock, found) = blocking(move || {
        let lock = folder.lock(wait)?;
        let found = if discard { examine_discarding(&folder)? } else { examine(&folder)? };
        Ok((lock, found))
    })
    .await?;
    let remote = Remote::new(home, options.retry);
    let mut head = remote.head().await?;
    let (state, sums, unsettled) = match found {
        Found::Nothing => fetch(&remote, &paths, &mut head, None).await?,
        Found::Torn(state) => fetch(&remote, &paths, &mut head, state.incarnation).await?,
        // An empty database, which another has overtaken.
        Found::Sound(state, _) if state.published.generation == 0 && head.is_some() => {
            fetch(&remote, &paths, &mut head, None).await?
        }
        Found::Sound(state, sums) => (state, sums, None),
        Found::Committed(state, sums, commit) => {
            if is_overtaken(&state, commit, head.as_ref()) {
                return Err(refuse(&paths, state).await);
            }
            (state, sums, Some(commit))
        }
        Found::Foreign => return Err(refuse_foreign(&paths).await),
    };
    let busy = options.busy_timeout;
    let local = blocking(move || Local::open(paths, state, sums, busy, lock)).await?;
    let content = Content { known: head, unsettled, ..Content::default() };
    let shared = Shared::new(remote, options, local, content);
    settle(&shared).await?;
    Ok(shared)
}

/// What is in the cache, unless it was refused before.
fn examine(paths: &Paths) -> Result<Found> {
    if let Some(path) = State::read(&paths.state())?.and_then(|state| state.diverged) {
        return Err(Error::Diverged { path });
    }
    recover::examine(paths)
}

/// What is in the cache; what was kept goes.
fn examine_discarding(paths: &Paths) -> Result<Found> {
    let found = match State::read(&paths.state())? {
        Some(State { diverged: Some(_), .. }) => Found::Foreign,
        _ => recover::examine(paths)?,
    };
    if !matches!(found, Found::Foreign) {
        return Ok(found);
    }
    let kept = State::read(&paths.state())?.is_some_and(|state| state.diverged.is_some());
    if !kept && fs::exists(paths.database()).unwrap_or(true) {
        recover::keep_closed(paths)?;
    }
    paths.clear()?;
    Ok(Found::Nothing)
}

/// Whether a batch that is only here cannot be published any more.
fn is_overtaken(state: &State, commit: Id, head: Option<&Known>) -> bool {
    match head {
        None => state.published.commit.is_some(),
        Some((head, _)) => {
            let ours = head.generation_of(commit).is_some();
            let next = Some(head.commit) == state.published.commit;
            !(ours || next)
        }
    }
}

/// Keeps what has diverged; the next open says so too.
async fn refuse(paths: &Paths, mut state: State) -> Error {
    let paths = paths.clone();
    let kept = blocking(move || {
        let path = recover::keep_closed(&paths)?;
        state.diverged = Some(path.clone());
        state.write(&paths)?;
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
    let folder = paths.clone();
    blocking(move || folder.clear()).await?;
    let Some(head) = head else {
        if let Some(known) = known {
            return Err(Error::Recreated { known: known.to_string(), found: None });
        }
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
        let Ok((_, sums)) = Chain::of(head).build(remote, &temporary).await? else {
            // It was folded and cleaned up since, or it is lost.
            let Some(found) = remote.head().await? else { break };
            *newest = found;
            continue;
        };
        if (sums.total(), sums.page_count()) != (head.checksum, head.page_count) {
            return Err(Error::corrupt(HEAD, "its base and segments do not give what it says"));
        }
        let published = Published {
            generation: head.generation,
            commit: Some(head.commit),
            page_size: head.page_size,
            page_count: head.page_count,
            checksum: head.checksum,
            mark: Mark::default(),
        };
        let (state, folder) = (State::new(Some(head.incarnation), published), paths.clone());
        return blocking(move || {
            state.write(&folder)?;
            folder.put_in_place(&temporary)?;
            Ok((state, sums))
        })
        .await;
    }
    Err(Error::corrupt(HEAD, "what it names is gone"))
}

/// Publishes what a crash had left, and follows the home.
async fn settle(shared: &Arc<Shared>) -> Result<()> {
    if shared.content.lock().await.unsettled.is_some() {
        return shared.write_lock().await.map(drop);
    }
    let mut content = shared.content.lock().await;
    match content.known.take() {
        Some(known) => shared.follow(&mut content, known).await?,
        None => shared.check_gone().await?,
    }
    shared.view().fresh_at = Some(std::time::Instant::now());
    Ok(())
}
