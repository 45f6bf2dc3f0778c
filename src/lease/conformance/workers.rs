//! Cases about worker rows.

use std::collections::BTreeSet;

use futures::{StreamExt, future::join_all, stream};

use super::{Samples, initialized, worker_row, worker_update};
use crate::{
    lease::{LeaseTable, Signal, WorkerRow, WorkerState, WorkerUpdate, WorkerVersion, WriteOutcome},
    types::{InstanceId, Timestamp, WorkerId},
};

async fn put(table: &dyn LeaseTable, row: &WorkerRow, expected: Option<WorkerVersion>) -> WriteOutcome {
    table.put_worker(row, expected).await.unwrap_or_else(|error| panic!("put {}: {error:?}", row.id))
}

async fn beat(table: &dyn LeaseTable, row: &WorkerRow, update: &WorkerUpdate) -> WriteOutcome {
    table.heartbeat(&row.id, row.version, update).await.unwrap_or_else(|error| panic!("heartbeat {}: {error:?}", row.id))
}

async fn tell(table: &dyn LeaseTable, to: &WorkerId, signals: &BTreeSet<Signal>) -> WriteOutcome {
    let signals: Vec<Signal> = signals.iter().cloned().collect();
    table.signal(to, &signals).await.unwrap_or_else(|error| panic!("signal {to}: {error:?}"))
}

async fn bury(table: &dyn LeaseTable, id: &WorkerId, version: WorkerVersion) -> WriteOutcome {
    table.delete_worker(id, version).await.unwrap_or_else(|error| panic!("delete {id}: {error:?}"))
}

async fn find(table: &dyn LeaseTable, id: &WorkerId) -> Option<WorkerRow> {
    let mut rows = table.get_workers(std::slice::from_ref(id)).await.unwrap_or_else(|error| panic!("get {id}: {error:?}"));
    assert!(rows.len() <= 1, "one id, one row");
    rows.pop()
}

/// A row is put where there is none, or over the version the writer knows; never over another.
///
/// # Panics
/// When the rule is broken.
pub async fn worker_rows_are_replaced_by_version(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(10);
    let id = samples.worker_id();
    assert_eq!(find(table, &id).await, None);

    let rivals: Vec<WorkerRow> = (0..8).map(|n| worker_row(&id, InstanceId(n))).collect();
    let absent = WorkerVersion { instance: InstanceId(0), heartbeat: 0 };
    assert_eq!(put(table, &rivals[0], Some(absent)).await, WriteOutcome::Conflict, "there is no such version yet");
    assert_eq!(find(table, &id).await, None, "a refused put creates no row");
    let outcomes = join_all(rivals.iter().map(|row| put(table, row, None))).await;
    assert_eq!(outcomes.iter().filter(|o| **o == WriteOutcome::Applied).count(), 1, "one of two processes with one id wins: {outcomes:?}");
    let first = find(table, &id).await.expect("one has won");
    assert!(rivals.contains(&first));

    let full = WorkerRow {
        id: id.clone(),
        version: WorkerVersion { instance: InstanceId(u64::MAX), heartbeat: 41 },
        state: WorkerState::Leaving,
        leading: true,
        roster: vec![samples.worker_id(), id.clone(), samples.worker_id()],
        max_leases: Some(17),
        updated: Timestamp::from_millis(1_795_262_999_000),
        signals: samples.signals(),
    };
    let wrong_heartbeat = WorkerVersion { heartbeat: 1, ..first.version };
    let wrong_instance = WorkerVersion { instance: InstanceId(99), ..first.version };
    for wrong in [Some(wrong_heartbeat), Some(wrong_instance), None] {
        assert_eq!(put(table, &full, wrong).await, WriteOutcome::Conflict, "not that version: {wrong:?}");
        assert_eq!(find(table, &id).await.as_ref(), Some(&first), "a refused put leaves no trace");
    }
    assert_eq!(put(table, &full, Some(first.version)).await, WriteOutcome::Applied);
    assert_eq!(find(table, &id).await.as_ref(), Some(&full), "a put replaces the whole row");
    assert_eq!(table.scan().await.expect("the table can be read").workers, std::slice::from_ref(&full), "a scan shows the same row");

    let plain = worker_row(&id, InstanceId(5));
    assert_eq!(put(table, &plain, Some(full.version)).await, WriteOutcome::Applied);
    assert_eq!(find(table, &id).await.as_ref(), Some(&plain), "nothing of the old row is left");
}

