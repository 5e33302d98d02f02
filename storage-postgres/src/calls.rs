//! How calls are done: where they go, and how long they may take.

use std::{sync::Arc, time::Instant};

use storage_core::{
    ErrorKind, Result,
    engine::{Combiner, Deadline, wants_latest},
};

use crate::{
    backend::PostgresBackend,
    connections::{executor::Executor, freshness::Freshness},
    work::{
        connected::{To, call},
        groups::{Kind, Shared},
        queues::{Queues, submit},
    },
};

impl PostgresBackend {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.config.operation_timeout)
    }

    /// Does work that changes nothing, or nothing that matters.
    pub(crate) async fn read<T, F>(&self, work: impl FnOnce(Executor) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.call(self.deadline(), ErrorKind::Timeout, work).await
    }

    async fn call<T, F>(
        &self,
        deadline: Deadline,
        late: ErrorKind,
        work: impl FnOnce(Executor) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        call(self.lifecycle.enter()?, To::Primary, deadline, late, work).await
    }

    /// Does work that may change something.
    pub(crate) async fn write<T, F>(&self, work: impl FnOnce(Executor) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.call(self.deadline(), ErrorKind::OutcomeUnknown, work).await
    }

    /// Reads entries or partitions by name, or others: from a standby where one is near enough, else from the primary.
    pub(crate) async fn look<T, F>(&self, names: &[&str], work: impl Fn(Executor) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let deadline = self.deadline();
        if let Some(near) = self.near(names)? {
            let (begun, half) = (Instant::now(), Deadline::after(deadline.limit() / 2));
            let answer = call(self.lifecycle.enter()?, To::Near, half, ErrorKind::Timeout, &work).await;
            if let Some(answer) = near.settle(begun, answer) {
                return answer;
            }
        }
        self.call(deadline, ErrorKind::Timeout, work).await
    }

    /// [`look`](Self::look) for one entry, with others.
    pub(crate) async fn find<K: Kind<Item = String>>(
        &self,
        key: &str,
        queue: impl Fn(&Queues) -> &Combiner<Shared<K>>,
    ) -> Result<K::Answer> {
        let deadline = self.deadline();
        if let Some(near) = self.near(&[key])? {
            let (begun, half) = (Instant::now(), Deadline::after(deadline.limit() / 2));
            let answer = self.submit_to(To::Near, half, &queue, key.to_owned()).await;
            if let Some(answer) = near.settle(begun, answer) {
                return answer;
            }
        }
        self.submit_to(To::Primary, deadline, queue, key.to_owned()).await
    }

    /// Where a standby may be read from.
    fn near(&self, names: &[&str]) -> Result<Option<Arc<Freshness>>> {
        if self.config.read_url.is_none() || wants_latest() {
            return Ok(None);
        }
        let lease = self.lifecycle.enter()?;
        let near = lease.replica.as_ref().map(|replica| Arc::clone(&replica.freshness));
        Ok(near.filter(|near| near.may_read(names)))
    }

    /// The names of what is about to be written, for [`wrote`](Self::wrote); none where nobody needs them.
    pub(crate) fn names<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<String> {
        if self.config.read_url.is_some() { names.map(str::to_owned).collect() } else { Vec::new() }
    }

    /// What `write` answers; what it wrote is read from the primary for a while.
    pub(crate) async fn wrote<T>(&self, names: &[impl AsRef<str>], write: impl Future<Output = T>) -> T {
        let answer = write.await;
        if self.config.read_url.is_some()
            && let Ok(lease) = self.lifecycle.enter()
            && let Some(replica) = &lease.replica
        {
            names.iter().for_each(|name| replica.freshness.wrote(name.as_ref()));
        }
        answer
    }

    /// Does what callers share.
    pub(crate) async fn submit<K: Kind>(
        &self,
        queue: impl FnOnce(&Queues) -> &Combiner<Shared<K>>,
        item: K::Item,
    ) -> Result<K::Answer> {
        self.submit_to(To::Primary, self.deadline(), queue, item).await
    }

    async fn submit_to<K: Kind>(
        &self,
        to: To,
        deadline: Deadline,
        queue: impl FnOnce(&Queues) -> &Combiner<Shared<K>>,
        item: K::Item,
    ) -> Result<K::Answer> {
        let lease = self.lifecycle.enter()?;
        let queues = Arc::clone(&lease.at(to).queues);
        submit(queue(&queues), item, lease.into(), deadline).await
    }
}
