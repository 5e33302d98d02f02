//! Rebuilding from the home alone: when somebody asks for it, and now and then.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use metrics::counter;
use rusqlite::{Connection, ErrorCode};

use crate::{
    error::{Error, Result},
    format::{HEAD, HeldCopy, Hex, Id, parse_name},
    freshen::REREADS,
    history::History,
    home::{Home, Listed},
    shared::Shared,
    system::open_private,
};

/// What [`DatabaseStore::verify`](crate::DatabaseStore::verify) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The generation that was rebuilt.
    pub generation: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many objects it was rebuilt from.
    pub objects: usize,
}

/// A generation that was rebuilt, with what names it.
pub(crate) struct Rebuilt {
    pub(crate) verified: Verified,
    pub(crate) commit: Id,
    pub(crate) checksum: Hex,
}

impl Shared {
    /// Writes a generation, the newest or this one, to a new file, from the home alone, and checks it.
    pub(crate) async fn rebuild(&self, generation: Option<u64>, to: &Path) -> Result<Rebuilt> {
        let remote = &self.remote;
        let Some(mut known) = remote.head().await? else {
            return Err(Error::Unsupported("nothing was published yet".to_owned()));
        };
        for _ in 0..REREADS {
            let head = &known.0;
            let generation = generation.unwrap_or(head.generation);
            let chain = match History::chain_to(remote, head, generation).await? {
                Ok(Some(chain)) => Ok(chain),
                Ok(None) => {
                    return Err(Error::Unsupported(format!(
                        "the home does not have generation {generation}"
                    )));
                }
                Err(missing) => Err(missing),
            };
            let built = match chain {
                Ok(chain) => chain.build(remote, to).await?.map(|built| (chain, built)),
                Err(missing) => Err(missing),
            };
            let (chain, (file, sums)) = match built {
                Ok(built) => built,
                // What only the history needs may go while the head stays.
                Err(_) if generation < head.generation => continue,
                Err(missing) => {
                    known = remote.head_instead_of(&known, &missing).await?;
                    continue;
                }
            };
            if generation == head.generation {
                head.is_given_by(&sums)?;
            }
            let bytes = u64::from(sums.page_count()) * u64::from(chain.page_size);
            check_integrity(file, to.to_owned(), chain.base_name()).await?;
            let verified = Verified { generation, bytes, objects: chain.objects() };
            return Ok(Rebuilt { verified, commit: chain.commit(), checksum: sums.total() });
        }
        Err(Error::moving())
    }

    /// Rebuilds the newest generation in a folder of its own.
    pub(crate) async fn verify(&self) -> Result<Verified> {
        let folder = self.paths.checking()?;
        Ok(self.rebuild(None, &folder.path().join("database.db")).await?.verified)
    }

    /// Whether the newest generation has to be rebuilt again, as the settings have it. Where it has, the next time is counted
    /// from now, also for later processes.
    pub(crate) fn takes_check(&self) -> bool {
        let Some(every) = self.options.check_every else { return false };
        let path = self.paths.checked();
        let checked = std::fs::metadata(&path).and_then(|file| file.modified());
        let age = checked.ok().and_then(|at| self.options.clock.now().duration_since(at).ok());
        if age.is_some_and(|age| age < every) {
            return false;
        }
        // A time that lies ahead is a clock that was put back.
        let written = open_private(&path).and_then(|file| file.set_modified(self.options.clock.now()));
        written.is_ok()
    }

    /// Rebuilds the newest generation, and says loudly where that fails.
    pub(crate) async fn check_home(self: &Arc<Self>) {
        let verified = self.verify().await;
        let result = if verified.is_ok() { "sound" } else { "failed" };
        counter!("storage_managed_checks_total", "home" => self.remote.home.name(), "result" => result)
            .increment(1);
        match self.noted(verified) {
            Ok(verified) => {
                tracing::info!(generation = verified.generation, "the home was checked, and is sound");
            }
            Err(error) => tracing::error!(%error, "the home was checked, and cannot be rebuilt"),
        }
    }
}

/// An object, among those of a home without a head, that shows that there was one. A first base without anything else is of
/// somebody who did not come so far.
pub(crate) fn left_behind(objects: &[Listed]) -> Option<&Listed> {
    let leads_on = |name: &str| parse_name(name).is_some_and(|named| named.last() > 1);
    objects.iter().find(|object| leads_on(&object.name) || HeldCopy::parse(&object.name).is_some())
}

/// Whether a home in which no head was found is a new one. It is not where the head was made since. One that has lost its
/// head is refused: whoever began anew in it would remove the rest.
pub(crate) async fn is_new(home: &dyn Home) -> Result<bool> {
    let listed = home.list("").await?;
    let Some(object) = left_behind(&listed) else { return Ok(true) };
    match home.get(HEAD).await? {
        Some(_) => Ok(false),
        None => {
            Err(Error::corrupt(HEAD, format!("it is gone, and what it named is there, as `{}`", object.name)))
        }
    }
}

/// SQLite's own check of a file that nobody else has open.
pub(crate) async fn check_integrity(file: File, path: PathBuf, base: String) -> Result<()> {
    let check = move || -> rusqlite::Result<bool> {
        drop(file);
        let db = Connection::open(&path)?;
        let answer: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok(answer == "ok")
    };
    let sound = tokio::task::spawn_blocking(check).await.map_err(|_| Error::Panicked)?;
    let refused = || Error::corrupt(&base, "SQLite's integrity check failed on what was rebuilt from it");
    match sound {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused()),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Err(refused()),
            _ => Err(Error::sqlite("check the rebuilt database")(error)),
        },
    }
}
