//! Homes of each kind, empty, and reached by as many clients as a case wants.

use std::path::Path;

use storage_managed::home::{FolderHome, Home};

/// Makes one more client of one home, as another process would.
pub(crate) type Store = Box<dyn Fn() -> Box<dyn Home> + Send + Sync>;

pub(crate) fn folder() -> Store {
    let folder = tempfile::tempdir().unwrap();
    Box::new(move || Box::new(folder_home(folder.path())))
}

/// The same home behind encryption, each client with keys of its own reading.
#[cfg(feature = "encryption")]
pub(crate) fn encrypted(store: Store) -> Store {
    use storage_managed::home::{EncryptedHome, Keys};
    let line = Keys::generate("2026a").unwrap();
    Box::new(move || Box::new(EncryptedHome::new(store().into(), Keys::parse(&line).unwrap())))
}

#[cfg(feature = "encryption")]
pub(crate) fn encrypted_folder() -> Store {
    encrypted(folder())
}

fn folder_home(folder: &Path) -> FolderHome {
    FolderHome::new(folder.join("agent"))
}

/// A prefix that no other test has.
#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
pub(crate) fn prefix() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("test/{}-{count}", std::process::id())
}

/// How long a request may take, on a busy machine too.
#[cfg(any(feature = "azure", feature = "s3"))]
pub(crate) const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

#[cfg(feature = "azure")]
pub(crate) async fn azure() -> Store {
    use crate::azure::{home, url};
    let prefix = prefix();
    home(&url(), &prefix).create_container().await.unwrap();
    Box::new(move || Box::new(home(&url(), &prefix)))
}

#[cfg(feature = "s3")]
pub(crate) fn s3() -> Store {
    use crate::s3::{home, url};
    let prefix = prefix();
    Box::new(move || Box::new(home(&url(), &prefix)))
}

#[cfg(feature = "gcs")]
pub(crate) fn gcs() -> Store {
    use crate::gcs::{home, url};
    let prefix = prefix();
    Box::new(move || Box::new(home(&url(), &prefix)))
}
