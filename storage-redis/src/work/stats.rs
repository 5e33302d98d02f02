//! What the server says about itself, and whether it answers.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use storage_core::{Error, Health, Result, Stats, StoreHealth, engine::Deadline};

use super::operations::Connected;
use crate::{
    connections::{
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, NAME, unexpected, unserved},
    statements::{
        answer::Answer,
        command::{Command, cmd},
        reply,
    },
};

/// What INFO says and is passed on as it is; of a cluster, the first node's word.
const FACTS: [&str; 5] =
    ["redis_version", "redis_mode", "uptime_in_seconds", "maxmemory_policy", "used_memory_human"];
/// What INFO counts, added up over the nodes.
const COUNTS: [&str; 7] = [
    "connected_clients",
    "keyspace_hits",
    "keyspace_misses",
    "expired_keys",
    "evicted_keys",
    "total_commands_processed",
    "maxmemory",
];

/// How long the nodes of a cluster have before its map is read anew.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// So many tags name every slot.
const PROBE_TRIES: u32 = 200_000;

pub(crate) async fn stats(connected: &Connected) -> Result<Stats> {
    let nodes = connected.router.nodes();
    let deadline = connected.deadline();
    let answers = try_join_all(nodes.iter().map(|node| ask(node, deadline))).await?;
    let infos: Vec<HashMap<&str, &str>> = answers.iter().map(|(info, _)| parsed(info)).collect();
    let sum = |name: &str| -> u64 {
        let counts = infos.iter().filter_map(|info| info.get(name)?.parse::<u64>().ok());
        counts.sum()
    };
    let mut details = BTreeMap::from([("nodes".to_owned(), nodes.len().to_string())]);
    for name in FACTS {
        let fact = infos.first().and_then(|info| info.get(name));
        details.extend(fact.map(|fact| (name.to_owned(), (*fact).to_owned())));
    }
    details.extend(COUNTS.map(|name| (name.to_owned(), sum(name).to_string())));
    let entries = answers.iter().map(|(_, entries)| entries).sum();
    Ok(Stats { backend: NAME.to_owned(), entries: Some(entries), bytes: Some(sum("used_memory")), details })
}

async fn ask(node: &Node, deadline: Deadline) -> Result<(String, u64)> {
    let info = reply::text(call(node, cmd("INFO"), deadline).await?)?;
    let entries = reply::integer(call(node, cmd("DBSIZE"), deadline).await?)?;
    Ok((info, entries.unsigned_abs()))
}

async fn call(node: &Node, command: Command, deadline: Deadline) -> Result<Answer> {
    let answer = node.call(Request::One(command), Load::Bulk, deadline).await;
    answer.map_err(|failure| failure.into_error(Access::Read))
}

fn parsed(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim().split_once(':')).collect()
}

/// Each primary, asked at once, in one round trip. On a cluster that has changed they are asked once more, by its new map.
pub(crate) async fn health(connected: &Connected) -> Health {
    let deadline = connected.deadline();
    if !connected.router.is_cluster() {
        return Health { stores: check(connected, deadline).await };
    }
    // Most of the time is left for the second look: a node that is silent must not use up that of the others.
    let first = Deadline::after(FIRST_LOOK.min(deadline.limit() / 4));
    let mut stores = check(connected, first).await;
    let works = |store: &StoreHealth| store.reads() && store.writes();
    if !stores.iter().all(works) {
        match connected.router.refresh(deadline).await {
            Ok(()) => stores = check(connected, deadline).await,
            Err(error) => tracing::debug!(%error, "the map of the cluster could not be read"),
        }
    }
    Health { stores }
}

async fn check(connected: &Connected, deadline: Deadline) -> Vec<StoreHealth> {
    let mut nodes = connected.router.nodes();
    // One without slots has no key to ask about, and nobody needs it yet.
    nodes.retain(|node| connected.router.serves_any(node));
    let mut stores = join_all(nodes.iter().map(|node| check_node(connected, node, deadline))).await;
    stores.extend(unowned(connected));
    stores
}

/// The slots of a cluster that no node serves, where there are any.
fn unowned(connected: &Connected) -> Option<StoreHealth> {
    let ranges = Vec::from(connected.router.topology().map().unowned());
    let (first, last) = ranges.first()?;
    let more = if ranges.len() > 1 { " and others" } else { "" };
    let error = unserved(format!("no node of the cluster serves the slots {first} to {last}{more}"));
    Some(StoreHealth::failed(&format!("{NAME} slots"), Duration::ZERO, &error.at(NAME, "health")))
}

/// A read, and a write that changes nothing: of a key that must be there and is not. As what programs do most.
async fn check_node(connected: &Connected, node: &Node, deadline: Deadline) -> StoreHealth {
    let name = match connected.router.is_cluster() {
        true => format!("{NAME} {}", node.address()),
        false => NAME.to_owned(),
    };
    let start = Instant::now();
    let key = probe_key(connected, node);
    let commands = vec![cmd("GET").arg(&key), cmd("SET").arg(&key).arg("null").arg("XX")];
    let answer = node.call_once(&Request::Each(commands), Load::Small, deadline).await;
    let answers = answer.map_err(|failure| failure.into_error(Access::Read)).and_then(reply::array);
    let at = |error: Error| error.at(NAME, "health");
    match answers.and_then(|answers| <[Answer; 2]>::try_from(answers).map_err(|_| unexpected())) {
        Err(error) => StoreHealth::failed(&name, start.elapsed(), &at(error)),
        Ok([read, write]) => {
            let read = reply::checked(read).err().map(at);
            let write = reply::checked(write).err().map(at);
            StoreHealth::new(&name, start.elapsed(), read.as_ref(), write.as_ref())
        }
    }
}

/// A key that nobody can have, for it holds a NUL; on a cluster one of a slot that the node serves.
fn probe_key(connected: &Connected, node: &Node) -> String {
    let key = connected.full_key("\0health");
    if !connected.router.is_cluster() {
        return key;
    }
    // A node that serves few slots takes many tries; each costs some nanoseconds.
    let tagged = (0..PROBE_TRIES).map(|number| format!("{key}:{{{number}}}"));
    let mut own = tagged.filter(|key| connected.router.serves(node, connected.router.slot(key)));
    own.next().unwrap_or(key)
}
