//! The home as a process sees it that is stopped for a while, as by SIGSTOP or a suspended machine: no request of it leaves, and
//! it learns of no answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use storage_core::Result;
use storage_managed::home::{Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version};

#[derive(Debug)]
pub(crate) struct Stoppable {
    home: Arc<dyn Home>,
    stopped: AtomicBool,
}

impl Stoppable {
    pub(crate) fn new(home: Arc<dyn Home>) -> Arc<Self> {
        Arc::new(Self { home, stopped: AtomicBool::new(false) })
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    pub(crate) fn go_on(&self) {
        self.stopped.store(false, SeqCst);
    }

    async fn awake(&self) {
        while self.stopped.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn around<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.awake().await;
        let done = work.await;
        self.awake().await;
        done
    }
}

#[async_trait]
impl Home for Stoppable {
    fn name(&self) -> String {
        self.home.name()
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        self.around(self.home.get(name)).await
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        self.around(self.home.get_if_changed(name, known)).await
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        self.around(self.home.read(name, from)).await
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        self.around(self.home.create(name, bytes, held)).await
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        self.around(self.home.replace(name, bytes, expected, held)).await
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        self.around(self.home.put(name, body, sent)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.around(self.home.delete(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.around(self.home.list(prefix)).await
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        self.around(self.home.acquire(claim)).await
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        self.around(self.home.renew(held)).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        self.around(self.home.release(held)).await
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        self.around(self.home.holder()).await
    }

    async fn unlock(&self) -> Result<()> {
        self.around(self.home.unlock()).await
    }
}
