//! Messages between processes.

use std::time::Duration;

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use storage_core::{
    Delivery, Error, ErrorKind, Json, PubSub, Result, StorageBackend, check_key, check_value_size,
    engine::{Deadline, background},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    RedisBackend,
    connections::{connector::Wire, lane::Request, node::Load},
    error::{Access, NAME},
    statements::{answer::Answer, command::cmd, reply},
    url::Address,
    work::{
        operations::Connected,
        router::Router,
        walk::{info_server, run_id},
    },
};

/// How many messages a slow reader may lag behind before it misses some.
const BACKLOG: usize = 256;
/// How often a connection is asked whether it is still one, and to the right server; and how long the answer may take.
const PROBE: Duration = Duration::from_secs(5);
/// The pause before the connection is opened again, longer after each failure.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

#[async_trait]
impl PubSub for RedisBackend {
    /// Counts the subscriptions on the server; on Redis Cluster those on the node that was asked alone.
    async fn publish(&self, channel: &str, message: Json) -> Result<u64> {
        let work = async {
            check_key(channel)?;
            check_value_size(&message, self.max_value_bytes())?;
            let connected = self.enter()?;
            let full = connected.full_key(channel);
            let slot = connected.router.slot(&full);
            let command = cmd("PUBLISH").arg(full).arg(message.as_str());
            let request = Request::One(command);
            let answer =
                connected.router.one(slot, request, Load::Small, Access::Write, connected.deadline()).await?;
            Ok(reply::integer(answer)?.unsigned_abs())
        };
        work.await.map_err(|error: Error| error.at(NAME, "publish").with_key(channel))
    }

    /// Opens a connection of its own. The stream ends when the backend is disconnected.
    async fn subscribe(&self, channel: &str) -> Result<BoxStream<'static, Delivery>> {
        let work = async {
            check_key(channel)?;
            let connected = self.enter()?;
            Subscription::open(&connected, channel).await
        };
        work.await.map_err(|error| error.at(NAME, "subscribe").with_key(channel))
    }
}

/// A connection that the server passes messages to.
struct Subscribed {
    wire: Wire,
    address: Address,
    /// Which process it is.
    run: Option<String>,
}

/// What the task behind a subscription's stream works with.
struct Subscription {
    router: Router,
    channel: String,
    closed: CancellationToken,
    sender: broadcast::Sender<Delivery>,
}

