//! Running one case: a runtime and a namespace of its own.

use std::{future::Future, sync::Arc, time::Duration};

use storage_core::StorageBackend;

/// No case takes this long on a store that keeps its deadlines.
const LIMIT: Duration = Duration::from_secs(120);

type Open = Arc<dyn Fn(&str) -> Arc<dyn StorageBackend> + Send + Sync>;

/// The backend under test, and the namespace of the case.
#[derive(Clone)]
pub struct Subject {
    open: Open,
    namespace: String,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Subject {
    /// A new, unconnected handle on the namespace of the case.
    #[must_use]
    pub fn open(&self) -> Arc<dyn StorageBackend> {
        (self.open)(&self.namespace)
    }

    /// A new handle, connected.
    pub async fn connected(&self) -> Arc<dyn StorageBackend> {
        let backend = self.open();
        backend.connect().await.expect("the backend under test connects");
        backend
    }

    /// The same backend in another namespace.
    #[must_use]
    pub fn elsewhere(&self) -> Self {
        Self { open: Arc::clone(&self.open), namespace: unique("elsewhere") }
    }
}

/// A namespace that nobody used before, of at most 60 bytes.
fn unique(name: &str) -> String {
    let short: String = name.chars().take(40).collect();
    format!("{short}_{:012x}", fastrand::u64(..) >> 16)
}

/// Runs one case on a runtime of its own; used by the macros.
pub fn run_case<O, C, F>(name: &str, open: O, case: C)
where
    O: Fn(&str) -> Arc<dyn StorageBackend> + Send + Sync + 'static,
    C: FnOnce(Subject) -> F,
    F: Future<Output = ()>,
{
    let subject = Subject { open: Arc::new(open), namespace: unique(name) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, case(subject)).await.expect("the case ends within its limit");
    });
    // Work that a store left in the background must not keep the test from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
}
