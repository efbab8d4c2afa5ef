//! The conformance suite: what the contract promises, asked of any store. A backend runs it with `conformance!`, and cases of its own by name.

pub(crate) mod breaker;
pub(crate) mod config;
pub(crate) mod dispatch;
pub(crate) mod endpoints;
pub(crate) mod fairness;
pub(crate) mod nodes;
pub(crate) mod normalize;
pub(crate) mod notices;
pub(crate) mod ordered;
pub(crate) mod payloads;
pub(crate) mod quarantine;
pub(crate) mod recovery;
pub(crate) mod redrive;
pub(crate) mod retention;
pub(crate) mod schedule;
pub(crate) mod selection;
pub(crate) mod signing;
pub(crate) mod tiers;
pub(crate) mod view;
pub(crate) mod world;

/// Runs every case on a store of its own, which this process has joined but for those `outside`; `$open` makes one and may keep something alive beside it.
macro_rules! conformance {
    (@joined $world:ident) => {
        $world.join(crate::conformance::world::at(0)).await;
    };
    (@outside $world:ident) => {};
    ($open:expr; $($cases:tt)+) => {
        crate::conformance::conformance! { @cases joined $open; $($cases)+ }
    };
    (@cases $how:ident $open:expr; $($area:ident :: { $($case:ident),+ $(,)? })+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                let (store, _kept) = $open;
                let world = crate::conformance::world::World::new(&store);
                crate::conformance::conformance!(@$how world);
                crate::conformance::$area::$case(&world).await;
                crate::conformance::world::log_is_whole(&store).await;
            }
        )+)+
    };
    ($open:expr) => {
        crate::conformance::conformance! { $open;
            config::{
                a_snapshot_is_activated_once_and_kept, a_snapshot_takes_the_place_of_its_base_alone,
                of_many_at_once_with_one_base_one_has_its_way, activations_are_listed_newest_first, evidence_is_salted_and_merged,
            }
            schedule::{
                a_cycle_fires_once, a_queued_cycle_waits_for_the_active_one, only_runs_without_an_artifact_count,
                cycles_are_cancelled_with_their_runs,
            }
            selection::{
                the_oldest_waiting_cycle_is_claimed, a_lost_claim_changes_nothing, several_cycles_are_claimed_at_once,
                a_cycle_gets_its_first_candidate_and_its_runs_at_once, runs_start_with_their_admission, runs_start_with_their_admission_where_nobody_waits,
                the_first_new_candidate_is_taken, the_last_receipt_ends_the_cycle,
                scopes_and_windows, an_outcome_in_release_on_frees_the_candidate, a_crash_between_taking_and_admitting,
                a_failed_selection_ends_the_cycle, a_rejected_run_fails_at_once, a_preset_needs_no_initiation,
                a_retry_begins_where_it_is_told_and_cites_the_old_run,
            }
            tiers::{
                a_run_goes_through_its_steps, claims_follow_priority_and_doors, a_failed_step_waits_and_gives_up,
                a_stale_token_is_lost, a_commit_that_contradicts_itself_is_refused, a_deadline_ends_what_waits,
                a_run_is_cancelled_once,
            }
            fairness::{
                a_full_limit_is_passed_over, room_is_counted_down, a_run_waits_in_the_lane_of_its_next_step,
                the_first_step_tells_what_held_the_run,
            }
            normalize::{
                a_batch_starts_when_it_is_full_or_has_waited, a_batch_holds_one_group, after_a_batch_a_step_is_alone,
                who_waits_for_a_batch_can_be_ended, work_is_found_by_its_key,
            }
            payloads::{
                a_payload_is_committed_with_its_step, a_payload_that_is_made_again_counts_from_then,
                bytes_of_another_length_are_refused,
            }
            retention::{
                evidence_of_what_is_not_finished_stays, old_payloads_leave_and_say_so, a_payload_that_is_needed_stays,
            }
            dispatch::{
                a_delivery_is_accepted, a_retry_waits_and_keeps_its_key, a_dead_letter_is_redriven_to_success,
                a_cancelled_run_owes_nothing_and_keeps_the_receipt, a_step_that_owes_sends_at_once, deliveries_are_claimed_oldest_first,
            }
            endpoints::{
                a_disabled_endpoint_gives_up_what_waits, a_disabled_endpoint_takes_nothing_new,
                a_redrive_enables_the_endpoint, a_retry_at_a_disabled_endpoint_is_dead,
            }
            breaker::{
                a_breaker_opens_and_one_attempt_probes, a_lost_probe_is_made_again, a_cancelled_probe_still_tells,
                an_endpoint_that_only_fails_is_disabled_after_a_warning, each_endpoint_is_due_by_itself,
            }
            ordered::{
                the_head_of_the_queue_holds_the_rest, a_dead_letter_lets_the_next_go, a_redriven_one_keeps_its_place,
            }
            redrive::{
                a_redrive_takes_what_was_dead_when_it_began, a_redrive_is_made_in_batches, a_redrive_takes_what_matches,
                a_redrive_does_not_ask_again_who_said_no, much_that_waits_is_given_up_in_batches, deadlines_end_runs_in_batches,
            }
            notices::{
                events_gather_in_one_notice, a_notice_is_owed_once_and_the_next_waits_for_it,
                a_dead_notice_is_redriven, a_notice_under_way_outlives_a_crash,
                a_notice_to_a_disabled_endpoint_is_dead_at_once,
            }
            nodes::{
                a_claim_says_whose_it_is, a_node_is_renewed_with_what_it_does, who_has_left_claims_nothing,
                what_is_under_way_when_a_node_leaves_is_not_free, what_this_process_does_not_hold_is_freed_and_nothing_else,
            }
            recovery::{
                work_under_way_is_taken_over, a_step_may_be_interrupted_so_often, a_finished_world_recovers_nothing,
            }
            quarantine::{
                crashes_in_a_row_quarantine_a_processor, a_step_that_is_done_takes_crashes_back,
                a_crash_counts_once_and_only_what_was_under_way,
            }
            view::{
                pages_are_cut_where_the_cursor_says, counts_tell_states, views_tell_the_story,
                ids_are_found_by_how_they_begin,
            }
        }
        crate::conformance::conformance! { @cases outside $open;
            config::{
                a_halt_is_in_force_until_it_is_lifted, records_are_read_in_order_and_by_subject,
            }
            schedule::{
                a_cursor_that_moved_refuses_the_commit,
                of_several_decisions_each_stands_for_itself,
            }
            retention::{
                old_evidence_leaves_and_says_so,
            }
            notices::{
                the_log_is_followed_while_there_are_rules,
            }
            signing::{
                a_log_is_signed_from_where_a_record_says_so, checkpoints_are_numbered_and_cover_what_is_durable,
                every_record_below_a_checkpoint_is_proven, a_key_is_replaced_by_a_statement_of_both,
                pages_hold_what_is_hashed,
            }
        }
    };
}
pub(crate) use conformance;
