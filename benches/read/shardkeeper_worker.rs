//! The worker that is measured: leases in memory, automatic checkpoints, a processor that counts.

use std::{sync::Arc, time::Duration};

use shardkeeper::{
    BoxError, InitialPosition, ProcessRecordsInput, RecordProcessor, Worker, async_trait,
    lease::MemoryLeaseTable,
    retrieval::{Consumer, Retrieval},
    stream::aws::AwsStreamClient,
};

use crate::{
    counters::Counters,
    job::{Mode, Reading},
    rig::Result,
};

/// Longer than the process is ever stopped, so that it is not taken for dead.
const LEASE: Duration = Duration::from_secs(120);
/// More than any machine reads.
const NO_LIMIT: (u32, u64) = (100_000, 1 << 40);

struct Counting {
    counters: Arc<Counters>,
    stamped: bool,
    seen: bool,
}

#[async_trait]
impl RecordProcessor for Counting {
    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        if !std::mem::replace(&mut self.seen, true) {
            self.counters.shard();
        }
        let bytes = input.records.iter().map(|record| record.data().len() as u64).sum();
        self.counters.batch(input.records.len() as u64, bytes);
        if self.stamped {
            input.records.iter().for_each(|record| self.counters.delay_of(record.data()));
        }
        Ok(())
    }
}

pub(crate) async fn run(reading: &Reading, counters: &Arc<Counters>) -> Result {
    let (counters, stamped) = (Arc::clone(counters), reading.stamped);
    let worker = Worker::builder("read", &reading.stream, move || Counting { counters: Arc::clone(&counters), stamped, seen: false })
        .stream_client(Arc::new(AwsStreamClient::from_client(&reading.client())))
        .lease_table(Arc::new(MemoryLeaseTable::default()))
        .initial_position(InitialPosition::TrimHorizon)
        .retrieval(match reading.mode {
            Mode::Polling => Retrieval::Polling,
            Mode::FanOut => Retrieval::FanOut(Consumer::OfApplication),
        })
        .lease_duration(LEASE)
        .configure(|config| {
            if !reading.paced {
                (config.polling.calls_per_second, config.polling.bytes_per_second) = NO_LIMIT;
            }
        })
        .build()?;
    worker.run().await?;
    Ok(())
}
