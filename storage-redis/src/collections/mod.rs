//! Partitions of ordered items.
//!
//! A partition is two Redis keys, which share what stands before the NUL:
//!
//! - `{namespace}{<text>}\0h`, a hash: `version`, `sequence`, `items`, `bytes`, `updated_at` and `expires_at`
//!   (milliseconds) of the partition; by `a:<sort key>` the header and the attributes of an item, as
//!   `<version> <written at> <bytes of the body> <bytes of the tag> <tag><attributes>`; by `b:<sort key>` its body,
//!   unless that is empty; by `t:<tag>` the sort key of the item with a tag.
//!   The first version is the server's time in microseconds, below the 2^53 up to which Lua's numbers are exact.
//! - `{namespace}{<text>}\0s`, a sorted set of the sort keys, all of score 0, which Redis orders by bytes.
//!
//! No entry's key holds a NUL, so no entry is ever written over a partition. The first `{` is the one before the text,
//! which is not empty, and the first `}` after it comes before the NUL: both keys have one slot, whatever the text holds.
//!
//! Both have one expiry, so Redis drops both at the same moment. Where an eviction takes one of them, either the hash is
//! gone and with it the partition, or the numbers do not add up and the partition is `Corrupt`.

mod commit;
mod listing;
mod query;

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::TryFutureExt;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Error, Hit, Item, Page, Partition, PartitionInfo, Query,
    Result, ScanPage, Search, StorageBackend, check_key, check_page_limit, engine::Deadline,
};

use crate::{
    RedisBackend,
    connections::{lane::Request, node::Load},
    error::{Access, NAME},
    statements::{
        answer::Answer,
        command::{Command, cmd},
        reply,
        script::Script,
    },
    work::operations::{Connected, LARGE},
};
use listing::HASH;

/// What the keys of the sorted sets end with.
const INDEX: &str = "}\0s";

/// The pause before a script is sent again while its slot is on the move.
const PAUSE: Duration = Duration::from_millis(20);

/// From so many items on a page travels with the bulk.
const MANY: usize = 128;

/// The two keys of a partition.
struct Keys {
    hash: String,
    index: String,
}

impl Keys {
    fn new(namespace: &str, partition: &Partition) -> Self {
        let key = |ending: &str| [namespace, "{", partition.as_str(), ending].concat();
        Self { hash: key(HASH), index: key(INDEX) }
    }

    fn both(&self) -> [&str; 2] {
        [&self.hash, &self.index]
    }
}

impl Connected {
    fn keys_of(&self, partition: &Partition) -> Keys {
        Keys::new(&self.namespace, partition)
    }

    /// Sends a command about keys of one slot. While the slot moves and only one of them has arrived, no node can serve
    /// both, and none has done anything.
    async fn about_partition(
        &self,
        keys: &Keys,
        command: &Command,
        load: Load,
        access: Access,
        deadline: Deadline,
    ) -> Result<Answer> {
        loop {
            let slot = self.router.slot(&keys.hash);
            let answer = self.router.one(slot, Request::One(command.clone()), load, access, deadline).await?;
            match &answer {
                Answer::Error(error) if error.code() == "TRYAGAIN" && deadline.remaining() > PAUSE => {
                    deadline.pause(PAUSE).await;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn run(
        &self,
        script: &Script,
        keys: &Keys,
        arguments: &[Cow<'_, [u8]>],
        load: Load,
        access: Access,
    ) -> Result<Answer> {
        let deadline = self.deadline();
        let command = script.by_hash(&keys.both(), arguments);
        match self.about_partition(keys, &command, load, access, deadline).await? {
            Answer::Error(error) if error.code() == "NOSCRIPT" => {
                let command = script.in_full(&keys.both(), arguments);
                reply::checked(self.about_partition(keys, &command, load, access, deadline).await?)
            }
            answer => reply::checked(answer),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        let keys = self.keys_of(&commit.partition);
        let arguments = commit::arguments(commit)?;
        let bytes: usize = arguments.iter().map(|argument| argument.len()).sum();
        let load = if bytes < LARGE { Load::Small } else { Load::Bulk };
        let answer = self.run(&commit::SCRIPT, &keys, &arguments, load, Access::Write).await?;
        commit::committed(commit, answer)
    }

    async fn query(&self, query: &Query) -> Result<Page> {
        let keys = self.keys_of(&query.partition);
        let load = if query.limit < MANY { Load::Small } else { Load::Bulk };
        let answer = self.run(&query::SCRIPT, &keys, &query::arguments(query), load, Access::Read).await?;
        query::page(query, answer)
    }

    /// One command on one key: what it sees is one moment.
    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        if sorts.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys_of(partition);
        let load = if sorts.len() < MANY { Load::Small } else { Load::Bulk };
        let command = query::multi_get(&keys.hash, sorts);
        let answer = self.about_partition(&keys, &command, load, Access::Read, self.deadline()).await?;
        query::items(sorts, answer)
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let keys = self.keys_of(partition);
        let command = query::look(&keys.hash);
        let answer =
            self.about_partition(&keys, &command, Load::Small, Access::Read, self.deadline()).await?;
        query::info(partition.clone(), answer)
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let keys = self.keys_of(partition);
        let command = cmd("UNLINK").args(keys.both());
        let answer =
            self.about_partition(&keys, &command, Load::Small, Access::Write, self.deadline()).await?;
        Ok(reply::integer(answer)? > 0)
    }
}

impl RedisBackend {
    /// Runs an operation on a partition and names both in an error.
    async fn on<T>(
        &self,
        operation: &'static str,
        partition: &Partition,
        work: impl AsyncFnOnce(Arc<Connected>) -> Result<T>,
    ) -> Result<T> {
        let entered = async { work(self.enter()?).await };
        entered.map_err(|error| error.at(NAME, operation).with_key(partition.as_str())).await
    }
}

#[async_trait]
impl CollectionStore for RedisBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        commit.check(self.max_value_bytes()).map_err(|error| error.at(NAME, "commit"))?;
        self.on("commit", &commit.partition, async |connected| connected.commit(&commit).await).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        query.check().map_err(|error| error.at(NAME, "query"))?;
        self.on("query", &query.partition, async |connected| connected.query(&query).await).await
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        sorts.iter().try_for_each(|sort| check_key(sort)).map_err(|error| error.at(NAME, "items"))?;
        self.on("items", partition, async |connected| connected.items(partition, sorts).await).await
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        self.on("partition", partition, async |connected| connected.partition(partition).await).await
    }

    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        let work = async {
            check_page_limit(limit)?;
            let connected = self.enter()?;
            listing::page(&connected, kind, segments, after, limit, connected.deadline()).await
        };
        work.map_err(|error| error.at(NAME, "partitions_page")).await
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let work = async |connected: Arc<Connected>| connected.delete_partition(partition).await;
        self.on("delete_partition", partition, work).await
    }

    fn searches(&self, _: &str) -> bool {
        false
    }

    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        search.check()?;
        Err(Error::unsupported(NAME, "search")
            .with_key(&search.kind)
            .with_hint("memory, SQLite and Postgres have full-text search"))
    }
}
