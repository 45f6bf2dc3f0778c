//! The workers of a run as processes in slots, each with its own network and clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use shardkeeper::{
    Result,
    clock::{Clock, TokioClock},
    consumer::Shards,
    lease::{LeaseTable, MemoryLeaseTable},
    random::Randomness,
    retrieval::{Consumer, Retrieval, kpl::KplCounts},
    stream::StreamClient,
    task::Spawner,
    testing::{FaultyLeaseTable, FaultyStream, Process},
    types::{InitialPosition, Timestamp, WorkerId},
    worker::{RunReport, Worker, WorkerHandle},
};
use tokio::sync::Notify;

use crate::{
    STREAM,
    dice::hash,
    event::{Event, NodeId, stream_name},
    handler::Handlers,
    plan::{Plan, Start},
    watched_table::{End, WatchedTable},
    weather::Weather,
    world::World,
};

/// The application of all workers, whose stream consumers are named after it.
pub(crate) const APPLICATION: &str = "simulation";

/// Time limit of the clients, as that of GetRecords on AWS. That of the table is of no account: the worker has its own.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Wall time of one node: off by a while, and jumping.
#[derive(Debug)]
struct NodeClock {
    true_time: TokioClock,
    ahead_millis: AtomicI64,
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.true_time.now().as_millis() + self.ahead_millis.load(Ordering::Relaxed))
    }
}

/// One running process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) node: NodeId,
    pub(crate) process: Process,
    handle: WorkerHandle,
    clock: Arc<NodeClock>,
    exited: Arc<Notify>,
}

impl Running {
    pub(crate) fn worker(&self) -> &WorkerId {
        self.handle.worker_id()
    }
}

/// All processes.
pub(crate) struct Fleet {
    plan: Arc<Plan>,
    world: Arc<World>,
    weather: Arc<Weather>,
    handlers: Arc<Handlers>,
    stream: Arc<dyn StreamClient>,
    table: MemoryLeaseTable,
    clock: TokioClock,
    network: Spawner,
    slots: Mutex<BTreeMap<u32, Running>>,
    nodes: AtomicU32,
}

impl Fleet {
    pub(crate) fn new(
        plan: &Arc<Plan>,
        world: &Arc<World>,
        weather: &Arc<Weather>,
        handlers: &Arc<Handlers>,
        stream: Arc<dyn StreamClient>,
        clock: TokioClock,
    ) -> Arc<Self> {
        Arc::new(Self {
            plan: Arc::clone(plan),
            world: Arc::clone(world),
            weather: Arc::clone(weather),
            handlers: Arc::clone(handlers),
            stream,
            table: MemoryLeaseTable::new(),
            clock,
            network: Spawner::current(),
            slots: Mutex::default(),
            nodes: AtomicU32::new(0),
        })
    }

