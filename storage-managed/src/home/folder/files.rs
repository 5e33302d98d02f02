//! The files of a folder. Everything here blocks.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use storage_core::{Clock, Error, ErrorKind, Result, SystemClock};
use tempfile::NamedTempFile;

use super::{error::failed, lock::Lock, root::Root};
use crate::{
    home::{Holder, Listed},
    system::{self, Positioned, sync_folder},
};

/// Files that are being written. Names of objects have no leading dot.
const DRAFTS: &str = ".tmp";
/// Locked while an object is compared and replaced.
const WRITE_LOCK: &str = ".write-lock";
/// Locked by the holder of the lease.
const LEASE_LOCK: &str = ".lease";
/// Less is soon used up by a batch and its head.
const ROOM_BYTES: usize = 64 * 1024;
/// A draft of this age belongs to a process that has ended.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A whole file that nobody sees yet, removed unless it is put in place.
pub(super) type Draft = NamedTempFile;

/// A folder with objects.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: Root,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root: Root::new(root) }
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Refuses another folder than the one that was seen before.
    pub(super) fn check(&self) -> Result<()> {
        self.root.check()
    }

    /// The content of `name`, one content even while it is replaced.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((mut file, length)) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        Ok(Some(bytes))
    }

    /// A part of `name`, and the length of the whole.
    pub(super) fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Vec<u8>)>> {
        let Some((file, whole)) = self.open(name)? else { return Ok(None) };
        let length = usize::try_from(length.min(whole.saturating_sub(from))).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, from).map_err(|error| failed(&error))?;
        Ok(Some((whole, bytes)))
    }

    /// The file of `name` and its length.
    pub(super) fn open(&self, name: &str) -> Result<Option<(File, u64)>> {
        let opened = File::open(self.at(name)).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) => {
                self.root.see();
                Ok(Some((file, length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check().map(|()| None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// An empty draft, and a handle to fill it through.
    pub(super) fn draft(&self) -> Result<(Draft, File)> {
        let drafts = self.at(DRAFTS);
        self.make(&drafts)?;
        let made = || {
            let draft = tempfile::Builder::new().prefix("").tempfile_in(drafts)?;
            let file = draft.as_file().try_clone()?;
            Ok((draft, file))
        };
        made().map_err(|error| failed(&error))
    }

    /// Writes `name` unless it is there. `false`: it is.
    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let draft = self.filled(bytes)?;
        self.put(name, draft)
    }

    /// Writes `name` if its content `is_expected`. `false`: it is not, or there is none.
    pub(super) fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        is_expected: impl Fn(&[u8]) -> bool,
        deadline: Instant,
    ) -> Result<bool> {
        let draft = self.filled(bytes)?;
        let lock = Lock::take(&self.at(WRITE_LOCK), deadline).map_err(|error| failed(&error))?;
        let Some(_lock) = lock else {
            let message = "another process holds the folder's write lock";
            return Err(Error::new(ErrorKind::Timeout, message));
        };
        if !self.read(name)?.is_some_and(|found| is_expected(&found)) {
            return Ok(false);
        }
        self.move_in(draft, &self.at(name)).map(|()| true)
    }

    /// Puts a filled draft in place unless something is there. `false`: it is.
    pub(super) fn put(&self, name: &str, draft: Draft) -> Result<bool> {
        draft.as_file().sync_all().map_err(|error| failed(&error))?;
        let path = self.place_for(name)?;
        let put = match draft.persist_noclobber(&path) {
            Ok(_) => true,
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(refused) => return Err(failed(&refused.error)),
        };
        // Whoever has put it may have died before its name was durable.
        self.settle(&path).map(|()| put)
    }

    /// Removes `name`, if it is there.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let path = self.at(name);
        match fs::remove_file(&path) {
            Ok(()) => self.settle(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check(),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The objects whose names start with `prefix`, in their order.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        // Nothing is made in a folder without a home, to learn its clock: the home's disk may not be mounted on it.
        if entries(self.root()).map_err(|error| failed(&error))?.is_empty() {
            return self.check().map(|()| listed);
        }
        let now = self.now();
        let mut folders =
            vec![prefix.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))];
        while let Some(folder) = folders.pop() {
            for (name, metadata) in entries(&self.at(&folder)).map_err(|error| failed(&error))? {
                let name = format!("{folder}{name}");
                if metadata.is_dir() {
                    folders.push(format!("{name}/"));
                } else if name.starts_with(prefix) {
                    listed.push(Listed { name, length: metadata.len(), age: age(&metadata, now) });
                }
            }
        }
        self.check()?;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The lease's lock, or `None` while somebody else has it. Notes `owner` in the file.
    pub(super) fn take_lease(&self, owner: &str) -> Result<Option<Lock>> {
        self.make(self.root())?;
        let taken = Lock::try_take(&self.at(LEASE_LOCK)).map_err(|error| failed(&error))?;
        if let Some(lock) = &taken {
            // For people alone: a full disk must not keep anybody from taking the lock.
            let _ = lock.file().set_len(0).and_then(|()| lock.file().write_all(owner.as_bytes()));
            self.remove_abandoned_drafts();
        }
        Ok(taken)
    }

    /// Who holds the lease's lock: its file says since when.
    pub(super) fn lease_holder(&self) -> Result<Option<Holder>> {
        let path = self.at(LEASE_LOCK);
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check().map(|()| None),
            found => found.map_err(|error| failed(&error))?,
        };
        if !Lock::is_taken(&path).map_err(|error| failed(&error))? {
            return Ok(None);
        }
        let owner = fs::read(&path).map_err(|error| failed(&error))?;
        let owner = String::from_utf8_lossy(&owner).into_owned();
        Ok(Some(Holder {
            owner: Some(owner).filter(|owner| !owner.is_empty()),
            age: age(&found, self.now()),
        }))
    }

    /// Makes the lease's lock one on a file that nobody else can find.
    pub(super) fn remove_lease(&self) -> Result<()> {
        match fs::remove_file(self.at(LEASE_LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check(),
            removed => removed.map_err(|error| failed(&error)),
        }
    }

    /// Whether a draft finds room, which is removed at once.
    pub(super) fn check_room(&self) -> Result<()> {
        self.filled(&[1; ROOM_BYTES]).map(drop)
    }

    fn remove_abandoned_drafts(&self) {
        let (drafts, now) = (self.at(DRAFTS), self.now());
        for (name, metadata) in entries(&drafts).unwrap_or_default() {
            if age(&metadata, now).is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(drafts.join(name));
            }
        }
    }

    fn filled(&self, bytes: &[u8]) -> Result<Draft> {
        let (draft, mut file) = self.draft()?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| failed(&error))?;
        Ok(draft)
    }

    fn place_for(&self, name: &str) -> Result<PathBuf> {
        let path = self.at(name);
        self.make(path.parent().unwrap_or(self.root()))?;
        Ok(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Makes a folder of the home, and the home's own where that was never seen.
    fn make(&self, folder: &Path) -> Result<()> {
        self.check()?;
        make_folder(folder).map_err(|error| failed(&error))
    }

    fn move_in(&self, draft: Draft, path: &Path) -> Result<()> {
        draft.persist(path).map_err(|refused| failed(&refused.error))?;
        self.settle(path)
    }

    /// Makes the change of a name durable: in its folder, and the folders above it, which may be new.
    fn settle(&self, path: &Path) -> Result<()> {
        let unknown = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::OutcomeUnknown, format!("the change may not be durable: {error}"))
        };
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(self.root())) {
            sync_folder(folder).map_err(|error| unknown(&error))?;
        }
        self.root.see();
        // The folder may have gone between its last check and the change.
        self.check().map_err(|error| unknown(&error))
    }

    /// The time now by the folder's own clock, which on a shared folder is not the machine's. Who may not write there has the
    /// machine's alone.
    fn now(&self) -> Option<SystemTime> {
        let Ok((draft, mut file)) = self.draft() else { return Some(SystemClock.now()) };
        file.write_all(b"now").ok()?;
        draft.as_file().metadata().ok()?.modified().ok()
    }
}

/// What a folder holds, but for what is the home's own; nothing where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<(String, fs::Metadata)>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        match entry.metadata() {
            Ok(metadata) if !name.is_empty() && !name.starts_with('.') => entries.push((name, metadata)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(entries)
}

fn age(metadata: &fs::Metadata, now: Option<SystemTime>) -> Option<Duration> {
    Some(now?.duration_since(metadata.modified().ok()?).unwrap_or_default())
}

/// Makes `folder` and those above it that are missing, durably.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    system::make_folder(folder)?;
    missing.iter().filter_map(|made| made.parent()).try_for_each(sync_folder)
}
