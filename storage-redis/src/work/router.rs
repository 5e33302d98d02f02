//! Every request goes through here: to the one server, or to the node of the cluster that owns its key.
//!
//! The driver has a cluster client of its own. It sends a request again when a connection breaks, whatever the
//! request does; a write would then happen twice. Here a write is sent again only when a server has refused it or it
//! never left.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Combiner, Deadline},
};

use super::{
    cluster::{Redirect, redirect},
    slots::slot_of,
    topology::{Refreshes, Topology},
};
use crate::{
    config::RedisConfig,
    connections::{
        connector::Connector,
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, Failure, refused, unexpected, unserved},
    statements::{
        answer::Answer,
        command::{Command, cmd},
    },
    url::Address,
};

/// How often a request is sent to some node. A refusal applies nothing.
const TRIES: u32 = 16;
/// How often to a node that cannot be reached.
const UNREACHABLE_TRIES: u32 = 5;
/// The pause before another try, longer each time: the nodes need a moment to agree.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How much goes to a node in one piece.
const PIPELINE_COMMANDS: usize = 256;
const PIPELINE_BYTES: usize = 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Router {
    topology: Arc<Topology>,
    refreshes: Arc<Combiner<Refreshes>>,
}

/// One command of a group, with its place in it.
struct Item {
    place: usize,
    slot: u16,
    command: Command,
}

/// What became of an item.
enum Outcome {
    Done(usize, Result<Answer>),
    /// Nothing happened; to be sent again, alone where it is to follow a redirect.
    Again(Item),
    Follow(Item, Redirect),
}

