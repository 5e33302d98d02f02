//! Random histories, against a model that is a few maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use proptest::prelude::*;
use storage_agent::checkpoints::{
    CheckpointConfig, CheckpointerBackend, ListCheckpoints, Payload, PruneStrategy, Retention, Version,
};

use crate::cases::{WithValue, id, json, metadata::prompt, noise, plain, writes};

#[derive(Debug, Clone)]
enum Action {
    Put { ns: usize, number: usize, parent: Option<usize>, version: i64, length: usize },
    Write { ns: usize, number: usize, task: usize, channels: Vec<usize>, text: usize },
    Retain { keep: usize },
    Prune { to_nothing: bool },
    DeleteRun { run: usize },
    List { ns: Option<usize>, before: Option<usize>, limit: Option<usize> },
}

/// The second fits no key. In the order of what stands in keys for them.
static NAMESPACES: LazyLock<[&str; 3]> = LazyLock::new(|| ["", "a:b|".repeat(400).leak(), "a:b"]);
/// A checkpoint is of the run that its number leaves when divided by this.
const RUNS: usize = 5;
const CHANNELS: [&str; 4] = ["c", "__error__", "__interrupt__", "d:%"];
/// The second fits no key.
static TASKS: LazyLock<[&str; 2]> = LazyLock::new(|| ["0", "1:".repeat(700).leak()]);

fn action() -> impl Strategy<Value = Action> {
    let ns = 0..NAMESPACES.len();
    let number = 0..8usize;
    prop_oneof![
        4 => (ns.clone(), number.clone(), prop::option::of(number.clone()), 0..6i64, prop_oneof![0..3usize, 900..1200usize, 5_000..60_000usize])
            .prop_map(|(ns, number, parent, version, length)| Action::Put { ns, number, parent, version, length }),
        3 => (ns.clone(), number.clone(), 0..2usize, prop::collection::vec(0..CHANNELS.len(), 0..5), 0..9usize)
            .prop_map(|(ns, number, task, channels, text)| Action::Write { ns, number, task, channels, text }),
        1 => (0..4usize).prop_map(|keep| Action::Retain { keep }),
        1 => prop::bool::weighted(0.2).prop_map(|to_nothing| Action::Prune { to_nothing }),
        1 => (0..RUNS).prop_map(|run| Action::DeleteRun { run }),
        2 => (prop::option::of(ns), prop::option::of(number), prop::option::of(0..5usize))
            .prop_map(|(ns, before, limit)| Action::List { ns, before, limit }),
    ]
}

#[derive(Default)]
struct Model {
    checkpoints: BTreeMap<(usize, usize), (Option<usize>, i64)>,
    /// The lengths that metadata was made by.
    metadata: BTreeMap<(usize, usize), usize>,
    values: BTreeMap<(usize, i64), usize>,
    writes: BTreeMap<(usize, usize), TaskWrites>,
}

/// Channels and texts, by task and index.
type TaskWrites = BTreeMap<(usize, i64), (usize, usize)>;

impl Model {
    fn write(&mut self, ns: usize, number: usize, task: usize, channels: &[usize], text: usize) {
        for (position, channel) in channels.iter().enumerate() {
            let index = match CHANNELS[*channel] {
                "__error__" => -1,
                "__interrupt__" => -3,
                _ => position as i64,
            };
            let written = self.writes.entry((ns, number)).or_default();
            if index < 0 || !written.contains_key(&(task, index)) {
                written.insert((task, index), (*channel, text));
            }
        }
    }

    fn retain(&mut self, keep: usize) {
        let followed: BTreeSet<_> =
            self.checkpoints.iter().filter_map(|((ns, _), (parent, _))| Some((*ns, (*parent)?))).collect();
        for ns in 0..NAMESPACES.len() {
            let numbers: Vec<_> = self.checkpoints.keys().filter(|key| key.0 == ns).copied().rev().collect();
            for key in numbers.into_iter().skip(keep.max(1)) {
                let waits = self.writes.contains_key(&key) && !followed.contains(&key);
                if !waits {
                    self.checkpoints.remove(&key);
                    self.writes.remove(&key);
                }
            }
        }
        self.sweep();
    }

