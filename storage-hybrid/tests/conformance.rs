//! Two memory backends behind one routing table keep the whole contract; real stores are tested in `tests/`.

use std::sync::Arc;

use storage_core::{MemoryBackend, StorageBackend};
use storage_hybrid::{HybridBackend, Routes};

fn open(_namespace: &str) -> Arc<dyn StorageBackend> {
    let (durable, ephemeral) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
    Arc::new(HybridBackend::new(durable, ephemeral, Routes::default()))
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
