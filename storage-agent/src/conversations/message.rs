//! Messages: what goes in, and what comes out.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use serde::Serialize;
use storage_core::{Error, Item, Json, Operation, PutMode, Result, sequence_key};

use super::{
    attributes::{Attributes, Edits, MessageEdits, TIMES_BYTES},
    content::Content,
};
use crate::Metadata;

/// A message to write.
#[derive(Clone)]
pub struct NewMessage {
    role: String,
    content: Content,
    metadata: Metadata,
    id: Option<String>,
    tokens: Option<u32>,
}

impl NewMessage {
    /// A message without metadata.
    pub fn new(role: impl Into<String>, content: impl Into<Content>) -> Self {
        let (role, content) = (role.into(), content.into());
        Self { role, content, metadata: Metadata::new(), id: None, tokens: None }
    }

    /// The same with metadata: at most 64 KiB, less 64 bytes, together with the role and the id; large data belongs into the content.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same with an id that makes writing it repeatable: while a message of this id is in the conversation, writing
    /// it again writes nothing and answers that one's sequence number. 1 to 1,024 bytes without NUL.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same with the number of its tokens, as the model's tokenizer counts them: what
    /// [`get_latest_within_tokens`](super::ConversationStore::get_latest_within_tokens) adds up.
    #[must_use]
    pub fn with_tokens(mut self, tokens: u32) -> Self {
        self.tokens = Some(tokens);
        self
    }

    pub(super) fn append(self) -> Result<Operation> {
        let tag = self.id.clone();
        let (attributes, body) = self.parts()?;
        Ok(Operation::Append { prefix: String::new(), attributes, body, tag, search: None })
    }

    /// Writes it at a number that is given out already. No id leads to it.
    pub(super) fn put(mut self, sequence: u64) -> Result<Operation> {
        self.id = None;
        let (attributes, body) = self.parts()?;
        Ok(Operation::put(sequence_key("", sequence), attributes, body, PutMode::Upsert))
    }

    fn parts(self) -> Result<(Json, Bytes)> {
        let Self { role, content, metadata, id, tokens } = self;
        let json = matches!(content, Content::Json(_));
        let attributes = Attributes { role, metadata, created_at: None, json, id, tokens, edits: None };
        Ok((attributes.encode(TIMES_BYTES)?, content.into_body()))
    }
}

/// Only its sizes: values never appear in logs.
impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage")
            .field("id", &self.id)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// A message of a conversation.
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Message {
    /// Its number: each message has a greater one than those before it; 1 is the first of a conversation.
    pub sequence: u64,
    /// Who says it, such as `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// What the application keeps with it.
    pub metadata: Metadata,
    /// When it was written, by the store's clock; of a copy in a fork: when the original was.
    #[serde(with = "crate::time")]
    pub created_at: SystemTime,
    /// The version of the conversation that wrote it: tells a message from a summary that took its place, and from itself
    /// before it was edited.
    pub version: u64,
    /// The id that it was written with; a copy in a fork has none, nor has what an earlier release wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many tokens it has, where it was written with their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// That it was edited or redacted, which copies in a fork say, too; `None`: it is as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<MessageEdits>,
}

impl Message {
    pub(super) fn from_item(item: Item) -> Result<Self> {
        let sequence = item.sort.parse().map_err(|_| Error::corrupt("the item has no sequence number"));
        let attributes: Attributes = item.attributes.decode()?;
        let text = String::from_utf8(item.body.into());
        let text = text.map_err(|_| Error::corrupt("the content of the message is not UTF-8"))?;
        let content = if attributes.json {
            Content::Json(Json::from_stored(&item.sort, text)?)
        } else {
            Content::Text(text)
        };
        Ok(Self {
            sequence: sequence?,
            role: attributes.role,
            content,
            metadata: attributes.metadata,
            created_at: attributes.created_at.unwrap_or(item.written_at),
            version: item.version,
            id: attributes.id,
            tokens: attributes.tokens,
            edits: attributes.edits.map(|edits| edits.told(item.written_at)),
        })
    }

    /// What is stored of it besides its content and its edits.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            role: self.role.clone(),
            metadata: self.metadata.clone(),
            created_at: Some(self.created_at),
            json: matches!(self.content, Content::Json(_)),
            id: self.id.clone(),
            tokens: self.tokens,
            edits: None,
        }
    }

    /// What appends a copy of it, of the same age. No id leads to it.
    pub(super) fn append_copy(self) -> Result<Operation> {
        let edits = self.edits.as_ref().map(Edits::of_copy);
        let attributes = Attributes { id: None, edits, ..self.attributes() }.encode(0)?;
        Ok(Operation::append("", attributes, self.content.into_body()))
    }
}

/// Without what it says: values never appear in logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sequence", &self.sequence)
            .field("role", &self.role)
            .field("content", &self.content)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}
