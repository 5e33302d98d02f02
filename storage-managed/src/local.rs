//! The database in the cache: what was committed here and not published yet, and what comes from the home.
//!
//! Files that SQLite has open are opened once here and kept open as long as there are connections: closing any
//! descriptor of them would drop the locks that SQLite holds in this process.

mod apply;
mod checkpoint;
mod guard;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
};
use tokio::sync::Mutex;

use crate::{
    cache::{Intent, Last, Paths, Published, State, create_private},
    error::{Error, Result},
    format::{Id, SEGMENT_FORMAT, SegmentHeader, Sums, page_sum, write_paged},
    home::Body,
    system::{Positioned, Steps, open_private},
    wal::{self, Committed, Index, Mark},
};

pub(crate) const DEFAULT_PAGE_SIZE: u32 = 4096;
/// Pages that travel are put together in memory up to so much. Whoever reads one page of those has to read all.
const IN_MEMORY: u64 = 256 * 1024;

/// The open database of the cache.
#[derive(Debug)]
pub(crate) struct Local {
    // Closed before the files are.
    pub(crate) db: Connection,
    /// Whether a batch runs on it, which must not end its transaction.
    pub(crate) in_batch: Arc<AtomicBool>,
    /// Reads nothing: its snapshot keeps others from writing back a batch that is not published.
    guard: Connection,
    pub(crate) files: Arc<Files>,
    pub(crate) paths: Paths,
    pub(crate) state: State,
    sums: Sums,
    /// SQLite's count of transactions at what `sums` are of; `None` where it could not be read.
    changes: Option<u32>,
    busy: Duration,
    checkpoints: Checkpoints,
    /// Closing these would drop SQLite's locks.
    _kept: Vec<Arc<File>>,
    _lock: File,
}

/// When to try a checkpoint again, since somebody else's snapshot was in the way: once there are so many frames.
#[derive(Debug, Default)]
struct Checkpoints {
    /// Taken while pages are moved beside the batches.
    moving: Arc<Mutex<()>>,
    move_from: u64,
    end_from: u64,
}

/// The database's files, for reading and appending beside SQLite.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) database: File,
    pub(crate) log: File,
    index: File,
}

/// What was committed here behind what is published.
#[derive(Debug)]
pub(crate) struct Change {
    committed: Committed,
    sums: BTreeMap<u32, u128>,
    page_count: u32,
    changes: u32,
    pub(crate) after: Sums,
}

/// Where the pages of a later generation come from.
#[derive(Debug)]
pub(crate) enum Pages {
    Memory(BTreeMap<u32, Vec<u8>>),
    /// At these places in a file.
    Scattered(File, BTreeMap<u32, u64>),
    /// A whole database.
    File(File),
}

/// A snapshot of which the log was not read yet: that takes the longer, the more it holds, and is nobody's to wait for.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// So much of the log is in the snapshot.
    frames: u64,
    files: Arc<Files>,
    sums: Sums,
    page_size: u32,
    _pinned: Connection,
}

impl Pinned {
    pub(crate) fn open(self) -> Result<Snapshot> {
        let log = wal::committed(&self.files.log, &Mark::default(), Some(self.frames));
        let committed = log.map_err(Error::io("read", "database.db-wal"))?.unwrap_or_default();
        let Self { files, sums, page_size, _pinned, .. } = self;
        Ok(Snapshot { committed, files, sums, page_size, _pinned })
    }
}

/// The pages of one state of the database. SQLite writes over none of them while it is there: an open read transaction keeps
/// later frames out of the main file, and the log from beginning anew.
#[derive(Debug)]
pub(crate) struct Snapshot {
    committed: Committed,
    files: Arc<Files>,
    sums: Sums,
    page_size: u32,
    _pinned: Connection,
}

