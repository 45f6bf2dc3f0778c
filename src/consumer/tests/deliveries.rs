//! Pauses and the rate limit, seen from the shard consumer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    all, attempts,
    rig::{Rig, Scripts, Setup, Step, Written, script, secs},
};
use crate::{
    consumer::{Deliveries, ShardOutcome, ShardPhase, Shards},
    retrieval::{ByteBudget, fan_out, polling},
    testing::What,
    types::{Checkpoint, ShardId},
};

const MIB: u64 = 1024 * 1024;

/// Both ways of reading, in batches of at most five records.
fn both() -> [Setup; 2] {
    let fan_out = fan_out::Config { max_records: 5, ..fan_out::Config::default() };
    let polling = || polling::Config { max_records: 5, ..polling::Config::default() };
    [Setup { polling: polling(), ..Setup::default() }, Setup { polling: polling(), fan_out: Some(fan_out), ..Setup::default() }]
}

fn paused() -> Deliveries {
    let deliveries = Deliveries::default();
    deliveries.set_paused(&Shards::All, true);
    deliveries
}

/// The sizes of what was delivered, call by call.
fn sizes(rig: &Rig) -> Vec<usize> {
    let calls = rig.log.calls();
    calls.iter().filter_map(|c| if let What::ProcessRecords { records, .. } = &c.what { Some(records.len()) } else { None }).collect()
}

