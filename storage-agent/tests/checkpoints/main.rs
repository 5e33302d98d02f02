//! Checkpoints in memory: the cases that hold on every store, and what is tested in memory alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[macro_use]
mod cases;
mod counters;
#[path = "../support/counting.rs"]
mod counting;
mod large;
mod model;
mod size;
mod warned;

use std::sync::Arc;

use storage_core::{MemoryBackend, StorageBackend};

async fn memory() -> Arc<dyn StorageBackend> {
    let storage = Arc::new(MemoryBackend::new());
    storage.connect().await.unwrap();
    storage
}

fn open(_name: &str) -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new())
}

checkpoint_cases!((crate::cases), (crate::open));
