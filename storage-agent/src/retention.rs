//! Policies of what stays of agents' memory, and their application.

mod policy;
mod report;

use std::{
    future::ready,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt};
use storage_core::{
    Commit, ErrorKind, Expire, Json, Operation, Outcome, Partition, PartitionInfo, Precondition, PutMode,
    Query, Result, StorageExt,
};

pub use policy::RetentionPolicy;
pub use report::RetentionReport;

use crate::{
    AgentStorage, conversations,
    shared::{THREADS, is_tag},
};

/// How many conversations are looked at at a time. Threads are pruned one by one: a pruning reads all of one.
const PARALLEL: usize = 16;
/// What the partition is named by that says that a policy is being applied, or was a while ago.
const CLAIM: &str = "retention";

/// What became of a conversation.
enum Trimmed {
    /// It is beyond its limits, and stays.
    Tagged,
    /// So many messages went, or would go.
    Messages(u64),
}

impl AgentStorage {
    /// Applies a policy once, and says what went. Each removal is a step of its own, and nothing that is written to
    /// meanwhile goes: after an error, and where the program dies, the next call goes on. A dry run only says what would go, of
    /// each kind by itself.
    ///
    /// Looks at every session, conversation and thread, and reads those of which something goes.
    ///
    /// # Errors
    /// The first error of the storage, but for `Conflict` of a thread or conversation that is written to all the time: it is
    /// left for the next time.
    pub async fn apply_retention(&self, policy: &RetentionPolicy, dry_run: bool) -> Result<RetentionReport> {
        let work = async {
            let mut report = RetentionReport::new(dry_run);
            if let Some(max_idle) = policy.sessions {
                let tag = policy.keep_tagged_sessions.as_deref();
                report.removed = self.sessions().cleanup(max_idle, tag, dry_run).await?;
            }
            self.trim_conversations(policy, dry_run, &mut report).await?;
            self.prune_threads(policy, dry_run, &mut report).await?;
            if !dry_run {
                report.memories = self.memories().remove_expired().await?;
            }
            tracing::info!(?report, "applied a retention policy");
            Ok(report)
        };
        self.shared.measured("apply_retention", Box::pin(work)).await
    }

    /// Applies a policy unless a process has done so within `every`; `None` where one has.
    ///
    /// # Errors
    /// As [`apply_retention`](Self::apply_retention); `InvalidInput` for a time of zero or above 100 years.
    pub async fn apply_retention_once(
        &self,
        policy: &RetentionPolicy,
        every: Duration,
    ) -> Result<Option<RetentionReport>> {
        if !self.claim_retention(every).await? {
            return Ok(None);
        }
        self.apply_retention(policy, false).await.map(Some)
    }

    /// Applies a policy again and again, in one of all processes that do: for a task of its own. Never ends; what fails is
    /// logged as a warning, and tried at the next time.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use storage_agent::{AgentStorage, RetentionPolicy};
    /// # async fn run(agent: AgentStorage) -> storage_core::Result<()> {
    /// let policy: RetentionPolicy = "sessions: 7d; threads: keep 50, 30d".parse()?;
    /// tokio::spawn(async move { agent.keep_retention(&policy, Duration::from_secs(3600)).await });
    /// # Ok(())
    /// # }
    /// ```
    pub async fn keep_retention(&self, policy: &RetentionPolicy, every: Duration) -> ! {
        loop {
            if let Err(error) = self.apply_retention_once(policy, every).await {
                tracing::warn!(%error, "a retention policy could not be applied");
            }
            // Shorter than the claim, so that one process or another finds its end soon.
            tokio::time::sleep((every / 4).max(Duration::from_secs(1))).await;
        }
    }

