//! The cache folder: its files, its lock, and the record of what is published.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt as _, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fs4::TryLockError;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use crate::{
    error::{Error, Result},
    format::{Hex, Id},
    wal::Mark,
};

/// Where things are in the cache folder.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) folder: PathBuf,
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

    /// Makes the folder and takes it for this store alone, waiting a while for whoever has it.
    pub(crate) fn lock(&self, wait: Duration) -> Result<File> {
        make_folder(&self.folder)?;
        let path = self.folder.join("lock");
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

    /// Gives a whole database its name. The record of it is written before: one without a database is harmless.
    pub(crate) fn put_in_place(&self, temporary: &Path) -> Result<()> {
        fs::rename(temporary, self.database()).map_err(Error::io("replace", self.database()))?;
        sync_folder(&self.folder)
    }

    /// Removes the database; nobody has it open. The record goes last: without it, what is left would be unexplained.
    pub(crate) fn clear(&self) -> Result<()> {
        if let Some(mut state) = State::read(&self.state())?.filter(|state| state.intent.is_some()) {
            state.intent = None;
            state.write(self)?;
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
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))
}

/// Opens a file for this user alone, made where it is not there.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// An empty file for this user alone.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    let file = open_private(path).and_then(|file| file.set_len(0).map(|()| file));
    file.map_err(Error::io("create", path))
}

/// Makes names in a folder last.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", path))
}

/// What is known of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// The incarnation of the home; none before anything was published or fetched.
    pub(crate) incarnation: Option<Id>,
    pub(crate) published: Published,
    /// What is about to change the database.
    pub(crate) intent: Option<Intent>,
    /// Where a database was put that has diverged.
    pub(crate) diverged: Option<PathBuf>,
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

/// A change of the database that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Intent {
    /// A batch, to be published under this id on top of what is published.
    Commit(Id),
    /// A later generation comes from the home.
    Apply { incarnation: Id, to: Published },
}

/// The record is kept twice, in two slots of its file that are written alternately: a write that is cut short leaves the
/// earlier one. One write and one sync, where replacing a file takes three.
const SLOT_BYTES: usize = 16 * 1024;
const HASH_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct Slot<S> {
    sequence: u64,
    state: S,
}

impl State {
    pub(crate) fn new(incarnation: Option<Id>, published: Published) -> Self {
        Self { format: 1, incarnation, published, intent: None, diverged: None }
    }

    /// The newest record; `None` where there is none or both are damaged.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        Ok(newest(path)?.map(|(slot, _)| slot.state).filter(|state| state.format == 1))
    }

    /// Writes the record durably, whole or not at all.
    pub(crate) fn write(&self, paths: &Paths) -> Result<()> {
        let path = paths.state();
        let (sequence, other) = match newest(&path)? {
            Some((slot, index)) => (slot.sequence + 1, 1 - index),
            None => (0, 0),
        };
        let record = serde_json::to_vec(&Slot { sequence, state: self }).unwrap_or_default();
        let mut bytes = blake3::hash(&record).as_bytes().to_vec();
        bytes.extend(record);
        bytes.resize(SLOT_BYTES, b'\n');
        let new = !path.exists();
        let file = open_private(&path).map_err(Error::io("open", &path))?;
        let written = file.write_all_at(&bytes, (other * SLOT_BYTES) as u64).and_then(|()| file.sync_data());
        written.map_err(Error::io("write", &path))?;
        if new { sync_folder(&paths.folder) } else { Ok(()) }
    }
}

/// The newest whole record, and its slot.
fn newest(path: &Path) -> Result<Option<(Slot<State>, usize)>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(Error::io("read", path))?,
    };
    let slots = bytes.chunks(SLOT_BYTES).take(2).zip(0..).filter_map(|(slot, index)| {
        let (hash, record) = slot.split_first_chunk::<HASH_BYTES>()?;
        let record = record.trim_ascii_end();
        let whole = blake3::hash(record) == *hash;
        whole.then(|| serde_json::from_slice(record).ok().map(|slot: Slot<State>| (slot, index)))?
    });
    Ok(slots.max_by_key(|(slot, _)| slot.sequence))
}
