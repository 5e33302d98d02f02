//! A cloud with its weather: every request's latency and fate is decided by the seed, the asking client and how many
//! requests it has sent, so that a schedule meets the same faults again.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use storage_core::ErrorKind;

use crate::{
    clock::Clock,
    service::{Flavor, Late, Service},
};

/// Whether a request could change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// It is refused or lost before it does anything, and the caller knows.
    Before(ErrorKind),
    /// It never arrives, and the caller cannot know.
    Never,
    /// It is done, and its answer is lost.
    Lost,
    /// Its caller has given it up when it arrives, so much later.
    Late(Duration),
    /// S3 puts a conditional write off for another one.
    PutOff,
}

/// How often requests go wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) before: u32,
    pub(crate) never: u32,
    pub(crate) lost: u32,
    pub(crate) late: u32,
    pub(crate) put_off: u32,
    /// Downloads that break off.
    pub(crate) broken: u32,
    /// Requests that take a while.
    pub(crate) slow: u32,
    /// Answers without a date.
    pub(crate) undated: u32,
}

impl Weather {
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let mut up_to = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
        Self {
            before: up_to(120),
            never: up_to(60),
            lost: up_to(120),
            late: up_to(80),
            put_off: up_to(100),
            broken: up_to(200),
            slow: up_to(300),
            undated: up_to(500),
        }
    }

    fn fate(&self, rng: &mut Rng, effect: Effect, flavor: Flavor) -> Fate {
        let before = [ErrorKind::Unavailable, ErrorKind::Timeout][usize::from(rng.u8(0..4) == 0)];
        let late = Fate::Late(Duration::from_millis(rng.u64(0..20_000)));
        let put_off = if flavor == Flavor::S3 { self.put_off } else { 0 };
        let mut at = rng.u32(0..1_000);
        // What a read would have answered nobody knows either way.
        let fates: &[(u32, Fate)] = match effect {
            Effect::Read => &[(self.before + self.lost / 2, Fate::Before(before))],
            Effect::Write => &[
                (self.before, Fate::Before(before)),
                (self.never, Fate::Never),
                (self.lost, Fate::Lost),
                (self.late, late),
                (put_off, Fate::PutOff),
            ],
        };
        for (share, fate) in fates {
            match at.checked_sub(*share) {
                Some(rest) => at = rest,
                None => return *fate,
            }
        }
        Fate::Answered
    }
}

pub(crate) struct Cloud {
    pub(crate) flavor: Flavor,
    pub(crate) clock: Clock,
    seed: u64,
    weather: Mutex<Weather>,
    service: Mutex<Service>,
    history: Mutex<Vec<String>>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("flavor", &self.flavor)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Cloud {
    pub(crate) fn new(flavor: Flavor, clock: Clock, seed: u64, weather: Weather) -> Arc<Self> {
        Arc::new(Self {
            flavor,
            clock,
            seed,
            weather: Mutex::new(weather),
            service: Mutex::new(Service::new(flavor)),
            history: Mutex::default(),
        })
    }

    /// From now on all goes well, and what was on its way has arrived.
    pub(crate) fn heal(&self) {
        self.turn(Weather::default());
        self.clock.jump(Duration::from_secs(30));
        self.with(|_, _| ());
    }

    /// Changes the weather.
    pub(crate) fn turn(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    /// What decides about a client's request.
    pub(crate) fn decisions(&self, who: &str, request: u64) -> Rng {
        let mut hasher = DefaultHasher::new();
        (self.seed, who, request).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    }

    pub(crate) fn fate(&self, rng: &mut Rng, effect: Effect) -> Fate {
        self.weather().fate(rng, effect, self.flavor)
    }

    /// Works on what the service keeps, at one moment.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Service, Duration) -> T) -> T {
        let mut service = self.service.lock().unwrap();
        let now = self.clock.now();
        service.arrive(now);
        work(&mut service, now)
    }

    pub(crate) fn later(&self, after: Duration, change: Late) {
        self.with(|service, now| service.late.push((now + after, change)));
    }

    /// Writes down what happened.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        let at = self.clock.now().as_millis() % 1_000_000_000;
        self.history.lock().unwrap().push(format!("{at:>9} {what}"));
    }

    pub(crate) fn history(&self) -> String {
        self.history.lock().unwrap().join("\n")
    }
}
