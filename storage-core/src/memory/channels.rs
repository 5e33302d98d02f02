//! Messages between the tasks of one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{Delivery, Json};

/// How many messages a slow subscriber may lag behind before it misses some.
const BACKLOG: usize = 256;

#[derive(Default)]
pub(super) struct Channels(Mutex<HashMap<String, broadcast::Sender<Json>>>);

impl Channels {
    pub(super) fn publish(&self, channel: &str, message: Json) -> u64 {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // `send` fails only where nobody receives.
        let reached = channels.get(channel).map_or(0, |sender| sender.send(message).unwrap_or(0));
        if reached == 0 {
            // Nobody listens any more: forget the channel, so that names do not pile up.
            channels.remove(channel);
        }
        reached as u64
    }

    pub(super) fn subscribe(&self, channel: &str) -> BoxStream<'static, Delivery> {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = channels.entry(channel.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
        stream::unfold(sender.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(message) => Some((Delivery::Message(message), receiver)),
                Err(RecvError::Lagged(_)) => Some((Delivery::Gap, receiver)),
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channels")
    }
}
