//! The one storage of a process.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use storage_core::{
    DEFAULT_OPERATION_TIMEOUT, Result, StorageBackend,
    engine::{Deadline, Lifecycle},
};

use crate::{Settings, get_storage_backend, options::Options};

type Backend = Arc<dyn StorageBackend>;

static STORAGE: LazyLock<Lifecycle<Backend>> = LazyLock::new(Lifecycle::new);

/// How long one call of the storage may take, in milliseconds; 0 before there is one.
static OPERATION_TIMEOUT: AtomicU64 = AtomicU64::new(0);

/// The connected storage of this process, chosen by its environment and by a `.env` file in the working directory.
///
/// The first call builds and connects it, as work of its own: it goes on where its caller gives up or its runtime ends.
/// Callers at the same time wait and get the same one; while it is being closed they wait for that, and open a new one. A
/// failed connect can be tried again by calling again. Keep the `Arc`: it is cheaper than asking each time.
///
/// # Errors
/// As [`Settings::from_environment`], [`Settings::with_dot_env`], [`get_storage_backend`] and
/// [`StorageBackend::connect`]; `Timeout` where it takes more than twice `STORAGE_OPERATION_TIMEOUT`: it goes on.
pub async fn get_storage() -> Result<Backend> {
    if let Ok(storage) = STORAGE.value() {
        return Ok(Arc::clone(&storage));
    }
    let settings = Settings::from_environment()?.with_dot_env()?;
    let timeout = Options::parse(&settings)?.operation_timeout;
    let deadline = deadline(timeout);
    loop {
        STORAGE.connect(deadline, || open(settings.clone(), timeout)).await?;
        match STORAGE.value() {
            Ok(storage) => return Ok(Arc::clone(&storage)),
            Err(error) if deadline.has_passed() => return Err(error),
            // Somebody has closed it in between.
            Err(_) => {}
        }
    }
}

async fn open(settings: Settings, timeout: Duration) -> Result<Backend> {
    OPERATION_TIMEOUT.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let backend = get_storage_backend(&settings)?;
    backend.connect().await?;
    Ok(backend)
}

/// Ends the storage of this process: waits for writes under way and disconnects, as work of its own. The next
/// [`get_storage`] builds a new one. Where it is being closed already, it waits for that; without a storage it does nothing.
///
/// # Errors
/// What the backend said on closing; it is closed in any case. `Timeout` where it takes more than twice
/// `STORAGE_OPERATION_TIMEOUT`: it goes on.
pub async fn close_storage() -> Result<()> {
    let timeout = match OPERATION_TIMEOUT.load(Ordering::Relaxed) {
        0 => DEFAULT_OPERATION_TIMEOUT,
        millis => Duration::from_millis(millis),
    };
    STORAGE.disconnect(deadline(timeout), |storage| async move { storage.disconnect().await }).await
}

/// What connects or disconnects ends within the timeout by itself, and says why; it may have to wait for another first.
fn deadline(operation_timeout: Duration) -> Deadline {
    Deadline::after(operation_timeout.saturating_mul(2))
}
