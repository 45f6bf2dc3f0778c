//! User code of a run: slow, failing and panicking by its seed, and telling the world what it gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use shardkeeper::{
    checkpoint::Checkpointer,
    processor::{
        BoxError, InitializationInput, LeaseLostInput, ProcessRecordsInput, RecordProcessor, RecordProcessorFactory, ShardEndedInput,
        ShutdownRequestedInput,
    },
    stream::StreamReference,
    testing::Process,
    types::{Record, ShardId},
};

use crate::{
    dice::{hash_text, unit},
    event::{Callback, Ending, Event, NodeId, Served, ShardKey, stream_number},
    world::{INJECTED_PANIC, World},
};

/// How user code behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Temper {
    /// Time for a batch, from and to, in milliseconds.
    pub(crate) work: (u64, u64),
    /// Takes 2 to 25 s instead.
    pub(crate) slow: f64,
    pub(crate) fails: f64,
    pub(crate) panics: f64,
    /// Writes a checkpoint in the midst of a batch.
    pub(crate) by_hand: f64,
}

impl Temper {
    /// Quick and flawless.
    pub(crate) const GOOD: Self = Self { work: (0, 5), slow: 0.0, fails: 0.0, panics: 0.0, by_hand: 0.0 };
}

/// What the handlers of a run share.
pub(crate) struct Handlers {
    seed: u64,
    temper: Temper,
    healed: AtomicBool,
    world: Arc<World>,
    processors: AtomicU64,
}

impl Handlers {
    pub(crate) fn new(seed: u64, temper: Temper, world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { seed, temper, healed: AtomicBool::new(false), world: Arc::clone(world), processors: AtomicU64::new(0) })
    }

    /// From here on handlers are quick and do not fail.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    fn temper(&self) -> Temper {
        if self.healed.load(Ordering::Relaxed) { Temper::GOOD } else { self.temper }
    }

    /// The factory of one node.
    pub(crate) fn factory(self: &Arc<Self>, node: NodeId, process: &Process) -> impl RecordProcessorFactory {
        let (handlers, process) = (Arc::clone(self), process.clone());
        move || Handler {
            processor: handlers.processors.fetch_add(1, Ordering::Relaxed) + 1,
            handlers: Arc::clone(&handlers),
            process: process.clone(),
            node,
            served: None,
            calls: 0,
            failures: 0,
        }
    }
}

struct Handler {
    handlers: Arc<Handlers>,
    process: Process,
    node: NodeId,
    processor: u64,
    served: Option<Served>,
    calls: u64,
    /// In a row: user code that fails for good stops its shard, which is not what is tested here.
    failures: u32,
}

/// Reports the end of a call, also of one that is dropped or panics.
struct Running<'a> {
    world: &'a World,
    process: &'a Process,
    by: Served,
    call: Callback,
    ending: Ending,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.process.is_killed() {
            return;
        }
        let ending = if std::thread::panicking() { Ending::Panicked } else { self.ending };
        self.world.record(&Event::CallEnded { by: self.by.clone(), call: self.call.clone(), ending });
    }
}

impl Handler {
    /// The tenure that it serves, which `initialize` has told.
    fn served(&mut self, shard: &ShardId, token: Option<u64>, stream: Option<&StreamReference>) -> Served {
        let (node, processor) = (self.node, self.processor);
        let fresh = || {
            let shard = ShardKey { stream: stream.map_or(0, |stream| stream_number(&stream.name())), shard: shard.clone() };
            Served { node, shard, token: token.unwrap_or_default(), processor }
        };
        self.served.get_or_insert_with(fresh).clone()
    }

    async fn run(&mut self, by: Served, call: Callback, may_fail: bool) -> Result<(), BoxError> {
        self.run_with(by, call, may_fail, None).await
    }

    async fn run_with(
        &mut self,
        by: Served,
        call: Callback,
        may_fail: bool,
        batch: Option<(&[Record], &Checkpointer)>,
    ) -> Result<(), BoxError> {
        self.calls += 1;
        let temper = self.handlers.temper();
        let coordinates = [hash_text(u64::from(by.shard.stream), by.shard.shard.as_str()), by.token, self.processor, self.calls];
        let draw = |what: u64| unit(self.handlers.seed, &[coordinates[0], coordinates[1], coordinates[2], coordinates[3], what]);
        let work = if draw(1) < temper.slow {
            Duration::from_secs_f64(2.0 + draw(2) * 23.0)
        } else {
            Duration::from_millis(temper.work.0 + (draw(3) * (temper.work.1 - temper.work.0) as f64) as u64)
        };
        let (fails, panics) =
            (may_fail && self.failures < 4 && draw(4) < temper.fails, may_fail && self.failures < 4 && draw(5) < temper.panics);
        self.failures = if fails || panics { self.failures + 1 } else { 0 };
        let world = Arc::clone(&self.handlers.world);
        world.record(&Event::CallStarted { by: by.clone(), call: call.clone() });
        let mut running = Running { world: &world, process: &self.process, by: by.clone(), call, ending: Ending::Dropped };
        if let Some((records, checkpointer)) = batch
            && draw(6) < temper.by_hand
        {
            let part = &records[..1 + (draw(7) * records.len() as f64) as usize % records.len()];
            tokio::time::sleep(work / 4).await;
            world.record(&Event::DoneByHand { by, records: part.iter().map(Record::position).collect() });
            // One that does not succeed leaves the batch to the checkpoint after it.
            drop(checkpointer.checkpoint_at(&part[part.len() - 1]).await);
        }
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        if panics {
            std::panic::panic_any(INJECTED_PANIC);
        }
        running.ending = if fails { Ending::Failed } else { Ending::Done };
        drop(running);
        if fails { Err("injected failure".into()) } else { Ok(()) }
    }
}

#[async_trait]
impl RecordProcessor for Handler {
    async fn initialize(&mut self, input: InitializationInput<'_>) -> Result<(), BoxError> {
        let by = self.served(input.shard_id, Some(input.fencing_token), Some(input.stream));
        self.run(by, Callback::Initialize(input.checkpoint), true).await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput<'_>) -> Result<(), BoxError> {
        let by = self.served(input.shard_id, Some(input.fencing_token), None);
        let records = input.records.iter().map(Record::position).collect();
        self.run_with(by, Callback::Process(records), true, Some((input.records, input.checkpointer))).await
    }

    async fn lease_lost(&mut self, input: LeaseLostInput<'_>) {
        let by = self.served(input.shard_id, None, None);
        drop(self.run(by, Callback::LeaseLost, false).await);
    }

    async fn shard_ended(&mut self, input: ShardEndedInput<'_>) -> Result<(), BoxError> {
        let by = self.served(input.shard_id, None, None);
        self.run(by, Callback::ShardEnded, true).await
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput<'_>) -> Result<(), BoxError> {
        let by = self.served(input.shard_id, None, None);
        self.run(by, Callback::ShutdownRequested, true).await
    }
}
