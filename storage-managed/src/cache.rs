//! The cache folder: its files, its lock, and the record of what is published.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fs4::TryLockError;
use serde::{Deserialize, Serialize};
use tempfile::{TempDir, TempPath};

use crate::{
    error::{Error, Result},
    format::{Head, Hex, Id, Sums},
    system::{self, Positioned, open_private},
    wal::Mark,
};

/// Where things are in the cache folder.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) folder: PathBuf,
}

/// Whether a store, of this process or another, has a cache folder open. False where it cannot be told: opening it says why.
#[must_use]
pub fn is_in_use(cache: &Path) -> bool {
    let lock = File::open(Paths::new(cache).lock_file());
    lock.is_ok_and(|lock| matches!(fs4::FileExt::try_lock(&lock), Err(TryLockError::WouldBlock)))
}

impl Paths {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("database.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("database.db-wal")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.folder.join("database.db-shm")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its age is how long ago the home was checked.
    pub(crate) fn checked(&self) -> PathBuf {
        self.folder.join("checked")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.folder.join("leases")
    }

    /// Where what is on its way from the home is kept.
    pub(crate) fn parts(&self) -> PathBuf {
        self.folder.join("parts")
    }

    pub(crate) fn rescue(&self) -> PathBuf {
        self.folder.join("rescue")
    }

    /// A file that may be there from an earlier try and is worth nothing.
    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.tmp"))
    }

    /// As [`temporary`](Self::temporary), and removed in the end: what is left of it would keep a full disk full.
    pub(crate) fn staged(&self, name: &str) -> Result<TempPath> {
        let path = self.temporary(name);
        TempPath::try_from_path(&path).map_err(Error::io("name", path))
    }

    /// A folder for what is checked, removed in the end.
    pub(crate) fn checking(&self) -> Result<TempDir> {
        let made = tempfile::Builder::new().prefix("verify-").suffix(".tmp").tempdir_in(&self.folder);
        made.map_err(Error::io("create a folder in", &self.folder))
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Makes the folder and takes it for this store alone, waiting a while for whoever has it.
    pub(crate) fn lock(&self, wait: Duration) -> Result<File> {
        make_folder(&self.folder)?;
        let path = self.lock_file();
        let file = open_private(&path).map_err(Error::io("open", &path))?;
        let start = Instant::now();
        loop {
            match fs4::FileExt::try_lock(&file) {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
            if start.elapsed() >= wait {
                return Err(Error::CacheInUse { path: self.folder.clone() });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes what a process that is gone had begun to write. The lock of the folder is taken.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "tmp") {
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }

    /// Gives a whole database its name. The record of it is written before: one without a database is harmless.
    pub(crate) fn put_in_place(&self, temporary: &Path) -> Result<()> {
        fs::rename(temporary, self.database()).map_err(Error::io("replace", self.database()))?;
        sync_folder(&self.folder)
    }

    /// Removes the database; nobody has it open. The record goes last: without it, what is left would be unexplained.
    pub(crate) fn clear(&self) -> Result<()> {
        if let Some(mut state) = State::read(&self.state())? {
            // A process that is killed from here on leaves a part, which the next one removes.
            state.given_up = true;
            state.write(self, Last::Now)?;
        }
        for path in [self.database(), self.log(), self.index(), self.state()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(error));
                }
                _ => {}
            }
        }
        sync_folder(&self.folder)
    }
}

/// Makes a folder for this user alone.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    system::make_folder(path).map_err(Error::io("create", path))
}

/// An empty file for this user alone.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    let file = open_private(path).and_then(|file| file.set_len(0).map(|()| file));
    file.map_err(Error::io("create", path))
}

/// Makes names in a folder last.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    system::sync_folder(path).map_err(Error::io("sync", path))
}

/// What is known of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// Whether a batch was ever begun here: what a cache holds that only reads, the home holds as well.
    #[serde(default = "yes")]
    pub(crate) wrote: bool,
    /// The incarnation of the home; none before anything was published or fetched.
    pub(crate) incarnation: Option<Id>,
    pub(crate) published: Published,
    /// What is about to change the database.
    pub(crate) intent: Option<Intent>,
    /// Where a database was put that has diverged.
    pub(crate) diverged: Option<PathBuf>,
    /// What is here is kept elsewhere or in the home, and is being removed.
    #[serde(default)]
    pub(crate) given_up: bool,
}

