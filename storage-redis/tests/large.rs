//! A large answer that is on its way holds up nobody else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::StorageBackend;
use storage_tests::{Redis, RedisOptions};
use support::{config, json, open, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::Semaphore,
    time::timeout,
};

/// What a connection brings before it is held, more than all the small answers together.
const FREE: usize = 256 * 1024;
const LARGE: usize = 1024 * 1024;
/// Less than the deadline of an operation, and far more than a small one takes.
const SOON: Duration = Duration::from_secs(3);

/// Passes connections on to the server. Over each come `FREE` bytes of answers, and the others once they are released.
struct Narrow {
    port: u16,
    held: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Narrow {
    async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (held, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (is_held, may_go) = (Arc::clone(&held), Arc::clone(&go));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (answers, to_client) =
                    TcpStream::connect(("127.0.0.1", server)).await.unwrap().into_split();
                let (mut requests, client) = client.into_split();
                let mut to_server = to_client;
                tokio::spawn(async move { tokio::io::copy(&mut requests, &mut to_server).await });
                tokio::spawn(pass(answers, client, Arc::clone(&is_held), Arc::clone(&may_go)));
            }
        });
        Self { port, held, go }
    }
}

async fn pass(
    mut answers: tcp::OwnedReadHalf,
    mut client: tcp::OwnedWriteHalf,
    held: Arc<Semaphore>,
    go: Arc<Semaphore>,
) {
    let (mut buffer, mut passed) = (vec![0; 16 * 1024], 0);
    while let Ok(length @ 1..) = answers.read(&mut buffer).await {
        if passed < FREE && passed + length >= FREE {
            held.add_permits(1);
            go.acquire().await.unwrap().forget();
        }
        passed += length;
        if client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_reads_pass_large_answers_that_are_on_their_way() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let narrow = Narrow::before(server.port()).await;
    let mut config = config(&server.url().replace(&server.port().to_string(), &narrow.port.to_string()));
    config.operation_timeout = Duration::from_secs(60);
    let backend = Arc::new(open(config).await);
    let large = json(&format!("\"{}\"", "x".repeat(LARGE)));
    backend.set("large", large.clone(), None).await.unwrap();
    backend.set("small", json("1"), None).await.unwrap();
    let reader = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.get("large").await.unwrap().unwrap() }
    });
    until("the large answer is held", async || narrow.held.available_permits() == 1).await;
    // One after the other, and as crowds, which share pipelines.
    for crowd in [1, 1, 1, 16, 256] {
        let reads = join_all((0..crowd).map(|_| backend.get("small")));
        let values = timeout(SOON, reads).await.expect("small reads wait for the large answer");
        assert!(values.into_iter().all(|value| value.unwrap() == Some(json("1"))));
    }
    narrow.go.add_permits(64);
    assert_eq!(reader.await.unwrap(), large);
}
