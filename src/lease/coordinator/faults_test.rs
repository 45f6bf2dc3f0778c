//! Small fleets on a table that shows some workers something else, or nothing.

use std::sync::PoisonError;

use async_trait::async_trait;

use super::*;
use crate::{
    error::Error,
    lease::{ForeignWorker, LeaderLock, MemoryLeaseTable, Signal, TableScan, WorkerRow, WorkerUpdate, WorkerVersion},
};

/// What goes wrong, for one worker or for all that share it.
#[derive(Debug, Default)]
struct Faults {
    /// Scans are refused.
    no_scans: bool,
    /// No lease can be written.
    no_updates: bool,
    /// How long a scan takes.
    scans_take: Duration,
    /// The rows of these workers cannot be read.
    obscure: BTreeSet<WorkerId>,
    /// This lease's counter is shown as large as it can be.
    hostile: Option<LeaseKey>,
    /// Signals to these workers are not answered.
    deaf: BTreeSet<WorkerId>,
}

#[derive(Debug, Clone)]
struct Tampered {
    table: MemoryLeaseTable,
    faults: Arc<Mutex<Faults>>,
}

impl Tampered {
    fn new(table: &MemoryLeaseTable) -> Self {
        Self { table: table.clone(), faults: Arc::default() }
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn get<T>(&self, f: impl FnOnce(&Faults) -> T) -> T {
        f(&self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seen(&self, row: WorkerRow) -> WorkerRow {
        if self.get(|f| f.obscure.contains(&row.id)) { WorkerRow::unreadable(row.id, None) } else { row }
    }

    fn lease(&self, lease: Lease) -> Lease {
        if self.get(|f| f.hostile.as_ref() == Some(&lease.key)) { Lease { counter: u64::MAX, ..lease } } else { lease }
    }
}

impl std::fmt::Display for Tampered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table that is tampered with")
    }
}

#[async_trait]
impl LeaseTable for Tampered {
    async fn initialize(&self) -> Result<()> {
        Ok(())
    }

    async fn scan(&self) -> Result<TableScan> {
        sleep(self.get(|f| f.scans_take)).await;
        if self.get(|f| f.no_scans) {
            return Err(Error::new(ErrorKind::AccessDenied, "no scans for this one"));
        }
        let mut scan = self.table.scan().await?;
        scan.workers = scan.workers.into_iter().map(|row| self.seen(row)).collect();
        scan.leases = scan.leases.into_iter().map(|lease| self.lease(lease)).collect();
        Ok(scan)
    }

    async fn get_lease(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        Ok(self.table.get_lease(key).await?.map(|lease| self.lease(lease)))
    }

    async fn create_lease(&self, lease: &Lease) -> Result<WriteOutcome> {
        self.table.create_lease(lease).await
    }

    async fn update_lease(&self, current: &Lease, next: &Lease) -> Result<WriteOutcome> {
        if self.get(|f| f.no_updates) {
            return Err(Error::new(ErrorKind::Unavailable, "no writes for this one"));
        }
        self.table.update_lease(current, next).await
    }

    async fn delete_lease(&self, current: &Lease) -> Result<WriteOutcome> {
        self.table.delete_lease(current).await
    }

    async fn get_workers(&self, ids: &[WorkerId]) -> Result<Vec<WorkerRow>> {
        Ok(self.table.get_workers(ids).await?.into_iter().map(|row| self.seen(row)).collect())
    }

    async fn put_worker(&self, row: &WorkerRow, expected: Option<WorkerVersion>) -> Result<WriteOutcome> {
        self.table.put_worker(row, expected).await
    }

    async fn heartbeat(&self, id: &WorkerId, expected: WorkerVersion, update: &WorkerUpdate) -> Result<WriteOutcome> {
        self.table.heartbeat(id, expected, update).await
    }

    async fn signal(&self, to: &WorkerId, signals: &[Signal]) -> Result<WriteOutcome> {
        if self.get(|f| f.deaf.contains(to)) {
            std::future::pending::<()>().await;
        }
        self.table.signal(to, signals).await
    }

