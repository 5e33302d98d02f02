//! Editing and redacting a message that is there.

use storage_core::{Commit, Error, Operation, Precondition, PutMode, Result, sequence_key};

use super::{
    Content, ConversationStore, Message,
    attributes::{Attributes, EDITED_AT_BYTES, Edits},
    ids, partition, texts,
};
use crate::Metadata;

/// The longest name of who edits, and the longest reason, in bytes.
const MAX_BY_BYTES: usize = 1_024;
const MAX_REASON_BYTES: usize = 4_096;

/// What an edit changes of a message; by default nothing but its trace.
#[derive(Debug, Clone, Default)]
pub struct MessageEdit {
    /// What it says from now on; `None`: as before.
    pub content: Option<Content>,
    /// All of its metadata from now on; `None`: as before.
    pub metadata: Option<Metadata>,
    /// How many tokens it has; `None`: as before, and none where the content changes.
    pub tokens: Option<u32>,
    /// Who edits: 1,024 bytes at most.
    pub by: Option<String>,
    /// Why: 4,096 bytes at most.
    pub reason: Option<String>,
}

/// How a message is redacted.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    /// Whether its metadata stays.
    pub keep_metadata: bool,
    /// Who redacts: 1,024 bytes at most.
    pub by: Option<String>,
    /// Why: 4,096 bytes at most.
    pub reason: Option<String>,
}

impl ConversationStore {
    /// Changes a message, as it was read, in its place: number, role and `created_at` stay, and its
    /// [`edits`](Message::edits) say that it was edited. What it said before is kept nowhere. Returns its
    /// [`version`](Message::version) from now on.
    ///
    /// Its id still leads to it: to append it again writes nothing. (For that the conversation has one more item, which counts with
    /// [`max_messages`](super::ConversationLimits::max_messages); of what an earlier release wrote the id is not known, and goes.)
    /// For [`max_age`](super::ConversationLimits::max_age) it is as old as its last edit. An edit is no use of the session, and
    /// changes no expiry.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where the message is not there as it was read: it was edited, summarized, or is gone.
    /// `InvalidInput` where it was redacted, and for metadata, a name or a reason that is too long.
    pub async fn edit_message(&self, session: &str, message: &Message, edit: MessageEdit) -> Result<u64> {
        let write = async {
            if message.edits.as_ref().is_some_and(|edits| edits.redacted) {
                return Err(Error::invalid_input("the message was redacted, which is for good"));
            }
            let MessageEdit { content, metadata, tokens, by, reason } = edit;
            let tokens = tokens.or(message.tokens.filter(|_| content.is_none()));
            let content = content.unwrap_or_else(|| message.content.clone());
            let attributes = Attributes {
                metadata: metadata.unwrap_or_else(|| message.metadata.clone()),
                json: matches!(content, Content::Json(_)),
                tokens,
                edits: Some(edits(message, by, reason)?),
                ..message.attributes()
            };
            self.write_over(session, message, &attributes, content).await
        };
        self.shared.measured("edit_message", write).await
    }

    /// Removes what a message says, for good, and its metadata unless it is to stay. Number, role, id and `created_at` stay; its
    /// content is the empty text from now on, of no tokens, and its [`edits`](Message::edits) say that it was redacted. May be
    /// repeated, as to remove the metadata, too. Else as [`edit_message`](Self::edit_message): above all, who appends the message again
    /// by its id writes nothing.
    ///
    /// What forks and summaries took of it before stays there, and so does, for a while, what a database keeps of old rows outside of its
    /// tables: free pages, logs, backups.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where the message is not there as it was read. `InvalidInput` for a name or a reason that is too
    /// long, and where metadata that stays leaves no room for them.
    pub async fn redact_message(
        &self,
        session: &str,
        message: &Message,
        redaction: Redaction,
    ) -> Result<u64> {
        let write = async {
            let Redaction { keep_metadata, by, reason } = redaction;
            let attributes = Attributes {
                metadata: if keep_metadata { message.metadata.clone() } else { Metadata::new() },
                json: false,
                tokens: Some(0),
                edits: Some(Edits { redacted: true, ..edits(message, by, reason)? }),
                ..message.attributes()
            };
            self.write_over(session, message, &attributes, "".into()).await
        };
        self.shared.measured("redact_message", write).await
    }

    async fn write_over(
        &self,
        session: &str,
        message: &Message,
        attributes: &Attributes,
        content: Content,
    ) -> Result<u64> {
        let (sort, attributes) = (sequence_key("", message.sequence), attributes.encode(EDITED_AT_BYTES)?);
        // Its expiry stays. One that was emptied to be deleted has no such message, so it does not come back by this.
        let mut commit = Commit::new(partition(session)?)
            .only_if(Precondition::ItemVersion(sort.clone(), message.version))
            .with(Operation::put(sort, attributes, content.into_body(), PutMode::Upsert));
        if let Some(id) = &message.id {
            commit.operations.push(ids::keep(message.sequence, id));
        }
        Ok(self.shared.commit_found(commit, texts::text).await?.version)
    }
}

fn edits(message: &Message, by: Option<String>, reason: Option<String>) -> Result<Edits> {
    for (what, text, most) in [("who edits", &by, MAX_BY_BYTES), ("the reason", &reason, MAX_REASON_BYTES)] {
        let bytes = text.as_ref().map_or(0, String::len);
        if bytes > most {
            return Err(Error::invalid_input(format!("{what} may have {most} bytes; this has {bytes}")));
        }
    }
    Ok(Edits::after(message.edits.as_ref(), by, reason))
}
