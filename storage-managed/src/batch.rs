//! Batches that wait together are one transaction and one publication.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rusqlite::Connection;
use storage_core::{
    ErrorKind,
    engine::{Combiner, Deadline, Limits, Work as Shareable, Worker, spawn_thread},
};

use crate::{
    error::{Error, Result},
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
    let lock = shared.write_lock().await;
    let mut lock = shared.noted(lock)?;
    lock.begin().await?;
    let count = works.len();
    let answers = shared.on_local(move |local| Ok(transact(&local.db, works))).await?;
    let published = lock.finish().await;
    Ok(match (answers, published) {
        (Ok(answers), Ok(_)) => answers,
        // Who failed by itself was rolled back, whatever became of the others.
        (Ok(answers), Err(error)) => {
            answers.into_iter().map(|answer| answer.and(Err(error.clone()))).collect()
        }
        (Err(error), _) => vec_of(count, &error),
    })
}

/// Runs batches in one transaction, each in a savepoint of its own.
fn transact(db: &Connection, works: Vec<Work>) -> Result<Vec<Answer>> {
    db.execute_batch("BEGIN IMMEDIATE").map_err(Error::sqlite("begin a batch"))?;
    let mut answers = Vec::with_capacity(works.len());
    for work in works {
        let answer = attempt(db, work);
        if db.is_autocommit() {
            return Err(match answer {
                // SQLite gave up the whole.
                Err(Error::Batch(source)) => Error::Sqlite { doing: "write a batch", source },
                _ => Error::Unsupported("a batch ended the transaction that others shared".to_owned()),
            });
        }
        answers.push(answer);
    }
    match db.execute_batch("COMMIT") {
        Ok(()) => Ok(answers),
        Err(error) => {
            if !db.is_autocommit() {
                db.execute_batch("ROLLBACK").map_err(Error::sqlite("roll a batch back"))?;
            }
            Err(Error::sqlite("commit a batch")(error))
        }
    }
}

fn attempt(db: &Connection, work: Work) -> Answer {
    db.execute_batch("SAVEPOINT batch").map_err(Error::sqlite("begin a batch"))?;
    let done = catch_unwind(AssertUnwindSafe(|| work(db)));
    let (answer, end) = match done {
        Ok(Ok(answer)) => (Ok(answer), "RELEASE batch"),
        Ok(Err(error)) => (Err(Error::Batch(Arc::new(error))), "ROLLBACK TO batch; RELEASE batch"),
        Err(_) => (Err(Error::Panicked), "ROLLBACK TO batch; RELEASE batch"),
    };
    if !db.is_autocommit() {
        db.execute_batch(end).map_err(Error::sqlite("end a batch"))?;
    }
    answer
}
