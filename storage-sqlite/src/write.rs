//! Writes that wait together are committed together.

use std::sync::Arc;

use storage_core::{Error, ErrorKind, Group, Lease, Result};
use tokio_rusqlite::rusqlite::Connection;

use crate::{
    Publisher, SqliteConfig,
    call::Call,
    checkpoint::Log,
    error::{Answer, Fault, commit_fault},
    pool::{Pool, lost},
    schema::busy_limit,
    sql::View,
    store::Connected,
};

/// One caller's write.
pub(crate) struct Write {
    pub(crate) call: Arc<Call>,
    /// Roughly how many bytes it writes.
    pub(crate) weight: usize,
    pub(crate) steps: Steps,
    pub(crate) work: Box<Work>,
    /// `disconnect` waits for it.
    pub(crate) _lease: Lease<Connected>,
}

/// What a write does; what it answers is a number (a count, a sum, 1 for yes). It may be done again where the transaction
/// was undone.
pub(crate) type Work = dyn Fn(&View<'_>) -> Answer<i64> + Send + Sync;

/// Whether SQLite undoes a failed write by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// It changes rows with one statement at most.
    One,
    /// It needs a savepoint.
    Many,
}

/// The one writer, as a group of those who wait for it.
pub(crate) struct Writes {
    pub(crate) writer: Arc<Pool>,
    pub(crate) config: Arc<SqliteConfig>,
    /// Told of what is committed.
    pub(crate) log: Arc<Log>,
}

impl Group for Writes {
    type Item = Write;
    type Answer = i64;

    async fn run(&self, writes: Vec<Write>) -> Vec<Result<i64>> {
        let writes: Arc<[Write]> = writes.into();
        let visit = self.visit(Arc::clone(&writes));
        let Some(publisher) = &self.config.publisher else { return visit.await };
        let count = writes.len();
        // In a task of its own: what is committed is published also where nobody waits for it any more.
        let published = tokio::spawn(published(Arc::clone(publisher), visit, writes)).await;
        published.unwrap_or_else(|_| {
            vec![Err(Error::new(ErrorKind::OutcomeUnknown, "the publication was interrupted")); count]
        })
    }

    fn weight(&self, write: &Write) -> usize {
        write.weight
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }
}

impl Writes {
    fn visit(&self, writes: Arc<[Write]>) -> impl Future<Output = Vec<Result<i64>>> + Send + 'static {
        let (writer, config) = (Arc::clone(&self.writer), Arc::clone(&self.config));
        let log = Arc::clone(&self.log);
        async move {
            let count = writes.len();
            // The leases live as long as the visit, also where nobody waits for it any more.
            let visit = writer.borrow(Arc::clone(&writes), move |db| {
                let answers = commit(db, &config, &writes);
                log.committed();
                answers
            });
            match visit.await {
                Ok(answers) => answers,
                Err(fault) => vec![Err(fault.into()); count],
            }
        }
    }
}

/// Writes during a publisher's turn: no answer before what was committed is published.
async fn published(
    publisher: Arc<dyn Publisher>,
    visit: impl Future<Output = Vec<Result<i64>>> + Send,
    writes: Arc<[Write]>,
) -> Vec<Result<i64>> {
    let turn = match publisher.begin().await {
        Ok(turn) => turn,
        Err(error) => return vec![Err(error); writes.len()],
    };
    let answers = visit.await;
    match turn.finish().await {
        Ok(()) => answers,
        Err(error) => answers.into_iter().map(|answer| answer.and(Err(error.clone()))).collect(),
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
pub(crate) fn commit(db: &Connection, config: &SqliteConfig, writes: &[Write]) -> (Vec<Result<i64>>, bool) {
    let mut members: Vec<_> = writes.iter().map(|write| Member { write, answer: None }).collect();
    let mut loses_connection = false;
    // Each round but the last answers at least one member.
    loop {
        let end = transact(db, config, &mut members, &mut loses_connection);
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
    config: &SqliteConfig,
    members: &mut [Member<'_>],
    loses_connection: &mut bool,
) -> Answer<End> {
    refuse_abandoned(members);
    let waiting = members.iter().filter(|member| member.answer.is_none());
    let (count, patience) = waiting.fold((0, None), |(count, patience), member| {
        (count + 1, patience.max(Some(member.write.call.remaining())))
    });
    let Some(patience) = patience else { return Ok(End::Answered) };
    db.busy_timeout(busy_limit(config.busy_timeout.min(patience)))?;
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    refuse_abandoned(members);
    let now = config.clock.now();
    for member in members.iter_mut().filter(|member| member.answer.is_none()) {
        let view = View { db, call: Some(&member.write.call), now };
        let answer = match attempt(&view, member.write, count > 1) {
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
    end(db, members)
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
fn end(db: &Connection, members: &mut [Member<'_>]) -> Answer<End> {
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
    }
    Ok(End::Answered)
}
