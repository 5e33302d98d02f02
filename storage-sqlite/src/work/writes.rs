//! Writes that wait together are committed together, by one thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Combiner, Entry, Guard, Limits, Replies, Work, Worker, spawn_thread},
};
use tokio_util::task::TaskTracker;

use super::checkpoints::{Checkpoints, Wal};
use crate::{
    Publisher,
    call::Call,
    connections::{
        file::DatabaseFile,
        open::{Role, busy_limit, open},
    },
    error::{Answer, Fault, commit_fault, lost, not_in_place},
    statements::entries::View,
};

/// A transaction of this many bytes takes milliseconds, and that is what a small write waits behind large ones.
const LIMITS: Limits = Limits { workers: 1, items: 1_024, bytes: 1024 * 1024 };

/// One caller's write.
pub(crate) struct Write {
    pub(crate) call: Arc<Call>,
    /// Roughly how many bytes it writes.
    pub(crate) weight: usize,
    pub(crate) steps: Steps,
    pub(crate) work: Box<Statements>,
    /// `disconnect` waits for it.
    pub(crate) _guard: Guard,
}

/// What a write does; what it answers is a number (a count, a sum, 1 for yes). It may be done again where the transaction
/// was undone.
pub(crate) type Statements = dyn Fn(&View<'_>) -> Answer<i64> + Send + Sync;

/// Whether SQLite undoes a failed write by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// It changes rows with one statement at most.
    One,
    /// It needs a savepoint.
    Many,
}

/// The one writer.
pub(crate) struct Writes {
    file: Arc<DatabaseFile>,
    checkpoints: Arc<Combiner<Checkpoints>>,
    wal: Arc<Wal>,
    /// For the first thread; another opens its own.
    db: Mutex<Option<Connection>>,
    /// Ends when the connection is closed.
    open: TaskTracker,
}

impl Writes {
    pub(crate) fn new(
        file: &Arc<DatabaseFile>,
        db: Option<Connection>,
        (wal, checkpoints): (Arc<Wal>, Arc<Combiner<Checkpoints>>),
        open: &TaskTracker,
    ) -> Combiner<Self> {
        let (file, db) = (Arc::clone(file), Mutex::new(db));
        let writes = Self { file, checkpoints, wal, db, open: open.clone() };
        Combiner::new(writes, LIMITS)
    }
}

impl Work for Writes {
    type Item = Write;
    type Answer = i64;

    fn weight(&self, write: &Write) -> usize {
        write.weight
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }

    fn start(worker: Worker<Self>) {
        let open = worker.work().open.token();
        spawn_thread("storage-sqlite-writer", async move {
            // Declared first, so dropped last: `disconnect` finds the connection closed.
            let _open = open;
            let db = worker.work().db.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut writer = Writer { db };
            while let Some(group) = worker.take().await {
                let (writes, replies) = Entry::split(group);
                writer.answer(worker.work(), writes, replies).await;
            }
        });
    }
}

/// The writer's connection; `None` is one that has to be opened again.
struct Writer {
    db: Option<Connection>,
}

impl Writer {
    async fn answer(&mut self, work: &Writes, writes: Vec<Write>, replies: Replies<i64>) {
        let answers = match &work.file.config.publisher {
            None => self.commit(work, &writes),
            Some(publisher) => self.publish(publisher, work, &writes).await,
        };
        // The guards go first: who has an answer may disconnect.
        drop(writes);
        match answers {
            Some(answers) => replies.send(answers),
            // Each call knows how far it had come.
            None => drop(replies),
        }
        // After the answers: the last pass of a checkpoint syncs the file, and none of these callers need wait for that.
        if let Some(db) = &self.db {
            work.wal.committed(db, &work.file, &work.checkpoints);
        }
    }

    /// Writes within a publication: no answer before what was committed is published.
    async fn publish(
        &mut self,
        publisher: &Arc<dyn Publisher>,
        work: &Writes,
        writes: &[Write],
    ) -> Option<Vec<Result<i64>>> {
        let publication = match publisher.begin().await {
            Ok(publication) => publication,
            Err(error) => return Some(vec![Err(error); writes.len()]),
        };
        let answers = self.commit(work, writes);
        // Also where a panic came in between: a publication has to end, and may find something committed.
        let published = publication.finish().await;
        let answers = answers?.into_iter().map(|answer| match &published {
            Ok(()) => answer,
            // `and`: a write that failed by itself keeps its own error.
            Err(error) => answer.and(Err(error.clone())),
        });
        Some(answers.collect())
    }

    /// `None` where a panic came in between.
    fn commit(&mut self, work: &Writes, writes: &[Write]) -> Option<Vec<Result<i64>>> {
        let opened = self.db.take().map_or_else(|| open(&work.file, Role::Writer), Ok);
        let db = match opened {
            Ok(db) => db,
            Err(fault) => return Some(vec![Err(Error::from(fault)); writes.len()]),
        };
        // A panic would end the thread: the next group needs none but a new connection.
        let done = catch_unwind(AssertUnwindSafe(|| commit(&db, &work.file, writes)));
        let (answers, loses_connection) = done.ok()?;
        self.db = (!loses_connection && db.is_autocommit()).then_some(db);
        Some(answers)
    }
}

/// One write of a transaction, and what has become of it: nothing yet, done, or failed for good.
struct Member<'a> {
    write: &'a Write,
    answer: Option<Result<i64>>,
}

