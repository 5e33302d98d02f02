//! Sentinels: those who know where the master of a service is.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use storage_core::{Error, ErrorKind, Result};

use super::{dialer::Dialer, greeting::Login, wire::Wire};
use crate::{
    config::RedisConfig,
    error::{refused, unexpected},
    statements::{answer::Answer, command::cmd, reply},
    url::Address,
};

/// The Sentinels of a service, and what they have said.
pub(crate) struct Sentinels {
    nodes: Vec<Address>,
    service: String,
    login: Login,
    /// The epoch of the newest configuration that one of them has told: who tells an older one has not heard yet.
    epoch: AtomicU64,
    /// Where the last connection was opened to.
    master: Mutex<Option<Address>>,
}

/// What a Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Master {
    pub(crate) address: Address,
    pub(crate) epoch: u64,
}

impl Sentinels {
    pub(crate) fn of(config: &RedisConfig) -> Option<Self> {
        let own = config.server.sentinels.as_ref()?;
        let credentials = (own.username.as_ref(), own.password.as_ref());
        Some(Self {
            nodes: own.nodes.clone(),
            service: own.service.clone(),
            login: Login::new(credentials, 0, &config.client_name, config.protocol),
            epoch: AtomicU64::new(0),
            master: Mutex::default(),
        })
    }

    pub(crate) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// A connection to one of them.
    pub(crate) async fn reach(&self, node: &Address, dialer: &Dialer) -> Result<Wire> {
        let mut wire = dialer.reach(node).await?;
        let facts = self.login.greet(&mut wire).await?;
        match facts.mode.as_deref() {
            None | Some("sentinel") => Ok(wire),
            Some(_) => Err(Error::config(format!("what answers at {node} is no Sentinel"))
                .with_hint("write redis:// for the server itself, or the addresses of its Sentinels")),
        }
    }

    /// Asks one of them.
    pub(crate) async fn ask(&self, node: &Address, dialer: &Dialer) -> Result<Master> {
        let mut wire = self.reach(node, dialer).await?;
        let commands = [
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service),
            cmd("SENTINEL").arg("MASTER").arg(&self.service),
        ];
        wire.send(&commands).await?;
        let (address, about) = (wire.reply().await?, wire.reply().await?);
        let address = match address {
            Answer::Array(parts) => address_of(parts).ok_or_else(unexpected)?,
            Answer::Nil => return Err(self.unknown(&mut wire).await),
            Answer::Error(error) => return Err(refused(&error)),
            _ => return Err(unexpected()),
        };
        // Told apart from the address, which it knows first while a failover goes on. It may also be refused.
        let epoch = field(about, "config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        Ok(Master { address, epoch })
    }

    async fn unknown(&self, wire: &mut Wire) -> Error {
        let message = format!("the Sentinel knows no service {}", self.service);
        let error =
            Error::config(message).with_hint("check the service in redis+sentinel://host:port/service");
        match Self::services(wire).await {
            Ok(services) if !services.is_empty() => {
                error.with_hint(format!("it knows {}", services.join(", ")))
            }
            _ => error,
        }
    }

    async fn services(wire: &mut Wire) -> Result<Vec<String>> {
        wire.send(&[cmd("SENTINEL").arg("MASTERS")]).await?;
        let masters = reply::array(wire.reply().await?)?;
        Ok(masters.into_iter().filter_map(|master| field(master, "name")).collect())
    }

    /// Whether somebody has told of a newer configuration.
    pub(crate) fn is_outdated(&self, master: &Master) -> bool {
        master.epoch < self.epoch.load(Ordering::Relaxed)
    }

    /// Remembers what a Sentinel has said; whether that is news.
    pub(crate) fn heard(&self, master: &Master) -> bool {
        if self.is_outdated(master) {
            return false;
        }
        let newer = self.epoch.fetch_max(master.epoch, Ordering::Relaxed) < master.epoch;
        let known = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|known| newer || *known != master.address)
    }

    /// A connection to the master was opened.
    pub(crate) fn opened(&self, master: &Master) {
        // Not the greatest: where all Sentinels were set up anew, they begin to count anew.
        self.epoch.store(master.epoch, Ordering::Relaxed);
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = Some(master.address.clone());
    }

    /// What a Sentinel calls the master is none.
    pub(crate) fn no_master(&self, address: &Address) -> Error {
        let message = format!(
            "the master of {} is at {address} no more, and the Sentinels name no other yet",
            self.service
        );
        Error::new(ErrorKind::Unavailable, message)
    }
}

fn address_of(parts: Vec<Answer>) -> Option<Address> {
    let [host, port] = <[Answer; 2]>::try_from(parts).ok()?;
    let port = reply::text(port).ok()?.parse().ok()?;
    Some(Address::Tcp { host: reply::text(host).ok()?, port })
}

/// A field of what a Sentinel says about a master.
fn field(about: Answer, name: &str) -> Option<String> {
    let Answer::Array(parts) = about else { return None };
    let mut parts = parts.into_iter();
    while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
        if reply::text(field).ok().as_deref() == Some(name) {
            return reply::text(value).ok();
        }
    }
    None
}
