//! Reads of single keys: those that come together see one state of the file.
//!
//! Such a read takes some microseconds, less than handing it to another thread. Where the runtime that connected has
//! several threads, one task of it reads for all of its callers. The task does block its thread while it reads, but never
//! for long: it stops after [`BUDGET`] and leaves what remains to the readers' threads, as it does with all of it for a while
//! once the disk was found to be slow. It is the task that stands still then, not a caller: those wait on other threads of
//! the runtime, and end by their deadlines however long the disk stalls.

use std::{
    iter::repeat_with,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use storage_core::{
    Error, ErrorKind, Result,
    engine::{
        Combiner, Deadline, Entry, Guard, Home, Homes, Limits, Reply, Work, Worker, spawn_thread, task,
    },
};
use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio_util::task::TaskTracker;

use super::readers::{Reader, Readers, on_reader};
use crate::{
    SqliteConfig,
    connections::{
        file::DatabaseFile,
        open::{Role, open},
    },
    error::{Answer, Fault},
    statements::entries::{Asked, Found, Lookup, View},
};

/// How long the task reads at once before it leaves what remains to a thread, and other tasks have their time.
const BUDGET: Duration = Duration::from_millis(1);
/// A read that took longer waited for the disk, or the machine is overloaded and the runtime stands still anyway.
const SLOW: Duration = Duration::from_millis(20);
/// How long the readers' threads then take over.
const PAUSE: Duration = Duration::from_millis(250);
/// From so many callers on, reading and what they do in between take place at once.
const CROWD: usize = 8;
const LIMITS: Limits = Limits { workers: 1, items: 64, bytes: usize::MAX };

/// One caller's read.
pub(crate) struct Point {
    pub(crate) key: String,
    pub(crate) asked: Asked,
    /// `disconnect` waits for it.
    pub(crate) _guard: Guard,
}

/// The reads of the callers on one runtime, or on all others.
pub(crate) struct Points {
    file: Arc<DatabaseFile>,
    readers: Arc<Combiner<Readers>>,
    /// On which a task reads; else a thread of its own does.
    runtime: Option<Id>,
    /// For the first task; another has one opened.
    db: Mutex<Option<Connection>>,
    /// Ends when the connections are closed.
    open: TaskTracker,
}

impl Points {
    /// On the runtime that connects and elsewhere; `db` is for the task on that runtime.
    pub(crate) fn new(
        file: &Arc<DatabaseFile>,
        open: &TaskTracker,
        readers: &Arc<Combiner<Readers>>,
        db: Connection,
    ) -> Homes<Combiner<Self>> {
        let mut db = Some(db);
        Homes::new(|home| {
            let runtime = runtime_with_threads().filter(|_| home == Home::Own);
            let points = Self {
                file: Arc::clone(file),
                readers: Arc::clone(readers),
                runtime,
                db: Mutex::new(runtime.and_then(|_| db.take())),
                open: open.clone(),
            };
            Combiner::new(points, LIMITS)
        })
    }
}

/// The current runtime, where one of its threads can block and others go on.
fn runtime_with_threads() -> Option<Id> {
    let runtime = Handle::try_current().ok()?;
    let has_threads = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    (has_threads && runtime.metrics().num_workers() > 1).then(|| runtime.id())
}

impl Work for Points {
    type Item = Point;
    type Answer = Found;

    fn weight(&self, _: &Point) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        let open = worker.work().open.token();
        match worker.work().runtime {
            Some(runtime) => task::spawn(async move {
                // Declared first, so dropped last: `disconnect` finds the connection closed.
                let _open = open;
                Task::new(runtime, worker.work()).serve(worker).await;
            }),
            None => spawn_thread("storage-sqlite-points", async move {
                let _open = open;
                let file = Arc::clone(&worker.work().file);
                let mut reader = Reader::new(Arc::clone(&file));
                while let Some(group) = worker.take().await {
                    let (points, replies) = Entry::split(group);
                    replies.send(find_all(&mut reader, &file.config, &points));
                }
            }),
        }
    }
}

/// The task on the callers' runtime.
struct Task {
    runtime: Id,
    readers: Arc<Combiner<Readers>>,
    file: Arc<DatabaseFile>,
    db: Option<Connection>,
    paused_until: Instant,
}

impl Task {
    fn new(runtime: Id, points: &Points) -> Self {
        Self {
            runtime,
            readers: Arc::clone(&points.readers),
            file: Arc::clone(&points.file),
            db: points.db.lock().unwrap_or_else(PoisonError::into_inner).take(),
            paused_until: Instant::now(),
        }
    }

