//! What a session is, and what can be changed of it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The status of a session that goes on.
pub const ACTIVE: &str = "active";

/// Named JSON values that travel with a session or a message.
pub type Metadata = Map<String, Value>;

/// A session, as its document under `session:{id}` says it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// Its id.
    pub session_id: String,
    /// Whose it is.
    pub user_id: String,
    /// When it began; RFC 3339 in UTC in the document.
    #[serde(with = "crate::time")]
    pub created_at: SystemTime,
    /// When it was used last; a conversation under way refreshes it once a minute.
    #[serde(with = "crate::time")]
    pub updated_at: SystemTime,
    /// [`ACTIVE`], or what [`end_session`](super::SessionStore::end_session) said.
    pub status: String,
    /// What the application keeps with it.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it did.
    #[serde(default)]
    pub metrics: SessionMetrics,
    /// Other members of the document, kept as they are: other programs may write them.
    #[serde(flatten)]
    pub other: Metadata,
}

/// What a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionMetrics {
    /// How many requests it made.
    pub request_count: u64,
    /// How long they took in all, in seconds.
    pub total_processing_time: f64,
    /// How many failed.
    pub error_count: u64,
}

/// A session to create.
#[derive(Clone, Default)]
pub struct NewSession {
    /// Its id; not empty.
    pub session_id: String,
    /// Whose it is.
    pub user_id: String,
    /// What the application keeps with it.
    pub metadata: Metadata,
}

/// One atomic change of a session; what is left out stays.
///
/// ```
/// use std::time::Duration;
/// use storage_agent::SessionUpdate;
///
/// let update = SessionUpdate {
///     increment_requests: 1,
///     add_processing_time: Duration::from_millis(20),
///     ..SessionUpdate::default()
/// };
/// ```
#[derive(Clone, Default)]
pub struct SessionUpdate {
    /// Members of the metadata to set; the others stay, and one that is `null` is removed.
    pub metadata: Metadata,
    /// How many requests to add.
    pub increment_requests: u64,
    /// How much time to add to that of all requests.
    pub add_processing_time: Duration,
    /// Whether to count an error.
    pub mark_error: bool,
    /// The new status.
    pub status: Option<String>,
}

impl NewSession {
    /// A session without metadata.
    pub fn new(session_id: impl Into<String>, user_id: impl Into<String>) -> Self {
        Self { session_id: session_id.into(), user_id: user_id.into(), metadata: Metadata::new() }
    }

    pub(super) fn begin(self, now: SystemTime) -> Session {
        let Self { session_id, user_id, metadata } = self;
        Session {
            session_id,
            user_id,
            created_at: now,
            updated_at: now,
            status: ACTIVE.to_owned(),
            metadata,
            metrics: SessionMetrics::default(),
            other: Metadata::new(),
        }
    }
}

impl Session {
    pub(super) fn apply(&mut self, update: &SessionUpdate, now: SystemTime) {
        for (name, value) in &update.metadata {
            match value {
                Value::Null => drop(self.metadata.remove(name)),
                value => drop(self.metadata.insert(name.clone(), value.clone())),
            }
        }
        let metrics = &mut self.metrics;
        metrics.request_count = metrics.request_count.saturating_add(update.increment_requests);
        metrics.error_count = metrics.error_count.saturating_add(u64::from(update.mark_error));
        metrics.total_processing_time += update.add_processing_time.as_secs_f64();
        if let Some(status) = &update.status {
            self.status.clone_from(status);
        }
        // Another machine's clock may be ahead: time does not run backwards.
        self.updated_at = self.updated_at.max(now);
    }
}

/// Without metadata: values never appear in logs.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("session_id", &self.session_id)
            .field("status", &self.status)
            .field("updated_at", &self.updated_at)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

/// Without metadata: values never appear in logs.
impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// Without metadata: values never appear in logs.
impl fmt::Debug for SessionUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionUpdate")
            .field("increment_requests", &self.increment_requests)
            .field("add_processing_time", &self.add_processing_time)
            .field("mark_error", &self.mark_error)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_update_changes_what_it_names_and_keeps_the_rest() {
        let mut session: Session = serde_json::from_value(json!({
            "session_id": "s", "user_id": "u", "status": "active", "written_by": "another program",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
            "metadata": {"kept": 1, "removed": 2, "replaced": 3},
        }))
        .unwrap();
        let Value::Object(metadata) = json!({"removed": null, "replaced": 4, "new": 5}) else { panic!() };
        let update = SessionUpdate { metadata, mark_error: true, ..SessionUpdate::default() };
        session.apply(&update, UNIX_EPOCH);
        let document = serde_json::to_value(&session).unwrap();
        assert_eq!(document["metadata"], json!({"kept": 1, "replaced": 4, "new": 5}));
        assert_eq!(document["metrics"]["error_count"], 1);
        assert_eq!(document["written_by"], "another program");
        assert_eq!(document["updated_at"], "2026-01-02T00:00:00.000Z", "time does not run backwards");
    }
}
