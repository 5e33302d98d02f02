//! Objects on their way from the home: gone on with where a connection broke or a caller went away.
//!
//! An object has one content for ever, so what has arrived of it is a beginning of it. It is kept in a file of the object's
//! name until it is whole; a start of the machine later it counts for nothing, since what a power failure took from the end
//! of a file cannot be seen. What has arrived is checked by whoever asked for it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use storage_core::ErrorKind;

use crate::{
    cache::create_private,
    content::Content,
    error::{Error, Result},
    home::Home,
    options::{RetryPolicy, is_passing},
    system::{boot, make_folder, open_private},
    telemetry::Telemetry,
};

/// What is not larger is kept in memory: most segments.
const IN_MEMORY: u64 = 128 * 1024;
/// How often a long download is told of in the log.
const TELL: Duration = Duration::from_secs(5);

/// A large object on its way from the home.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download {
    /// The object's name.
    pub object: String,
    /// How many of its bytes are here.
    pub received: u64,
    /// How many it has.
    pub length: u64,
}

/// Where downloads are kept, and what is under way.
#[derive(Debug)]
pub(crate) struct Downloads {
    home: Arc<dyn Home>,
    retry: RetryPolicy,
    telemetry: Arc<Telemetry>,
    folder: PathBuf,
    boot: String,
    now: Arc<Mutex<Vec<Download>>>,
    in_use: Arc<Mutex<HashSet<PathBuf>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Downloads {
    pub(crate) fn new(
        home: Arc<dyn Home>,
        retry: RetryPolicy,
        folder: PathBuf,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        // A name of a file, not a secret.
        let boot = boot().chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        Self { home, retry, telemetry, folder, boot, now: Arc::default(), in_use: Arc::default() }
    }

    /// The one that has begun first.
    pub(crate) fn now(&self) -> Option<Download> {
        lock(&self.now).first().cloned()
    }

    /// Removes what nobody goes on with.
    pub(crate) fn sweep(&self) {
        let in_use = lock(&self.in_use);
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !in_use.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{}", self.boot, name.replace('/', "-")))
    }

    /// What has arrived of an object, if anything has.
    fn begun(&self, name: &str) -> Result<Option<Part>> {
        let path = self.path(name);
        let is_there = !self.boot.is_empty() && path.is_file() && !lock(&self.in_use).contains(&path);
        if is_there { self.part(name).map(Some) } else { Ok(None) }
    }

    /// A file for what arrives of an object. Whoever fetches the same one at the same time begins anew.
    fn part(&self, name: &str) -> Result<Part> {
        make_folder(&self.folder).map_err(Error::io("create", &self.folder))?;
        let (mut path, mut in_use) = (self.path(name), lock(&self.in_use));
        if self.boot.is_empty() || in_use.contains(&path) {
            path = self.folder.join(format!("{:032x}", fastrand::u128(..)));
        }
        let mut file = open_private(&path).map_err(Error::io("open", &path))?;
        let received = file.seek(SeekFrom::End(0)).map_err(Error::io("read", &path))?;
        in_use.insert(path.clone());
        Ok(Part { file, received, _use: Use { path: path.clone(), in_use: Arc::clone(&self.in_use) }, path })
    }

    fn show(&self, name: &str) -> Shown {
        lock(&self.now).push(Download { object: name.to_owned(), received: 0, length: 0 });
        Shown { object: name.to_owned(), now: Arc::clone(&self.now), told: Instant::now() }
    }
}

/// The beginning of an object, in a file.
struct Part {
    file: File,
    path: PathBuf,
    received: u64,
    _use: Use,
}

impl Part {
    fn add(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(Error::io("write", &self.path))?;
        self.received += piece.len() as u64;
        Ok(())
    }

    /// Gives what is whole another name, and returns it once it lasts.
    fn move_to(self, path: &Path) -> Result<File> {
        let failed = |error| Error::io("write", path)(error);
        self.file.sync_all().map_err(failed)?;
        match fs::rename(&self.path, path) {
            // A file that a person asked for may be on another disk.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let (mut from, mut copied) = (&self.file, create_private(path)?);
                from.rewind().and_then(|()| io::copy(&mut from, &mut copied)).map_err(failed)?;
                fs::remove_file(&self.path).map_err(failed)?;
                copied.sync_all().map_err(failed)?;
                Ok(copied)
            }
            renamed => renamed.map(|()| self.file).map_err(failed),
        }
    }

    fn forget(&mut self) -> Result<()> {
        self.received = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(Error::io("write", &self.path))
    }
}

