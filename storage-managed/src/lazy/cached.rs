//! A home behind its cache on disk.

use std::{fs::File, sync::Arc};

use super::{blocks::Blocks, objects::Objects, options::ReplicaOptions, source::Source};
use crate::{
    cache::Paths,
    error::{Error, Result},
    home::Home,
};

#[derive(Debug)]
pub(super) struct CachedHome {
    pub(super) source: Source,
    pub(super) objects: Objects,
    pub(super) blocks: Blocks,
    /// Held as long as the cache is used.
    _lock: File,
}

impl CachedHome {
    /// Takes the cache folder, and reads what is in it. Blocks.
    pub(super) fn open(home: Arc<dyn Home>, options: &ReplicaOptions) -> Result<Self> {
        let folder = &options.cache;
        let lock = Paths::new(folder).lock(options.cache_wait)?;
        let (pages, objects) = (folder.join("pages"), folder.join("objects"));
        Ok(Self {
            source: Source::new(home, options.retry, options.fetch_timeout),
            objects: Objects::new(objects.clone()).map_err(Error::io("create", objects))?,
            blocks: Blocks::open(&pages, options.cache_bytes).map_err(Error::io("open", pages))?,
            _lock: lock,
        })
    }
}
