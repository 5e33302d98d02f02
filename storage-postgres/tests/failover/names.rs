use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{ErrorKind, Json, StorageBackend};
use storage_postgres::{PostgresConfig, TargetSessionAttrs};
use storage_tests::{Postgres, PostgresOptions, TcpProxy};
use tokio::task::block_in_place;

use crate::common::{at_ports, eventually, open};

/// Takes no writes, as a primary that has become a standby; those that are connected stay so.
fn demote(server: &Postgres, on: bool) {
    server.set("default_transaction_read_only", if on { "on" } else { "off" }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_takes_no_writes_any_more_is_left_for_the_one_that_the_name_leads_to() {
    let [first, second] =
        block_in_place(|| [0, 1].map(|_| Postgres::start(&PostgresOptions::default()).unwrap()));
    for server in [&first, &second] {
        let backend = open(PostgresConfig::from_url(&server.url()).unwrap());
        backend.connect().await.unwrap();
        backend.disconnect().await.unwrap();
    }
    let proxy = TcpProxy::start(first.port()).unwrap();
    let backend = Arc::new(open(at_ports(&first.url(), &[proxy.port()])));
    backend.connect().await.unwrap();
    join_all((0..16).map(|n| async move { n }).map(|n| async {
        backend.set(&format!("k:{}", n.await), Json::from(1), None).await.unwrap();
    }))
    .await;
    block_in_place(|| demote(&first, true));
    eventually("the server takes no writes", async || {
        block_in_place(|| first.sql("CREATE TABLE IF NOT EXISTS probe ()").is_err())
    })
    .await;
    // Still no other server: nothing was applied, and that is said at once.
    let start = Instant::now();
    let error = backend.set("k", Json::from(2), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.hint().unwrap().contains("standby"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
    let health = backend.health().await;
    assert!(health.reads() && !health.writes(), "{health:?}");
    assert!(health.stores[0].write_error.as_ref().unwrap().contains("takes no writes"));
    assert_eq!(backend.get("k:1").await.unwrap(), Some(Json::from(1)));
    // The name moves, and the connections stay.
    tokio::time::sleep(Duration::from_millis(600)).await;
    proxy.retarget(second.port());
    // What was opened a moment before it moved is not retired at once.
    eventually("a write goes where the name leads", async || {
        backend.set("n:0", Json::from(0), None).await.is_ok()
    })
    .await;
    let writes = (0..32).map(|n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { backend.set(&format!("n:{n}"), Json::from(n), None).await })
    });
    for write in join_all(writes).await {
        write.unwrap().unwrap();
    }
    assert_eq!(
        block_in_place(|| second.sql("SELECT count(*) FROM kv_store WHERE key LIKE 'n:%'")).unwrap(),
        "32"
    );
    assert!(backend.health().await.writes());
    assert_eq!(backend.get("k:1").await.unwrap(), None, "reads go where writes go");
    // Transactions and what travels alone as well, and back again.
    block_in_place(|| demote(&second, true));
    block_in_place(|| demote(&first, false));
    proxy.retarget(first.port());
    eventually("the server takes no writes", async || {
        block_in_place(|| second.sql("CREATE TABLE IF NOT EXISTS probe ()").is_err())
    })
    .await;
    let batch = storage_core::Batch::new().require("k:1", storage_core::Expected::Value(Json::from(1)));
    // The first to notice is a read-only one's write.
    assert_eq!(backend.increment("count", 1, None).await.unwrap(), 1);
    backend.apply(batch.set("a", Json::from(1), None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_hosts_the_wanted_one_is_used() {
    use TargetSessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
    let primary = block_in_place(|| Postgres::start(&PostgresOptions::default()).unwrap());
    let setup = open(PostgresConfig::from_url(&primary.url()).unwrap());
    setup.connect().await.unwrap();
    setup.set("k", Json::from(1), None).await.unwrap();
    let standby = block_in_place(|| primary.standby(Default::default()).unwrap());
    let (p, s) = (primary.port(), standby.port());
    for (hosts, wanted, writes) in [
        (&[s, p][..], None, Some(true)),
        (&[s, p], Some(Any), Some(false)),
        (&[s, p], Some(ReadWrite), Some(true)),
        (&[s, p], Some(Primary), Some(true)),
        (&[p, s], Some(ReadOnly), Some(false)),
        (&[p, s], Some(Standby), Some(false)),
        (&[p, s], Some(PreferStandby), Some(false)),
        (&[p], Some(PreferStandby), Some(true)),
        (&[p], Some(Standby), None),
        (&[s], Some(Primary), None),
        (&[s, s], None, None),
        (&[s], None, Some(false)),
    ] {
        // Told by the server, and asked for.
        for pooler in [false, true] {
            let mut config = at_ports(&primary.url(), hosts);
            (config.target_session_attrs, config.pooler) = (wanted, pooler);
            let backend = open(config);
            let connected = backend.connect().await;
            let Some(writes) = writes else {
                let error = connected.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{hosts:?} {wanted:?}");
                assert!(error.message().contains("the server is not"), "{error}");
                continue;
            };
            connected.unwrap();
            let health = backend.health().await;
            assert_eq!((health.reads(), health.writes()), (true, writes), "{hosts:?} {wanted:?}: {health:?}");
            assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)));
        }
    }
}
