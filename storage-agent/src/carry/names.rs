//! Names in the order of their bytes, in bounded memory: a store may list them in any.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::BoxStream};
use storage_core::{ErrorKind, Result};

/// How many names are held at a time.
const MOST: usize = 200_000;

/// Names with what is known of them, in their order, and whether there may be more.
pub(super) struct Round<T> {
    pub(super) names: BTreeMap<String, T>,
    pub(super) more: bool,
}

/// The least names of a listing that come after one. What the listing could not read is not in it.
pub(super) async fn least<T>(
    listed: BoxStream<'_, Result<(String, T)>>,
    after: Option<&str>,
) -> Result<Round<T>> {
    least_of(listed, after, MOST).await
}

async fn least_of<T>(
    mut listed: BoxStream<'_, Result<(String, T)>>,
    after: Option<&str>,
    most: usize,
) -> Result<Round<T>> {
    let mut round = Round { names: BTreeMap::new(), more: false };
    while let Some(found) = listed.next().await {
        let (name, about) = match found {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Corrupt => continue,
            Err(error) => return Err(error),
        };
        let is_beyond =
            round.names.last_key_value().is_some_and(|(last, _)| round.names.len() >= most && name > *last);
        round.more |= is_beyond;
        if is_beyond || after.is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        round.names.insert(name, about);
        if round.names.len() > most {
            round.names.pop_last();
            round.more = true;
        }
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, stream};

    use super::*;

    #[test]
    fn rounds_bring_each_name_once_in_order() {
        for most in [1, 2, 3, 7, 8] {
            let (mut all, mut after) = (Vec::new(), None::<String>);
            loop {
                let names = ["d", "a", "g", "c", "f", "b", "e", "a"];
                let listed = stream::iter(names.map(|name| Ok((name.to_owned(), ())))).boxed();
                let round = block_on(least_of(listed, after.as_deref(), most)).unwrap();
                assert!(round.names.len() <= most);
                all.extend(round.names.into_keys());
                after = all.last().cloned();
                if !round.more {
                    break;
                }
            }
            assert_eq!(all, ["a", "b", "c", "d", "e", "f", "g"], "{most}");
        }
    }
}