    fn delete_run(&mut self, run: usize) {
        let of_run: Vec<_> = self.checkpoints.keys().filter(|key| key.1 % RUNS == run).copied().collect();
        for key in &of_run {
            self.checkpoints.remove(key);
            self.writes.remove(key);
        }
        if !of_run.is_empty() {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let used: BTreeSet<_> =
            self.checkpoints.iter().map(|((ns, _), (_, version))| (*ns, *version)).collect();
        self.values.retain(|key, _| used.contains(key));
    }

    fn list(&self, ns: Option<usize>, before: Option<usize>, limit: Option<usize>) -> Vec<(usize, usize)> {
        let mut found: Vec<_> = self
            .checkpoints
            .keys()
            .filter(|key| ns.is_none_or(|ns| key.0 == ns) && before.is_none_or(|before| key.1 < before))
            .copied()
            .collect();
        found.sort_by_key(|(ns, number)| std::cmp::Reverse((*number, *ns)));
        found.truncate(limit.unwrap_or(usize::MAX));
        found
    }
}

/// Large for every other length.
fn metadata(number: usize, length: usize) -> String {
    let text = if length.is_multiple_of(2) { String::new() } else { prompt(5, 17_000 + length) };
    format!(r#"{{"run_id":"{}","text":"{text}"}}"#, number % RUNS)
}

async fn act(checkpointer: &CheckpointerBackend, model: &mut Model, action: &Action) {
    match action {
        Action::Put { ns, number, parent, version, length } => {
            let payload = Payload::new("bytes", noise(3, *length));
            let new = plain("t", NAMESPACES[*ns], *number, *parent).with("c", *version, Some(payload));
            let new = new.metadata(&metadata(*number, *length));
            checkpointer.put(&new).await.unwrap();
            model.checkpoints.insert((*ns, *number), (*parent, *version));
            model.metadata.insert((*ns, *number), *length);
            model.values.entry((*ns, *version)).or_insert(*length);
        }
        Action::Write { ns, number, task, channels, text } => {
            let (task_id, value) = (TASKS[*task], text.to_string());
            let written: Vec<_> =
                channels.iter().map(|channel| (CHANNELS[*channel], value.as_str())).collect();
            checkpointer.put_writes("t", NAMESPACES[*ns], &writes(*number, task_id, &written)).await.unwrap();
            model.write(*ns, *number, *task, channels, *text);
        }
        Action::Retain { keep } => {
            let policy = Retention { keep_last: Some(*keep), ..Retention::default() };
            let dry = checkpointer.retain("t", &policy, true).await.unwrap();
            assert_eq!(checkpointer.retain("t", &policy, false).await.unwrap(), dry);
            model.retain(*keep);
        }
        Action::Prune { to_nothing: false } => {
            checkpointer.prune(&["t"], PruneStrategy::KeepLatest).await.unwrap();
            model.retain(1);
        }
        Action::Prune { to_nothing: true } => {
            let reports = checkpointer.prune(&["t"], PruneStrategy::Delete).await.unwrap();
            assert_eq!(reports[0].checkpoints.len(), model.checkpoints.len());
            *model = Model::default();
        }
        Action::DeleteRun { run } => {
            checkpointer.delete_for_runs(&[&run.to_string()]).await.unwrap();
            model.delete_run(*run);
        }
        Action::List { ns, before, limit } => {
            let list = ListCheckpoints {
                thread_id: Some("t".into()),
                checkpoint_ns: ns.map(|ns| NAMESPACES[ns].to_owned()),
                before: before.map(id),
                limit: *limit,
                ..ListCheckpoints::default()
            };
            let found = checkpointer.list(&list).await.unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|header| (header.key.checkpoint_ns.as_str(), header.key.checkpoint_id.clone()))
                .collect();
            let expected = model.list(*ns, *before, *limit);
            let expected: Vec<_> =
                expected.iter().map(|(ns, number)| (NAMESPACES[*ns], id(*number))).collect();
            assert_eq!(found, expected);
        }
    }
}

async fn compare(checkpointer: &CheckpointerBackend, model: &Model) {
    for (ns, name) in NAMESPACES.iter().enumerate() {
        for number in 0..8 {
            let found = checkpointer.get("t", name, Some(&id(number))).await.unwrap();
            let expected = model.checkpoints.get(&(ns, number));
            assert_eq!(found.is_some(), expected.is_some());
            let (Some(found), Some((parent, version))) = (found, expected) else { continue };
            assert_eq!(found.header.parent_id, parent.map(id));
            assert_eq!(found.header.metadata, json(&metadata(number, model.metadata[&(ns, number)])));
            assert_eq!(found.channel_versions["c"], Version::Int(*version));
            assert_eq!(
                found.channel_values["c"],
                Payload::new("bytes", noise(3, model.values[&(ns, *version)]))
            );
            let written = model.writes.get(&(ns, number)).cloned().unwrap_or_default();
            let expected: Vec<_> = written
                .into_iter()
                .map(|((task, index), (channel, text))| {
                    (
                        TASKS[task].to_owned(),
                        index,
                        CHANNELS[channel].to_owned(),
                        Payload::new("text", text.to_string()),
                    )
                })
                .collect();
            let found: Vec<_> = found
                .pending_writes
                .into_iter()
                .map(|write| (write.task_id, write.index, write.channel, write.value))
                .collect();
            assert_eq!(found, expected);
        }
        let latest = checkpointer.get("t", name, None).await.unwrap();
        let expected = model.list(Some(ns), None, Some(1)).first().map(|(_, number)| id(*number));
        assert_eq!(latest.map(|latest| latest.header.key.checkpoint_id), expected);
    }
    let counted = checkpointer.thread("t").await.unwrap().map_or(0, |thread| thread.checkpoints);
    assert_eq!(counted, model.checkpoints.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_history_reads_as_the_model_says(actions in prop::collection::vec(action(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let checkpointer = CheckpointerBackend::with_config(crate::memory().await, CheckpointConfig { deleted_for: None, ..CheckpointConfig::default() });
            let mut model = Model::default();
            for action in &actions {
                act(&checkpointer, &mut model, action).await;
            }
            compare(&checkpointer, &model).await;
            // Kept or not, nothing is left over: pruning twice finds nothing the second time.
            let all = Retention { keep_last: Some(usize::MAX), ..Retention::default() };
            checkpointer.retain("t", &all, false).await.unwrap();
            assert_eq!(checkpointer.retain("t", &all, false).await.unwrap().bytes, 0);
            compare(&checkpointer, &model).await;
        });
    }
}