    async fn delete_worker(&self, id: &WorkerId, expected: WorkerVersion) -> Result<WriteOutcome> {
        self.table.delete_worker(id, expected).await
    }
}

fn key(shard: u64) -> LeaseKey {
    LeaseKey::of(&stream(), &ShardId::from_index(shard))
}

fn id(name: &str) -> WorkerId {
    WorkerId::new(name).expect("valid")
}

#[tokio::test(start_paused = true)]
async fn a_housekeeper_that_cannot_do_its_work_leaves_it_to_another() {
    let table = table_with(8).await;
    let tampered = Tampered::new(&table);
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 8).await;
    let b = member(&table, "b", 2);
    let c = member(&table, "c", 3);
    until("balanced", Duration::from_secs(5), || [&a, &b, &c].iter().all(|m| (2..=3).contains(&m.keys().len()))).await;
    assert!(a.handle.status().leading);
    tampered.set(|f| f.no_scans = true);
    sleep(Duration::from_secs(1)).await;
    drop(c.running);
    let took = until("all taken over", Duration::from_secs(60), || a.keys().len() + b.keys().len() == 8).await;
    assert!(took <= 2 * config().lease_duration + Duration::from_secs(4), "{took:?}");
    assert!(b.handle.status().leading && !a.handle.status().leading);
    sleep(Duration::from_secs(120)).await;
    assert!(b.handle.status().leading && !a.handle.status().leading, "it does not come back to it");
}

