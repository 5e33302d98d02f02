//! Memories: what comes out, and how they are stored.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Item, Json, Operation, Partition, PutMode, Result, ttl_millis};

use super::layout::{Place, split};

/// A memory as it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemoryItem {
    /// Where it is.
    pub namespace: Vec<String>,
    /// Its name there.
    pub key: String,
    /// What is remembered: a JSON object.
    pub value: Json,
    /// When it was put first, by the store's clock; a memory that had expired or was deleted begins anew.
    #[serde(with = "crate::time")]
    pub created_at: SystemTime,
    /// When it was put last, by the store's clock.
    #[serde(with = "crate::time")]
    pub updated_at: SystemTime,
    /// Names this value among all that were ever put: what [`compare_and_set`](super::MemoryStore::compare_and_set) expects.
    pub version: String,
    /// When it expires, by the store's clock, where it does.
    #[serde(with = "crate::time::optional")]
    pub expires_at: Option<SystemTime>,
}

/// How long a memory stays after it was put, or after it was read last where reads refresh it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryTtl {
    /// As long as the store's default says.
    #[default]
    Default,
    /// Until it is deleted.
    Never,
    /// So long.
    After(Duration),
}

/// The attributes of a memory's item; its body is the value.
#[derive(Debug, Serialize, Deserialize)]
struct Attributes {
    version: String,
    /// When it was put first, unless that was when the item was written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional")]
    created_at: Option<SystemTime>,
    /// Of a memory that an import brought: when it was put last, unless that was when the item was written.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional")]
    updated_at: Option<SystemTime>,
    /// In milliseconds: there is a lease of the version's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    /// Where the sort key holds only its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// What is put.
#[derive(Debug)]
pub(super) struct Content {
    value: Json,
    pub(super) ttl: Option<Duration>,
    /// A random name.
    pub(super) version: String,
    /// What stays as it was elsewhere.
    past: Option<Past>,
}

/// What an import says of a memory besides its content.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) created_at: SystemTime,
    pub(super) updated_at: SystemTime,
    /// What is left of the time to live.
    pub(super) left: Option<Duration>,
}

impl Content {
    pub(super) fn new(value: Json, ttl: Option<Duration>) -> Result<Self> {
        if !value.as_str().trim_start().starts_with('{') {
            return Err(Error::invalid_input("the value of a memory is a JSON object")
                .with_hint(r#"wrap it, such as {"text": "likes tea"}"#));
        }
        ttl.map_or(Ok(0), ttl_millis)?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("the machine gives no random bytes: {error}"))
        })?;
        Ok(Self { value, ttl, version: format!("{:032x}", u128::from_be_bytes(bytes)), past: None })
    }

    /// The content of an import, which keeps its version and its times.
    pub(super) fn carried(value: Json, ttl: Option<Duration>, version: String, past: Past) -> Result<Self> {
        Ok(Self { version, past: Some(past), ..Self::new(value, ttl)? })
    }

    /// What it expires with.
    pub(super) fn lease(&self) -> Option<Lease> {
        let left = self.past.as_ref().and_then(|past| past.left);
        Some(Lease { version: self.version.clone(), ttl: left.or(self.ttl)? })
    }

    pub(super) fn put(&self, place: &Place, created_at: Option<SystemTime>) -> Result<Operation> {
        let attributes = Json::from_serialize(&Attributes {
            version: self.version.clone(),
            created_at: self.past.as_ref().map(|past| past.created_at).or(created_at),
            updated_at: self.past.as_ref().map(|past| past.updated_at),
            ttl: self.ttl.map(ttl_millis).transpose()?,
            key: place.hashed.clone(),
        })?;
        let body = self.value.clone().into_text().into_bytes();
        Ok(Operation::put(&place.sort, attributes, body, PutMode::Upsert))
    }
}

/// What a memory expires with.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) version: String,
    pub(super) ttl: Duration,
}

/// A memory as it is stored, expired or not.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) namespace: Vec<String>,
    pub(super) key: String,
    pub(super) version: String,
    pub(super) created_at: SystemTime,
    pub(super) updated_at: SystemTime,
    pub(super) lease: Option<Lease>,
    pub(super) item: Item,
}

impl Stored {
    pub(super) fn decode(partition: &Partition, item: Item) -> Result<Self> {
        let (namespace, key) = split(partition, &item.sort)?;
        let Attributes { version, created_at, updated_at, ttl, key: whole } =
            item.attributes.decode().map_err(|error| error.with_key(&namespace.join("/")))?;
        let key = key.or(whole).ok_or_else(|| Error::corrupt("the memory has no key"))?;
        let lease = ttl.map(|ttl| Lease { version: version.clone(), ttl: Duration::from_millis(ttl) });
        let [created_at, updated_at] = [created_at, updated_at].map(|time| time.unwrap_or(item.written_at));
        Ok(Self { namespace, key, version, created_at, updated_at, lease, item })
    }

    pub(super) fn value(&self) -> Result<Json> {
        let text = String::from_utf8(self.item.body.to_vec());
        let text =
            text.map_err(|_| Error::corrupt("the value of the memory is not UTF-8").with_key(&self.key))?;
        Json::from_stored(&self.key, text)
    }

    pub(super) fn into_memory(self, expires_at: Option<SystemTime>) -> Result<MemoryItem> {
        let value = self.value()?;
        let Self { namespace, key, version, created_at, updated_at, .. } = self;
        Ok(MemoryItem { namespace, key, value, created_at, updated_at, version, expires_at })
    }
}
