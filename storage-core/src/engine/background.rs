//! The background runtime of the process.
//!
//! One thread, started by the first `connect`, on which runs what must not depend on a runtime of the program: deadlines,
//! sweeps, closing, and the work of callers that are on another runtime than the one that connected, or on none. No code
//! of the program runs there, so it never stands still for long.

use std::{
    future::pending,
    io,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use tokio::runtime::{Builder, Handle};

use crate::{Error, ErrorKind, Result};

static HANDLE: OnceLock<Handle> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// The background runtime.
///
/// # Errors
/// `Unavailable` where the system has no thread for it.
pub fn background() -> Result<&'static Handle> {
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    // Not `get_or_init` alone: starting may fail, and `get_or_try_init` is not stable.
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let started = start().map_err(no_thread)?;
    Ok(HANDLE.get_or_init(|| started))
}

/// Runs `work`, which may block, on a thread of its own; what it awaits is driven by the background. Where the system has no
/// thread for it, `work` is dropped.
pub fn spawn_thread(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let spawned = background().and_then(|background| {
        let run = move || background.block_on(work);
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(no_thread)
    });
    if let Err(error) = spawned {
        tracing::error!(%error, name, "a thread could not be started");
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the system has no thread for the storage")
        .with_hint("raise the limits on threads and open files")
        .with_source(error)
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("storage-background".to_owned())
        // A current-thread runtime drives its tasks, timers and I/O only within `block_on` of its owner.
        .spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
