//! Walks over the keys of every primary with SCAN, whole however the cluster changes meanwhile.
//!
//! A walk takes note of how each primary stands, scans them, and compares. Keys leave a primary by its MIGRATE commands,
//! with the ownership of their slot, or with the server itself; the slots of which any of that can be true are walked again,
//! until there are none. A key that is found again is the listing's to leave out.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result, engine::Deadline};

use super::{
    members::{Member, members, merged},
    operations::Connected,
    slots::{Slots, slot_of},
};
use crate::{
    connections::{
        lane::Request,
        node::{Load, Node},
    },
    error::{Access, Failure, unexpected},
    statements::{
        answer::Answer,
        command::{Command, cmd},
        reply,
    },
};

/// How many entries of the database the server looks at in one step of SCAN.
const MIN_COUNT: usize = 100;
const MAX_COUNT: usize = 1_000;
/// How often what has changed is walked again before the listing gives up.
const ROUNDS: u32 = 64;
/// The pause before the nodes are asked again where they do not agree, longer each time.
const PAUSE: Duration = Duration::from_millis(20);
/// A node that takes longer to say how it stands is passed over until it is asked again.
const ANSWER: Duration = Duration::from_secs(1);

/// Where a walk stands: what a cursor says of it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Place {
    Start,
    Server {
        /// The process: a cursor of SCAN means nothing to another one.
        run: String,
        cursor: u64,
    },
    Cluster(Round),
    End,
}

/// One round over the primaries of a cluster.
#[derive(Serialize, Deserialize)]
pub(crate) struct Round {
    /// What is walked.
    slots: Slots,
    /// How each primary stood when the round began.
    before: Vec<Standing>,
    /// The nodes that are left, the one being scanned last, and where SCAN stands there.
    left: Vec<String>,
    cursor: u64,
    number: u32,
}

/// How a primary stands, in its own words.
#[derive(Serialize, Deserialize)]
struct Standing {
    node: String,
    run: String,
    epoch: u64,
    /// How many MIGRATE commands it had done before it told of its slots, and how many after.
    migrations: [u64; 2],
    slots: Slots,
    /// On their way to it or from it.
    moving: Slots,
}

impl Place {
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }

    /// The keys of a Redis type that SCAN finds next, about `count` of them, and some of them perhaps again.
    pub(crate) async fn step(
        &mut self,
        connected: &Connected,
        pattern: &str,
        kind: &str,
        count: usize,
        deadline: Deadline,
    ) -> Result<Vec<Bytes>> {
        let scan = |cursor: u64| {
            let command = cmd("SCAN").number(cursor).arg("MATCH").arg(pattern);
            command.arg("COUNT").number(count.clamp(MIN_COUNT, MAX_COUNT)).arg("TYPE").arg(kind)
        };
        match self {
            Self::Start if connected.router.is_cluster() => {
                *self = Self::Cluster(Round::first(connected, deadline).await?);
                Ok(Vec::new())
            }
            Self::Start => {
                let place = Self::Server { run: String::new(), cursor: 0 };
                *self = place;
                self.step_on_server(connected, scan, deadline).await
            }
            Self::Server { .. } => self.step_on_server(connected, scan, deadline).await,
            Self::Cluster(round) => {
                let found = round.step(connected, scan, deadline).await?;
                if round.left.is_empty() {
                    *self = round.next(connected, deadline).await?.map_or(Self::End, Self::Cluster);
                }
                Ok(found)
            }
            Self::End => Ok(Vec::new()),
        }
    }

    async fn step_on_server(
        &mut self,
        connected: &Connected,
        scan: impl Fn(u64) -> Command,
        deadline: Deadline,
    ) -> Result<Vec<Bytes>> {
        let Self::Server { run, cursor } = self else { return Ok(Vec::new()) };
        let nodes = connected.router.nodes();
        let node = nodes.first().ok_or_else(unexpected)?;
        // In one piece with SCAN: both are of the same process.
        let commands = vec![scan(*cursor), info_server()];
        let [found, info] = ask(node, commands, deadline).await?;
        let now = run_id(&reply::text(info)?)?;
        if *run != now && *cursor != 0 {
            // Restarted, or another one was promoted: from the beginning.
            (*run, *cursor) = (now, 0);
            return Ok(Vec::new());
        }
        let (next, keys) = scanned(found)?;
        (*run, *cursor) = (now, next);
        if next == 0 {
            *self = Self::End;
        }
        Ok(keys)
    }
}

