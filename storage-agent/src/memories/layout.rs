//! Where a memory is: a partition for each first label of namespaces, in it an item for each memory.
//!
//! The sort key of an item is the other labels, each with [`END`] behind it, then [`END`] and the key. So the items are in
//! the order of their namespaces, label by label, and all below a namespace lie in one range.

use storage_core::{Error, MAX_KEY_BYTES, Partition, Result};

/// What the partition of each first label is named by.
pub(crate) const KIND: &str = "memory";
/// What the partition that expires with a memory is named by.
pub(crate) const LEASES: &str = "memory_lease";

/// The longest namespace: the bytes of its labels, and one for each.
pub const MAX_NAMESPACE_BYTES: usize = 900;
/// The longest key of a memory, in bytes of JSON text.
pub const MAX_MEMORY_KEY_BYTES: usize = 32 * 1024;

/// Less than any character of a label, so that a namespace comes before what lies below it.
const END: char = '\u{1}';
/// The first label that LangGraph keeps for itself.
const RESERVED: &str = "langgraph";

/// A namespace and a key, checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: Partition,
    pub(super) sort: String,
    /// Where the sort key holds only its hash: the key.
    pub(super) hashed: Option<String>,
}

impl Place {
    pub(super) fn new(namespace: &[&str], key: &str) -> Result<Self> {
        check_namespace(namespace)?;
        let (partition, prefix) = range(namespace)?;
        if key.contains('\0') {
            return Err(Error::invalid_input("the key of a memory may not hold a NUL"));
        }
        let json = serde_json::to_string(key).map_or(usize::MAX, |text| text.len());
        if json > MAX_MEMORY_KEY_BYTES {
            let message = format!(
                "the key of a memory may have {MAX_MEMORY_KEY_BYTES} bytes as JSON; this one has {json}"
            );
            return Err(Error::invalid_input(message).with_hint("long text belongs into the value"));
        }
        let plain = format!("{prefix}{END}{key}");
        if plain.len() <= MAX_KEY_BYTES && !key.starts_with(END) {
            return Ok(Self { partition, sort: plain, hashed: None });
        }
        let sort = format!("{prefix}{END}{END}{}", blake3::hash(key.as_bytes()).to_hex());
        Ok(Self { partition, sort, hashed: Some(key.to_owned()) })
    }

    /// The same for a place that is written to.
    pub(super) fn to_write(namespace: &[&str], key: &str) -> Result<Self> {
        if namespace.first() == Some(&RESERVED) {
            let message = format!("the first label `{RESERVED}` is LangGraph's own");
            return Err(Error::invalid_input(message).with_hint("choose another, such as `memories`"));
        }
        Self::new(namespace, key)
    }
}

/// The partition of a namespace that is not empty, and what the sort keys in it and below it begin with.
pub(super) fn range(namespace: &[&str]) -> Result<(Partition, String)> {
    let Some((root, rest)) = namespace.split_first() else {
        return Err(Error::invalid_input("a namespace has one label at least")
            .with_hint("name whose memory it is, such as `users`, `42`"));
    };
    Ok((Partition::new(KIND, &[root])?, rest.iter().flat_map(|label| [*label, "\u{1}"]).collect()))
}

/// The first label of a partition of memories.
pub(super) fn root(partition: &Partition) -> String {
    partition.segments().swap_remove(0)
}

/// The namespace and the key of an item; no key where the sort key holds only its hash.
pub(super) fn split(partition: &Partition, sort: &str) -> Result<(Vec<String>, Option<String>)> {
    let mut namespace = vec![root(partition)];
    let mut left = sort;
    loop {
        match left.split_once(END) {
            Some(("", key)) => {
                return Ok((namespace, (!key.starts_with(END)).then(|| key.to_owned())));
            }
            Some((label, rest)) => {
                namespace.push(label.to_owned());
                left = rest;
            }
            None => {
                return Err(Error::corrupt("the item has no place of a memory").with_key(partition.as_str()));
            }
        }
    }
}

