//! What of a thread is no longer needed, and its removal.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{TryStreamExt, future::BoxFuture};
use serde_json::Value;
use storage_core::{CollectionStore, Commit, Error, ErrorKind, Partition, Precondition, Result};

use super::{
    CheckpointerBackend,
    commit::{Failed, commit_all, retried},
    layout,
    survey::{Known, Survey},
    sweep,
    types::{PruneReport, Retention},
};

/// Checkpoints by namespace and id.
pub(super) type Keys = BTreeSet<(String, String)>;

impl CheckpointerBackend {
    /// Prunes threads to the latest checkpoint of each namespace: [`retain`](Self::retain) with `keep_last` 1.
    ///
    /// # Errors
    /// As `retain`, at the first thread that fails; those before it are pruned.
    pub async fn prune(&self, thread_ids: &[&str]) -> Result<Vec<PruneReport>> {
        let latest = Retention { keep_last: Some(1), max_age: None };
        let mut reports = Vec::with_capacity(thread_ids.len());
        for thread_id in thread_ids {
            reports.push(self.retain(thread_id, &latest, false).await?);
        }
        Ok(reports)
    }

    /// Removes the checkpoints that a policy does not keep, with their writes, and the values and chunks that only they
    /// need. A dry run only says what would go.
    ///
    /// Besides what the policy keeps stay: the latest checkpoint of each namespace; one that nothing follows and that has
    /// writes, since they wait to be taken up; and the ancestors that a kept one still needs to put together a delta
    /// channel (named in its metadata's `counters_since_delta_snapshot`). The namespace of a subgraph's call goes with the
    /// root checkpoint it was called from (its metadata's `parents`). Writes without a checkpoint stay: it may still come.
    ///
    /// # Errors
    /// `Conflict` when the thread is written to all the time: every commit to it in between means another try.
    pub async fn retain(&self, thread_id: &str, policy: &Retention, dry_run: bool) -> Result<PruneReport> {
        self.remove(thread_id, dry_run, |survey| self.outdated(survey, policy)).await
    }

    /// Deletes the checkpoints that runs made (by their metadata's `run_id`), in all threads, as [`retain`](Self::retain)
    /// does: ancestors that other runs' checkpoints need to put together a delta channel stay. Looks at all threads.
    ///
    /// # Errors
    /// As `retain`, at the first thread that fails.
    pub async fn delete_for_runs(&self, run_ids: &[&str]) -> Result<Vec<PruneReport>> {
        let mut reports = Vec::new();
        if run_ids.is_empty() {
            return Ok(reports);
        }
        let made = |known: &Known| {
            known.metadata.get("run_id").and_then(Value::as_str).is_some_and(|run| run_ids.contains(&run))
        };
        let mut threads = self.store()?.partitions(layout::KIND, &[]);
        while let Some(info) = threads.try_next().await? {
            let thread_id = layout::thread_id(&info.partition);
            let of_runs = |survey: &Survey| {
                let of_runs = survey.checkpoints.iter().filter(|(_, known)| made(known));
                of_runs.map(|(key, _)| key.clone()).collect::<Keys>()
            };
            // Most threads have none of them: those are not surveyed further.
            let report = self.remove(&thread_id, false, of_runs).await?;
            if !report.checkpoints.is_empty() {
                reports.push(report);
            }
        }
        Ok(reports)
    }

    async fn remove(
        &self,
        thread_id: &str,
        dry_run: bool,
        unwanted: impl Fn(&Survey) -> Keys + Send + Sync,
    ) -> Result<PruneReport> {
        let partition = layout::thread(thread_id)?;
        let store = self.store()?;
        let (partition, unwanted) = (&partition, &unwanted);
        retried(|_| async move {
            let Some(info) = store.partition(partition).await? else { return Ok(PruneReport::default()) };
            match self.removal(store, partition, unwanted).await {
                Ok((report, operations)) if dry_run || operations.is_empty() => Ok(report),
                Ok((report, operations)) => {
                    let mut commit =
                        Commit::new(partition.clone()).only_if(Precondition::Version(info.version));
                    commit.operations = operations;
                    commit_all(store, commit).await?;
                    tracing::debug!(
                        thread_id,
                        checkpoints = report.checkpoints.len(),
                        bytes = report.bytes,
                        "pruned"
                    );
                    Ok(report)
                }
                Err(error) => Err(self.unless_moved(store, partition, info.version, error).await?),
            }
        })
        .await
    }

    fn removal<'a>(
        &'a self,
        store: &'a dyn CollectionStore,
        partition: &'a Partition,
        unwanted: &'a (impl Fn(&Survey) -> Keys + Send + Sync),
    ) -> BoxFuture<'a, Result<(PruneReport, Vec<storage_core::Operation>)>> {
        Box::pin(async move {
            let survey = Survey::of(store, partition).await?;
            let mut doomed = unwanted(&survey);
            spare_ancestors(store, &survey, &mut doomed).await?;
            sweep::plan(store, &survey, &doomed).await
        })
    }

    /// What is missing because somebody else's pruning took it away is no damage.
    async fn unless_moved(
        &self,
        store: &dyn CollectionStore,
        partition: &Partition,
        version: u64,
        error: Error,
    ) -> Result<Failed, Failed> {
        let now = store.partition(partition).await?;
        if now.is_some_and(|now| now.version == version) {
            return Ok(Failed::For(error));
        }
        let message = "the thread is written to all the time";
        Ok(Failed::Moved(Error::new(ErrorKind::Conflict, message).with_key(partition.as_str())))
    }

    /// What a policy does not keep.
    fn outdated(&self, survey: &Survey, policy: &Retention) -> Keys {
        let oldest = policy.max_age.and_then(|age| self.config.clock.now().checked_sub(age));
        let followed: HashSet<(&str, &str)> = survey
            .checkpoints
            .iter()
            .filter_map(|((ns, _), known)| Some((ns.as_str(), known.parent.as_deref()?)))
            .collect();
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
                    doomed.insert(key);
                }
            }
        }
        doomed.extend(ended_calls(survey, &doomed));
        doomed
    }
}

/// The checkpoints of subgraph calls whose root checkpoint goes. A call's namespace has a `:` before its task; one that
/// was called from a checkpoint that is not stored yet stays.
fn ended_calls(survey: &Survey, doomed: &Keys) -> Keys {
    let mut ended = Keys::new();
    for (ns, ids) in survey.namespaces() {
        let latest = ids.last().map(|id| (ns.to_owned(), (*id).to_owned()));
        let known = latest.and_then(|key| survey.checkpoints.get(&key));
        let root = known.and_then(|known| known.metadata.get("parents")?.get("")?.as_str());
        if ns.contains(':') && root.is_some_and(|root| doomed.contains(&(String::new(), root.to_owned()))) {
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
