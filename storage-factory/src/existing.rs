//! Stores that are there already.

use std::sync::Arc;

use storage_core::{Result, StorageBackend};

use crate::{Settings, StorageType, managed, options::Options, resolve::build, storage_type};

/// Connects to the store that the settings ask for where it is there already, and makes nothing: no folder, file, table or
/// home. A program that only reads is told so of a store that is misspelt, instead of finding a new and empty one.
/// [`StorageBackend::connect`] makes what is not there, and so does `storage init`.
///
/// # Errors
/// `Config` where there is no store, and as [`get_storage_backend`](crate::get_storage_backend); what connecting answers.
pub async fn connect_existing(settings: &Settings) -> Result<Arc<dyn StorageBackend>> {
    let options = Options { create: false, ..Options::parse(settings)? };
    let backend = build(settings, &options)?;
    if storage_type(settings)? == StorageType::Sqlite {
        managed::check_exists(settings, &options)
            .await
            .map_err(|error| error.at(backend.name(), "connect"))?;
    }
    backend.connect().await?;
    Ok(backend)
}
