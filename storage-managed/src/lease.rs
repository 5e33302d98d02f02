//! The lease: taken at the first write, renewed while there are more, given back after.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use storage_core::ErrorKind;

use crate::{
    error::{Error, Result},
    home::{Claim, Held, Home},
    options::{Options, is_passing},
    proofs::Proofs,
    steady::Steady,
};

/// What a store knows of its lease. Judged by a clock that suspend does not stop.
#[derive(Debug)]
pub(crate) struct Lease {
    current: Mutex<Option<Current>>,
    clock: Steady,
    proofs: Proofs,
}

#[derive(Debug, Clone)]
struct Current {
    held: Held,
    until: Duration,
    since: Duration,
    used: Duration,
    /// The database here is the newest since it was taken: nobody else can have written.
    fresh: bool,
}

impl Lease {
    pub(crate) fn new(clock: Steady, proofs: Proofs) -> Self {
        Self { current: Mutex::default(), clock, proofs }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, while it surely lasts.
    pub(crate) fn held(&self) -> Option<Held> {
        let now = self.clock.now();
        self.lock().as_ref().filter(|current| current.lasts(now)).map(|current| current.held.clone())
    }

    /// Whether what is here is the newest there is.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = self.clock.now();
        self.lock().as_ref().is_some_and(|current| current.fresh && current.lasts(now))
    }

    pub(crate) fn set_fresh(&self, fresh: bool) {
        if let Some(current) = &mut *self.lock() {
            current.fresh = fresh;
        }
    }

    pub(crate) fn touch(&self) {
        if let Some(current) = &mut *self.lock() {
            current.used = self.clock.now();
        }
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.lock().as_ref().map(|current| self.clock.since(current.used))
    }

    /// Whether it is time to renew it: a third of its term has passed.
    pub(crate) fn due(&self, options: &Options) -> bool {
        let renewed = self.lock().as_ref().map(|current| current.until.saturating_sub(current.held.term));
        renewed.is_none_or(|renewed| self.clock.since(renewed) >= options.lease_term / 4)
    }

    /// For how long it has been kept from others.
    pub(crate) fn kept(&self) -> Option<Duration> {
        self.lock().as_ref().map(|current| self.clock.since(current.since))
    }

    /// The home says that somebody else may have it.
    pub(crate) fn lost(&self) {
        *self.lock() = None;
    }

    /// Takes it unless it is held, waiting so long for whoever has it; true where it was taken now.
    pub(crate) async fn ensure(&self, home: &dyn Home, options: &Options, wait: Duration) -> Result<bool> {
        if self.held().is_some() {
            return Ok(false);
        }
        // Of this cache's own, a killed process's for example: nobody else has it open.
        let mut former = self.proofs.former();
        let proof = self.proofs.next()?;
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let asked = self.clock.now();
            let claim =
                Claim { owner: &options.owner, proof: &proof, former: &former, term: options.lease_term };
            let failed = match home.acquire(&claim).await {
                Ok(Some(held)) => {
                    let until = asked + held.term;
                    *self.lock() = Some(Current { held, until, since: asked, used: asked, fresh: false });
                    return Ok(true);
                }
                Ok(None) => {
                    // It is somebody else's.
                    former.clear();
                    None
                }
                Err(error) if is_passing(error.kind()) => Some(Error::Home(error)),
                Err(error) => return Err(Error::Home(error)),
            };
            if start.elapsed() >= wait {
                let Some(error) = failed else {
                    let holder = home.holder().await.ok().flatten().and_then(|holder| holder.owner);
                    return Err(Error::LeaseTaken { waited: wait, holder });
                };
                return Err(error);
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Holds it for another term. False where it is gone.
    pub(crate) async fn renew(&self, home: &dyn Home) -> bool {
        let Some(before) = self.lock().clone() else { return false };
        let asked = self.clock.now();
        match home.renew(&before.held).await {
            Ok(Some(held)) => {
                if let Some(current) = self.lock().as_mut().filter(|now| now.since == before.since) {
                    current.until = asked + held.term;
                    current.held = held;
                }
                true
            }
            Err(error) if error.kind() != ErrorKind::Unauthorized && before.lasts(self.clock.now()) => true,
            Ok(None) | Err(_) => {
                let mut current = self.lock();
                if current.as_ref().is_some_and(|now| now.since == before.since) {
                    *current = None;
                }
                false
            }
        }
    }

    pub(crate) async fn release(&self, home: &dyn Home) {
        let current = self.lock().take();
        if let Some(current) = current
            && let Err(error) = home.release(&current.held).await
        {
            tracing::debug!(%error, "the lease was not given back; it ends by itself");
        }
    }
}

impl Current {
    /// A tenth is left for what is on its way.
    fn lasts(&self, now: Duration) -> bool {
        now + self.held.term / 10 < self.until
    }
}
