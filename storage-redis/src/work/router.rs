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
    cluster::{Redirect, redirect, slot_of},
    topology::{Refreshes, Topology},
};
use crate::{
    config::RedisConfig,
    connections::{
        connector::Connector,
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, Failure, refused, unexpected},
    statements::{
        answer::Answer,
        command::{Command, cmd},
    },
    url::Address,
};

/// How often a request follows the cluster's word that another node owns its key.
const TRIES: u32 = 5;
/// The pause before another try, longer each time: the nodes need a moment to agree.
const PAUSE: Duration = Duration::from_millis(10);
/// How much goes to a node in one piece.
const PIPELINE_COMMANDS: usize = 256;
const PIPELINE_BYTES: usize = 1024 * 1024;

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
    /// Nothing happened; to be sent again.
    Again(Item),
    Ask(Item, Address),
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

    pub(crate) fn node_at(&self, address: &Address) -> Arc<Node> {
        self.topology.node_at(address)
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
        self.refreshes.submit(self.topology.map(), deadline).await
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
        let mut retried = false;
        for attempt in 0..TRIES {
            let node = self.owner(slot)?;
            match node.call(request.clone(), load, deadline).await {
                Ok(Answer::Error(error)) if self.is_cluster() => match redirect(&error, node.address()) {
                    // Boxed, here and below: the future of every call would else have room for these rare ways.
                    Some(Redirect::Moved) => Box::pin(self.follow(attempt, deadline)).await?,
                    Some(Redirect::Ask(address)) => {
                        return Box::pin(self.ask(&address, request, access, deadline)).await;
                    }
                    None => return Ok(Answer::Error(error)),
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

    /// Learns the cluster's new map, and gives it time on a later attempt.
    async fn follow(&self, attempt: u32, deadline: Deadline) -> Result<()> {
        deadline.pause(PAUSE * attempt).await;
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

    fn owner(&self, slot: u16) -> Result<Arc<Node>> {
        self.topology.map().owner(slot).map(Arc::clone).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no node of the cluster serves the slot of the key")
        })
    }

    /// Sends a request to a node that is about to own its key.
    async fn ask(
        &self,
        address: &Address,
        request: Request,
        access: Access,
        deadline: Deadline,
    ) -> Result<Answer> {
        // A transaction would need ASKING inside; such moves last moments, and nothing was applied.
        let Request::One(command) = request else {
            return Err(Error::new(ErrorKind::Unavailable, "the keys are on their way to another node"));
        };
        let request = Request::Each(vec![cmd("ASKING"), command]);
        let answer = self.node_at(address).call(request, Load::Small, deadline).await;
        match answer.map_err(|failure| failure.into_error(access))? {
            Answer::Array(answers) => answers.into_iter().nth(1).ok_or_else(unexpected),
            other => Ok(other),
        }
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
        for attempt in 0..TRIES {
            if waiting.is_empty() {
                break;
            }
            let outcomes = self.send_all(waiting, access, attempt == 0, deadline).await;
            waiting = Vec::new();
            for outcome in outcomes {
                let (place, answer) = match outcome {
                    Outcome::Done(place, answer) => (place, answer),
                    Outcome::Ask(item, address) => {
                        let request = Request::One(item.command);
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
            if !waiting.is_empty() && self.follow(attempt, deadline).await.is_err() {
                break;
            }
        }
        answers
    }

    async fn send_all(
        &self,
        items: Vec<Item>,
        access: Access,
        first: bool,
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
        group: Vec<Item>,
        access: Access,
        first: bool,
        deadline: Deadline,
    ) -> Vec<Outcome> {
        let load = if group.len() == 1 { Load::Small } else { Load::Bulk };
        let commands = group.iter().map(|item| item.command.clone()).collect();
        let answer = node.call(Request::Each(commands), load, deadline).await;
        match answer {
            Ok(Answer::Array(answers)) if answers.len() == group.len() => {
                let answered = group.into_iter().zip(answers).map(|(item, answer)| match &answer {
                    Answer::Error(error) if self.is_cluster() => match redirect(error, node.address()) {
                        Some(Redirect::Moved) => Outcome::Again(item),
                        Some(Redirect::Ask(address)) => Outcome::Ask(item, address),
                        None => Outcome::Done(item.place, Ok(answer)),
                    },
                    _ => Outcome::Done(item.place, Ok(answer)),
                });
                answered.collect()
            }
            Ok(Answer::Error(error)) => each(&group, &refused(&error)),
            Ok(_) => each(&group, &unexpected()),
            Err(failure) if first && self.may_repeat(&failure, access) => {
                group.into_iter().map(Outcome::Again).collect()
            }
            Err(failure) => each(&group, &failure.into_error(access)),
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
