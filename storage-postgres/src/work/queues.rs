//! The queues in front of the connections, one for each kind of operation that callers share.

use std::{fmt, sync::Arc};

use storage_core::{
    ErrorKind, Result,
    engine::{Combiner, Deadline, Guard, Home, Unanswered, Work},
};

use super::{
    groups::{Call, Item, Kind, Shared},
    kinds::{Creates, Deletes, Exists, Gets, Sets, Swaps},
};
use crate::{
    connections::pool::Pool,
    error::{exhausted, interrupted},
};

pub(crate) struct Queues {
    pub(crate) gets: Combiner<Shared<Gets>>,
    pub(crate) exists: Combiner<Shared<Exists>>,
    pub(crate) sets: Combiner<Shared<Sets>>,
    pub(crate) deletes: Combiner<Shared<Deletes>>,
    pub(crate) creates: Combiner<Shared<Creates>>,
    pub(crate) swaps: Combiner<Shared<Swaps>>,
}

impl Queues {
    pub(crate) fn new(pool: &Arc<Pool>, home: Home, connections: u32) -> Self {
        Self {
            gets: Shared::queue(pool, home, Gets::default(), connections),
            exists: Shared::queue(pool, home, Exists, connections),
            sets: Shared::queue(pool, home, Sets, connections),
            deletes: Shared::queue(pool, home, Deletes, connections),
            creates: Shared::queue(pool, home, Creates, connections),
            swaps: Shared::queue(pool, home, Swaps, connections),
        }
    }

    /// Ends the workers.
    pub(crate) fn close(&self) {
        self.gets.close();
        self.exists.close();
        self.sets.close();
        self.deletes.close();
        self.creates.close();
        self.swaps.close();
    }
}

/// Does one operation, alone or with others.
pub(crate) async fn submit<K: Kind>(
    queue: &Combiner<Shared<K>>,
    item: K::Item,
    guard: Guard,
    deadline: Deadline,
) -> Result<K::Answer> {
    let call = Arc::new(Call::default());
    let item = Item { item, call: Arc::clone(&call), _guard: guard };
    let late = queue.work().lost();
    match queue.call(item, deadline).await {
        Ok(answer) => answer,
        Err(Unanswered::Waiting) => Err(exhausted(deadline.limit())),
        Err(Unanswered::Taken) if call.give_up() => Err(exhausted(deadline.limit())),
        Err(Unanswered::Taken) => Err(deadline.error(late)),
        Err(Unanswered::Lost) if call.give_up() => Err(interrupted(ErrorKind::Timeout)),
        Err(Unanswered::Lost) => Err(interrupted(late)),
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queues")
    }
}
