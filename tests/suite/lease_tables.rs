//! Every lease table passes the conformance suite.

use shardkeeper::lease::{LeaseTable, MemoryLeaseTable, conformance};

#[tokio::test(start_paused = true)]
async fn memory_conforms() {
    conformance::run(|| async { Box::new(MemoryLeaseTable::new()) as Box<dyn LeaseTable> }).await;
}
