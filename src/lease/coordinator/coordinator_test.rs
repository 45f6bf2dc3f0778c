//! Small fleets in virtual time, with consumers that do nothing but hold and surrender their leases.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::*;
use crate::{
    clock::TokioClock,
    error::ErrorKind,
    lease::{Lease, LeaseKey, LeaseTable, MemoryLeaseTable, WriteOutcome},
    random::Randomness,
    task::{Spawner, Task},
    types::{Checkpoint, ChildShard, ExtendedSequenceNumber, HashKeyRange, SequenceNumber, ShardId, StreamIdentifier, Timestamp, WorkerId},
};

type Holdings = Arc<Mutex<BTreeMap<LeaseKey, LeaseHandle>>>;

struct Member {
    holdings: Holdings,
    handle: CoordinatorHandle,
    running: Task<Result<()>>,
    _consumers: Task<()>,
}

impl Member {
    fn keys(&self) -> BTreeSet<LeaseKey> {
        self.holdings.lock().unwrap().keys().cloned().collect()
    }

    fn lease(&self, key: &LeaseKey) -> LeaseHandle {
        self.holdings.lock().unwrap()[key].clone()
    }
}

fn config() -> Config {
    Config { lease_duration: Duration::from_secs(10), ..Config::default() }
}

fn member(table: &MemoryLeaseTable, name: &str, seed: u64) -> Member {
    member_on(Arc::new(table.clone()), name, seed)
}

fn member_on(table: Arc<dyn LeaseTable>, name: &str, seed: u64) -> Member {
    let spawner = Spawner::current();
    let (gained, mut receiver) = mpsc::channel::<HeldLease>(64);
    let (scans, scanned) = mpsc::channel(1);
    let outfit = Outfit {
        table,
        me: WorkerId::new(name).expect("valid"),
        config: config(),
        clock: Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_000_000_000))),
        random: Randomness::seeded(seed),
        spawner: spawner.clone(),
        streams: Arc::new(BTreeSet::from([None])),
        gained,
        scans,
        obstacle: crate::retry::Obstacle::default(),
    };
    let (coordinator, handle) = LeaseCoordinator::new(outfit);
    let holdings = Holdings::default();
    let held = Arc::clone(&holdings);
    let inner = spawner.clone();
    let consumers = spawner.spawn("consumers", async move {
        let _scanned = scanned;
        while let Some(lease) = receiver.recv().await {
            let held = Arc::clone(&held);
            let handle = lease.handle;
            held.lock().unwrap().insert(handle.key().clone(), handle.clone());
            inner
                .spawn("consumer", async move {
                    tokio::select! {
                        biased;
                        () = handle.lost().cancelled() => {}
                        _ = handle.stop_requested() => drop(handle.surrender(None).await),
                    }
                    let mut held = held.lock().unwrap();
                    if held.get(handle.key()).is_some_and(|h| h.fencing_token() == handle.fencing_token()) {
                        held.remove(handle.key());
                    }
                })
                .detach();
        }
    });
    let running = spawner.spawn("coordinator", coordinator.run());
    Member { holdings, handle, running, _consumers: consumers }
}

fn stream() -> StreamIdentifier {
    StreamIdentifier::Single("clicks".parse().expect("valid"))
}

async fn table_with(shards: u64) -> MemoryLeaseTable {
    let table = MemoryLeaseTable::default();
    for i in 0..shards {
        let lease = Lease::new(&stream(), ShardId::from_index(i), Checkpoint::TrimHorizon);
        assert_eq!(table.create_lease(&lease).await.expect("in memory"), WriteOutcome::Applied);
    }
    table
}

