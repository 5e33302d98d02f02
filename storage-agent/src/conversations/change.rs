//! Writing conversations: each call is one commit, but for a fork of more than one page.

use storage_core::{
    Commit, Error, ErrorKind, Item, Operation, Outcome, Partition, Precondition, Query, Result, sequence_key,
};

use super::{Content, ConversationStore, Message, NewMessage, ids, partition, texts};
use crate::{Metadata, shared::expire};

/// How long the beginning of a fork stays unless its end is written: a program that dies leaves no half of one.
const FORKING: std::time::Duration = std::time::Duration::from_secs(300);

/// How many messages of a fork are copied in one step: far from the deadline of a call, also on a busy store.
const FORK_PAGE: usize = 2_000;

impl ConversationStore {
    /// Writes a message and returns its sequence number. Messages beyond the limits go in the same step.
    ///
    /// After `OutcomeUnknown` it may have been written: where that matters, write it with an id, by
    /// [`add_conversation_messages`](Self::add_conversation_messages).
    ///
    /// # Errors
    /// `InvalidInput` where role and metadata pass 64 KiB, less 64 bytes, or the content passes what the storage lets a value have.
    pub async fn add_conversation_message(
        &self,
        session: &str,
        role: &str,
        content: impl Into<Content> + Send,
        metadata: Metadata,
    ) -> Result<u64> {
        let message = NewMessage::new(role, content).with_metadata(metadata);
        let write =
            async { Ok(self.append(session, vec![message]).await?.first().copied().unwrap_or_default()) };
        self.shared.measured("add_conversation_message", write).await
    }

