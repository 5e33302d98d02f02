//! What a store finds in its cache folder when it opens it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::Connection;

use crate::{
    cache::{Intent, Paths, Published, State, make_folder, sync_folder},
    error::{Error, Result},
    format::{Id, Sums},
    local::{connect, overlay, sums_of},
    system::Positioned,
    wal::{self, Mark},
};

/// When what cannot be explained is looked at again: a program that wrote back the log may have been in the middle of it.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// The state of a cache that nobody has open.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is nothing.
    Nothing,
    /// The database is what the record says is published, and the sums are of that.
    Sound(State, Sums),
    /// On top of what is published something was committed under this id. The sums are of what is published.
    Committed(State, Sums, Id, Here),
    /// Pages that are in the home were lost here, and nothing else.
    Torn(State),
    /// What is there is not what the record says, or there is no record. The home may know it.
    Other(Option<State>, Option<Here>),
}

/// All that is in a cache.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    pub(crate) sums: Sums,
    /// Where its log ends.
    pub(crate) end: Mark,
}

/// Files of the cache that were opened, and stay open for as long as SQLite has the database open in this process: closing one
/// would drop SQLite's locks on it, which are the process's.
pub(crate) type Opened = Vec<Arc<File>>;

fn open(path: &Path, opened: &mut Opened) -> io::Result<Arc<File>> {
    let file = Arc::new(File::open(path)?);
    opened.push(Arc::clone(&file));
    Ok(file)
}

/// A connection that keeps other programs from writing back the log when they close, as the last one does; none where there
/// is no database in WAL mode.
pub(crate) fn attend(paths: &Paths, opened: &mut Opened, busy: Duration) -> Option<Connection> {
    let mut versions = [0; 2];
    open(&paths.database(), opened).ok()?.read_exact_at(&mut versions, 18).ok()?;
    if versions != [2, 2] {
        return None;
    }
    let db = connect(&paths.database(), busy).ok()?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).ok()?;
    Some(db)
}

/// Looks at the cache, without changing it. What somebody else changes meanwhile is looked at again.
pub(crate) fn examine(paths: &Paths, opened: &mut Opened) -> Result<Found> {
    let mut found = examine_once(paths, opened)?;
    for pause in AGAIN {
        if !matches!(found, Found::Other(..)) {
            break;
        }
        std::thread::sleep(pause);
        found = examine_once(paths, opened)?;
    }
    Ok(found)
}

fn examine_once(paths: &Paths, opened: &mut Opened) -> Result<Found> {
    let state = State::read(&paths.state())?;
    let exists = fs::exists(paths.database()).map_err(Error::io("look for", paths.database()))?;
    let reading = || Error::io("read the files of", &paths.folder);
    let Some(state) = state else {
        let empty = !exists || fs::metadata(paths.database()).is_ok_and(|file| file.len() == 0);
        return Ok(if empty {
            Found::Nothing
        } else {
            Found::Other(None, unrecorded(paths, opened).map_err(reading())?)
        });
    };
    if state.given_up {
        return Ok(Found::Torn(state));
    }
    if !exists {
        // A batch that may have been committed was in the log, and only there.
        let committed = matches!(state.intent, Some(Intent::Commit(_))) && has_log(paths);
        return Ok(if committed { Found::Other(Some(state), None) } else { Found::Torn(state) });
    }
    compare(paths, state, opened).map_err(reading())
}

fn has_log(paths: &Paths) -> bool {
    fs::metadata(paths.log()).is_ok_and(|file| file.len() > wal::HEADER_BYTES)
}

