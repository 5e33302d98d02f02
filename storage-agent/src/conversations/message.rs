//! Messages: what goes in, what comes out, and how they are stored.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage_core::{Error, Item, Json, MAX_ATTRIBUTES_BYTES, Operation, PutMode, Result, sequence_key};

use crate::Metadata;

/// What a message leaves free for the time of its copies.
const TIME_BYTES: usize = 64;

/// What a message says: any text, or any JSON value, such as a list of content blocks.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// A JSON value.
    Json(Json),
}

impl Content {
    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(_) => None,
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Json> for Content {
    fn from(value: Json) -> Self {
        Self::Json(value)
    }
}

/// Only its length: values never appear in logs.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Json(value) => value.fmt(f),
        }
    }
}

/// A message to write.
#[derive(Clone)]
pub struct NewMessage {
    role: String,
    content: Content,
    metadata: Metadata,
    id: Option<String>,
    created_at: Option<SystemTime>,
}

impl NewMessage {
    /// A message without metadata.
    pub fn new(role: impl Into<String>, content: impl Into<Content>) -> Self {
        let (role, content) = (role.into(), content.into());
        Self { role, content, metadata: Metadata::new(), id: None, created_at: None }
    }

    /// The same with metadata: at most 64 KiB, less 64 bytes, together with the role; large data belongs into the content.
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

    /// A copy of a message, of the same age.
    pub(super) fn copy_of(message: Message) -> Self {
        let Message { role, content, metadata, created_at, .. } = message;
        Self { role, content, metadata, id: None, created_at: Some(created_at) }
    }

    pub(super) fn append(self) -> Result<Operation> {
        let (attributes, body, tag) = self.parts()?;
        Ok(Operation::Append { prefix: String::new(), attributes, body, tag, search: None })
    }

    pub(super) fn put(self, sequence: u64) -> Result<Operation> {
        let (attributes, body, _) = self.parts()?;
        Ok(Operation::put(sequence_key("", sequence), attributes, body, PutMode::Upsert))
    }

    fn parts(self) -> Result<(Json, Bytes, Option<String>)> {
        let Self { role, content, metadata, id, created_at } = self;
        let (json, body) = match content {
            Content::Text(text) => (false, Bytes::from(text)),
            Content::Json(value) => (true, value.into_text().into_bytes()),
        };
        let attributes = Json::from_serialize(&Attributes { role, metadata, created_at, json })?;
        if created_at.is_none() && attributes.len() > MAX_ATTRIBUTES_BYTES - TIME_BYTES {
            let most = MAX_ATTRIBUTES_BYTES - TIME_BYTES;
            let message = format!("role and metadata may have {most} bytes; these have {}", attributes.len());
            return Err(Error::invalid_input(message).with_hint("large data belongs into the content"));
        }
        Ok((attributes, body, id))
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

/// The attributes of a message's item; its body is the content.
#[derive(Serialize, Deserialize)]
struct Attributes {
    role: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    /// Of a copy; else it is when the item was written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional")]
    created_at: Option<SystemTime>,
    /// Whether the content is JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    json: bool,
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
    /// The version of the conversation that wrote it: tells a message from a summary that took its place.
    pub version: u64,
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
        })
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
