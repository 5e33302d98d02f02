//! `storage export`: all that a store or a user has, in the format of `storage-agent`, or entries as plain lines.

mod entries;

use std::{
    io::{self, BufWriter},
    path::Path,
};

use indicatif::ProgressBar;
use storage_agent::{ExportScope, Exported, UserData};
use storage_core::{Error, ErrorKind};
use storage_factory::Settings;
use tempfile::NamedTempFile;

use crate::{
    args::Export,
    bytes::Sink,
    failure::{DONE, Failure, Result, STORE},
    output::{Output, carried, counted, warn},
    progress,
    store::with_agent,
};

pub(super) async fn run(export: Export, settings: &Settings, out: &mut Output) -> Result<u8> {
    if let Some(pattern) = &export.pattern {
        return entries::run(pattern, settings, out).await;
    }
    let (scope, name) = scope(&export);
    let progress = progress::exported(export.to.is_none() && out.is_terminal());
    let exported = match &export.to {
        None => write(&scope, settings, &mut out.writer(), &progress).await?,
        Some(path) => {
            let file = beside(path)?;
            let exported = write(&scope, settings, &mut BufWriter::new(file.as_file()), &progress).await?;
            if !is_empty(&exported, name.as_deref()) {
                file.persist_noclobber(path).map_err(|error| unwritable(path, &error.error))?;
            }
            exported
        }
    };
    report(&exported, name.as_deref(), export.to.as_deref(), out)
}

/// What is exported, and whom it is of.
fn scope(export: &Export) -> (ExportScope, Option<String>) {
    let Export { user, thread_prefix, session, thread, kind, .. } = export;
    if let Some(id) = user {
        let data = UserData { thread_prefixes: thread_prefix.clone(), ..UserData::of(id) };
        return (ExportScope::User { id: id.clone(), data }, user.clone());
    }
    match (session, thread) {
        (Some(id), _) => (ExportScope::Session(id.clone()), session.clone()),
        (_, Some(id)) => (ExportScope::Thread(id.clone()), thread.clone()),
        _ => (ExportScope::Everything { other_kinds: kind.clone() }, None),
    }
}

async fn write(
    scope: &ExportScope,
    settings: &Settings,
    writer: &mut (impl io::Write + Send),
    progress: &ProgressBar,
) -> Result<Exported> {
    let exported = with_agent(settings, async |agent| {
        let export = agent.export(scope, Sink { writer: &mut *writer, progress });
        tokio::select! {
            exported = export => exported.map_err(failed),
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("interrupted: the export has no end, and is refused by import")),
        }
    })
    .await;
    progress.finish_and_clear();
    exported
}

/// The writer's error stands behind the store's.
fn failed(error: Error) -> Failure {
    match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => Failure::output(source),
        None => error.into(),
    }
}

/// A file in the folder of another, whose name it gets when it is whole.
fn beside(path: &Path) -> Result<NamedTempFile> {
    if path.exists() {
        return Err(Failure::input(format!("`{}` exists already", path.display())).hint("name a new file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    NamedTempFile::new_in(folder).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::input(format!("`{}` cannot be written: {error}", path.display()))
}

fn is_empty(exported: &Exported, name: Option<&str>) -> bool {
    name.is_some() && exported.entries + exported.partitions + exported.memories + exported.left_out == 0
}

fn report(exported: &Exported, name: Option<&str>, to: Option<&Path>, out: &mut Output) -> Result<u8> {
    if let Some(name) = name.filter(|name| is_empty(exported, Some(name))) {
        return Err(Failure::not_found(name));
    }
    if let Some(path) = to {
        let what = carried(exported.entries, exported.partitions, exported.items, exported.memories);
        out.answer(exported, format_args!("exported to {}: {what}", path.display()))?;
    }
    for error in &exported.corrupt {
        warn(error.clone().into(), out.json());
    }
    if exported.left_out == 0 {
        return Ok(DONE);
    }
    let left_out = counted(exported.left_out, "entry or memory", "entries or memories");
    let failure = Failure::new(STORE, ErrorKind::Corrupt.code(), format!("{left_out} could not be exported"));
    Err(failure.hint("everything else is exported; the warnings name the first hundred"))
}
