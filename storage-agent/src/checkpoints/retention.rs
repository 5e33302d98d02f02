//! What of a thread is no longer needed, and its removal.

use std::{
    collections::{BTreeMap, HashSet},
    time::SystemTime,
};

use futures::{TryStreamExt, future::BoxFuture};
use serde_json::Value;
use storage_core::{CollectionStore, Commit, Partition, Precondition, Result, StorageExt};

use super::{
    CheckpointerBackend,
    commit::{Failed, retried, unless_moved},
    layout,
    read::thread_id,
    survey::{Keys, Known, Survey, checkpoints},
    sweep::Plan,
    types::{PruneReport, PruneStrategy, Retention},
};
use crate::{UserData, shared::THREADS};

impl CheckpointerBackend {
    /// Prunes threads: to what [`retain`](Self::retain) with `keep_last` 1 leaves, or to nothing. Says what went of each
    /// thread, in their order.
    ///
    /// # Errors
    /// As `retain`, at the first thread that fails; those before it are pruned.
    pub async fn prune(&self, thread_ids: &[&str], strategy: PruneStrategy) -> Result<Vec<PruneReport>> {
        let work = async {
            let latest = Retention { keep_last: Some(1), ..Retention::default() };
            let mut reports = Vec::with_capacity(thread_ids.len());
            for thread_id in thread_ids {
                reports.push(match strategy {
                    PruneStrategy::KeepLatest => self.retained(thread_id, &latest, false).await?,
                    PruneStrategy::Delete => self.delete_reported(thread_id).await?,
                });
            }
            Ok(reports)
        };
        self.shared.measured("checkpointer.prune", work).await
    }

    async fn delete_reported(&self, thread_id: &str) -> Result<PruneReport> {
        let partition = layout::thread(thread_id)?;
        let store = self.store()?;
        self.check_epoch(thread_id).await?;
        let Some(info) = store.partition(&partition).await? else { return Ok(PruneReport::default()) };
        let survey = Survey::of(store, thread_id).await?;
        if !self.delete(&partition).await? {
            return Ok(PruneReport::default());
        }
        Ok(PruneReport {
            checkpoints: survey.checkpoints.keys().filter_map(|key| survey.key(key)).collect(),
            writes: survey.writes.values().map(|items| items.len() as u64).sum(),
            values: survey.values.len() as u64,
            bytes: info.bytes,
            tagged: 0,
        })
    }

    /// Removes the checkpoints that a policy does not keep, with their writes, and the values and chunks that only they
    /// need. A dry run only says what would go.
    ///
    /// Besides what the policy keeps stay: the latest checkpoint of each namespace; one that nothing follows and that has
    /// writes, since they wait to be taken up; and the ancestors that a kept one still needs to put together a delta
    /// channel (named in its metadata's `counters_since_delta_snapshot`); `keep_tagged` names more. The namespace of a subgraph's call goes with the
    /// root checkpoint it was called from (its metadata's `parents`). Writes without a checkpoint stay: it may still come.
    ///
    /// A checkpoint goes together with its writes, in one atomic step. What takes more than 10,000 operations goes in
    /// several steps; where it ends in between, the next call goes on.
    ///
    /// # Errors
    /// `Conflict` when the thread is written to all the time: every commit to it in between means another try.
    pub async fn retain(&self, thread_id: &str, policy: &Retention, dry_run: bool) -> Result<PruneReport> {
        self.shared.measured("checkpointer.retain", self.retained(thread_id, policy, dry_run)).await
    }

    async fn retained(&self, thread_id: &str, policy: &Retention, dry_run: bool) -> Result<PruneReport> {
        let oldest = self.shared.oldest(policy.max_age).await?;
        self.remove(thread_id, dry_run, |survey| outdated(survey, policy, oldest)).await
    }

