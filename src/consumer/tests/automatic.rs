//! Reading by subscription where that can be had, and by polling where it cannot: one after the other, record for record.

use std::collections::BTreeMap;

use super::{
    all,
    fan_out::shop,
    lines::Lines,
    rig::{Rig, Setup, Step, secs},
};
use crate::{
    consumer::{ShardOutcome, ShardPhase},
    local::{ConsumerReference, Limits},
    retrieval::fan_out,
    types::ShardId,
};

fn automatic() -> Setup {
    Setup { fan_out: Some(fan_out::Config::default()), automatic: true, ..Setup::default() }
}

/// Other applications take all places of the stream but so many.
fn take_places(rig: &Rig, left: usize) {
    let enforced = rig.kinesis.config().limits;
    rig.kinesis.configure(|config| config.limits = Limits::off());
    for n in left..20 {
        rig.kinesis.register_stream_consumer(&rig.stream, &format!("other-{n}"), BTreeMap::new()).expect("a place");
    }
    rig.kinesis.configure(|config| config.limits = enforced);
}

fn free_place(rig: &Rig) {
    let other = ConsumerReference::Name { stream: rig.stream.clone(), name: "other-19".to_owned() };
    rig.kinesis.deregister_stream_consumer(&other).expect("it was there");
}

/// Records come for so long, eight a minute; returns how many there were in all.
async fn records_for(rig: &mut Rig, minutes: u64) {
    for n in 0..minutes * 8 {
        // Not in step with anything.
        tokio::time::sleep(std::time::Duration::from_millis(7000 + 100 * (n % 11))).await;
        rig.put_many(1);
    }
}

async fn assert_nothing_lost_or_repeated(rig: &mut Rig) {
    rig.put_many(1);
    let put = rig.put_so_far();
    rig.until_processed(put as usize).await;
    assert_eq!(rig.processed(), all(put));
    assert_eq!(rig.status.snapshot().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_polled_until_a_place_is_free_and_goes_over_without_loss_or_repeat() {
    // Also while what was fetched waits to be processed.
    for steps in [vec![], vec![Step::Sleep(secs(40)); 60]] {
        let lines = Lines::begin();
        let polling = crate::retrieval::polling::Config { max_records: 3, ..Default::default() };
        let mut rig = Setup { polling, ..Setup { scripts: super::rig::Scripts::process(steps), ..automatic() } }.start();
        take_places(&rig, 0);
        records_for(&mut rig, 30).await;
        assert_eq!(rig.open_subscriptions(), 0);
        let told = lines.take("WARN no enhanced fan-out");
        assert!(matches!(&told[..], [line] if line.contains("20 of the 20")), "once: {told:?}");
        free_place(&rig);
        records_for(&mut rig, 5).await;
        records_for(&mut rig, 6).await;
        assert_eq!(rig.open_subscriptions(), 1);
        assert_nothing_lost_or_repeated(&mut rig).await;
        assert_eq!(lines.take("INFO the stream is read by enhanced fan-out").len(), 1);
        assert_eq!(lines.take("WARN").len(), 0);
        rig.hand_over();
        assert!(matches!(rig.outcome().await, ShardOutcome::Surrendered));
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_being_made_or_made_anew_is_not_waited_for() {
    let mut rig = automatic().start();
    rig.kinesis.configure(|config| config.delays.consumer = secs(300));
    let started = tokio::time::Instant::now();
    rig.until_processed(10).await;
    assert!(started.elapsed() < secs(1), "{:?}", started.elapsed());
    records_for(&mut rig, 4).await;
    assert_eq!(rig.open_subscriptions(), 0);
    records_for(&mut rig, 2).await;
    assert_eq!(rig.open_subscriptions(), 1);
    rig.kinesis.deregister_stream_consumer(&shop(&rig)).expect("registered");
    tokio::time::sleep(secs(20)).await;
    rig.put_many(1);
    let put = rig.put_so_far();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(rig.processed(), all(put), "it is polled meanwhile");
    records_for(&mut rig, 12).await;
    assert_eq!(rig.open_subscriptions(), 1, "five minutes to be gone, and as many to be made");
    assert_nothing_lost_or_repeated(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_whose_place_is_taken_is_replaced_by_polling_until_it_is_there_again() {
    let mut rig = automatic().start();
    take_places(&rig, 1);
    records_for(&mut rig, 5).await;
    assert_eq!(rig.open_subscriptions(), 1);
    rig.kinesis.deregister_stream_consumer(&shop(&rig)).expect("registered");
    rig.kinesis.configure(|config| config.limits.consumers_per_stream = Some(19));
    records_for(&mut rig, 30).await;
    assert_eq!((rig.open_subscriptions(), rig.phase()), (0, ShardPhase::Idle));
    rig.kinesis.configure(|config| config.limits.consumers_per_stream = Some(20));
    records_for(&mut rig, 11).await;
    assert_eq!(rig.open_subscriptions(), 1);
    assert_nothing_lost_or_repeated(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_register_and_not_subscribe_polls_and_tries_again_after_hours() {
    let lines = Lines::begin();
    let mut rig = automatic().start();
    rig.allow_subscriptions(false);
    records_for(&mut rig, 170).await;
    let (told, denied) = (lines.take("WARN"), rig.opened().len());
    assert!(matches!(&told[..], [line] if line.contains("kinesis:SubscribeToShard")), "{told:?}");
    assert!((6..20).contains(&denied), "{denied} iterators and subscriptions were asked for");
    assert_eq!((rig.open_subscriptions(), rig.phase()), (0, ShardPhase::Idle));
    rig.allow_subscriptions(true);
    records_for(&mut rig, 200).await;
    assert_eq!(rig.open_subscriptions(), 1);
    assert_nothing_lost_or_repeated(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_that_was_fetched_before_it_goes_over_is_its_end() {
    let mut rig = Setup { records: 30, scripts: super::rig::Scripts::process([Step::Sleep(secs(900))]), ..automatic() }.start();
    take_places(&rig, 0);
    rig.kinesis.split_shard(&rig.stream, &ShardId::from_index(0), 1 << 127).expect("an open shard");
    tokio::time::sleep(secs(60)).await;
    free_place(&rig);
    assert!(matches!(rig.outcome().await, ShardOutcome::Ended));
    assert_eq!(rig.processed(), all(30));
}
