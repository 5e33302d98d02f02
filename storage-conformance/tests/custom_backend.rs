//! The backend of the README's section "A backend of your own" passes the basic level. The part between the two marks
//! stands in the README word for word; a test in `tests/` compares them.
#![allow(clippy::unwrap_used, reason = "a poisoned lock fails the test")]

// --- README: begin
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use storage_core::{
    DEFAULT_MAX_VALUE_BYTES, Error, ErrorKind, Glob, Json, Result, StorageBackend, check_entry, check_key,
};

/// Entries on a shelf: the seven methods, and everything else comes with them.
#[derive(Debug, Default)]
struct Shelf {
    open: AtomicBool,
    entries: Mutex<BTreeMap<String, (Json, Option<Instant>)>>,
}

impl Shelf {
    /// Runs `work` on the entries that have not expired.
    fn with<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut BTreeMap<String, (Json, Option<Instant>)>) -> T,
    ) -> Result<T> {
        if !self.open.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::NotConnected, "the shelf is closed").at("shelf", operation));
        }
        let mut entries = self.entries.lock().unwrap();
        let now = Instant::now();
        entries.retain(|_, (_, expires_at)| expires_at.is_none_or(|at| now < at));
        Ok(work(&mut entries))
    }
}

#[async_trait]
impl StorageBackend for Shelf {
    async fn connect(&self) -> Result<()> {
        self.open.store(true, Ordering::Release);
        Ok(())
    }

    async fn disconnect(&self) -> Result<()> {
        self.open.store(false, Ordering::Release);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        check_key(key).map_err(|error| error.at("shelf", "get"))?;
        self.with("get", |entries| entries.get(key).map(|(value, _)| value.clone()))
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let ttl = check_entry(key, &value, ttl, DEFAULT_MAX_VALUE_BYTES)
            .map_err(|error| error.at("shelf", "set"))?;
        let expires_at = ttl.map(|millis| Instant::now() + Duration::from_millis(millis));
        self.with("set", |entries| drop(entries.insert(key.to_owned(), (value, expires_at))))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        check_key(key).map_err(|error| error.at("shelf", "delete"))?;
        self.with("delete", |entries| entries.remove(key).is_some())
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        check_key(key).map_err(|error| error.at("shelf", "exists"))?;
        self.with("exists", |entries| entries.contains_key(key))
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let glob = Glob::new(pattern).map_err(|error| error.at("shelf", "keys"))?;
        self.with("keys", |entries| entries.keys().filter(|key| glob.matches(key)).cloned().collect())
    }
}

storage_conformance::basic!(|_namespace: &str| -> Arc<dyn StorageBackend> { Arc::new(Shelf::default()) });
// --- README: end