impl Subscription {
    async fn open(connected: &Connected, channel: &str) -> Result<BoxStream<'static, Delivery>> {
        // Not mpsc: a slow reader misses messages and is told so, while the connection goes on being read.
        let (sender, receiver) = broadcast::channel(BACKLOG);
        let subscription = Self {
            router: connected.router.clone(),
            channel: connected.full_key(channel),
            closed: connected.closed.clone(),
            sender,
        };
        // The stream may outlive the runtime that subscribes.
        let background = background()?;
        let opened = background.spawn(async move { (subscription.subscribed().await, subscription) });
        let opened = connected.deadline().within(AbortOnDropHandle::new(opened)).await;
        let opened = opened.ok_or_else(|| connected.deadline().error(ErrorKind::Timeout))?;
        let (first, subscription) = opened.map_err(|_| interrupted())?;
        let task = AbortOnDropHandle::new(background.spawn(subscription.run(first?)));
        let deliveries = stream::unfold((receiver, task), |(mut receiver, task)| async move {
            match receiver.recv().await {
                Ok(delivery) => Some((delivery, (receiver, task))),
                Err(RecvError::Lagged(_)) => Some((Delivery::Gap, (receiver, task))),
                Err(RecvError::Closed) => None,
            }
        });
        Ok(deliveries.boxed())
    }

    /// A subscribed connection to the first node that takes it; a cluster spreads messages to all of its nodes.
    async fn subscribed(&self) -> Result<Subscribed> {
        let mut failed = Error::new(ErrorKind::Unavailable, "no server is known");
        for node in self.router.nodes() {
            match self.subscribed_to(node.address()).await {
                Ok(subscribed) => return Ok(subscribed),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn subscribed_to(&self, address: &Address) -> Result<Subscribed> {
        let mut wire = self.router.connector().open(address).await?;
        wire.send(&[info_server(), cmd("SUBSCRIBE").arg(&self.channel)]).await?;
        let run = run_of(wire.next().await?);
        // Waited for: only then does the server pass on what is published.
        reply::array(wire.next().await?)?;
        Ok(Subscribed { wire, address: address.clone(), run })
    }

    async fn run(self, first: Subscribed) {
        let closed = self.closed.clone();
        closed.run_until_cancelled(self.deliver(first)).await;
    }

    async fn deliver(self, first: Subscribed) {
        let mut subscribed = first;
        loop {
            self.pass_on(subscribed).await;
            tracing::warn!("a subscription lost its connection to Redis; opening it again");
            subscribed = self.again().await;
            // Redis keeps no messages for those who are away.
            let _ = self.sender.send(Delivery::Gap);
        }
    }

    /// Passes messages on until the connection ends or does not answer, or its server is no longer the right one.
    async fn pass_on(&self, mut subscribed: Subscribed) {
        let mut changes = self.router.topology().changes();
        let mut probes = interval(PROBE);
        probes.reset();
        let mut asked = false;
        loop {
            tokio::select! {
                answer = subscribed.wire.next() => {
                    let Ok(answer) = answer else { return };
                    asked = false;
                    if let Some(delivery) = delivery(answer) {
                        let _ = self.sender.send(delivery);
                    }
                }
                _ = probes.tick() => {
                    if asked || subscribed.wire.send(&[cmd("PING")]).await.is_err() {
                        return;
                    }
                    asked = true;
                    if !self.is_right(subscribed.run.as_deref()).await {
                        return;
                    }
                }
                Ok(()) = changes.changed(), if self.router.is_cluster() => {
                    if self.router.topology().map().node_at(&subscribed.address).is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether publishers speak to this server, too: another one may have been promoted, and this one be cut off.
    async fn is_right(&self, run: Option<&str>) -> bool {
        if self.router.is_cluster() {
            // What it brings is looked at when it comes.
            self.router.refresh_meanwhile();
            return true;
        }
        let Some(node) = self.router.nodes().into_iter().next() else { return true };
        let answer = node.call(Request::One(info_server()), Load::Small, Deadline::after(PROBE / 2)).await;
        match answer.ok().and_then(run_of) {
            Some(now) => run.is_none_or(|run| run == now),
            None => true,
        }
    }

    async fn again(&self) -> Subscribed {
        let [mut pause, longest] = PAUSES;
        loop {
            sleep(pause).await;
            // The nodes may be others by now. Where that cannot be learned, those that were known are tried.
            let _ = self.router.refresh(Deadline::after(PROBE)).await;
            match timeout(PROBE, self.subscribed()).await {
                Ok(Ok(subscribed)) => return subscribed,
                _ => pause = (pause * 2).min(longest),
            }
        }
    }
}

/// The process that answers; `None` where it does not tell.
fn run_of(answer: Answer) -> Option<String> {
    run_id(&reply::text(answer).ok()?).ok()
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Unavailable, "opening the subscription was interrupted")
}

/// A message; `None` for what answers a command. One that is no JSON is one that this reader misses.
fn delivery(answer: Answer) -> Option<Delivery> {
    let [kind, _channel, payload] = <[Answer; 3]>::try_from(reply::array(answer).ok()?).ok()?;
    if reply::bytes(kind).ok()? != "message" {
        return None;
    }
    let text = reply::text(payload).ok();
    Some(match text.and_then(|text| Json::parse(text).ok()) {
        Some(message) => Delivery::Message(message),
        None => {
            tracing::warn!("skipped a message that is not JSON");
            Delivery::Gap
        }
    })
}