/// Waits in virtual time until the condition holds; says how long it took.
async fn until(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_first_worker_takes_everything_at_once() {
    let table = table_with(64).await;
    let a = member(&table, "a", 1);
    let took = until("all taken", Duration::from_secs(2), || a.keys().len() == 64).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_gets_its_half_within_a_second_and_a_half() {
    let table = table_with(10).await;
    let a = member(&table, "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 10).await;
    sleep(Duration::from_secs(7)).await;
    let b = member(&table, "b", 2);
    let took = until("balanced", Duration::from_secs(5), || a.keys().len() == 5 && b.keys().len() == 5).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(a.keys().is_disjoint(&b.keys()));
    let before = b.keys();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(before, b.keys(), "a balanced fleet moves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_with_a_smaller_id_does_not_take_the_housekeeping_over() {
    let table = table_with(4).await;
    let b = member(&table, "b", 2);
    until("all taken", Duration::from_secs(2), || b.keys().len() == 4).await;
    let a = member(&table, "a", 1);
    until("balanced", Duration::from_secs(5), || a.keys().len() == 2 && b.keys().len() == 2).await;
    sleep(Duration::from_secs(30)).await;
    assert!(b.handle.status().leading && !a.handle.status().leading);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_worker_is_replaced_within_the_lease_duration_and_a_second() {
    for leader_dies in [false, true] {
        let table = table_with(8).await;
        let a = member(&table, "a", 1);
        until("all taken", Duration::from_secs(2), || a.keys().len() == 8).await;
        let b = member(&table, "b", 2);
        let c = member(&table, "c", 3);
        until("balanced", Duration::from_secs(5), || a.keys().len() <= 3 && b.keys().len() >= 2 && c.keys().len() >= 2).await;
        sleep(Duration::from_secs(13)).await;
        let (victim, survivors) = if leader_dies { (a, [b, c]) } else { (c, [a, b]) };
        drop(victim.running);
        let took = until("all taken over", Duration::from_secs(30), || survivors.iter().map(|m| m.keys().len()).sum::<usize>() == 8).await;
        assert!(took <= config().lease_duration + Duration::from_secs(1), "leader dies: {leader_dies}, {took:?}");
        assert!(survivors.iter().any(|m| m.handle.status().leading));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaving_worker_hands_over_within_a_second_and_removes_its_row() {
    for leader_leaves in [false, true] {
        let table = table_with(8).await;
        let a = member(&table, "a", 1);
        until("all taken", Duration::from_secs(2), || a.keys().len() == 8).await;
        let b = member(&table, "b", 2);
        until("balanced", Duration::from_secs(5), || a.keys().len() == 4 && b.keys().len() == 4).await;
        let (mut leaver, stayer) = if leader_leaves { (a, b) } else { (b, a) };
        leaver.handle.stop();
        let took = until("handed over", Duration::from_secs(10), || stayer.keys().len() == 8).await;
        assert!(took < Duration::from_secs(1), "leader leaves: {leader_leaves}, {took:?}");
        leaver.running.join().await.expect("no panic").expect("a clean end");
        assert_eq!(table.scan().await.expect("in memory").workers.len(), 1);
        sleep(Duration::from_secs(1)).await;
        assert!(stayer.handle.status().leading);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_workers_late_checkpoint_is_refused() {
    let table = table_with(1).await;
    let mut a = member(&table, "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 1).await;
    let key = a.keys().pop_first().expect("one");
    let stale = a.lease(&key);
    let at = |n| Checkpoint::Sequence(ExtendedSequenceNumber::from(SequenceNumber::from_parts(0, n)));
    stale.checkpoint(at(5)).await.expect("held");
    // The coordination stops dead, the lease's writer lives on: a zombie.
    a.running = Spawner::current().spawn("nothing", async { Ok(()) });
    let b = member(&table, "b", 2);
    let took = until("taken over", Duration::from_secs(30), || b.keys().len() == 1).await;
    assert!(took <= config().lease_duration + Duration::from_secs(1), "{took:?}");
    assert!(!stale.may_process(), "the fence has lapsed");
    b.lease(&key).checkpoint(at(7)).await.expect("held");
    let refused = stale.checkpoint(at(6)).await.expect_err("fenced");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    let row = table.get_lease(&key).await.expect("in memory").expect("there");
    assert_eq!(row.checkpoint, at(7));
}

#[tokio::test(start_paused = true)]
async fn children_are_read_on_by_the_parents_owner_and_wait_for_the_other_parent() {
    let table = table_with(2).await;
    let a = member(&table, "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 2).await;
    let [first, second] = [0, 1].map(|i| a.lease(&LeaseKey::of(&stream(), &ShardId::from_index(i))));
    let child = ChildShard {
        id: ShardId::from_index(2),
        parents: vec![ShardId::from_index(0), ShardId::from_index(1)],
        hash_key_range: HashKeyRange::FULL,
    };
    first.end_shard(vec![child.clone()]).await.expect("held");
    let child_key = LeaseKey::of(&stream(), &child.id);
    until("child held", Duration::from_secs(1), || a.keys().contains(&child_key)).await;
    let waiting = a.lease(&child_key);
    let spawner = Spawner::current();
    let mut finished = spawner.spawn("child", async move {
        waiting.parents_finished(Duration::from_secs(60)).await.expect("held");
        Instant::now()
    });
    sleep(Duration::from_secs(5)).await;
    second.end_shard(vec![child]).await.expect("held");
    let ended = Instant::now();
    let started = finished.join().await.expect("no panic");
    assert!(started >= ended - Duration::from_millis(1) && started - ended < Duration::from_millis(100), "{:?}", started - ended);
    let rows = table.scan().await.expect("in memory").leases;
    assert_eq!(rows.iter().filter(|l| l.checkpoint.is_shard_end() && l.owner.is_none()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_merged_child_waits_for_a_parent_that_has_no_lease_yet() {
    let table = table_with(1).await;
    let a = member(&table, "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 1).await;
    let parents = [ShardId::from_index(0), ShardId::from_index(5)];
    let child = ChildShard { id: ShardId::from_index(6), parents: parents.to_vec(), hash_key_range: HashKeyRange::FULL };
    a.lease(&LeaseKey::of(&stream(), &parents[0])).end_shard(vec![child.clone()]).await.expect("held");
    let child_key = LeaseKey::of(&stream(), &child.id);
    until("child held", Duration::from_secs(1), || a.keys().contains(&child_key)).await;
    let waiting = a.lease(&child_key);
    let mut started = Spawner::current().spawn("child", async move { waiting.parents_finished(Duration::from_secs(1)).await });
    // Shard 5 is itself still to be read: its lease is made when its own parent ends.
    assert!(tokio::time::timeout(Duration::from_secs(60), started.join()).await.is_err(), "a missing parent is not a finished one");
    let other = Lease::new(&stream(), parents[1].clone(), Checkpoint::TrimHorizon);
    assert_eq!(table.create_lease(&other).await.expect("in memory"), WriteOutcome::Applied);
    until("taken", Duration::from_secs(5), || a.keys().contains(&other.key)).await;
    assert!(tokio::time::timeout(Duration::from_secs(60), started.join()).await.is_err());
    a.lease(&other.key).end_shard(vec![child]).await.expect("held");
    started.join().await.expect("no panic").expect("held");
}

#[tokio::test(start_paused = true)]
async fn a_living_namesake_is_refused_by_name() {
    let table = table_with(1).await;
    let a = member(&table, "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 1).await;
    let mut namesake = member(&table, "a", 2);
    let error = namesake.running.join().await.expect("no panic").expect_err("the id is taken");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("worker id a is in use"), "{error}");
    assert_eq!(a.keys().len(), 1, "the first is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_id_waits_until_its_predecessor_is_certainly_dead() {
    let table = table_with(2).await;
    let a = member(&table, "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 2).await;
    drop(a.running);
    let again = member(&table, "a", 2);
    let took = until("taken again", Duration::from_secs(30), || again.keys().len() == 2).await;
    assert!(took >= config().lease_duration && took < config().lease_duration + Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_fleet_writes_one_heartbeat_per_worker_and_quarter_lease_duration() {
    let table = table_with(64).await;
    let members: Vec<Member> = ["a", "b", "c", "d"].iter().zip(1..).map(|(name, seed)| member(&table, name, seed)).collect();
    until("balanced", Duration::from_secs(20), || members.iter().all(|m| m.keys().len() == 16)).await;
    sleep(Duration::from_secs(20)).await;
    let before = table.counts();
    sleep(Duration::from_secs(100)).await;
    let writes = table.counts().writes() - before.writes();
    assert!(writes <= 200, "{writes} writes in 100 s, more than 2 per second");
}

#[path = "faults_test.rs"]
mod faults;