impl Snapshot {
    /// Reads one page, and checks that it is what the sums say.
    pub(crate) fn read(&self, number: u32, page: &mut [u8]) -> Result<()> {
        let files = (&self.files.database, &self.files.log);
        match read_summed(files, &self.committed, &self.sums, number, page) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::corrupt("database.db", format!("page {number} is not what was written"))),
            Err(error) => Err(Error::io("read", "database.db")(error)),
        }
    }

    /// Copies it to a file of its own, and checks that it is what the sums say. `goes_on` is asked now and then.
    pub(crate) fn copy_to(&self, path: &Path, goes_on: impl Fn() -> bool) -> Result<Body> {
        let file = create_private(path)?;
        let (mut page, mut steps) = (vec![0; self.page_size as usize], Steps::new(&file));
        for number in 1..=self.sums.page_count() {
            if !goes_on() {
                return Err(Error::Closed);
            }
            self.read(number, &mut page)?;
            let written = steps.write(&page, page_offset(number, self.page_size));
            written.map_err(Error::io("write", path))?;
        }
        // It only travels from here: nobody needs it after a power failure.
        let length = page_offset(self.sums.page_count() + 1, self.page_size);
        Ok(Body::File { path: path.to_owned(), length })
    }
}

/// One page, from the log where that has it.
pub(crate) fn read_page(
    database: &File,
    log: &File,
    committed: &Committed,
    number: u32,
    page: &mut [u8],
) -> io::Result<()> {
    if let Some(frame) = committed.frames.get(&number) {
        return wal::read_page(log, *frame, page);
    }
    match database.read_exact_at(page, page_offset(number, u32::try_from(page.len()).unwrap_or(u32::MAX))) {
        // The page that holds SQLite's locks is never written.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => page.fill(0),
        read => read?,
    }
    Ok(())
}

/// As [`read_page`]; false where it is not what the sums say.
pub(crate) fn read_summed(
    (database, log): (&File, &File),
    committed: &Committed,
    sums: &Sums,
    number: u32,
    page: &mut [u8],
) -> io::Result<bool> {
    read_page(database, log, committed, number, page)?;
    let sum = sums.get(number);
    if sum == Some(page_sum(number, page)) {
        return Ok(true);
    }
    // SQLite leaves out pages that it has freed again; what stands there from before is nothing to anybody.
    page.fill(0);
    Ok(sum == Some(page_sum(number, page)))
}

/// Settings that every connection to the file needs: the log is this crate's to write back.
pub fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // What makes a batch last is the home: what a power failure takes from the log is fetched again.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Opens a connection.
pub(crate) fn connect(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(busy)?;
    prepare(&db)?;
    Ok(db)
}

/// Refuses what begins or ends a transaction while a batch runs: SQLite answers `not authorized`. Savepoints are the batch's own.
fn keep_transactions(db: &Connection, in_batch: &Arc<AtomicBool>) -> rusqlite::Result<()> {
    let in_batch = Arc::clone(in_batch);
    db.authorizer(Some(move |asked: AuthContext<'_>| match asked.action {
        AuthAction::Transaction { .. } if in_batch.load(Relaxed) => Authorization::Deny,
        _ => Authorization::Allow,
    }))
}

/// Makes an empty database; nobody has it open.
pub(crate) fn create(paths: &Paths) -> Result<(State, Sums)> {
    let temporary = paths.temporary("database");
    let file = create_private(&temporary)?;
    let made = (|| {
        let db = Connection::open(&temporary)?;
        db.pragma_update(None, "page_size", DEFAULT_PAGE_SIZE)?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    })();
    if made.map_err(Error::sqlite("create the cache"))? != "wal" {
        return Err(Error::Unsupported(
            "the file system of the cache folder takes no write-ahead log".to_owned(),
        ));
    }
    let sums = sums_of(&file, DEFAULT_PAGE_SIZE).map_err(Error::io("read", &temporary))?;
    let published = Published {
        generation: 0,
        commit: None,
        page_size: DEFAULT_PAGE_SIZE,
        page_count: sums.page_count(),
        checksum: sums.total(),
        mark: Mark::default(),
    };
    let state = State::new(None, published);
    state.write(paths, Last::Now)?;
    paths.put_in_place(&temporary)?;
    Ok((state, sums))
}

