use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use storage_core::{ErrorKind, Json, StorageBackend};
use storage_postgres::PostgresBackend;
use storage_tests::{Postgres, PostgresOptions, StandbyOptions, TcpProxy, failovers};
use tokio::task::block_in_place;

use crate::common::{at_ports, open};

const CALLERS: usize = 64;
/// Longer than any recovery: it is measured, and told.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a failover may take from the promotion, and from when the name leads to the new primary.
/// Two seconds where the machine has time; this is for one that has not, and the time is printed.
const SOON: Duration = Duration::from_secs(10);

/// What callers write, and are told.
#[derive(Default)]
struct Load {
    /// Keys, when their writes began, and when they were acknowledged.
    acknowledged: Mutex<Vec<(String, Instant, Instant)>>,
    wrong: Mutex<Vec<String>>,
    /// When a health check began and ended that said that writes work.
    writable: Mutex<Vec<(Instant, Instant)>>,
    ended: AtomicBool,
}

impl Load {
    fn start(
        self: &Arc<Self>,
        backend: &Arc<PostgresBackend>,
        round: usize,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (load, backend) = (Arc::clone(self), Arc::clone(backend));
                tokio::spawn(async move { load.write(&backend, &format!("w:{round}:{caller}")).await })
            })
            .collect();
        let (load, backend) = (Arc::clone(self), Arc::clone(backend));
        tasks.push(tokio::spawn(async move { load.check(&backend).await }));
        tasks
    }

    async fn write(&self, backend: &PostgresBackend, prefix: &str) {
        for number in 0.. {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let key = format!("{prefix}:{number}");
            let begun = Instant::now();
            match backend.set(&key, Json::from(number), None).await {
                Ok(()) => self.acknowledged.lock().unwrap().push((key, begun, Instant::now())),
                Err(error) => {
                    let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown, ErrorKind::Timeout];
                    if !kinds.contains(&error.kind()) {
                        self.wrong.lock().unwrap().push(error.to_string());
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    async fn check(&self, backend: &PostgresBackend) {
        while !self.ended.load(Ordering::SeqCst) {
            let begun = Instant::now();
            if backend.health().await.writes() {
                self.writable.lock().unwrap().push((begun, Instant::now()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn nothing_is_missing(&self, kept: &BTreeSet<String>) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let missing = acknowledged.iter().filter(|(key, _, _)| !kept.contains(key)).count();
        assert_eq!(missing, 0, "of {} that were acknowledged", acknowledged.len());
    }

    /// Waits for a write that began after a moment; how long after it the first of them was acknowledged.
    async fn recovered(&self, after: Instant) -> Duration {
        let limit = Instant::now() + PATIENCE;
        loop {
            let first = self
                .acknowledged
                .lock()
                .unwrap()
                .iter()
                .filter(|(_, begun, _)| *begun > after)
                .map(|(_, _, ended)| *ended)
                .min();
            if let Some(first) = first {
                return first - after;
            }
            assert!(Instant::now() < limit, "writes never worked again: {:?}", self.wrong.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Kills the primary under load, promotes its standby, and looks at what was told. Returns the new primary.
async fn fail_over(mut primary: Postgres, proxy: Option<&TcpProxy>, round: usize) -> Postgres {
    let slot = round.is_multiple_of(2);
    let standby = block_in_place(|| primary.standby(StandbyOptions { slot }).unwrap());
    block_in_place(|| primary.synchronous(true).unwrap());
    let hosts = match proxy {
        Some(proxy) => {
            proxy.retarget(primary.port());
            at_ports(&primary.url(), &[proxy.port()])
        }
        None => at_ports(&primary.url(), &[primary.port(), standby.port()]),
    };
    let backend = Arc::new(open(hosts));
    backend.connect().await.unwrap();
    let load = Arc::new(Load::default());
    let tasks = load.start(&backend, round);
    tokio::time::sleep(Duration::from_millis(700)).await;
    block_in_place(|| primary.kill().unwrap());
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let promoting = Instant::now();
    block_in_place(|| standby.promote().unwrap());
    let promoted = Instant::now();
    if let Some(proxy) = proxy {
        proxy.retarget(standby.port());
    }
    let recovery = load.recovered(promoted).await;
    assert!(recovery < SOON, "{recovery:?}");
    eprintln!("writes worked again {recovery:?} after the promotion, which took {:?}", promoted - promoting);
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.ended.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*load.wrong.lock().unwrap(), Vec::<String>::new());
    let lied = |(begun, ended): &&(Instant, Instant)| *begun > killed && *ended < promoting;
    assert_eq!(load.writable.lock().unwrap().iter().filter(lied).count(), 0, "health said that writes work");
    assert!(backend.health().await.writes());
    let kept: BTreeSet<String> = backend.keys("w:*").await.unwrap().into_iter().collect();
    load.nothing_is_missing(&kept);
    backend.disconnect().await.unwrap();
    standby
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_name_that_moves_nothing_acknowledged_is_missing_and_writes_work_again() {
    let mut primary = block_in_place(|| Postgres::start(&PostgresOptions::default()).unwrap());
    let proxy = TcpProxy::start(primary.port()).unwrap();
    for round in 0..failovers(2) {
        primary = fail_over(primary, Some(&proxy), round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_hosts_in_the_url_nothing_acknowledged_is_missing_and_writes_work_again() {
    let mut primary = block_in_place(|| Postgres::start(&PostgresOptions::default()).unwrap());
    for round in 0..failovers(2) {
        primary = fail_over(primary, None, round).await;
    }
}
