#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a case says what is wrong by panicking; the crate is for tests alone"
)]

mod run;
mod sample;

/// The cases, by the part of the contract that they test. Each panics where the backend breaks it.
pub mod cases {
    pub mod atomic;
    pub mod cancellation;
    pub mod collections;
    pub mod expiry;
    pub mod keys;
    pub mod lifecycle;
    pub mod listing;
    pub mod liveness;
    pub mod many;
    pub mod model;
    pub mod shared;
    pub mod values;
}

pub use run::{Subject, run_case};

/// One test for each case of the basic level: the seven required methods, what is provided on top of them, and that
/// what the backend does not have answers `Unsupported`.
///
/// Takes a function from a namespace (unique for each case; `a-z 0-9 _`, at most 60 bytes) to an unconnected backend
/// whose entries nobody else sees.
#[macro_export]
macro_rules! basic {
    ($open:expr) => {
        $crate::cases! { $open;
            keys: every_legal_key_is_kept_apart illegal_keys_are_refused_by_every_operation
                an_error_names_backend_operation_and_key;
            values: every_value_reads_back_equal a_value_at_the_limit_is_kept_and_one_beyond_refused
                overwriting_replaces_the_whole_value absent_keys_are_absent;
            expiry: an_entry_expires_and_never_early an_expired_entry_is_gone_for_the_required_operations
                set_without_ttl_removes_an_earlier_expiry a_ttl_of_zero_or_beyond_the_limit_is_refused
                a_ttl_below_a_millisecond_is_kept;
            listing: keys_are_sorted_by_bytes_without_duplicates patterns_mean_what_the_grammar_says
                characters_of_other_grammars_mean_themselves random_patterns_agree_with_the_reference_matcher
                patterns_that_are_none_are_refused scan_returns_values_and_keys
                scan_filters_as_the_reference_does scan_sees_a_lasting_key_exactly_once
                pages_go_on_from_a_cursor_that_was_kept_as_text cursors_and_limits_that_are_none_are_refused
                a_stream_may_be_spawned_and_kept;
            many: get_many_keeps_order_and_duplicates set_many_lets_the_last_duplicate_stand
                delete_many_counts_what_was_there large_and_empty_calls_work;
            lifecycle: unconnected_operations_say_so connect_and_disconnect_may_be_repeated
                entries_survive_a_reconnect disconnect_waits_for_writes_under_way concurrent_connects_are_one
                callers_in_parallel_read_their_own_writes health_answers absent_capabilities_answer_unsupported;
            cancellation: a_dropped_write_happened_whole_or_not_at_all dropped_calls_block_nobody;
            model: a_random_sequence_behaves_as_in_memory;
            atomic: a_buyer_index_loses_no_session;
        }
    };
}

/// One test for each case of the full level: [`basic!`] and the atomic steps, expiry control, cleanup and statistics.
#[macro_export]
macro_rules! full {
    ($open:expr) => {
        $crate::basic!($open);
        $crate::cases! { $open;
            atomic: one_of_many_racers_creates_the_entry compare_and_set_compares_values_not_spellings
                compare_and_set_deletes_and_expires a_lost_compare_and_set_changes_nothing
                increment_counts_from_zero_and_keeps_the_expiry increment_refuses_what_is_no_integer
                racing_increments_lose_none apply_takes_effect_in_order readers_never_see_half_a_batch
                a_batch_with_one_wrong_key_changes_nothing racing_updates_lose_none
                a_batch_applies_only_where_its_conditions_hold conditions_compare_values_not_spellings
                any_number_of_conditions_may_be_spelled_otherwise
                racing_conditional_batches_lose_none;
            expiry: an_expired_entry_is_gone_for_the_optional_operations ttl_expire_and_persist
                cleanup_removes_expired_rows_alone a_value_written_since_survives_cleanup;
            lifecycle: stats_name_the_backend every_capability_is_there;
            cancellation: dropped_increments_count_once_or_not_at_all;
            liveness: calls_that_are_polled_once_and_kept_block_nobody
                a_buffered_stream_of_reads_with_a_write_between_goes_on a_disconnect_that_is_given_up_goes_on
                callers_are_on_any_runtime_or_on_none a_runtime_that_ends_stops_no_other
                a_runtime_that_computes_stops_no_other a_call_that_is_dropped_at_any_await_is_whole_or_nothing;
        }
    };
}

/// One test for each case about partitions of ordered items: for backends with a
/// [`CollectionStore`](storage_core::CollectionStore).
#[macro_export]
macro_rules! collections {
    ($open:expr) => {
        $crate::cases! { $open;
            collections: operations_of_a_commit_take_effect_in_order a_commit_that_fails_changes_nothing
                preconditions_are_kept one_of_many_racers_commits_on_a_version
                a_sequence_has_no_gap_that_is_filled_later a_tagged_append_is_done_once
                queries_page_through_ranges_in_both_directions queries_leave_bodies_out_and_bound_pages
                items_come_in_the_order_asked_for bodies_are_any_bytes ranges_and_bounds_delete_what_they_say
                a_bound_holds_throughout racing_item_increments_lose_none a_partition_expires_whole_and_begins_anew
                a_deleted_partition_begins_anew partitions_are_listed_by_kind_and_never_meet
                many_partitions_are_listed_once_each a_dropped_commit_happened_whole_or_not_at_all
                unconnected_collections_say_so random_commits_behave_as_in_memory;
        }
    };
}

/// One test for each case about full-text search: for backends with a
/// [`CollectionStore`](storage_core::CollectionStore) that searches.
#[macro_export]
macro_rules! search {
    ($open:expr) => {
        $crate::cases! { $open;
            collections: queries_find_the_same_as_the_reference what_is_found_follows_its_item
                a_commit_that_fails_leaves_no_words a_search_is_narrowed_to_what_it_names
                the_best_hits_come_first_and_pages_go_on what_no_search_may_ask_is_refused
                random_commits_are_found_as_in_memory;
        }
    };
}

/// One test for each case about several handles on one store: what several processes do. For stores where opening the
/// same namespace twice gives the same entries.
#[macro_export]
macro_rules! shared {
    ($open:expr) => {
        $crate::cases! { $open;
            shared: handles_see_each_others_writes handles_race_without_losing_updates
                handles_connect_to_an_empty_store_at_once namespaces_are_kept_apart;
        }
    };
}

/// Expands to one `#[test]` for each case; used by the macros of the levels.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($open:expr; $($group:ident: $($case:ident)*;)*) => {
        $($(
            #[test]
            fn $case() {
                $crate::run_case(stringify!($case), $open, $crate::cases::$group::$case);
            }
        )*)*
    };
}
