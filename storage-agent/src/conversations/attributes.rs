//! The attributes of a message's item; its body is the content.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use storage_core::{Error, Json, MAX_ATTRIBUTES_BYTES, Result};

use crate::Metadata;

/// What a message leaves free for when it, and its last edit, were written: copies say both.
pub(super) const TIMES_BYTES: usize = 64;
/// The same, of one that says already when it was written.
pub(super) const EDITED_AT_BYTES: usize = 24;

/// Members that a reader does not know it passes over, so that new ones hide no message from it.
#[derive(Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) role: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(super) metadata: Metadata,
    /// Of a copy, and of what was edited; else it is when the item was written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional")]
    pub(super) created_at: Option<SystemTime>,
    /// Whether the content is JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) json: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edits: Option<Edits>,
}

/// The trace of what was done to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MessageEdits {
    /// How often it was edited or redacted.
    pub count: u32,
    /// When it was last, by the store's clock.
    #[serde(with = "crate::time")]
    pub edited_at: SystemTime,
    /// Who did it last, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it was done last, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what it said was removed for good.
    pub redacted: bool,
}

/// The same, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Edits {
    #[serde(rename = "n")]
    pub(super) count: u32,
    /// Of a copy, in milliseconds since the epoch; else it is when the item was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) redacted: bool,
}

impl Attributes {
    /// Checks that `room` bytes stay free.
    pub(super) fn encode(&self, room: usize) -> Result<Json> {
        let (attributes, most) = (Json::from_serialize(self)?, MAX_ATTRIBUTES_BYTES - room);
        if attributes.len() > most {
            let message = format!("role and metadata may have {most} bytes; these have {}", attributes.len());
            return Err(Error::invalid_input(message).with_hint("large data belongs into the content"));
        }
        Ok(attributes)
    }
}

impl Edits {
    /// One more than `before`, which is written now.
    pub(super) fn after(before: Option<&MessageEdits>, by: Option<String>, reason: Option<String>) -> Self {
        let count = before.map_or(0, |edits| edits.count).saturating_add(1);
        Self { count, at: None, by, reason, redacted: before.is_some_and(|edits| edits.redacted) }
    }

    pub(super) fn of_copy(edits: &MessageEdits) -> Self {
        let at = edits.edited_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let (at, by, reason) = (u64::try_from(at).ok(), edits.by.clone(), edits.reason.clone());
        Self { count: edits.count, at, by, reason, redacted: edits.redacted }
    }

    pub(super) fn told(self, written_at: SystemTime) -> MessageEdits {
        let at = self.at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
        MessageEdits {
            count: self.count,
            edited_at: at.unwrap_or(written_at),
            by: self.by,
            reason: self.reason,
            redacted: self.redacted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_release_wrote_is_read() {
        let stored =
            r#"{"role":"user","metadata":{"a":1},"created_at":"2026-11-18T11:06:40.123Z","json":true}"#;
        let read: Attributes = Json::parse(stored).unwrap().decode().unwrap();
        assert!(read.json && read.id.is_none() && read.tokens.is_none() && read.edits.is_none());
        assert_eq!(read.encode(0).unwrap().as_str(), stored);
    }

    #[test]
    fn the_times_of_a_copy_fit_what_is_left_free_for_them() {
        let bare = || Attributes {
            role: String::new(),
            metadata: Metadata::new(),
            created_at: None,
            json: false,
            id: None,
            tokens: None,
            edits: Some(Edits { count: 1, at: None, by: None, reason: None, redacted: false }),
        };
        let length = |attributes: Attributes| attributes.encode(0).unwrap().len();
        let last = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799));
        let edited = |at| Some(Edits { at, ..bare().edits.unwrap() });
        let with_both = Attributes { created_at: last, edits: edited(Some(253_402_300_799_999)), ..bare() };
        let with_first = length(Attributes { created_at: last, ..bare() });
        assert!(length(with_both) - with_first <= EDITED_AT_BYTES);
        assert!(with_first + EDITED_AT_BYTES - length(bare()) <= TIMES_BYTES);
    }
}