impl Member<'_> {
    fn is_done(&self) -> bool {
        matches!(self.answer, Some(Ok(_)))
    }

    fn done(&self) -> Option<&Call> {
        self.is_done().then_some(&*self.write.call)
    }
}

/// How a transaction ended.
enum End {
    /// Each member has its answer.
    Answered,
    /// It was undone because of a member, who now has its answer; the others have to be done again.
    Undone,
}

/// Commits writes in one transaction that holds the write lock from its start. Returns an answer for each, and whether
/// the connection has to be opened again.
pub(crate) fn commit(db: &Connection, file: &DatabaseFile, writes: &[Write]) -> (Vec<Result<i64>>, bool) {
    let mut members: Vec<_> = writes.iter().map(|write| Member { write, answer: None }).collect();
    let mut loses_connection = false;
    // Each round but the last answers at least one member.
    loop {
        let end = transact(db, file, &mut members, &mut loses_connection);
        if !db.is_autocommit() && db.execute_batch("ROLLBACK").is_err() {
            loses_connection = true;
        }
        let fault = match end {
            Ok(End::Answered) => break,
            Ok(End::Undone) if db.is_autocommit() => None,
            Ok(End::Undone) => Some(lost()),
            Err(fault) => Some(fault),
        };
        members.iter_mut().filter(|member| member.is_done()).for_each(|member| member.answer = None);
        if let Some(fault) = fault {
            loses_connection |= fault.loses_connection();
            let error = Error::from(fault);
            for member in &mut members {
                member.answer.get_or_insert_with(|| Err(error.clone()));
            }
            break;
        }
    }
    let answers = members.into_iter().map(|member| member.answer.unwrap_or_else(|| Err(lost().into())));
    (answers.collect(), loses_connection)
}

/// One transaction of the members that have no answer yet. An error is everybody's who did not fail by itself.
fn transact(
    db: &Connection,
    file: &DatabaseFile,
    members: &mut [Member<'_>],
    loses_connection: &mut bool,
) -> Answer<End> {
    refuse_abandoned(members);
    let waiting = members.iter().filter(|member| member.answer.is_none());
    // As long as the most patient one: the others are refused once the lock is there.
    let (count, patience) = waiting.fold((0, None), |(count, patience), member| {
        (count + 1, patience.max(Some(member.write.call.deadline().remaining())))
    });
    let Some(patience) = patience else { return Ok(End::Answered) };
    db.busy_timeout(busy_limit(file.config.busy_timeout.min(patience)))?;
    // IMMEDIATE: a transaction that reads and then writes fails with SQLITE_BUSY_SNAPSHOT, whatever the busy timeout.
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    file.check()?;
    // It may have waited for another process: who gave up meanwhile is not begun.
    refuse_abandoned(members);
    // After the wait for the lock: what expired meanwhile has expired.
    let now = file.config.clock.now();
    for member in members.iter_mut().filter(|member| member.answer.is_none()) {
        let view = View { db, call: Some(&member.write.call), now };
        let answer = match member.write.call.during(|| attempt(&view, member.write, count > 1)) {
            // After some errors SQLite has rolled back by itself.
            Ok(_) if db.is_autocommit() => Err(lost()),
            answer => answer,
        };
        let lost = answer.as_ref().is_err_and(Fault::loses_connection);
        *loses_connection |= lost;
        member.answer = Some(answer.map_err(Error::from));
        if lost || db.is_autocommit() {
            return Ok(End::Undone);
        }
    }
    end(db, file, members)
}

/// Those whose callers have given up need not be begun.
fn refuse_abandoned(members: &mut [Member<'_>]) {
    for member in members.iter_mut().filter(|member| member.answer.is_none()) {
        member.answer = member.write.call.check().err().map(Err);
    }
}

/// Does one write, whole or not at all.
fn attempt(view: &View<'_>, write: &Write, in_company: bool) -> Answer<i64> {
    // The transaction of a lone write is savepoint enough.
    if write.steps == Steps::One || !in_company {
        return (write.work)(view);
    }
    view.db.prepare_cached("SAVEPOINT one")?.execute([])?;
    let answer = (write.work)(view);
    if answer.is_err() && !view.db.is_autocommit() {
        view.db.prepare_cached("ROLLBACK TO one")?.execute([]).map_err(|_| lost())?;
    }
    if !view.db.is_autocommit() {
        view.db.prepare_cached("RELEASE one")?.execute([]).map_err(|_| lost())?;
    }
    answer
}

/// Commits what was done, unless a caller who gave up in the meantime was told that nothing was applied.
fn end(db: &Connection, file: &DatabaseFile, members: &mut [Member<'_>]) -> Answer<End> {
    let mut undone = false;
    for member in members.iter_mut() {
        if let Some(Err(error)) = member.done().map(Call::begin_commit) {
            member.answer = Some(Err(error));
            undone = true;
        }
    }
    if undone {
        members.iter().filter_map(Member::done).for_each(Call::put_off_commit);
        return Ok(End::Undone);
    }
    if members.iter().any(Member::is_done) {
        db.prepare_cached("COMMIT")?.execute([]).map_err(commit_fault)?;
        // It may be in a file, or in a log, that nobody finds any more.
        file.check().map_err(|error| not_in_place(&error))?;
    }
    Ok(End::Answered)
}