impl Router {
    /// Without I/O but for the certificates. [`refresh`](Self::refresh) reads a cluster's map.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let topology = Arc::new(Topology::new(config).await?);
        let refreshes = Arc::new(Refreshes::new(&topology, config.operation_timeout));
        Ok(Self { topology, refreshes })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.topology.cluster
    }

    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.topology.connector
    }

    /// The primaries.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.topology.map().nodes.clone()
    }

    /// The slot of a key; 0 where there are none.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        if self.is_cluster() { slot_of(key.as_bytes()) } else { 0 }
    }

    /// Waits for what is under way, and ends the connections.
    pub(crate) async fn close(&self) {
        self.topology.close().await;
        self.refreshes.close();
    }

    /// Asks the cluster who owns what. On a single server it does nothing.
    pub(crate) async fn refresh(&self, deadline: Deadline) -> Result<()> {
        if !self.is_cluster() {
            return Ok(());
        }
        self.refreshes.submit((), deadline).await
    }

    /// The same for whoever comes next.
    pub(crate) fn refresh_meanwhile(&self) {
        if self.is_cluster() {
            self.refreshes.put(());
        }
    }

    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Sends one request to the owner of `slot`. The answer may be a [`Answer::Error`].
    pub(crate) async fn one(
        &self,
        slot: u16,
        request: Request,
        load: Load,
        access: Access,
        deadline: Deadline,
    ) -> Result<Answer> {
        let node = self.owner(slot)?;
        match node.call(&request, load, deadline).await {
            Ok(Answer::Error(error)) if self.is_cluster() => match redirect(&error, node.address()) {
                // Boxed: the future of every call would else have room for these rare ways.
                Some(redirect) => {
                    Box::pin(self.follow(redirect, slot, request, load, access, deadline)).await
                }
                None => Ok(Answer::Error(error)),
            },
            Ok(answer) => Ok(answer),
            Err(failure) if self.may_repeat(&failure, access) => {
                Box::pin(self.again(slot, request, load, access, deadline)).await
            }
            Err(failure) => {
                // Its node may have been replaced.
                self.refresh_meanwhile();
                Err(failure.into_error(access))
            }
        }
    }

    /// Sends a request again whose node could not be reached or, of a read, was lost.
    async fn again(
        &self,
        slot: u16,
        request: Request,
        load: Load,
        access: Access,
        deadline: Deadline,
    ) -> Result<Answer> {
        self.refresh(deadline).await?;
        self.follow(Redirect::Wait, slot, request, load, access, deadline).await
    }

    /// Goes where the nodes of the cluster say, until one answers.
    async fn follow(
        &self,
        first: Redirect,
        slot: u16,
        request: Request,
        load: Load,
        access: Access,
        deadline: Deadline,
    ) -> Result<Answer> {
        let (mut next, mut unreachable) = (first, 0);
        for attempt in 0..TRIES {
            let (node, sent, asks) = match (next, &request) {
                (Redirect::Ask(address), Request::One(command)) => {
                    let commands = vec![cmd("ASKING"), command.clone()];
                    (self.topology.node_at(&address), Request::Each(commands), true)
                }
                // A transaction would need ASKING inside, which queues it: the slot's move is waited for.
                (redirect, _) => {
                    self.settle(redirect, slot, attempt, deadline).await?;
                    (self.owner(slot)?, request.clone(), false)
                }
            };
            let answer = match node.call(sent, load, deadline).await {
                Ok(Answer::Array(mut answers)) if asks => answers.pop().ok_or_else(unexpected)?,
                Ok(answer) => answer,
                Err(Failure::NotSent(error))
                    if error.kind() == ErrorKind::Unavailable && unreachable < UNREACHABLE_TRIES =>
                {
                    unreachable += 1;
                    self.refresh(deadline).await?;
                    next = Redirect::Wait;
                    continue;
                }
                Err(failure) => return Err(failure.into_error(access)),
            };
            let Answer::Error(error) = &answer else { return Ok(answer) };
            match redirect(error, node.address()) {
                Some(redirect) => next = redirect,
                None => return Ok(answer),
            }
        }
        Err(restless())
    }

    /// Learns where a slot is now: at once where a node has named the owner, and with a pause where that has not helped.
    async fn settle(&self, redirect: Redirect, slot: u16, attempt: u32, deadline: Deadline) -> Result<()> {
        if let (Redirect::Moved(address), 0) = (&redirect, attempt) {
            self.topology.slot_moved(slot, address);
            self.refresh_meanwhile();
            return Ok(());
        }
        deadline.pause((PAUSE * attempt).min(LONGEST_PAUSE)).await;
        self.refresh(deadline).await
    }

    /// A read on a broken connection, and what never left, may go out once more.
    fn may_repeat(&self, failure: &Failure, access: Access) -> bool {
        match failure {
            // The one server stays what it is; a cluster may have promoted another node.
            Failure::NotSent(error) => self.is_cluster() && error.kind() == ErrorKind::Unavailable,
            Failure::Lost => access == Access::Read,
            Failure::TimedOut => false,
        }
    }

    /// Whether a node serves a slot, as far as is known.
    pub(crate) fn serves(&self, node: &Node, slot: u16) -> bool {
        self.topology.map().owner(slot).is_some_and(|owner| owner.address() == node.address())
    }

    /// Whether a node serves any slot.
    pub(crate) fn serves_any(&self, node: &Node) -> bool {
        !self.is_cluster() || self.topology.map().serves(node)
    }

    fn owner(&self, slot: u16) -> Result<Arc<Node>> {
        self.topology.map().owner(slot).map(Arc::clone).ok_or_else(|| {
            self.refresh_meanwhile();
            unserved("no node of the cluster serves the slot of the key")
        })
    }

    /// Sends many commands, each to the owner of its slot, pipelined; an answer for each, in their order. Commands of
    /// one slot run in their order.
    pub(crate) async fn many(
        &self,
        commands: Vec<(u16, Command)>,
        access: Access,
        deadline: Deadline,
    ) -> Vec<Result<Answer>> {
        // What no try has answered in the end keeps this error.
        let mut answers: Vec<Result<Answer>> = commands.iter().map(|_| Err(restless())).collect();
        let items = commands.into_iter().enumerate();
        let mut waiting: Vec<Item> =
            items.map(|(place, (slot, command))| Item { place, slot, command }).collect();
        for attempt in 0..UNREACHABLE_TRIES {
            if waiting.is_empty() {
                break;
            }
            let outcomes = self.send_all(waiting, access, attempt, deadline).await;
            waiting = Vec::new();
            for outcome in outcomes {
                let (place, answer) = match outcome {
                    Outcome::Done(place, answer) => (place, answer),
                    Outcome::Follow(item, redirect) => {
                        let (request, load) = (Request::One(item.command), Load::Small);
                        let answer = self.follow(redirect, item.slot, request, load, access, deadline);
                        (item.place, Box::pin(answer).await)
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
            if !waiting.is_empty() && self.settle(Redirect::Wait, 0, attempt, deadline).await.is_err() {
                break;
            }
        }
        answers
    }

    async fn send_all(
        &self,
        items: Vec<Item>,
        access: Access,
        attempt: u32,
        deadline: Deadline,
    ) -> Vec<Outcome> {
        let map = self.topology.map();
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
            // One after the other: on two connections one group could overtake the other.
            for group in groups(items) {
                outcomes.extend(self.exchange(node, group, access, attempt, deadline).await);
            }
            outcomes
        });
        outcomes.extend(join_all(sent).await.into_iter().flatten());
        outcomes
    }

    async fn exchange(
        &self,
        node: &Node,
        group: Vec<Item>,
        access: Access,
        attempt: u32,
        deadline: Deadline,
    ) -> Vec<Outcome> {
        let load = if group.len() == 1 { Load::Small } else { Load::Bulk };
        let commands = group.iter().map(|item| item.command.clone()).collect();
        let answer = node.call(Request::Each(commands), load, deadline).await;
        match answer {
            Ok(Answer::Array(answers)) if answers.len() == group.len() => {
                let answered = group.into_iter().zip(answers).map(|(item, answer)| match &answer {
                    Answer::Error(error) if self.is_cluster() => match redirect(error, node.address()) {
                        Some(redirect) => self.redirected(item, redirect),
                        None => Outcome::Done(item.place, Ok(answer)),
                    },
                    _ => Outcome::Done(item.place, Ok(answer)),
                });
                answered.collect()
            }
            Ok(Answer::Error(error)) => each(&group, &refused(&error)),
            Ok(_) => each(&group, &unexpected()),
            Err(failure) if self.repeats(&failure, access, attempt) => {
                group.into_iter().map(Outcome::Again).collect()
            }
            Err(failure) => {
                self.refresh_meanwhile();
                each(&group, &failure.into_error(access))
            }
        }
    }

    /// What was lost goes out once more, what never left a few times.
    fn repeats(&self, failure: &Failure, access: Access, attempt: u32) -> bool {
        let tries = if matches!(failure, Failure::Lost) { 1 } else { UNREACHABLE_TRIES };
        attempt + 1 < UNREACHABLE_TRIES && attempt < tries && self.may_repeat(failure, access)
    }

    /// Many move together: they are sent again as a group, to the owner that was named.
    fn redirected(&self, item: Item, to: Redirect) -> Outcome {
        match to {
            Redirect::Moved(address) => {
                self.topology.slot_moved(item.slot, &address);
                self.refresh_meanwhile();
                Outcome::Again(item)
            }
            other => Outcome::Follow(item, other),
        }
    }
}

/// Cuts what goes to one node into pieces of bounded size.
fn groups(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut groups: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0_usize;
    for item in items {
        let size = item.command.len();
        match groups.last_mut() {
            Some(group)
                if group.len() < PIPELINE_COMMANDS && bytes.saturating_add(size) <= PIPELINE_BYTES =>
            {
                bytes += size;
                group.push(item);
            }
            _ => {
                bytes = size;
                groups.push(vec![item]);
            }
        }
    }
    groups
}

fn each(group: &[Item], error: &Error) -> Vec<Outcome> {
    group.iter().map(|item| Outcome::Done(item.place, Err(error.clone()))).collect()
}

/// Nothing was applied: every node that was asked said so.
fn restless() -> Error {
    Error::new(ErrorKind::Unavailable, "the cluster is moving its slots, or some are not served")
}
