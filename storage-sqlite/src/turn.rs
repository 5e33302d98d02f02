//! Reads that are done at once never wait, so a task that reads and reads would keep the others of its thread waiting.

use std::cell::Cell;

use tokio::task;

/// How many reads one task may do on end while others want to read on the same thread. A few, as a request handler does, cost
/// it no wait; of many tasks that only read, none waits much longer than another.
const READS: u32 = 1;

/// Who has read last on a thread.
#[derive(Clone, Copy, Default)]
struct Turn {
    task: Option<task::Id>,
    reads: u32,
    /// Others have read here of late.
    crowded: bool,
}

thread_local! {
    static TURN: Cell<Turn> = Cell::default();
}

/// Lets others go first where this task has read enough. Costs a lone caller nothing but tokio's own budget.
pub(crate) async fn take() {
    let task = task::try_id();
    let turn = TURN.get();
    if turn.is_over(task) {
        task::yield_now().await;
        let crowded = TURN.get().task != task;
        TURN.set(Turn { task, reads: 1, crowded });
    } else {
        TURN.set(turn.next(task));
        task::coop::consume_budget().await;
    }
}

impl Turn {
    fn is_over(self, task: Option<task::Id>) -> bool {
        self.crowded && self.task == task && self.reads >= READS
    }

    fn next(self, task: Option<task::Id>) -> Self {
        if self.task == task {
            Self { reads: self.reads.saturating_add(1), ..self }
        } else {
            Self { task, reads: 1, crowded: true }
        }
    }
}
