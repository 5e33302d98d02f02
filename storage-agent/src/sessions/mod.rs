//! Sessions: one document each, under `session:{id}`.

mod cleanup;
mod list;
mod session;
mod touch;
mod updates;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use storage_core::{
    Clock, Error, ErrorKind, Json, Result, StorageBackend, StorageExt, join_key, optional_ttl_millis,
};

use crate::shared::Shared;
pub use cleanup::Cleanup;
pub(crate) use cleanup::belongings;
pub use list::{SessionCursor, SessionFilter, SessionPage};
pub use session::{ACTIVE, Metadata, NewSession, Session, SessionMetrics, SessionUpdate};
use touch::Touched;
use updates::{Update, Updates};

/// How long a session stays after its last use unless set otherwise: 24 hours.
pub const SESSION_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the key of each session's document starts with.
pub(crate) const PREFIX: &str = "session:";
/// How many sessions of a batch are created at a time.
const PARALLEL: usize = 32;

/// Sessions, on every store. The helpers of [`AdBuyer`](storage_core::domain::AdBuyer) see the same documents.
///
/// A session expires [`SESSION_TTL`] after its last use, unless set otherwise. Uses are updates and, through
/// [`ConversationStore`](crate::ConversationStore) and [`TaskContextStore`](crate::TaskContextStore), what is written to
/// its conversation and tasks, the latter noted at most once in a hundredth of that time or a minute, whichever is less.
/// Reading is no use: what only looks, such as a listing, keeps nothing alive.
///
/// An id that is empty or too long for a key is `InvalidInput`. A document that is no session (the helpers let a program
/// write anything) is `Corrupt` naming its key, and is never written over or removed. Other errors are those of the
/// storage.
#[derive(Debug, Clone)]
pub struct SessionStore {
    shared: Shared,
    ttl: Option<Duration>,
    touched: Arc<Touched>,
    updates: Arc<Updates>,
}

