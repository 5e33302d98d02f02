//! The servers that are known, and who owns what.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::{StreamExt, stream::FuturesUnordered};
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Combiner, Deadline, Limits, Work, Worker, task},
};
use tokio::sync::watch;

use super::{
    cluster::Map,
    members::{Member, members, merged},
};
use crate::{
    config::RedisConfig,
    connections::{
        connector::Connector,
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, unexpected},
    statements::{command::cmd, reply},
    url::Address,
};

/// How many nodes are asked for the map at once.
const ASKED: usize = 16;
/// How long the others have once one has answered: a node that is cut off must not be the only one that is heard.
const OTHERS: Duration = Duration::from_millis(100);

/// The one server, or the nodes of a cluster.
pub(crate) struct Topology {
    pub(crate) connector: Arc<Connector>,
    pub(crate) cluster: bool,
    connections: u32,
    seeds: Vec<Address>,
    map: ArcSwap<Map>,
    /// Tells subscriptions that the map has been replaced.
    changes: watch::Sender<()>,
    /// Nodes that the map does not name, until it is replaced.
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
            changes: watch::Sender::new(()),
            others: Mutex::default(),
        })
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
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

    /// Notes what a node has said about one slot, until the map is read anew.
    pub(crate) fn slot_moved(&self, slot: u16, address: &Address) {
        let map = self.map();
        if map.owner(slot).is_none_or(|owner| owner.address() != address) {
            self.map.store(Arc::new(map.moved(slot, self.node_at(address))));
        }
    }

    /// Replaces the map by what primaries have said. The nodes that it does not name are dropped, and with them, once the
    /// last call has left them, their connections.
    pub(crate) fn learn(&self, members: &[Member]) {
        let map = Map::of_cluster(members, |address| self.node_at(address));
        self.map.store(Arc::new(map));
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.changes.send_replace(());
    }

    async fn ask_for_map(&self, deadline: Deadline) -> Result<()> {
        let before = self.map();
        let known = before.nodes.iter().map(|node| node.address());
        let addresses: HashSet<&Address> = self.seeds.iter().chain(known).take(ASKED).collect();
        // All at once: one that is down must not use up the time.
        let asked = addresses.into_iter().map(|address| Box::pin(self.view_from(address, deadline)));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut views, mut failed, mut limit) = (Vec::new(), None, deadline);
        while let Some(Some(answer)) = limit.within(asked.next()).await {
            match answer {
                Ok(view) => {
                    if views.is_empty() {
                        limit = Deadline::after(OTHERS.min(deadline.remaining()));
                    }
                    views.push(view);
                }
                Err(error) => failed = Some(error),
            }
        }
        if views.is_empty() {
            return Err(failed.unwrap_or_else(|| deadline.error(ErrorKind::Timeout)));
        }
        self.learn(&merged(views));
        tracing::debug!("read the map of the cluster");
        Ok(())
    }

    async fn view_from(&self, address: &Address, deadline: Deadline) -> Result<Vec<Member>> {
        let node = self.node_at(address);
        let request = Request::Each(vec![cmd("CLUSTER").arg("SLOTS"), cmd("CLUSTER").arg("NODES")]);
        let answer = node.call(request, Load::Small, deadline).await;
        let mut answers =
            reply::array(answer.map_err(|failure| failure.into_error(Access::Read))?)?.into_iter();
        let (Some(slots), Some(nodes)) = (answers.next(), answers.next()) else { return Err(unexpected()) };
        let members = members(slots, nodes, address)?;
        if members.iter().all(|member| member.slots.is_empty()) {
            return Err(Error::new(ErrorKind::Unavailable, "the cluster has no slots yet"));
        }
        Ok(members)
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
    type Item = ();
    type Answer = ();

    fn weight(&self, (): &()) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        task::spawn(worker.serve(async |refreshes: &Self, wanting: Vec<()>| {
            // A deadline of its own: the answer is shared, and one caller's deadline is not another's. All of them asked
            // before this began, so that what is learned is newer than what they found wanting.
            let answer = refreshes.topology.ask_for_map(Deadline::after(refreshes.timeout)).await;
            wanting.iter().map(|()| answer.clone()).collect()
        }));
    }
}
