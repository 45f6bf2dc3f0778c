//! Cases about lease rows.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};

use super::{Samples, initialized};
use crate::{
    lease::{Lease, LeaseKey, LeaseTable, PendingCheckpoint, WriteOutcome},
    types::{Checkpoint, ExtendedSequenceNumber, InstanceId, SequenceNumber, ShardId, StreamIdentifier, StreamName},
};

fn new_lease(index: u64) -> Lease {
    let stream = StreamIdentifier::Single(StreamName::new("clicks").expect("valid"));
    Lease::new(&stream, ShardId::from_index(index), Checkpoint::TrimHorizon)
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::Sequence(ExtendedSequenceNumber::from(SequenceNumber::from_parts(0, number.into())))
}

async fn create(table: &dyn LeaseTable, lease: &Lease) -> WriteOutcome {
    table.create_lease(lease).await.unwrap_or_else(|error| panic!("create {}: {error:?}", lease.key))
}

async fn update(table: &dyn LeaseTable, current: &Lease, next: &Lease) -> WriteOutcome {
    table.update_lease(current, next).await.unwrap_or_else(|error| panic!("update {}: {error:?}", next.key))
}

async fn delete(table: &dyn LeaseTable, current: &Lease) -> WriteOutcome {
    table.delete_lease(current).await.unwrap_or_else(|error| panic!("delete {}: {error:?}", current.key))
}

async fn find(table: &dyn LeaseTable, key: &LeaseKey) -> Option<Lease> {
    table.get_lease(key).await.unwrap_or_else(|error| panic!("get {key}: {error:?}"))
}

/// Many workers may initialize at once, and again later; rows stay.
///
/// # Panics
/// When the rule is broken.
pub async fn initialize_is_idempotent(table: &dyn LeaseTable) {
    join_all((0..8).map(|_| initialized(table))).await;
    let scan = table.scan().await.expect("a new table can be read");
    assert!(scan.leases.is_empty() && scan.workers.is_empty() && scan.skipped.is_empty(), "a new table is empty: {scan:?}");
    assert!(scan.foreign_workers.is_empty() && scan.leader_lock.is_none(), "nobody else uses a new table: {scan:?}");

    let lease = new_lease(0);
    assert_eq!(create(table, &lease).await, WriteOutcome::Applied);
    initialized(table).await;
    assert_eq!(find(table, &lease.key).await, Some(lease), "initialize keeps rows");
}

/// Of many creations of one lease, one wins; the others change nothing.
///
/// # Panics
/// When the rule is broken.
pub async fn leases_are_created_once(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(1);
    assert_eq!(find(table, &new_lease(7).key).await, None, "a row that is not there is not found");

    let rivals: Vec<Lease> = (0..8).map(|_| samples.state_of(&new_lease(7))).collect();
    let outcomes = join_all(rivals.iter().map(|lease| create(table, lease))).await;
    let winners: Vec<&Lease> = rivals.iter().zip(&outcomes).filter(|(_, o)| **o == WriteOutcome::Applied).map(|(l, _)| l).collect();
    assert_eq!(winners.len(), 1, "one creation wins: {outcomes:?}");
    assert_eq!(find(table, &winners[0].key).await.as_ref(), Some(winners[0]), "the row is the winner's");
}

/// What is written is read back by get and by scan, whatever attributes are there, and so is every change from one
/// state to another.
///
/// # Panics
/// When the rule is broken.
pub async fn every_attribute_round_trips(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(2);
    let mut expected = BTreeMap::new();
    for _ in 0..60 {
        let lease = samples.lease();
        assert_eq!(create(table, &lease).await, WriteOutcome::Applied);
        assert_eq!(find(table, &lease.key).await.as_ref(), Some(&lease), "as created");

        let next = Lease { counter: lease.counter + 1, ..samples.state_of(&lease) };
        assert_eq!(update(table, &lease, &next).await, WriteOutcome::Applied);
        assert_eq!(find(table, &lease.key).await.as_ref(), Some(&next), "as updated");
        expected.insert(next.key.clone(), next);
    }
    let scan = table.scan().await.expect("the table can be read");
    assert_eq!(scan.skipped, [], "every row can be read");
    assert_eq!(scan.leases, expected.into_values().collect::<Vec<_>>(), "a scan returns every lease, by key");
}

