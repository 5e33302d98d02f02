//! Listing namespaces: names are read in their order, and what lies in one that is listed is passed over.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{Error, Item, Partition, Result, StorageExt};

use super::{
    item::{Lease, Stored},
    layout::{KIND, behind, check_labels, range, split},
    search::{check_page, names},
    store::{MemoryStore, PARALLEL},
};

/// How many names are read in one step.
const PAGE: usize = 1_000;
/// What stands for any one label in a prefix or a suffix.
const ANY: &str = "*";

/// Which namespaces to list.
#[derive(Debug, Clone)]
pub struct ListNamespaces {
    /// What they begin with; `*` stands for any one label.
    pub prefix: Vec<String>,
    /// What they end with; `*` stands for any one label.
    pub suffix: Vec<String>,
    /// How many labels are listed: of longer ones the first, each once. One at least.
    pub max_depth: Option<usize>,
    /// How many namespaces at most; 100 unless set otherwise, 10,000 at most.
    pub limit: usize,
    /// How many to pass over; 100,000 at most.
    pub offset: usize,
}

impl Default for ListNamespaces {
    fn default() -> Self {
        Self { prefix: Vec::new(), suffix: Vec::new(), max_depth: None, limit: 100, offset: 0 }
    }
}

impl ListNamespaces {
    fn check(&self) -> Result<()> {
        for labels in [&self.prefix, &self.suffix] {
            check_labels(&labels.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        if self.max_depth == Some(0) {
            return Err(Error::invalid_input("max_depth is one label at least"));
        }
        check_page(self.limit, self.offset)
    }

    fn matches(&self, namespace: &[String]) -> bool {
        let fits = |label: &String, pattern: &String| pattern == ANY || label == pattern;
        let long = namespace.len() >= self.prefix.len() && namespace.len() >= self.suffix.len();
        long && namespace.iter().zip(&self.prefix).all(|(label, pattern)| fits(label, pattern))
            && namespace
                .iter()
                .rev()
                .zip(self.suffix.iter().rev())
                .all(|(label, pattern)| fits(label, pattern))
    }

    fn cut(&self, mut namespace: Vec<String>) -> Vec<String> {
        namespace.truncate(self.max_depth.unwrap_or(usize::MAX));
        namespace
    }

    /// Where to go on behind a namespace from which nothing is needed any more, be it the end; `None` where something is.
    fn passed_over(&self, namespace: Vec<String>, listed: &BTreeSet<Vec<String>>) -> Option<Option<String>> {
        if !self.matches(&namespace) {
            return Some(behind(&namespace, false));
        }
        let name = self.cut(namespace);
        listed.contains(&name).then(|| behind(&name, self.max_depth == Some(name.len())))
    }

    /// The labels that the prefix begins with before any `*`.
    fn literal(&self) -> Vec<&str> {
        self.prefix.iter().map(String::as_str).take_while(|label| *label != ANY).collect()
    }
}

impl MemoryStore {
    pub(super) async fn listed(&self, list: &ListNamespaces) -> Result<Vec<Vec<String>>> {
        list.check()?;
        let most = list.limit + list.offset;
        if list.limit == 0 {
            return Ok(Vec::new());
        }
        let literal = list.literal();
        let all = if literal.is_empty() {
            let every = self.shared.storage.partitions(KIND, &[]);
            let each = every.map(|info| async { self.names_in(&info?.partition, "", list, most).await });
            let least = |mut all: BTreeSet<_>, names: BTreeSet<_>| async move {
                all.extend(names);
                while all.len() > most {
                    all.pop_last();
                }
                Ok(all)
            };
            each.buffer_unordered(PARALLEL).try_fold(BTreeSet::new(), least).await?
        } else {
            let (partition, sorts) = range(&literal)?;
            self.names_in(&partition, &sorts, list, most).await?
        };
        Ok(all.into_iter().skip(list.offset).take(list.limit).collect())
    }

    /// The first namespaces of a partition, `most` at least where there are so many.
    async fn names_in(
        &self,
        partition: &Partition,
        sorts: &str,
        list: &ListNamespaces,
        most: usize,
    ) -> Result<BTreeSet<Vec<String>>> {
        let mut listed = BTreeSet::new();
        let mut next = Some(names(partition, sorts, PAGE));
        while let Some(query) = next {
            let page = self.shared.collections()?.query(query.clone()).await?;
            let last = page.items.last().map(|item| split(partition, &item.sort)).transpose()?;
            next = query.after(&page);
            self.add(partition, page.items, list, &mut listed).await?;
            if listed.len() >= most {
                break;
            }
            let (Some(query), Some((last, _))) = (&mut next, last) else { continue };
            match list.passed_over(last, &listed) {
                Some(Some(from)) => query.from = from,
                Some(None) => break,
                None => {}
            }
        }
        Ok(listed)
    }

    /// Adds the namespaces of items in which a memory has not expired.
    async fn add(
        &self,
        partition: &Partition,
        items: Vec<Item>,
        list: &ListNamespaces,
        listed: &mut BTreeSet<Vec<String>>,
    ) -> Result<()> {
        let mut unsure = BTreeMap::<Vec<String>, Vec<Lease>>::new();
        for item in items {
            let (namespace, _) = split(partition, &item.sort)?;
            if !list.matches(&namespace) {
                continue;
            }
            let name = list.cut(namespace);
            if listed.contains(&name) {
                continue;
            }
            // One that cannot be read is there.
            match Stored::decode(partition, item).ok().and_then(|stored| stored.lease) {
                Some(lease) => unsure.entry(name).or_default().push(lease),
                None => {
                    unsure.remove(&name);
                    listed.insert(name);
                }
            }
        }
        let look = async |(name, leases): (_, Vec<Lease>)| -> Result<_> {
            for lease in leases {
                if self.alive(&lease, false).await?.is_some() {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        };
        let alive: Vec<_> = stream::iter(unsure).map(look).buffer_unordered(PARALLEL).try_collect().await?;
        listed.extend(alive.into_iter().flatten());
        Ok(())
    }
}
