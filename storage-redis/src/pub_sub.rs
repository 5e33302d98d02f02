//! Messages between processes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use redis::{Msg, cmd};
use storage_core::{Delivery, Error, ErrorKind, Json, Lease, PubSub, Result, check_key, check_value_size};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    RedisBackend,
    connect::{Connector, Request},
    error::{Access, NAME, not_connected},
    operations::Connected,
    pool::{Load, Node},
    reply,
};

/// How many messages a slow reader may lag behind before it misses some.
const BACKLOG: usize = 256;
/// How often a silent connection is asked whether it is still one, and how long the answer may take.
const PROBE: Duration = Duration::from_secs(15);
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
            let command = cmd("PUBLISH").arg(full).arg(message.as_str()).take();
            let request = Request::One(&command);
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
            Subscription::open(&self.enter()?, channel).await
        };
        work.await.map_err(|error| error.at(NAME, "subscribe").with_key(channel))
    }
}

/// What the task behind a subscription's stream works with.
struct Subscription {
    connector: Arc<Connector>,
    nodes: Vec<Arc<Node>>,
    channel: String,
    closed: CancellationToken,
    sender: broadcast::Sender<Delivery>,
}

impl Subscription {
    async fn open(connected: &Lease<Connected>, channel: &str) -> Result<BoxStream<'static, Delivery>> {
        let (sender, receiver) = broadcast::channel(BACKLOG);
        let subscription = Self {
            connector: Arc::clone(connected.router.connector()),
            nodes: connected.router.nodes(),
            channel: connected.full_key(channel),
            closed: connected.closed.clone(),
            sender,
        };
        let first = timeout_at(connected.deadline(), subscription.subscribed()).await;
        let first = first.map_err(|_| Error::new(ErrorKind::Timeout, "no answer within the deadline"))??;
        let task = AbortOnDropHandle::new(tokio::spawn(subscription.run(first)));
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
    async fn subscribed(&self) -> Result<redis::aio::PubSub> {
        let mut failed = Error::new(ErrorKind::Unavailable, "no server is known");
        for node in &self.nodes {
            let opened = async {
                let mut connection = self.connector.pub_sub(node.address()).await?;
                connection.subscribe(&self.channel).await.map_err(|error| not_connected(&error))?;
                Ok(connection)
            };
            match opened.await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn run(self, first: redis::aio::PubSub) {
        let closed = self.closed.clone();
        closed.run_until_cancelled(self.deliver(first)).await;
    }

    async fn deliver(self, first: redis::aio::PubSub) {
        let mut connection = first;
        loop {
            self.pass_on(connection).await;
            tracing::warn!("a subscription lost its connection to Redis; opening it again");
            connection = self.again().await;
            let _ = self.sender.send(Delivery::Gap);
        }
    }

    /// Passes messages on until the connection ends.
    async fn pass_on(&self, connection: redis::aio::PubSub) {
        let (mut sink, mut messages) = connection.split();
        loop {
            match timeout(PROBE, messages.next()).await {
                Ok(Some(message)) => drop(self.sender.send(delivery(&message))),
                Ok(None) => return,
                Err(_) => {
                    let alive = timeout(PROBE, sink.ping::<redis::Value>()).await;
                    if !alive.is_ok_and(|answer| answer.is_ok()) {
                        return;
                    }
                }
            }
        }
    }

    async fn again(&self) -> redis::aio::PubSub {
        let [mut pause, longest] = PAUSES;
        loop {
            sleep(pause).await;
            match timeout(PROBE, self.subscribed()).await {
                Ok(Ok(connection)) => return connection,
                _ => pause = (pause * 2).min(longest),
            }
        }
    }
}

/// A message that is no JSON is one that this reader misses.
fn delivery(message: &Msg) -> Delivery {
    let text = std::str::from_utf8(message.get_payload_bytes()).ok();
    match text.and_then(|text| Json::parse(text.to_owned()).ok()) {
        Some(message) => Delivery::Message(message),
        None => {
            tracing::warn!("skipped a message that is not JSON");
            Delivery::Gap
        }
    }
}
