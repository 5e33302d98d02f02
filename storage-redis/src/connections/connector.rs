//! Opening connections: TCP, TLS and Unix sockets, then Redis's own greeting.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use storage_core::{Error, ErrorKind, Result, engine::Deadline};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::{
    config::RedisConfig,
    error::{closed_at_once, not_redis, unreachable},
    statements::{
        answer::{Answer, Decoder, Malformed},
        command::{Command, cmd},
        reply::checked,
    },
    url::Address,
};

/// Opens connections to any server of the configuration. TLS has a provider of our own instead of the process's, and a
/// certificate store that is read once.
pub(crate) struct Connector {
    username: Option<String>,
    password: Option<String>,
    database: u32,
    tls: Option<TlsConnector>,
    timeout: Duration,
    drain_limit: Duration,
}

/// A connection on which one side speaks at a time.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    arrived: BytesMut,
    decoder: Decoder,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connector {
    /// Reads the trusted certificates, where TLS is asked for.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let server = &config.server;
        let tls = if server.tls { Some(tls_connector(config.tls_ca.clone()).await?) } else { None };
        Ok(Self {
            username: server.username.clone(),
            password: server.password.clone(),
            database: server.database,
            tls,
            timeout: config.connect_timeout,
            drain_limit: config.operation_timeout,
        })
    }

    /// A connection whose server has taken the credentials and the database.
    pub(crate) async fn open(&self, address: &Address) -> Result<Wire> {
        let open = async {
            let stream = self.reach(address).await?;
            let mut wire = Wire { stream, arrived: BytesMut::new(), decoder: Decoder::default() };
            self.greet(&mut wire).await?;
            Ok(wire)
        };
        Deadline::after(self.timeout).within(open).await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("the server did not take a connection within {:?}", self.timeout),
            ))
        })
    }

    /// How long a connection that takes no more requests has for those under way: as long as a call may take.
    pub(crate) fn drain_limit(&self) -> Duration {
        self.drain_limit
    }

    /// Says who asks, and waits for the server's word: a server that is full or protected says so now.
    async fn greet(&self, wire: &mut Wire) -> Result<()> {
        let mut commands = Vec::new();
        if let Some(password) = &self.password {
            commands.push(cmd("AUTH").args(self.username.as_ref()).arg(password));
        }
        if self.database > 0 {
            commands.push(cmd("SELECT").number(self.database));
        }
        commands.push(cmd("PING"));
        // In one round trip: the server answers each of them, also after it has refused one.
        wire.send(&commands).await?;
        for _ in &commands {
            checked(wire.next().await?)?;
        }
        Ok(())
    }

    async fn reach(&self, address: &Address) -> Result<Box<dyn Stream>> {
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

impl Wire {
    pub(crate) async fn send(&mut self, commands: &[Command]) -> Result<()> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write_to(&mut bytes));
        self.stream.write_all(&bytes).await.map_err(|error| unreachable(&error))?;
        self.stream.flush().await.map_err(|error| unreachable(&error))
    }

    /// The next answer. Nothing is lost where this is dropped before it has come.
    pub(crate) async fn next(&mut self) -> Result<Answer> {
        loop {
            match self.decoder.decode(&mut self.arrived) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(Malformed) => return Err(not_redis()),
            }
            match self.stream.read_buf(&mut self.arrived).await {
                Ok(0) => return Err(closed_at_once()),
                Ok(_) => {}
                Err(error) => return Err(unreachable(&error)),
            }
        }
    }

    /// For who does both at once.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
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
