//! Every request goes through here: to the one server, or to the node of the cluster that owns its key.
//!
//! The driver has a cluster client of its own. It sends a request again when a connection breaks, whatever the
//! request does; a write would then happen twice. Here a write is sent again only when a server has refused it or it
//! never left.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::{join_all, select_ok};
use redis::{Cmd, Pipeline, Value, cmd};
use storage_core::{Error, ErrorKind, Result};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    cluster::{Map, Redirect, ranges, redirect, slot_of},
    config::{Address, RedisConfig},
    connect::{Connector, Request},
    error::{Access, Failure, refused, unexpected},
    pool::{Load, Node},
};

/// How often a request follows the cluster's word that another node owns its key.
const TURNS: u32 = 5;
/// The pause before another turn, longer each time: the nodes need a moment to agree.
const PAUSE: Duration = Duration::from_millis(10);
/// How much goes to a node in one piece.
const PIPELINE_COMMANDS: usize = 256;
const PIPELINE_BYTES: usize = 1024 * 1024;

pub(crate) struct Router {
    connector: Arc<Connector>,
    connections: u32,
    seeds: Vec<Address>,
    cluster: bool,
    map: ArcSwap<Map>,
    /// Nodes that own nothing, or nothing yet.
    others: std::sync::Mutex<HashMap<Address, Arc<Node>>>,
    /// One caller at a time asks for the map; the others use what it finds.
    refreshing: Mutex<()>,
}

/// One command of a group, with its place in it.
struct Item {
    place: usize,
    slot: u16,
    command: Cmd,
}

/// Items for one node, sent in one piece.
struct Group {
    items: Vec<(usize, u16)>,
    pipeline: Pipeline,
    bytes: usize,
}

/// What became of an item.
enum Outcome {
    Done(usize, Result<Value>),
    /// Nothing happened; to be sent again.
    Again(Item),
    Ask(Item, Address),
}

impl Router {
    /// Without I/O but for the certificates. [`refresh`](Self::refresh) reads a cluster's map.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let connector = Arc::new(Connector::new(config).await?);
        let seeds = config.server.addresses.clone();
        let first = seeds.first().cloned().ok_or_else(|| Error::config("no server is named"))?;
        let node = Node::new(first, Arc::clone(&connector), config.connections);
        Ok(Self {
            connector,
            connections: config.connections,
            seeds,
            cluster: config.server.cluster,
            map: ArcSwap::from_pointee(Map::of_one(Arc::new(node))),
            others: std::sync::Mutex::default(),
            refreshing: Mutex::new(()),
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.cluster
    }

    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// The primaries.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.map().nodes.clone()
    }

    fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// The slot of a key; 0 where there are none.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        if self.cluster { slot_of(key.as_bytes()) } else { 0 }
    }

    /// Asks the cluster who owns what. On a single server it does nothing.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<()> {
        if !self.cluster {
            return Ok(());
        }
        let before = self.map();
        let _turn = self.refreshing.lock().await;
        if !Arc::ptr_eq(&before, &self.map()) {
            return Ok(());
        }
        let known = before.nodes.iter().map(|node| node.address());
        let addresses: HashSet<&Address> = known.chain(&self.seeds).collect();
        // All at once: one that is down must not use up the time.
        let asked = addresses.into_iter().map(|address| Box::pin(self.slots_from(address, deadline)));
        let (map, _) = select_ok(asked).await?;
        self.map.store(Arc::new(map));
        tracing::debug!("read the map of the cluster");
        Ok(())
    }

    async fn slots_from(&self, address: &Address, deadline: Instant) -> Result<Map> {
        let node = self.node_at(address);
        let command = cmd("CLUSTER").arg("SLOTS").take();
        let answer = node.call(Request::One(&command), Load::Small, deadline).await;
        let ranges = ranges(answer.map_err(|failure| failure.into_error(Access::Read))?, node.address())?;
        if ranges.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the cluster has no slots yet"));
        }
        Ok(Map::of_cluster(ranges, |address| self.node_at(address)))
    }

    /// The node at an address, with its connections where it is known already.
    pub(crate) fn node_at(&self, address: &Address) -> Arc<Node> {
        let known = self.map().node_at(address).map(Arc::clone);
        known.unwrap_or_else(|| {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let make = || Node::new(address.clone(), Arc::clone(&self.connector), self.connections);
            Arc::clone(others.entry(address.clone()).or_insert_with(|| Arc::new(make())))
        })
    }

    /// Sends one request to the owner of `slot`. The answer may be a [`Value::ServerError`].
    pub(crate) async fn one(
        &self,
        slot: u16,
        request: Request<'_>,
        load: Load,
        access: Access,
        deadline: Instant,
    ) -> Result<Value> {
        let mut retried = false;
        for turn in 0..TURNS {
            let node = self.owner(slot)?;
            match node.call(request, load, deadline).await {
                Ok(Value::ServerError(error)) if self.cluster => match redirect(&error, node.address()) {
                    Some(Redirect::Moved) => Box::pin(self.follow(turn, deadline)).await?,
                    Some(Redirect::Ask(address)) => {
                        return Box::pin(self.ask(&address, request, access, deadline)).await;
                    }
                    None => return Ok(Value::ServerError(error)),
                },
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if retried || !self.may_repeat(&failure, access) {
                        return Err(failure.into_error(access));
                    }
                    retried = true;
                    Box::pin(self.refresh(deadline)).await?;
                }
            }
        }
        Err(restless())
    }

    /// Learns the cluster's new map, and gives it time on a later turn.
    async fn follow(&self, turn: u32, deadline: Instant) -> Result<()> {
        sleep(PAUSE * turn).await;
        self.refresh(deadline).await
    }

    /// A read on a broken connection, and what never left, may go out once more.
    fn may_repeat(&self, failure: &Failure, access: Access) -> bool {
        match failure {
            // The one server stays what it is; a cluster may have promoted another node.
            Failure::NotSent(error) => self.cluster && error.kind() == ErrorKind::Unavailable,
            Failure::Lost => access == Access::Read,
            Failure::TimedOut => false,
        }
    }

    fn owner(&self, slot: u16) -> Result<Arc<Node>> {
        self.map.load().owner(slot).map(Arc::clone).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no node of the cluster serves the slot of the key")
        })
    }

    /// Sends a request to a node that is about to own its key.
    async fn ask(
        &self,
        address: &Address,
        request: Request<'_>,
        access: Access,
        deadline: Instant,
    ) -> Result<Value> {
        // A transaction would need ASKING inside; such moves last moments, and nothing was applied.
        let Request::One(command) = request else {
            return Err(Error::new(ErrorKind::Unavailable, "the keys are on their way to another node"));
        };
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING").add_command(command.clone());
        let answer = self.node_at(address).call(Request::Each(&pipeline), Load::Small, deadline).await;
        match answer.map_err(|failure| failure.into_error(access))? {
            Value::Array(answers) => answers.into_iter().nth(1).ok_or_else(unexpected),
            other => Ok(other),
        }
    }

    /// Sends many commands, each to the owner of its slot, pipelined; an answer for each, in their order. Commands of
    /// one slot run in their order.
    pub(crate) async fn many(
        &self,
        commands: Vec<(u16, Cmd)>,
        access: Access,
        deadline: Instant,
    ) -> Vec<Result<Value>> {
        let mut answers: Vec<Result<Value>> = commands.iter().map(|_| Err(restless())).collect();
        let items = commands.into_iter().enumerate();
        let mut waiting: Vec<Item> =
            items.map(|(place, (slot, command))| Item { place, slot, command }).collect();
        for turn in 0..TURNS {
            if waiting.is_empty() {
                break;
            }
            let outcomes = self.turn(waiting, access, turn == 0, deadline).await;
            waiting = Vec::new();
            for outcome in outcomes {
                let (place, answer) = match outcome {
                    Outcome::Done(place, answer) => (place, answer),
                    Outcome::Ask(item, address) => {
                        let request = Request::One(&item.command);
                        (item.place, self.ask(&address, request, access, deadline).await)
                    }
                    Outcome::Again(item) => {
                        waiting.push(item);
                        continue;
                    }
                };
                if let Some(entry) = answers.get_mut(place) {
                    *entry = answer;
                }
            }
            if !waiting.is_empty() && self.follow(turn, deadline).await.is_err() {
                break;
            }
        }
        answers
    }

    async fn turn(&self, items: Vec<Item>, access: Access, first: bool, deadline: Instant) -> Vec<Outcome> {
        let map = self.map();
        let mut outcomes = Vec::new();
        let mut nodes: HashMap<&Address, (&Node, Vec<Item>)> = HashMap::new();
        for item in items {
            match map.owner(item.slot) {
                Some(node) => nodes.entry(node.address()).or_insert((node, Vec::new())).1.push(item),
                None => outcomes.push(Outcome::Again(item)),
            }
        }
        let sent = nodes.into_values().map(|(node, items)| async move {
            let mut outcomes = Vec::with_capacity(items.len());
            for group in groups(items) {
                outcomes.extend(self.exchange(node, group, access, first, deadline).await);
            }
            outcomes
        });
        outcomes.extend(join_all(sent).await.into_iter().flatten());
        outcomes
    }

    async fn exchange(
        &self,
        node: &Node,
        group: Group,
        access: Access,
        first: bool,
        deadline: Instant,
    ) -> Vec<Outcome> {
        let load = if group.items.len() == 1 { Load::Small } else { Load::Bulk };
        let answer = node.call(Request::Each(&group.pipeline), load, deadline).await;
        let items = group.items.iter().zip(group.pipeline.cmd_iter());
        let again =
            |(place, slot): (usize, u16), command: &Cmd| Item { place, slot, command: command.clone() };
        match answer {
            Ok(Value::Array(answers)) if answers.len() == group.items.len() => {
                let answered = items.zip(answers).map(|((item, command), answer)| match &answer {
                    Value::ServerError(error) if self.cluster => match redirect(error, node.address()) {
                        Some(Redirect::Moved) => Outcome::Again(again(*item, command)),
                        Some(Redirect::Ask(address)) => Outcome::Ask(again(*item, command), address),
                        None => Outcome::Done(item.0, Ok(answer)),
                    },
                    _ => Outcome::Done(item.0, Ok(answer)),
                });
                answered.collect()
            }
            Ok(Value::ServerError(error)) => each(&group, &refused(&error)),
            Ok(_) => each(&group, &unexpected()),
            Err(failure) if first && self.may_repeat(&failure, access) => {
                items.map(|(item, command)| Outcome::Again(again(*item, command))).collect()
            }
            Err(failure) => each(&group, &failure.into_error(access)),
        }
    }
}

