//! A home whose requests fail when they are told to: before they take effect, or after, when only the answer is lost.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use storage_core::{Error, ErrorKind, Result};
use storage_managed::home::{Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version};
use tokio::sync::Notify;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    Before(ErrorKind),
    /// It is done and its answer is lost.
    After(ErrorKind),
    /// The process dies before it, or after.
    #[allow(dead_code, reason = "in the program that is killed")]
    DieBefore,
    #[allow(dead_code, reason = "in the program that is killed")]
    DieAfter,
}

pub(crate) struct Faulty {
    home: Arc<dyn Home>,
    requests: AtomicU64,
    /// The requests that fail, and how.
    plan: Mutex<Option<(BTreeSet<u64>, Fault)>>,
    pub(crate) log: Mutex<Vec<String>>,
    /// Requests that begin so stand still, those with `after ` once they are done.
    stalled: Mutex<Option<&'static str>>,
    has_stalled: AtomicBool,
    goes_on: Notify,
    /// After so many bytes a read breaks off.
    shortened: Mutex<Option<usize>>,
}

impl Faulty {
    pub(crate) fn new(home: Arc<dyn Home>) -> Arc<Self> {
        Arc::new(Self {
            home,
            requests: AtomicU64::new(0),
            plan: Mutex::default(),
            log: Mutex::default(),
            stalled: Mutex::default(),
            has_stalled: AtomicBool::new(false),
            goes_on: Notify::new(),
            shortened: Mutex::default(),
        })
    }

    /// Requests that begin so get no answer from now on.
    #[allow(dead_code, reason = "not in the program that is killed")]
    pub(crate) fn stall(&self, requests: &'static str) {
        *self.stalled.lock().unwrap() = Some(requests);
    }

    #[allow(dead_code, reason = "not in the program that is killed")]
    pub(crate) fn has_stalled(&self) -> bool {
        self.has_stalled.load(SeqCst)
    }

    /// Lets the request that stands still, and later ones, go on.
    pub(crate) fn go_on(&self) {
        *self.stalled.lock().unwrap() = None;
        self.goes_on.notify_one();
    }

    /// Counted from the next request on, these fail.
    pub(crate) fn fail(&self, requests: impl IntoIterator<Item = u64>, fault: Fault) {
        self.requests.store(0, SeqCst);
        *self.plan.lock().unwrap() = Some((requests.into_iter().collect(), fault));
    }

    pub(crate) fn heal(&self) {
        *self.plan.lock().unwrap() = None;
    }

    /// From now on each read breaks off after so many bytes.
    #[allow(dead_code, reason = "not in the program that is killed")]
    pub(crate) fn break_reads(&self, after: usize) {
        *self.shortened.lock().unwrap() = Some(after);
    }

    /// The requests since the last call, by method and object.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    async fn stand_still(&self, at: &str) {
        let stalls = self.stalled.lock().unwrap().is_some_and(|stalled| at.starts_with(stalled));
        if stalls {
            self.has_stalled.store(true, SeqCst);
            self.goes_on.notified().await;
        }
    }

    async fn around<T>(&self, what: String, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.stand_still(&what).await;
        let after = format!("after {what}");
        self.log.lock().unwrap().push(what);
        let index = self.requests.fetch_add(1, SeqCst);
        let plan = self.plan.lock().unwrap().clone();
        let fault = plan.filter(|(requests, _)| requests.contains(&index)).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Before(kind)) => Err(Error::new(kind, "the request was lost")),
            Some(Fault::DieBefore) => die(),
            fault => {
                let done = work.await;
                self.stand_still(&after).await;
                match fault {
                    Some(Fault::After(kind)) => Err(Error::new(kind, "the answer was lost")),
                    Some(Fault::DieAfter) => die(),
                    _ => done,
                }
            }
        }
    }
}

/// The first bytes of what comes, and no more.
fn broken(pieces: BoxStream<'static, Result<Bytes>>, after: usize) -> BoxStream<'static, Result<Bytes>> {
    let shortened = pieces.scan(after, |left, piece| {
        let piece = piece.map(|piece| piece.slice(..piece.len().min(*left)));
        *left -= piece.as_ref().map_or(0, Bytes::len);
        std::future::ready(Some(piece).filter(|piece| !piece.as_ref().is_ok_and(Bytes::is_empty)))
    });
    shortened.boxed()
}

/// As by SIGKILL: nothing is cleaned up.
fn die() -> ! {
    std::process::abort()
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl Home for Faulty {
    fn name(&self) -> String {
        self.home.name()
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        self.around(format!("get {name}"), self.home.get(name)).await
    }

    async fn get_stored(&self, name: &str) -> Result<Option<Object>> {
        self.around(format!("get_stored {name}"), self.home.get_stored(name)).await
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        self.around(format!("get_if_changed {name}"), self.home.get_if_changed(name, known)).await
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        let found = self.around(format!("read {name}"), self.home.read(name, from)).await?;
        let shortened = *self.shortened.lock().unwrap();
        Ok(match (found, shortened) {
            (Some((length, pieces)), Some(after)) => Some((length, broken(pieces, after))),
            (found, _) => found,
        })
    }

    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        self.around(format!("read_range {name}"), self.home.read_range(name, from, length)).await
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        self.around(format!("create {name}"), self.home.create(name, bytes, held)).await
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        self.around(format!("replace {name}"), self.home.replace(name, bytes, expected, held)).await
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        self.around(format!("put {name}"), self.home.put(name, body, sent)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.around(format!("delete {name}"), self.home.delete(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.around(format!("list {prefix}"), self.home.list(prefix)).await
    }

    async fn check_room(&self) -> Result<()> {
        self.home.check_room().await
    }

    /// One whose answer is lost ends by itself, at once instead of after its term.
    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        let taken = Mutex::new(None);
        let acquire = async {
            let held = self.home.acquire(claim).await;
            *taken.lock().unwrap() = held.clone().ok().flatten();
            held
        };
        let answer = self.around("acquire".to_owned(), acquire).await;
        let taken = taken.into_inner().unwrap();
        if let (Err(_), Some(held)) = (&answer, taken) {
            self.home.release(&held).await?;
        }
        answer
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        self.around("renew".to_owned(), self.home.renew(held)).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        let answer = self.around("release".to_owned(), self.home.release(held)).await;
        self.home.release(held).await?;
        answer
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        self.around("holder".to_owned(), self.home.holder()).await
    }

    async fn unlock(&self) -> Result<()> {
        self.around("unlock".to_owned(), self.home.unlock()).await
    }
}
