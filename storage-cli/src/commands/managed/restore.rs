//! `storage managed restore`: a generation, or what is kept under a name, in a file of its own.

use std::{path::Path, sync::Arc, time::SystemTime};

use serde_json::json;
use storage_factory::{Settings, managed_database};
use storage_managed::{Verified, restore_hold};

use super::{
    hold,
    log::newest_at,
    open::{interrupted, with_home},
    target::written,
    verify::{absent, described, document},
    watched::{Watched, progress},
};
use crate::{
    failure::{DONE, Result},
    output::{Output, moment},
};

pub(super) async fn run(
    (generation, at, hold): (Option<u64>, Option<SystemTime>, Option<&str>),
    to: &Path,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let write = async |file: &Path| match hold {
        Some(hold) => Ok((held(hold, generation, file, settings).await?, None)),
        None => from_history((generation, at), file, settings).await,
    };
    let (verified, published) = written(to, write).await?;
    let mut document = document(&verified);
    if let Some(document) = document.as_object_mut() {
        document.insert("file".to_owned(), json!(to));
        document.extend(published.map(|at| ("published".to_owned(), json!(moment(at)))));
    }
    let published = published.map_or_else(String::new, |at| format!(", published at {}", moment(at)));
    out.answer(&document, format_args!("restored {}: {}{published}", to.display(), described(&verified)))?;
    Ok(DONE)
}

/// Without opening the database, whose head may be what is damaged.
async fn held(hold: &str, generation: Option<u64>, file: &Path, settings: &Settings) -> Result<Verified> {
    let (home, options) = managed_database(settings)?;
    let bar = progress();
    let home = Arc::new(Watched::new(home, bar.clone()));
    let restored = tokio::select! {
        restored = restore_hold(home, options, hold, generation, file) => restored.map_err(hold::absent),
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    bar.finish_and_clear();
    restored
}

async fn from_history(
    (generation, at): (Option<u64>, Option<SystemTime>),
    file: &Path,
    settings: &Settings,
) -> Result<(Verified, Option<SystemTime>)> {
    with_home(settings, async |opened| {
        let (generation, published) = match (generation, at) {
            (Some(generation), _) => (generation, None),
            (None, Some(at)) => {
                let found = newest_at(&opened.store, at).await?;
                (found.generation, found.published)
            }
            (None, None) => (opened.store.status().generation, None),
        };
        Ok((opened.store.restore(generation, file).await.map_err(absent)?, published))
    })
    .await
}
