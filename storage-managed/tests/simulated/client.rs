//! A client of the simulated cloud: one process's home. What the clouds' own clients do with an answer, it does.

#[path = "../../src/home/objects/lease.rs"]
mod lease;

use std::{
    fmt,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use storage_core::{Error, ErrorKind, Result};

use self::lease::{Dated, Lease};
use crate::{
    clock::Steady,
    cloud::{Cloud, Effect, Fate},
    home::{Claim, Held, Holder, Object, Put},
    service::{Condition, Flavor, HEAD, Service, Stored},
};

/// How often a write is tried that S3 put off.
const TRIES: u32 = 4;

pub(crate) struct SimulatedHome {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) who: String,
    pub(crate) requests: AtomicU64,
    lease: Lease,
    copy: Mutex<Option<Copy>>,
    /// The process is dead: nothing that it asks arrives.
    dead: AtomicBool,
}

/// What is to be copied while the head is being written, when the files of a cache stand still: as a cloned machine, or one
/// that was killed there.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) cache: PathBuf,
    pub(crate) to: PathBuf,
    /// How many writes of the head go before.
    pub(crate) skip: u32,
    /// Once the write has had its effect.
    pub(crate) after: bool,
    /// The original goes no further.
    pub(crate) kills: bool,
    /// Where it is told, once it is whole.
    pub(crate) copies: Arc<Mutex<Vec<PathBuf>>>,
}

impl fmt::Debug for SimulatedHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedHome").field("who", &self.who).finish_non_exhaustive()
    }
}

impl SimulatedHome {
    pub(crate) fn new(cloud: &Arc<Cloud>, who: String) -> Arc<Self> {
        Arc::new(Self {
            who,
            requests: AtomicU64::new(0),
            lease: Steady::of(&cloud.clock, Lease::default),
            cloud: Arc::clone(cloud),
            copy: Mutex::default(),
            dead: AtomicBool::new(false),
        })
    }

    pub(crate) fn copy_at(&self, copy: Copy) {
        *self.copy.lock().unwrap() = Some(copy);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }

    pub(crate) fn is_azure(&self) -> bool {
        self.cloud.flavor == Flavor::Azure
    }

    /// Copies the cache where that was asked for.
    fn copy_if_due(&self, is_after: bool) {
        let mut copy = self.copy.lock().unwrap();
        let Some(due) = copy.as_mut().filter(|copy| copy.after == is_after) else { return };
        if due.skip > 0 {
            due.skip -= 1;
            return;
        }
        // By another process: closing a file here would drop SQLite's locks on it.
        let copied = Command::new("cp").arg("-R").arg(&due.cache).arg(&due.to).status();
        self.cloud.note(format!("{} its cache is copied to {}: {copied:?}", self.who, due.to.display()));
        due.copies.lock().unwrap().push(due.to.clone());
        self.dead.store(due.kills, SeqCst);
        *copy = None;
    }

