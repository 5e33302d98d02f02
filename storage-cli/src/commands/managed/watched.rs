//! A home whose transfers a person can watch.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use indicatif::{ProgressBar, ProgressStyle};
use storage_core::Result;
use storage_managed::home::{Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version};

/// On stderr, and only where that is a terminal.
pub(super) fn progress() -> ProgressBar {
    let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// Counts what travels; everything else is the home's own.
#[derive(Debug)]
pub(super) struct Watched {
    home: Arc<dyn Home>,
    bar: ProgressBar,
}

impl Watched {
    pub(super) fn new(home: Arc<dyn Home>, bar: ProgressBar) -> Self {
        Self { home, bar }
    }
}

#[async_trait]
impl Home for Watched {
    fn name(&self) -> String {
        self.home.name()
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        let found = self.home.get(name).await;
        if let Ok(Some(object)) = &found {
            self.bar.inc_length(object.bytes.len() as u64);
            self.bar.inc(object.bytes.len() as u64);
        }
        found
    }

    async fn get_stored(&self, name: &str) -> Result<Option<Object>> {
        self.home.get_stored(name).await
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        self.home.get_if_changed(name, known).await
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        let Some((length, pieces)) = self.home.read(name, from).await? else { return Ok(None) };
        let bar = self.bar.clone();
        bar.inc_length(length.saturating_sub(from));
        let watched =
            pieces.inspect(move |piece| bar.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
        Ok(Some((length, watched.boxed())))
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        self.home.create(name, bytes, held).await
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        self.home.replace(name, bytes, expected, held).await
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { length, .. } => *length,
        };
        self.bar.inc_length(length);
        let before = AtomicU64::new(0);
        let watch = |so_far: u64| {
            self.bar.inc(so_far.saturating_sub(before.swap(so_far, Relaxed)));
            sent(so_far);
        };
        self.home.put(name, body, &watch).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.home.delete(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.home.list(prefix).await
    }

    async fn check_room(&self) -> Result<()> {
        self.home.check_room().await
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        self.home.acquire(claim).await
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        self.home.renew(held).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        self.home.release(held).await
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        self.home.holder().await
    }

    async fn unlock(&self) -> Result<()> {
        self.home.unlock().await
    }
}