    async fn serve(mut self, worker: Worker<Points>) {
        let mut since = Instant::now();
        while let Some(group) = worker.take().await {
            let rest = self.read_at_once(group);
            if !rest.is_empty() {
                self.leave_to_a_thread(rest).await;
            }
            // Where nobody waits, those who were just answered come back together; else other tasks have their time.
            if worker.waiting() == 0 || since.elapsed() > BUDGET {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
    }

    /// Reads on this thread, and returns what is left to do.
    fn read_at_once(&mut self, group: Vec<Entry<Points>>) -> Vec<Entry<Points>> {
        let start = Instant::now();
        // Where the file is not in its place, the threads say so.
        let may_read = self.may_block(start) && self.file.check_for_read().is_ok();
        let Some(db) = self.db.take().filter(|_| may_read) else { return group };
        // No call that could interrupt it: a group has many callers, and a small read is short.
        let view = View { db: &db, call: None, now: self.file.config.clock.now() };
        // The first half of a crowd is answered early: its callers come back on other threads while this one goes on.
        let early = if group.len() >= CROWD { group.len() / 2 } else { group.len() };
        let mut answers = Vec::with_capacity(group.len());
        let mut group = group.into_iter();
        let mut left = Vec::new();
        let read = view.look_up(group.len(), |lookup| {
            // `by_ref`: what is not reached is left to a thread.
            for entry in group.by_ref() {
                match lookup.find(entry.item.asked, &entry.item.key) {
                    // A lock, or a connection that is lost: a thread can wait, and open another one.
                    Err(Fault::Driver(_) | Fault::Lost(_)) => {
                        left.push(entry);
                        break;
                    }
                    found => answers.push((entry.reply, found.map_err(Error::from))),
                }
                if answers.len() == early {
                    send(&mut answers);
                }
                if start.elapsed() > BUDGET {
                    break;
                }
            }
            Ok(())
        });
        send(&mut answers);
        if start.elapsed() > SLOW {
            self.paused_until = Instant::now() + PAUSE;
        }
        // A transaction that has not ended would keep its snapshot, and the log from starting anew.
        let lost = read.is_err_and(|fault| fault.loses_connection()) || !db.is_autocommit();
        self.db = (!lost).then_some(db);
        left.extend(group);
        left
    }

    /// Not where the background polls this in place of the runtime, whose only thread must not block.
    fn may_block(&self, now: Instant) -> bool {
        let here = Handle::try_current().is_ok_and(|runtime| runtime.id() == self.runtime);
        here && now >= self.paused_until
    }

    async fn leave_to_a_thread(&mut self, entries: Vec<Entry<Points>>) {
        let (points, replies) = Entry::split(entries);
        // Opened on a thread: that reads the schema and may wait for a lock.
        let (file, opens) = (Arc::clone(&self.file), self.db.is_none());
        let read = on_reader(&self.readers, Deadline::after(file.config.operation_timeout), move |reader| {
            let answers = find_all(reader, &file.config, &points);
            // Where it fails, the threads go on reading, and the next group tries again.
            let db = if opens { open(&file, Role::Inline).ok() } else { None };
            (answers, db)
        });
        match read.await {
            Ok((answers, db)) => {
                self.db = self.db.take().or(db);
                replies.send(answers);
            }
            Err(error) => replies.send(repeat_with(|| Err(error.clone()))),
        }
    }
}

/// Sends answers together: a thread that is woken for each one finds nothing more to do and goes back to sleep.
fn send(answers: &mut Vec<(Reply<Found>, Result<Found>)>) {
    answers.drain(..).for_each(|(reply, answer)| reply.send(answer));
}

/// Reads all in one state of the file.
pub(crate) fn find_all(reader: &mut Reader, config: &SqliteConfig, points: &[Point]) -> Vec<Result<Found>> {
    let read = reader.read(|db| {
        let view = View { db, call: None, now: config.clock.now() };
        view.look_up(points.len(), |lookup| points.iter().map(|point| find(lookup, point)).collect())
    });
    read.unwrap_or_else(|fault| {
        let error = Error::from(fault);
        points.iter().map(|_| Err(error.clone())).collect()
    })
}

/// What one caller is told; a fault that ends the connection is everybody's.
fn find(lookup: &mut Lookup<'_>, point: &Point) -> Answer<Result<Found>> {
    match lookup.find(point.asked, &point.key) {
        Err(fault) if fault.loses_connection() => Err(fault),
        found => Ok(found.map_err(Error::from)),
    }
}
