//! Redis Cluster: several primaries that share the slots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Redis, RedisOptions};
use crate::{Error, Result};

const SLOTS: usize = 16_384;
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A Redis Cluster of primaries without replicas, each with an equal share of the slots.
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
