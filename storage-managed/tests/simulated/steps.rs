//! What machines do.

use std::{sync::Arc, time::Duration};

use storage_managed::{DatabaseStore, Error};

use crate::{
    client::SimulatedHome,
    ledger::{self, Content},
    machine::{End, Machine},
    service::Flavor,
};

impl Machine {
    pub(crate) async fn step(&mut self, store: DatabaseStore, home: Arc<SimulatedHome>) {
        match self.rng.u32(0..100) {
            0..35 => self.write(&store, &home).await,
            35..42 => self.write_two(&store, &home).await,
            42..50 => self.write_and_go_away(&store, &home).await,
            50..70 => self.read(&store).await,
            70..73 => self.fold(&store).await,
            73..77 => self.look_back(&store).await,
            77..79 => self.verify(&store).await,
            79..80 => self.vacuum(&store).await,
            80..83 => self.sleep(),
            83..87 => self.will_be_copied(&home, false),
            87..91 => self.will_be_copied(&home, true),
            91..94 => self.end(End::Closes).await,
            94..97 => self.end(End::Dropped).await,
            97..99 => self.move_on(End::Dropped).await,
            _ => self.move_on(End::Closes).await,
        }
        if !home.is_dead() {
            self.sees(&store, "after a step");
        }
    }

    async fn write_one(&self, store: &DatabaseStore, home: &SimulatedHome, filler: usize) {
        let ledger = &self.world.ledger;
        let number = ledger.begin(&home.who);
        self.world.cloud.note(format!("{} writes {number}", home.who));
        let done = store.for_write(move |db| ledger::insert(db, number, filler)).await;
        self.world.cloud.note(format!("{} is told of {number}: {done:?}", home.who));
        ledger.end(number, &done);
        match done {
            Ok(()) => ledger.saw(store.status().generation),
            Err(error) if self.world.allows(&error) => {}
            Err(error) => self.world.wrong(format!("{} writes {number}: {error}", home.who)),
        }
    }

    fn filler(&mut self) -> usize {
        [0, 0, 100, 9_000][self.rng.usize(0..4)]
    }

    async fn write(&mut self, store: &DatabaseStore, home: &SimulatedHome) {
        let filler = self.filler();
        self.write_one(store, home, filler).await;
    }

    /// They may share a publication.
    async fn write_two(&mut self, store: &DatabaseStore, home: &SimulatedHome) {
        let filler = self.filler();
        tokio::join!(self.write_one(store, home, filler), self.write_one(store, home, 0));
    }

    /// What nobody waits for is done, or not.
    async fn write_and_go_away(&mut self, store: &DatabaseStore, home: &SimulatedHome) {
        let patience = Duration::from_micros(self.rng.u64(0..4_000));
        let _ = tokio::time::timeout(patience, self.write_one(store, home, 0)).await;
    }

    /// Who has asked sees all that anybody was told is in the home, unless a batch here waits for its place.
    async fn read(&mut self, store: &DatabaseStore) {
        let (known, highest) = (self.world.ledger.acknowledged(), self.world.ledger.highest());
        let (asked, was_dirty) = (self.world.cloud.clock.now(), store.status().dirty);
        let fresh = store.ensure_fresh().await;
        let has_asked = self.has_asked_since(store, asked);
        let content = store.read(Content::read).await;
        let is_new = has_asked && fresh.is_ok() && !was_dirty && !store.status().dirty;
        match &fresh {
            Ok(generation) if is_new && *generation < highest => {
                let what = format!("{} reads generation {generation} after {highest}", self.name);
                self.world.wrong(what);
            }
            Err(error) if !self.world.allows(error) => {
                self.world.wrong(format!("{} cannot be brought up to date: {error}", self.name));
            }
            _ => {}
        }
        match content {
            Ok(content) => {
                if let Some(problem) = content.problem() {
                    self.world.wrong(format!("{} reads what is torn: {problem}", self.name));
                }
                let missing: Vec<_> =
                    known.iter().filter(|number| !content.numbers.contains(number)).collect();
                if is_new && !missing.is_empty() {
                    self.world.wrong(format!("{} does not see {missing:?}: {content:?}", self.name));
                }
            }
            Err(error) => self.world.wrong(format!("{} cannot read: {error}", self.name)),
        }
    }

    /// Whether what is here is what the home had at this moment or later. Who holds the lease does not ask: where the service
    /// enforces it, nobody else can have written; where it does not, one that was late in writing may have.
    fn has_asked_since(&self, store: &DatabaseStore, moment: Duration) -> bool {
        let (now, lag) = (self.world.cloud.clock.now(), store.status().lag);
        let is_of_the_home = |lag: Duration| !lag.is_zero() && now.saturating_sub(lag) >= moment;
        self.world.cloud.flavor == Flavor::Azure || lag.is_some_and(is_of_the_home)
    }

    async fn fold(&mut self, store: &DatabaseStore) {
        match store.fold().await {
            Err(error) if !self.world.allows(&error) => {
                self.world.wrong(format!("{} cannot fold: {error}", self.name));
            }
            _ => {}
        }
    }

    /// Lists what can be restored, and restores one of them: gone meanwhile, or as it was.
    async fn look_back(&mut self, store: &DatabaseStore) {
        let history = match store.history().await {
            Ok(history) => history,
            Err(error) if self.world.allows(&error) => return,
            Err(error) => return self.world.wrong(format!("{} has no history: {error}", self.name)),
        };
        let Some(chosen) = self.rng.choice(&history) else { return };
        let to = self.world.new_cache("restored");
        match store.restore(chosen.generation, &to).await {
            Ok(_) => {
                let content = Content::read(&rusqlite::Connection::open(&to).unwrap()).unwrap();
                if content.problem().is_some() {
                    let what = format!("{} restores {chosen:?} as {content:?}", self.name);
                    self.world.wrong(what);
                }
            }
            Err(Error::Unsupported(_)) => {}
            Err(error) if self.world.allows(&error) => {}
            Err(error) => self.world.wrong(format!("{} cannot restore {chosen:?}: {error}", self.name)),
        }
    }

    async fn verify(&mut self, store: &DatabaseStore) {
        match store.verify().await {
            Ok(verified) => self.world.ledger.saw(verified.generation),
            // Nothing was published yet.
            Err(Error::Unsupported(_)) => {}
            Err(error) if self.world.allows(&error) => {}
            Err(error) => self.world.wrong(format!("{} finds the home unsound: {error}", self.name)),
        }
    }

    /// A publication of pages alone: no batch is in it.
    async fn vacuum(&mut self, store: &DatabaseStore) {
        match store.vacuum().await {
            Err(error) if !self.world.allows(&error) => {
                self.world.wrong(format!("{} cannot vacuum: {error}", self.name));
            }
            _ => {}
        }
    }

    /// Longer than any lease lasts, or not.
    fn sleep(&mut self) {
        let by = Duration::from_millis(self.rng.u64(1_000..60_000));
        self.world.cloud.note(format!("{} sleeps for {by:?}", self.name));
        self.world.cloud.clock.jump(by);
    }
}