fn open_log(paths: &Paths, opened: &mut Opened) -> io::Result<Option<Arc<File>>> {
    match open(&paths.log(), opened) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Compares what is there with what the record says.
fn compare(paths: &Paths, state: State, opened: &mut Opened) -> io::Result<Found> {
    let published = state.published;
    let main = sums_of(&*open(&paths.database(), opened)?, published.page_size)?;
    let Some(log) = open_log(paths, opened)? else { return Ok(without_log(main, state)) };
    if wal::page_size(&log)?.is_some_and(|size| size != published.page_size) {
        return Ok(Found::Other(Some(state), None));
    }
    let Some(at_mark) = at_mark(main.clone(), &log, &published)? else {
        // Nothing that could be read stands behind: a batch there was lost with the disk, before anybody was told of it.
        return Ok(Found::Torn(state));
    };
    let Some(behind) = wal::committed(&log, &published.mark, None)? else {
        return Ok(Found::Other(Some(state), None));
    };
    let here = all(main, &log, published.page_size)?;
    Ok(match state.intent {
        Some(Intent::Apply { incarnation, to }) if to.is(&here.sums) => {
            applied(&state, incarnation, to, here)
        }
        _ if published.is(&at_mark) && behind.page_count.is_none() => sound(state, at_mark),
        Some(Intent::Commit(commit)) if published.is(&at_mark) => {
            Found::Committed(state, at_mark, commit, here)
        }
        // Somebody else has written back the log, which changes nothing.
        _ if published.is(&here.sums) => {
            let mut state = state;
            state.published.mark = here.end;
            sound(state, here.sums)
        }
        _ => Found::Other(Some(state), Some(here)),
    })
}

/// All that is there: the main file, and what was committed to the log.
fn all(main: Sums, log: &File, page_size: u32) -> io::Result<Here> {
    let whole = wal::committed(log, &Mark::default(), None)?.unwrap_or_default();
    let mut sums = main;
    overlay(&mut sums, log, &whole, page_size)?;
    Ok(Here { sums, end: whole.end })
}

fn sound(mut state: State, sums: Sums) -> Found {
    state.intent = None;
    Found::Sound(state, sums)
}

/// A later generation came from the home, and the record did not say so yet.
fn applied(state: &State, incarnation: Id, to: Published, here: Here) -> Found {
    let published = Published { mark: here.end, ..to };
    Found::Sound(State::new(Some(incarnation), published).having_written(state.wrote), here.sums)
}

/// Without a log all that is published must be in the main file.
fn without_log(main: Sums, mut state: State) -> Found {
    let sized = |page_count| {
        let mut sums = main.clone();
        sums.resize(page_count);
        sums
    };
    let at_record = sized(state.published.page_count);
    if state.published.is(&at_record) {
        state.published.mark = Mark::default();
        return sound(state, at_record);
    }
    match state.intent {
        Some(Intent::Apply { incarnation, to }) if to.is(&sized(to.page_count)) => {
            let here = Here { sums: sized(to.page_count), end: Mark::default() };
            applied(&state, incarnation, to, here)
        }
        _ => Found::Other(Some(state), Some(Here { sums: main, end: Mark::default() })),
    }
}

/// What is there without a record of it; `None` where it cannot be a database.
fn unrecorded(paths: &Paths, opened: &mut Opened) -> io::Result<Option<Here>> {
    let database = open(&paths.database(), opened)?;
    let mut header = [0; 18];
    if database.metadata()?.len() < header.len() as u64 {
        return Ok(None);
    }
    database.read_exact_at(&mut header, 0)?;
    let page_size = match header.last_chunk().map(|size| u16::from_be_bytes(*size)) {
        Some(1) => 65_536,
        Some(size) if size >= 512 && size.is_power_of_two() => u32::from(size),
        _ => return Ok(None),
    };
    let main = sums_of(&database, page_size)?;
    match open_log(paths, opened)? {
        None => Ok(Some(Here { sums: main, end: Mark::default() })),
        Some(log) if wal::page_size(&log)?.is_some_and(|size| size != page_size) => Ok(None),
        Some(log) => all(main, &log, page_size).map(Some),
    }
}

/// The sums of what is published; `None` where the log ends before it.
fn at_mark(mut sums: Sums, log: &File, published: &Published) -> io::Result<Option<Sums>> {
    let mark = &published.mark;
    let found = wal::committed(log, &Mark::default(), Some(mark.frames))?.unwrap_or_default();
    if mark.frames > 0 && found.end.salts == mark.salts {
        if found.end != *mark {
            return Ok(None);
        }
        overlay(&mut sums, log, &found, published.page_size)?;
    }
    sums.resize(published.page_count);
    Ok(Some(sums))
}

/// Keeps copies of database and log under `rescue/`, named by what they hold, and returns the folder.
pub(crate) fn keep(paths: &Paths, database: &File, log: Option<&File>) -> Result<PathBuf> {
    let folder = paths.rescue().join(Id::random()?.to_string());
    let kept = (|| {
        make_folder(&folder)?;
        copy(database, &folder.join("database.db"))?;
        if let Some(log) = log {
            copy(log, &folder.join("database.db-wal"))?;
        }
        if let Ok(state) = fs::read(paths.state()) {
            fs::write(folder.join("state"), state).map_err(Error::io("write", &folder))?;
        }
        sync_folder(&folder)?;
        sync_folder(&paths.rescue())
    })();
    if kept.is_err() {
        // A part of it would keep a full disk full.
        let _ = fs::remove_dir_all(&folder);
    }
    kept.map(|()| folder)
}

/// Keeps the files of a cache that nobody has open.
pub(crate) fn keep_closed(paths: &Paths) -> Result<PathBuf> {
    let found = |path: PathBuf| match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(Error::io("open", path)),
    };
    let log = found(paths.log())?;
    match found(paths.database())? {
        Some(database) => keep(paths, &database, log.as_ref()),
        None => Err(Error::corrupt("database.db", "it is gone while its log is there")),
    }
}

fn copy(mut from: &File, to: &Path) -> Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut file = crate::cache::create_private(to)?;
    let copied = from.seek(SeekFrom::Start(0)).and_then(|_| io::copy(&mut from, &mut file));
    copied.and_then(|_| file.sync_all()).map_err(Error::io("write", to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Last;

    /// Removing a cache that was kept elsewhere was cut short: what is left of it is nobody's any more.
    #[test]
    fn what_was_being_removed_is_not_taken_for_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        let (mut state, _) = crate::local::create(&paths).unwrap();
        state.intent = Some(Intent::Commit(Id::random().unwrap()));
        state.wrote = true;
        state.write(&paths, Last::Now).unwrap();
        // A folder of its name is not removed as a file is.
        fs::create_dir_all(paths.log().join("x")).unwrap();
        paths.clear().unwrap_err();
        fs::remove_dir_all(paths.log()).unwrap();
        assert!(
            matches!(examine(&paths, &mut Opened::new()).unwrap(), Found::Torn(_)),
            "{:?}",
            examine(&paths, &mut Opened::new())
        );
        fs::write(paths.database(), "foreign").unwrap();
        assert!(matches!(examine(&paths, &mut Opened::new()).unwrap(), Found::Torn(_)));
        paths.clear().unwrap();
        assert!(matches!(examine(&paths, &mut Opened::new()).unwrap(), Found::Nothing));
    }
}