impl Round {
    async fn first(connected: &Connected, deadline: Deadline) -> Result<Self> {
        let mut number = 0;
        loop {
            let before = standings(connected, deadline).await?;
            // Not only those that have an owner: where one has none, keys may be out of reach.
            let slots = Slots::all();
            match Self::over(connected, slots, before, 1) {
                Some(round) => return Ok(round),
                None => settle(&mut number, deadline).await?,
            }
        }
    }

    /// A round over slots; `None` where some of them have no owner that answers.
    fn over(connected: &Connected, slots: Slots, before: Vec<Standing>, number: u32) -> Option<Self> {
        let map = connected.router.topology().map();
        let standings: HashMap<String, &Standing> =
            before.iter().map(|standing| (standing.node.clone(), standing)).collect();
        let mut left = HashSet::new();
        for slot in slots.iter() {
            // Two may claim a slot, of which the map names the right one.
            let owner = map.owner(slot)?.address().to_string();
            standings.get(&owner).filter(|standing| standing.slots.contains(slot))?;
            left.insert(owner);
        }
        left.extend(before.iter().filter(|one| one.moving.meets(&slots)).map(|one| one.node.clone()));
        Some(Self { left: left.into_iter().collect(), slots, before, cursor: 0, number })
    }

    async fn step(
        &mut self,
        connected: &Connected,
        scan: impl Fn(u64) -> Command,
        deadline: Deadline,
    ) -> Result<Vec<Bytes>> {
        let Some(name) = self.left.last() else { return Ok(Vec::new()) };
        let nodes = connected.router.nodes();
        let found = match nodes.iter().find(|node| node.address().to_string() == *name) {
            Some(node) => ask(node, vec![scan(self.cursor)], deadline).await,
            None => Err(Error::new(ErrorKind::Unavailable, "the node has left the cluster")),
        };
        let (next, mut keys) = match found {
            Ok([found]) => scanned(found)?,
            // Its slots are walked again where they are then: it no longer stands as it did.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let gone = self.left.pop();
                self.before
                    .iter_mut()
                    .filter(|one| Some(&one.node) == gone.as_ref())
                    .for_each(Standing::spoil);
                self.cursor = 0;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.cursor = next;
        if next == 0 {
            self.left.pop();
        }
        keys.retain(|key| self.slots.contains(slot_of(key)));
        Ok(keys)
    }

    /// The round over what may have changed during this one; `None` where nothing has.
    async fn next(&self, connected: &Connected, deadline: Deadline) -> Result<Option<Self>> {
        let mut asked = 0;
        loop {
            let after = standings(connected, deadline).await?;
            let slots = self.changed(&after);
            if slots.is_empty() {
                return Ok(None);
            }
            if self.number >= ROUNDS {
                let message = "the cluster changes faster than it can be listed";
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            match Self::over(connected, slots, after, self.number + 1) {
                Some(round) => return Ok(Some(round)),
                None => settle(&mut asked, deadline).await?,
            }
        }
    }

    /// The slots whose keys may have been where this round had not looked yet, or no longer looked.
    fn changed(&self, after: &[Standing]) -> Slots {
        let now: HashMap<&str, &Standing> = after.iter().map(|one| (one.node.as_str(), one)).collect();
        let mut changed = Slots::none();
        for before in &self.before {
            let unsettled = match now.get(before.node.as_str()) {
                Some(now) => before.unsettled(now),
                None => &before.slots | &before.moving,
            };
            changed = &changed | &unsettled;
        }
        changed.retain(|slot| self.slots.contains(slot));
        changed
    }
}

impl Standing {
    /// The slots of which a key may have left this primary since.
    fn unsettled(&self, now: &Self) -> Slots {
        let all = &self.slots | &self.moving;
        if self.run != now.run || self.epoch != now.epoch {
            return all;
        }
        let mut lost = all.clone();
        lost.retain(|slot| self.slots.contains(slot) && !now.slots.contains(slot));
        if self.migrations.first() == now.migrations.last() {
            return lost;
        }
        let left = &lost | &(&self.moving | &now.moving);
        // Keys have left, and no slot says which: one that was opened and closed meanwhile.
        if left.is_empty() { all } else { left }
    }

    /// Makes it differ from whatever comes.
    fn spoil(&mut self) {
        self.run.clear();
    }
}

/// How each primary stands now. The map of the cluster is renewed by what they say.
async fn standings(connected: &Connected, deadline: Deadline) -> Result<Vec<Standing>> {
    let topology = connected.router.topology();
    for _ in 0..3 {
        let nodes = connected.router.nodes();
        let limit = Deadline::after(ANSWER.min(deadline.remaining()));
        let answers = join_all(nodes.iter().map(|node| survey(node, limit))).await;
        let (mut views, mut standings) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok((view, standing)) => {
                    views.push(view);
                    standings.extend(standing);
                }
                // The others say whether it has been replaced.
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {}
                Err(error) => return Err(error),
            }
        }
        if views.is_empty() {
            // None of those that were known: perhaps one of those that the URL names.
            connected.router.refresh(deadline).await?;
            continue;
        }
        topology.learn(&merged(views));
        let now = topology.map();
        if now.nodes.iter().all(|node| nodes.iter().any(|asked| asked.address() == node.address())) {
            return Ok(standings);
        }
        // There are others: they are asked, too.
    }
    Ok(Vec::new())
}

