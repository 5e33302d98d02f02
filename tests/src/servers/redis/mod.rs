//! Redis, alone, as one node of a cluster, or watched by Sentinels.

mod cluster;
mod command;
mod sentinel;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::encode;
use super::ports::with_free_port;
use super::process::{Launch, Process};
use crate::error::Context;
use crate::{Result, programs};

pub use cluster::RedisCluster;
pub use sentinel::{SentinelOptions, Sentinels};

/// How a [`Redis`] is set up.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Speak TLS only.
    pub tls: bool,
    /// Password of the default user. With [`user`](Self::user) it has no effect.
    pub password: Option<String>,
    /// The only user who may enter; the default user is turned off.
    pub user: Option<AclUser>,
    /// Be a node of a cluster; [`RedisCluster`] joins nodes.
    pub cluster: bool,
    /// Be Valkey in place of Redis.
    pub valkey: bool,
    /// Be a Sentinel; [`Sentinels`] starts them with what they watch.
    pub sentinel: bool,
    /// Further lines of `redis.conf`, such as `maxmemory 10mb`.
    pub settings: Vec<String>,
}

/// A user with a password, who may do everything.
#[derive(Debug, Clone)]
pub struct AclUser {
    /// The user's name.
    pub name: String,
    /// The user's password.
    pub password: String,
}

/// A Redis server of the caller's own. It listens on TCP and on a Unix socket, keeps its data through a
/// [`kill`](Self::kill), and is stopped, and its data removed, when dropped.
#[derive(Debug)]
pub struct Redis {
    // Before the folder: fields are dropped in order, and the server writes into the folder.
    process: Process,
    folder: TempDir,
    port: u16,
    options: RedisOptions,
    certificates: Option<Certificates>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When the server is not installed, or does not start; the error says why.
    pub fn start(options: &RedisOptions) -> Result<Redis> {
        let program = if options.valkey { programs::valkey_server()? } else { programs::redis_server()? };
        with_free_port(|port| {
            let mut redis = Redis::prepare(&program, port, options.clone())?;
            redis.restart()?;
            Ok(redis)
        })
    }

    fn prepare(program: &Path, port: u16, options: RedisOptions) -> Result<Redis> {
        let folder = TempDir::with_prefix("storage-redis-").context("make a temporary folder")?;
        let certificates = options.tls.then(|| Certificates::create(folder.path())).transpose()?;
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, configuration(port, &options, certificates.as_ref()))
            .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)))
            .context(format!("write {}", file.display()))?;
        let process = Process::new(Launch {
            server: "Redis",
            program: program.to_path_buf(),
            arguments: [file.into()]
                .into_iter()
                .chain(options.sentinel.then(|| "--sentinel".into()))
                .collect(),
            account: None,
            folder: folder.path().to_path_buf(),
            stop: Signal::SIGTERM,
            abort: Signal::SIGKILL,
        });
        Ok(Redis { process, folder, port, options, certificates })
    }

    /// URL of the server, with its user and password: `redis://` or, with TLS, `rediss://`.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, host) = if self.options.tls { ("rediss", "localhost") } else { ("redis", "127.0.0.1") };
        format!("{scheme}://{}{host}:{}", user_info(&self.options), self.port)
    }

    /// URL of the server's Unix socket, without user and password: `redis+unix:///path`.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// The server's TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Identifier of the server's process, as the server says.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn process(&self) -> Result<i32> {
        let info = self.command(&["INFO", "server"])?;
        let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        Ok(line.and_then(|id| id.trim().parse().ok()).unwrap_or_default())
    }

    /// Path of the certificate authority (PEM) that signed the server's certificate, with TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.certificates.as_ref().map(Certificates::ca)
    }

    /// Runs a command on the server, as a user who may do everything, and returns its text or number.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        command::run(&self.socket(), credentials(&self.options), words)
    }

    /// Ends the server at once, as a crash would; writes that it has answered are kept.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell whether the server has ended. So with all methods below.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Ends the server in an orderly way.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts the server on the same port with the same data, after ending it when it runs, and waits until
    /// it answers.
    ///
    /// # Errors
    ///
    /// When it does not start; the error holds the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        let (socket, options) = (self.socket(), &self.options);
        self.process.start(|_| {
            command::run(&socket, credentials(options), &["PING"]).is_ok_and(|answer| answer == "PONG")
        })
    }

    /// Freezes the server: connections stay open, and nobody answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// The text of `redis.conf`. Passwords stand there and not on the command line, which everybody can read.
fn configuration(port: u16, options: &RedisOptions, certificates: Option<&Certificates>) -> String {
    let mut lines = ["bind 127.0.0.1", "unixsocket socket", "unixsocketperm 700"].map(String::from).to_vec();
    if !options.sentinel {
        // Each answered write is in the file's pages before its answer, and survives a kill.
        let kept = ["save \"\"", "appendonly yes", "appendfsync everysec", "auto-aof-rewrite-percentage 0"];
        lines.extend(kept.into_iter().chain(["databases 16"]).map(String::from));
    }
    match certificates {
        Some(certificates) => lines.extend(tls_settings(port, certificates)),
        None => lines.push(format!("port {port}")),
    }
    if options.cluster {
        lines.extend(["cluster-enabled yes", "cluster-node-timeout 2000"].map(String::from));
    }
    match (&options.user, &options.password) {
        (Some(AclUser { name, password }), _) => {
            lines.extend(["user default off".into(), format!("user {name} on \">{password}\" ~* &* +@all")]);
        }
        (None, Some(password)) => lines.push(format!("requirepass \"{password}\"")),
        (None, None) => {}
    }
    lines.extend(options.settings.iter().cloned());
    lines.join("\n") + "\n"
}

fn tls_settings(port: u16, certificates: &Certificates) -> [String; 6] {
    [
        "port 0".into(),
        format!("tls-port {port}"),
        format!("tls-cert-file {}", certificates.certificate().display()),
        format!("tls-key-file {}", certificates.key().display()),
        format!("tls-ca-cert-file {}", certificates.ca().display()),
        "tls-auth-clients no".into(),
    ]
}

fn user_info(options: &RedisOptions) -> String {
    match (&options.user, &options.password) {
        (Some(user), _) => format!("{}:{}@", encode(&user.name), encode(&user.password)),
        (None, Some(password)) => format!(":{}@", encode(password)),
        (None, None) => String::new(),
    }
}

/// The words that follow `AUTH`, if it is needed.
fn credentials(options: &RedisOptions) -> Vec<&str> {
    match (&options.user, &options.password) {
        (Some(user), _) => vec![&user.name, &user.password],
        (None, Some(password)) => vec![password],
        (None, None) => Vec::new(),
    }
}
