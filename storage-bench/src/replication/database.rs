//! The database of each side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_bench_harness::Result;
use storage_managed::{DatabaseStore, Options, adopt};

use super::litestream::Litestream;
use super::place::Place;
use super::side::Side;
use super::writer::Writer;

/// A database that is written to and, but for [`Side::Alone`], replicated to a place.
pub(super) struct Database<'a> {
    side: Side,
    place: &'a Place,
    folder: PathBuf,
    program: &'a Path,
    writer: Writer,
    litestream: Option<Litestream>,
}

impl<'a> Database<'a> {
    /// Begins with a copy of the file `seed`, in the empty folder `folder`.
    pub(super) async fn open(
        side: Side,
        place: &'a Place,
        folder: PathBuf,
        seed: &Path,
        program: &'a Path,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (file, mut litestream) = (folder.join("database.db"), None);
        let writer = match (side, side.interval()) {
            (Side::Local | Side::Home, publish_every) => {
                let options = Options { publish_every, ..Options::new(folder.join("cache")) };
                adopt(place.home()?, options.clone(), seed).await?;
                Writer::managed(DatabaseStore::open(place.home()?, options).await?)
            }
            (_, interval) => {
                std::fs::copy(seed, &file)?;
                let writer = Writer::plain(&file, interval.is_none())?;
                if let Some(interval) = interval {
                    std::fs::write(folder.join(CONFIG), place.config(&file, interval))?;
                    litestream = Some(Litestream::start(program, &folder.join(CONFIG))?);
                }
                writer
            }
        };
        Ok(Self { side, place, folder, program, writer, litestream })
    }

    pub(super) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Whether the whole database is in the replica. Litestream's first merge copies it again, and belongs to the beginning.
    pub(super) fn has_begun(&self) -> Result<bool> {
        Ok(self.has_arrived(None)? && (self.litestream.is_none() || self.place.newest(1).is_some()))
    }

    /// What tells whether a write that comes after this has arrived.
    pub(super) fn mark(&self) -> Option<String> {
        self.place.newest(0)
    }

    /// Whether a write that was acknowledged after `mark`, and none after it, is in the replica.
    pub(super) fn has_arrived(&self, mark: Option<&str>) -> Result<bool> {
        self.litestream.as_ref().map_or(Ok(()), Litestream::check)?;
        Ok(match self.writer.store() {
            Some(store) => !store.status().dirty,
            None => self.side == Side::Alone || self.place.newest(0).as_deref() > mark,
        })
    }

    /// Rebuilds the database from the replica alone, while it is open; returns what is in it.
    pub(super) async fn restore(&self) -> Result<Vec<u32>> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        restore(self.side, self.place, folder.path(), &self.folder, self.program).await
    }
}

/// Litestream's settings, beside the database.
const CONFIG: &str = "litestream.yml";
/// What is in a database.
const ROWS: &str = "SELECT id FROM t ORDER BY id";

/// Rebuilds a database in the empty folder `target`; returns the ids of its rows.
pub(super) async fn restore(
    side: Side,
    place: &Place,
    target: &Path,
    folder: &Path,
    program: &Path,
) -> Result<Vec<u32>> {
    if matches!(side, Side::Local | Side::Home) {
        let store = DatabaseStore::open(place.home()?, Options::new(target)).await?;
        let rows = store.read(rows).await?;
        store.close().await?;
        return Ok(rows);
    }
    let (original, file) = (folder.join("database.db"), target.join("restored.db"));
    let config = target.join(CONFIG);
    std::fs::write(&config, place.config(&original, Duration::from_secs(1)))?;
    Litestream::restore(program, &config, &original, &file)?;
    Ok(rows(&rusqlite::Connection::open(file)?)?)
}

fn rows(db: &rusqlite::Connection) -> rusqlite::Result<Vec<u32>> {
    db.prepare(ROWS)?.query_map([], |row| row.get(0))?.collect()
}
