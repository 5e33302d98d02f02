//! What the operations send, and how they read the answers. Keys and values are checked by now.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::{
    Entry, Error, ErrorKind, Expected, Expiry, Json, Result, add_integer,
    engine::{Deadline, all_written},
    optional_ttl_millis,
};
use tokio_util::sync::CancellationToken;

use super::{router::Router, sentinel};
use crate::{
    config::RedisConfig,
    connections::{
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, unexpected},
    statements::{
        answer::Answer,
        command::{Command, cmd, with_capacity},
        reply,
        script::{INCREMENT, PERSIST, SWAP, Script},
    },
};

/// How often a conditional write looks again at an entry that others keep changing.
pub(super) const SWAP_TRIES: usize = 64;
/// From this size on a value travels with the bulk.
pub(crate) const LARGE: usize = 64 * 1024;

/// What there is while connected.
pub(crate) struct Connected {
    pub(crate) router: Router,
    pub(crate) namespace: Arc<str>,
    /// Ends the subscriptions.
    pub(crate) closed: CancellationToken,
    timeout: Duration,
}

impl Connected {
    /// Opens a connection, or on a cluster finds its nodes, and gets an answer.
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self> {
        let router = Router::new(config).await?;
        let namespace = config.namespace.as_str().into();
        let timeout = config.operation_timeout;
        let connected = Self { router, namespace, closed: CancellationToken::new(), timeout };
        let deadline = connected.deadline();
        connected.router.refresh(deadline).await?;
        connected.greet(deadline).await?;
        sentinel::follow(&connected.router);
        Ok(connected)
    }