/// The first sort key behind a namespace's own memories, or behind all that lies below it too; `None` for the end.
pub(super) fn behind(namespace: &[String], below: bool) -> Option<String> {
    let rest = namespace.iter().skip(1);
    let prefix: String = rest.flat_map(|label| [label.as_str(), "\u{1}"]).collect();
    if below { storage_core::prefix_successor(&prefix) } else { Some(format!("{prefix}\u{2}")) }
}

fn check_namespace(namespace: &[&str]) -> Result<()> {
    if namespace.is_empty() {
        return range(namespace).map(drop);
    }
    check_labels(namespace)
}

/// Checks labels of a namespace, a prefix or a pattern.
pub(super) fn check_labels(labels: &[&str]) -> Result<()> {
    for label in labels {
        if label.is_empty() {
            return Err(
                Error::invalid_input("a label of a namespace may not be empty").with_key(&labels.join("/"))
            );
        }
        if label.contains(['\0', END]) {
            let message = "a label of a namespace may not hold the characters U+0000 and U+0001";
            return Err(Error::invalid_input(message));
        }
    }
    let bytes: usize = labels.iter().map(|label| label.len() + 1).sum();
    if bytes > MAX_NAMESPACE_BYTES {
        let message = format!(
            "a namespace may have {MAX_NAMESPACE_BYTES} bytes, one for each label counted; this one has {bytes}"
        );
        return Err(Error::invalid_input(message).with_hint("put long names into the key or the value"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_namespace_or_key_is_refused() {
        let long = "x".repeat(MAX_NAMESPACE_BYTES);
        for namespace in
            [&[][..], &[""], &["a", ""], &["a", "b\0"], &["\u{1}"], &[&long], &["langgraph", "a"]]
        {
            assert!(Place::to_write(namespace, "k").is_err(), "{namespace:?}");
        }
        assert!(Place::to_write(&["a", "langgraph", "b.c"], "").is_ok());
        assert!(Place::new(&["a"], "\0").is_err());
        assert!(Place::new(&["a"], &"x".repeat(MAX_MEMORY_KEY_BYTES)).is_err());
    }

    #[test]
    fn keys_that_do_not_fit_are_hashed() {
        for (key, fits) in [("", true), ("a:b%/\u{1}", true), ("\u{1}", false), (&"é".repeat(600), false)] {
            let place = Place::new(&["a", &"n".repeat(890)], key).unwrap();
            assert_eq!(place.hashed.is_none(), fits, "{key}");
            assert!(place.sort.len() <= MAX_KEY_BYTES);
            assert_eq!(split(&place.partition, &place.sort).unwrap().1, fits.then(|| key.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn sort_keys_keep_places_apart_and_in_the_order_of_namespaces(
            left in prop::collection::vec("[a\u{2}-]{1,3}", 1..4), right in prop::collection::vec("[a\u{2}-]{1,3}", 1..4),
            key in "[a\u{1}:]{0,3}", other in "[a\u{1}:]{0,3}",
        ) {
            let of = |labels: &[String], key: &str| {
                let mut all = vec!["r"];
                all.extend(labels.iter().map(String::as_str));
                (Place::new(&all, key).unwrap(), all.into_iter().map(str::to_owned).collect::<Vec<_>>())
            };
            let ((one, first), (two, second)) = (of(&left, &key), of(&right, &other));
            prop_assert_eq!(one.sort == two.sort, left == right && key == other);
            if left != right {
                prop_assert_eq!(one.sort < two.sort, left < right);
                let below = second.starts_with(&first);
                prop_assert!(behind(&first, false).unwrap() <= two.sort || two.sort < one.sort);
                prop_assert_eq!(below, two.sort > one.sort && two.sort < behind(&first, true).unwrap());
            }
            prop_assert_eq!(split(&one.partition, &one.sort).unwrap().0, first);
        }
    }
}