async fn surrendered(rig: &mut Rig) {
    rig.hand_over();
    let asked = Instant::now();
    assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    assert!(asked.elapsed() < secs(1), "{:?}", asked.elapsed());
    assert_eq!(rig.log.names().last(), Some(&"shutdown_requested"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_delivery_after_the_batch_in_hand_and_resuming_loses_and_repeats_nothing() {
    for setup in both() {
        let mut rig = Setup { records: 40, scripts: Scripts::process([Step::Accept, Step::Sleep(secs(20))]), ..setup }.start();
        rig.until_called("process_records", 2).await;
        sleep(secs(5)).await;
        rig.pause();
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.paused), (ShardPhase::Processing { attempt: 1 }, true), "it is not cut short");
        sleep(secs(16)).await;
        let paused_at = rig.clock.now().as_millis() - 1000;
        assert_eq!(rig.processed(), all(10));
        assert_eq!(rig.phase(), ShardPhase::Paused);
        let mut lag = 0;
        for minute in 1..=60 {
            rig.put(0);
            sleep(secs(60)).await;
            let status = rig.status.snapshot();
            assert_eq!((status.phase, status.records, status.failure), (ShardPhase::Paused, 10, None));
            assert!((status.since.as_millis() - paused_at).abs() <= 1, "{:?}", status.since);
            let now = status.millis_behind_latest.expect("it was read");
            assert!(now >= lag + 59_000 && now >= minute * 60_000, "{now} ms after {minute} min, before that {lag} ms");
            lag = now;
        }
        assert_eq!(rig.log.names().len(), 3, "initialize and two batches");
        assert_eq!(rig.written().last(), Some(&Written::Checkpoint(rig.position(9))), "progress is written, the lease is kept");
        rig.resume();
        let resumed = Instant::now();
        rig.until_processed(50).await;
        assert!(resumed.elapsed() < secs(2), "what is in hand is delivered at once: {:?}", resumed.elapsed());
        rig.until_processed(100).await;
        assert_eq!(rig.processed(), all(100));
        surrendered(&mut rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_records_is_paused_at_once_and_what_comes_then_waits() {
    for setup in both() {
        let mut rig = setup.start();
        rig.until_processed(10).await;
        sleep(secs(60)).await;
        rig.pause();
        let paused = rig.clock.now();
        assert_eq!(rig.phase(), ShardPhase::Paused);
        sleep(secs(600)).await;
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.since, status.millis_behind_latest), (ShardPhase::Paused, paused, Some(0)), "nothing waits");
        assert!(status.why.contains("resumed"), "{}", status.why);
        rig.put(0);
        sleep(secs(600)).await;
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.since, status.records), (ShardPhase::Paused, paused, 10));
        assert!(status.millis_behind_latest >= Some(599_000), "one record is enough: {:?}", status.millis_behind_latest);
        rig.resume();
        rig.until_processed(11).await;
        sleep(secs(1)).await;
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.paused, status.millis_behind_latest), (ShardPhase::Idle, false, Some(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_begins_paused_is_initialized_and_delivers_nothing() {
    for setup in both() {
        let mut rig = Setup { deliveries: paused(), ..setup }.start();
        sleep(secs(60)).await;
        assert_eq!(rig.log.names(), ["initialize"]);
        assert_eq!(rig.phase(), ShardPhase::Paused);
        // Those named otherwise are still paused.
        rig.deliveries.set_paused(&Shards::Shard("clicks".parse().expect("valid"), ShardId::from_index(1)), false);
        rig.deliveries.set_paused(&Shards::Stream("orders".parse().expect("valid")), false);
        sleep(secs(60)).await;
        assert_eq!(rig.log.names(), ["initialize"]);
        rig.deliveries.set_paused(&Shards::Shard("clicks".parse().expect("valid"), ShardId::from_index(0)), false);
        rig.until_processed(10).await;
        assert_eq!(rig.processed(), all(10));
        surrendered(&mut rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_is_handed_over_at_once_and_goes_on_elsewhere() {
    for (setup, next) in both().into_iter().zip(both()) {
        let mut rig = Setup { records: 40, scripts: Scripts::process([Step::Sleep(secs(1))]), ..setup }.start();
        rig.until_called("process_records", 1).await;
        rig.pause();
        sleep(secs(600)).await;
        surrendered(&mut rig).await;
        assert_eq!(rig.processed(), all(5));
        assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(4)))));
        let next = Setup { checkpoint: rig.position(4), ..next }.start_on(rig.kinesis.clone(), std::sync::Arc::clone(&rig.clock));
        next.until_processed(35).await;
        assert_eq!(next.processed(), all(40)[5..], "a pause is this worker's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_shard_whose_lease_is_lost_is_told_so() {
    for setup in both() {
        let mut rig = setup.start();
        rig.until_processed(10).await;
        rig.pause();
        rig.put_many(5);
        sleep(secs(600)).await;
        let lost = Instant::now();
        rig.tenure.lost.cancel();
        assert!(matches!(rig.outcome().await, ShardOutcome::Lost));
        assert!(lost.elapsed() < secs(1));
        assert_eq!(rig.log.names().last(), Some(&"lease_lost"));
        assert_eq!(rig.processed(), all(10));
        assert_eq!(rig.open_subscriptions(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_longer_than_iterators_and_subscriptions_live_stays_within_the_budget() {
    for (setup, subscribed) in both().into_iter().zip([false, true]) {
        let budget = ByteBudget::new(2 * MIB);
        let mut rig = Setup { budget: budget.clone(), records: 1, record_bytes: 50 * 1024, ..setup }.start();
        rig.until_processed(1).await;
        rig.pause();
        let mut most = 0;
        for _ in 0..1500 {
            rig.put(50 * 1024);
            sleep(secs(1)).await;
            most = most.max(budget.used());
        }
        assert!((1..=2 * MIB).contains(&most), "{most} bytes");
        let status = rig.status.snapshot();
        assert_eq!((status.phase, status.failure, status.records), (ShardPhase::Paused, None, 1));
        assert_eq!(rig.opened().len(), 1, "nothing is begun anew for a shard that does not want more");
        assert_eq!(rig.open_subscriptions(), 0, "closed until there is room");
        rig.resume();
        rig.until_processed(1501).await;
        assert_eq!(rig.processed(), all(1501));
        assert_eq!(rig.opened().len(), 2);
        assert_eq!(rig.status.snapshot().failure, None);

        // And with so little to read that the subscription never waits for room.
        let opened = rig.opened().len();
        rig.pause();
        rig.put(0);
        sleep(secs(3600)).await;
        rig.put(0);
        sleep(secs(3600)).await;
        let renewed = rig.opened().len() - opened;
        assert!(if subscribed { (24..=30).contains(&renewed) } else { renewed == 0 }, "{renewed} times");
        rig.resume();
        rig.until_processed(1503).await;
        assert_eq!(rig.processed(), all(1503));
        assert_eq!(rig.status.snapshot().failure, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_not_tried_again_while_its_shard_is_paused() {
    let mut rig = Setup::process([Step::Fail, Step::Fail]).start();
    rig.until_called("process_records", 1).await;
    rig.pause();
    sleep(secs(600)).await;
    assert_eq!(attempts(&rig), [1]);
    let status = rig.status.snapshot();
    assert_eq!(status.phase, ShardPhase::Paused);
    assert!(status.failure.is_some_and(|failure| failure.contains("the database is down")));
    rig.resume();
    rig.until_processed(10).await;
    assert_eq!(attempts(&rig), [1, 2, 3]);
    assert!(sizes(&rig).windows(2).all(|w| w[0] == w[1]), "the same batch");
    surrendered(&mut rig).await;
    assert_eq!(rig.processed(), all(10));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_paused_shard_is_told_when_it_is_resumed() {
    for setup in both() {
        let mut rig = Setup { scripts: Scripts { shard_ended: script([Step::Fail]), ..Scripts::default() }, ..setup }.start();
        rig.until_processed(10).await;
        rig.pause();
        rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
        sleep(secs(600)).await;
        assert!(!rig.log.names().contains(&"shard_ended"));
        assert_eq!(rig.phase(), ShardPhase::Paused);
        rig.resume();
        rig.until_called("shard_ended", 1).await;
        rig.pause();
        sleep(secs(600)).await;
        assert_eq!((rig.log.names().last(), rig.phase()), (Some(&"shard_ended"), ShardPhase::Paused), "nor is it told again");
        rig.resume();
        assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
        assert_eq!(rig.log.names()[rig.log.names().len() - 2..], ["shard_ended", "shard_ended"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_lapsed_fence() {
    let mut rig = Setup::default().start();
    rig.until_processed(10).await;
    rig.tenure.fence.distrust();
    rig.put_many(5);
    sleep(secs(5)).await;
    assert_eq!(rig.phase(), ShardPhase::Suspended);
    rig.pause();
    rig.tenure.fence.extend(Instant::now(), Instant::now() + secs(1_000_000));
    sleep(secs(5)).await;
    assert_eq!((rig.phase(), rig.processed()), (ShardPhase::Paused, all(10)));
    rig.tenure.fence.distrust();
    rig.resume();
    sleep(secs(5)).await;
    assert_eq!((rig.phase(), rig.processed()), (ShardPhase::Suspended, all(10)));
    rig.tenure.fence.extend(Instant::now(), Instant::now() + secs(1_000_000));
    rig.until_processed(15).await;
    surrendered(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_in_any_ten_seconds_whatever_the_size_of_batches() {
    for (fan_out, max_records) in [(false, 10_000), (false, 30), (true, 10_000), (true, 7)] {
        let polling = polling::Config { max_records, ..polling::Config::default() };
        let fan_out = fan_out.then(|| fan_out::Config { max_records, ..fan_out::Config::default() });
        let rig = Setup { polling, fan_out, records: 6000, ..Setup::default() }.start();
        rig.limit(100);
        let mut counts = Vec::new();
        for _ in 0..400 {
            sleep(Duration::from_millis(100)).await;
            counts.push(rig.status.snapshot().records);
        }
        for window in counts.windows(101) {
            let records = window[100] - window[0];
            assert!((950..=1050).contains(&records), "{records} records in ten seconds, batches of {max_records}");
        }
        assert!((3950..=4050).contains(counts.last().expect("some")), "over the whole time too");
        assert!(sizes(&rig).iter().all(|n| *n <= 40), "{:?}", sizes(&rig));
        let status = rig.status.snapshot();
        assert_eq!(status.phase, ShardPhase::RateLimited);
        // Put all at once at the start, so that what is in hand has waited since then.
        assert!(max_records < 10_000 || status.millis_behind_latest >= Some(20_000), "{:?}", status.millis_behind_latest);
        let calls = rig.log.names().len();
        assert!(calls < 1000, "{calls} calls for 4000 records");
        rig.until_processed(6000).await;
        assert_eq!(rig.processed(), all(6000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_the_batch_that_is_tried_again_and_counts_again() {
    let mut rig = Setup { records: 100, ..Setup::process([Step::Accept, Step::Fail, Step::Panic]) }.start();
    rig.limit(10);
    let started = Instant::now();
    rig.until_processed(100).await;
    // The second part came three times.
    assert_eq!(attempts(&rig)[..5], [1, 1, 2, 3, 1]);
    assert_eq!(sizes(&rig)[1..4], [sizes(&rig)[1]; 3]);
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..11.0).contains(&took), "{took} s");
    surrendered(&mut rig).await;
    assert_eq!(rig.processed(), all(100));
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(99)))));
}

#[tokio::test(start_paused = true)]
async fn a_shard_in_the_midst_of_a_divided_batch_is_handed_over_with_what_was_done() {
    let mut rig = Setup { records: 1000, ..Setup::default() }.start();
    rig.limit(10);
    sleep(secs(20)).await;
    let done = rig.processed().len();
    assert!((190..=210).contains(&done), "{done} records");
    surrendered(&mut rig).await;
    assert_eq!(rig.written().last(), Some(&Written::Surrendered(Some(rig.position(done - 1)))));
    let setup = Setup { checkpoint: rig.position(done - 1), ..Setup::default() };
    let next = setup.start_on(rig.kinesis.clone(), std::sync::Arc::clone(&rig.clock));
    next.until_processed(1000 - done).await;
    assert_eq!([rig.processed(), next.processed()].concat(), all(1000));
}

#[tokio::test(start_paused = true)]
async fn limits_and_pauses_can_be_changed_while_shards_wait_for_them() {
    let mut rig = Setup { records: 1000, ..Setup::default() }.start();
    rig.limit(1);
    sleep(Duration::from_millis(10_500)).await;
    assert_eq!((rig.processed().len(), rig.phase()), (10, ShardPhase::RateLimited));
    rig.pause();
    assert_eq!(rig.phase(), ShardPhase::Paused);
    sleep(secs(60)).await;
    assert_eq!(rig.processed().len(), 10);
    rig.limit(100);
    sleep(secs(60)).await;
    assert_eq!((rig.processed().len(), rig.phase()), (10, ShardPhase::Paused));
    rig.resume();
    sleep(secs(2)).await;
    let done = rig.processed().len();
    assert!((200..=250).contains(&done), "{done} records: nothing is saved up while paused but for 0.4 s");
    let lifted = Instant::now();
    rig.limit(0);
    rig.until_processed(1000).await;
    assert!(lifted.elapsed() < Duration::from_millis(10), "{:?}", lifted.elapsed());
    assert_eq!(rig.processed(), all(1000));
    surrendered(&mut rig).await;
    assert_ne!(rig.written().last(), Some(&Written::Surrendered(Some(Checkpoint::TrimHorizon))));
}