    fn slots<T>(&self, f: impl FnOnce(&mut BTreeMap<u32, Running>) -> T) -> T {
        f(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn table(&self) -> &MemoryLeaseTable {
        &self.table
    }

    /// What runs in the slot now.
    pub(crate) fn running(&self, slot: u32) -> Option<Running> {
        self.slots(|slots| slots.get(&slot).cloned())
    }

    /// SIGKILL for everybody.
    pub(crate) fn crash_all(&self) {
        for slot in self.used_slots() {
            self.crash(slot);
        }
    }

    pub(crate) fn used_slots(&self) -> Vec<u32> {
        self.slots(|slots| slots.keys().copied().collect())
    }

    /// Starts a process in the slot, unless one runs there.
    pub(crate) fn boot(self: &Arc<Self>, slot: u32, same_name: bool) {
        if self.running(slot).is_some() {
            return;
        }
        let id = self.nodes.load(Ordering::Relaxed) + 1;
        let name = if same_name { format!("w{slot}") } else { format!("w{slot}.{id}") };
        match self.start(slot, &name) {
            Ok(running) => {
                self.slots(|slots| slots.insert(slot, running.clone()));
                self.supervise(slot, running);
            }
            Err(error) => self.world.violate("harness", format!("a worker cannot be built: {error}")),
        }
    }

    /// Starts a process that nobody supervises.
    pub(crate) fn start(self: &Arc<Self>, slot: u32, name: &str) -> Result<Running> {
        let plan = &self.plan;
        let node = NodeId(self.nodes.fetch_add(1, Ordering::Relaxed) + 1);
        let seed = hash(self.plan.seed, &[0x90DE, u64::from(node.0)]);
        let process = match self.plan.shuffle {
            0.0 => Process::new(),
            p => Process::shuffled(Randomness::seeded(hash(seed, &[1])), p),
        };
        // Where reading starts at a moment, that is one of the first worker's clock, which has to be right then.
        let ahead = if plan.start != Start::TrimHorizon { 0 } else { (hash(seed, &[2]) % 600_000) as i64 - 300_000 };
        let clock = Arc::new(NodeClock { true_time: self.clock, ahead_millis: AtomicI64::new(ahead) });
        let worker = WorkerId::new(name)?;

        let way = self.weather.way(node, &self.world);
        let at_table = WatchedTable::new(Arc::new(self.table.clone()), &self.world, node, End::Table);
        let at_table = Arc::new(if plan.hostile_rows { at_table.with_unreadable_rows() } else { at_table });
        let between = Arc::new(FaultyLeaseTable::new(at_table, Arc::clone(&way), self.network.clone(), CLIENT_TIMEOUT));
        let table: Arc<dyn LeaseTable> = Arc::new(WatchedTable::new(between, &self.world, node, End::Worker));
        let stream = Arc::new(FaultyStream::new(Arc::clone(&self.stream), way, self.network.clone(), CLIENT_TIMEOUT));

        let builder = Worker::builder(APPLICATION, STREAM, self.handlers.factory(node, &process));
        let worker = (1..plan.streams)
            .fold(builder, |builder, number| {
                let builder = builder.stream(stream_name(number));
                if number % 2 == 1 { builder.stream_retrieval(stream_name(number), Retrieval::Polling) } else { builder }
            })
            .stream_client(stream)
            .lease_table(table)
            .worker_id(worker.as_str())
            .clock(Arc::clone(&clock) as _)
            .randomness(Randomness::seeded(seed))
            .spawner(process.spawner())
            .stop_on_signals(false)
            .initial_position(match plan.start {
                Start::TrimHorizon => InitialPosition::TrimHorizon,
                Start::Latest => InitialPosition::Latest,
                Start::AtTimestamp => InitialPosition::AtTimestamp(crate::run::START_AT),
            })
            .lease_duration(plan.lease_duration)
            .retrieval(match plan.fan_out {
                Some(_) => Retrieval::FanOut(Consumer::OfApplication),
                None => Retrieval::Polling,
            })
            .configure(|config| {
                config.lease.watch_interval = config.lease.watch_interval.min(plan.lease_duration / 4);
                config.lease.drain_timeout = plan.drain_timeout;
                config.consumer.drain_timeout = plan.drain_timeout;
                config.consumer.checkpoint_interval = Some(plan.checkpoint_interval);
            })
            .build()?;
        let running = Running { node, process: process.clone(), handle: worker.handle(), clock, exited: Arc::new(Notify::new()) };
        self.world.record(&Event::Booted { node, slot, worker: worker.handle().worker_id().clone() });
        let (world, exited) = (Arc::clone(&self.world), Arc::clone(&running.exited));
        let dying = process.clone();
        let life = async move {
            let result = match std::panic::AssertUnwindSafe(worker.run()).catch_unwind().await {
                Ok(result) => {
                    let result = result.inspect(|report| counted(report).unwrap_or_else(|what| world.violate("counts", what)));
                    result.map(|report| summary(&report)).map_err(|error| format!("{error:#}"))
                }
                // A stream client that panics before anything runs takes the program along.
                Err(_panic) => Err("panicked".to_owned()),
            };
            let panicked = result.as_ref().is_err_and(|error| error == "panicked");
            world.record(&Event::Exited { node, result });
            exited.notify_one();
            if panicked {
                dying.kill();
            }
        };
        process.spawner().spawn("worker", life).detach();
        Ok(running)
    }

    /// Starts a process anew that ended though nobody asked it to, as a service manager would.
    fn supervise(self: &Arc<Self>, slot: u32, running: Running) {
        let fleet = Arc::clone(self);
        let watch = async move {
            running.exited.notified().await;
            running.process.kill();
            // Whoever asked it to stop waits for the same.
            running.exited.notify_one();
            let unasked = fleet.world.look(|history| history.nodes.get(&running.node).is_some_and(|node| node.stop_asked.is_none()));
            fleet.slots(|slots| {
                if slots.get(&slot).is_some_and(|current| current.node == running.node) {
                    slots.remove(&slot);
                }
            });
            if unasked {
                tokio::time::sleep(Duration::from_secs(1)).await;
                fleet.boot(slot, false);
            }
        };
        self.network.spawn("supervisor", watch).detach();
    }

    /// SIGKILL. Returns whether something ran there.
    pub(crate) fn crash(&self, slot: u32) -> bool {
        let Some(running) = self.slots(|slots| slots.remove(&slot)) else { return false };
        self.world.record(&Event::Killed { node: running.node });
        running.process.kill();
        true
    }

    /// SIGTERM, and waits for the process to end by itself. Returns whether something ran there.
    pub(crate) async fn stop(&self, slot: u32, bound: Duration) -> bool {
        let Some(running) = self.running(slot) else { return false };
        self.stop_running(&running, bound).await;
        self.slots(|slots| {
            if slots.get(&slot).is_some_and(|current| current.node == running.node) {
                slots.remove(&slot);
            }
        });
        true
    }

    /// SIGTERM to a process, which must have ended when it has run for `bound` since.
    pub(crate) async fn stop_running(&self, running: &Running, bound: Duration) {
        self.world.record(&Event::StopAsked { node: running.node });
        running.handle.shutdown();
        let mut awake = Duration::ZERO;
        let step = Duration::from_millis(500);
        loop {
            if tokio::time::timeout(step, running.exited.notified()).await.is_ok() || running.process.is_killed() {
                running.exited.notify_one();
                running.process.kill();
                return;
            }
            if !running.process.is_frozen() {
                awake += step;
            }
            if awake > bound {
                let status = running.handle.status();
                self.world.violate("liveness", format!("{} has not stopped within {bound:?}: {status:?}", running.node));
                self.world.record(&Event::Killed { node: running.node });
                running.process.kill();
                running.exited.notify_one();
                return;
            }
        }
    }

    pub(crate) fn freeze(&self, running: &Running) {
        self.world.record(&Event::Frozen { node: running.node });
        running.process.freeze();
    }

    pub(crate) fn resume(&self, running: &Running) {
        if running.process.is_killed() {
            return;
        }
        running.process.resume();
        if !running.process.is_frozen() {
            self.world.record(&Event::Resumed { node: running.node });
        }
    }

    /// Pauses or resumes a worker, or what it has of one stream.
    pub(crate) fn set_paused(&self, running: &Running, stream: Option<u32>, paused: bool) {
        let shards = stream.map_or(Shards::All, |number| Shards::Stream(stream_name(number)));
        let held = if paused { running.handle.pause(&shards) } else { running.handle.resume(&shards) };
        if paused && held > 0 && !running.process.is_killed() {
            self.world.probe("shards paused that are held");
        }
        self.world.record(&Event::Paused { node: running.node, stream, paused });
    }

    pub(crate) fn limit(&self, running: &Running, per_second: Option<u32>) {
        running.handle.set_rate_limit(per_second).expect("not zero");
    }

    pub(crate) fn jump(&self, slot: u32, seconds: i64) {
        if let Some(running) = self.running(slot) {
            running.clock.ahead_millis.fetch_add(seconds * 1000, Ordering::Relaxed);
        }
    }
}

/// Whether the report accounts for every record, in each tenure and over all of them.
fn counted(report: &RunReport) -> std::result::Result<(), String> {
    let adds_up = |kpl: &KplCounts| kpl.received == kpl.delivered + kpl.filtered + kpl.quarantined;
    let wrong = report.shards.iter().find(|shard| !adds_up(&shard.kpl) || shard.records > shard.kpl.delivered);
    if let Some(shard) = wrong {
        return Err(format!("{shard} and {:?}", shard.kpl));
    }
    let mut sum = KplCounts::default();
    report.shards.iter().for_each(|shard| sum.add(&shard.kpl));
    if report.shards.len() as u64 == report.tenures && sum != report.kpl {
        return Err(format!("the tenures have {sum:?} and the report {:?}", report.kpl));
    }
    Ok(())
}

fn summary(report: &RunReport) -> String {
    let failures: Vec<String> = report.failures().map(|shard| format!("{} {:?}", shard.shard_id, shard.ending)).collect();
    format!("{} records, {} tenures, expelled {} times {}", report.records, report.shards.len(), report.times_expelled, failures.join("; "))
}