/// A heartbeat raises the version by one, drops what is handled, and keeps what came meanwhile.
///
/// # Panics
/// When the rule is broken.
pub async fn heartbeats_keep_signals(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(11);
    let row = worker_row(&samples.worker_id(), InstanceId(0x00ff_0000_0000_0001));
    let (early, late) = (samples.signals(), samples.signals());
    assert_eq!(put(table, &row, None).await, WriteOutcome::Applied);
    assert_eq!(tell(table, &row.id, &early).await, WriteOutcome::Applied);
    assert_eq!(tell(table, &row.id, &early).await, WriteOutcome::Applied, "the same signals again are no conflict");
    let read = find(table, &row.id).await.expect("there");
    assert_eq!(read, WorkerRow { signals: early.clone(), ..row.clone() }, "signals touch neither heartbeat nor anything else");

    assert_eq!(tell(table, &row.id, &late).await, WriteOutcome::Applied);
    let update = WorkerUpdate {
        state: WorkerState::Leaving,
        leading: true,
        roster: vec![row.id.clone(), samples.worker_id()],
        max_leases: Some(3),
        updated: Timestamp::from_millis(1_795_262_500_000),
        handled: early,
    };
    assert_eq!(beat(table, &read, &update).await, WriteOutcome::Applied);
    let renewed = find(table, &row.id).await.expect("there");
    assert_eq!(renewed, WorkerRow { signals: late.clone(), ..read.renewed(&update) }, "what came meanwhile is still there");
    assert_eq!(renewed.version.heartbeat, 1);

    assert_eq!(beat(table, &read, &update).await, WriteOutcome::Conflict, "the echo of an own heartbeat");
    let other_life = WorkerRow { version: WorkerVersion { instance: InstanceId(2), heartbeat: 1 }, ..row.clone() };
    assert_eq!(beat(table, &other_life, &update).await, WriteOutcome::Conflict, "another life of the worker");
    assert_eq!(find(table, &row.id).await.as_ref(), Some(&renewed), "a refused heartbeat leaves no trace");

    // Naming signals that are gone, or never were, is harmless; an empty set is as good as none.
    let quiet = WorkerUpdate { handled: &late | &samples.signals(), ..worker_update(&row) };
    assert_eq!(beat(table, &renewed, &quiet).await, WriteOutcome::Applied);
    let idle = find(table, &row.id).await.expect("there");
    assert_eq!(idle, renewed.renewed(&quiet));
    assert!(idle.signals.is_empty() && idle.roster.is_empty() && idle.max_leases.is_none());
    assert_eq!(beat(table, &idle, &quiet).await, WriteOutcome::Applied, "handled twice");
    assert_eq!(tell(table, &row.id, &late).await, WriteOutcome::Applied);
    assert_eq!(find(table, &row.id).await.expect("there").signals, late, "signals can come again");
}

/// A signal to a worker without a row is a conflict and makes no row.
///
/// # Panics
/// When the rule is broken.
pub async fn signals_need_a_row(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(12);
    let id = samples.worker_id();
    assert_eq!(tell(table, &id, &samples.signals()).await, WriteOutcome::Conflict);
    assert_eq!(tell(table, &id, &BTreeSet::new()).await, WriteOutcome::Conflict, "not even no signals");
    let scan = table.scan().await.expect("the table can be read");
    assert!(scan.workers.is_empty() && scan.foreign_workers.is_empty() && scan.skipped.is_empty(), "no row was made: {scan:?}");

    // Senders at the same time lose nothing.
    let row = worker_row(&id, InstanceId(1));
    assert_eq!(put(table, &row, None).await, WriteOutcome::Applied);
    let sent: Vec<BTreeSet<Signal>> = (0..16).map(|_| samples.signals()).collect();
    for outcome in join_all(sent.iter().map(|signals| tell(table, &id, signals))).await {
        assert_eq!(outcome, WriteOutcome::Applied);
    }
    assert_eq!(tell(table, &id, &BTreeSet::new()).await, WriteOutcome::Applied);
    assert_eq!(find(table, &id).await.expect("there").signals, sent.into_iter().flatten().collect());
}

/// A worker that misses heartbeats is declared dead by deleting exactly the row that was seen; then its next
/// heartbeat is a conflict, and so is a second burial.
///
/// # Panics
/// When the rule is broken.
pub async fn workers_are_buried_once(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(13);
    let row = worker_row(&samples.worker_id(), InstanceId(1));
    let update = worker_update(&row);
    assert_eq!(bury(table, &row.id, row.version).await, WriteOutcome::Conflict, "there is nobody");
    assert_eq!(put(table, &row, None).await, WriteOutcome::Applied);
    assert_eq!(beat(table, &row, &update).await, WriteOutcome::Applied);
    assert_eq!(bury(table, &row.id, row.version).await, WriteOutcome::Conflict, "it has moved since: it lives");

    // A signal is no sign of life of its receiver.
    assert_eq!(tell(table, &row.id, &samples.signals()).await, WriteOutcome::Applied);
    let seen = WorkerVersion { heartbeat: 1, ..row.version };
    let outcomes = join_all((0..8).map(|_| bury(table, &row.id, seen))).await;
    assert_eq!(outcomes.iter().filter(|o| **o == WriteOutcome::Applied).count(), 1, "one burial wins: {outcomes:?}");
    assert_eq!(find(table, &row.id).await, None);

    let revenant = WorkerRow { version: seen, ..row.clone() };
    assert_eq!(beat(table, &revenant, &update).await, WriteOutcome::Conflict, "the dead learn of it at their next heartbeat");
    assert_eq!(find(table, &row.id).await, None, "and do not rise");
    assert_eq!(put(table, &worker_row(&row.id, InstanceId(2)), None).await, WriteOutcome::Applied, "a new life may begin");
    assert!(find(table, &row.id).await.is_some_and(|found| found.signals.is_empty()), "without the old signals");
}

/// More rows are read in one call than one request of DynamoDB carries (100); those without a row are left out.
///
/// # Panics
/// When the rule is broken.
pub async fn many_workers_are_read_at_once(table: &dyn LeaseTable) {
    initialized(table).await;
    assert_eq!(table.get_workers(&[]).await.expect("nothing is asked"), []);
    let id = |n: u64| WorkerId::new(format!("worker-{n:04}")).expect("valid");
    let rows: Vec<WorkerRow> = (0..230).map(|n| worker_row(&id(n), InstanceId(n))).collect();
    stream::iter(&rows).for_each_concurrent(16, |row| async move { assert_eq!(put(table, row, None).await, WriteOutcome::Applied) }).await;

    // Backwards, twice, with strangers among them.
    let ids: Vec<WorkerId> = (0..300).rev().chain(0..10).map(id).collect();
    let read = table.get_workers(&ids).await.expect("workers can be read");
    assert_eq!(read, rows, "each once, ordered by id");
    assert_eq!(table.scan().await.expect("the table can be read").workers, rows);
}
