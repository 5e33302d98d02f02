//! The store that the demo runs on.

use std::sync::Arc;

use storage_core::StorageBackend;

use crate::failure::{Failure, Result, STORE};

pub(super) type Storage = Arc<dyn StorageBackend>;

/// What the demo promises; a store that breaks it fails the demo.
pub(super) fn promise(kept: bool, what: &str) -> Result<()> {
    if kept {
        return Ok(());
    }
    Err(Failure::new(STORE, "broken_promise", format!("the store broke a promise: {what}")))
}
