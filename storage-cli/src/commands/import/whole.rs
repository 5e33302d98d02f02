//! An export, which is read more than once.

use std::{
    fs::File,
    io::{self, Read},
};

use storage_agent::{Existing, Imported};
use storage_factory::Settings;

use crate::{
    bytes::Source,
    failure::{DONE, Failure, Result},
    output::{Output, carried, counted},
    progress,
    store::with_made_agent,
};

/// How often the file is read.
const PASSES: u64 = 3;

/// What cannot be read again, in a file that can, which has no name and goes with the program.
pub(super) fn spooled(mut reader: impl Read) -> Result<File> {
    let mut spool = || {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut reader, &mut file)?;
        Ok(file)
    };
    spool().map_err(|error: io::Error| {
        Failure::input(format!("the export cannot be kept for a second look: {error}"))
            .hint("name the file of the export, or a folder with more room in TMPDIR")
    })
}

/// Writes what an export holds.
pub(super) async fn run(file: File, existing: Existing, settings: &Settings, out: &mut Output) -> Result<u8> {
    let bytes = file.metadata().map_or(0, |about| about.len());
    let progress = progress::imported(Some(bytes * PASSES));
    let imported = with_made_agent(settings, async |agent| {
        let import = agent.import(Source { file, progress: &progress }, existing);
        tokio::select! {
            imported = import => Ok(imported?),
            _ = tokio::signal::ctrl_c() => Err(interruption()),
        }
    })
    .await;
    progress.finish_and_clear();
    let imported = imported?;
    out.answer(&imported, said(&imported))?;
    Ok(DONE)
}

fn interruption() -> Failure {
    Failure::interrupted("interrupted; what was written is whole, or goes within five minutes")
        .hint("import the same file again to finish")
}

fn said(imported: &Imported) -> String {
    let Imported { entries, partitions, items, memories, unchanged, skipped, expired, .. } = *imported;
    let mut said = format!("imported {}", carried(entries, partitions, items, memories));
    for (count, one, many) in [
        (unchanged, "there already, and equal", "there already, and equal"),
        (skipped, "left as it was", "left as they were"),
        (expired, "expired since", "expired since"),
    ] {
        if count > 0 {
            said = format!("{said}; {}", counted(count, one, many));
        }
    }
    said
}
