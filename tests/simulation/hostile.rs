//! What strangers leave in a lease table that they have no business with.

use shardkeeper::{
    lease::{
        ForeignWorker, LeaderLock, Lease, LeaseTable, MemoryLeaseTable, Signal, WorkerRow, WorkerState, WorkerVersion, WriteId,
        WriteOutcome,
    },
    types::{Checkpoint, ExtendedSequenceNumber, InstanceId, SequenceNumber, ShardId, StreamIdentifier, Timestamp, WorkerId},
};

use crate::{
    event::{Event, NodeId, stream_name},
    fleet::Fleet,
    world::World,
};

/// Nobody's process.
const STRANGER: NodeId = NodeId(0);

/// A worker that never was.
fn ghost() -> WorkerId {
    WorkerId::new("ghost").expect("a valid id")
}

/// Before the first start: a leader that is dead, the remains of a Java fleet, and leases of a stream that nobody reads,
/// which nobody may touch.
pub(crate) async fn plant(table: &MemoryLeaseTable) {
    let row = WorkerRow {
        id: ghost(),
        version: WorkerVersion { instance: InstanceId(u64::MAX), heartbeat: u64::MAX / 2 },
        state: WorkerState::Active,
        leading: true,
        roster: vec![ghost()],
        max_leases: Some(0),
        updated: Timestamp::from_millis(i64::MAX / 2),
        signals: [Signal::Plan { from: ghost(), number: u64::MAX }].into(),
    };
    drop(table.put_worker(&row, None).await);
    table.put_foreign_worker(ForeignWorker { id: "java-1".to_owned(), last_update: Some(Timestamp::from_millis(i64::MIN / 2)) });
    table.set_leader_lock(Some(LeaderLock { owner: "java-1".to_owned(), version: "1".to_owned() }));
    let other = StreamIdentifier::Multi { account_id: "123456789012".to_owned(), name: "others".parse().expect("a valid name"), epoch: 1 };
    for index in 0..3 {
        let mut lease = Lease::new(&other, ShardId::from_index(index), Checkpoint::AtTimestamp);
        lease.counter = u64::MAX / 2;
        lease.owner_switches = u64::MAX / 2;
        lease.throughput_kbps = Some([f64::NAN, f64::INFINITY, -1.0][index as usize]);
        lease.checkpoint = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::MAX, u64::MAX));
        lease.owner = Some(if index == 0 { WorkerId::new("java-1").expect("a valid id") } else { ghost() });
        lease.owner_instance = (index == 2).then_some(InstanceId(u64::MAX));
        // Without it, it would look like one that a Java worker renews, which is watched for seconds at each start.
        lease.write_id = Some(WriteId(u64::MAX));
        drop(table.create_lease(&lease).await);
    }
}

/// A lease of a shard that the stream never had: somebody may hold it, and must not make anything of it.
pub(crate) async fn bogus_lease(fleet: &Fleet, world: &World) {
    let scan = fleet.table().snapshot();
    let Some(known) = scan.leases.iter().find(|lease| lease.stream.as_ref().is_none_or(|stream| *stream.name() == stream_name(0))) else {
        return;
    };
    let shard = ShardId::from_index(9_999_999);
    let lease = Lease {
        key: known.sibling_key(&shard),
        shard_id: shard,
        counter: 0,
        owner: None,
        owner_instance: None,
        checkpoint: Checkpoint::TrimHorizon,
        throughput_kbps: Some(f64::NAN),
        parents: [ShardId::from_index(9_999_999)].into(),
        children: [known.shard_id.clone()].into(),
        start_at: Some(Timestamp::from_millis(0)),
        ..known.clone()
    };
    if matches!(fleet.table().create_lease(&lease).await, Ok(WriteOutcome::Applied)) {
        world.record(&Event::LeaseCreated { node: STRANGER, lease });
    }
}

/// Signals are advice, and this is bad advice: leases are to go to a worker that is not there.
pub(crate) async fn forged_signal(fleet: &Fleet, slot: u32, pick: u64) {
    let scan = fleet.table().snapshot();
    let (Some(lease), Some(running)) = (scan.leases.get(pick as usize % scan.leases.len().max(1)), fleet.running(slot)) else { return };
    let signals = [
        Signal::HandOver { lease: lease.key.clone(), counter: u64::MAX, to: ghost() },
        Signal::Take { lease: lease.key.clone(), counter: u64::MAX },
        Signal::Accept { lease: lease.key.clone(), counter: u64::MAX },
    ];
    drop(fleet.table().signal(running.worker(), &signals).await);
}
