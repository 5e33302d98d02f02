//! The entries: the same for everybody.

use serde::{Deserialize, Serialize};

use crate::Result;

/// Keys count from here, so that all have one length.
pub const KEY_BASE: u64 = 10_000_000;
/// As many different values as there are; the keys share them round robin.
const VALUES: u64 = 512;
/// Values differ and do not compress to nothing, as in life.
const FILLER: &[u8] = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789";

/// The entries in a store: keys `{prefix}:10000000` and up, each with a deal of `value_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// What stands before the colon.
    pub prefix: String,
    /// How many there are.
    pub keys: u64,
    /// The length of a value's text.
    pub value_bytes: usize,
}

/// The value of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deal {
    /// Which one it is.
    pub deal_id: String,
    /// Where it stands.
    pub status: String,
    /// How it is sold.
    pub deal_type: String,
    /// Who sells it.
    pub seller: String,
    /// What it is about.
    pub product_id: String,
    /// Price of a thousand impressions.
    pub cpm: f64,
    /// How many impressions.
    pub impressions: u64,
    /// The day that it starts.
    pub start: String,
    /// Text that fills the value up to its length.
    pub notes: String,
}

impl Data {
    /// The key at `position`.
    #[must_use]
    pub fn key(&self, position: u64) -> String {
        format!("{}:{}", self.prefix, KEY_BASE + position)
    }

    /// Any key.
    #[must_use]
    pub fn random_key(&self) -> String {
        self.key(fastrand::u64(0..self.keys.max(1)))
    }

    /// The texts of the values. The entry at `position` has the one at `position` modulo their number.
    ///
    /// # Errors
    /// None that can happen: a deal serializes.
    pub fn values(&self) -> Result<Vec<String>> {
        (0..VALUES).map(|position| self.value(position)).collect()
    }

    fn value(&self, position: u64) -> Result<String> {
        let mut random = fastrand::Rng::with_seed(position);
        let statuses = ["active", "booked", "proposed", "closed"];
        let mut deal = Deal {
            deal_id: format!("d-{}", KEY_BASE + position),
            status: random.choice(statuses).unwrap_or_default().into(),
            deal_type: random.choice(["PMP", "PG", "PD"]).unwrap_or_default().into(),
            seller: format!("media-{:03}", random.u32(0..1000)),
            product_id: format!("ctv-{:04}", random.u32(0..10_000)),
            cpm: f64::from(random.u32(100..4000)) / 100.0,
            impressions: random.u64(100_000..10_000_000),
            start: "2026-01-01".into(),
            notes: String::new(),
        };
        let short = serde_json::to_string(&deal)?.len();
        let missing = self.value_bytes.saturating_sub(short);
        deal.notes =
            (0..missing).filter_map(|_| random.choice(FILLER)).map(|byte| char::from(*byte)).collect();
        Ok(serde_json::to_string(&deal)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_deals_of_the_asked_length_and_the_same_every_time() {
        for value_bytes in [220, 4096] {
            let data = Data { prefix: "deal".into(), keys: 10, value_bytes };
            let values = data.values().unwrap();
            assert_eq!(values, data.values().unwrap());
            for value in values {
                assert_eq!(value.len(), value_bytes);
                serde_json::from_str::<Deal>(&value).unwrap();
            }
        }
    }

    #[test]
    fn keys_have_one_length() {
        let data = Data { prefix: "deal".into(), keys: 10_000_000, value_bytes: 220 };
        assert_eq!(data.key(0), "deal:10000000");
        assert_eq!(data.key(9_999_999).len(), data.key(0).len());
    }
}
