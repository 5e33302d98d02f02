//! Generations that are kept until somebody removes them, whatever the retention: each a copy of its own, so that neither
//! what is removed nor what is damaged elsewhere concerns it.

use std::{path::Path, sync::Arc, time::SystemTime};

use storage_core::Clock;

use crate::{
    cache::Paths,
    error::{Error, Result},
    format::{HOLD, HeldCopy},
    home::{Body, Home},
    local::sums_of,
    open::blocking,
    options::Options,
    remote::Remote,
    shared::Shared,
    spawned::while_awaited,
    target::write_new,
    verify::{Verified, check_integrity},
};

/// How long the name of a hold may be, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A generation that is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The generation.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: String,
    /// When it was made: now by this machine's clock, less its age by the home's; `None` where the home cannot tell.
    pub made: Option<SystemTime>,
    /// The length in bytes of what is kept.
    pub bytes: u64,
}

/// What [`DatabaseStore::verify_holds`](crate::DatabaseStore::verify_holds) found of one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifiedHold {
    /// The hold.
    pub hold: Hold,
    /// What it gives, or why it cannot be read: [`Error::Corrupt`] where it is damaged, [`Error::Settings`] and [`Error::Home`] where a
    /// key is missing, which is named.
    pub found: Result<Verified>,
}

/// What is kept under names in a home, the earliest generation first. Asks the home alone, whose head may be damaged or gone; opens
/// no cache, and reads no content.
///
/// # Errors
/// [`Error::Home`].
pub async fn holds(home: Arc<dyn Home>, options: Options) -> Result<Vec<Hold>> {
    while_awaited(async move {
        let remote = Remote::new(home, options.retry, &Paths::new(&options.cache));
        remote.holds(&*options.clock).await
    })
    .await
}

/// Writes what is kept under a name to a new file, and checks it, as
/// [`DatabaseStore::restore_hold`](crate::DatabaseStore::restore_hold) does. Asks the home alone, whose head may be damaged or gone, and
/// opens no cache: what arrives lies beside the file until it is whole.
///
/// # Errors
/// [`Error::Unsupported`] where there is none of this name, or more than one, and for a file that is there, as
/// [`check_new_file`](crate::check_new_file) has it; [`Error::Corrupt`]; [`Error::Home`]; [`Error::Io`].
pub async fn restore_hold(
    home: Arc<dyn Home>,
    options: Options,
    name: &str,
    generation: Option<u64>,
    to: &Path,
) -> Result<Verified> {
    let (name, path) = (name.to_owned(), to.to_owned());
    let write = async move {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parts = tempfile::tempdir_in(folder).map_err(Error::io("create a folder in", folder))?;
        let remote = Remote::new(home, options.retry, &Paths::new(parts.path()));
        remote.rebuild_hold(&name, generation, &path, &*options.clock).await
    };
    write_new(to, write).await
}

