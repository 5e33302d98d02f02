//! Redis Cluster: several primaries that share the slots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Redis, RedisOptions};
use crate::{Error, Result};

const SLOTS: usize = 16_384;
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A Redis Cluster: primaries that began with an equal share of the slots, and their replicas, where they have any.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts `count` nodes, joins them, and waits until each says that the cluster is complete.
    ///
    /// # Errors
    ///
    /// When a node does not start, or the cluster does not form within a minute.
    pub fn start(count: usize) -> Result<RedisCluster> {
        let options = RedisOptions { cluster: true, ..RedisOptions::default() };
        let nodes = (0..count).map(|_| Redis::start(&options)).collect::<Result<Vec<Redis>>>()?;
        let cluster = RedisCluster { nodes };
        cluster.share_slots()?;
        cluster.introduce()?;
        cluster.wait_until_complete()?;
        Ok(cluster)
    }

    /// As [`start`](Self::start); then each primary gets a replica, which is promoted when its primary is gone for more than
    /// two seconds. The replica of the node at `place` is at `place + count`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_replicas(count: usize) -> Result<RedisCluster> {
        let mut cluster = Self::start(count)?;
        for place in 0..count {
            let replica = cluster.join()?;
            let primary = cluster.id(place)?;
            // It learns of its primary by gossip.
            wait_for("the replica to know its primary", || {
                let Some(node) = cluster.nodes.get(replica) else { return Ok(false) };
                Ok(node.command(&["CLUSTER", "REPLICATE", &primary]).is_ok())
            })?;
        }
        for replica in count..2 * count {
            let Some(node) = cluster.nodes.get(replica) else { continue };
            wait_for("the replica to be in step", || {
                Ok(node.command(&["INFO", "replication"])?.contains("master_link_status:up"))
            })?;
        }
        cluster.wait_until_complete()?;
        Ok(cluster)
    }

    /// Starts another node, which owns no slots, and waits until all know it; returns its place.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn join(&mut self) -> Result<usize> {
        let options = RedisOptions { cluster: true, ..RedisOptions::default() };
        self.nodes.push(Redis::start(&options)?);
        self.introduce()?;
        self.wait_until_complete()?;
        Ok(self.nodes.len() - 1)
    }

    /// Moves a slot as `redis-cli --cluster reshard` does, with its keys.
    ///
    /// # Errors
    ///
    /// When a node refuses; the slot may then be half moved.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let (slot, ids) = (slot.to_string(), [self.id(from)?, self.id(to)?]);
        let (Some(source), Some(target)) = (self.nodes.get(from), self.nodes.get(to)) else { return Ok(()) };
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]])?;
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]])?;
        let port = target.port().to_string();
        loop {
            let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?;
            let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let start = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let words: Vec<&str> = start.into_iter().chain(keys).collect();
            source.command(&words)?;
        }
        // The new owner first: else nobody would own it for a moment.
        target.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]])?;
        source.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]])?;
        Ok(())
    }

    /// The node's id in the cluster.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn id(&self, place: usize) -> Result<String> {
        self.nodes.get(place).map_or_else(|| Ok(String::new()), |node| node.command(&["CLUSTER", "MYID"]))
    }

    /// Whether the node at `place` is a primary now.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn is_primary(&self, place: usize) -> Result<bool> {
        let role = self.nodes.get(place).map(|node| node.command(&["INFO", "replication"])).transpose()?;
        Ok(role.is_some_and(|role| role.contains("role:master")))
    }

    /// Hands the slots of a replica's primary over to it, without losing a write.
    ///
    /// # Errors
    ///
    /// When the node is no replica, or this takes longer than a minute.
    pub fn fail_over_to(&self, place: usize) -> Result<()> {
        let Some(node) = self.nodes.get(place) else { return Ok(()) };
        let mut asked: Option<Instant> = None;
        wait_for("the replica to be promoted", || {
            // It gives up by itself after five seconds where it cannot catch up with its primary, and says so to nobody.
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(6))
                && !self.is_primary(place)?
            {
                node.command(&["CLUSTER", "FAILOVER"])?;
                asked = Some(Instant::now());
            }
            self.is_primary(place)
        })
    }

    /// URL of the cluster: `redis-cluster://127.0.0.1:p1,127.0.0.1:p2,...`.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The nodes, to kill, pause and restart.
    #[must_use]
    pub fn nodes_mut(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Waits until each node says that all slots are served.
    ///
    /// # Errors
    ///
    /// When that takes longer than a minute; the error holds a node's view of the cluster.
    pub fn wait_until_complete(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let views: Vec<Result<String>> =
                self.nodes.iter().map(|node| node.command(&["CLUSTER", "INFO"])).collect();
            let incomplete = views.into_iter().find(|view| !self.is_complete(view));
            match incomplete {
                None => return Ok(()),
                Some(_) if started.elapsed() < LIMIT => sleep(POLL),
                Some(view) => return Err(Error::Failed { command: "CLUSTER INFO".into(), output: view? }),
            }
        }
    }

    fn is_complete(&self, view: &Result<String>) -> bool {
        let nodes = format!("cluster_known_nodes:{}\r", self.nodes.len());
        view.as_ref().is_ok_and(|view| view.contains("cluster_state:ok\r") && view.contains(&nodes))
    }

    fn share_slots(&self) -> Result<()> {
        for (position, node) in self.nodes.iter().enumerate() {
            // Different epochs spare the nodes from settling who owns a slot.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(position + 1).to_string()])?;
            let slots = share(position, self.nodes.len()).map(|slot| slot.to_string());
            let words: Vec<String> =
                ["CLUSTER", "ADDSLOTS"].map(String::from).into_iter().chain(slots).collect();
            node.command(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Introduces each node to each other, which is faster than waiting for gossip.
    fn introduce(&self) -> Result<()> {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.port() != node.port()) {
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()])?;
            }
        }
        Ok(())
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > LIMIT {
            return Err(Error::Failed { command: "wait for".into(), output: what.into() });
        }
        sleep(POLL);
    }
    Ok(())
}

/// The slots of the node at `position` among `count`.
fn share(position: usize, count: usize) -> std::ops::Range<usize> {
    position * SLOTS / count..(position + 1) * SLOTS / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_one_owner() {
        for count in 1..=7 {
            let slots: Vec<usize> = (0..count).flat_map(|position| share(position, count)).collect();
            assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
        }
    }
}
