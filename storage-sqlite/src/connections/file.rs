//! The file of a connected store: whether it is still the one at its path, and whether it may be written to.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use storage_core::{Error, ErrorKind};

use crate::{SqliteConfig, error::moved};

/// How long a read may go on from a file that was looked at: two system calls for each read would cost a quarter of it.
const READ_CHECKS: Duration = Duration::from_millis(100);

/// What the operating system knows a file by: device and inode.
type FileId = (u64, u64);

/// The file of a store, from one connect to the next disconnect. All its connections are to one and the same file.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    pub(crate) config: Arc<SqliteConfig>,
    /// Why nothing can be written, where nothing can.
    refusal: OnceLock<Error>,
    /// Opened without locks and logs: nothing may be written beside the file.
    immutable: AtomicBool,
    opened: Mutex<Option<Opened>>,
    start: Instant,
    /// When it was last seen to be in its place, in milliseconds since `start`.
    seen: AtomicU64,
}

/// What the first connection found.
#[derive(Debug, Clone)]
struct Opened {
    main: FileId,
    /// Where a symbolic link leads to: SQLite has its log beside it.
    real: PathBuf,
    log: Option<FileId>,
    /// Its log was put aside, so that it is not taken for that of the file which is there now.
    put_aside: Option<PathBuf>,
}

impl DatabaseFile {
    pub(crate) fn new(config: &Arc<SqliteConfig>) -> Arc<Self> {
        Arc::new(Self {
            config: Arc::clone(config),
            refusal: OnceLock::new(),
            immutable: AtomicBool::new(false),
            opened: Mutex::default(),
            start: Instant::now(),
            seen: AtomicU64::new(0),
        })
    }

    /// Why nothing can be written, where the file can only be read.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        self.refusal.get()
    }

    pub(crate) fn refuse_writes(&self, error: Error) {
        let _ = self.refusal.set(error);
    }

    pub(crate) fn is_immutable(&self) -> bool {
        self.immutable.load(Ordering::Relaxed)
    }

    pub(crate) fn set_immutable(&self) {
        self.immutable.store(true, Ordering::Relaxed);
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at the path now.
    pub(crate) fn identity(&self) -> Option<FileId> {
        id_of(&self.config.path)
    }

    /// Takes note of a connection, before whose opening `before` was at the path. Fails where it may be to another file
    /// than the others'. `log`: the connection has the log open, and may have made it anew.
    pub(crate) fn note(&self, before: Option<FileId>, log: bool) -> Result<(), Error> {
        let after = self.identity();
        let mut opened = self.opened();
        let main = opened.as_ref().map(|opened| opened.main).or(before);
        let Some(main) = main.filter(|main| before == Some(*main) && after == before) else {
            return Err(moved(&self.config.path, None));
        };
        if opened.is_none() || log {
            let real = real_path(&self.config.path);
            let log = id_of(&log_of(&real)).filter(|_| !self.is_immutable());
            *opened = Some(Opened { main, real, log, put_aside: None });
        }
        Ok(())
    }

    /// Fails where the file or its log is not in its place any more.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut opened = self.opened();
        let Some(opened) = &mut *opened else { return Ok(()) };
        let main = self.identity();
        if main != Some(opened.main) {
            // A link that leads elsewhere now leaves the file that it led to, and its log, as they are.
            if id_of(&opened.real).is_some_and(|now| now != opened.main) {
                opened.put_log_aside(self.config.clock.now());
            }
            return Err(moved(&self.config.path, opened.put_aside.as_deref()));
        }
        // Without WAL there is no log.
        if (opened.log.is_some() || self.is_immutable()) && opened.log != id_of(&log_of(&opened.real)) {
            return Err(self.log_has_changed(&log_of(&opened.real)));
        }
        self.seen.store(self.millis(), Ordering::Relaxed);
        Ok(())
    }

    /// The same for a read, which may rely on what was seen a moment ago.
    pub(crate) fn check_for_read(&self) -> Result<(), Error> {
        let since = self.millis().saturating_sub(self.seen.load(Ordering::Relaxed));
        if u128::from(since) < READ_CHECKS.as_millis() { Ok(()) } else { self.check() }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn log_has_changed(&self, log: &Path) -> Error {
        let log = log.display();
        let (message, hint) = if self.is_immutable() {
            (format!("`{log}` has appeared: somebody writes to the file"), "disconnect and connect again")
        } else {
            (
                format!("the log `{log}` was moved, replaced or deleted while the file was in use"),
                "bring the log back, or disconnect and connect again: what it held is then written into the file",
            )
        };
        Error::new(ErrorKind::Unavailable, message).with_hint(hint)
    }
}

impl Opened {
    /// SQLite would take the log of the file that was there for that of the one which is there now, and mix the two.
    fn put_log_aside(&mut self, now: SystemTime) {
        let log = log_of(&self.real);
        if self.put_aside.is_some() || self.log.is_none() || id_of(&log) != self.log {
            return;
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let aside = |path: &Path| with_suffix(path, &format!(".replaced-{}", since.as_millis()));
        let index = with_suffix(&self.real, "-shm");
        // First the index: without a log, whoever opens the file meanwhile would believe it.
        let renamed = fs::rename(&index, aside(&index)).and_then(|()| fs::rename(&log, aside(&log)));
        match renamed {
            Ok(()) => {
                let to = aside(&log);
                tracing::warn!(log = %to.display(), "the database file was replaced; the log of the old one was put aside");
                self.put_aside = Some(to);
            }
            Err(error) => {
                tracing::warn!(log = %log.display(), %error, "the log of a replaced database file is in the way");
            }
        }
    }
}

fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn log_of(real: &Path) -> PathBuf {
    with_suffix(real, "-wal")
}

/// Where SQLite has what belongs to the file at a path: the log, for example, with `-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    with_suffix(&real_path(path), suffix)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(unix)]
fn id_of(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Windows moves and deletes no file that SQLite has open.
#[cfg(not(unix))]
fn id_of(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|_| (0, 0))
}
