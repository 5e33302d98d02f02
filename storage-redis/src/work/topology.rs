//! The servers that are known, and who owns what.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::select_ok;
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Combiner, Deadline, Limits, Work, Worker, task},
};

use super::cluster::{Map, ranges};
use crate::{
    config::RedisConfig,
    connections::{
        connector::Connector,
        lane::Request,
        node::{Load, Node},
    },
    error::Access,
    statements::command::cmd,
    url::Address,
};

/// The one server, or the nodes of a cluster.
pub(crate) struct Topology {
    pub(crate) connector: Arc<Connector>,
    pub(crate) cluster: bool,
    connections: u32,
    seeds: Vec<Address>,
    map: ArcSwap<Map>,
    /// Nodes that own nothing, or nothing yet.
    others: Mutex<HashMap<Address, Arc<Node>>>,
}

impl Topology {
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let connector = Arc::new(Connector::new(config).await?);
        let seeds = config.server.addresses.clone();
        let first = seeds.first().ok_or_else(|| Error::config("no server is named"))?;
        let node = Node::new(first, &connector, config.connections);
        Ok(Self {
            connector,
            cluster: config.server.cluster,
            connections: config.connections,
            seeds,
            map: ArcSwap::from_pointee(Map::of_one(Arc::new(node))),
            others: Mutex::default(),
        })
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// The node at an address, with its connections where it is known already.
    pub(crate) fn node_at(&self, address: &Address) -> Arc<Node> {
        let known = self.map().node_at(address).map(Arc::clone);
        known.unwrap_or_else(|| {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let make = || Node::new(address, &self.connector, self.connections);
            Arc::clone(others.entry(address.clone()).or_insert_with(|| Arc::new(make())))
        })
    }

    /// Waits for what is under way, and ends the connections.
    pub(crate) async fn close(&self) {
        let mut nodes = self.map().nodes.clone();
        nodes.extend(self.others.lock().unwrap_or_else(PoisonError::into_inner).values().cloned());
        for node in nodes {
            node.close().await;
        }
    }

    async fn ask_for_map(&self, deadline: Deadline) -> Result<()> {
        let before = self.map();
        let known = before.nodes.iter().map(|node| node.address());
        let addresses: HashSet<&Address> = known.chain(&self.seeds).collect();
        // All at once: one that is down must not use up the time.
        let asked = addresses.into_iter().map(|address| Box::pin(self.slots_from(address, deadline)));
        let (map, _) = select_ok(asked).await?;
        self.map.store(Arc::new(map));
        tracing::debug!("read the map of the cluster");
        Ok(())
    }

    async fn slots_from(&self, address: &Address, deadline: Deadline) -> Result<Map> {
        let node = self.node_at(address);
        let request = Request::One(cmd("CLUSTER").arg("SLOTS"));
        let answer = node.call(request, Load::Small, deadline).await;
        let ranges = ranges(answer.map_err(|failure| failure.into_error(Access::Read))?, node.address())?;
        if ranges.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the cluster has no slots yet"));
        }
        Ok(Map::of_cluster(ranges, |address| self.node_at(address)))
    }
}

/// Asking a cluster for its map: once for all who wait for it.
pub(crate) struct Refreshes {
    topology: Arc<Topology>,
    timeout: Duration,
}

impl Refreshes {
    pub(crate) fn new(topology: &Arc<Topology>, timeout: Duration) -> Combiner<Self> {
        let refreshes = Self { topology: Arc::clone(topology), timeout };
        Combiner::new(refreshes, Limits { workers: 1, items: usize::MAX, bytes: usize::MAX })
    }
}

impl Work for Refreshes {
    /// The map that a caller found wanting.
    type Item = Arc<Map>;
    type Answer = ();

    fn weight(&self, _: &Arc<Map>) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        task::spawn(worker.serve(async |refreshes: &Self, wanting: Vec<Arc<Map>>| {
            let topology = &refreshes.topology;
            let now = topology.map();
            // Else the map that was found wanting has been replaced meanwhile: its callers look at the new one first.
            let answer = if wanting.iter().any(|map| Arc::ptr_eq(map, &now)) {
                // A deadline of its own: the answer is shared, and one caller's deadline is not another's.
                topology.ask_for_map(Deadline::after(refreshes.timeout)).await
            } else {
                Ok(())
            };
            wanting.iter().map(|_| answer.clone()).collect()
        }));
    }
}
