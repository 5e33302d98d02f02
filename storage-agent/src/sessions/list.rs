//! Listing sessions, page by page, in bounded memory.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream::BoxStream};
use storage_core::{Error, ErrorKind, Record, Result, Scan, StorageExt};

use super::{PREFIX, Session, SessionStore};

/// The most sessions of one page.
const MAX_LIMIT: usize = 10_000;

/// Which sessions to list; what is left out lets all pass.
#[derive(Debug, Clone)]
pub struct SessionFilter {
    /// Of this user.
    pub user_id: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// Not used for this long: by their `updated_at`, which a conversation under way refreshes once a minute.
    pub idle_for: Option<Duration>,
    /// How many at most, 1 to 10,000; 100 unless set otherwise.
    pub limit: usize,
    /// Where to go on: [`SessionPage::next`] of the page before.
    pub after: Option<SessionCursor>,
}

impl Default for SessionFilter {
    fn default() -> Self {
        Self { user_id: None, status: None, idle_for: None, limit: 100, after: None }
    }
}

/// Where a listing of sessions goes on. Its text can be kept and given back later, also to another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCursor(String);

impl From<String> for SessionCursor {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for SessionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some sessions.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionPage {
    /// Those that could be read, in byte order of their ids.
    pub sessions: Vec<Session>,
    /// A `Corrupt` error for each document between them that is no session. They count for the limit.
    pub corrupt: Vec<Error>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<SessionCursor>,
}

impl SessionStore {
    /// A page of sessions in byte order of their ids. One that is there throughout comes on exactly one page.
    ///
    /// User and status are filtered in the store where it can. A page costs a scan of the sessions that pass, because not
    /// every store lists in order, but no more memory than the page has.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero or above 10,000; else what ends the scan.
    pub async fn list_sessions(&self, filter: &SessionFilter) -> Result<SessionPage> {
        self.shared.measured("list_sessions", self.page(filter)).await
    }

    async fn page(&self, filter: &SessionFilter) -> Result<SessionPage> {
        if !(1..=MAX_LIMIT).contains(&filter.limit) {
            return Err(Error::invalid_input(format!("a page has 1 to {MAX_LIMIT} sessions")));
        }
        let before = |idle| self.shared.now().checked_sub(idle).unwrap_or(SystemTime::UNIX_EPOCH);
        let cutoff = filter.idle_for.map(before);
        let after = filter.after.as_ref().map(|SessionCursor(id)| format!("{PREFIX}{id}"));
        let mut least = Least::new(filter.limit);
        let mut records = self.records(filter)?;
        while let Some(record) = records.next().await {
            let (key, session) = match record {
                Ok(record) => (record.key.clone(), Ok(record)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    (error.key().unwrap_or_default().to_owned(), Err(error))
                }
                Err(error) => return Err(error),
            };
            if after.as_ref().is_some_and(|after| key <= *after) || !least.wants(&key) {
                continue;
            }
            let session = session.and_then(|record| decode(&record));
            if cutoff.is_none_or(|cutoff| is_idle(&session, cutoff)) {
                least.add(key, session);
            }
        }
        Ok(least.page())
    }

    /// The documents under `session:` that pass what a store can filter.
    pub(super) fn records(&self, filter: &SessionFilter) -> Result<BoxStream<'_, Result<Record>>> {
        let mut scan = Scan::entries(&format!("{PREFIX}*"))?;
        for (name, equals) in [("user_id", &filter.user_id), ("status", &filter.status)] {
            if let Some(equals) = equals {
                scan = scan.filter(name, equals.as_str());
            }
        }
        Ok(self.shared.storage.scan(scan))
    }

    /// The ids of all sessions that pass the user and the status of a filter.
    pub(crate) async fn ids_of(&self, filter: &SessionFilter) -> Result<Vec<String>> {
        let (mut ids, mut records) = (Vec::new(), self.records(filter)?);
        while let Some(record) = records.next().await {
            match record {
                Ok(record) => ids.extend(record.key.strip_prefix(PREFIX).map(str::to_owned)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }

    /// How many sessions there are, and how many of them are active; reads each of them once.
    pub(crate) async fn count(&self) -> Result<(u64, u64)> {
        let (mut all, mut active) = (0, 0);
        let mut records = self.records(&SessionFilter::default())?;
        while let Some(record) = records.next().await {
            match record.and_then(|record| decode(&record)) {
                Ok(session) => {
                    all += 1;
                    active += u64::from(session.status == super::ACTIVE);
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok((all, active))
    }
}

/// The session of a record.
pub(super) fn decode(record: &Record) -> Result<Session> {
    let document = record.value.as_ref().ok_or_else(|| Error::corrupt("the entry has no value"));
    document.and_then(|document| document.decode()).map_err(|error| error.with_key(&record.key))
}

/// What cannot be read is not known to be idle.
fn is_idle(session: &Result<Session>, cutoff: SystemTime) -> bool {
    session.as_ref().is_ok_and(|session| session.updated_at <= cutoff)
}

/// The entries with the least keys: those of a page, and one that says that there are more.
struct Least {
    limit: usize,
    entries: BTreeMap<String, Result<Session>>,
}

impl Least {
    fn new(limit: usize) -> Self {
        Self { limit, entries: BTreeMap::new() }
    }

    /// Whether an entry of this key would stay: what would not need not be decoded.
    fn wants(&self, key: &str) -> bool {
        let last = self.entries.last_key_value().filter(|_| self.entries.len() > self.limit);
        last.is_none_or(|(last, _)| key < last.as_str())
    }

    fn add(&mut self, key: String, session: Result<Session>) {
        self.entries.insert(key, session);
        if self.entries.len() > self.limit + 1 {
            self.entries.pop_last();
        }
    }

    fn page(mut self) -> SessionPage {
        let more = self.entries.len() > self.limit && self.entries.pop_last().is_some();
        let last = self.entries.last_key_value().filter(|_| more);
        let next = last.and_then(|(key, _)| key.strip_prefix(PREFIX)).map(|id| SessionCursor(id.to_owned()));
        let mut page = SessionPage { sessions: Vec::new(), corrupt: Vec::new(), next };
        for session in self.entries.into_values() {
            match session {
                Ok(session) => page.sessions.push(session),
                Err(error) => page.corrupt.push(error),
            }
        }
        page
    }
}
