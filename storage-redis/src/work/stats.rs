//! What the server says about itself, and whether it answers.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use futures::future::{join_all, try_join_all};
use storage_core::{Health, Result, Stats, StoreHealth, engine::Deadline};

use super::operations::Connected;
use crate::{
    connections::{
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, NAME},
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

/// Each primary, asked at once.
pub(crate) async fn health(connected: &Connected) -> Health {
    let nodes = connected.router.nodes();
    let stores = nodes.iter().map(|node| async {
        let name = match connected.router.is_cluster() {
            true => format!("{NAME} {}", node.address()),
            false => NAME.to_owned(),
        };
        let start = Instant::now();
        let answer =
            connected.ping(node, connected.deadline()).await.map_err(|error| error.at(NAME, "health"));
        StoreHealth::new(&name, start.elapsed(), answer.err().as_ref())
    });
    Health { stores: join_all(stores).await }
}
