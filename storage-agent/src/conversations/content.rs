//! What messages say.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use storage_core::Json;

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

    /// Its bytes in the store: those of the text, or of the JSON text.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(value) => value.len(),
        }
    }

    /// Whether it says nothing: the empty text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn into_body(self) -> Bytes {
        match self {
            Self::Text(text) => Bytes::from(text),
            Self::Json(value) => value.into_text().into_bytes(),
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
