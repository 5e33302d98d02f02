//! The one storage of a process.

use std::sync::Arc;

use storage_core::{Result, StorageBackend};
use tokio::sync::Mutex;

use crate::{Settings, get_storage_backend};

static STORAGE: Mutex<Option<Arc<dyn StorageBackend>>> = Mutex::const_new(None);

/// The connected storage of this process, chosen by its environment.
///
/// The first call builds and connects it; callers at the same time wait and get the same one. A failed connect can be
/// tried again by calling again. Keep the `Arc`: it is cheaper than asking each time. Its background work belongs to the
/// tokio runtime of the first caller.
///
/// # Errors
/// As [`Settings::from_environment`], [`get_storage_backend`] and [`StorageBackend::connect`].
pub async fn get_storage() -> Result<Arc<dyn StorageBackend>> {
    let mut storage = STORAGE.lock().await;
    if let Some(connected) = &*storage {
        return Ok(Arc::clone(connected));
    }
    let backend = get_storage_backend(&Settings::from_environment()?)?;
    backend.connect().await?;
    *storage = Some(Arc::clone(&backend));
    Ok(backend)
}

/// Ends the storage of this process: waits for writes under way and disconnects. The next [`get_storage`] builds a new
/// one. Without one it does nothing.
///
/// # Errors
/// What the backend said on closing; it is closed in any case.
pub async fn close_storage() -> Result<()> {
    // Held throughout, so that a new storage is not opened on a file that is still being closed.
    let mut storage = STORAGE.lock().await;
    match storage.take() {
        Some(connected) => connected.disconnect().await,
        None => Ok(()),
    }
}
