//! What every caller was told, and what must therefore be in the home.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use rusqlite::Connection;
use storage_managed::Error;

/// What the caller of a batch knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was told nothing, be it that it went away.
    Nothing,
    /// It is in the home, since this moment.
    Done(u64),
    /// It is not, and never will be.
    Refused,
    /// It may be.
    Unknown,
}

#[derive(Debug, Clone)]
struct Batch {
    by: String,
    began: u64,
    told: Told,
    answer: String,
}

/// All batches by number. Moments are counted, not timed.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    batches: Mutex<BTreeMap<i64, Batch>>,
    moments: AtomicU64,
    /// The highest generation that anybody has seen published.
    highest: AtomicU64,
}

/// What schedules came to, so that it shows where they test less than they should.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) overtaken: usize,
    pub(crate) unknown: usize,
    pub(crate) unheard: usize,
    pub(crate) copied: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.overtaken += other.overtaken;
        self.unknown += other.unknown;
        self.unheard += other.unheard;
        self.copied += other.copied;
    }

    pub(crate) fn least(&self) -> usize {
        let counts =
            [self.acknowledged, self.refused, self.overtaken, self.unknown, self.unheard, self.copied];
        counts.into_iter().min().unwrap_or_default()
    }
}

/// What a batch does: a row of its own, and a counter that is read and written.
pub(crate) fn insert(db: &Connection, number: i64, filler: usize) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS entry (at INTEGER PRIMARY KEY, number INTEGER, seen INTEGER, filler BLOB);
         CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER)",
    )?;
    let seen: i64 = db.query_row("SELECT coalesce((SELECT n FROM counter), 0)", [], |row| row.get(0))?;
    db.execute("INSERT OR REPLACE INTO counter VALUES (1, ?1)", [seen + 1])?;
    let row = "INSERT INTO entry (number, seen, filler) VALUES (?1, ?2, zeroblob(?3))";
    db.execute(row, (number, seen, i64::try_from(filler).unwrap_or_default())).map(drop)
}

/// The batches that are in a database, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) numbers: Vec<i64>,
    seen: Vec<i64>,
    counter: i64,
}

impl Content {
    pub(crate) fn read(db: &Connection) -> rusqlite::Result<Self> {
        let snapshot = db.unchecked_transaction()?;
        let tables: i64 =
            snapshot
                .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'entry'", [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(Self { numbers: Vec::new(), seen: Vec::new(), counter: 0 });
        }
        let column = |sql: &str| -> rusqlite::Result<Vec<i64>> {
            snapshot.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        Ok(Self {
            numbers: column("SELECT number FROM entry ORDER BY at")?,
            seen: column("SELECT seen FROM entry ORDER BY at")?,
            counter: snapshot.query_row("SELECT n FROM counter", [], |row| row.get(0))?,
        })
    }

    /// What is wrong with it by itself: a batch that is torn, or did not see the ones before.
    pub(crate) fn problem(&self) -> Option<String> {
        let is_counted = self.seen.iter().copied().eq(0..self.counter);
        (!is_counted).then(|| format!("the counter is {} and saw {:?}", self.counter, self.seen))
    }
}

impl Ledger {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, SeqCst)
    }

    /// A batch begins; its number.
    pub(crate) fn begin(&self, by: &str) -> i64 {
        let mut batches = self.batches.lock().unwrap();
        let number = i64::try_from(batches.len()).unwrap();
        let (by, began) = (by.to_owned(), self.moment());
        batches.insert(number, Batch { by, began, told: Told::Nothing, answer: String::new() });
        number
    }

    /// What its caller was told of it.
    pub(crate) fn end(&self, number: i64, answer: &Result<(), Error>) -> Told {
        let told = match answer {
            Ok(()) => Told::Done(self.moment()),
            Err(Error::Unpublished { .. } | Error::Overtaken { is_lost: false, .. }) => Told::Unknown,
            Err(_) => Told::Refused,
        };
        let answer = match answer {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        if let Some(batch) = self.batches.lock().unwrap().get_mut(&number) {
            (batch.told, batch.answer) = (told, answer);
        }
        told
    }

    /// The batches that somebody was told are in the home.
    pub(crate) fn acknowledged(&self) -> Vec<i64> {
        let batches = self.batches.lock().unwrap();
        let done = batches.iter().filter(|(_, batch)| matches!(batch.told, Told::Done(_)));
        done.map(|(number, _)| *number).collect()
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(SeqCst)
    }

    pub(crate) fn saw(&self, generation: u64) {
        self.highest.fetch_max(generation, SeqCst);
    }

    /// What is wrong with what the home holds in the end.
    pub(crate) fn judge(&self, content: &Content) -> Vec<String> {
        let batches = self.batches.lock().unwrap();
        let mut wrong: Vec<String> = content.problem().into_iter().collect();
        for (number, batch) in batches.iter() {
            let times = content.numbers.iter().filter(|found| *found == number).count();
            let is_right = match batch.told {
                Told::Done(_) => times == 1,
                Told::Refused => times == 0,
                Told::Nothing | Told::Unknown => times <= 1,
            };
            if !is_right {
                wrong.push(format!("batch {number} is there {times} times: {batch:?}"));
            }
        }
        let mut earliest_end = None::<(u64, i64)>;
        for number in content.numbers.iter().rev() {
            let Some(batch) = batches.get(number) else {
                wrong.push(format!("nobody has written {number}"));
                continue;
            };
            // What stands behind was acknowledged before this one began.
            if let Some((end, later)) = earliest_end
                && end < batch.began
            {
                wrong.push(format!("{number} began after {later} was acknowledged, and stands before it"));
            }
            if let Told::Done(end) = batch.told
                && earliest_end.is_none_or(|(earliest, _)| end < earliest)
            {
                earliest_end = Some((end, *number));
            }
        }
        wrong
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for batch in self.batches.lock().unwrap().values() {
            match batch.told {
                Told::Nothing => tally.unheard += 1,
                Told::Done(_) => tally.acknowledged += 1,
                Told::Refused if batch.answer.contains("published first: the batch was") => {
                    tally.overtaken += 1;
                }
                Told::Refused => tally.refused += 1,
                Told::Unknown => tally.unknown += 1,
            }
        }
        tally
    }

    pub(crate) fn shown(&self) -> String {
        let batches = self.batches.lock().unwrap();
        let line = |(number, batch): (&i64, &Batch)| {
            format!(
                "{number}: by {}, began at {}, told {:?}: {}",
                batch.by, batch.began, batch.told, batch.answer
            )
        };
        batches.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
