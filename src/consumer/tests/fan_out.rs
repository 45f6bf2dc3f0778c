//! Reading by subscription, seen from the shard consumer.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    all,
    log::Lines,
    rig::{Fault, Rig, Setup, Step, Written, secs},
};
use crate::{
    consumer::{ShardOutcome, ShardPhase},
    error::ErrorKind,
    limits,
    local::model::{ConsumerReference, ListStreamConsumers},
    retrieval::{ByteBudget, fan_out::Config},
    stream::ShardPosition,
    types::{Checkpoint, ShardId},
};

const MIB: u64 = 1024 * 1024;

fn fan_out() -> Setup {
    Setup { fan_out: Some(Config::default()), ..Setup::default() }
}

fn process(steps: impl IntoIterator<Item = Step>) -> Setup {
    Setup { fan_out: Some(Config::default()), ..Setup::process(steps) }
}

pub(super) fn shop(rig: &Rig) -> ConsumerReference {
    ConsumerReference::Name { stream: rig.stream.clone(), name: "shop".to_owned() }
}

/// Never two within a second, which is what the service allows.
fn assert_a_second_apart(rig: &Rig) {
    let opened = rig.opened();
    for pair in opened.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= limits::SUBSCRIBE_CALL_INTERVAL, "{opened:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_processed_as_soon_as_they_are_put() {
    let mut rig = fan_out().start();
    rig.until_processed(10).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.phase(), ShardPhase::Idle);
    let put = Instant::now();
    rig.put_many(5);
    rig.until_processed(15).await;
    assert!(put.elapsed() < Duration::from_millis(5), "{:?}", put.elapsed());
    assert_eq!(rig.processed(), all(15));
    assert_eq!(rig.opened().len(), 1);
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(rig.open_subscriptions(), 0);
    let consumers = rig.kinesis.list_stream_consumers(&ListStreamConsumers::of(rig.stream.clone())).expect("the stream is there");
    assert_eq!(consumers.consumers.len(), 1, "it outlives its workers");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_subscription_is_noticed_by_its_silence_and_continued() {
    let mut rig = fan_out().start();
    rig.until_processed(10).await;
    rig.fault_events([Fault::HalfOpen]);
    let lost = Instant::now();
    rig.put_many(10);
    rig.until_processed(20).await;
    let took = lost.elapsed();
    assert!(took <= Config::default().silence_timeout + Duration::from_millis(10), "{took:?}");
    assert_eq!(rig.processed(), all(20));
    assert_eq!(rig.status.snapshot().failure, None);
    let opened = rig.opened();
    assert!(matches!(opened[..], [_, (_, ShardPosition::AfterSequenceNumber(_))]), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_end_every_three_seconds_leave_no_gap_and_no_storm() {
    let mut rig = Setup { records: 0, ..fan_out() }.start();
    rig.kinesis.configure(|config| config.fan_out.subscription_life = secs(3));
    for _ in 0..600 {
        rig.put_many(1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    rig.until_processed(600).await;
    assert_eq!(rig.processed(), all(600));
    assert_a_second_apart(&rig);
    assert_eq!(rig.status.snapshot().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_neither_silence_nor_a_reason_to_subscribe_again() {
    let budget = ByteBudget::new(2 * MIB);
    let setup = process([Step::Accept, Step::Sleep(secs(60))]);
    let mut rig = Setup { budget: budget.clone(), records: 1, record_bytes: 100 * 1024, ..setup }.start();
    rig.until_processed(1).await;
    // The handler sleeps from here on, while 100 KiB come every second.
    let mut most = 0;
    for _ in 0..60 {
        rig.put(100 * 1024);
        tokio::time::sleep(secs(1)).await;
        most = most.max(budget.used());
    }
    rig.until_processed(61).await;
    assert_eq!(rig.processed(), all(61));
    assert_eq!(rig.opened().len(), 1, "the same subscription goes on");
    assert!(most <= 2 * MIB, "{most} bytes");
    assert_eq!(rig.status.snapshot().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_six_minutes_is_no_trouble() {
    let log = Lines::capture();
    let mut rig = Setup { records: 0, ..process([Step::Accept, Step::Sleep(secs(360))]) }.start();
    for _ in 0..500 {
        rig.put_many(1);
        tokio::time::sleep(secs(1)).await;
    }
    rig.until_processed(500).await;
    assert_eq!((rig.processed(), rig.status.snapshot().failure), (all(500), None));
    let lines = log.lines();
    let [registered, slow] = &lines[..] else { panic!("{lines:?}") };
    assert!(registered.contains("INFO") && registered.contains("registered the stream consumer"), "{registered}");
    assert!(slow.contains("INFO") && slow.contains("processing is slower than the stream"), "{slow}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_has_no_room_for_minutes_is_closed_and_begun_anew_where_it_stopped() {
    let mut rig = Setup { records: 0, ..process([Step::Sleep(secs(600))]) }.start();
    for second in 0..500 {
        rig.put_many(1);
        tokio::time::sleep(secs(1)).await;
        match second {
            0..120 => assert_eq!(rig.open_subscriptions(), 1, "after {second} s"),
            150.. => assert_eq!(rig.open_subscriptions(), 0, "after {second} s"),
            _ => {}
        }
    }
    assert_eq!(rig.opened().len(), 1);
    rig.until_processed(500).await;
    rig.put_many(5);
    rig.until_processed(505).await;
    assert_eq!(rig.processed(), all(505));
    assert_eq!(rig.opened().len(), 2);
    assert_eq!(rig.status.snapshot().failure, None);
}

#[tokio::test(start_paused = true)]
async fn while_the_consumer_is_in_use_it_is_tried_once_a_second_and_said_so() {
    let log = Lines::capture();
    let rig = fan_out().start();
    rig.fail_reads([ErrorKind::ResourceInUse; 6]);
    let started = Instant::now();
    tokio::time::sleep(secs(4)).await;
    let status = rig.status.snapshot();
    assert_eq!((status.phase, status.failure, status.throttled_calls), (ShardPhase::Subscribing, None, 0));
    rig.until_processed(10).await;
    assert!(started.elapsed() < secs(7), "{:?}", started.elapsed());
    assert_eq!(rig.opened().len(), 7);
    assert_a_second_apart(&rig);
    assert!(log.lines().iter().all(|line| line.contains("INFO")), "no warning, no error: {:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deregistered_under_way_is_registered_again_and_reading_goes_on() {
    let mut rig = fan_out().start();
    rig.kinesis.configure(|config| config.delays.consumer = secs(5));
    rig.until_processed(10).await;
    tokio::time::sleep(secs(60)).await;
    let before = rig.kinesis.describe_stream_consumer(&shop(&rig)).expect("registered").arn;
    rig.kinesis.deregister_stream_consumer(&shop(&rig)).expect("registered");
    rig.put_many(5);
    let gone = Instant::now();
    rig.until_processed(15).await;
    // Five seconds to be deleted, and as many to be made.
    assert!((secs(10)..secs(14)).contains(&gone.elapsed()), "{:?}", gone.elapsed());
    assert_ne!(rig.kinesis.describe_stream_consumer(&shop(&rig)).expect("registered again").arn, before);
    assert_eq!(rig.processed(), all(15));
    assert_eq!(rig.status.snapshot().failure, None);
    assert_a_second_apart(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_successor_reads_within_six_seconds_and_repeats_nothing() {
    // Whatever the age of the subscription when the shard moves.
    for age_millis in [0, 1, 1500, 4900, 5000, 60_000] {
        let mut old = fan_out().start();
        old.until_processed(10).await;
        tokio::time::sleep(Duration::from_millis(age_millis)).await;
        old.hand_over();
        assert!(matches!(old.outcome().await, ShardOutcome::Surrendered));
        let stopped = Instant::now();
        old.put_many(5);
        let setup = Setup { checkpoint: old.position(9), ..fan_out() };
        let new = setup.start_on(old.kinesis.clone(), std::sync::Arc::clone(&old.clock));
        new.until_processed(5).await;
        assert!(stopped.elapsed() < secs(6), "{:?} after a subscription of {age_millis} ms", stopped.elapsed());
        assert_eq!(new.processed(), [10, 11, 12, 13, 14]);
        assert_a_second_apart(&new);
        assert_eq!(new.status.snapshot().failure, None);
    }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_renewed_before_their_end_without_gap_repeat_or_delay() {
    let mut rig = Setup { records: 0, ..fan_out() }.start();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for n in 1..=3000 {
        let put = Instant::now();
        rig.put_many(1);
        rig.until_processed(n).await;
        slowest = slowest.max(put.elapsed());
        tokio::time::sleep_until(put + Duration::from_millis(500)).await;
    }
    assert_eq!(rig.processed(), all(3000));
    assert!(slowest < Duration::from_millis(5), "{slowest:?}");
    let opened = rig.opened();
    assert!((6..=7).contains(&opened.len()), "{} subscriptions in 25 minutes", opened.len());
    for (at, _) in &opened[1..] {
        assert!(*at > start + secs(240));
    }
    assert!(opened.windows(2).all(|w| w[1].0 - w[0].0 < limits::SUBSCRIPTION_TTL));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_renewed_before_its_end_while_processing_is_slower_than_the_stream() {
    let config = Config { max_buffered_events: 1, ..Config::default() };
    let setup = Setup { fan_out: Some(config), ..Setup::process([Step::Sleep(secs(90)); 20]) };
    let mut rig = Setup { records: 0, ..setup }.start();
    for _ in 0..1200 {
        rig.put_many(1);
        tokio::time::sleep(secs(1)).await;
    }
    rig.until_processed(1200).await;
    assert_eq!((rig.processed(), rig.status.snapshot().failure), (all(1200), None));
    let opened = rig.opened();
    assert!(opened.len() >= 5, "{} subscriptions in twenty minutes", opened.len());
    assert!(opened.windows(2).all(|w| w[1].0 - w[0].0 < limits::SUBSCRIPTION_TTL), "{opened:?}");
    assert_a_second_apart(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_refused_leaves_the_old_subscription_alone() {
    let mut rig = fan_out().start();
    rig.until_processed(10).await;
    tokio::time::sleep(secs(200)).await;
    // Longer than the old one lives.
    rig.fail_reads([ErrorKind::AccessDenied, ErrorKind::Timeout, ErrorKind::ResourceInUse, ErrorKind::NotFound]);
    let mut n = 10;
    while Instant::now() < rig.opened()[0].0 + secs(600) {
        n += 1;
        rig.put_many(1);
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(rig.processed(), all(n));
    assert_eq!(rig.status.snapshot().failure, None);
    assert_a_second_apart(&rig);
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_a_subscription_it_goes_on_from_the_continuation_number() {
    let kinds = [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Throttled,
        ErrorKind::ResourceInUse,
        ErrorKind::LimitExceeded,
        ErrorKind::NotFound,
        ErrorKind::AccessDenied,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidData,
        ErrorKind::Internal,
    ];
    let mut rig = Setup { records: 0, ..fan_out() }.start();
    tokio::time::sleep(secs(1)).await;
    for (i, kind) in kinds.into_iter().enumerate() {
        rig.put_many(3);
        rig.until_processed(3 * i + 3).await;
        tokio::time::sleep(secs(20)).await;
        rig.fault_events([Fault::Broken(kind)]);
        tokio::time::sleep(secs(10)).await;
        assert_eq!(rig.opened().len(), i + 2, "{kind:?}");
    }
    rig.fault_events([Fault::Ended]);
    rig.put_many(3);
    rig.until_processed(33).await;
    assert_eq!(rig.processed(), all(33));
    assert_eq!(rig.status.snapshot().failure, None, "none of them was confirmed");
    // While the shard is idle, the continuation number moves on beyond its last record.
    let last = rig.opened().last().expect("some").1;
    let ShardPosition::AfterSequenceNumber(last) = last else { panic!("{last:?}") };
    assert!(Checkpoint::from(crate::types::ExtendedSequenceNumber::new(last, 0)) != rig.position(29));
}

#[tokio::test(start_paused = true)]
async fn trouble_that_stays_is_reported_once_tried_on_and_recovered_from() {
    let mut rig = fan_out().start();
    rig.fail_reads([ErrorKind::AccessDenied; 8]);
    tokio::time::sleep(secs(60)).await;
    let status = rig.status.snapshot();
    assert!(matches!(status.phase, ShardPhase::Blocked { .. }), "{status:?}");
    let failure = status.failure.expect("reported");
    for part in ["shardId-000000000000", "clicks", "us-east-1", "shop", "kinesis:SubscribeToShard", "as told"] {
        assert!(failure.contains(part), "{part} is missing: {failure}");
    }
    assert_eq!(rig.written(), [], "the lease is kept");
    rig.until_processed(10).await;
    assert_eq!(rig.status.snapshot().failure, None);
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_gone_is_never_taken_for_the_end_of_a_shard() {
    let mut rig = fan_out().start();
    rig.until_processed(10).await;
    rig.kinesis.delete_stream_with_consumers(&rig.stream).expect("an active stream");
    tokio::time::sleep(secs(600)).await;
    assert!(!rig.log.names().contains(&"shard_ended"));
    assert!(rig.status.snapshot().failure.is_some_and(|failure| failure.contains("was not deleted")));
    rig.hand_over();
    let ShardOutcome::Failed(error) = rig.outcome().await else { panic!("it could not be read") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_comes_after_its_records_and_names_its_children() {
    let mut rig = Setup { records: 2000, record_bytes: 2000, ..process([Step::Sleep(secs(30))]) }.start();
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
    assert_eq!(rig.processed(), all(2000));
    assert_eq!(rig.written().last(), Some(&Written::Ended(vec![ShardId::from_index(1), ShardId::from_index(2)])));
}

#[tokio::test(start_paused = true)]
async fn an_end_without_children_is_asked_again_before_it_is_believed() {
    let mut rig = fan_out().start();
    rig.fault_events([Fault::CutOff]);
    rig.until_processed(10).await;
    rig.put_many(5);
    rig.until_processed(15).await;
    assert_eq!(rig.processed(), all(15));
    rig.fault_events([Fault::CutOff, Fault::CutOff]);
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended), "twice is an end: children can be past retention");
}

#[tokio::test(start_paused = true)]
async fn a_moment_to_start_at_stays_the_same_until_an_event_came() {
    let mut rig = Setup { records: 0, checkpoint: Checkpoint::Latest, ..fan_out() }.start();
    rig.fault_events([Fault::Broken(ErrorKind::Unavailable), Fault::HalfOpen]);
    rig.put_many(3);
    rig.until_processed(3).await;
    let opened = rig.opened();
    assert!(opened.len() >= 3, "two were lost before an event came");
    assert!(opened.iter().all(|(_, position)| *position == opened[0].1 && matches!(position, ShardPosition::AtTimestamp(_))));
    assert_eq!(rig.processed(), all(3));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_an_event_is_delivered_while_others_use_up_the_budget() {
    for closed in [false, true] {
        let budget = ByteBudget::new(2 * MIB);
        let config = Config { max_records: 10, max_buffered_events: 1, ..Config::default() };
        let setup = Setup { fan_out: Some(config), ..Setup::process([Step::Sleep(secs(300))]) };
        let mut rig = Setup { budget: budget.clone(), records: 200, ..setup }.start();
        if closed {
            rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
        }
        tokio::time::sleep(secs(200)).await;
        assert_eq!(rig.open_subscriptions(), 0, "closed until there is room");
        let neighbour = budget.shard();
        let mut held = neighbour.reserve(MIB, 1).await;
        held.resize(3 * MIB);
        rig.until_processed(200).await;
        if closed {
            assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
            assert_eq!(rig.opened().len(), 1, "its end came with the event");
        } else {
            tokio::time::sleep(secs(1)).await;
            assert_eq!(rig.phase(), ShardPhase::WaitingForMemory);
            drop(held);
            rig.put_many(1);
            rig.until_processed(201).await;
            assert_eq!(rig.processed(), all(201));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_odd_refusal_of_the_start_skips_nothing() {
    let mut rig = Setup { records: 0, checkpoint: Checkpoint::Latest, ..fan_out() }.start();
    rig.put_many(3);
    rig.fail_reads([ErrorKind::InvalidInput]);
    rig.until_processed(3).await;
    assert_eq!(rig.processed(), all(3));
    assert!(rig.opened().iter().all(|(_, position)| matches!(position, ShardPosition::AtTimestamp(_))), "{:?}", rig.opened());
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_whose_trouble_is_over_has_no_failure() {
    for fan_out in [None, Some(Config::default())] {
        let mut rig = Setup { records: 0, fan_out, ..Setup::default() }.start();
        tokio::time::sleep(secs(10)).await;
        rig.fail_reads([ErrorKind::AccessDenied; 8]);
        // A subscription that goes on does not meet it.
        rig.fault_events([Fault::Broken(ErrorKind::AccessDenied)]);
        tokio::time::sleep(secs(45)).await;
        assert!(rig.status.snapshot().failure.is_some(), "{:?}", rig.status.snapshot());
        tokio::time::sleep(secs(300)).await;
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.failure), (ShardPhase::Idle, None));
        rig.hand_over();
        assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_read_for_minutes_says_why() {
    let rig = fan_out().start();
    rig.kinesis.configure(|config| config.delays.consumer = secs(300));
    tokio::time::sleep(secs(60)).await;
    let phase = rig.phase();
    assert!(
        matches!(&phase, ShardPhase::Blocked { reason } if reason.contains("shop") && reason.contains("being registered")),
        "{phase:?}"
    );
    rig.until_processed(10).await;

    let rig = fan_out().start();
    rig.fail_reads([ErrorKind::ResourceInUse; 300]);
    tokio::time::sleep(secs(50)).await;
    assert_eq!(rig.phase(), ShardPhase::Subscribing, "as after a hand-over");
    tokio::time::sleep(secs(20)).await;
    assert!(matches!(rig.phase(), ShardPhase::Blocked { .. }), "{:?}", rig.phase());
    rig.until_processed(10).await;
    let status = rig.status.snapshot();
    assert_eq!((status.failure, status.replaced_subscriptions), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_others_take_over_on_and_on_are_counted() {
    let mut rig = fan_out().start();
    for n in 1..=4 {
        tokio::time::sleep(secs(20)).await;
        rig.fault_events([Fault::Broken(ErrorKind::ResourceInUse)]);
        tokio::time::sleep(secs(10)).await;
        assert_eq!(rig.status.snapshot().replaced_subscriptions, n);
    }
    rig.put_many(5);
    rig.until_processed(15).await;
    assert_eq!(rig.processed(), all(15));
}
