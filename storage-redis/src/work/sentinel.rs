//! Following the master: a subscription to one of the Sentinels, which tells of a failover at once. Without it the next
//! request that fails would find out.

use std::{sync::Arc, time::Duration};

use storage_core::{
    Result,
    engine::{Deadline, task},
};

use super::router::Router;
use crate::{
    connections::{
        connector::{Connector, Wire},
        node::Node,
        sentinel::Sentinels,
    },
    error::unexpected,
    statements::{answer::Answer, command::cmd, reply},
    url::Address,
};

/// What tells that the master has moved. `+promoted-slave` comes first, from the Sentinel that leads the failover, and
/// `+switch-master` at once from the others.
const EVENTS: [&str; 2] = ["+switch-master", "+promoted-slave"];
/// How often a silent subscription is asked whether it still is one.
const PROBE: Duration = Duration::from_secs(5);
/// The pause before another round, where no Sentinel could be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the master until the node is closed; does nothing where there are no Sentinels.
pub(crate) fn follow(router: &Router) {
    let connector = Arc::clone(router.connector());
    if connector.sentinels().is_none() {
        return;
    }
    for node in router.nodes() {
        let connector = Arc::clone(&connector);
        task::spawn_in_background(async move {
            let closed = node.closed().clone();
            closed.run_until_cancelled(Follower { connector, node }.run()).await;
        });
    }
}

struct Follower {
    connector: Arc<Connector>,
    node: Arc<Node>,
}

impl Follower {
    /// Listens to one Sentinel; when it is lost, to another.
    async fn run(self) {
        let Some(sentinels) = self.connector.sentinels() else { return };
        loop {
            for sentinel in sentinels.nodes() {
                if let Err(error) = self.listen(sentinels, sentinel).await {
                    tracing::debug!(%error, %sentinel, "a Sentinel is listened to no more");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen(&self, sentinels: &Sentinels, sentinel: &Address) -> Result<()> {
        let mut wire = self.within(self.subscribe(sentinels, sentinel)).await?;
        // It may have moved before.
        self.look(sentinels, sentinel).await?;
        loop {
            let message = match Deadline::after(PROBE).within(wire.next()).await {
                Some(message) => message?,
                None => {
                    wire.send(&[cmd("PING")]).await?;
                    self.within(wire.next()).await?
                }
            };
            if is_about(message, sentinels.service()) {
                self.look(sentinels, sentinel).await?;
            }
        }
    }

    async fn subscribe(&self, sentinels: &Sentinels, sentinel: &Address) -> Result<Wire> {
        let mut wire = sentinels.reach(sentinel, self.connector.dialer()).await?;
        wire.send(&[cmd("SUBSCRIBE").args(EVENTS)]).await?;
        // Waited for: only then does it pass on what happens.
        for _ in EVENTS {
            reply::array(wire.next().await?)?;
        }
        Ok(wire)
    }

    /// Asks the Sentinel where the master is, and leaves the connections to where it was.
    async fn look(&self, sentinels: &Sentinels, sentinel: &Address) -> Result<()> {
        let master = self.within(sentinels.ask(sentinel, self.connector.dialer())).await?;
        if sentinels.heard(&master) {
            tracing::info!(service = sentinels.service(), master = %master.address, "the master has moved");
            self.connector.moved();
            self.node.retire();
        }
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = Deadline::after(self.connector.timeout());
        limit.within(work).await.unwrap_or_else(|| Err(self.connector.late()))
    }
}

/// Whether a message tells that the master of a service has moved: `+switch-master` says `service old-host old-port new-host
/// new-port`, `+promoted-slave` says `slave name host port @ service host port`.
fn is_about(message: Answer, service: &str) -> bool {
    let read = || -> Result<(String, String)> {
        let parts = reply::array(message)?;
        let [_kind, channel, payload] = <[Answer; 3]>::try_from(parts).map_err(|_| unexpected())?;
        Ok((reply::text(channel)?, reply::text(payload)?))
    };
    let Ok((channel, payload)) = read() else { return false };
    match channel.as_str() {
        "+switch-master" => payload.strip_prefix(service).is_some_and(|rest| rest.starts_with(' ')),
        "+promoted-slave" => payload.contains(&format!(" @ {service} ")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_sentinels_by_table() {
        let table = [
            ("+switch-master", "cache 127.0.0.1 1 127.0.0.1 2", true),
            ("+switch-master", "cache2 127.0.0.1 1 127.0.0.1 2", false),
            ("+switch-master", "other 127.0.0.1 1 127.0.0.1 2", false),
            ("+promoted-slave", "slave 127.0.0.1:2 127.0.0.1 2 @ cache 127.0.0.1 1", true),
            ("+promoted-slave", "slave 127.0.0.1:2 127.0.0.1 2 @ cache2 127.0.0.1 1", false),
            ("+sdown", "master cache 127.0.0.1 1", false),
        ];
        for (channel, payload, expected) in table {
            let text = |text: &'static str| Answer::Bulk(text.as_bytes().into());
            let message = Answer::Array(vec![text("message"), text(channel), text(payload)]);
            assert_eq!(is_about(message, "cache"), expected, "{channel} {payload}");
        }
        assert!(!is_about(Answer::Array(vec![Answer::Int(1)]), "cache"));
    }
}