/// What a node says of all, and of itself where it is a primary.
async fn survey(node: &Node, deadline: Deadline) -> Result<(Vec<Member>, Option<Standing>)> {
    let stats = || cmd("INFO").arg("commandstats");
    let (slots, nodes) = (cmd("CLUSTER").arg("SLOTS"), cmd("CLUSTER").arg("NODES"));
    let commands = vec![stats(), slots, nodes, info_server(), stats()];
    let [first, slots, nodes, server, last] = ask(node, commands, deadline).await?;
    let view = members(slots, nodes, node.address())?;
    let run = run_id(&reply::text(server)?)?;
    let migrations = [migrations(&reply::text(first)?), migrations(&reply::text(last)?)];
    let itself = view.iter().find(|member| member.itself);
    let standing = itself.map(|itself| Standing {
        node: node.address().to_string(),
        run,
        epoch: itself.epoch,
        migrations,
        slots: itself.slots.clone(),
        moving: itself.moving.clone(),
    });
    Ok((view, standing))
}

/// The answers to commands on one connection.
async fn ask<const N: usize>(node: &Node, commands: Vec<Command>, deadline: Deadline) -> Result<[Answer; N]> {
    let request = Request::Each(commands);
    let mut answer = node.call(request.clone(), Load::Bulk, deadline).await;
    // Once more is safe: nothing is changed, and where SCAN stands is in the cursor.
    if let Err(Failure::Lost) = answer {
        answer = node.call(request, Load::Bulk, deadline).await;
    }
    let answers = reply::array(answer.map_err(|failure| failure.into_error(Access::Read))?)?;
    <[Answer; N]>::try_from(answers).map_err(|_| unexpected())
}

fn scanned(answer: Answer) -> Result<(u64, Vec<Bytes>)> {
    let Ok([cursor, keys]) = <[Answer; 2]>::try_from(reply::array(answer)?) else { return Err(unexpected()) };
    let cursor = reply::text(cursor)?.parse().map_err(|_| unexpected())?;
    Ok((cursor, reply::array(keys)?.into_iter().map(reply::bytes).collect::<Result<_>>()?))
}

/// Asks a server about itself, and for its [`run_id`].
pub(crate) fn info_server() -> Command {
    cmd("INFO").arg("server")
}

/// Which process it is, by INFO's section on the server.
pub(crate) fn run_id(info: &str) -> Result<String> {
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    id.map(|id| id.trim().to_owned()).ok_or_else(unexpected)
}

fn migrations(info: &str) -> u64 {
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_migrate:calls="));
    calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Gives the nodes time to agree.
async fn settle(asked: &mut u32, deadline: Deadline) -> Result<()> {
    if deadline.has_passed() {
        let message =
            "some slots of the cluster have no primary that answers, so that a listing would not be whole";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    *asked = (*asked + 1).min(10);
    deadline.pause(PAUSE * *asked).await;
    Ok(())
}