    /// An answer of the server, or of most primaries of a cluster: a few that are down may be about to be replaced.
    async fn greet(&self, deadline: Deadline) -> Result<()> {
        let nodes = self.router.nodes();
        // One that is silent must not use up the time of the others.
        let limit = Deadline::after(deadline.remaining() / 2);
        let answers = join_all(nodes.iter().map(|node| self.ping(node, limit))).await;
        let (mut missing, mut failed) = (Vec::new(), None);
        for (node, answer) in nodes.iter().zip(answers) {
            match answer {
                Ok(()) => {}
                Err(error)
                    if error.kind() != ErrorKind::Unavailable && error.kind() != ErrorKind::Timeout =>
                {
                    return Err(if nodes.len() > 1 { at_node(node, &error) } else { error });
                }
                Err(error) => {
                    missing.push(node.address().to_string());
                    failed = Some(error);
                }
            }
        }
        let Some(error) = failed else { return Ok(()) };
        if nodes.len() == 1 {
            return Err(error);
        }
        let names = missing.join(", ");
        if 2 * missing.len() < nodes.len() {
            tracing::warn!(missing = names, "connected to a cluster without some of its primaries");
            return Ok(());
        }
        let message = format!(
            "{} of the {} primaries of the cluster do not answer: {names}",
            missing.len(),
            nodes.len()
        );
        Err(Error::new(error.kind(), message).with_source(error))
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    pub(crate) async fn ping(&self, node: &Node, deadline: Deadline) -> Result<()> {
        let answer = node.call(Request::One(cmd("PING")), Load::Small, deadline).await;
        reply::text(answer.map_err(|failure| failure.into_error(Access::Read))?).map(|_| ())
    }

    pub(crate) fn full_key(&self, key: &str) -> String {
        [&self.namespace, key].concat()
    }

    /// A command about one key, where the key is the first argument.
    async fn about(&self, name: &str, key: &str, access: Access, deadline: Deadline) -> Result<Answer> {
        let full = self.full_key(key);
        let command = with_capacity(name, full.len()).arg(&full);
        self.send(&full, command, access, deadline).await
    }

    async fn send(&self, full: &str, command: Command, access: Access, deadline: Deadline) -> Result<Answer> {
        self.router.one(self.router.slot(full), Request::One(command), Load::Small, access, deadline).await
    }

    pub(crate) async fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Json>> {
        reply::value(self.about("GET", key, Access::Read, deadline).await?, key)
    }

    pub(crate) async fn exists(&self, key: &str) -> Result<bool> {
        Ok(reply::integer(self.about("EXISTS", key, Access::Read, self.deadline()).await?)? > 0)
    }

    pub(crate) async fn set(&self, key: &str, value: &Json, ttl_millis: Option<u64>) -> Result<()> {
        let full = self.full_key(key);
        let command = set_command(&full, value, ttl_millis);
        let load = if value.len() < LARGE { Load::Small } else { Load::Bulk };
        let (slot, request) = (self.router.slot(&full), Request::One(command));
        let answer = self.router.one(slot, request, load, Access::Write, self.deadline()).await?;
        reply::checked(answer).map(|_| ())
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        // UNLINK: DEL frees a large value on the thread that serves everybody.
        Ok(reply::integer(self.about("UNLINK", key, Access::Write, self.deadline()).await?)? > 0)
    }

    /// A command for each key, where the key is the only argument.
    pub(crate) async fn about_each(
        &self,
        name: &str,
        keys: &[&str],
        access: Access,
        deadline: Deadline,
    ) -> Vec<Result<Answer>> {
        let commands = keys.iter().map(|key| {
            let full = self.full_key(key);
            (self.router.slot(&full), cmd(name).arg(full))
        });
        self.router.many(commands.collect(), access, deadline).await
    }

    pub(crate) async fn get_many(
        &self,
        keys: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Result<Option<Json>>>> {
        let answers = self.about_each("GET", keys, Access::Read, deadline).await;
        let each = keys.iter().zip(answers).map(|(key, answer)| {
            let own = reply::value(answer.map_err(|error| error.with_key(key))?, key);
            match own.map_err(|error| error.with_key(key)) {
                // A key that the user may not read, say: that is no property of the entry.
                Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
                own => Ok(own),
            }
        });
        each.collect()
    }

    /// What a listing reads: entries of another type count as absent. One command where there is one server.
    pub(crate) async fn read_listed(
        &self,
        keys: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Result<Option<Json>>>> {
        if self.router.is_cluster() || keys.is_empty() {
            return self.get_many(keys, deadline).await;
        }
        let command = cmd("MGET").args(keys.iter().map(|key| self.full_key(key)));
        let answer = self.router.one(0, Request::One(command), Load::Bulk, Access::Read, deadline).await?;
        let values = reply::array(answer)?;
        if values.len() != keys.len() {
            return Err(unexpected());
        }
        Ok(keys.iter().zip(values).map(|(key, value)| reply::value(value, key)).collect())
    }

    pub(crate) async fn set_many(&self, entries: &[Entry]) -> Result<()> {
        let last: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        let mut commands = Vec::with_capacity(last.len());
        for entry in last.into_values() {
            let full = self.full_key(&entry.key);
            let command = set_command(&full, &entry.value, optional_ttl_millis(entry.ttl)?);
            commands.push((self.router.slot(&full), command));
        }
        let answers = self.router.many(commands, Access::Write, self.deadline()).await;
        all_written(answers.into_iter().map(|answer| reply::checked(answer?))).map(drop)
    }

    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let answers = self.about_each("UNLINK", &keys, Access::Write, self.deadline()).await;
        let counts = all_written(answers.into_iter().map(|answer| reply::integer(answer?)))?;
        Ok(counts.into_iter().map(i64::unsigned_abs).sum())
    }

    async fn script(
        &self,
        script: &Script,
        key: &str,
        arguments: &[&str],
        deadline: Deadline,
    ) -> Result<Answer> {
        self.script_on(script, &[&self.full_key(key)], arguments, Load::Small, deadline).await
    }

    /// Runs a script that writes, on full keys of one slot.
    pub(super) async fn script_on(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
        load: Load,
        deadline: Deadline,
    ) -> Result<Answer> {
        let slot = keys.first().map_or(0, |key| self.router.slot(key));
        let request = Request::One(script.by_hash(keys, arguments));
        match self.router.one(slot, request, load, Access::Write, deadline).await? {
            // Nothing ran, so a write may be sent again. Not loaded on connect: a restart or a failover
            // forgets scripts at any time.
            Answer::Error(error) if error.code() == "NOSCRIPT" => {
                let request = Request::One(script.in_full(keys, arguments));
                reply::checked(self.router.one(slot, request, load, Access::Write, deadline).await?)
            }
            answer => reply::checked(answer),
        }
    }

    pub(crate) async fn compare_and_set(
        &self,
        key: &str,
        expected: &Expected,
        new: Option<&Json>,
        ttl_millis: Option<u64>,
    ) -> Result<bool> {
        match (expected, new) {
            (Expected::Absent, Some(new)) => self.set_if_absent(key, new, ttl_millis).await,
            (Expected::Absent, None) => Ok(!self.exists(key).await?),
            (Expected::Value(expected), new) => {
                let new = new.map(Json::as_str).unwrap_or_default();
                self.swap_value(key, expected, new, ttl_millis).await
            }
        }
    }

    async fn set_if_absent(&self, key: &str, new: &Json, ttl_millis: Option<u64>) -> Result<bool> {
        let full = self.full_key(key);
        let command = set_command(&full, new, ttl_millis).arg("NX");
        Ok(reply::checked(self.send(&full, command, Access::Write, self.deadline()).await?)? != Answer::Nil)
    }

    /// Expects the very text first, which is what somebody who has just read it has. Another text may still mean the
    /// same: then that text is what is expected next.
    async fn swap_value(
        &self,
        key: &str,
        expected: &Json,
        new: &str,
        ttl_millis: Option<u64>,
    ) -> Result<bool> {
        let deadline = self.deadline();
        let ttl = ttl_millis.map(|millis| millis.to_string()).unwrap_or_default();
        let mut text = expected.clone();
        for _ in 0..SWAP_TRIES {
            match self.script(&SWAP, key, &[text.as_str(), new, &ttl], deadline).await? {
                Answer::Int(_) => return Ok(true),
                Answer::Nil => return Ok(false),
                found => text = reply::stored(&reply::bytes(found)?, key)?,
            }
            if text != *expected {
                return Ok(false);
            }
        }
        Err(restless())
    }

    pub(crate) async fn increment(&self, key: &str, by: i64, ttl_millis: Option<u64>) -> Result<i64> {
        let deadline = self.deadline();
        for _ in 0..SWAP_TRIES {
            if let Some(sum) = self.add(key, by, ttl_millis, deadline).await? {
                return Ok(sum);
            }
            // Not spelled as Redis spells integers (`5.0`), no integer at all, or too large.
            let Some(found) = self.get(key, deadline).await? else { continue };
            let sum = add_integer(Some(&found), by)?;
            let arguments = [found.as_str(), &sum.to_string(), "KEEP"];
            if let Answer::Int(_) = self.script(&SWAP, key, &arguments, deadline).await? {
                return Ok(sum);
            }
        }
        Err(restless())
    }

    /// Adds in one step; `None`, changing nothing, where Redis cannot read the value as an integer.
    async fn add(
        &self,
        key: &str,
        by: i64,
        ttl_millis: Option<u64>,
        deadline: Deadline,
    ) -> Result<Option<i64>> {
        let Some(ttl) = ttl_millis else {
            let full = self.full_key(key);
            let command = cmd("INCRBY").arg(&full).number(by);
            return match self.send(&full, command, Access::Write, deadline).await? {
                Answer::Error(error) if error.code() == "ERR" => Ok(None),
                answer => reply::integer(answer).map(Some),
            };
        };
        match self.script(&INCREMENT, key, &[&by.to_string(), &ttl.to_string()], deadline).await? {
            Answer::Status(_) => Ok(None),
            sum => Ok(Some(reply::text(sum)?.parse().map_err(|_| unexpected())?)),
        }
    }

    pub(crate) async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        Ok(match reply::integer(self.about("PTTL", key, Access::Read, self.deadline()).await?)? {
            -1 => Some(Expiry::Never),
            // -2, for no entry, is no `u64`.
            left => u64::try_from(left).ok().map(|millis| Expiry::After(Duration::from_millis(millis))),
        })
    }

    pub(crate) async fn expire(&self, key: &str, ttl_millis: u64) -> Result<bool> {
        let full = self.full_key(key);
        let command = cmd("PEXPIRE").arg(&full).number(ttl_millis);
        Ok(reply::integer(self.send(&full, command, Access::Write, self.deadline()).await?)? > 0)
    }

    pub(crate) async fn persist(&self, key: &str) -> Result<bool> {
        Ok(reply::integer(self.script(&PERSIST, key, &[], self.deadline()).await?)? > 0)
    }
}

pub(super) fn set_command(full: &str, value: &Json, ttl_millis: Option<u64>) -> Command {
    let command = with_capacity("SET", full.len() + value.len()).arg(full).arg(value.as_str());
    match ttl_millis {
        Some(millis) => command.arg("PX").number(millis),
        None => command,
    }
}

pub(super) fn restless() -> Error {
    Error::new(ErrorKind::Conflict, format!("others changed the entry {SWAP_TRIES} times in a row"))
}

/// The error of one node of several.
fn at_node(node: &Node, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {}", node.address(), error.message())).with_hint_of(error)
}
