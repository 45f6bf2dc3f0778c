//! Reading, seen from the shard consumer.

use std::sync::PoisonError;

use super::{
    all,
    log::Lines,
    rig::{Setup, Step, Written, secs},
};
use crate::{
    consumer::{ShardOutcome, ShardPhase},
    error::ErrorKind,
    lease::Lease,
    retrieval::{ByteBudget, fan_out, polling},
    stream::ShardPosition,
    types::{Checkpoint, ShardId, Timestamp},
};

const MIB: u64 = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_an_iterator_lives_loses_and_repeats_nothing() {
    let log = Lines::capture();
    let polling = polling::Config { max_records: 5, ..polling::Config::default() };
    let steps = [Step::Accept, Step::Sleep(secs(360)), Step::Sleep(secs(360))];
    let mut rig = Setup { polling, records: 100, ..Setup::process(steps) }.start();
    rig.until_processed(100).await;
    assert_eq!(rig.processed(), all(100));
    let opened = rig.opened();
    assert_eq!(opened.len(), 3, "both iterators expired");
    assert!(matches!(opened[1].1, ShardPosition::AfterSequenceNumber(_)));
    assert_eq!(rig.status.snapshot().expired_iterators, 2);
    let lines = log.lines();
    let [line] = &lines[..] else { panic!("one line, and no more: {lines:?}") };
    for part in ["INFO", "an iterator has expired", "age=359", "processing was slower"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    rig.hand_over();
    rig.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_expires_for_want_of_memory_says_so() {
    let log = Lines::capture();
    let setup = Setup::process([Step::Accept, Step::Sleep(secs(360))]);
    let rig = Setup { budget: ByteBudget::new(100_000), records: 30, record_bytes: 50_000, ..setup }.start();
    rig.until_processed(30).await;
    let lines = log.lines();
    let [line] = &lines[..] else { panic!("one line, and no more: {lines:?}") };
    assert!(line.contains("max_buffered_bytes was used up"), "{line}");
    assert_eq!((rig.processed(), rig.status.snapshot().expired_iterators), (all(30), 1));
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_start_without_records_is_opened_again_at_the_same_moment() {
    let mut rig = Setup { records: 0, checkpoint: Checkpoint::Latest, ..Setup::default() }.start();
    tokio::time::sleep(secs(1)).await;
    rig.fail_reads([ErrorKind::ExpiredIterator]);
    tokio::time::sleep(secs(60)).await;
    rig.put_many(3);
    rig.fail_reads([ErrorKind::ExpiredIterator]);
    rig.until_processed(3).await;
    let opened = rig.client.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(opened.len(), 3);
    assert!(opened.iter().all(|(_, position)| *position == opened[0].1 && matches!(position, ShardPosition::AtTimestamp(_))));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_shard_is_read_at_its_full_rate_without_a_throttle() {
    // 40 MiB behind: 20 s at 2 MiB/s.
    let rig = Setup { records: 400, record_bytes: 100 * 1024, ..Setup::default() }.start();
    let start = tokio::time::Instant::now();
    rig.until_processed(400).await;
    let (took, least) = (start.elapsed().as_secs_f64(), 400.0 * 100.0 / 2048.0 - 1.0);
    assert!((least..least * 1.08).contains(&took), "{took} s instead of {least}");
    assert_eq!(rig.status.snapshot().throttled_calls, 0);
    assert_eq!(rig.processed(), all(400));
}

#[tokio::test(start_paused = true)]
async fn throttled_iterators_do_not_slow_reading_down() {
    let rig = Setup { records: 400, record_bytes: 100 * 1024, ..Setup::default() }.start();
    rig.client.refused_iterators.lock().unwrap_or_else(PoisonError::into_inner).extend([ErrorKind::Throttled; 4]);
    let start = tokio::time::Instant::now();
    rig.until_processed(400).await;
    let took = start.elapsed();
    // 40 MiB at 2 MiB/s, and the waits of a tenth of a second, two, four and eight.
    assert!(took < secs(24), "{took:?}");
    assert_eq!(rig.opened().len(), 5);
    assert_eq!(rig.status.snapshot().throttled_calls, 4);
}

#[tokio::test(start_paused = true)]
async fn a_network_on_which_only_small_answers_come_through_is_read_by_small_answers() {
    for passable in [1, 7] {
        let rig = Setup { records: 30, record_bytes: 10_000, ..Setup::default() }.start();
        *rig.client.passable.lock().unwrap_or_else(PoisonError::into_inner) = Some(passable);
        let start = tokio::time::Instant::now();
        rig.until_processed(30).await;
        assert!(start.elapsed() < secs(900), "{passable}: {:?}", start.elapsed());
        *rig.client.passable.lock().unwrap_or_else(PoisonError::into_inner) = None;
        assert_eq!((rig.processed(), rig.status.snapshot().failure), (all(30), None));
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_is_counted_and_shown_but_is_no_error() {
    let rig = Setup::default().start();
    rig.until_processed(10).await;
    rig.fail_reads([ErrorKind::Throttled; 25]);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(rig.phase(), ShardPhase::Throttled);
    tokio::time::sleep(secs(60)).await;
    let status = rig.status.snapshot();
    assert_eq!((status.phase, status.throttled_calls, status.failure), (ShardPhase::Idle, 25, None));
}

#[tokio::test(start_paused = true)]
async fn trouble_that_passes_is_no_failure_whatever_its_kind() {
    let mut rig = Setup::default().start();
    rig.fail_reads([ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::NotFound, ErrorKind::NotFound, ErrorKind::NotFound]);
    rig.until_processed(10).await;
    assert_eq!(rig.status.snapshot().failure, None);
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(rig.processed(), all(10));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_be_read_says_so_keeps_trying_and_recovers() {
    let mut rig = Setup::default().start();
    rig.fail_reads([ErrorKind::AccessDenied; 12]);
    tokio::time::sleep(secs(60)).await;
    let status = rig.status.snapshot();
    assert!(matches!(status.phase, ShardPhase::Blocked { .. }), "{status:?}");
    let failure = status.failure.expect("reported");
    for part in ["shardId-000000000000", "clicks", "us-east-1", "kinesis:GetRecords", "as told"] {
        assert!(failure.contains(part), "{part} is missing: {failure}");
    }
    assert_eq!(rig.written(), [], "the lease is kept");
    rig.until_processed(10).await;
    assert_eq!(rig.status.snapshot().failure, None);
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_is_called_again_after_the_last_record_delivered() {
    let mut rig = Setup::default().start();
    rig.until_processed(10).await;
    rig.fail_reads([ErrorKind::Internal]);
    tokio::time::sleep(secs(5)).await;
    rig.put_many(10);
    rig.fail_reads([ErrorKind::Internal, ErrorKind::Internal]);
    rig.until_processed(20).await;
    assert_eq!(rig.processed(), all(20));
    assert_eq!(rig.status.snapshot().failure, None, "it has passed");
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_on_and_on_is_called_ever_less_often_and_the_status_says_so() {
    for fan_out in [None, Some(fan_out::Config::default())] {
        let mut rig = Setup { fan_out, records: 0, ..Setup::default() }.start();
        rig.fail_reads([ErrorKind::Internal; 30]);
        rig.put_many(10);
        tokio::time::sleep(secs(300)).await;
        let opened = rig.opened().len();
        assert!((5..=25).contains(&opened), "{opened} attempts in five minutes");
        let status = rig.status.snapshot();
        assert!(matches!(&status.phase, ShardPhase::Blocked { reason } if reason.contains("as told")), "{status:?}");
        assert!(status.interrupted_reads >= 5 && status.failure.is_some(), "{status:?}");
        rig.until_processed(10).await;
        assert_eq!((rig.processed(), rig.status.snapshot().failure), (all(10), None));
        rig.hand_over();
        assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_say_where_to_start_says_so_and_is_read_when_it_is_mended() {
    let mut rig = Setup { no_start: true, checkpoint: Checkpoint::AtTimestamp, ..Setup::default() }.start();
    tokio::time::sleep(secs(3600)).await;
    let status = rig.status.snapshot();
    assert!(matches!(&status.phase, ShardPhase::Blocked { reason } if reason.contains("does not say which")), "{status:?}");
    assert!(status.failure.is_some_and(|failure| failure.contains("shardId-000000000000")));
    rig.mend_row(Lease { start_at: Some(Timestamp::from_millis(0)), ..rig.lease.clone() });
    let mended = tokio::time::Instant::now();
    rig.until_processed(10).await;
    assert!(mended.elapsed() < secs(40), "{:?}", mended.elapsed());
    let status = rig.status.snapshot();
    assert_eq!((rig.processed(), status.failure), (all(10), None));
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));

    let mut rig = Setup { no_start: true, checkpoint: Checkpoint::AtTimestamp, ..Setup::default() }.start();
    tokio::time::sleep(secs(100)).await;
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Failed(_)));
    assert_eq!(rig.log.names(), ["initialize", "shutdown_requested"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_gone_is_never_taken_for_the_end_of_a_shard() {
    let mut rig = Setup::default().start();
    rig.until_processed(10).await;
    rig.kinesis.delete_stream(&rig.stream).expect("an active stream");
    tokio::time::sleep(secs(600)).await;
    assert!(!rig.log.names().contains(&"shard_ended"));
    rig.hand_over();
    let ShardOutcome::Failed(error) = rig.outcome().await else { panic!("it could not be read") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(9)))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_iterator_and_children_is_asked_again_before_it_is_believed() {
    let mut rig = Setup::default().start();
    *rig.client.cut_off.lock().unwrap_or_else(PoisonError::into_inner) = 1;
    rig.until_processed(10).await;
    rig.put_many(5);
    rig.until_processed(15).await;
    assert_eq!(rig.processed(), all(15));
    *rig.client.cut_off.lock().unwrap_or_else(PoisonError::into_inner) = 2;
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended), "twice is an end: children can be past retention");
}

#[tokio::test(start_paused = true)]
async fn the_last_records_of_a_closed_shard_come_before_its_end() {
    let mut rig = Setup { records: 2000, ..Setup::process([Step::Sleep(secs(30))]) }.start();
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
    assert_eq!(rig.processed(), all(2000));
}

#[tokio::test(start_paused = true)]
async fn fetched_records_stay_within_the_byte_budget_and_a_record_larger_than_it_passes() {
    let budget = ByteBudget::new(2 * MIB);
    let steps = [Step::Sleep(secs(10)); 30];
    let rig = Setup { budget: budget.clone(), records: 60, record_bytes: 200 * 1024, ..Setup::process(steps) }.start();
    // The first answer is of a size that nobody could know.
    rig.until_processed(1).await;
    let mut most = 0;
    while rig.processed().len() < 60 {
        tokio::time::sleep(secs(1)).await;
        most = most.max(budget.used());
    }
    assert!((MIB..=2 * MIB + 512 * 1024).contains(&most), "{most} bytes");

    let budget = ByteBudget::new(100_000);
    let rig = Setup { budget: budget.clone(), records: 5, record_bytes: 900 * 1024, ..Setup::default() }.start();
    rig.until_processed(5).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!(budget.used(), 0, "all of it is given back");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_polled_seldom_is_idle_in_between() {
    let idle_interval = secs(120);
    let polling = polling::Config { idle_interval, ..polling::Config::default() };
    let rig = Setup { polling, ..Setup::default() }.start();
    rig.until_processed(10).await;
    tokio::time::sleep(secs(60)).await;
    for _ in 0..60 {
        tokio::time::sleep(secs(7)).await;
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.millis_behind_latest), (ShardPhase::Idle, Some(0)));
    }
}
