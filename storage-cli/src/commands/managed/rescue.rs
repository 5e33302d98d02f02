//! `storage managed rescue`: databases that were kept because they had diverged.

use std::{path::Path, time::Duration};

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_factory::{Settings, managed_database};
use storage_managed::{Rescued, export, remove_rescued as remove, rescued};

use super::{open::open, target::check_new};
use crate::{
    args::Rescue,
    failure::{DONE, Failure, NO, Result},
    output::{Output, counted, moment, table},
};

pub(super) async fn run(command: Rescue, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Rescue::List => list(settings, out),
        Rescue::Export { name, to } => write(name.as_deref(), &to, settings, out),
        Rescue::Resume => resume(settings, out).await,
        Rescue::Prune { name, older_than } => prune(name.as_deref(), older_than, settings, out),
    }
}

/// Without opening the database, which may be what is refused.
fn kept(settings: &Settings) -> Result<Vec<Rescued>> {
    Ok(rescued(&managed_database(settings)?.1.cache)?)
}

fn name(kept: &Rescued) -> String {
    kept.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn list(settings: &Settings, out: &mut Output) -> Result<u8> {
    let kept = kept(settings)?;
    let when = |kept: &Rescued| kept.kept_at.map(moment);
    let documents: Vec<Value> = kept
        .iter()
        .map(
            |kept| json!({"name": name(kept), "kept_at": when(kept), "bytes": kept.bytes, "path": kept.path}),
        )
        .collect();
    let mut rows = vec![["NAME", "KEPT", "SIZE", "PATH"].map(str::to_owned)];
    rows.extend(kept.iter().map(|kept| {
        let (size, path) = (HumanBytes(kept.bytes).to_string(), kept.path.display().to_string());
        [name(kept), when(kept).unwrap_or_else(|| "unknown".to_owned()), size, path]
    }));
    out.answer(&json!({"rescued": documents}), table(&rows))?;
    Ok(DONE)
}

fn write(wanted: Option<&str>, to: &Path, settings: &Settings, out: &mut Output) -> Result<u8> {
    let kept = kept(settings)?;
    // The newest where none is named.
    let found = kept.iter().rev().find(|kept| wanted.is_none_or(|wanted| name(kept) == wanted));
    let found = found.ok_or_else(|| match wanted {
        Some(wanted) => unknown(wanted),
        None => {
            Failure::new(NO, "not_found", "nothing was kept: no local database of this home has diverged")
        }
    })?;
    check_new(to)?;
    export(&found.path, to)?;
    let document = json!({"name": name(found), "file": to});
    out.answer(&document, format_args!("exported {} to {}", name(found), to.display()))?;
    Ok(DONE)
}

fn unknown(name: &str) -> Failure {
    let message = format!("nothing was kept under the name `{}`", name.escape_debug());
    Failure::new(NO, "not_found", message).hint("`storage managed rescue list` shows what was kept")
}

fn prune(
    wanted: Option<&str>,
    older_than: Option<Duration>,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let is_old = |kept: &Rescued| {
        let age = kept.kept_at.and_then(|at| at.elapsed().ok());
        older_than.is_some_and(|least| age.is_some_and(|age| age >= least))
    };
    let found: Vec<Rescued> = kept(settings)?
        .into_iter()
        .filter(|kept| wanted.map_or_else(|| is_old(kept), |wanted| name(kept) == wanted))
        .collect();
    if let (Some(wanted), true) = (wanted, found.is_empty()) {
        return Err(unknown(wanted));
    }
    for kept in &found {
        remove(&managed_database(settings)?.1.cache, &kept.path)?;
    }
    let bytes: u64 = found.iter().map(|kept| kept.bytes).sum();
    let names: Vec<String> = found.iter().map(name).collect();
    let document = json!({"removed": names, "bytes": bytes});
    let counted = counted(found.len() as u64, "database", "databases");
    out.answer(&document, format_args!("removed {counted}, {}", HumanBytes(bytes)))?;
    Ok(DONE)
}

async fn resume(settings: &Settings, out: &mut Output) -> Result<u8> {
    let opened = open(settings, |options| options.discard_after_rescue = true).await?;
    opened.bar.finish_and_clear();
    let generation = opened.store.status().generation;
    opened.store.close().await?;
    out.answer(&json!({"generation": generation}), format_args!("on generation {generation} of the home"))?;
    Ok(DONE)
}
