//! What the leading worker does for the shards: makes missing leases, repairs holes, deletes finished leases.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    error::{Error, ErrorKind, Result},
    lease::{LeaseTable, TableScan, coordinator::CoordinatorHandle},
    retry::Obstacle,
    shards::ShardSync,
    task::panic_message,
};

/// Wait after a shard sync that failed.
const SYNC_RETRY: Duration = Duration::from_secs(5);

pub(super) struct Housekeeper {
    table: Arc<dyn LeaseTable>,
    coordinator: CoordinatorHandle,
    streams: Vec<Kept>,
    sync_interval: Duration,
    obstacle: Obstacle,
}

struct Kept {
    sync: ShardSync,
    next_sync: Option<Instant>,
    /// Whether the shards were ever listed.
    synced: bool,
}

impl Housekeeper {
    pub(super) fn new(
        table: Arc<dyn LeaseTable>,
        coordinator: CoordinatorHandle,
        streams: Vec<ShardSync>,
        sync_interval: Duration,
        obstacle: Obstacle,
    ) -> Self {
        let streams = streams.into_iter().map(|sync| Kept { sync, next_sync: None, synced: false }).collect();
        Self { table, coordinator, streams, sync_interval, obstacle }
    }

    /// Works on each scan of the table, which only a leading worker gets.
    ///
    /// # Errors
    /// `Mismatch` when the stream was re-created, `InvalidInput` for an initial position that cannot be, and what the
    /// service refuses before the shards were ever listed, such as a missing permission.
    pub(super) async fn run(mut self, mut scans: mpsc::Receiver<Arc<TableScan>>) -> Result<()> {
        while let Some(scan) = scans.recv().await {
            let mut changed = false;
            for kept in &mut self.streams {
                match kept.survive(&*self.table, &scan, self.sync_interval).await {
                    Ok(made_or_deleted) => changed |= made_or_deleted,
                    Err(error) if kept.is_fatal(&error) => return Err(error),
                    // Nobody has leases before the shards were listed.
                    Err(error) if !kept.synced => self.obstacle.met("make the leases of the shards", &error),
                    Err(error) => tracing::warn!(%error, "shard housekeeping failed, trying again at the next round"),
                }
            }
            if self.streams.iter().all(|kept| kept.synced) {
                self.obstacle.passed();
            }
            if changed {
                self.coordinator.request_plan().await;
            }
        }
        Ok(())
    }
}

impl Kept {
    /// What was possible before may be possible again: only a first listing that is refused ends the worker.
    fn is_fatal(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Mismatch | ErrorKind::InvalidInput => true,
            ErrorKind::AccessDenied | ErrorKind::NotFound => !self.synced,
            _ => false,
        }
    }

    /// A stream client that panics costs a round, not the worker.
    async fn survive(&mut self, table: &dyn LeaseTable, scan: &TableScan, interval: Duration) -> Result<bool> {
        let round = AssertUnwindSafe(self.keep(table, scan, interval)).catch_unwind().await;
        round.unwrap_or_else(|panic| {
            Err(Error::new(ErrorKind::Internal, format!("shard housekeeping panicked: {}", panic_message(&*panic))))
        })
    }

    async fn keep(&mut self, table: &dyn LeaseTable, scan: &TableScan, interval: Duration) -> Result<bool> {
        let now = Instant::now();
        let due = self.next_sync.is_none_or(|at| now >= at);
        let mut changed = false;
        if due || self.sync.needs_repair(scan) {
            // A round that fails is not to wait for the next regular one.
            self.next_sync = Some(Instant::now() + SYNC_RETRY.min(interval));
            let report = self.sync.sync(table, scan).await?;
            self.synced = true;
            self.next_sync = Some(Instant::now() + interval);
            changed |= report.created > 0;
        }
        changed |= self.sync.clean_up(table, scan).await? > 0;
        Ok(changed)
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::{
        clock::TokioClock,
        lease::MemoryLeaseTable,
        local::{Config, CreateStream, LocalKinesis, PutEntry},
        random::Randomness,
        task::Spawner,
        testing::{Call, Fate, FaultyStream, Operation, ProcessorLog},
        types::{InitialPosition, Timestamp},
        worker::Worker,
    };

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_panics_costs_a_round_and_not_the_worker() {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000));
        let kinesis = LocalKinesis::new(Config::default(), Arc::new(clock), Randomness::seeded(1));
        kinesis.create_stream(&CreateStream::provisioned("clicks".parse().expect("valid"), 2)).expect("created");
        let stream = "clicks".parse().expect("valid");
        for n in 0..10 {
            kinesis.put_record(&stream, PutEntry::new(format!("key-{n}"), "x"), None).expect("put");
        }
        let listings = std::sync::atomic::AtomicU32::new(0);
        let network = move |call: &Call| {
            let listing = call.operation == Operation::ListShards;
            assert!(!listing || listings.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2, "as told");
            Fate::default()
        };
        let client = FaultyStream::new(Arc::new(kinesis), Arc::new(network), Spawner::current(), Duration::from_secs(10));
        let log = ProcessorLog::default();
        let worker = Worker::builder("shop", "clicks", log.factory())
            .stream_client(Arc::new(client))
            .lease_table(Arc::new(MemoryLeaseTable::new()))
            .initial_position(InitialPosition::TrimHorizon)
            .randomness(Randomness::seeded(3))
            .spawner(Spawner::current())
            .stop_on_signals(false)
            .build()
            .expect("complete");
        let handle = worker.handle();
        let mut running = Spawner::current().spawn("worker", worker.run());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(log.processed().len(), 10);
        handle.shutdown();
        running.join().await.expect("no panic").expect("a clean end");
    }
}
