//! Processes that were cloned in the middle of a publication, with all that they had in their cache: as by `fork` and by a
//! snapshot of a machine, which goes on while its clone does.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    Place, copy_folder,
    kills::{check, example},
    rows_in_home,
};

/// How many batches each of the two writes.
const BATCHES: usize = 50;

/// What becomes of the process whose cache is copied.
#[derive(Debug, Clone, Copy)]
enum Original {
    /// It died at one of its requests, before or after that had its effect.
    Died(&'static str, u32),
    /// It was stopped at any moment, and killed once its cache was copied.
    Killed,
    /// It was stopped, and goes on beside its clone.
    GoesOn,
}

const ORIGINALS: [Original; 10] = [
    Original::Died("before", 3),
    Original::GoesOn,
    Original::Died("after", 3),
    Original::Killed,
    Original::Died("before", 4),
    Original::GoesOn,
    Original::Died("after", 4),
    Original::Killed,
    Original::Died("after", 5),
    Original::GoesOn,
];

/// The program that writes numbered batches, and the numbers that it has acknowledged.
struct Writer {
    child: Child,
    acknowledged: Arc<Mutex<BTreeSet<usize>>>,
    reading: JoinHandle<()>,
}

impl Writer {
    fn start(place: &Place, cache: &str, first: usize, die: &str) -> Self {
        let mut command = Command::new(example("writer"));
        command.arg(place.home_path()).arg(place.cache(cache)).arg(first.to_string()).arg(die);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the example is built");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = Arc::<Mutex<BTreeSet<usize>>>::default();
        let told = Arc::clone(&acknowledged);
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let number = line.strip_prefix("ok ").and_then(|number| number.parse().ok());
                told.lock().unwrap().insert(number.expect("a number"));
            }
        });
        Self { child, acknowledged, reading }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until it has acknowledged so many batches.
    fn has_written(&mut self, count: usize, situation: &str) {
        let start = Instant::now();
        while self.count() < count {
            assert_eq!(self.child.try_wait().unwrap(), None, "{situation}: it died by itself");
            assert!(start.elapsed() < Duration::from_secs(120), "{situation}: {} written", self.count());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "{signal}");
    }

    /// What it has acknowledged until it was killed, or had died.
    fn end(mut self) -> BTreeSet<usize> {
        // One that is dead already is no failure.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.reading.join().unwrap();
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

/// Lets a writer come to the moment at which its cache is copied; it is still there where it goes on.
fn copied(
    place: &Place,
    original: Original,
    first: usize,
    acknowledged: &mut BTreeSet<usize>,
) -> Option<Writer> {
    let situation = format!("{original:?}");
    let (die, stops) = match original {
        Original::Died(when, request) => (format!("{when}:{request}"), false),
        Original::Killed | Original::GoesOn => ("never".to_owned(), true),
    };
    let mut writer = Writer::start(place, "a", first, &die);
    if stops {
        writer.has_written(2, &situation);
        std::thread::sleep(Duration::from_micros(fastrand::u64(..20_000)));
        writer.signal("-STOP");
    } else {
        writer.child.wait().unwrap();
    }
    let _ = fs::remove_dir_all(place.cache("b"));
    copy_folder(&place.cache("a"), &place.cache("b"));
    if let Original::GoesOn = original {
        writer.signal("-CONT");
        return Some(writer);
    }
    acknowledged.extend(writer.end());
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_and_its_clone_publish_each_batch_once_wherever_it_was_cloned() {
    let (place, mut acknowledged) = (Place::new(), BTreeSet::new());
    for round in 0..storage_tests::kills(ORIGINALS.len()) {
        let original = ORIGINALS[round % ORIGINALS.len()];
        let (first, situation) = (round * 300_000, format!("round {round}: {original:?}"));
        let goes_on = copied(&place, original, first, &mut acknowledged);
        let mut writers = [
            goes_on.unwrap_or_else(|| Writer::start(&place, "a", first + 100_000, "never")),
            Writer::start(&place, "b", first + 200_000, "never"),
        ];
        for writer in &mut writers {
            writer.has_written(BATCHES, &situation);
        }
        acknowledged.extend(writers.into_iter().flat_map(Writer::end));
        check(&rows_in_home(&place).await, &acknowledged, &situation);
    }
}