impl SessionStore {
    /// Sessions in `storage`, which needs no partitions for them.
    #[must_use]
    pub fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self::on(Shared::new(storage))
    }

    pub(crate) fn on(shared: Shared) -> Self {
        let ttl = Some(SESSION_TTL);
        let updates = Arc::new(Updates::new(&shared.storage, ttl));
        Self { shared, ttl, touched: Arc::default(), updates }
    }

    /// How long a session stays after its last use; `None`: for good.
    ///
    /// # Errors
    /// `InvalidInput` for zero and for more than 100 years.
    pub fn with_ttl(mut self, ttl: Option<Duration>) -> Result<Self> {
        optional_ttl_millis(ttl)?;
        self.ttl = ttl;
        self.updates = Arc::new(Updates::new(&self.shared.storage, ttl));
        Ok(self)
    }

    /// Where times come from; the machine's clock unless set otherwise.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.shared.clock = clock;
        self
    }

    /// Creates a session.
    ///
    /// # Errors
    /// `Conflict` where there is one; `Unsupported` where the storage has no `compare_and_set`.
    pub async fn create_session(&self, id: &str, user_id: &str, metadata: Metadata) -> Result<Session> {
        let new = NewSession { metadata, ..NewSession::new(id, user_id) };
        self.shared.measured("create_session", self.create(new)).await
    }

    async fn create(&self, new: NewSession) -> Result<Session> {
        let key = key(&new.session_id)?;
        let session = new.begin(self.shared.now());
        let document = Json::from_serialize(&session).map_err(|error| error.with_key(&key))?;
        if !self.shared.storage.set_if_absent(&key, document, self.ttl).await? {
            return Err(exists(&key));
        }
        self.touched.note(&session.session_id, session.updated_at);
        Ok(session)
    }

    /// Creates several sessions, each on its own: one that cannot be created harms no other. The results stand in the
    /// order of the sessions; of two with one id the second is a `Conflict`.
    pub async fn batch_create_sessions(&self, sessions: Vec<NewSession>) -> Vec<Result<Session>> {
        let mut ids = HashSet::new();
        let sessions: Vec<_> =
            sessions
                .into_iter()
                .map(|session| {
                    if ids.insert(session.session_id.clone()) { Ok(session) } else { Err(session.session_id) }
                })
                .collect();
        let create = async |new: std::result::Result<NewSession, String>| match new {
            Ok(new) => self.create(new).await,
            Err(id) => Err(exists(&format!("{PREFIX}{id}"))),
        };
        let measured =
            sessions.into_iter().map(|new| self.shared.measured("batch_create_sessions", create(new)));
        stream::iter(measured).buffered(PARALLEL).collect().await
    }

    /// The session, or `None` where there is none or it has expired. Does not refresh its expiry.
    ///
    /// # Errors
    /// As [`SessionStore`] says.
    pub async fn get_session(&self, id: &str) -> Result<Option<Session>> {
        self.shared.measured("get_session", async { self.shared.storage.get_as(&key(id)?).await }).await
    }

    /// Several sessions, in the order of their ids, each with a result of its own.
    ///
    /// # Errors
    /// What concerns the whole call, such as `InvalidInput` for one of the ids.
    pub async fn batch_get_sessions(&self, ids: &[&str]) -> Result<Vec<Result<Option<Session>>>> {
        let read = async {
            let keys: Vec<String> = ids.iter().map(|id| key(id)).collect::<Result<_>>()?;
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            let found = self.shared.storage.get_many(&names).await?;
            let decoded = names.iter().zip(found).map(|(key, document)| {
                document?.map(|document| document.decode()).transpose().map_err(|error| error.with_key(key))
            });
            Ok(decoded.collect())
        };
        self.shared.measured("batch_get_sessions", read).await
    }

    /// Changes a session in one atomic step and refreshes its expiry: no update of concurrent callers is lost, and none
    /// is applied twice. Those of one process share round trips, which belong to a task of their own: a caller that gives up,
    /// or keeps its future, blocks nobody. Returns the session as this update left it, or `None` where there is none.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no `compare_and_set`; `Conflict` where hundreds of tries in a row found that other
    /// processes had changed it; after 30 s `Timeout`, where it waited for earlier updates, or `OutcomeUnknown`.
    pub async fn update_session(&self, id: &str, update: &SessionUpdate) -> Result<Option<Session>> {
        self.shared.measured("update_session", self.change(id, update)).await
    }

    /// Sets the status of a session that is over, such as `completed` or `failed`; it expires like any other.
    ///
    /// # Errors
    /// As [`update_session`](Self::update_session).
    pub async fn end_session(&self, id: &str, status: &str) -> Result<Option<Session>> {
        let update = SessionUpdate { status: Some(status.to_owned()), ..SessionUpdate::default() };
        self.shared.measured("end_session", self.change(id, &update)).await
    }

    async fn change(&self, id: &str, update: &SessionUpdate) -> Result<Option<Session>> {
        let update = Update { key: key(id)?, update: update.clone(), now: self.shared.now() };
        self.updates.apply(update).await
    }

    /// Notes that something of a session is being written, so that it does not expire meanwhile. Never fails: what is
    /// written does not depend on it, and may lie in another store.
    pub(crate) async fn touch(&self, id: &str) {
        let now = self.shared.now();
        if !self.touched.is_due(id, now, self.ttl) {
            return;
        }
        match self.change(id, &SessionUpdate::default()).await {
            Ok(_) => self.touched.note(id, now),
            Err(error) => tracing::warn!(%error, "the expiry of a session could not be refreshed"),
        }
    }
}

pub(crate) fn key(id: &str) -> Result<String> {
    join_key(PREFIX, id)
}

fn exists(key: &str) -> Error {
    Error::new(ErrorKind::Conflict, "there is a session of this id").with_key(key)
}