impl Remote {
    /// The holds, with what their objects are called; the earliest generation first.
    async fn find_holds(&self, clock: &dyn Clock) -> Result<Vec<(Hold, HeldCopy)>> {
        let now = clock.now();
        let listed = self.list(HOLD).await?;
        let mut found: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let copy = HeldCopy::parse(&object.name)?;
                let hold = Hold {
                    name: copy.label.clone(),
                    generation: copy.generation,
                    commit: copy.commit.to_string(),
                    made: object.age.and_then(|age| now.checked_sub(age)),
                    bytes: object.length,
                };
                Some((hold, copy))
            })
            .collect();
        found.sort_by(|(_, one), (_, other)| {
            (one.generation, &one.label).cmp(&(other.generation, &other.label))
        });
        Ok(found)
    }

    pub(crate) async fn holds(&self, clock: &dyn Clock) -> Result<Vec<Hold>> {
        Ok(self.find_holds(clock).await?.into_iter().map(|(hold, _)| hold).collect())
    }

    /// The hold of a name. Two may have one, where both were made at once: then it takes the generation, too.
    async fn find_hold(
        &self,
        clock: &dyn Clock,
        name: &str,
        generation: Option<u64>,
    ) -> Result<(Hold, HeldCopy)> {
        let mut found = self.find_holds(clock).await?;
        found.retain(|(hold, _)| hold.name == name && generation.is_none_or(|of| of == hold.generation));
        if found.len() > 1 {
            let generations: Vec<String> =
                found.iter().map(|(hold, _)| hold.generation.to_string()).collect();
            return Err(Error::Unsupported(format!(
                "`{name}` keeps several generations: say which of {}",
                generations.join(", ")
            )));
        }
        found.pop().ok_or_else(|| Error::Unsupported(format!("the home has no such hold as `{name}`")))
    }

    /// Writes what is kept under a name to a new file, and checks it.
    pub(crate) async fn rebuild_hold(
        &self,
        name: &str,
        generation: Option<u64>,
        to: &Path,
        clock: &dyn Clock,
    ) -> Result<Verified> {
        let (_, copy) = self.find_hold(clock, name, generation).await?;
        self.rebuild_copy(&copy, to).await
    }

    async fn rebuild_copy(&self, copy: &HeldCopy, to: &Path) -> Result<Verified> {
        let object = copy.name();
        let Some(file) = self.downloads.download(&object, to).await? else {
            return Err(Error::Unsupported(format!("the hold `{}` was removed meanwhile", copy.label)));
        };
        let page_size = self.page_size(&object).await?;
        let path = to.to_owned();
        let read =
            move || sums_of(&file, page_size).map(|sums| (file, sums)).map_err(Error::io("read", path));
        let (file, sums) = blocking(read).await?;
        let bytes = u64::from(sums.page_count()) * u64::from(page_size);
        let length = file.metadata().map_err(Error::io("read", to))?.len();
        if sums.total() != copy.checksum || length != bytes {
            return Err(Error::corrupt(&object, "its pages are not what was kept"));
        }
        check_integrity(file, to.to_owned(), object).await?;
        Ok(Verified { generation: copy.generation, bytes, objects: 1 })
    }
}

impl Shared {
    pub(crate) async fn holds(&self) -> Result<Vec<Hold>> {
        self.remote.holds(&*self.options.clock).await
    }

    /// Keeps a generation, the newest or this one, under a name.
    pub(crate) async fn hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        check_name(name)?;
        if let Some(found) = self.holds().await?.into_iter().find(|hold| hold.name == name) {
            return Err(Error::Unsupported(format!(
                "`{name}` keeps generation {} already: remove it first, or choose another name",
                found.generation
            )));
        }
        let staged = self.paths.staged("hold")?;
        let rebuilt = self.rebuild(generation, &staged).await?;
        let copy = HeldCopy {
            generation: rebuilt.verified.generation,
            commit: rebuilt.commit,
            checksum: rebuilt.checksum,
            label: name.to_owned(),
        };
        let body = Body::File { path: staged.to_path_buf(), length: rebuilt.verified.bytes };
        self.remote.put_new(&copy.name(), &body).await?;
        Ok(self.remote.find_hold(&*self.options.clock, name, Some(copy.generation)).await?.0)
    }

    /// Reads each hold, and checks it, in a folder of its own.
    pub(crate) async fn verify_holds(&self) -> Result<Vec<VerifiedHold>> {
        let folder = self.paths.checking()?;
        let path = folder.path().join("hold.db");
        let mut verified = Vec::new();
        for (hold, copy) in self.remote.find_holds(&*self.options.clock).await? {
            let found = self.remote.rebuild_copy(&copy, &path).await;
            // It takes room that the next one needs.
            let _ = std::fs::remove_file(&path);
            verified.push(VerifiedHold { hold, found });
        }
        Ok(verified)
    }

    /// Removes what is kept under a name.
    pub(crate) async fn remove_hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        let (hold, copy) = self.remote.find_hold(&*self.options.clock, name, generation).await?;
        let object = copy.name();
        self.remote.run(|| self.remote.home.delete(&object)).await?;
        Ok(hold)
    }
}

/// A name becomes a part of an object's.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "`{}` cannot be the name of a hold: 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` and `-`",
        name.escape_debug()
    )))
}