/// The sums of the pages of a main file.
pub(crate) fn sums_of(database: &File, page_size: u32) -> io::Result<Sums> {
    let page_count = u32::try_from(database.metadata()?.len() / u64::from(page_size)).unwrap_or(u32::MAX);
    let mut sums = Sums::new(page_size);
    sums.resize(page_count);
    let mut page = vec![0; page_size as usize];
    for number in 1..=page_count {
        database.read_exact_at(&mut page, page_offset(number, page_size))?;
        sums.set(number, page_sum(number, &page));
    }
    Ok(sums)
}

pub(crate) fn page_offset(number: u32, page_size: u32) -> u64 {
    u64::from(number.saturating_sub(1)) * u64::from(page_size)
}

/// Sets the sums of the pages that a log holds.
pub(crate) fn overlay(sums: &mut Sums, log: &File, found: &Committed, page_size: u32) -> io::Result<()> {
    if let Some(page_count) = found.page_count {
        sums.resize(page_count);
    }
    let mut page = vec![0; page_size as usize];
    for (number, frame) in found.frames.range(..=sums.page_count()) {
        wal::read_page(log, *frame, &mut page)?;
        sums.set(*number, page_sum(*number, &page));
    }
    Ok(())
}

impl Local {
    /// Opens the database, whose pages up to the published mark have these sums.
    /// What is `open` of the cache's files stays so.
    pub(crate) fn open(
        paths: Paths,
        state: State,
        sums: Sums,
        busy: Duration,
        open: (File, Vec<Arc<File>>),
    ) -> Result<Self> {
        let (lock, kept) = open;
        let db = connect(&paths.database(), busy).map_err(Error::sqlite("open the cache"))?;
        // Makes the log and its index, so that they can be opened here.
        db.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(Error::sqlite("open the cache"))?;
        let open = |path: &Path| open_private(path).map_err(Error::io("open", path));
        let files = Arc::new(Files {
            database: open(&paths.database())?,
            log: open(&paths.log())?,
            index: open(&paths.index())?,
        });
        let in_batch = Arc::new(AtomicBool::new(false));
        keep_transactions(&db, &in_batch).map_err(Error::sqlite("open the cache"))?;
        let guard = connect(&paths.database(), busy).map_err(Error::sqlite("open the cache"))?;
        let changes = Index::read(&files.index).map_err(Error::io("read", paths.index()))?.changes;
        Ok(Self {
            db,
            in_batch,
            guard,
            files,
            paths,
            state,
            sums,
            changes: Some(changes),
            busy,
            checkpoints: Checkpoints::default(),
            _kept: kept,
            _lock: lock,
        })
    }

    pub(crate) fn published(&self) -> &Published {
        &self.state.published
    }

    /// Writes down, durably, what is about to be done.
    pub(crate) fn intend(&mut self, intent: Intent) -> Result<()> {
        self.state.wrote |= matches!(intent, Intent::Commit(_));
        self.state.intent = Some(intent);
        self.state.write(&self.paths, Last::Now)
    }

    /// Writes down what has been published meanwhile.
    pub(crate) fn save(&mut self) -> Result<()> {
        if self.change()?.is_none() {
            self.state.intent = None;
        }
        self.state.write(&self.paths, Last::Now)
    }

    /// Writes down what is published now, for whoever opens the cache after an exit without a word. Until then the record
    /// names the intent, which the home can judge: that it cannot be written fails nothing.
    fn note(&mut self) {
        self.state.intent = None;
        if let Err(error) = self.state.write(&self.paths, Last::Later) {
            tracing::warn!(%error, "the record of the cache could not be written; it will be tried again");
        }
    }

