//! Redis under Sentinels: one master, replicas, and three who watch them and make a replica the master when it is down.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Redis, RedisOptions};
use crate::error::Context;
use crate::servers::certificates::Certificates;
use crate::servers::encode;
use crate::{Error, Result};

const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const SENTINELS: usize = 3;

/// How [`Sentinels`] are set up.
#[derive(Debug, Clone)]
pub struct SentinelOptions {
    /// How many replicas the master has.
    pub replicas: usize,
    /// Speak TLS only, the Sentinels too.
    pub tls: bool,
    /// Password of the default user of the servers.
    pub password: Option<String>,
    /// Password of the default user of the Sentinels.
    pub sentinel_password: Option<String>,
}

impl Default for SentinelOptions {
    fn default() -> SentinelOptions {
        SentinelOptions { replicas: 1, tls: false, password: None, sentinel_password: None }
    }
}

/// A master with replicas, and three Sentinels that watch it as the service [`NAME`](Self::NAME).
#[derive(Debug)]
pub struct Sentinels {
    // Before the servers: they would tell each other of servers that end.
    sentinels: Vec<Redis>,
    servers: Vec<Redis>,
    folder: TempDir,
    options: SentinelOptions,
}

impl Sentinels {
    /// What the service is called.
    pub const NAME: &'static str = "cache";

    /// Starts the servers, and waits until each Sentinel knows all of them and the others.
    ///
    /// # Errors
    ///
    /// When a server does not start, or they do not find each other within a minute.
    pub fn start(options: &SentinelOptions) -> Result<Sentinels> {
        let folder = TempDir::with_prefix("storage-sentinel-").context("make a temporary folder")?;
        let tls = if options.tls { tls_settings(&Certificates::create(folder.path())?) } else { Vec::new() };
        let master = Redis::start(&server(options, &tls, None))?;
        let port = master.port();
        let mut servers = vec![master];
        for _ in 0..options.replicas {
            servers.push(Redis::start(&server(options, &tls, Some(port)))?);
        }
        let sentinels = (0..SENTINELS).map(|_| Redis::start(&sentinel(options, &tls, port)));
        let sentinels = sentinels.collect::<Result<Vec<_>>>()?;
        let group = Sentinels { sentinels, servers, folder, options: options.clone() };
        group.wait_until_whole()?;
        Ok(group)
    }

