//! Cases that hold on every store: each gets a connected backend. Thread ids are of the case's own.

pub(crate) mod contract;
pub(crate) mod metadata;
pub(crate) mod names;
pub(crate) mod remembered;
pub(crate) mod removal;
pub(crate) mod together;

use std::{collections::BTreeMap, sync::Arc};

use storage_agent::checkpoints::{
    ChannelValue, CheckpointHeader, CheckpointKey, ListCheckpoints, NewCheckpoint, Payload, TaskWrites,
    Version,
};
use storage_core::{Json, StorageBackend};

pub(crate) type Storage = Arc<dyn StorageBackend>;

/// A test for each case, of its name: from the path of this module, and of a function that opens a store of a test's own.
#[macro_export]
macro_rules! checkpoint_cases {
    ($cases:tt, $open:tt) => {
        checkpoint_cases! { @ $cases $open
            contract: [
                a_checkpoint_comes_back_as_it_was, the_latest_is_the_greatest_id_not_the_last_inserted,
                versions_keep_their_type, a_value_is_written_once,
                advance_refuses_another_value_of_a_version, namespaces_and_threads_never_mix,
                writes_keep_the_first_but_special_ones_the_last, writes_may_come_before_their_checkpoint,
                writes_are_ordered_by_path_task_and_index, a_list_is_bounded_filtered_and_the_newest_first,
                a_list_goes_over_namespaces_and_threads, delta_history_follows_parents_to_the_nearest_value,
                delta_history_ends_where_parents_form_a_circle, what_is_no_checkpoint_is_refused, a_list_with_values_is_whole_and_goes_by_id, threads_come_page_by_page, general_checkpoints_are_listed_as_they_were_stored,
            ]
            metadata: [
                large_metadata_comes_back_as_it_was, a_filter_sees_large_metadata_too, an_unchanged_prompt_is_stored_once,
                large_metadata_goes_with_its_checkpoint, calls_with_many_parents_end_with_their_root, metadata_has_a_bound,
            ]
            names: [
                long_names_come_back_whole_and_never_mix, threads_with_long_ids_are_called_by_them,
                a_thread_with_a_long_id_is_copied_deleted_and_begun_anew,
                an_id_or_name_that_is_too_long_is_named_in_the_error,
            ]
            removal: [
                pruning_keeps_the_latest_of_each_namespace_with_its_writes, pruning_keeps_what_waits_to_be_taken_up,
                pruning_to_nothing_says_what_there_was, a_write_keeps_a_thread_that_was_about_to_expire,
                pruning_keeps_the_ancestors_of_delta_channels, pruning_ends_calls_of_pruned_checkpoints,
                a_dry_run_says_to_the_byte_what_would_go, runs_are_deleted_in_every_namespace_and_thread,
                a_copy_is_complete_and_its_own, retention_goes_by_number_and_age, threads_expire_and_are_listed_by_activity,
                pruned_general_checkpoints_leave_the_others_whole, a_deleted_thread_stays_deleted_for_late_writers,
                a_copy_onto_a_deleted_thread_keeps_late_writers_out, a_call_brings_no_deleted_thread_back_and_a_mark_ends,
            ]
            remembered: [
                processes_that_take_turns_store_what_each_was_given, what_somebody_else_removed_is_stored_again,
                what_was_refused_is_not_taken_for_stored,
                general_checkpoints_are_whole_after_a_deletion_and_a_restart,
            ]
            together: [
                of_two_workers_one_wins_each_step, an_older_epoch_is_fenced_out,
                of_many_who_claim_a_thread_at_once_one_may_write,
                a_deleted_thread_lets_no_old_epoch_in_though_the_clock_stands, checkpoints_and_writes_come_together,
                pruning_never_takes_a_chunk_that_a_put_counts_on, concurrent_puts_all_count,
            ]
        }
    };
    (@ $cases:tt $open:tt $($module:ident: $names:tt)*) => {
        $(checkpoint_cases! { @@ $cases $open $module $names })*
    };
    (@@ ($($cases:ident)::+) ($($open:ident)::+) $module:ident [$($name:ident,)*]) => {
        mod $module {
            use $($cases)::+::$module as cases;
            use $($open)::+ as open;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let storage = open(stringify!($name));
                    storage.connect().await.unwrap();
                    cases::$name(storage.clone()).await;
                    storage.disconnect().await.unwrap();
                }
            )*
        }
    };
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}

pub(crate) fn id(number: usize) -> String {
    format!("{number:08}")
}

/// A checkpoint without channels.
pub(crate) fn plain(thread_id: &str, ns: &str, number: usize, parent: Option<usize>) -> NewCheckpoint {
    NewCheckpoint {
        key: CheckpointKey::new(thread_id, ns, id(number)),
        parent_id: parent.map(id),
        checkpoint: Payload::new("msgpack", vec![0x80, 0, 255]),
        metadata: json(&format!(r#"{{"source":"loop","step":{number}}}"#)),
        channel_versions: BTreeMap::new(),
        new_values: Vec::new(),
    }
}

impl WithValue for NewCheckpoint {}
pub(crate) trait WithValue: Into<NewCheckpoint> {
    fn with(self, channel: &str, version: i64, value: Option<Payload>) -> NewCheckpoint {
        let mut new: NewCheckpoint = self.into();
        let version = Version::Int(version);
        new.channel_versions.insert(channel.to_owned(), version.clone());
        new.new_values.push(ChannelValue { channel: channel.to_owned(), version, value });
        new
    }

    fn metadata(self, text: &str) -> NewCheckpoint {
        NewCheckpoint { metadata: json(text), ..self.into() }
    }
}

/// Bytes that do not repeat; the same for the same seed, and a prefix of longer ones.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn writes(checkpoint: usize, task_id: &str, writes: &[(&str, &str)]) -> TaskWrites {
    TaskWrites {
        checkpoint_id: id(checkpoint),
        task_id: task_id.to_owned(),
        task_path: String::new(),
        writes: writes
            .iter()
            .map(|(channel, text)| ((*channel).to_owned(), Payload::new("text", text.as_bytes().to_vec())))
            .collect(),
    }
}

pub(crate) fn of_thread(thread_id: &str) -> ListCheckpoints {
    ListCheckpoints { thread_id: Some(thread_id.to_owned()), ..ListCheckpoints::default() }
}

pub(crate) fn ids(headers: &[CheckpointHeader]) -> Vec<&str> {
    headers.iter().map(|header| header.key.checkpoint_id.as_str()).collect()
}
