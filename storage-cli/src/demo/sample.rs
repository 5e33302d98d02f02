//! The sample data of `storage-cli/demo`, with the ids of one run.

use std::collections::BTreeMap;

use serde_json::Value;
use storage_core::Error;

use crate::failure::{Failure, Result};

/// Both sides' entries: by kind, which is the prefix of their keys, then by id.
const SAMPLES: [&str; 2] = [include_str!("../../demo/buyer.json"), include_str!("../../demo/seller.json")];
/// What the demo writes besides.
const OTHERS: [(&str, &str); 2] = [("session_index:buyer", "northtrail"), ("counter", "impressions")];

type ById = BTreeMap<String, Value>;

/// The sample data of one run.
pub(super) struct Sample {
    run: String,
    kinds: BTreeMap<String, ById>,
    keys: Vec<String>,
}

impl Sample {
    /// Every id, and every mention of it, starts with `run` and `-`.
    pub(super) fn new(run: &str) -> Result<Self> {
        let mut kinds = BTreeMap::new();
        for text in SAMPLES {
            let text = text.replace("\"demo-", &format!("\"{run}-"));
            let side: BTreeMap<String, ById> = serde_json::from_str(&text)
                .map_err(|error| Failure::from(Error::corrupt(format!("the sample data: {error}"))))?;
            kinds.extend(side);
        }
        let mut keys = Vec::new();
        for (kind, entries) in &kinds {
            keys.extend(entries.keys().map(|id| format!("{kind}:{id}")));
        }
        keys.extend(OTHERS.map(|(kind, name)| format!("{kind}:{run}-{name}")));
        Ok(Self { run: run.to_owned(), kinds, keys })
    }

    /// The id of this run for a name, such as `demo-spring` for `spring`.
    pub(super) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    /// The entries of a kind.
    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.kinds.get(kind).into_iter().flatten().map(|(id, value)| (id.as_str(), value))
    }

    /// The entry of a kind with the id of a name.
    pub(super) fn one(&self, kind: &str, name: &str) -> &Value {
        self.kinds.get(kind).and_then(|entries| entries.get(&self.id(name))).unwrap_or(&Value::Null)
    }

    /// Every key that the demo may write.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }
}

/// A field as text for people.
pub(super) fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_and_every_mention_of_it_belongs_to_the_run() {
        let sample = Sample::new("demo-7").unwrap();
        let text = serde_json::to_string(&sample.kinds).unwrap();
        assert_eq!(text.matches("demo-").count(), text.matches("\"demo-7-").count());
        assert!(sample.keys().iter().all(|key| key.contains(":demo-7-")));
        assert_eq!(field(sample.one("order", "o-1"), "deal_id"), "demo-7-trail-ctv");
    }
}
