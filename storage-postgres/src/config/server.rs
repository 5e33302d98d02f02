//! Where the servers are, and as whom to log in.

use std::{net::IpAddr, time::Duration};

use storage_core::{Error, Result};
use tokio_postgres::config::{Config as Driver, Host};

pub(super) const PORT: u16 = 5432;

/// Keepalives begin after so long without a byte, and come so often: networks forget connections that lie idle, at the
/// earliest after a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// The servers, and the login, which is one for all of them.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) hosts: Vec<Host>,
    /// One for each host, or none.
    pub(super) addresses: Vec<IpAddr>,
    /// One for all, or one for each.
    pub(super) ports: Vec<u16>,
    /// All else that the driver is told; no hosts.
    pub(super) driver: Driver,
}

/// One of the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name that a certificate must be for; `None` where only an address was said.
    pub(crate) host: Option<Host>,
    /// Where it is, where that was said.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Server {
    pub(super) fn new() -> Self {
        let mut driver = Driver::new();
        driver.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        driver.keepalives_retries(KEEPALIVE_COUNT);
        Self { hosts: Vec::new(), addresses: Vec::new(), ports: Vec::new(), driver }
    }

    /// Whether the numbers of hosts, addresses and ports fit.
    pub(super) fn check(&self) -> Result<()> {
        let places = self.len();
        if !self.addresses.is_empty() && !self.hosts.is_empty() && self.addresses.len() != self.hosts.len() {
            return Err(Error::config("there are not as many Postgres addresses as hosts"));
        }
        if self.ports.len() > 1 && self.ports.len() != places {
            return Err(Error::config("there are not as many Postgres ports as hosts")
                .with_hint("one port for all hosts, or one for each"));
        }
        Ok(())
    }

    /// How many hosts there are.
    pub(super) fn len(&self) -> usize {
        self.hosts.len().max(self.addresses.len()).max(1)
    }

    /// All hosts; this machine where none was said.
    pub(super) fn places(&self) -> Vec<Place> {
        let place = |at| {
            let (host, address) = (self.hosts.get(at).cloned(), self.addresses.get(at).copied());
            let nothing = host.is_none() && address.is_none();
            let host = if nothing { Some(Host::Tcp("localhost".to_owned())) } else { host };
            let port = self.ports.get(at).or(self.ports.first()).copied().unwrap_or(PORT);
            Place { host, address, port }
        };
        (0..self.len()).map(place).collect()
    }
}

/// A name, an address, or the folder of a Unix socket.
pub(super) fn host(text: &str) -> Host {
    match text {
        "" => Host::Tcp("localhost".to_owned()),
        #[cfg(unix)]
        text if text.starts_with('/') => Host::Unix(text.into()),
        text => Host::Tcp(text.to_owned()),
    }
}

impl Place {
    /// Whether it is a socket of this machine's.
    pub(crate) fn is_socket(&self) -> bool {
        self.address.is_none() && !matches!(self.host, Some(Host::Tcp(_)))
    }

    /// Its name, or its address where it has none.
    pub(crate) fn name(&self) -> String {
        match (&self.host, self.address) {
            (Some(Host::Tcp(host)), _) => host.clone(),
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => path.display().to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "localhost".to_owned(),
        }
    }
}