/// Every transition from a row that has changed since is refused and leaves no trace: a late checkpoint of the same
/// tenure, and whatever a worker writes that slept.
///
/// # Panics
/// When the rule is broken.
pub async fn stale_writes_are_refused(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(3);
    let (old, new) = (samples.worker_id(), samples.worker_id());
    let write = || samples.write_id();

    let free = new_lease(1);
    assert_eq!(create(table, &free).await, WriteOutcome::Applied);
    let owned = free.taken(write(), &old, InstanceId(1));
    assert_eq!(update(table, &free, &owned).await, WriteOutcome::Applied);
    let progressed = owned.checkpointed(write(), at(5));
    assert_eq!(update(table, &owned, &progressed).await, WriteOutcome::Applied);
    let taken = progressed.taken(write(), &new, InstanceId(2));
    assert_eq!(update(table, &progressed, &taken).await, WriteOutcome::Applied);

    for stale in [&free, &owned, &progressed] {
        let pending = PendingCheckpoint { checkpoint: at(9), state: Some(Bytes::from_static(b"state")) };
        let late = [
            stale.taken(write(), &old, InstanceId(1)),
            stale.checkpointed(write(), at(9)),
            stale.prepared(write(), pending),
            stale.handed_over(write(), &old, at(9)),
            stale.released(write(), at(9)),
            stale.ended(write(), [ShardId::from_index(2)]),
            stale.annotated(write(), |lease| lease.throughput_kbps = Some(1.5)),
        ];
        for next in late {
            assert_eq!(update(table, stale, &next).await, WriteOutcome::Conflict, "stale write {next:?}");
        }
        assert_eq!(delete(table, stale).await, WriteOutcome::Conflict, "stale delete of {stale:?}");
        assert_eq!(find(table, &free.key).await.as_ref(), Some(&taken), "a refused write leaves no trace");
    }

    let nowhere = new_lease(2);
    let next = nowhere.taken(write(), &old, InstanceId(1));
    assert_eq!(update(table, &nowhere, &next).await, WriteOutcome::Conflict, "there is no row to update");
    assert_eq!(find(table, &nowhere.key).await, None, "an update creates no row");
}

/// A writer that repeats a write because the answer was lost gets a conflict, reads back, and recognises its own.
///
/// # Panics
/// When the rule is broken.
pub async fn ambiguous_writes_are_recognised(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(4);
    let (mine, theirs) = (samples.worker_id(), samples.worker_id());

    let created = samples.state_of(&new_lease(3));
    let id = created.write_id.expect("samples have one");
    assert_eq!(create(table, &created).await, WriteOutcome::Applied);
    assert_eq!(create(table, &created).await, WriteOutcome::Conflict, "the echo of an own creation");
    assert!(find(table, &created.key).await.is_some_and(|row| row.was_written_by(id)));

    let id = samples.write_id();
    let next = created.taken(id, &mine, InstanceId(1));
    assert_eq!(update(table, &created, &next).await, WriteOutcome::Applied);
    assert_eq!(update(table, &created, &next).await, WriteOutcome::Conflict, "the echo of an own write");
    assert!(find(table, &created.key).await.is_some_and(|row| row.was_written_by(id)), "own write is recognised");

    let rival = created.taken(samples.write_id(), &theirs, InstanceId(2));
    assert_eq!(update(table, &created, &rival).await, WriteOutcome::Conflict);
    let row = find(table, &created.key).await.expect("still there");
    assert!(!row.was_written_by(rival.write_id.expect("just given")), "another's write is not taken for one's own");
}

