//! What a network does to connections, on purpose: a name that moves, and a line that goes silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::Result;
use crate::error::Context;

/// A TCP proxy before a server on this machine: the address stays, the server behind it may change.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct State {
    target: AtomicU16,
    opened: AtomicUsize,
    /// In milliseconds.
    delay: AtomicU64,
    /// How many times connections were cut, and how many times silenced: what is older than a change obeys it.
    changes: watch::Sender<(usize, usize)>,
}

/// A thread of a proxy's own, and a free port on 127.0.0.1 that it listens on.
pub(crate) fn listen() -> Result<(Runtime, TcpListener, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("start a thread")?;
    let listener = {
        // Not by blocking: the test may run in a runtime of its own.
        let _entered = runtime.enter();
        std::net::TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .and_then(TcpListener::from_std)
            .context("find a port")?
    };
    let address = listener.local_addr().context("learn the port")?;
    Ok((runtime, listener, address))
}

impl TcpProxy {
    /// Starts a proxy before the server at `port` of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the system gives it no port or no thread.
    pub fn start(port: u16) -> Result<TcpProxy> {
        let (runtime, listener, address) = listen()?;
        let changes = watch::Sender::new((0, 0));
        let (opened, delay) = (AtomicUsize::new(0), AtomicU64::new(0));
        let state = Arc::new(State { target: port.into(), opened, delay, changes });
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Ok(TcpProxy { address, state, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1 for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections go to `port` of 127.0.0.1, as when a name moves; those that there are stay.
    pub fn retarget(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
    }

    /// New connections lead on after `time`, as to a server far away.
    pub fn delay(&self, time: Duration) {
        self.state.delay.store(time.as_millis().try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.changes.send_modify(|(cuts, _)| *cuts += 1);
    }

    /// From now on nothing passes through the connections that there are, and nobody is told, as when a NAT forgets
    /// them. New ones work.
    pub fn silence(&self) {
        self.state.changes.send_modify(|(_, silences)| *silences += 1);
    }

    /// How many connections have been opened.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.state.opened.load(Ordering::SeqCst)
    }
}

impl Drop for TcpProxy {
    /// Ends the connections.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        state.opened.fetch_add(1, Ordering::SeqCst);
        let changes = state.changes.subscribe();
        let target = ([127, 0, 0, 1], state.target.load(Ordering::SeqCst)).into();
        let delay = Duration::from_millis(state.delay.load(Ordering::SeqCst));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            serve(client, target, changes).await;
        });
    }
}

async fn serve(client: TcpStream, target: SocketAddr, mut changes: watch::Receiver<(usize, usize)>) {
    let (cuts, silences) = *changes.borrow_and_update();
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let pass = async {
        tokio::select! {
            () = pass(from_client, to_server) => {}
            () = pass(from_server, to_client) => {}
        }
    };
    tokio::pin!(pass);
    loop {
        tokio::select! {
            () = &mut pass => return,
            changed = changes.changed() => {
                let now = *changes.borrow_and_update();
                if changed.is_err() || now.0 != cuts {
                    return;
                }
                if now.1 != silences {
                    break;
                }
            }
        }
    }
    // The sockets stay open, unread, until the connections are cut.
    let _ = changes.wait_for(|now| now.0 != cuts).await;
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Some(bytes) = piece.get(..length) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::TcpProxy;

    /// A server that answers each byte with its own letter.
    fn server(letter: u8) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    while stream.read_exact(&mut [0]).is_ok() && stream.write_all(&[letter]).is_ok() {}
                });
            }
        });
        port
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
        let mut answer = [0];
        stream.write_all(b"?").and_then(|()| stream.read_exact(&mut answer)).map(|()| answer[0])
    }

    #[test]
    fn new_connections_follow_the_target_and_old_ones_go_silent_or_end() {
        let proxy = TcpProxy::start(server(b'a')).unwrap();
        let open = || {
            let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            stream
        };
        let mut old = open();
        assert_eq!(ask(&mut old).unwrap(), b'a');
        proxy.retarget(server(b'b'));
        assert_eq!((ask(&mut old).unwrap(), ask(&mut open()).unwrap()), (b'a', b'b'));
        proxy.silence();
        assert!(matches!(ask(&mut old).unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        let mut new = open();
        assert_eq!(ask(&mut new).unwrap(), b'b');
        proxy.cut();
        assert!(ask(&mut new).is_err());
        assert_eq!(ask(&mut open()).unwrap(), b'b');
        assert_eq!(proxy.opened(), 4);
    }
}
