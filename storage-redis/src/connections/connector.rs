//! Opening connections: to a server, or to whichever the Sentinels say that is the master.

use std::{
    collections::HashSet,
    future::pending,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use storage_core::{Error, ErrorKind, Result, engine::Deadline};
use tokio::sync::watch;

pub(crate) use super::wire::Wire;
use super::{
    dialer::Dialer,
    greeting::{Facts, Login},
    sentinel::{Master, Sentinels},
};
use crate::{config::RedisConfig, error::was_closed, statements::command::cmd, url::Address};

/// How long a connection that was idle has to say that it still is one.
const CHECK: Duration = Duration::from_secs(1);

/// From when on a server that has not answered is asked what it speaks: one without TLS may wait for more of a handshake.
const DOUBT: Duration = Duration::from_secs(1);

/// Opens connections to any server of the configuration.
pub(crate) struct Connector {
    dialer: Dialer,
    login: Login,
    sentinels: Option<Sentinels>,
    cluster: bool,
    /// Tells that the master has moved.
    moves: watch::Sender<()>,
    timeout: Duration,
    drain_limit: Duration,
    idle_check: Duration,
}

impl Connector {
    /// Reads the trusted certificates, where TLS is asked for.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let server = &config.server;
        let credentials = (server.username.as_ref(), server.password.as_ref());
        Ok(Self {
            dialer: Dialer::new(config).await?,
            login: Login::new(credentials, server.database, &config.client_name, config.protocol),
            sentinels: Sentinels::of(config),
            cluster: server.cluster,
            moves: watch::Sender::new(()),
            timeout: config.connect_timeout,
            drain_limit: config.operation_timeout,
            idle_check: config.idle_check,
        })
    }

    /// A connection whose server has taken the credentials and the database.
    pub(crate) async fn open(&self, address: &Address) -> Result<Wire> {
        let open = async {
            match (&self.sentinels, address) {
                (Some(sentinels), Address::Service(_)) => {
                    // Before anybody is asked.
                    let moves = self.moves.subscribe();
                    self.open_master(sentinels).await.map(|wire| wire.until(moves))
                }
                _ => self.open_at(address).await.map(|(wire, _)| wire),
            }
        };
        // A Sentinel is spoken to in the same way.
        let first =
            self.sentinels.as_ref().and_then(|sentinels| sentinels.nodes().first()).unwrap_or(address);
        let opened = pin!(open);
        let doubt = pin!(self.doubt(first));
        match Deadline::after(self.timeout).within(select(opened, doubt)).await {
            Some(Either::Left((Err(error), _))) if was_closed(&error) => {
                Err(self.dialer.misspoken(first).await.unwrap_or(error))
            }
            Some(Either::Left((opened, _))) => {
                tracing::debug!(server = %address, "opened a connection");
                opened
            }
            Some(Either::Right((error, _))) => Err(error),
            None => Err(self.late()),
        }
    }

    /// Ends where a server that is slow to answer turns out to speak something else.
    async fn doubt(&self, address: &Address) -> Error {
        Deadline::never().pause(DOUBT.min(self.timeout / 2)).await;
        match self.dialer.misspoken(address).await {
            Some(error) => error,
            None => pending().await,
        }
    }

    /// The error of a server that does not take a connection in time.
    pub(crate) fn late(&self) -> Error {
        let message = match self.sentinels {
            None => format!("the server did not take a connection within {:?}", self.timeout),
            Some(_) => {
                format!("no Sentinel led to a master that took a connection within {:?}", self.timeout)
            }
        };
        Error::new(ErrorKind::Unavailable, message)
    }

    async fn open_at(&self, address: &Address) -> Result<(Wire, Facts)> {
        let mut wire = self.dialer.reach(address).await?;
        let facts = self.login.greet(&mut wire).await?;
        match facts.mode.as_deref() {
            Some("sentinel") => Err(Error::config("what answers there is a Sentinel")
                .with_hint("write redis+sentinel://host:port/service")),
            Some("cluster") if !self.cluster => {
                Err(Error::config("what answers there is a node of a Redis Cluster")
                    .with_hint("write redis-cluster:// instead of redis://"))
            }
            _ => Ok((wire, facts)),
        }
    }

    /// Asks all Sentinels at once, and takes the first good answer: one that leads to a master.
    async fn open_master(&self, sentinels: &Sentinels) -> Result<Wire> {
        let tried = Mutex::new(HashSet::new());
        let mut asked: FuturesUnordered<_> =
            sentinels.nodes().iter().map(|node| self.open_by(sentinels, node, &tried)).collect();
        let (mut failed, mut outdated) = (None, Vec::new());
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(Found::Opened(wire)) => return Ok(wire),
                Ok(Found::Outdated(master)) => outdated.push(master),
                Ok(Found::Known) => {}
                Err(error) => failed = Some(worse(failed, error)),
            }
        }
        // Nobody knows better.
        for master in outdated {
            match self.open_if_master(sentinels, &master).await {
                Ok(wire) => return Ok(wire),
                Err(error) => failed = Some(worse(failed, Failed::AtMaster(error))),
            }
        }
        Err(failed.map_or_else(|| self.late(), Failed::into_error))
    }

    async fn open_by(
        &self,
        sentinels: &Sentinels,
        node: &Address,
        tried: &Mutex<HashSet<Address>>,
    ) -> Result<Found, Failed> {
        let master = sentinels.ask(node, &self.dialer).await.map_err(Failed::AtSentinel)?;
        if sentinels.is_outdated(&master) {
            return Ok(Found::Outdated(master));
        }
        let new = tried.lock().unwrap_or_else(PoisonError::into_inner).insert(master.address.clone());
        if !new {
            return Ok(Found::Known);
        }
        self.open_if_master(sentinels, &master).await.map(Found::Opened).map_err(Failed::AtMaster)
    }

    async fn open_if_master(&self, sentinels: &Sentinels, master: &Master) -> Result<Wire> {
        let (wire, facts) = self.open_at(&master.address).await?;
        if !facts.is_master()? {
            return Err(sentinels.no_master(&master.address));
        }
        sentinels.opened(master);
        Ok(wire)
    }

    /// A connection that was idle, where it still is one: where anything comes back, whatever it says.
    pub(crate) async fn if_alive(&self, mut wire: Wire) -> Option<Wire> {
        let answer = async { wire.send(&[cmd("PING")]).await.is_ok() && wire.reply().await.is_ok() };
        let alive = Deadline::after(CHECK.min(self.timeout)).within(answer).await.unwrap_or_default();
        alive.then_some(wire)
    }

    /// Whether a server that refuses work as a replica does may be another one after its name is resolved again. On a
    /// cluster it is the map that says who is what.
    pub(crate) fn follows_names(&self) -> bool {
        !self.cluster
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(crate) fn sentinels(&self) -> Option<&Sentinels> {
        self.sentinels.as_ref()
    }

    /// Ends what listens on connections to where the master was.
    pub(crate) fn moved(&self) {
        self.moves.send_replace(());
    }

    /// How long a connection that takes no more requests has for those under way: as long as a call may take.
    pub(crate) fn drain_limit(&self) -> Duration {
        self.drain_limit
    }

    /// After how long without a request a connection is checked before the next one.
    pub(crate) fn idle_check(&self) -> Duration {
        self.idle_check
    }

    /// How long a subscription to a Sentinel, or opening one, may stay without a word.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// What became of a Sentinel's word.
enum Found {
    Opened(Wire),
    /// Another Sentinel has named the same master.
    Known,
    /// Another one has told of a newer configuration.
    Outdated(Master),
}

enum Failed {
    AtSentinel(Error),
    AtMaster(Error),
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Self::AtSentinel(error) | Self::AtMaster(error) => error,
        }
    }

    /// How much it says: one of several Sentinels may be down or set up wrongly.
    fn weight(&self) -> u8 {
        match self {
            Self::AtMaster(_) => 2,
            Self::AtSentinel(error) if error.kind() != ErrorKind::Unavailable => 1,
            Self::AtSentinel(_) => 0,
        }
    }
}

fn worse(before: Option<Failed>, now: Failed) -> Failed {
    match before {
        Some(before) if before.weight() >= now.weight() => before,
        _ => now,
    }
}