/// A lease is deleted as it is known, once.
///
/// # Panics
/// When the rule is broken.
pub async fn deletes_are_conditional(table: &dyn LeaseTable) {
    initialized(table).await;
    let samples = Samples::seeded(5);
    let lease = new_lease(4);
    assert_eq!(delete(table, &lease).await, WriteOutcome::Conflict, "there is nothing to delete");
    assert_eq!(create(table, &lease).await, WriteOutcome::Applied);
    let ended = lease.ended(samples.write_id(), []);
    assert_eq!(update(table, &lease, &ended).await, WriteOutcome::Applied);
    assert_eq!(delete(table, &lease).await, WriteOutcome::Conflict, "the row has changed");

    let outcomes = join_all((0..8).map(|_| delete(table, &ended))).await;
    assert_eq!(outcomes.iter().filter(|o| **o == WriteOutcome::Applied).count(), 1, "one delete wins: {outcomes:?}");
    assert_eq!(find(table, &lease.key).await, None);
    let next = ended.annotated(samples.write_id(), |_| ());
    assert_eq!(update(table, &ended, &next).await, WriteOutcome::Conflict, "a deleted row does not come back");
    assert_eq!(find(table, &lease.key).await, None);
}

/// A scan of more than 2 MB, several pages of DynamoDB, returns every row once and in order.
///
/// # Panics
/// When the rule is broken.
pub async fn scans_return_every_page(table: &dyn LeaseTable) {
    const ROWS: u64 = 700;
    initialized(table).await;
    let state = Bytes::from(vec![7; 3000]);
    stream::iter(0..ROWS)
        .for_each_concurrent(16, |index| {
            let pending = PendingCheckpoint { checkpoint: at(index), state: Some(state.clone()) };
            let lease = Lease { pending: Some(pending), ..new_lease(index) };
            async move { assert_eq!(create(table, &lease).await, WriteOutcome::Applied) }
        })
        .await;
    let scan = table.scan().await.expect("the table can be read");
    let keys: Vec<&LeaseKey> = scan.leases.iter().map(|lease| &lease.key).collect();
    let expected: Vec<LeaseKey> = (0..ROWS).map(|index| new_lease(index).key).collect();
    assert!(keys.iter().copied().eq(&expected), "{} rows of {ROWS}", keys.len());
    assert!(scan.leases.iter().enumerate().all(|(i, lease)| lease.pending.as_ref().is_some_and(|p| p.checkpoint == at(i as u64))));
}

/// Many workers raise one counter, through all `tables`, which show the same rows (connections or processes, say).
/// Each success raises it by one, and no two successes start from the same row.
///
/// # Panics
/// When the rule is broken, or `tables` is empty.
pub async fn compare_and_set_is_linearizable(tables: &[&dyn LeaseTable]) {
    const WORKERS: usize = 8;
    const ROUNDS: usize = 25;
    join_all(tables.iter().map(|table| initialized(*table))).await;
    let first = *tables.first().expect("at least one table");
    let samples = Samples::seeded(6);
    let lease = new_lease(5);
    assert_eq!(create(first, &lease).await, WriteOutcome::Applied);

    let work = (0..WORKERS).map(|worker| {
        let (samples, key) = (samples.clone(), lease.key.clone());
        let table = tables[worker % tables.len()];
        async move {
            let mut wins = Vec::new();
            let mut last_seen = 0;
            for _ in 0..ROUNDS {
                let current = find(table, &key).await.expect("nobody deletes it");
                assert!(current.counter >= last_seen, "reads never go back");
                // Lets the others read the same row, even where no call waits.
                tokio::task::yield_now().await;
                let next = current.checkpointed(samples.write_id(), at(current.counter));
                last_seen = current.counter;
                if update(table, &current, &next).await == WriteOutcome::Applied {
                    wins.push(next.counter);
                    last_seen = next.counter;
                }
            }
            wins
        }
    });
    let wins: Vec<u64> = join_all(work).await.concat();
    let distinct: BTreeSet<u64> = wins.iter().copied().collect();
    assert_eq!(distinct.len(), wins.len(), "two writes from the same row have both won");
    let last = find(first, &lease.key).await.expect("nobody deletes it").counter;
    assert_eq!(wins.len() as u64, last, "each win raises the counter by one");
    assert!(distinct.into_iter().eq(1..=last), "no counter is left out");
}
