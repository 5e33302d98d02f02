//! What a message is found by.

use std::borrow::Cow;

use serde::Deserialize;
use storage_core::{Json, Partition, SearchText};

use super::Content;
use crate::texts::{label, of_json};

/// What matters of a message's attributes.
#[derive(Deserialize)]
struct Said {
    role: String,
    #[serde(default)]
    json: bool,
}

/// Of an item as it is written; `None` where it is no message, or says nothing.
pub(crate) fn text(partition: &Partition, _: &str, attributes: &Json, body: &[u8]) -> Option<SearchText> {
    let Said { role, json } = attributes.decode().ok()?;
    let body = std::str::from_utf8(body).ok()?;
    let text = if json { SearchText::new(&of_json(body, false)) } else { SearchText::new(body) };
    if text.words().is_empty() {
        return None;
    }
    text.with_label(by_role(&role)).and_then(|text| text.with_label(by_session(partition))).ok()
}

/// What a message says, as it is indexed.
pub(super) fn said(content: &Content) -> Cow<'_, str> {
    match content {
        Content::Text(text) => Cow::Borrowed(text),
        Content::Json(value) => Cow::Owned(of_json(value.as_str(), false)),
    }
}

pub(super) fn by_role(role: &str) -> String {
    label('r', role)
}

pub(super) fn by_session(partition: &Partition) -> String {
    label('s', partition.as_str())
}
