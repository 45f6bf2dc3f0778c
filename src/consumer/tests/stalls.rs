//! Shards that are not read for long, or only now and then: what the log and the status say of it.

use super::{
    lines::Lines,
    rig::{Fault, Rig, Setup, secs},
};
use crate::{consumer::ShardPhase, error::ErrorKind, retrieval::fan_out};

fn fan_out() -> Setup {
    Setup { fan_out: Some(fan_out::Config::default()), ..Setup::default() }
}

fn reason(rig: &Rig) -> String {
    match rig.phase() {
        ShardPhase::Blocked { reason } | ShardPhase::Contended { reason } => reason,
        phase => panic!("{phase:?} has no reason"),
    }
}

async fn minutes(n: u64) {
    tokio::time::sleep(secs(60 * n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_throttled_each_time_says_so_once_with_the_fix_and_then_seldom() {
    for (fan_out, fix) in [(None, "calls_per_second"), (Some(fan_out::Config::default()), "KMS key")] {
        let lines = Lines::begin();
        let rig = Setup { fan_out, ..Setup::default() }.start();
        rig.until_processed(10).await;
        lines.take("");
        rig.fail_reads(vec![ErrorKind::Throttled; 60_000]);
        // A subscription that is open does not meet it.
        rig.fault_events([Fault::Broken(ErrorKind::Throttled)]);
        tokio::time::sleep(secs(50)).await;
        assert_eq!((rig.phase(), lines.take("WARN").len()), (ShardPhase::Throttled, 0), "that is how a shard is shared");
        tokio::time::sleep(secs(30)).await;
        let told = lines.take("WARN");
        assert!(matches!(&told[..], [line] if line.contains("the shard is not read") && line.contains(fix)), "{told:?}");
        assert!(reason(&rig).contains(fix), "{}", reason(&rig));
        minutes(600).await;
        let told = lines.take("WARN").len();
        assert!((12..=16).contains(&told), "after 2, 4, 8, 16, 32 minutes, then every hour: {told}");
        assert!(rig.status.snapshot().throttled_calls > 1000);

        rig.reads_work_again();
        minutes(1).await;
        let told = lines.take("INFO the shard is read again");
        assert_eq!((rig.phase(), told.len()), (ShardPhase::Idle, 1), "{told:?}");
        assert_eq!(lines.take("WARN").len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_take_the_shard_from_each_other_say_so_until_one_is_gone() {
    for busy in [false, true] {
        let lines = Lines::begin();
        let mut one = fan_out().start();
        one.until_processed(10).await;
        let two = fan_out().start_on(one.kinesis.clone(), std::sync::Arc::clone(&one.clock));
        let mut told = Vec::new();
        for second in 0..1800 {
            if busy {
                one.put_many(1);
            }
            tokio::time::sleep(secs(1)).await;
            told.extend(lines.take("WARN"));
            if second == 50 {
                assert_eq!(told, [""; 0], "so far it may be hand-overs");
            }
        }
        // Each of them, after 1, 2, 4, 8 and 16 minutes. An idle shard may not be read at all meanwhile.
        let others = told.iter().filter(|line| line.contains("others subscribe to it")).count();
        assert_eq!(others, 10, "{told:?}");
        assert!(told.iter().all(|line| line.contains("a stream consumer of its own")), "{told:?}");
        for rig in [&one, &two] {
            assert!(reason(rig).contains("a stream consumer of its own"));
            assert!(rig.status.snapshot().replaced_subscriptions > 100);
        }
        two.hand_over();
        drop(two);
        one.put_many(1);
        minutes(2).await;
        assert_eq!(one.phase(), ShardPhase::Idle);
        assert_eq!(lines.take("INFO others no longer subscribe").len(), 1);
        minutes(120).await;
        assert_eq!((one.phase(), lines.take("WARN").len()), (ShardPhase::Idle, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_and_hand_overs_are_not_taken_for_other_readers() {
    let lines = Lines::begin();
    let mut old = fan_out().start();
    old.until_processed(10).await;
    for _ in 0..20 {
        let new = fan_out().start_on(old.kinesis.clone(), std::sync::Arc::clone(&old.clock));
        old.hand_over();
        old.outcome().await;
        old = new;
        minutes(10).await;
        assert_eq!((old.phase(), old.status.snapshot().replaced_subscriptions), (ShardPhase::Idle, 0));
    }
    assert_eq!(lines.take("WARN"), [""; 0]);
}
