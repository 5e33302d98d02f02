//! Reads of one key: those that wait together share a visit to a reader.

use std::sync::Arc;

use storage_core::{Error, ErrorKind, Expiry, Group, Json, Lease, Result, with_deadline};
use tokio_rusqlite::rusqlite::Connection;

use crate::{
    SqliteConfig,
    error::{Answer, Fault},
    inline::Inline,
    pool::Pool,
    sql::View,
    store::Connected,
};

/// What is asked about a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Value,
    Expiry,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Value(Option<Json>),
    Expiry(Option<Expiry>),
    /// A value that takes long to read: its caller comes again, alone.
    Large,
}

/// One caller's read.
pub(crate) struct Read {
    pub(crate) key: String,
    pub(crate) asked: Asked,
    /// `disconnect` waits for it.
    pub(crate) _lease: Lease<Connected>,
}

/// The readers, as groups of those who wait for one.
pub(crate) struct Reads {
    pub(crate) readers: Arc<Pool>,
    pub(crate) inline: Arc<Inline>,
    pub(crate) config: Arc<SqliteConfig>,
}

impl Asked {
    pub(crate) fn find(self, view: &View<'_>, key: &str) -> Answer<Found> {
        match self {
            Self::Value => view.small_value(key),
            Self::Expiry => view.expiry(key).map(Found::Expiry),
        }
    }
}

impl Group for Reads {
    type Item = Read;
    type Answer = Found;

    async fn run(&self, reads: Vec<Read>) -> Vec<Result<Found>> {
        let reads: Arc<[Read]> = reads.into();
        let visits = async {
            match self.visit(&reads).await {
                // Once more where the connection turned out to be lost.
                Err(fault) if fault.loses_connection() => Ok(self.visit(&reads).await?),
                Ok((_, true)) => Ok(self.visit(&reads).await?),
                answers => Ok(answers?),
            }
        };
        match with_deadline(self.config.operation_timeout, ErrorKind::Timeout, visits).await {
            Ok((answers, _)) => answers,
            Err(error) => vec![Err(error); reads.len()],
        }
    }

    fn weight(&self, read: &Read) -> usize {
        read.key.len()
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}

impl Reads {
    /// The answers, and whether one of them may be better on another connection.
    async fn visit(&self, reads: &Arc<[Read]>) -> Answer<(Vec<Result<Found>>, bool)> {
        let (guard, reads) = (Arc::clone(reads), Arc::clone(reads));
        let (inline, config) = (Arc::clone(&self.inline), Arc::clone(&self.config));
        let visit = self.readers.borrow(guard, move |db| {
            inline.grow();
            let (answers, lost) = find_each(db, &config, &reads);
            ((answers, lost), lost)
        });
        visit.await
    }
}

fn find_each(db: &Connection, config: &SqliteConfig, reads: &[Read]) -> (Vec<Result<Found>>, bool) {
    let view = View { db, call: None, now: config.clock.now() };
    let mut lost = false;
    let found = view.at_once(|| {
        let answers = reads.iter().map(|read| {
            let found = read.asked.find(&view, &read.key);
            lost |= found.as_ref().is_err_and(Fault::loses_connection);
            found.map_err(Error::from)
        });
        Ok(answers.collect())
    });
    match found {
        Ok(answers) => (answers, lost),
        Err(fault) => {
            let lost = lost || fault.loses_connection();
            (vec![Err(Error::from(fault)); reads.len()], lost)
        }
    }
}