/// Cuts what goes to one node into pieces of bounded size.
fn groups(items: Vec<Item>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for item in items {
        let bytes = size(&item.command);
        let full = |group: &Group| {
            group.items.len() >= PIPELINE_COMMANDS || group.bytes.saturating_add(bytes) > PIPELINE_BYTES
        };
        if groups.last().is_none_or(full) {
            groups.push(Group { items: Vec::new(), pipeline: Pipeline::new(), bytes: 0 });
        }
        if let Some(group) = groups.last_mut() {
            group.items.push((item.place, item.slot));
            group.pipeline.add_command(item.command);
            group.bytes += bytes;
        }
    }
    groups
}

/// About how many bytes a command carries.
pub(crate) fn size(command: &Cmd) -> usize {
    let size = |argument| if let redis::Arg::Simple(bytes) = argument { <[u8]>::len(bytes) } else { 0 };
    command.args_iter().map(size).sum()
}

fn each(group: &Group, error: &Error) -> Vec<Outcome> {
    group.items.iter().map(|(place, _)| Outcome::Done(*place, Err(error.clone()))).collect()
}

/// Nothing was applied: every node that was asked said so.
fn restless() -> Error {
    Error::new(ErrorKind::Unavailable, "the cluster is moving its slots, or some are not served")
}