    /// URL of the service, with its passwords: `redis+sentinel://host:port,host:port/cache` or, with TLS, `rediss+sentinel://`.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, host) =
            if self.options.tls { ("rediss+sentinel", "localhost") } else { ("redis+sentinel", "127.0.0.1") };
        let user = self.options.password.as_ref().map(|password| format!(":{}@", encode(password)));
        let query = self.options.sentinel_password.as_ref();
        let query = query.map(|password| format!("?sentinel_password={}", encode(password)));
        let nodes: Vec<String> =
            self.sentinels.iter().map(|node| format!("{host}:{}", node.port())).collect();
        let nodes = nodes.join(",");
        format!("{scheme}://{}{nodes}/{}{}", user.unwrap_or_default(), Self::NAME, query.unwrap_or_default())
    }

    /// Path of the certificate authority (PEM), with TLS.
    #[must_use]
    pub fn ca(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The Sentinels, to kill, pause and restart.
    #[must_use]
    pub fn sentinels_mut(&mut self) -> &mut [Redis] {
        &mut self.sentinels
    }

    /// The Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// The servers; which of them is the master changes.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The servers, to kill, pause and restart.
    #[must_use]
    pub fn servers_mut(&mut self) -> &mut [Redis] {
        &mut self.servers
    }

    /// The place among [`servers`](Self::servers) of the one that says that it is the master, where there is one.
    #[must_use]
    pub fn master(&self) -> Option<usize> {
        self.servers.iter().position(is_master)
    }

    /// Asks a Sentinel to make a replica the master, although the master is well, and waits until one is.
    ///
    /// # Errors
    ///
    /// When none is within a minute.
    pub fn fail_over(&self) -> Result<()> {
        let before = self.master();
        self.until("a failover begins", || {
            self.sentinels.iter().any(|node| node.command(&["SENTINEL", "FAILOVER", Self::NAME]).is_ok())
        })?;
        self.until("a replica is the master", || {
            let others = self.servers.iter().enumerate().filter(|(place, _)| Some(*place) != before);
            others.map(|(_, server)| server).any(is_master)
        })
    }

    /// Starts a server again that was killed, as a replica of the master that there is now, and waits until the Sentinels would
    /// choose it.
    ///
    /// # Errors
    ///
    /// When it does not start, or is none within a minute.
    pub fn rejoin(&mut self, place: usize) -> Result<()> {
        let Some(server) = self.servers.get_mut(place) else { return Ok(()) };
        server.restart()?;
        let port =
            self.servers.iter().enumerate().find(|(other, server)| *other != place && is_master(server));
        if let (Some((_, master)), Some(server)) = (port, self.servers.get(place)) {
            server.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()])?;
        }
        self.wait_until_whole()
    }

    /// Waits until each Sentinel sees a master with all of its replicas, all well, and the other Sentinels.
    ///
    /// # Errors
    ///
    /// When that takes longer than a minute.
    pub fn wait_until_whole(&self) -> Result<()> {
        self.until("the Sentinels see all servers", || {
            self.sentinels.iter().all(|sentinel| self.is_whole(sentinel).unwrap_or_default())
        })
    }

    fn is_whole(&self, sentinel: &Redis) -> Result<bool> {
        let about = fields(&sentinel.command(&["SENTINEL", "MASTER", Self::NAME])?);
        let is = |name: &str, value: &str| about.iter().any(|(field, is)| field == name && is == value);
        let (replicas, others) = (self.options.replicas.to_string(), (SENTINELS - 1).to_string());
        let known =
            is("flags", "master") && is("num-slaves", &replicas) && is("num-other-sentinels", &others);
        let master = self.servers.iter().find(|server| is("port", &server.port().to_string()));
        let followed = master.is_some_and(|master| {
            let state = master.command(&["INFO", "replication"]).unwrap_or_default();
            is_master(master) && state.matches("state=online").count() == self.options.replicas
        });
        let listing = sentinel.command(&["SENTINEL", "REPLICAS", Self::NAME])?;
        let well = fields(&listing).iter().filter(|(field, is)| field == "flags" && is == "slave").count();
        Ok(known && followed && well == self.options.replicas)
    }

    fn until(&self, what: &str, is_true: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_true() {
            if started.elapsed() > LIMIT {
                let views = self.sentinels.iter().map(|node| node.command(&["INFO", "sentinel"]));
                let views: Vec<String> = views.map(Result::unwrap_or_default).collect();
                return Err(Error::Failed { command: what.into(), output: views.join("\n") });
            }
            sleep(POLL);
        }
        Ok(())
    }
}

fn is_master(server: &Redis) -> bool {
    server.command(&["INFO", "replication"]).is_ok_and(|info| info.contains("role:master\r"))
}

/// Names and values that follow each other.
fn fields(lines: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = lines.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| Some(((*pair.first()?).to_owned(), (*pair.get(1)?).to_owned())))
        .collect()
}

fn server(options: &SentinelOptions, tls: &[String], master: Option<u16>) -> RedisOptions {
    let mut settings = tls.to_vec();
    // A replica is there within moments, and again after each failover.
    settings.extend(["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"].map(String::from));
    settings.extend(options.password.iter().map(|password| format!("masterauth \"{password}\"")));
    settings.extend(master.map(|port| format!("replicaof 127.0.0.1 {port}")));
    RedisOptions { tls: options.tls, password: options.password.clone(), settings, ..RedisOptions::default() }
}

fn sentinel(options: &SentinelOptions, tls: &[String], master: u16) -> RedisOptions {
    let name = Sentinels::NAME;
    let mut settings = tls.to_vec();
    settings.push(format!("sentinel monitor {name} 127.0.0.1 {master} 2"));
    settings.push(format!("sentinel down-after-milliseconds {name} 700"));
    // Twice as long passes before the next failover of its own accord.
    settings.push(format!("sentinel failover-timeout {name} 1500"));
    settings.extend(options.password.iter().map(|password| format!("sentinel auth-pass {name} {password}")));
    settings.extend(
        options.sentinel_password.iter().map(|password| format!("sentinel sentinel-pass {password}")),
    );
    let password = options.sentinel_password.clone();
    RedisOptions { tls: options.tls, password, sentinel: true, settings, ..RedisOptions::default() }
}

/// One authority for all: they verify each other.
fn tls_settings(certificates: &Certificates) -> Vec<String> {
    vec![
        format!("tls-cert-file {}", certificates.certificate().display()),
        format!("tls-key-file {}", certificates.key().display()),
        format!("tls-ca-cert-file {}", certificates.ca().display()),
        "tls-replication yes".into(),
    ]
}