    /// Writes several messages, all or none, one right after the other, and returns their sequence numbers. One with an
    /// id that is in the conversation already is not written again; its number is that of the one that is there, which limits may
    /// take in the same step.
    ///
    /// # Errors
    /// As [`add_conversation_message`](Self::add_conversation_message); `InvalidInput` for more than 9,999 messages.
    pub async fn add_conversation_messages(
        &self,
        session: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<u64>> {
        self.shared.measured("add_conversation_messages", self.append(session, messages)).await
    }

    async fn append(&self, session: &str, messages: Vec<NewMessage>) -> Result<Vec<u64>> {
        let partition = partition(session)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut commit = Commit::new(partition.clone()).expire(expire(self.ttl));
        for message in messages {
            commit.operations.push(message.append()?);
        }
        commit.operations.extend(self.trim());
        // First, so that a cleanup that looks in between finds the session in use.
        self.sessions.touch(session).await;
        let store = self.shared.collections()?;
        let outcomes = self.shared.commit_found(commit, texts::text).await?.outcomes;
        let any_new = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended { new: true, .. }));
        ids::numbers(store, &partition, &outcomes).await.map_err(|error| match any_new {
            true => {
                Error::new(ErrorKind::OutcomeUnknown, "messages were written; their numbers are not known")
                    .with_source(error)
            }
            false => error,
        })
    }

    /// Replaces the messages from `first` to `last`, both as they were read, and all between, by one summary, in one
    /// step. The summary takes the number of `last`. Messages written meanwhile come after `last` and stay.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where `first` or `last` is no longer there or is a summary by now.
    pub async fn replace_with_summary(
        &self,
        session: &str,
        first: &Message,
        last: &Message,
        summary: NewMessage,
    ) -> Result<()> {
        let write = async {
            if first.sequence > last.sequence {
                return Err(Error::invalid_input("the first message comes after the last"));
            }
            let [from, to] = [first.sequence, last.sequence].map(|sequence| sequence_key("", sequence));
            let commit = Commit::new(partition(session)?)
                .only_if(Precondition::ItemVersion(from.clone(), first.version))
                .only_if(Precondition::ItemVersion(to.clone(), last.version))
                .with(Operation::DeleteRange { from, to: Some(to) })
                .with(ids::forget(last.sequence))
                .with(summary.put(last.sequence)?)
                .expire(expire(self.ttl));
            self.sessions.touch(session).await;
            self.shared.commit_found(commit, texts::text).await.map(drop)
        };
        self.shared.measured("replace_with_summary", write).await
    }

    /// Deletes a conversation; true where there was one. The next message of the session is number 1 again.
    ///
    /// # Errors
    /// As [`ConversationStore`] says.
    pub async fn delete_conversation(&self, session: &str) -> Result<bool> {
        let write = async { self.shared.collections()?.delete_partition(&partition(session)?).await };
        self.shared.measured("delete_conversation", write).await
    }

    /// Copies a conversation as it is now to another session, which has none yet, and returns how many messages it has.
    /// Their numbers begin at 1, their times stay, ids are not copied. Where there is nothing to copy nothing is written.
    ///
    /// A conversation that fits one page (2,000 messages, 8 MiB) is copied in one step. A longer one grows while it is
    /// copied; if the program dies meanwhile it expires.
    ///
    /// # Errors
    /// `Conflict` where the other session has a conversation, and where the original was cut or summarized faster than it
    /// could be read; nothing is left of the copy then. `Corrupt` where an item is no message.
    pub async fn fork_conversation(&self, session: &str, to: &str) -> Result<u64> {
        let write = async { self.fork(partition(session)?, partition(to)?).await };
        self.shared.measured("fork_conversation", write).await
    }

    async fn fork(&self, source: Partition, target: Partition) -> Result<u64> {
        let collections = self.shared.collections()?;
        let Some(start) = collections.partition(&source).await? else { return Ok(0) };
        let end = sequence_key("", start.sequence.saturating_add(1));
        let mut query = Query::range(source.clone(), "", Some(end), FORK_PAGE);
        let (mut copied, mut version, mut anchor) = (0, 0, None);
        loop {
            let page = collections.query(query.clone()).await?;
            let next = query.after(&page);
            // What belongs to a single page was read in one step, whatever happened before or after.
            let whole = anchor.is_none() && next.is_none();
            if !whole && page.items.iter().any(|item| item.version > start.version) {
                return self.give_up(target, version).await;
            }
            let anchor = anchor.get_or_insert_with(|| page.items.last().map(place));
            let items: Vec<Item> = page.items.into_iter().filter(|item| !ids::is_kept_id(item)).collect();
            copied += items.len() as u64;
            if !whole && next.is_none() && !self.is_there(&source, anchor.as_ref()).await? {
                return self.give_up(target, version).await;
            }
            if items.is_empty() && version == 0 {
                return Ok(0);
            }
            version = self.copy(&target, version, items, next.is_none()).await?;
            match next {
                Some(next) => query = next,
                None => return Ok(copied),
            }
        }
    }

    /// Appends a page to a copy that has the given version, and returns the one it has now.
    async fn copy(&self, target: &Partition, version: u64, items: Vec<Item>, last: bool) -> Result<u64> {
        let mut commit = Commit::new(target.clone())
            .only_if(Precondition::Version(version))
            .expire(if last { expire(self.ttl) } else { expire(Some(FORKING)) });
        for item in items {
            commit.operations.push(Message::from_item(item)?.append_copy()?);
        }
        Ok(self.shared.commit_found(commit, texts::text).await?.version)
    }

    /// Whether the last message of the first page is there still. A cut goes from the beginning: if it is, then all that
    /// came after it was there throughout.
    async fn is_there(&self, source: &Partition, anchor: Option<&(String, u64)>) -> Result<bool> {
        let Some((sort, version)) = anchor else { return Ok(false) };
        let found = self.shared.collections()?.items(source, &[sort]).await?;
        Ok(found.into_iter().flatten().any(|item| item.version == *version))
    }

    async fn give_up(&self, target: Partition, version: u64) -> Result<u64> {
        if version > 0 {
            let begun = self.shared.collections()?.partition(&target).await?;
            if let Some(begun) = begun.filter(|begun| begun.version == version) {
                self.shared.delete_unchanged(begun).await?;
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the conversation was cut or summarized while it was copied"))
    }
}

fn place(item: &Item) -> (String, u64) {
    (item.sort.clone(), item.version)
}
