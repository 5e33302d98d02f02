//! Opening connections: TCP, TLS and Unix sockets, then Redis's own greeting.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, Value,
    aio::{MultiplexedConnection, PubSub},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use storage_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    config::{Address, RedisConfig},
    error::{not_connected, unreachable},
};

/// How many requests wait in front of a connection before their senders do.
const QUEUE: usize = 1024;
/// How many bytes gather before a write: one system call carries what many callers send.
const WRITE_BUFFER: usize = 128 * 1024;

/// Opens connections to any server of the configuration.
///
/// The streams are opened here and not by the driver, for three things that it does not offer: TLS with a provider of
/// our own instead of the process's, a certificate store that is read once, and a sign when a connection has ended.
pub(crate) struct Connector {
    info: RedisConnectionInfo,
    tls: Option<TlsConnector>,
    timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection that any number of calls share. A clone is the same connection.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    driver: Arc<Driver>,
}

struct Driver {
    task: AbortOnDropHandle<()>,
    retired: AtomicBool,
}

/// What goes over a link in one piece.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    One(&'a Cmd),
    /// Answered by an array with an answer, or an error, for each command.
    Each(&'a Pipeline),
    /// MULTI, the commands, EXEC.
    Transaction(&'a Pipeline),
}

impl Connector {
    /// Reads the trusted certificates, where TLS is asked for.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let server = &config.server;
        let mut info = RedisConnectionInfo::default().set_db(i64::from(server.database));
        if let Some(username) = &server.username {
            info = info.set_username(username);
        }
        if let Some(password) = &server.password {
            info = info.set_password(password);
        }
        let tls = if server.tls { Some(tls_connector(config.tls_ca.clone()).await?) } else { None };
        Ok(Self { info, tls, timeout: config.connect_timeout })
    }

    pub(crate) async fn link(&self, address: &Address) -> Result<Link> {
        self.within_timeout(async {
            let stream = self.stream(address).await?;
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(None)
                .set_pipeline_buffer_size(QUEUE)
                .set_write_backpressure_boundary(WRITE_BUFFER);
            let (connection, driver) = MultiplexedConnection::new_with_config(&self.info, stream, config)
                .await
                .map_err(|error| not_connected(&error))?;
            let task = AbortOnDropHandle::new(tokio::spawn(driver));
            Ok(Link { connection, driver: Arc::new(Driver { task, retired: AtomicBool::new(false) }) })
        })
        .await
    }

    /// A connection of its own for a subscription.
    pub(crate) async fn pub_sub(&self, address: &Address) -> Result<PubSub> {
        self.within_timeout(async {
            let stream = self.stream(address).await?;
            PubSub::new(&self.info, stream).await.map_err(|error| not_connected(&error))
        })
        .await
    }

    async fn within_timeout<T>(&self, open: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.timeout, open).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("the server did not take a connection within {:?}", self.timeout),
            ))
        })
    }

    async fn stream(&self, address: &Address) -> Result<Box<dyn Stream>> {
        match address {
            Address::Unix(path) => {
                Ok(Box::new(UnixStream::connect(path).await.map_err(|e| unreachable(&e))?))
            }
            Address::Tcp { host, port } => {
                let stream = self.tcp(host, *port).await.map_err(|error| unreachable(&error))?;
                Ok(stream)
            }
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

async fn tls_connector(ca: Option<std::path::PathBuf>) -> Result<TlsConnector> {
    // Reading a system's certificates takes milliseconds of file access.
    let roots = tokio::task::spawn_blocking(move || match ca {
        Some(path) => roots_from(&path),
        None => Ok(system_roots()),
    });
    let roots = roots.await.map_err(|_| Error::config("the trusted certificates could not be read"))??;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::config("TLS could not be set up"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_from(path: &Path) -> Result<RootCertStore> {
    let unreadable =
        || Error::config(format!("the certificate file {} holds no PEM certificate", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
        roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    }
    if roots.is_empty() { Err(unreadable()) } else { Ok(roots) }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, unreadable = found.errors.len(), "read the system's certificates");
    roots
}

impl Link {
    /// Whether it can take another request.
    pub(crate) fn is_usable(&self) -> bool {
        !self.driver.retired.load(Ordering::Relaxed) && !self.driver.task.is_finished()
    }

    /// How many hold a clone: one for the pool, one for each call under way.
    pub(crate) fn users(&self) -> usize {
        Arc::strong_count(&self.driver)
    }

    /// Lets no new request in; those under way go on.
    pub(crate) fn retire(&self) {
        self.driver.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn send(&mut self, request: Request<'_>) -> Result<Value, RedisError> {
        match request {
            Request::One(command) => self.connection.send_packed_command(command).await,
            Request::Each(pipeline) => {
                let answers = self.connection.send_packed_commands(pipeline, 0, pipeline.len()).await?;
                Ok(Value::Array(answers))
            }
            Request::Transaction(pipeline) => {
                // One answer each for MULTI and for queueing, then that of EXEC.
                let skipped = pipeline.len() + 1;
                let answer = self.connection.send_packed_commands(pipeline, skipped, 1).await?;
                Ok(answer.into_iter().next().unwrap_or_default())
            }
        }
    }
}
