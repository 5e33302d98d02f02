//! The memory backend keeps the whole contract.

use std::sync::Arc;

use storage_core::{MemoryBackend, StorageBackend};

fn open(_namespace: &str) -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new())
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
