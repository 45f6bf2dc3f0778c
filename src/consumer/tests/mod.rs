mod automatic;
mod deliveries;
mod fan_out;
mod lines;
mod log;
mod reading;
mod rig;
mod stalls;

use rig::{Rig, Scripts, Setup, Step, Written, script, secs};
use tokio::time::Instant;

use crate::{
    consumer::{Config, ShardOutcome, ShardPhase},
    error::ErrorKind,
    retry::RetryConfig,
    testing::What,
    types::{Checkpoint, ShardId},
};

fn all(n: u32) -> Vec<u32> {
    (0..n).collect()
}

fn attempts(rig: &Rig) -> Vec<u32> {
    let calls = rig.log.calls();
    calls.iter().filter_map(|c| if let What::ProcessRecords { attempt, .. } = c.what { Some(attempt) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn records_are_delivered_in_order_and_the_last_checkpoint_goes_with_the_lease() {
    let mut rig = Setup { records: 500, ..Setup::default() }.start();
    rig.until_processed(500).await;
    rig.put_many(20);
    rig.until_processed(520).await;
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(rig.processed(), all(520));
    assert_eq!(rig.log.names().first(), Some(&"initialize"));
    assert_eq!(rig.log.names().last(), Some(&"shutdown_requested"));
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(519)))));
    let status = rig.status.snapshot();
    assert_eq!((status.phase, status.records, status.failure), (ShardPhase::Finished, 520, None));
    assert!(rig.tenure.take_bytes() > 520);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_written_beside_processing_once_per_interval_and_only_with_progress() {
    let mut rig = Setup::default().start();
    rig.slow_writes(secs(2));
    let start = Instant::now();
    for _ in 0..60 {
        rig.put_many(1);
        tokio::time::sleep(secs(1)).await;
    }
    assert!(rig.processed().len() >= 69, "slow writes hold nothing up");
    tokio::time::sleep(secs(600)).await;
    let written = rig.written_at();
    assert!((11..=13).contains(&written.len()), "{} writes in a minute of progress", written.len());
    assert!(written.windows(2).all(|w| w[1] - w[0] >= secs(5)));
    assert!(written[0] - start <= secs(5) + secs(2));
    assert_eq!(rig.written().last(), Some(&Written::Checkpoint(rig.position(69))));
    assert_eq!(rig.status.snapshot().checkpoint, rig.position(69).to_string());
    assert_eq!(rig.phase(), ShardPhase::Idle);
    rig.hand_over();
    rig.outcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_cannot_be_written_is_tried_again_an_interval_later() {
    let rig = Setup::default().start();
    rig.fail_writes([ErrorKind::Unavailable, ErrorKind::Timeout]);
    rig.until_processed(10).await;
    tokio::time::sleep(secs(9)).await;
    assert_eq!(rig.written(), []);
    tokio::time::sleep(secs(7)).await;
    assert_eq!(rig.written(), [Written::Checkpoint(rig.position(9))]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_or_panics_is_delivered_again_and_nothing_is_skipped() {
    let mut rig = Setup::process([Step::Fail, Step::Panic, Step::Fail]).start();
    rig.until_processed(10).await;
    assert_eq!(attempts(&rig), [1, 2, 3, 4]);
    let batches: Vec<usize> = rig
        .log
        .calls()
        .iter()
        .filter_map(|c| if let What::ProcessRecords { records, .. } = &c.what { Some(records.len()) } else { None })
        .collect();
    assert!(batches.iter().all(|n| *n == batches[0]), "the same batch");
    rig.hand_over();
    rig.outcome().await;
    assert_eq!(rig.processed(), all(10));
    assert_eq!(rig.status.snapshot().failed_calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_poison_batch_stops_the_shard_which_keeps_its_lease_until_told_to_stop() {
    let mut rig = Setup { records: 3, ..Setup::process([Step::Accept].into_iter().chain([Step::Fail; 10])) }.start();
    rig.until_processed(3).await;
    rig.put_many(5);
    tokio::time::sleep(secs(7200)).await;
    rig.put_many(5);
    tokio::time::sleep(secs(7200)).await;
    assert_eq!(attempts(&rig)[1..], (1..=10).collect::<Vec<_>>());
    assert_eq!(rig.processed(), all(3), "nothing behind the poison is delivered");
    assert_eq!(rig.written(), [Written::Checkpoint(rig.position(2))], "what was done before is check-pointed, the lease is kept");
    let status = rig.status.snapshot();
    assert!(matches!(&status.phase, ShardPhase::Stopped { reason } if reason.contains("the database is down")), "{status:?}");
    assert!(status.failure.expect("reported when it happens").contains("failed 10 times"));
    rig.hand_over();
    let ShardOutcome::Failed(error) = rig.outcome().await else { panic!("the failure is the outcome") };
    assert_eq!(error.kind(), ErrorKind::Processor);
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(2)))));
    assert_eq!(rig.log.names().last(), Some(&"shutdown_requested"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_batch_in_hand_finish_and_nothing_is_processed_after_it() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let mut rig = Setup { polling, records: 40, ..Setup::process([Step::Accept, Step::Sleep(secs(20))]) }.start();
    rig.until_called("process_records", 2).await;
    tokio::time::sleep(secs(5)).await;
    let stopped = Instant::now();
    rig.hand_over();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.phase(), ShardPhase::Draining);
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(stopped.elapsed(), secs(15));
    assert_eq!(rig.processed(), all(10), "the batch in hand, and none of those fetched ahead");
    assert_eq!(rig.log.names(), ["initialize", "process_records", "process_records", "shutdown_requested"]);
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(9)))));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_finish_in_the_drain_is_left_to_the_next_owner() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let mut rig = Setup { polling, ..Setup::process([Step::Accept, Step::Hang]) }.start();
    rig.until_called("process_records", 2).await;
    let stopped = Instant::now();
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(stopped.elapsed(), Config::default().drain_timeout);
    assert_eq!(rig.log.names(), ["initialize", "process_records", "process_records", "lease_lost"]);
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(4)))));
}

