//! Workers on the local stream.

use std::sync::Arc;

use super::LocalKinesis;
use crate::worker::WorkerBuilder;

impl WorkerBuilder {
    /// Reads from a local stream in this process. Leases are kept with it in memory, shared by the workers of the
    /// application on clones of the same `kinesis`; call [`lease_table`](WorkerBuilder::lease_table) after this to keep
    /// them elsewhere.
    pub fn local(self, kinesis: &LocalKinesis) -> Self {
        let table = kinesis.lease_table(self.application());
        self.stream_client(Arc::new(kinesis.clone())).lease_table(Arc::new(table))
    }
}