struct Use {
    path: PathBuf,
    in_use: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Drop for Use {
    fn drop(&mut self) {
        lock(&self.in_use).remove(&self.path);
    }
}

/// A download that the status shows, until this is dropped.
struct Shown {
    object: String,
    now: Arc<Mutex<Vec<Download>>>,
    told: Instant,
}

impl Shown {
    fn tell(&mut self, received: u64, length: u64) {
        if let Some(shown) = lock(&self.now).iter_mut().find(|download| download.object == self.object) {
            (shown.received, shown.length) = (received, length);
        }
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            tracing::info!(object = self.object, received, length, "an object is on its way from the home");
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut now = lock(&self.now);
        if let Some(index) = now.iter().position(|download| download.object == self.object) {
            now.remove(index);
        }
    }
}

/// What one request has brought.
enum Brought {
    Small(Bytes),
    Large(Part),
    Absent,
}

impl Downloads {
    /// An object's content, or `None` where there is none.
    pub(crate) async fn fetch(&self, name: &str) -> Result<Option<Content>> {
        Ok(match self.bring(name, IN_MEMORY).await? {
            Brought::Absent => None,
            Brought::Small(bytes) => Some(Content::Memory(bytes)),
            Brought::Large(part) => {
                fs::remove_file(&part.path).map_err(Error::io("remove", &part.path))?;
                Some(Content::File(part.file))
            }
        })
    }

    /// Copies an object to a file; `None` where there is none.
    pub(crate) async fn download(&self, name: &str, path: &Path) -> Result<Option<File>> {
        let part = match self.bring(name, 0).await? {
            Brought::Large(part) => part,
            Brought::Small(_) => return Err(Error::corrupt(name, "it is empty")),
            Brought::Absent => return Ok(None),
        };
        let path = path.to_path_buf();
        let moved = tokio::task::spawn_blocking(move || part.move_to(&path));
        moved.await.map_err(|_| Error::Panicked)?.map(Some)
    }

    /// Asks until all of it is here, and again for what is missing where that fails for now: as long as something comes.
    async fn bring(&self, name: &str, in_memory: u64) -> Result<Brought> {
        let (mut part, mut tried) = (self.begun(name)?, 1);
        loop {
            let before = part.as_ref().map_or(0, |part| part.received);
            let failed = match self.ask(name, in_memory, &mut part).await {
                Err(Error::Home(error)) if is_passing(error.kind()) => error,
                // There is no such range: what is here is longer than the object.
                Err(Error::Home(error)) if error.kind() == ErrorKind::Unsupported && before > 0 => {
                    part.as_mut().map_or(Ok(()), Part::forget)?;
                    continue;
                }
                done => return done,
            };
            if part.as_ref().is_some_and(|part| part.received > before) {
                tried = 1;
            } else if tried >= self.retry.attempts {
                return Err(Error::Home(failed));
            }
            tracing::debug!(%failed, name, "the home is asked for the rest");
            self.telemetry.retries.increment(1);
            self.retry.wait(tried).await;
            tried += 1;
        }
    }

    /// One request for what is missing.
    async fn ask(&self, name: &str, in_memory: u64, part: &mut Option<Part>) -> Result<Brought> {
        let received = part.as_ref().map_or(0, |part| part.received);
        // One byte that is here already: what begins behind the end of an object is an error.
        let from = received.saturating_sub(1);
        let Some((length, mut pieces)) = self.home.read(name, from).await? else {
            return Ok(Brought::Absent);
        };
        if part.is_none() && length <= in_memory {
            let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
            while let Some(piece) = pieces.try_next().await? {
                self.telemetry.count_received(piece.len());
                bytes.extend_from_slice(&piece);
            }
            return if bytes.len() as u64 == length {
                Ok(Brought::Small(bytes.freeze()))
            } else {
                Err(cut())
            };
        }
        if part.is_none() {
            *part = Some(self.part(name)?);
        }
        let (mut here, mut shown) = (received - from, self.show(name));
        while let (Some(part), Some(piece)) = (part.as_mut(), pieces.try_next().await?) {
            self.telemetry.count_received(piece.len());
            let skipped = usize::try_from(here).unwrap_or(usize::MAX).min(piece.len());
            here -= skipped as u64;
            part.add(piece.get(skipped..).unwrap_or_default())?;
            shown.tell(part.received, length);
        }
        match part.take() {
            Some(whole) if whole.received == length => Ok(Brought::Large(whole)),
            Some(mut longer) if longer.received > length => {
                longer.forget()?;
                Err(cut())
            }
            shorter => {
                *part = shorter;
                Err(cut())
            }
        }
    }
}

/// What ends before its end is asked for again.
fn cut() -> Error {
    Error::Home(storage_core::Error::new(ErrorKind::Unavailable, "the answer ended before the object did"))
}