/// The newest generation that is both here and in the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// 0 is the empty database before the first.
    pub(crate) generation: u64,
    pub(crate) commit: Option<Id>,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
    /// Up to where in the log it reaches.
    pub(crate) mark: Mark,
}

impl Published {
    /// What a head says, up to where in the log it reaches.
    pub(crate) fn of(head: &Head, mark: Mark) -> Self {
        Self {
            generation: head.generation,
            commit: Some(head.commit),
            page_size: head.page_size,
            page_count: head.page_count,
            checksum: head.checksum,
            mark,
        }
    }

    /// Whether pages with these sums are the generation.
    pub(crate) fn is(&self, sums: &Sums) -> bool {
        (sums.total(), sums.page_count()) == (self.checksum, self.page_count)
    }
}

/// A change of the database that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Intent {
    /// A batch, to be published under this id on top of what is published.
    Commit(Id),
    /// A later generation comes from the home.
    Apply { incarnation: Id, to: Published },
}

/// What records of the first format did not say.
fn yes() -> bool {
    true
}

/// Whether a record has to last before anything else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// It is on the disk when the call returns.
    Now,
    /// It outlives the process at once, and a power failure a while later. The record before it is not touched.
    Later,
}

/// The record is kept in slots of its file that are written in turn: a write that is cut short leaves the earlier ones. One
/// write and one sync, where replacing a file takes three. Of three slots two may be on their way to the disk at once: a
/// record that lasts later, and the next one.
const SLOTS: usize = 3;
const SLOT_BYTES: usize = 16 * 1024;
const HASH_BYTES: usize = 32;
/// The first had two slots.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Slot<S> {
    sequence: u64,
    state: S,
}

impl State {
    pub(crate) fn new(incarnation: Option<Id>, published: Published) -> Self {
        Self {
            format: FORMAT,
            wrote: false,
            incarnation,
            published,
            intent: None,
            diverged: None,
            given_up: false,
        }
    }

    /// The same, of a cache in which a batch was begun, or none.
    pub(crate) fn having_written(self, wrote: bool) -> Self {
        Self { wrote, ..self }
    }

    /// The newest record; `None` where there is none or all are damaged.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let newest = slots(path)?.into_iter().flatten().max_by_key(|slot| slot.sequence);
        let state = newest.map(|slot| slot.state).filter(|state| (1..=FORMAT).contains(&state.format));
        Ok(state.map(|state| Self { format: FORMAT, ..state }))
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, paths: &Paths, last: Last) -> Result<()> {
        let path = paths.state();
        let slots = slots(&path)?;
        let sequence = slots.iter().flatten().map(|slot| slot.sequence + 1).max().unwrap_or(0);
        // One that holds nothing, else the oldest.
        let oldest = slots.iter().enumerate().min_by_key(|(_, slot)| slot.as_ref().map(|slot| slot.sequence));
        let other = oldest.map_or(0, |(index, _)| index);
        let record = serde_json::to_vec(&Slot { sequence, state: self }).unwrap_or_default();
        let mut bytes = blake3::hash(&record).as_bytes().to_vec();
        bytes.extend(record);
        bytes.resize(SLOT_BYTES, b'\n');
        let new = !path.exists();
        let file = open_private(&path).map_err(Error::io("open", &path))?;
        let written = file.write_all_at(&bytes, (other * SLOT_BYTES) as u64);
        let lasts = written.and_then(|()| if last == Last::Now { file.sync_data() } else { Ok(()) });
        lasts.map_err(Error::io("write", &path))?;
        if new { sync_folder(&paths.folder) } else { Ok(()) }
    }
}

/// What the slots hold that are whole.
fn slots(path: &Path) -> Result<[Option<Slot<State>>; SLOTS]> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(Error::io("read", path))?,
    };
    let mut records = bytes.chunks(SLOT_BYTES);
    Ok(std::array::from_fn(|_| {
        let (hash, record) = records.next()?.split_first_chunk::<HASH_BYTES>()?;
        let record = record.trim_ascii_end();
        let whole = blake3::hash(record) == *hash;
        whole.then(|| serde_json::from_slice(record).ok())?
    }))
}
