//! Agent memory behaves the same on every store.

mod carry;
mod carry_files;
mod cleanup;
mod conversations;
mod costs;
mod forget;
mod forgotten;
mod health;
mod memories;
mod memory_expiry;
mod memory_search;
mod messages;
pub(crate) mod open;
mod outages;
mod processes;
mod retention;
mod search;
mod sessions;
mod tasks;

/// A module for each store, with a test in it for each case.
macro_rules! on_stores {
    ($($store:ident)* ; $cases:tt) => {
        $(mod $store { on_store!($store $cases); })*
    };
}

macro_rules! on_store {
    ($store:ident { $($group:ident { $($case:ident)* })* }) => {
        $(mod $group {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let name = concat!(stringify!($store), "_", stringify!($case));
                let storage = crate::agent::open::$store(name);
                storage.connect().await.unwrap();
                crate::agent::$group::$case(storage.clone()).await;
                storage.disconnect().await.unwrap();
            })*
        })*
    };
}

on_stores! {
    memory sqlite redis redis_cluster postgres hybrid;
    {
        sessions {
            created_once_and_read_back
            no_update_of_64_tasks_is_lost
            one_update_that_no_store_can_keep_fails_alone
            an_update_keeps_what_it_does_not_name
            listed_by_user_status_and_idle_time_page_by_page
            a_batch_has_a_result_for_each
            expire_unless_they_are_used
            the_helpers_see_them
            a_document_of_another_shape_is_corrupt_and_stays
        }
        conversations {
            messages_come_back_as_they_went_in
            the_latest_come_first_and_pages_go_both_ways
            ten_thousand_messages_of_64_writers_are_all_there
            the_bound_holds_while_64_writers_append
            an_id_makes_a_message_repeatable
            a_batch_is_all_or_nothing
            bytes_and_age_are_bounded
            a_summary_replaces_what_was_read_and_nothing_else
            a_summary_while_others_write_is_one_step
            a_fork_is_a_copy_of_its_own
            a_message_with_as_much_metadata_as_there_may_be_is_copied
            a_long_fork_while_others_write
            deleted_and_begun_anew
        }
        messages {
            messages_are_found_by_time_role_and_metadata
            a_search_of_a_long_conversation_goes_on_call_by_call
            an_edit_leaves_a_trace_and_only_who_read_it_last_edits
            of_eight_who_edit_what_they_read_one_does
            what_was_redacted_does_not_come_back
            an_id_is_known_after_an_edit_until_limits_take_its_message
            the_latest_that_fit_in_so_many_tokens
        }
        search {
            messages_are_found_in_one_session_on_every_store
            messages_are_found_over_sessions_where_there_is_an_index
            what_a_message_says_no_longer_is_not_found
            what_was_acknowledged_is_found_at_once_beside_16_writers
            pages_of_hits_neither_overlap_nor_miss
            memories_are_found_by_their_strings
            memories_below_long_namespaces_are_found
            the_first_of_twelve_thousand_messages_is_found
        }
        tasks {
            versions_are_numbered_and_bounded
            one_of_many_wins_each_version
            tasks_of_sessions_and_of_none_never_meet
        }
        memories {
            a_memory_comes_back_as_it_was_put
            putting_again_keeps_when_it_was_created
            values_and_namespaces_that_are_none_are_refused
            any_text_is_a_key
            one_of_eight_wins_each_compare_and_set
            a_version_never_fits_again_after_a_deletion
            eight_tasks_that_put_lose_nothing_of_each_other
            a_batch_reads_before_it_writes_and_the_last_write_wins
            a_batch_below_one_first_label_is_all_or_nothing
            a_namespace_is_deleted_with_all_below_it
        }
        memory_search {
            the_latest_come_first_in_pages
            filters_compare_as_documented
            a_prefix_finds_what_lies_below_it_and_nothing_beside_it
            more_than_a_page_is_searched
            namespaces_are_listed_by_prefix_suffix_and_depth
            namespaces_are_listed_in_pages_over_many_memories
            a_damaged_memory_hides_no_other
        }
        memory_expiry {
            an_expired_memory_is_gone_for_every_call
            reading_refreshes_where_it_should
            searching_refreshes_what_it_returns
            a_memory_put_anew_after_its_end_begins_anew
            a_later_put_decides_how_long_it_stays
            an_agents_settings_say_how_long_memories_stay
            a_memory_that_is_put_again_and_again_is_always_there
            what_is_left_of_expired_memories_is_removed
        }
        retention {
            a_policy_leaves_what_it_says_and_a_dry_run_everything
            a_dry_run_counts_idle_sessions_once
            what_is_tagged_stays
            of_many_processes_one_applies_it
            a_claim_ends_by_the_clock_of_the_store
        }
        carry {
            everything_comes_back_equal
            what_the_store_wrote_comes_back_equal
            a_user_goes_on_where_the_user_was
            numbers_and_threads_go_on
            what_is_there_is_refused_left_or_replaced
            an_import_that_died_is_finished_by_the_next
            an_export_beside_a_writer_is_sound
            what_has_expired_is_not_carried
            the_largest_values_travel
            what_was_imported_is_found_and_known_by_its_ids
        }
        forget {
            nothing_of_a_user_is_left_and_all_of_others
            nothing_of_a_session_is_left_and_all_of_others
            odd_users_are_deleted_and_others_stay
        }
        cleanup {
            a_wrong_clock_removes_nothing_that_is_in_use
            idle_sessions_go_with_what_belongs_to_them
            orphans_of_expired_sessions_go
            a_session_in_use_is_never_removed
            a_message_written_at_the_same_time_stays_or_is_counted
        }
        health {
            every_store_is_probed_and_nothing_is_left
            totals_are_those_of_the_store
            totals_are_exact_after_concurrent_work_and_a_restart
            operations_are_counted
        }
    }
}