#[tokio::test(start_paused = true)]
async fn a_stop_interrupts_the_wait_for_another_attempt() {
    let retry = RetryConfig { max_attempts: None, min_delay: secs(1000), max_delay: secs(1000) };
    let config = Config { processor_retry: retry, ..Config::default() };
    let mut rig = Setup { config, ..Setup::process([Step::Fail]) }.start();
    rig.until_called("process_records", 1).await;
    tokio::time::sleep(secs(1)).await;
    assert!(matches!(rig.phase(), ShardPhase::Retrying { attempts: 1, .. }));
    let stopped = Instant::now();
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert!(stopped.elapsed() < secs(1));
    assert_eq!(rig.written(), [Written::Surrendered(Some(Checkpoint::TrimHorizon))]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_waits_for_its_parents_can_be_stopped_without_any_call_and_starts_when_they_are_done() {
    let mut rig = Setup { parents: true, ..Setup::default() }.start();
    tokio::time::sleep(secs(60)).await;
    assert!(matches!(rig.phase(), ShardPhase::WaitingForParents { .. }));
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert!(rig.log.names().is_empty());

    let rig = Setup { parents: true, ..Setup::default() }.start();
    tokio::time::sleep(secs(60)).await;
    rig.finish_parents();
    tokio::time::sleep(secs(3)).await;
    assert_eq!(rig.processed(), all(10));
}

#[tokio::test(start_paused = true)]
async fn when_the_lease_is_lost_the_call_is_told_and_its_result_does_not_count() {
    let mut rig = Setup::process([Step::UntilCancelled]).start();
    rig.until_called("process_records", 1).await;
    rig.tenure.lost.cancel();
    assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
    assert_eq!(rig.log.names(), ["initialize", "process_records", "lease_lost"]);
    assert_eq!(rig.written(), []);
    assert_eq!(rig.status.snapshot().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ignores_the_loss_of_its_lease_is_dropped() {
    let mut rig = Setup::process([Step::Hang]).start();
    rig.until_called("process_records", 1).await;
    let lost = Instant::now();
    rig.tenure.lost.cancel();
    assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
    assert_eq!(lost.elapsed(), Config::default().lease_lost_timeout);
    assert_eq!(rig.log.names(), ["initialize", "process_records", "lease_lost"]);
}

fn limited(seconds: u64) -> Config {
    Config { handler_timeout: Some(secs(seconds)), ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_than_it_may_is_told_then_dropped_and_its_lease_released() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let mut rig = Setup { polling, config: limited(60), ..Setup::process([Step::Accept, Step::Hang]) }.start();
    rig.until_called("process_records", 2).await;
    let called = Instant::now();
    tokio::time::sleep(secs(59)).await;
    assert!(!rig.status.snapshot().overdue);
    tokio::time::sleep(secs(5)).await;
    let status = rig.status.snapshot();
    assert!(status.overdue && status.why.contains("may take 60s"), "{status:?}");
    let ShardOutcome::Failed(error) = rig.outcome().await else { panic!("it is reported") };
    assert_eq!(called.elapsed(), secs(60) + Config::default().lease_lost_timeout);
    assert_eq!(error.kind(), ErrorKind::Processor);
    assert!(error.message().contains("took longer than consumer.handler_timeout"), "{error}");
    assert_eq!(rig.log.names(), ["initialize", "process_records", "process_records", "lease_lost"]);
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(4)))), "and nothing of the batch in hand");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_returns_when_it_is_told_that_it_takes_too_long_is_as_good_as_any() {
    let mut rig = Setup { config: limited(60), ..Setup::process([Step::UntilCancelled, Step::Sleep(secs(50))]) }.start();
    rig.until_processed(10).await;
    rig.put_many(5);
    rig.until_processed(15).await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!((rig.phase(), rig.status.snapshot().failure), (ShardPhase::Idle, None));
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
}

#[tokio::test(start_paused = true)]
async fn the_first_and_the_last_call_have_the_time_limit_too() {
    let scripts = Scripts { initialize: script([Step::Hang]), ..Scripts::default() };
    let mut rig = Setup { scripts, config: limited(60), ..Setup::default() }.start();
    assert!(matches!(rig.outcome().await, ShardOutcome::Failed(error) if error.message().contains("initialize")));
    let scripts = Scripts { shard_ended: script([Step::Hang]), ..Scripts::default() };
    let mut rig = Setup { scripts, config: limited(60), ..Setup::default() }.start();
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    assert!(matches!(rig.outcome().await, ShardOutcome::Failed(error) if error.message().contains("shard_ended")));
    assert!(!rig.written().iter().any(|w| matches!(w, Written::Ended(_))), "the shard is not done");
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(9)))));
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_the_midst_of_a_drain_ends_it() {
    let mut rig = Setup::process([Step::Sleep(secs(20))]).start();
    rig.until_called("process_records", 1).await;
    rig.hand_over();
    tokio::time::sleep(secs(15)).await;
    rig.tenure.lost.cancel();
    assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
    assert_eq!(rig.log.names(), ["initialize", "process_records", "lease_lost"]);
    assert_eq!(rig.written(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_behind_a_lapsed_fence_and_all_goes_on_when_it_is_back() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let mut rig = Setup { polling, records: 20, ..Setup::process([Step::Accept, Step::Sleep(secs(30))]) }.start();
    rig.until_called("process_records", 2).await;
    rig.tenure.fence.distrust();
    tokio::time::sleep(secs(100)).await;
    assert_eq!(rig.log.names().len(), 3, "the call under way goes on, no other begins");
    assert_eq!(rig.processed(), all(10));
    assert_eq!(rig.phase(), ShardPhase::Suspended);
    rig.tenure.fence.extend(Instant::now(), Instant::now() + secs(1_000_000));
    rig.until_processed(20).await;
    assert_eq!(rig.processed(), all(20), "what the call did counts, since the lease was kept");
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
}

#[tokio::test(start_paused = true)]
async fn a_stop_behind_a_lapsed_fence_gives_the_lease_up_when_the_drain_is_over() {
    let mut rig = Setup::default().start();
    rig.until_processed(10).await;
    rig.tenure.fence.distrust();
    let stopped = Instant::now();
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(stopped.elapsed(), Config::default().drain_timeout);
    assert_eq!(rig.log.names(), ["initialize", "process_records", "lease_lost"], "it could not be asked to shut down");
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(9)))));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_is_told_then_written_with_its_children() {
    let scripts = Scripts { shard_ended: script([Step::Fail, Step::Panic]), ..Scripts::default() };
    let mut rig = Setup { scripts, ..Setup::default() }.start();
    rig.fail_writes([ErrorKind::Unavailable, ErrorKind::Timeout]);
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
    assert_eq!(rig.processed(), all(10));
    assert_eq!(rig.log.names(), ["initialize", "process_records", "shard_ended", "shard_ended", "shard_ended"]);
    assert_eq!(rig.written(), [Written::Ended(vec![ShardId::from_index(1), ShardId::from_index(2)])]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_end_is_refused_by_user_code_is_not_ended() {
    let scripts = Scripts { shard_ended: script([Step::Fail; 10]), ..Scripts::default() };
    let mut rig = Setup { scripts, ..Setup::default() }.start();
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    tokio::time::sleep(secs(600)).await;
    assert!(matches!(rig.phase(), ShardPhase::Stopped { .. }));
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Failed(_)));
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(9)))));
    assert!(!rig.log.names().contains(&"shutdown_requested"));
    assert_eq!(rig.log.names().last(), Some(&"lease_lost"));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_written_is_tried_until_the_worker_stops() {
    let mut rig = Setup::default().start();
    rig.fail_writes([ErrorKind::Unavailable; 1000]);
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    tokio::time::sleep(secs(600)).await;
    assert_eq!(rig.phase(), ShardPhase::Ending);
    let stopped = Instant::now();
    rig.hand_over();
    // The last write fails as well: whether the lease is given up is unknown, and it is not used any more.
    assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
    assert_eq!(stopped.elapsed(), Config::default().drain_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_cannot_be_made_or_initialized_stops_its_shard() {
    let scripts = Scripts { create: script([Step::Panic]), initialize: script([Step::Fail, Step::Panic]), ..Scripts::default() };
    let rig = Setup { scripts, ..Setup::default() }.start();
    rig.until_processed(10).await;
    assert_eq!(rig.status.snapshot().failed_calls, 3);
    assert_eq!(rig.log.names(), ["initialize", "initialize", "initialize", "process_records"]);

    let scripts = Scripts { create: script([Step::Panic; 10]), ..Scripts::default() };
    let mut rig = Setup { scripts, ..Setup::default() }.start();
    tokio::time::sleep(secs(600)).await;
    assert!(matches!(rig.phase(), ShardPhase::Stopped { reason } if reason.contains("no processor today")));
    rig.tenure.lost.cancel();
    assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
    assert!(rig.log.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn by_hand_only_the_application_moves_the_checkpoint() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let config = Config { checkpoint_interval: None, ..Config::default() };
    let steps = [Step::CheckpointFirst, Step::CheckpointAhead, Step::Accept, Step::Accept];
    let mut rig = Setup { polling, config, records: 20, ..Setup::process(steps) }.start();
    rig.until_processed(20).await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!(rig.written(), [Written::Checkpoint(rig.position(0))]);
    assert_eq!(attempts(&rig)[..3], [1, 1, 2], "a checkpoint ahead of what was delivered is refused");
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(None)), "the framework adds nothing");
}

#[tokio::test(start_paused = true)]
async fn by_hand_the_farewell_can_still_checkpoint() {
    let config = Config { checkpoint_interval: None, ..Config::default() };
    let scripts = Scripts { shutdown: script([Step::Checkpoint]), ..Scripts::default() };
    let mut rig = Setup { config, scripts, ..Setup::default() }.start();
    rig.until_processed(10).await;
    rig.hand_over();
    rig.outcome().await;
    assert_eq!(rig.written(), [Written::Checkpoint(rig.position(9)), Written::Surrendered(None)]);
}

#[tokio::test(start_paused = true)]
async fn by_hand_the_farewell_does_not_pass_a_batch_that_failed() {
    let polling = crate::retrieval::polling::Config { max_records: 5, ..Default::default() };
    let config = Config { checkpoint_interval: None, ..Config::default() };
    let scripts = Scripts {
        shutdown: script([Step::Checkpoint]),
        process: script([Step::Accept].into_iter().chain([Step::Fail; 10])),
        ..Scripts::default()
    };
    let mut rig = Setup { config, polling, scripts, ..Setup::default() }.start();
    tokio::time::sleep(secs(600)).await;
    rig.hand_over();
    assert!(matches!(rig.outcome().await, ShardOutcome::Failed(_)));
    assert_eq!(rig.written(), [Written::Checkpoint(rig.position(4)), Written::Surrendered(None)]);
}
