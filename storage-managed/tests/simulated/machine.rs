//! A machine of a schedule: a cache, and one store on it after the other.

use std::{path::PathBuf, sync::Arc};

use fastrand::Rng;
use storage_managed::DatabaseStore;

use crate::{
    client::{Copy, SimulatedHome},
    world::World,
};

pub(crate) struct Machine {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
    pub(crate) rng: Rng,
    pub(crate) cache: PathBuf,
    pub(crate) opened: Option<(DatabaseStore, Arc<SimulatedHome>)>,
    /// The generation that was seen here last.
    pub(crate) generation: u64,
    processes: u32,
}

/// How a process ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Closes,
    /// Without closing; what it has begun goes on.
    Dropped,
}

impl Machine {
    pub(crate) fn new(world: &Arc<World>, number: usize) -> Self {
        let name = format!("m{number}");
        Self {
            rng: world.cloud.decisions(&name, u64::MAX),
            cache: world.new_cache("cache"),
            world: Arc::clone(world),
            name,
            opened: None,
            generation: 0,
            processes: 0,
        }
    }

    /// Takes so many steps.
    pub(crate) async fn work(mut self, steps: usize) -> Self {
        for _ in 0..steps {
            if self.world.is_wrong() {
                break;
            }
            let Some((store, home)) = self.open().await else { continue };
            self.step(store, home).await;
        }
        self
    }

    /// The store of the process that runs, or of the next one.
    async fn open(&mut self) -> Option<(DatabaseStore, Arc<SimulatedHome>)> {
        if self.opened.as_ref().is_some_and(|(_, home)| home.is_dead()) {
            // In its own cache, or as a machine does that comes from a snapshot.
            match self.rng.bool() {
                true => self.end(End::Dropped).await,
                false => self.move_on(End::Dropped).await,
            }
        }
        if self.opened.is_none() {
            self.processes += 1;
            let home = SimulatedHome::new(&self.world.cloud, format!("{}.{}", self.name, self.processes));
            let store = self.world.open(&home, &self.cache).await?;
            self.sees(&store, "when it was opened");
            self.opened = Some((store, home));
        }
        self.opened.clone()
    }

    /// No reader ever goes back.
    pub(crate) fn sees(&mut self, store: &DatabaseStore, when: &str) {
        let generation = store.status().generation;
        if generation < self.generation {
            self.world
                .wrong(format!("{} went back from {} to {generation} {when}", self.name, self.generation));
        }
        self.generation = self.generation.max(generation);
    }

    pub(crate) async fn end(&mut self, end: End) {
        let Some((store, home)) = self.opened.take() else { return };
        self.world.cloud.note(format!("{} ends: {end:?}", home.who));
        if let End::Closes = end
            && let Err(error) = store.close().await
            && !self.world.allows(&error)
        {
            self.world.wrong(format!("{} cannot close: {error}", home.who));
        }
    }

    /// Goes on from a copy of a cache, its own or another machine's, or from nothing.
    pub(crate) async fn move_on(&mut self, end: End) {
        self.end(end).await;
        let copy = match self.rng.u8(0..3) {
            0 => None,
            _ => self.world.copies.lock().unwrap().pop(),
        };
        // What the copy has is as old as the copy.
        self.generation = 0;
        self.cache = copy.unwrap_or_else(|| self.world.new_cache("cache"));
        self.world.cloud.note(format!("{} goes on in {}", self.name, self.cache.display()));
    }

    /// Lets the cache be copied at one of the next writes of the head.
    pub(crate) fn will_be_copied(&mut self, home: &SimulatedHome, kills: bool) {
        let to = self.world.new_cache("copy");
        home.copy_at(Copy {
            cache: self.cache.clone(),
            to,
            skip: self.rng.u32(0..2),
            after: self.rng.bool(),
            kills,
            copies: Arc::clone(&self.world.copies),
        });
    }

    /// Ends for good.
    pub(crate) async fn leave(mut self) {
        let end = if self.rng.bool() { End::Closes } else { End::Dropped };
        self.end(end).await;
    }
}
