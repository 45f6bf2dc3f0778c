//! Cases that every [`StreamClient`](super::StreamClient) passes, and every wrapper of one.
//!
//! A case makes a stream of its own through a [`StreamControl`], calls the client, and panics where the stream breaks its
//! contract. The cases of [`CASES`] take real time or virtual time, whichever the caller's runtime has; those of
//! [`LONG_CASES`] wait for minutes and days, so they need a runtime whose time is paused and a stream on the same clock.
//! Limits may be enforced or not: the cases slow down when told to, as any client must.
//!
//! ```
//! # async fn example() {
//! use std::sync::Arc;
//! use shardkeeper::clock::TokioClock;
//! use shardkeeper::local::{Config, LocalKinesis};
//! use shardkeeper::random::Randomness;
//! use shardkeeper::stream::conformance::{CASES, Suite};
//! use shardkeeper::types::Timestamp;
//!
//! let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
//! let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
//! Suite::new(&kinesis, &kinesis, "docs").run(CASES).await;
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(example());
//! ```

mod fan_out;
mod harness;
mod lifetimes;
mod listing;
mod reading;
mod resharding;

pub use harness::{Case, PutReceipt, PutRequest, StreamControl, Suite};

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$(Case { name: stringify!($name), run: |suite| Box::pin($module::$name(suite)) }),*]
    };
}

/// Cases in any kind of time; none waits for more than some twenty seconds, unless writes are throttled.
pub const CASES: &[Case] = cases![
    listing::a_stream_is_described,
    listing::a_missing_stream_is_not_found,
    listing::a_stream_is_found_by_its_arn,
    listing::a_recreated_stream_has_another_creation_time,
    listing::shards_cover_every_hash_key_once,
    listing::shards_are_listed_after_an_id,
    listing::shards_are_listed_by_the_moment_they_were_open,
    listing::shards_are_listed_at_both_ends_of_time,
    listing::a_page_token_of_nonsense_is_refused,
    reading::records_come_back_as_they_were_put,
    reading::a_record_goes_where_its_key_says,
    reading::sequence_numbers_grow_within_a_shard,
    reading::reading_from_the_trim_horizon_returns_everything,
    reading::reading_from_latest_returns_only_what_follows,
    reading::reading_at_a_sequence_number_includes_it,
    reading::reading_after_a_sequence_number_excludes_it,
    reading::reading_at_a_moment_begins_there,
    reading::pages_join_without_gap_or_repeat,
    reading::an_iterator_can_be_used_again,
    reading::an_empty_shard_goes_on,
    reading::an_iterator_of_nonsense_is_refused,
    reading::a_limit_out_of_range_is_refused,
    reading::a_sequence_number_of_another_shard_is_refused,
    reading::a_missing_shard_is_not_found,
    reading::lag_is_positive_behind_the_tip_and_zero_at_it,
    reading::an_answer_is_at_most_10_mib,
    reading::calls_beyond_the_rate_are_throttled,
    resharding::a_split_closes_the_parent_and_makes_two_children,
    resharding::a_merge_closes_both_parents_and_makes_one_child,
    resharding::the_end_of_a_split_shard_names_its_children,
    resharding::the_end_of_a_merged_shard_names_both_parents_of_the_child,
    resharding::children_take_what_follows_a_split,
    resharding::a_closed_shard_can_be_read_from_anywhere,
    resharding::nothing_is_lost_or_repeated_through_resharding,
    resharding::a_new_shard_count_leaves_a_full_cover,
    resharding::a_closed_shard_is_not_split_again,
    resharding::only_neighbours_are_merged,
    resharding::a_split_outside_the_shard_is_refused,
    fan_out::a_consumer_is_registered_described_and_deregistered,
    fan_out::a_subscription_delivers_what_was_put_and_what_is,
    fan_out::an_idle_subscription_says_that_it_is_at_the_tip,
    fan_out::subscriptions_begin_where_they_are_told,
    fan_out::subscriptions_join_at_the_continuation_number,
    fan_out::a_second_subscription_is_refused_at_first_and_takes_over_later,
    fan_out::the_end_of_a_shard_ends_its_subscription_and_names_the_children,
    fan_out::a_consumer_that_is_gone_ends_its_subscriptions,
];

/// Cases that wait for minutes and days: for a stream in this process under paused time.
pub const LONG_CASES: &[Case] = cases![
    lifetimes::an_iterator_expires_after_five_minutes,
    lifetimes::many_shards_come_in_pages_and_their_tokens_expire,
    lifetimes::records_leave_after_retention,
    lifetimes::a_longer_retention_keeps_records,
    lifetimes::a_position_that_was_trimmed_goes_on_at_the_oldest_record,
    lifetimes::closed_shards_leave_after_retention,
    lifetimes::a_child_outlives_its_parents,
    fan_out::a_subscription_lasts_five_minutes,
];