#[tokio::test(start_paused = true)]
async fn a_housekeeper_that_is_alone_goes_on_trying() {
    let table = table_with(4).await;
    let tampered = Tampered::new(&table);
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 4).await;
    tampered.set(|f| f.no_scans = true);
    sleep(Duration::from_secs(60)).await;
    let lease = Lease::new(&stream(), ShardId::from_index(9), Checkpoint::TrimHorizon);
    assert_eq!(table.create_lease(&lease).await.expect("in memory"), WriteOutcome::Applied);
    tampered.set(|f| f.no_scans = false);
    until("the new one taken", Duration::from_secs(1), || a.keys().len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_scan_of_many_pages_may_take_longer_than_one_call() {
    let table = table_with(4).await;
    let tampered = Tampered::new(&table);
    tampered.set(|f| f.scans_take = config().call_timeout() * 3);
    let a = member_on(Arc::new(tampered), "a", 1);
    until("all taken", Duration::from_secs(30), || a.keys().len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_takes_long_costs_the_shards_of_a_leaving_worker_no_time_to_drain() {
    let table = table_with(1).await;
    let tampered = Tampered::new(&table);
    let mut a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("taken", Duration::from_secs(2), || a.keys().len() == 1).await;
    tampered.set(|f| {
        f.scans_take = config().scan_timeout() * 2;
        f.no_updates = true;
    });
    let lease = a.lease(&key(0));
    a.handle.stop();
    lease.stop_requested().await;
    let told = Instant::now();
    lease.lost().cancelled().await;
    assert!(told.elapsed() >= config().drain_timeout + config().lease_duration, "{:?}", told.elapsed());
    a.running.join().await.expect("no panic").expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_given_up_for_long_is_given_up_in_the_end() {
    let table = table_with(8).await;
    let tampered = Tampered::new(&table);
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 8).await;
    tampered.set(|f| f.no_updates = true);
    let b = member(&table, "b", 2);
    sleep(config().drain_timeout * 4).await;
    assert!(b.keys().is_empty(), "a cannot write that it gives them up");
    tampered.set(|f| f.no_updates = false);
    until("balanced", config().drain_timeout, || a.keys().len() == 4 && b.keys().len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_row_the_others_cannot_read_keeps_its_leases() {
    let table = table_with(8).await;
    let tampered = Tampered::new(&table);
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 8).await;
    // It reads its own row.
    let b = member(&table, "b", 2);
    until("balanced", Duration::from_secs(5), || a.keys().len() == 4 && b.keys().len() == 4).await;
    let before = b.keys();
    tampered.set(|f| f.obscure = [id("b")].into());
    sleep(Duration::from_secs(120)).await;
    assert_eq!((b.keys(), b.handle.status().times_expelled), (before, 0));
    assert_eq!(a.keys().len(), 4);
    tampered.set(|f| f.obscure.clear());
    drop(b.running);
    let took = until("all taken over", Duration::from_secs(60), || a.keys().len() == 8).await;
    assert!(took <= config().lease_duration + Duration::from_secs(4), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_an_impossible_counter_is_left_alone_and_harms_nobody() {
    let table = table_with(4).await;
    let tampered = Tampered::new(&table);
    tampered.set(|f| f.hostile = Some(key(2)));
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("the others taken", Duration::from_secs(2), || a.keys().len() == 3).await;
    let (instance, number) = (table.snapshot().workers[0].version.instance, 1);
    let take = Signal::Take { lease: key(2), counter: u64::MAX };
    assert_eq!(table.signal(&id("a"), &[take]).await.expect("in memory"), WriteOutcome::Applied);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((a.keys().len(), table.snapshot().workers[0].version.instance), (3, instance));
    tampered.set(|f| f.hostile = None);
    let plan = Signal::Plan { from: id("z"), number };
    assert_eq!(table.signal(&id("a"), &[plan]).await.expect("in memory"), WriteOutcome::Applied);
    until("it is taken when it is mended", Duration::from_secs(5), || a.keys().len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_signalled_does_not_hold_the_others_up() {
    let table = table_with(30).await;
    let tampered = Tampered::new(&table);
    let a = member_on(Arc::new(tampered.clone()), "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 30).await;
    let others = ["b", "c", "d"].map(|name| member(&table, name, u64::from(name.as_bytes()[0])));
    until("balanced", Duration::from_secs(10), || others.iter().all(|m| (7..=8).contains(&m.keys().len()))).await;
    // Signals to b get no answer: each round would wait for four time limits.
    tampered.set(|f| f.deaf = [id("b")].into());
    let [b, c, d] = others;
    drop(d.running);
    let took = until("taken over", Duration::from_secs(60), || c.keys().len() >= 10).await;
    assert!(took <= config().lease_duration + Duration::from_secs(1), "{took:?}");
    assert!(b.handle.status().joined);
}

#[tokio::test(start_paused = true)]
async fn a_housekeeper_and_those_next_in_line_that_die_together_are_replaced_as_fast_as_one() {
    let table = table_with(20).await;
    let names = ["a", "b", "c", "d", "e"];
    let a = member(&table, "a", 1);
    until("all taken", Duration::from_secs(2), || a.keys().len() == 20).await;
    let mut members = vec![a];
    for (name, seed) in names[1..].iter().zip(2..) {
        members.push(member(&table, name, seed));
    }
    until("balanced", Duration::from_secs(20), || members.iter().all(|m| m.keys().len() == 4)).await;
    sleep(Duration::from_secs(13)).await;
    let survivors = members.split_off(3);
    assert!(members[0].handle.status().leading);
    for dead in members {
        drop(dead.running);
    }
    let took = until("all taken over", Duration::from_secs(60), || survivors.iter().map(|m| m.keys().len()).sum::<usize>() == 20).await;
    let heartbeat = config().heartbeat_interval();
    assert!(took <= config().lease_duration + heartbeat + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn thousands_of_leases_for_one_worker_leave_its_row_small() {
    let table = table_with(2500).await;
    let a = member(&table, "a", 1);
    until("all taken", Duration::from_secs(20), || a.keys().len() == 2500).await;
    let b = member(&table, "b", 2);
    let largest = Mutex::new(0);
    let look = || {
        let bytes = |row: &WorkerRow| row.signals.iter().map(|s| s.to_text().len()).sum::<usize>();
        let most = table.snapshot().workers.iter().map(bytes).max().unwrap_or(0);
        let mut largest = largest.lock().unwrap();
        *largest = most.max(*largest);
    };
    let balanced = || {
        look();
        a.keys().len() == 1250 && b.keys().len() == 1250
    };
    until("balanced", Duration::from_secs(60), balanced).await;
    sleep(Duration::from_secs(20)).await;
    // Half of them free at once, with the other worker to be told of each.
    drop(b.running);
    let c = member(&table, "c", 3);
    let taken_over = || {
        look();
        a.keys().len() == 1250 && c.keys().len() == 1250
    };
    until("taken over", Duration::from_secs(90), taken_over).await;
    let largest = *largest.lock().unwrap();
    assert!((10_000..150_000).contains(&largest), "{largest} bytes of signals in one row; DynamoDB takes 400 KB in all");
}

#[tokio::test(start_paused = true)]
async fn a_living_java_worker_ends_the_fleet_instead_of_being_robbed() {
    for lock in [false, true] {
        let table = table_with(2).await;
        let mut a = member(&table, "a", 1);
        until("taken", Duration::from_secs(2), || a.keys().len() == 2).await;
        let show = |seconds: i64| {
            if lock {
                table.set_leader_lock(Some(LeaderLock { owner: "java-1".to_owned(), version: seconds.to_string() }));
            } else {
                let last_update = Some(Timestamp::from_millis(1_795_000_000_000 + seconds * 1000));
                table.put_foreign_worker(ForeignWorker { id: "java-1".to_owned(), last_update });
            }
        };
        show(0);
        sleep(Duration::from_secs(60)).await;
        assert!(a.handle.status().joined, "a row that keeps still may be a dead one's");
        show(30);
        let error = a.running.join().await.expect("no panic").expect_err("two libraries at a time");
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.message().contains("java-1"), "{error}");
    }
}
