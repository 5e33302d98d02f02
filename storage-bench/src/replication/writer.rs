//! The same writes to each database: rows of a kilobyte that cannot be compressed, four to a page.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use storage_bench_harness::{Contender, KEY_BASE, Result};
use storage_managed::DatabaseStore;
use tokio::sync::oneshot;

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)";
/// With its row a little over a kilobyte.
const WRITE: &str = "INSERT INTO t (id, body) VALUES (?1, randomblob(980)) \
                     ON CONFLICT (id) DO UPDATE SET body = excluded.body";

/// Makes a database with the rows 0 up to `rows`.
pub(super) fn seed(file: &Path, rows: u32) -> Result<()> {
    let mut db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    let transaction = db.transaction()?;
    transaction.execute_batch(TABLE)?;
    (0..rows).try_for_each(|id| transaction.prepare_cached(WRITE)?.execute([id]).map(drop))?;
    Ok(transaction.commit()?)
}

/// Writes rows for many callers at once.
#[derive(Clone)]
pub(super) enum Writer {
    Plain(mpsc::Sender<Request>),
    Managed(DatabaseStore),
}

pub(super) struct Request {
    id: u32,
    done: oneshot::Sender<std::result::Result<(), String>>,
}

impl Writer {
    /// A thread that commits what has come meanwhile in one transaction, as ours does, so that what differs is the replication.
    pub(super) fn plain(file: &Path, checkpoints: bool) -> Result<Self> {
        let db = Connection::open(file)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "full")?;
        if !checkpoints {
            // As Litestream advises: it has to see the log before it starts anew.
            db.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            while let Ok(first) = received.recv() {
                let group: Vec<Request> = std::iter::once(first).chain(received.try_iter()).collect();
                let done = commit(&db, &group).map_err(|error| error.to_string());
                group.into_iter().for_each(|request| drop(request.done.send(done.clone())));
            }
        });
        Ok(Self::Plain(requests))
    }

    pub(super) fn managed(store: DatabaseStore) -> Self {
        Self::Managed(store)
    }

    pub(super) fn store(&self) -> Option<&DatabaseStore> {
        match self {
            Self::Plain(_) => None,
            Self::Managed(store) => Some(store),
        }
    }

    /// Writes a row, and returns once it is acknowledged.
    pub(super) async fn write(&self, id: u32) -> Result<()> {
        match self {
            Self::Plain(requests) => {
                let (done, answer) = oneshot::channel();
                requests.send(Request { id, done })?;
                Ok(answer.await??)
            }
            Self::Managed(store) => {
                Ok(store.for_write(move |db| db.prepare_cached(WRITE)?.execute([id]).map(drop)).await?)
            }
        }
    }
}

fn commit(db: &Connection, group: &[Request]) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    group.iter().try_for_each(|request| db.prepare_cached(WRITE)?.execute([request.id]).map(drop))?;
    transaction.commit()
}

impl Contender for Writer {
    type Value = ();

    fn value(_: &str) -> Result<()> {
        Ok(())
    }

    async fn get(&self, _: &str) -> Result<usize> {
        Err("only writes are measured".into())
    }

    async fn set(&self, key: &str, (): ()) -> Result<()> {
        let number: u64 = key.rsplit(':').next().unwrap_or_default().parse()?;
        self.write(u32::try_from(number - KEY_BASE)?).await
    }
}
