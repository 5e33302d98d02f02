//! `storage import`: an export, or plain lines of entries; lines in, whole batches out, in bounded memory.

mod chunks;
mod whole;

use std::{
    fs::File,
    io::{self, Cursor, IsTerminal, Read, Write},
    path::Path,
    pin::pin,
};

use indicatif::ProgressBar;
use serde_json::json;
use storage_agent::Existing;
use storage_core::{Entry, StorageBackend};
use storage_factory::Settings;

use self::chunks::{Chunk, Chunks};
use crate::{
    failure::{DONE, Failure, Result},
    output::{Output, counted},
    progress,
    store::{max_value_bytes, with_made},
};

/// How far an import has come.
#[derive(Default)]
struct Counts {
    imported: u64,
    expired: u64,
}

/// What an export begins with.
const EXPORT: &[u8] = b"{\"export\":";

/// Writes what a file holds.
pub(super) async fn run(
    file: &Path,
    skip: bool,
    replace: bool,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let unreadable = |error| Failure::input(format!("`{}` cannot be read: {error}", file.display()));
    let (mut reader, bytes) = open(file)?;
    let mut beginning = Vec::new();
    reader.by_ref().take(EXPORT.len() as u64).read_to_end(&mut beginning).map_err(unreadable)?;
    if beginning == EXPORT {
        let existing = match (skip, replace) {
            (true, _) => Existing::Skip,
            (_, true) => Existing::Replace,
            _ => Existing::Refuse,
        };
        let file = match bytes {
            Some(_) => File::open(file).map_err(unreadable)?,
            None => whole::spooled(Cursor::new(beginning).chain(reader))?,
        };
        return whole::run(file, existing, settings, out).await;
    }
    if skip {
        let failure = Failure::input("plain lines are written over what is there: --skip is for exports");
        return Err(failure.hint("`storage export` without a pattern writes exports"));
    }
    entries(Box::new(Cursor::new(beginning).chain(reader)), bytes, settings, out).await
}

/// Writes entries. What stands before a line that is wrong is imported.
async fn entries(
    reader: Box<dyn Read + Send>,
    bytes: Option<u64>,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let progress = progress::imported(bytes);
    let chunks = Chunks::read(reader, max_value_bytes(settings));
    let mut counts = Counts::default();
    let ended =
        with_made(settings, async |storage| write(storage, chunks, &mut counts, &progress).await).await;
    progress.finish_and_clear();
    let so_far = format!("{} imported before", counted(counts.imported, "entry", "entries"));
    ended.map_err(|failure| failure.after(&so_far))?;
    let document = json!({"imported": counts.imported, "expired": counts.expired});
    let imported = counted(counts.imported, "entry", "entries");
    let skipped = match counts.expired {
        0 => String::new(),
        expired => format!(", skipped {} expired", indicatif::HumanCount(expired)),
    };
    out.answer(&document, format_args!("imported {imported}{skipped}"))?;
    Ok(DONE)
}

/// The file or stdin, and its length where it has one.
fn open(file: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
    if file == Path::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let _ = writeln!(io::stderr(), "reading lines from the terminal, up to Ctrl-D");
        }
        return Ok((Box::new(stdin), None));
    }
    let unreadable = |error| Failure::input(format!("`{}` cannot be read: {error}", file.display()));
    let opened = File::open(file).map_err(unreadable)?;
    let about = opened.metadata().map_err(unreadable)?;
    Ok((Box::new(opened), Some(about.len()).filter(|_| about.is_file())))
}

/// Writes chunk after chunk. Ctrl-C is heard between two of them, so that each is written whole.
async fn write(
    storage: &dyn StorageBackend,
    mut chunks: Chunks,
    counts: &mut Counts,
    progress: &ProgressBar,
) -> Result<()> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let chunk = tokio::select! {
            biased;
            _ = &mut interrupted => return Err(interruption()),
            chunk = chunks.next() => chunk,
        };
        let Some(chunk) = chunk.transpose()? else { return Ok(()) };
        let Chunk { lines, bytes } = chunk;
        let read = lines.len() as u64;
        let entries: Vec<Entry> = lines.into_iter().filter_map(|line| line.into_entry()).collect();
        let written = entries.len() as u64;
        storage.set_many(entries).await?;
        counts.imported += written;
        counts.expired += read - written;
        progress.inc(bytes);
    }
}

fn interruption() -> Failure {
    Failure::interrupted("interrupted between two batches, each of which is written whole")
        .hint("import the same lines again to finish: entries are written over")
}
