//! Batches that wait together are one publication, each a transaction of its own.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rusqlite::Connection;
use storage_core::{
    ErrorKind,
    engine::{Combiner, Deadline, Limits, Work as Shareable, Worker, spawn_thread},
};

use crate::{
    error::{Error, Result},
    local::Local,
    shared::Shared,
};

pub(crate) type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<Box<dyn Any + Send>> + Send>;
type Answer = Result<Box<dyn Any + Send>>;

/// Batches of one publication.
const TOGETHER: Limits = Limits { workers: 1, items: 1_024, bytes: usize::MAX };

/// The writer: a thread that takes what waits, so that what is committed is published also where nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Batches(Arc<Shared>);

impl Batches {
    pub(crate) fn new(shared: &Arc<Shared>) -> Combiner<Self> {
        Combiner::new(Self(Arc::clone(shared)), TOGETHER)
    }

    async fn run(&self, works: Vec<Work>) -> Vec<storage_core::Result<Answer>> {
        let count = works.len();
        let answers = write(&self.0, works).await.unwrap_or_else(|error| vec_of(count, &error));
        answers.into_iter().map(Ok).collect()
    }
}

/// Does a batch with those that wait. The home limits what it waits for.
pub(crate) async fn submit(batches: &Combiner<Batches>, work: Work) -> Answer {
    batches.submit(work, Deadline::never()).await.map_err(|error| match error.kind() {
        ErrorKind::NotConnected => Error::Closed,
        // The writer ended within it.
        ErrorKind::OutcomeUnknown => Error::Panicked,
        _ => Error::Home(error),
    })?
}

impl Shareable for Batches {
    type Item = Work;
    type Answer = Answer;

    fn start(worker: Worker<Self>) {
        let run = async |batches: &Self, works| batches.run(works).await;
        spawn_thread("storage-managed-writer", worker.serve(run));
    }

    fn weight(&self, _work: &Work) -> usize {
        0
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }
}

fn vec_of(count: usize, error: &Error) -> Vec<Answer> {
    (0..count).map(|_| Err(error.clone())).collect()
}

async fn write(shared: &Arc<Shared>, works: Vec<Work>) -> Result<Vec<Answer>> {
    let lock = shared.begin_batches().await?;
    let answers = shared.on_local(move |local| Ok(local.run(works))).await?;
    match lock.end_batches().await {
        Ok(()) => Ok(answers),
        // Who failed by itself was rolled back, whatever became of the others.
        Err(error) => Ok(answers.into_iter().map(|answer| answer.and(Err(error.clone()))).collect()),
    }
}

impl Local {
    /// Runs batches, each in a transaction of its own: what only the end of the transaction shows, as a deferred foreign key
    /// that is broken, fails the one that did it.
    fn run(&mut self, works: Vec<Work>) -> Vec<Answer> {
        works.into_iter().map(|work| self.attempt(work)).collect()
    }

    fn attempt(&self, work: Work) -> Answer {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(Error::sqlite("begin a batch"))?;
        self.in_batch.store(true, Relaxed);
        let done = catch_unwind(AssertUnwindSafe(|| work(&self.db)));
        self.in_batch.store(false, Relaxed);
        let done = match done {
            Ok(done) => done.map_err(|error| Error::Batch(Arc::new(error))),
            Err(_) => Err(Error::Panicked),
        };
        let done = done.and_then(|answer| match self.db.is_autocommit() {
            // As `INSERT OR ROLLBACK` does.
            true => Err(Error::Unsupported("the batch ended its own transaction".to_owned())),
            false => Ok(answer),
        });
        let done = done.and_then(|answer| match self.db.execute_batch("COMMIT") {
            Ok(()) => Ok(answer),
            Err(error) => Err(Error::Batch(Arc::new(error))),
        });
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK").map_err(Error::sqlite("roll a batch back"))?;
        }
        done
    }
}
