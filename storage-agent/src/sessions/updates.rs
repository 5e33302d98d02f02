//! Concurrent updates of one session travel together: one read and one write for all that wait.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use storage_core::{
    Change, Error, ErrorKind, Json, Result, StorageBackend, StorageExt,
    engine::{Combiner, Deadline, Limits, Work, Worker, task},
};

use super::{Session, SessionUpdate};

/// How many queues there are. A session always waits in the same one, so that no two groups of a process race for it.
const QUEUES: usize = 64;
/// How much travels together.
const LIMITS: Limits = Limits { workers: 1, items: 1_024, bytes: 1 << 20 };
/// How long an update may take, waiting for those before it included: several calls of a storage.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often an update begins anew after `update` has used up its own tries. Each of those rounds is 64 races lost to
/// other processes.
const ROUNDS: u32 = 8;

/// An update that waits for those before it.
pub(super) struct Update {
    pub(super) key: String,
    pub(super) update: SessionUpdate,
    pub(super) now: SystemTime,
}

/// The queues in front of the documents.
#[derive(Debug)]
pub(super) struct Updates(Vec<Combiner<Documents>>);

impl Updates {
    pub(super) fn new(storage: &Arc<dyn StorageBackend>, ttl: Option<Duration>) -> Self {
        let documents = || Documents { storage: Arc::clone(storage), ttl };
        Self((0..QUEUES).map(|_| Combiner::new(documents(), LIMITS)).collect())
    }

    /// The session as this update left it; `None` where there is none.
    pub(super) async fn apply(&self, update: Update) -> Result<Option<Session>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&update.key);
        let queue = usize::try_from(hash % QUEUES as u64).ok().and_then(|queue| self.0.get(queue));
        match queue {
            Some(queue) => queue.submit(update, Deadline::after(PATIENCE)).await,
            None => Err(Error::new(ErrorKind::Unavailable, "there is no queue for the session")),
        }
    }
}

struct Documents {
    storage: Arc<dyn StorageBackend>,
    ttl: Option<Duration>,
}

impl Work for Documents {
    type Item = Update;
    type Answer = Option<Session>;

    fn weight(&self, update: &Update) -> usize {
        let metadata = &update.update.metadata;
        metadata.iter().map(|(name, value)| name.len() + value.as_str().map_or(64, str::len)).sum()
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }

    fn start(worker: Worker<Self>) {
        task::spawn(worker.serve(async |documents: &Self, updates| documents.run(updates).await));
    }
}

impl Documents {
    async fn run(&self, updates: Vec<Update>) -> Vec<Result<Option<Session>>> {
        let mut sessions: BTreeMap<&str, (Vec<usize>, Vec<&Update>)> = BTreeMap::new();
        for (place, update) in updates.iter().enumerate() {
            let (places, of_one) = sessions.entry(&update.key).or_default();
            places.push(place);
            of_one.push(update);
        }
        let changes = sessions.into_iter().map(|(key, (places, of_one))| async move {
            places.into_iter().zip(self.change_all(key, &of_one).await).collect::<Vec<_>>()
        });
        let mut answers: Vec<_> = join_all(changes).await.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// One answer for each update of a session.
    async fn change_all(&self, key: &str, updates: &[&Update]) -> Vec<Result<Option<Session>>> {
        match self.change(key, updates).await {
            Ok(sessions) => sessions.into_iter().map(Ok).collect(),
            // What no document can hold, or one that is full, fails alone.
            Err(error) if error.kind() == ErrorKind::InvalidInput && updates.len() > 1 => {
                let mut answers = Vec::with_capacity(updates.len());
                for update in updates {
                    let changed = self.change(key, &[*update]).await;
                    answers.push(changed.map(|sessions| sessions.into_iter().next().flatten()));
                }
                answers
            }
            Err(error) => updates.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// All updates in one atomic step.
    async fn change(&self, key: &str, updates: &[&Update]) -> Result<Vec<Option<Session>>> {
        let mut rounds = ROUNDS;
        loop {
            rounds -= 1;
            match self.try_change(key, updates).await {
                // Only the race for the entry is a `Conflict` here; others have won it each time, so all make progress.
                Err(error) if error.kind() == ErrorKind::Conflict && rounds > 0 => {}
                ended => return ended,
            }
        }
    }

    async fn try_change(&self, key: &str, updates: &[&Update]) -> Result<Vec<Option<Session>>> {
        let mut changed = Vec::new();
        let step = |found: Option<&Json>| {
            changed.clear();
            let Some(found) = found else {
                changed.resize(updates.len(), None);
                return Ok(Change::Keep);
            };
            let mut session: Session = found.decode()?;
            for Update { update, now, .. } in updates {
                session.apply(update, *now);
                changed.push(Some(session.clone()));
            }
            Ok(Change::Set(Json::from_serialize(&session)?))
        };
        self.storage.update(key, self.ttl, step).await?;
        Ok(changed)
    }
}