    /// What was committed behind what is published; `None` for nothing.
    pub(crate) fn change(&self) -> Result<Option<Change>> {
        let published = self.published();
        let (path, index) = (self.paths.log(), self.index()?);
        let found = wal::committed(&self.files.log, &published.mark, Some(index.frames));
        let found = found.map_err(Error::io("read", &path))?;
        let committed = found.ok_or_else(|| Error::corrupt("database.db-wal", "it was cut"))?;
        let Some(page_count) = committed.page_count else { return Ok(None) };
        let (mut after, mut sums) = (self.sums.clone(), BTreeMap::new());
        overlay(&mut after, &self.files.log, &committed, published.page_size)
            .map_err(Error::io("read", &path))?;
        for number in committed.frames.keys() {
            sums.extend(after.get(*number).map(|sum| (*number, sum)));
        }
        Ok(Some(Change { committed, sums, page_count, changes: index.changes, after }))
    }

    /// The pages of a change, and what its segment says of itself.
    pub(crate) fn segment(
        &self,
        change: &Change,
        incarnation: Id,
        commit: Id,
        parent: Id,
    ) -> (Vec<u32>, SegmentHeader) {
        let published = self.published();
        // A page may have been written as it was.
        let differs =
            |(number, sum): (&u32, &u128)| (self.sums.get(*number) != Some(*sum)).then_some(*number);
        let numbers: Vec<u32> = change.sums.iter().filter_map(differs).collect();
        let header = SegmentHeader {
            format: SEGMENT_FORMAT,
            incarnation,
            generation: published.generation + 1,
            commit,
            parent,
            page_size: published.page_size,
            page_count: change.page_count,
            parent_checksum: published.checksum,
            checksum: change.after.total(),
            pages: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
            first: None,
            frame_pages: None,
        };
        (numbers, header)
    }

    /// The segment of a change, in a file at `staged` where it is large.
    pub(crate) fn encode(
        &self,
        change: &Change,
        header: SegmentHeader,
        numbers: &[u32],
        staged: &Path,
    ) -> Result<Body> {
        let frames = &change.committed.frames;
        let read = |number: u32, page: &mut [u8]| {
            let frame = frames.get(&number).ok_or(io::ErrorKind::NotFound)?;
            wal::read_page(&self.files.log, *frame, page)
        };
        let reading = |error| Error::io("read", self.paths.log())(error);
        if numbers.len() as u64 * u64::from(header.page_size) <= IN_MEMORY {
            return Ok(Body::Bytes(header.encode(numbers, read).map_err(reading)?.into()));
        }
        let file = create_private(staged)?;
        let read = |number: u32, page: &mut [u8]| read(number, page).map_err(reading);
        let length = write_paged(&file, header, numbers, read, staged)?;
        Ok(Body::File { path: staged.to_owned(), length })
    }

    /// A change is in the home now.
    pub(crate) fn settle(&mut self, change: &Change, incarnation: Id, commit: Id) {
        (self.sums, self.changes) = (change.after.clone(), Some(change.changes));
        self.state.incarnation = Some(incarnation);
        self.state.published = Published {
            generation: self.published().generation + 1,
            commit: Some(commit),
            page_count: change.page_count,
            checksum: self.sums.total(),
            mark: change.committed.end,
            ..*self.published()
        };
        self.allow_checkpoints();
        self.note();
    }

    /// The database as it is now, with these sums, which stays while batches go on.
    pub(crate) fn pin(&self, sums: &Sums) -> Result<Pinned> {
        let pinned = self.pin_only()?;
        Ok(Pinned {
            frames: self.index()?.frames,
            files: Arc::clone(&self.files),
            sums: sums.clone(),
            page_size: self.published().page_size,
            _pinned: pinned,
        })
    }

    /// An open read transaction.
    fn pin_only(&self) -> Result<Connection> {
        let pinned = connect(&self.paths.database(), self.busy).and_then(|db| {
            db.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
            Ok(db)
        });
        pinned.map_err(Error::sqlite("take a snapshot of the cache"))
    }

    /// Lets what is committed outlive a power failure.
    pub(crate) fn sync_log(&self) -> Result<()> {
        self.files.log.sync_data().map_err(Error::io("sync", self.paths.log()))
    }

    pub(crate) fn sums(&self) -> &Sums {
        &self.sums
    }
}
