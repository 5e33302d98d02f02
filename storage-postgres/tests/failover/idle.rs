use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{Json, StorageBackend};
use storage_tests::TcpProxy;

use crate::common::{at_ports, open, port, unique, url};

/// Longer than a connection lies idle unasked.
const IDLE: Duration = Duration::from_millis(3_500);

/// Until all connections are idle, those too that were still being opened.
async fn idle(proxy: &TcpProxy) {
    let mut opened = 0;
    while opened != proxy.opened() {
        opened = proxy.opened();
        tokio::time::sleep(IDLE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_network_has_forgotten_costs_no_write() {
    let proxy = TcpProxy::start(port(&url())).unwrap();
    let mut config = at_ports(&url(), &[proxy.port()]);
    config.schema = Some(unique("silent"));
    config.pool_min = 4;
    let backend = Arc::new(open(config));
    backend.connect().await.unwrap();
    let all_at_once = |round: usize| {
        let calls = (0..8).flat_map(|n| {
            let (one, other) = (Arc::clone(&backend), Arc::clone(&backend));
            let key = format!("k:{round}:{n}");
            let get = tokio::spawn(async move { other.get("k").await.map(drop) });
            let ttl = Some(Duration::from_secs(60));
            [get, tokio::spawn(async move { one.increment(&key, 1, ttl).await.map(drop) })]
        });
        join_all(calls)
    };
    for done in all_at_once(0).await {
        done.unwrap().unwrap();
    }
    for round in 1..3 {
        idle(&proxy).await;
        proxy.silence();
        if round == 1 {
            let start = Instant::now();
            backend.set("k", Json::from(1), None).await.unwrap();
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        }
        for done in all_at_once(round).await {
            done.unwrap().unwrap();
        }
    }
    // Silent ones hold up no disconnect.
    idle(&proxy).await;
    proxy.silence();
    let start = Instant::now();
    backend.disconnect().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
}
