//! Entries as plain lines.

use futures::StreamExt;
use storage_core::{Error, ErrorKind, Record, Scan, StorageBackend, StorageExt};
use storage_factory::Settings;

use crate::{
    failure::{DONE, Failure, Result, STORE},
    line::export_line,
    output::{Output, counted, warn},
    progress,
    store::with_store,
};

/// Streams the entries. One that cannot be read is a warning, and the exit code says so at the end: whoever only looks at
/// the code must not take the export for whole.
pub(super) async fn run(pattern: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let scan = Scan::entries(pattern)?.with_expiry();
    let corrupt = with_store(settings, async |storage| write_lines(storage, scan, out).await).await?;
    if corrupt == 0 {
        return Ok(DONE);
    }
    let entries = counted(corrupt, "entry", "entries");
    let failure = Failure::new(STORE, ErrorKind::Corrupt.code(), format!("{entries} could not be exported"));
    Err(failure.hint("everything else is exported; the warnings name the keys"))
}

/// Writes a line for each entry, and returns how many could not be read.
async fn write_lines(storage: &dyn StorageBackend, scan: Scan, out: &mut Output) -> Result<u64> {
    let progress = progress::exported(out.is_terminal());
    let mut records = storage.records(scan);
    let mut corrupt = 0;
    while let Some(record) = records.next().await {
        match record.and_then(|record| line(&record)) {
            Ok(line) => {
                progress.inc(line.len() as u64);
                out.line(line)?;
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                corrupt += 1;
                progress.suspend(|| warn(error.into(), out.json()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    progress.finish_and_clear();
    Ok(corrupt)
}

fn line(record: &Record) -> storage_core::Result<String> {
    export_line(record).ok_or_else(|| Error::corrupt("the entry has no value").with_key(&record.key))
}
