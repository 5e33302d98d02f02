//! Names: of partitions, and of items within one.

use std::{fmt, time::SystemTime};

use crate::{Clock, Error, Result, SystemClock, check_key, epoch_millis, prefix_successor};

/// So many bits of a partition's first version are random.
const RANDOM_BITS: u32 = 20;

/// The name of a partition: a kind, and segments that are kept apart whatever they hold.
///
/// Its text is a key, `{kind}:{segment}:{segment}`, with `%` and `:` in segments written as `%25` and `%3A`: so the
/// segments `a:b`, `c` and `a`, `b:c` never meet, and hybrid routes it by `{kind}:` as it routes keys.
///
/// ```
/// use storage_core::Partition;
///
/// let partition = Partition::new("checkpoint", &["thread:1", ""])?;
/// assert_eq!(partition.as_str(), "checkpoint:thread%3A1:");
/// assert_eq!(partition.segments(), ["thread:1", ""]);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    text: String,
    kind: usize,
}

impl Partition {
    /// The partition of `kind` (1 to 64 of `a-z 0-9 _`) with these segments, at least one.
    ///
    /// # Errors
    /// `InvalidInput` for another kind, for no segment, and where the text would be no key.
    pub fn new(kind: &str, segments: &[&str]) -> Result<Self> {
        check_kind(kind)?;
        if segments.is_empty() {
            return Err(Error::invalid_input("a partition needs a segment after its kind").with_key(kind));
        }
        let text = format!("{kind}:{}", join(segments));
        check_key(&text)?;
        Ok(Self { text, kind: kind.len() })
    }

    /// The partition with this text, as [`as_str`](Self::as_str) returned it.
    ///
    /// # Errors
    /// `InvalidInput` where the text names no partition.
    pub fn from_text(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        check_kind(kind)?;
        check_key(text)?;
        if !text.contains(':')
            || join(&sort_key_segments(rest).iter().map(String::as_str).collect::<Vec<_>>()) != rest
        {
            return Err(Error::invalid_input("the text names no partition").with_key(text));
        }
        Ok(Self { text: text.to_owned(), kind: kind.len() })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(..self.kind).unwrap_or_default()
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        sort_key_segments(self.text.get(self.kind + 1..).unwrap_or_default())
    }

    /// The range of texts, from the first to before the second, of the partitions of a kind whose first segments are
    /// `segments`, besides one whose only segments they are, whose text is the third: what a store lists.
    ///
    /// # Errors
    /// As [`new`](Self::new); no segment lists the whole kind.
    pub fn range(kind: &str, segments: &[&str]) -> Result<(String, String, Option<Self>)> {
        check_kind(kind)?;
        let own = if segments.is_empty() { None } else { Some(Self::new(kind, segments)?) };
        let lower = own.as_ref().map_or_else(|| format!("{kind}:"), |own| format!("{}:", own.text));
        let upper = prefix_successor(&lower).unwrap_or_default();
        Ok((lower, upper, own))
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({:?})", self.text)
    }
}

fn check_kind(kind: &str) -> Result<()> {
    let plain = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain && (1..=64).contains(&kind.len()) {
        return Ok(());
    }
    Err(Error::invalid_input("the kind of a partition has 1 to 64 characters of a-z, 0-9 and _")
        .with_key(kind))
}

/// Joins segments into a sort key that keeps them apart, as [`Partition::new`] does.
///
/// All keys whose first segments are `a`, `b` lie in the range of the prefix `a:b:`.
///
/// ```
/// assert_eq!(storage_core::sort_key(&["w", "a:b", "0001"]), "w:a%3Ab:0001");
/// ```
#[must_use]
pub fn sort_key(segments: &[&str]) -> String {
    join(segments)
}

/// The segments that [`sort_key`] joined.
#[must_use]
pub fn sort_key_segments(key: &str) -> Vec<String> {
    key.split(':').map(|segment| segment.replace("%3A", ":").replace("%25", "%")).collect()
}

fn join(segments: &[&str]) -> String {
    let escaped = segments.iter().map(|segment| segment.replace('%', "%25").replace(':', "%3A"));
    escaped.collect::<Vec<_>>().join(":")
}

/// What is known of a partition without reading its items.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Which.
    pub partition: Partition,
    /// Raised by one by each commit. It does not tell how many there were: the first has a number that no earlier partition
    /// of the name had, so that a precondition from before a deletion does not hold by chance.
    pub version: u64,
    /// How many items it has.
    pub items: u64,
    /// The bytes of its sort keys, attributes and bodies.
    pub bytes: u64,
    /// The sequence number that was given out last; 0 for none.
    pub sequence: u64,
    /// When it was committed to last, by the clock that judges expiry.
    pub updated_at: SystemTime,
    /// When it expires, where it does.
    pub expires_at: Option<SystemTime>,
}

impl PartitionInfo {
    /// For stores.
    #[must_use]
    pub fn new(partition: Partition, version: u64, updated_at: SystemTime) -> Self {
        Self { partition, version, items: 0, bytes: 0, sequence: 0, updated_at, expires_at: None }
    }
}

/// The version after `version`, for stores. After 0, which is that of no partition, a new one: the milliseconds of the epoch
/// above 20 random bits, which is less than 2^63.
#[must_use]
pub fn next_version(version: u64) -> u64 {
    match version {
        0 => (epoch_millis(SystemClock.now()) << RANDOM_BITS) | fastrand::u64(1..1 << RANDOM_BITS),
        version => version + 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        for (kind, segments) in
            [("", vec!["a"]), ("A", vec!["a"]), ("a:b", vec!["a"]), ("a", vec![]), ("a", vec!["\0"])]
        {
            assert!(Partition::new(kind, &segments).is_err(), "{kind} {segments:?}");
        }
        assert!(Partition::new("a", &[&"x".repeat(1023)]).is_err());
        for text in ["a", "A:b", "a:%", "a:%41", "a:b%3a"] {
            assert!(Partition::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_first_version_comes_from_the_time_and_each_next_is_one_more() {
        let time = || epoch_millis(SystemClock.now()) << RANDOM_BITS;
        let (before, first) = (time(), next_version(0));
        assert!(before < first && first < time() + (1 << RANDOM_BITS), "{before} {first}");
        assert_eq!(next_version(first), first + 1);
        assert!(i64::try_from(first).is_ok(), "stores keep it as a signed integer");
    }

    #[test]
    fn a_range_holds_what_has_more_segments_and_names_the_one_that_has_no_more() {
        let (lower, upper, own) = Partition::range("checkpoint", &["a"]).unwrap();
        let inside = |segments: &[&str]| {
            let text = Partition::new("checkpoint", segments).unwrap().text;
            lower <= text && text < upper
        };
        assert!(inside(&["a", ""]) && inside(&["a", "b"]) && inside(&["a", "b", "c"]));
        assert!(!inside(&["a"]) && !inside(&["ab"]) && !inside(&["a:b"]) && !inside(&["a%"]));
        assert_eq!(own.unwrap().as_str(), "checkpoint:a");
    }

    proptest! {
        #[test]
        fn segments_never_meet(left in prop::collection::vec("[a:%3A]{0,4}", 1..4), right in prop::collection::vec("[a:%3A]{0,4}", 1..4)) {
            let of = |segments: &[String]| Partition::new("k", &segments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(of(&left) == of(&right), left == right);
            prop_assert_eq!(Partition::from_text(of(&left).as_str()).unwrap(), of(&left));
            prop_assert_eq!(of(&left).segments(), left);
        }
    }
}
