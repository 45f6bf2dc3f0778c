//! Every lease table passes the conformance suite; and what is particular to each.

mod broken;
mod dynamodb;
mod sqlite;

use shardkeeper::lease::{LeaseTable, MemoryLeaseTable, conformance};

#[tokio::test(start_paused = true)]
async fn memory_conforms() {
    conformance::run(|| async { Box::new(MemoryLeaseTable::new()) as Box<dyn LeaseTable> }).await;
}

#[tokio::test]
async fn memory_counts_calls() {
    let table = MemoryLeaseTable::new();
    let before = table.counts();
    conformance::heartbeats_keep_signals(&table.clone()).await;
    let counts = table.counts().since(&before);
    assert_eq!((counts.put_worker, counts.heartbeat, counts.delete_worker), (1, 5, 0));
    assert_eq!(counts.reads(), counts.get_workers, "{counts:?}");
    assert_eq!(counts.writes(), counts.put_worker + counts.heartbeat + counts.signal, "{counts:?}");
}
