//! A SQLite file that there is becomes the first generation of a home.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use storage_core::{Error as CoreError, ErrorKind};
use tempfile::TempPath;

use crate::{
    cache::{Last, Paths, Published, State},
    error::{Error, Result},
    format::{Base, Head, Id, base_name},
    home::{Body, Home, Put, probe},
    lease::Lease,
    open::blocking,
    options::{Options, is_passing},
    plain::{self, Copied},
    proofs::Proofs,
    recover::{self, Found, Opened},
    remote::Remote,
    spawned::while_awaited,
    store::DatabaseStore,
    verify::{Verified, left_behind},
    wal::Mark,
};

/// What [`adopt`] has published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adopted {
    /// What was rebuilt from the home alone, and checked.
    pub verified: Verified,
    /// How many rows each table has, by name.
    pub rows: BTreeMap<String, u64>,
}

/// Publishes a SQLite file as the first generation of an empty home: a copy of it, as it is at one moment, with what its log
/// holds. Other programs may go on using the file, which stays as it is; what they write later is not in the home. One that
/// has no write-ahead log keeps them from writing while it is copied. The copy is checked before it is published, and
/// rebuilt from the home and checked afterwards. It is then also in [`Options::cache`].
///
/// # Errors
/// [`Error::Unsupported`] for a home that has a database already or objects of one, for a cache folder that has one, and for a
/// file that is not there, is no SQLite database, is encrypted, damaged or in UTF-16, is locked, or is itself the cache of a
/// managed database; [`Error::LeaseTaken`], [`Error::CacheInUse`], [`Error::Io`] and [`Error::Sqlite`]; [`Error::Home`], after
/// which [`exists`](crate::exists) tells whether it was published; [`Error::Corrupt`] where the home does not hold what it
/// was given.
pub async fn adopt(home: Arc<dyn Home>, options: Options, file: &Path) -> Result<Adopted> {
    options.check()?;
    let file = plain::find(file)?;
    while_awaited(async move {
        let remote = Remote::new(Arc::clone(&home), options.retry, &Paths::new(&options.cache));
        check_empty(&remote).await?;
        probe(&*home).await?;
        let taken = take(file, &options).await?;
        let rows = taken.copied.rows.clone();
        taken.publish(&remote, &options).await?;
        let store = DatabaseStore::open(home, options).await?;
        let verified = store.verify().await;
        store.close().await?;
        Ok(Adopted { verified: verified?, rows })
    })
    .await
}

/// Refuses a home that has a database, or had one.
async fn check_empty(remote: &Remote) -> Result<()> {
    let name = remote.home.name();
    if let Some((head, _)) = remote.head().await? {
        return Err(occupied(&name, &head));
    }
    if left_behind(&remote.list("").await?).is_some() {
        // It may have been made between the two reads.
        if let Some((head, _)) = remote.head().await? {
            return Err(occupied(&name, &head));
        }
        return Err(Error::Unsupported(format!(
            "the home `{name}` has lost its `head`, and holds objects of a database: `storage managed \
             repair` shows which are sound"
        )));
    }
    Ok(())
}

fn occupied(home: &str, head: &Head) -> Error {
    Error::Unsupported(format!(
        "the home `{home}` has a database already, at generation {}; `storage managed status` and `storage managed log` \
         show it",
        head.generation
    ))
}

/// A copy that is ready to be published, in a cache that is ready for it.
struct Taken {
    paths: Paths,
    lock: File,
    staged: TempPath,
    copied: Copied,
}

async fn take(file: PathBuf, options: &Options) -> Result<Taken> {
    let (paths, wait, busy) = (Paths::new(&options.cache), options.cache_wait, options.busy_timeout);
    blocking(move || {
        let lock = paths.lock(wait)?;
        paths.sweep();
        check_unused(&paths)?;
        let staged = paths.staged("adopted")?;
        let copied = plain::copy(&file, &staged, busy)?;
        Ok(Taken { paths, lock, staged, copied })
    })
    .await
}

/// Refuses a cache that has anything in it.
fn check_unused(paths: &Paths) -> Result<()> {
    let diverged = State::read(&paths.state())?.and_then(|state| state.diverged);
    match recover::examine(paths, &mut Opened::new())? {
        Found::Nothing if diverged.is_none() => Ok(()),
        Found::Sound(state, _) if state.published.generation == 0 && diverged.is_none() => Ok(()),
        Found::Torn(state) if state.incarnation.is_none() => Ok(()),
        _ => Err(Error::Unsupported(format!(
            "the cache folder `{}` holds another database; name an empty one",
            paths.folder.display()
        ))),
    }
}

impl Taken {
    /// Puts the base, and then the head that names it; the cache has the generation, too.
    async fn publish(self, remote: &Remote, options: &Options) -> Result<()> {
        let head = self.head()?;
        let length = u64::from(head.page_count) * u64::from(head.page_size);
        let (name, body) =
            (base_name(head.generation, head.commit), Body::File { path: self.staged.to_path_buf(), length });
        remote.put_new(&name, &body).await?;
        let lease = Lease::new(options.steady.clone(), Proofs::read(&self.paths, &self.lock));
        lease.ensure(&*remote.home, options, options.lease_wait).await?;
        let named = name_first(remote, &lease, &head).await;
        lease.release(&*remote.home).await;
        named?;
        let state = State::new(Some(head.incarnation), Published::of(&head, Mark::default()));
        blocking(move || {
            self.paths.clear()?;
            state.write(&self.paths, Last::Now)?;
            self.paths.put_in_place(&self.staged)
        })
        .await
    }

    fn head(&self) -> Result<Head> {
        let (commit, incarnation) = (Id::random()?, Id::random()?);
        let (page_count, checksum) = (self.copied.sums.page_count(), self.copied.sums.total());
        let base = Base { generation: 1, commit, page_count, checksum };
        Ok(Head::of_base(incarnation, self.copied.page_size, base, None))
    }
}

/// Makes the head, unless somebody else has made one. Where the answer is lost, the head that is there tells.
async fn name_first(remote: &Remote, lease: &Lease, head: &Head) -> Result<()> {
    let mut tried = 1;
    loop {
        let refused =
            || CoreError::new(ErrorKind::Unavailable, "the home refused the head: the lease was lost");
        let Some(held) = lease.held() else { return Err(Error::Home(refused())) };
        let failed = match remote.move_head(None, head, &held).await {
            Ok(Put::Done(_)) => return Ok(()),
            Ok(Put::Refused) => refused(),
            Err(error) if is_passing(error.kind()) => error,
            Err(error) => return Err(Error::Home(error)),
        };
        match remote.head().await {
            Ok(Some((found, _))) if found.commit == head.commit => return Ok(()),
            Ok(Some((found, _))) => return Err(occupied(&remote.home.name(), &found)),
            Ok(None) | Err(Error::Home(_)) => {}
            Err(error) => return Err(error),
        }
        if tried >= remote.retry.attempts {
            return Err(Error::Home(failed));
        }
        remote.retry.wait(tried).await;
        tried += 1;
    }
}
