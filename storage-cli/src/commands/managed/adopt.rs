//! `storage managed adopt`: a SQLite file becomes the first generation of a home.

use std::{path::Path, sync::Arc};

use indicatif::HumanBytes;
use serde_json::json;
use storage_factory::{Settings, managed_database};
use storage_managed::{Error, adopt};

use super::watched::{Watched, progress};
use crate::{
    failure::{DONE, Failure, Result},
    output::{Output, counted},
};

pub(super) async fn run(file: &Path, settings: &Settings, out: &mut Output) -> Result<u8> {
    let (home, options) = managed_database(settings)?;
    let bar = progress();
    let home = Arc::new(Watched::new(home, bar.clone()));
    let adopted = tokio::select! {
        adopted = adopt(home, options, file) => adopted.map_err(refused),
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::interrupted("interrupted; `storage managed status` shows whether the home has it"))
        }
    };
    bar.finish_and_clear();
    let adopted = adopted?;
    let (verified, rows) = (adopted.verified, adopted.rows.values().sum());
    let document = json!({
        "file": file,
        "generation": verified.generation,
        "bytes": verified.bytes,
        "tables": adopted.rows,
    });
    let line = format!(
        "adopted {}: {} with {}, {}; the file stays as it is, and what is written to it from now on is not in the home",
        file.display(),
        counted(adopted.rows.len() as u64, "table", "tables"),
        counted(rows, "row", "rows"),
        HumanBytes(verified.bytes),
    );
    out.answer(&document, line)?;
    Ok(DONE)
}

/// A file or a home that is not taken is wrong input.
fn refused(error: Error) -> Failure {
    match error {
        Error::Unsupported(message) => Failure::input(message),
        error => error.into(),
    }
}