    /// The claim expires by the clock of the store. Whoever makes it anew applies the policy.
    async fn claim_retention(&self, every: Duration) -> Result<bool> {
        let claim = Commit::new(Partition::new(CLAIM, &["claim"])?)
            .only_if(Precondition::Version(0))
            .with(Operation::put("claim", Json::from(0), "", PutMode::Upsert))
            .expire(Expire::After(every));
        match self.shared.collections()?.commit(claim).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn trim_conversations(
        &self,
        policy: &RetentionPolicy,
        dry_run: bool,
        report: &mut RetentionReport,
    ) -> Result<()> {
        let limits = policy.conversations;
        if limits == crate::ConversationLimits::default() {
            return Ok(());
        }
        let oldest = self.shared.oldest(limits.max_age).await?;
        let listed = self.shared.storage.partitions(conversations::KIND, &[]);
        let trimmed =
            listed.map(|info| async { self.trim_conversation(info?, policy, oldest, dry_run).await });
        let trimmed = trimmed.buffer_unordered(PARALLEL).try_for_each(|trimmed| {
            match trimmed {
                Trimmed::Tagged => report.tagged_conversations += 1,
                Trimmed::Messages(0) => {}
                Trimmed::Messages(count) => {
                    report.conversations += 1;
                    report.messages += count;
                }
            }
            ready(Ok(()))
        });
        trimmed.await
    }

    /// What became of a conversation. Only where messages go something is written: a commit counts as a use of it.
    async fn trim_conversation(
        &self,
        info: PartitionInfo,
        policy: &RetentionPolicy,
        oldest: Option<SystemTime>,
        dry_run: bool,
    ) -> Result<Trimmed> {
        let beyond = self.beyond(&info, policy, oldest).await?;
        if beyond > 0 && self.is_of_tagged_session(&info, policy).await? {
            return Ok(Trimmed::Tagged);
        }
        let gone = if beyond == 0 || dry_run { beyond } else { self.cut(info, policy, beyond).await? };
        Ok(Trimmed::Messages(gone))
    }

    /// How many messages are beyond the limits.
    async fn beyond(
        &self,
        info: &PartitionInfo,
        policy: &RetentionPolicy,
        oldest: Option<SystemTime>,
    ) -> Result<u64> {
        let store = self.shared.collections()?;
        let limits = policy.conversations;
        let most = limits.max_messages.unwrap_or(u64::MAX);
        let (mut items, mut bytes, mut beyond) = (info.items, info.bytes, 0);
        let mut next = Some(Query::all(info.partition.clone(), 1_000).without_bodies());
        while let Some(query) = next {
            let page = store.query(query.clone()).await?;
            next = query.after(&page);
            for item in page.items {
                let too_large = limits.max_bytes.is_some_and(|most| bytes > most) && items > 1;
                let too_old = oldest.is_some_and(|oldest| item.written_at < oldest);
                if !(items > most || too_large || too_old) {
                    return Ok(beyond);
                }
                items = items.saturating_sub(1);
                bytes =
                    bytes.saturating_sub((item.sort.len() + item.attributes.len()) as u64 + item.body_bytes);
                beyond += 1;
            }
        }
        Ok(beyond)
    }

    async fn is_of_tagged_session(&self, info: &PartitionInfo, policy: &RetentionPolicy) -> Result<bool> {
        let Some(tag) = &policy.keep_tagged_sessions else { return Ok(false) };
        let id = info.partition.segments().into_iter().next().unwrap_or_default();
        match self.sessions().get_session(&id).await {
            Ok(session) => Ok(session.is_some_and(|session| is_tag(session.metadata.get(tag)))),
            // A document that is no session, or an id that no session can have.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn cut(&self, info: PartitionInfo, policy: &RetentionPolicy, beyond: u64) -> Result<u64> {
        let (store, limits) = (self.shared.collections()?, policy.conversations);
        if beyond == info.items {
            return Ok(if self.shared.delete_unchanged(info).await? { beyond } else { 0 });
        }
        let trim =
            Operation::Trim { items: limits.max_messages, bytes: limits.max_bytes, max_age: limits.max_age };
        let commit = Commit::new(info.partition).only_if(Precondition::Version(info.version)).with(trim);
        match store.commit(commit).await {
            Ok(committed) => Ok(committed.outcomes.first().map_or(0, |outcome| match outcome {
                Outcome::Deleted(count) => *count,
                _ => 0,
            })),
            // In use: its own limits, or the next time.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(0),
            Err(error) => Err(error),
        }
    }

    async fn prune_threads(
        &self,
        policy: &RetentionPolicy,
        dry_run: bool,
        report: &mut RetentionReport,
    ) -> Result<()> {
        if policy.threads == crate::checkpoints::Retention::default() {
            return Ok(());
        }
        let checkpointer = self.checkpointer();
        let mut listed = self.shared.storage.partitions(THREADS, &[]);
        while let Some(info) = listed.try_next().await? {
            let Some(thread) = checkpointer.described(info).await? else { continue };
            let keeps = policy.threads.keep_last.unwrap_or(usize::MAX).max(1) as u64;
            if policy.threads.max_age.is_none() && thread.checkpoints <= keeps {
                continue;
            }
            match checkpointer.retain(&thread.thread_id, &policy.threads, dry_run).await {
                Ok(pruned) => report.add(&pruned),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tracing::warn!(%error, thread = thread.thread_id, "left for the next time");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
