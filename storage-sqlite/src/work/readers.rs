//! Threads that read: each has a connection of its own, and does one thing at a time.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Combiner, Deadline, Limits, Work, Worker, spawn_thread},
};
use tokio_util::task::TaskTracker;

use crate::{
    connections::{
        file::DatabaseFile,
        open::{Role, open},
    },
    error::{Answer, Fault},
};

/// What a thread is asked to do.
type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// The threads.
pub(crate) struct Readers {
    file: Arc<DatabaseFile>,
    /// Ends when the connections are closed.
    open: TaskTracker,
}

/// A thread's connection, opened when it is first needed and again when it is lost.
pub(crate) struct Reader {
    file: Arc<DatabaseFile>,
    db: Option<Connection>,
}

impl Readers {
    /// As many threads as the configuration says, started as they are needed.
    pub(crate) fn new(file: &Arc<DatabaseFile>, open: &TaskTracker) -> Combiner<Self> {
        let readers = Self { file: Arc::clone(file), open: open.clone() };
        Combiner::new(readers, Limits { workers: file.config.readers, items: 1, bytes: usize::MAX })
    }
}

impl Work for Readers {
    type Item = Job;
    type Answer = ();

    fn weight(&self, _: &Job) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        let (file, open) = (Arc::clone(&worker.work().file), worker.work().open.token());
        spawn_thread("storage-sqlite-reader", async move {
            // Declared first, so dropped last: `disconnect` finds the connection closed.
            let _open = open;
            let mut reader = Reader::new(file);
            while let Some(group) = worker.take().await {
                for entry in group {
                    // A panic is its caller's, whose reply is dropped with it.
                    if catch_unwind(AssertUnwindSafe(|| (entry.item)(&mut reader))).is_ok() {
                        entry.reply.send(Ok(()));
                    } else {
                        reader.db = None;
                    }
                }
            }
        });
    }
}

/// Lets a thread do `job`, which runs to its end even where the caller goes away.
pub(crate) async fn on_reader<T: Send + 'static>(
    readers: &Combiner<Readers>,
    deadline: Deadline,
    job: impl FnOnce(&mut Reader) -> T + Send + 'static,
) -> Result<T> {
    // A place of its own: jobs of any type share one queue, whose answers have one type.
    let answer = Arc::new(Mutex::new(None));
    let place = Arc::clone(&answer);
    let job = move |reader: &mut Reader| {
        let answer = job(reader);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    };
    readers.submit(Box::new(job), deadline).await?;
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the read was interrupted"))
}

impl Reader {
    pub(crate) fn new(file: Arc<DatabaseFile>) -> Self {
        Self { file, db: None }
    }

    /// Does `work` on the connection; once more on a new one where that turns out to be lost.
    pub(crate) fn read<T>(&mut self, work: impl Fn(&Connection) -> Answer<T>) -> Answer<T> {
        match self.try_read(&work) {
            Err(fault) if fault.loses_connection() => self.try_read(&work),
            answer => answer,
        }
    }

    fn try_read<T>(&mut self, work: impl Fn(&Connection) -> Answer<T>) -> Answer<T> {
        self.file.check_for_read()?;
        let db = match self.db.take() {
            Some(db) => db,
            None => open(&self.file, Role::Reader)?,
        };
        let answer = work(&db);
        // A transaction that has not ended would keep its snapshot, and the log from starting anew.
        let lost = answer.as_ref().is_err_and(Fault::loses_connection) || !db.is_autocommit();
        self.db = (!lost).then_some(db);
        answer
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}