    /// Deletes the checkpoints that runs made (by their metadata's `run_id`), in all threads, as [`retain`](Self::retain)
    /// does: ancestors that other runs' checkpoints need to put together a delta channel stay. Looks at all threads.
    ///
    /// # Errors
    /// As `retain`, at the first thread that fails.
    pub async fn delete_for_runs(&self, run_ids: &[&str]) -> Result<Vec<PruneReport>> {
        let work = async {
            let mut reports = Vec::new();
            if run_ids.is_empty() {
                return Ok(reports);
            }
            let made = |known: &Known| {
                known.metadata.get("run_id").and_then(Value::as_str).is_some_and(|run| run_ids.contains(&run))
            };
            let of_runs = |survey: &Survey| {
                let of_runs = survey.checkpoints.iter().filter(|(_, known)| made(known));
                Doomed { keys: of_runs.map(|(key, _)| key.clone()).collect(), tagged: 0 }
            };
            let store = self.store()?;
            let mut threads = self.shared.storage.partitions(THREADS, &[]);
            while let Some(info) = threads.try_next().await? {
                // Most threads have none of them, and are left as they are.
                if checkpoints(store, &info.partition).await?.values().any(made) {
                    let Some(thread_id) = thread_id(store, &info.partition).await? else { continue };
                    reports.push(self.remove(&thread_id, false, of_runs).await?);
                }
            }
            reports.retain(|report| !report.checkpoints.is_empty());
            Ok(reports)
        };
        self.shared.measured("checkpointer.delete_for_runs", work).await
    }

    /// Whether a thread is a user's: by its id, or by a checkpoint whose metadata says so.
    pub(crate) async fn is_of(&self, thread: &Partition, user_id: &str, data: &UserData) -> Result<bool> {
        let store = self.store()?;
        if !data.thread_prefixes.is_empty()
            && let Some(id) = thread_id(store, thread).await?
            && data.has_thread(&id)
        {
            return Ok(true);
        }
        if data.thread_member.is_none() {
            return Ok(false);
        }
        let found = checkpoints(store, thread).await?;
        Ok(found.values().any(|known| data.names(user_id, &known.metadata)))
    }

    async fn remove(
        &self,
        thread_id: &str,
        dry_run: bool,
        unwanted: impl Fn(&Survey) -> Doomed + Send + Sync,
    ) -> Result<PruneReport> {
        let unwanted = &unwanted;
        let mut report = PruneReport::default();
        loop {
            let step = retried(|_| self.remove_some(thread_id, dry_run, unwanted)).await?;
            report.add(step.report);
            if !step.more {
                tracing::debug!(
                    thread_id,
                    checkpoints = report.checkpoints.len(),
                    bytes = report.bytes,
                    "pruned"
                );
                return Ok(report);
            }
        }
    }

    /// Removes as much as one commit can.
    async fn remove_some(
        &self,
        thread_id: &str,
        dry_run: bool,
        unwanted: &(impl Fn(&Survey) -> Doomed + Send + Sync),
    ) -> Result<Plan, Failed> {
        let (store, partition) = (self.store()?, layout::thread(thread_id)?);
        let epoch = self.check_epoch(thread_id).await?;
        let mut plan = Plan::new(if dry_run { usize::MAX } else { self.most });
        let Some(info) = store.partition(&partition).await? else { return Ok(plan) };
        if let Err(error) = fill(store, thread_id, unwanted, &mut plan).await {
            return Err(unless_moved(store, &info, error).await?);
        }
        if !dry_run && !plan.operations.is_empty() {
            let mut commit = Commit::new(partition).only_if(Precondition::Version(info.version));
            commit.operations = std::mem::take(&mut plan.operations);
            commit.preconditions.extend(epoch);
            store.commit(commit).await?;
        }
        Ok(plan)
    }
}

/// What goes.
struct Doomed {
    keys: Keys,
    /// How many would go if they were not tagged.
    tagged: u64,
}