    /// One request, and what becomes of it.
    pub(crate) async fn request<T: fmt::Debug + Send + 'static>(
        &self,
        what: String,
        effect: Effect,
        work: impl FnOnce(&mut Service, Duration) -> T + Send + 'static,
    ) -> Result<T> {
        let mut rng = self.cloud.decisions(&self.who, self.requests.fetch_add(1, SeqCst));
        let mut fate = self.cloud.fate(&mut rng, effect);
        let writes_head = what == format!("replace {HEAD}") || what == format!("create {HEAD}");
        self.pause(&mut rng).await;
        if writes_head {
            self.copy_if_due(false);
        }
        if self.is_dead() {
            fate = Fate::Before(ErrorKind::Unavailable);
        }
        let done = self.decided(&what, fate, work);
        if writes_head {
            self.copy_if_due(true);
        }
        self.pause(&mut rng).await;
        done
    }

    fn decided<T: fmt::Debug + Send + 'static>(
        &self,
        what: &str,
        fate: Fate,
        work: impl FnOnce(&mut Service, Duration) -> T + Send + 'static,
    ) -> Result<T> {
        let failed = |kind, message| Err(Error::new(kind, message));
        let (answer, done) = match fate {
            Fate::Answered => {
                let answer = self.cloud.with(work);
                (short(&answer), Ok(answer))
            }
            Fate::Lost => {
                let answer = short(&self.cloud.with(work));
                (answer, failed(ErrorKind::OutcomeUnknown, "the answer was lost"))
            }
            Fate::Before(kind) => (String::new(), failed(kind, "the request was not taken")),
            Fate::Never => (String::new(), failed(ErrorKind::OutcomeUnknown, "there was no answer")),
            Fate::Late(after) => {
                let (cloud, note) = (Arc::downgrade(&self.cloud), format!("{} {what} arrives", self.who));
                let change = move |service: &mut Service, now| {
                    let answer = work(service, now);
                    if let Some(cloud) = cloud.upgrade() {
                        cloud.note(format!("{note} late: {}", short(&answer)));
                    }
                };
                self.cloud.later(after, Box::new(change));
                (String::new(), failed(ErrorKind::OutcomeUnknown, "there was no answer in time"))
            }
            Fate::PutOff => (String::new(), Err(put_off())),
        };
        self.cloud.note(format!("{} {what}: {fate:?} {answer}", self.who));
        done
    }

    async fn pause(&self, rng: &mut Rng) {
        if rng.u32(0..1_000) < self.cloud.weather().slow {
            tokio::time::sleep(Duration::from_millis(rng.u64(1..=2))).await;
        } else if rng.bool() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn stored(&self, operation: &str, name: &str) -> Result<Option<(Stored, Duration)>> {
        check_name(name)?;
        let owned = name.to_owned();
        let get = move |service: &mut Service, now: Duration| {
            service.objects.get(&owned).cloned().map(|stored| (stored, now))
        };
        let got = self.request(format!("{operation} {name}"), Effect::Read, get).await;
        got.map_err(|error| error.with_key(name))
    }

    /// A conditional write. S3 is asked again where it puts one off for another.
    pub(crate) async fn upload(
        &self,
        operation: &str,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        lease: Option<String>,
    ) -> Result<Put> {
        check_name(name)?;
        for again in 1_u32.. {
            let (owned, bytes, condition, lease) =
                (name.to_owned(), bytes.clone(), condition.clone(), lease.clone());
            let put = move |service: &mut Service, now| {
                service.put(now, &owned, bytes, &condition, lease.as_deref())
            };
            let written = match UnderWay::begin(&self.cloud, name) {
                Some(_under_way) => self.request(format!("{operation} {name}"), Effect::Write, put).await,
                None => Err(put_off()),
            };
            match written {
                Ok(version) => return Ok(version.map_or(Put::Refused, Put::Done)),
                Err(error) if error.kind() == ErrorKind::Conflict && again == TRIES => {
                    return Err(Error::new(ErrorKind::Unavailable, "other writes were in the way"));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let pause = Duration::from_millis(fastrand::u64(2..20) * u64::from(again));
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error.with_key(name)),
            }
        }
        unreachable!("there is a last try")
    }

    pub(crate) fn is_held(&self, held: Option<&Held>) -> bool {
        self.is_azure() || held.is_none_or(|held| self.lease.is_held(held))
    }

    pub(crate) async fn take_lease(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        self.lease.take(self, claim).await
    }

    pub(crate) async fn renew_lease(&self, held: &Held) -> Result<Option<Held>> {
        self.lease.renew(self, held).await
    }

    pub(crate) async fn give_lease_back(&self, held: &Held) -> Result<()> {
        self.lease.give_back(self, held).await
    }

    pub(crate) async fn lease_holder(&self) -> Result<Option<Holder>> {
        self.lease.holder(self).await
    }

    pub(crate) async fn end_lease(&self) -> Result<()> {
        self.lease.end(self).await
    }
}

#[async_trait]
impl Dated for SimulatedHome {
    async fn get_dated(&self, name: &str) -> Result<Option<(Object, Option<Duration>)>> {
        let found = self.stored("get", name).await?;
        let mut rng = self.cloud.decisions(&self.who, self.requests.load(SeqCst));
        let is_dated = rng.u32(0..1_000) >= self.cloud.weather().undated;
        Ok(found.map(|(stored, now)| {
            let age = is_dated.then(|| coarse_age(&stored, now));
            (object(stored), age)
        }))
    }
}

pub(crate) fn object(stored: Stored) -> Object {
    Object { bytes: stored.bytes, version: stored.version }
}

/// HTTP's dates are whole seconds, cut off.
pub(crate) fn coarse_age(stored: &Stored, now: Duration) -> Duration {
    Duration::from_secs(now.as_secs().saturating_sub(stored.written.as_secs()))
}

fn put_off() -> Error {
    Error::new(ErrorKind::Conflict, "the store answered 409 ConditionalRequestConflict")
}

/// Letters, digits, `.`, `_` and `-` between single slashes, as on every home.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
    match name.split('/').all(is_plain) {
        true => Ok(()),
        false => Err(Error::invalid_input("this cannot be the name of an object")),
    }
}

/// What a history shows of an answer.
fn short(answer: &impl fmt::Debug) -> String {
    format!("{answer:?}").chars().take(160).collect()
}

/// A conditional write that is under way, as S3 sees it.
struct UnderWay {
    cloud: Arc<Cloud>,
    name: String,
}

impl UnderWay {
    /// `None` where another one is, and the store lets only one be.
    fn begin(cloud: &Arc<Cloud>, name: &str) -> Option<Self> {
        cloud.with(|service, _| {
            let writing = service.writing.entry(name.to_owned()).or_default();
            let is_free = *writing == 0 || cloud.flavor != Flavor::S3;
            *writing += usize::from(is_free);
            is_free.then(|| Self { cloud: Arc::clone(cloud), name: name.to_owned() })
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.cloud.with(|service, _| {
            if let Some(writing) = service.writing.get_mut(&self.name) {
                *writing -= 1;
            }
        });
    }
}
