//! What a store finds in its cache folder when it opens it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    cache::{Intent, Paths, Published, State, make_folder, sync_folder},
    error::{Error, Result},
    format::{Id, Sums},
    local::{overlay, sums_of},
    wal::{self, Mark},
};

/// The state of a cache that nobody has open.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is nothing.
    Nothing,
    /// The database is what the record says is published, and the sums are of that.
    Sound(State, Sums),
    /// On top of what is published a batch was committed under this id. The sums are of what is published.
    Committed(State, Sums, Id),
    /// Pages that are in the home were lost here, and nothing else.
    Torn(State),
    /// Something is there that nobody wrote down.
    Foreign,
}

/// Looks at the cache, without changing it.
pub(crate) fn examine(paths: &Paths) -> Result<Found> {
    let state = State::read(&paths.state())?;
    let exists = fs::exists(paths.database()).map_err(Error::io("look for", paths.database()))?;
    let Some(state) = state else {
        let empty = !exists || fs::metadata(paths.database()).is_ok_and(|file| file.len() == 0);
        return Ok(if empty { Found::Nothing } else { Found::Foreign });
    };
    if !exists {
        // A batch that may have been committed was in the log, and only there.
        let committed = matches!(state.intent, Some(Intent::Commit(_))) && has_log(paths);
        return Ok(if committed { Found::Foreign } else { Found::Torn(state) });
    }
    compare(paths, state).map_err(Error::io("read the files of", &paths.folder))
}

fn has_log(paths: &Paths) -> bool {
    fs::metadata(paths.log()).is_ok_and(|file| file.len() > wal::HEADER_BYTES)
}

/// Compares what is there with what the record says.
fn compare(paths: &Paths, state: State) -> io::Result<Found> {
    let published = state.published;
    let main = sums_of(&File::open(paths.database())?, published.page_size)?;
    let log = match File::open(paths.log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let Some(log) = log else { return Ok(without_log(main, state)) };
    if wal::page_size(&log)?.is_some_and(|size| size != published.page_size) {
        return Ok(Found::Foreign);
    }
    let Some(at_mark) = at_mark(main.clone(), &log, &published)? else {
        // Nothing that could be read stands behind: a batch there was lost with the disk, before anybody was told of it.
        return Ok(Found::Torn(state));
    };
    let Some(behind) = wal::committed(&log, &published.mark, None)? else { return Ok(Found::Foreign) };
    let whole = wal::committed(&log, &Mark::default(), None)?.unwrap_or_default();
    let mut at_end = main;
    overlay(&mut at_end, &log, &whole, published.page_size)?;
    let is_published =
        |sums: &Sums, of: &Published| sums.total() == of.checksum && sums.page_count() == of.page_count;
    Ok(match state.intent {
        Some(Intent::Apply { incarnation, to }) if is_published(&at_end, &to) => {
            let state = State::new(Some(incarnation), Published { mark: whole.end, ..to });
            Found::Sound(state, at_end)
        }
        _ if is_published(&at_mark, &published) && behind.page_count.is_none() => sound(state, at_mark),
        Some(Intent::Commit(commit)) if is_published(&at_mark, &published) => {
            Found::Committed(state, at_mark, commit)
        }
        // Somebody else has written back the log, which changes nothing.
        _ if is_published(&at_end, &published) => {
            let mut state = state;
            state.published.mark = whole.end;
            sound(state, at_end)
        }
        _ => Found::Foreign,
    })
}

fn sound(mut state: State, sums: Sums) -> Found {
    state.intent = None;
    Found::Sound(state, sums)
}

/// Without a log all that is published must be in the main file.
fn without_log(mut main: Sums, mut state: State) -> Found {
    let published = &mut state.published;
    main.resize(published.page_count);
    if main.total() != published.checksum {
        return Found::Foreign;
    }
    published.mark = Mark::default();
    sound(state, main)
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
pub(crate) fn keep(paths: &Paths, database: &mut File, log: Option<&mut File>) -> Result<PathBuf> {
    let folder = paths.rescue().join(format!("{}", Id::random()));
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
    let open = |path: PathBuf| match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(Error::io("open", path)),
    };
    let mut log = open(paths.log())?;
    match open(paths.database())? {
        Some(mut database) => keep(paths, &mut database, log.as_mut()),
        None => Err(Error::corrupt("database.db", "it is gone while its log is there")),
    }
}

fn copy(from: &mut File, to: &Path) -> Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut file = crate::cache::create_private(to)?;
    let copied = from.seek(SeekFrom::Start(0)).and_then(|_| io::copy(from, &mut file));
    copied.and_then(|_| file.sync_all()).map_err(Error::io("write", to))
}
