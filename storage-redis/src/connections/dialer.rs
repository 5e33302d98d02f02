//! Reaching a server: TCP with keepalive, TLS, Unix sockets.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use storage_core::{Error, Result, engine::Deadline};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{tls::Tls, wire::Wire};
use crate::{config::RedisConfig, error::unreachable, options::TlsVerify, url::Address};

/// An idle connection says a word so often, sooner than what forgets idle connections: a NAT after minutes, say.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The pause between those words where none is answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A connection whose other side confirms nothing for so long is broken.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what answers there may take to say what it speaks.
const PROBE: Duration = Duration::from_secs(1);

/// Reaches servers.
pub(crate) struct Dialer {
    tls: Option<Tls>,
}

impl Dialer {
    /// Reads the trusted certificates, where TLS is asked for.
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        if !config.server.tls {
            return Ok(Self { tls: None });
        }
        if config.tls_verify == TlsVerify::None {
            tracing::warn!(
                "certificates of Redis are not verified: whoever is in between can read and change everything"
            );
        }
        Ok(Self { tls: Some(Tls::new(config.tls_ca.clone(), config.tls_verify).await?) })
    }

    /// A connection on which nothing has been said yet.
    pub(crate) async fn reach(&self, address: &Address) -> Result<Wire> {
        match address {
            Address::Unix(path) => unix::connect(path).await,
            Address::Tcp { host, port } => {
                let stream = tcp(host, *port).await.map_err(|error| unreachable(&error))?;
                let Some(tls) = &self.tls else { return Ok(Wire::new(Box::new(stream))) };
                let secured = tls.connect(host, stream).await.map_err(|error| unreachable(&error))?;
                Ok(Wire::new(Box::new(secured)))
            }
            Address::Service(_) => {
                Err(Error::config("a service has no address before its Sentinels are asked"))
            }
        }
    }

    /// What a server that does not go on speaks instead of what it was spoken to in, where it says so.
    pub(crate) async fn misspoken(&self, address: &Address) -> Option<Error> {
        let Address::Tcp { host, port } = address else { return None };
        let asked = async {
            match &self.tls {
                None => speaks_tls(host, *port).await.then(|| {
                    Error::config("what answers there speaks TLS")
                        .with_hint("write rediss:// instead of redis://")
                }),
                Some(_) => speaks_plainly(host, *port).await.then(|| {
                    Error::config("what answers there speaks no TLS")
                        .with_hint("write redis:// instead of rediss://")
                }),
            }
        };
        Deadline::after(PROBE).within(asked).await.flatten()
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let kept = socket.set_tcp_keepalive(&keepalive());
    #[cfg(target_os = "linux")]
    let kept = kept.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    if let Err(error) = kept {
        tracing::debug!(%error, "the system does not look after idle connections");
    }
    Ok(stream)
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL)
}

/// No credentials leave: nobody has said yet who answers there.
async fn speaks_tls(host: &str, port: u16) -> bool {
    let (Ok(tls), Ok(stream)) = (Tls::trusting_anybody(), TcpStream::connect((host, port)).await) else {
        return false;
    };
    match tls.connect(host, stream).await {
        Ok(_) => true,
        // It asks for a client's certificate, say.
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            matches!(inner, Some(rustls::Error::AlertReceived(_)))
        }
    }
}

async fn speaks_plainly(host: &str, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((host, port)).await else { return false };
    let mut first = [0];
    let asked = stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut first).await.is_ok();
    // `+PONG`, or an error: credentials are missing, say.
    asked && matches!(first, [b'+' | b'-'])
}

#[cfg(unix)]
mod unix {
    use std::path::Path;

    use storage_core::Result;
    use tokio::net::UnixStream;

    use super::{Wire, unreachable};

    pub(super) async fn connect(path: &Path) -> Result<Wire> {
        let stream = UnixStream::connect(path).await.map_err(|error| unreachable(&error))?;
        Ok(Wire::new(Box::new(stream)))
    }
}

#[cfg(not(unix))]
mod unix {
    use std::path::Path;

    use storage_core::{Error, ErrorKind, Result};

    use super::Wire;

    pub(super) async fn connect(_: &Path) -> Result<Wire> {
        Err(Error::new(ErrorKind::Unsupported, "this system has no Unix sockets"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_is_looked_after_within_half_a_minute() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tcp("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            let limit = Duration::from_secs(30);
            assert!(socket.tcp_keepalive_time().unwrap() <= limit);
            assert!(socket.tcp_user_timeout().unwrap().unwrap() <= limit);
        }
    }
}