/// What a policy does not keep: beyond the latest of each namespace, or from before a time, and not tagged.
fn outdated(survey: &Survey, policy: &Retention, oldest: Option<SystemTime>) -> Doomed {
    let followed: HashSet<(&str, &str)> = survey
        .checkpoints
        .iter()
        .filter_map(|((ns, _), known)| Some((ns.as_str(), known.parent.as_deref()?)))
        .collect();
    let is_tagged = |key: &(String, String)| {
        let known = survey.checkpoints.get(key);
        known.zip(policy.keep_tagged.as_ref()).is_some_and(|(known, tag)| known.has_tag(tag))
    };
    let mut tagged = Keys::new();
    let mut doomed = Keys::new();
    for (ns, ids) in survey.namespaces() {
        for (age, id) in ids.into_iter().rev().enumerate() {
            let key = (ns.to_owned(), id.to_owned());
            let waits = survey.writes.contains_key(&key) && !followed.contains(&(ns, id));
            let old = survey
                .checkpoints
                .get(&key)
                .zip(oldest)
                .is_some_and(|(known, oldest)| known.written_at < oldest);
            let many = policy.keep_last.is_some_and(|most| age >= most);
            if age > 0 && !waits && (many || old) {
                let goes = if is_tagged(&key) { &mut tagged } else { &mut doomed };
                goes.insert(key);
            }
        }
    }
    for key in ended_calls(survey, &doomed) {
        let goes = if is_tagged(&key) { &mut tagged } else { &mut doomed };
        goes.insert(key);
    }
    Doomed { keys: doomed, tagged: tagged.len() as u64 }
}

/// Boxed, since walks along ancestors make it large.
fn fill<'a>(
    store: &'a dyn CollectionStore,
    thread_id: &'a str,
    unwanted: &'a (impl Fn(&Survey) -> Doomed + Send + Sync),
    plan: &'a mut Plan,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let survey = Survey::of(store, thread_id).await?;
        let Doomed { keys: mut doomed, tagged } = unwanted(&survey);
        plan.report.tagged = tagged;
        spare_ancestors(store, &survey, &mut doomed).await?;
        plan.fill(store, &survey, &doomed).await
    })
}

/// The checkpoints of subgraph calls whose root checkpoint goes. A call's namespace has a `:` before its task; one that
/// was called from a checkpoint that is not stored yet stays.
fn ended_calls(survey: &Survey, doomed: &Keys) -> Keys {
    let mut ended = Keys::new();
    for (ns, ids) in survey.namespaces() {
        let latest = ids.last().map(|id| (ns.to_owned(), (*id).to_owned()));
        let known = latest.and_then(|key| survey.checkpoints.get(&key));
        let root = known.and_then(|known| known.metadata.get("parents")?.get("")?.as_str());
        let is_call = known.is_some_and(|known| known.ns.as_deref().unwrap_or(ns).contains(':'));
        if is_call && root.is_some_and(|root| doomed.contains(&(String::new(), root.to_owned()))) {
            ended.extend(ids.into_iter().map(|id| (ns.to_owned(), id.to_owned())));
        }
    }
    ended
}

/// Takes out of `doomed` the ancestors that delta channels of what stays are put together from.
async fn spare_ancestors(store: &dyn CollectionStore, survey: &Survey, doomed: &mut Keys) -> Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let kept: Vec<_> = survey.checkpoints.iter().filter(|(key, _)| !doomed.contains(*key)).collect();
    let starts: Vec<_> = kept
        .into_iter()
        .filter_map(|(key, known)| Some((key.clone(), delta_channels(&known.metadata)?)))
        .collect();
    for ((ns, id), channels) in starts {
        let mut open = survey.without_value(store, &ns, &id, channels).await?;
        let mut parent = survey.parent(&ns, &id);
        let mut seen = HashSet::new();
        while let Some(id) = parent.filter(|id| !open.is_empty() && seen.insert(id.clone())) {
            doomed.remove(&(ns.clone(), id.clone()));
            open = survey.without_value(store, &ns, &id, open).await?;
            parent = survey.parent(&ns, &id);
        }
    }
    Ok(())
}

fn delta_channels(metadata: &BTreeMap<String, Value>) -> Option<Vec<String>> {
    let counters = metadata.get("counters_since_delta_snapshot")?.as_object()?;
    Some(counters.keys().cloned().collect())
}
