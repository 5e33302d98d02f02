//! The lines of an export, as `EXPORT.md` describes them.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage_core::{Error, Json, Result};

/// What a file of this format calls itself.
pub(super) const FORMAT: &str = "agent-storage";
/// The version that is written, and the latest that is read.
pub(super) const VERSION: u64 = 1;

/// One line. Values never appear in logs: there is no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Line {
    Export(Header),
    Entry(EntryLine),
    Partition(PartitionLine),
    Item(ItemLine),
    Memory(Box<MemoryLine>),
    End(Footer),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u64,
    pub(super) scope: ScopeName,
}

/// What of a header is looked at before the version is known.
#[derive(Deserialize)]
pub(super) struct AnyHeader {
    pub(super) export: AnyVersion,
}

#[derive(Deserialize)]
pub(super) struct AnyVersion {
    pub(super) format: String,
    pub(super) version: u64,
}

/// What was exported, for people: an import does not need it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ScopeName {
    Everything,
    User(String),
    Session(String),
    Thread(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryLine {
    pub(super) key: String,
    pub(super) value: Json,
    /// Whole seconds of the epoch, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionLine {
    pub(super) name: String,
    /// The number that was given out last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemLine {
    pub(super) sort: String,
    /// When it was written, where that is known of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional")]
    pub(super) time: Option<SystemTime>,
    /// Left out where they are null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attributes: Option<Json>,
    /// The body, where it is plain text; left out where it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// The body, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryLine {
    pub(super) namespace: Vec<String>,
    pub(super) key: String,
    pub(super) value: Json,
    pub(super) version: String,
    #[serde(with = "crate::time")]
    pub(super) created_at: SystemTime,
    #[serde(with = "crate::time")]
    pub(super) updated_at: SystemTime,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<u64>,
}

/// How many there are of each, and the checksum of all lines before, in hexadecimal.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Footer {
    pub(super) entries: u64,
    pub(super) partitions: u64,
    pub(super) items: u64,
    pub(super) memories: u64,
    pub(super) sha256: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    /// The text, with its line end.
    pub(super) fn text(&self) -> Result<String> {
        let mut text =
            serde_json::to_string(self).map_err(|_| Error::corrupt("the line cannot be written as JSON"))?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a line; says what is wrong with it, without quoting a value.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        serde_json::from_str(text).map_err(|error| {
            let what = if error.is_data() { "it is no line of an export" } else { "it is not JSON" };
            format!("{what}, at column {}", error.column())
        })
    }
}

impl ItemLine {
    pub(super) fn new(sort: String, time: Option<SystemTime>, attributes: Json, body: &Bytes) -> Self {
        let attributes = Some(attributes).filter(|attributes| attributes.as_str() != "null");
        let text = std::str::from_utf8(body).ok().filter(|text| is_plain(text)).map(str::to_owned);
        let base64 = if text.is_none() { Some(STANDARD.encode(body)) } else { None };
        Self { sort, time, attributes, text: text.filter(|text| !text.is_empty()), base64 }
    }

    pub(super) fn body(&self) -> Result<Bytes, String> {
        match (&self.text, &self.base64) {
            (None, None) => Ok(Bytes::new()),
            (Some(text), None) => Ok(text.clone().into()),
            (None, Some(base64)) => Ok(STANDARD.decode(base64).map_err(|_| "`base64` is no base64")?.into()),
            (Some(_), Some(_)) => Err("it has `text` and `base64`".to_owned()),
        }
    }
}

/// Control characters would take six bytes each: base64 takes less.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' || matches!(byte, b'\n' | b'\r' | b'\t'))
}
