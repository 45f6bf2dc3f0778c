//! One seed from start to verdict: chaos, healing, balance, and a clean end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use shardkeeper::{
    clock::TokioClock,
    lease::Lease,
    limits,
    local::{Config, CreateStream, Delays, FanOut, LocalKinesis, Quirks},
    random::Randomness,
    stream::StreamReference,
    task::Spawner,
    types::Timestamp,
};
use tokio::time::{sleep, sleep_until};

use crate::{
    STREAM,
    dice::{Dice, hash},
    event::{Event, Row, ShardKey, stream_name},
    fleet::Fleet,
    handler::Handlers,
    history::{History, Settings},
    hostile,
    invariants::liveness,
    nemesis::Nemesis,
    plan::Plan,
    producer::Producer,
    watched_stream::WatchedStream,
    weather::Weather,
    world::{Verdict, World},
};

/// The world begins on 1 January 2026.
const BASE: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Where applications with AT_TIMESTAMP begin: after the first records, before the first worker.
pub(crate) const START_AT: Timestamp = Timestamp::from_millis(BASE.as_millis() + 5);

/// How long records are kept.
const RETENTION: Duration = limits::RETENTION_MIN;

/// What was put before an absence is past retention at its end by this much.
const ABSENCE_MARGIN: Duration = Duration::from_secs(3600);

/// Time of an absence in which nothing happens.
pub(crate) const ABSENT: Duration = RETENTION.saturating_add(ABSENCE_MARGIN);

/// How often the run looks at what it waits for.
const LOOK: Duration = Duration::from_millis(100);

/// Time for a request there and back and for tasks to act on it, in good weather.
const SLACK: Duration = Duration::from_secs(1);

/// Runs a plan in a thread of its own: nothing of one seed is left for the next.
pub(crate) fn run(plan: Plan, keep_lines: bool) -> Verdict {
    let seed = plan.seed;
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let verdict = runtime.block_on(play(plan, keep_lines));
        runtime.shutdown_background();
        verdict
    });
    let thread = thread.expect("threads can be started");
    thread.join().expect("the harness does not panic")
}

async fn play(plan: Plan, keep_lines: bool) -> Verdict {
    let stage = Stage::set(&Arc::new(plan), keep_lines);
    stage.chaos().await;
    stage.heal().await;
    stage.settle().await;
    stage.end().await;
    stage.world.close()
}

/// All that takes part in a run.
pub(crate) struct Stage {
    plan: Arc<Plan>,
    pub(crate) world: Arc<World>,
    weather: Arc<Weather>,
    handlers: Arc<Handlers>,
    pub(crate) fleet: Arc<Fleet>,
    nemesis: Nemesis,
    pub(crate) kinesis: LocalKinesis,
    pub(crate) streams: Vec<StreamReference>,
}

impl Stage {
    pub(crate) fn set(plan: &Arc<Plan>, keep_lines: bool) -> Self {
        let settings = Settings {
            lease_duration: plan.lease_duration,
            checkpoint_interval: plan.checkpoint_interval,
            drain_timeout: plan.drain_timeout,
            calm_network: plan.is_calm(),
        };
        let world = &Arc::new(World::new(settings, keep_lines));
        let clock = TokioClock::starting_at(BASE);
        let config = Config {
            delays: Delays { update: plan.reshard_delay, consumer: Duration::from_secs(3), ..Delays::default() },
            fan_out: FanOut { subscription_life: plan.fan_out.unwrap_or(FanOut::default().subscription_life), ..FanOut::default() },
            quirks: Quirks { list_shards_lag: plan.list_shards_lag, empty_answers: plan.empty_answers },
            ..Config::default()
        };
        let kinesis = LocalKinesis::new(config, Arc::new(clock), Randomness::seeded(hash(plan.seed, &[0x571])));
        for number in 0..plan.streams {
            let shards = if number == 0 { plan.shards } else { plan.shards.div_ceil(2) };
            kinesis.create_stream(&CreateStream::provisioned(stream_name(number), shards)).expect("a new account has room for it");
        }
        let streams: Vec<_> = (0..plan.streams).map(|number| StreamReference::Name(stream_name(number))).collect();
        let weather = Weather::new(plan.seed, plan.noise);
        let handlers = Handlers::new(plan.seed, plan.temper, world);
        let watched = Arc::new(WatchedStream::new(Arc::new(kinesis.clone()), world));
        let fleet = Fleet::new(plan, world, &weather, &handlers, watched, clock);
        let nemesis = Nemesis {
            plan: Arc::clone(plan),
            world: Arc::clone(world),
            weather: Arc::clone(&weather),
            fleet: Arc::clone(&fleet),
            kinesis: kinesis.clone(),
            streams: streams.clone(),
        };
        Self { plan: Arc::clone(plan), world: Arc::clone(world), weather, handlers, fleet, nemesis, kinesis, streams }
    }

    /// Starts a worker in every slot that is empty.
    pub(crate) fn boot_all(&self) {
        for slot in 0..self.plan.workers {
            self.fleet.boot(slot, true);
        }
    }

    /// A producer whose draws are those of this concern.
    pub(crate) fn producer(&self, concern: &str) -> Producer {
        Producer::new(&self.plan, &self.world, &self.kinesis, &self.streams, concern)
    }

    /// In which every living lease must be back with a worker.
    fn recovery(&self) -> Duration {
        self.plan.lease_duration * 2 + Duration::from_secs(1)
    }

    async fn chaos(&self) {
        if self.plan.hostile_rows {
            hostile::plant(self.fleet.table()).await;
        }
        self.producer("before").put(self.plan.records_before);
        // What is put in the very millisecond of the start may count for either side.
        sleep(Duration::from_millis(10)).await;
        Spawner::current().spawn("producer", self.producer("producer").run(self.recovery() + Duration::from_secs(5))).detach();
        self.boot_all();
        let mut strikes = self.nemesis.unleash();
        sleep_until(self.world.started() + self.plan.chaos).await;
        for strike in &mut strikes {
            drop(strike.join().await);
        }
        if self.plan.absence {
            self.absence().await;
        }
    }

    /// All are down for longer than records are kept. Shards that were not read to their end go, with all that was put
    /// before; what is put and changed in the midst of it stays.
    async fn absence(&self) {
        self.fleet.crash_all();
        let mut dice = Dice::new(self.plan.seed, "absence");
        let mut producer = self.producer("absence");
        let change = self.plan.reshard_delay + Duration::from_secs(10);
        sleep_until(self.world.started() + self.plan.chaos + self.recovery() + Duration::from_secs(10)).await;
        let all = || -> BTreeSet<ShardKey> {
            let numbered = self.streams.iter().zip(0..);
            numbered
                .flat_map(|(name, stream)| self.nemesis.shards(name).into_iter().map(move |s| ShardKey { stream, shard: s.id }))
                .collect()
        };
        let mut known = all();
        for _ in 0..dice.number(0..3) {
            producer.put(20);
            self.nemesis.split(dice.any());
            sleep(change).await;
            known.extend(all());
        }
        sleep(RETENTION / 2).await;
        for _ in 0..dice.number(0..3) {
            producer.put(20);
            if dice.chance(0.5) {
                self.nemesis.split(dice.any())
            } else {
                self.nemesis.merge(dice.any())
            }
            sleep(change).await;
            known.extend(all());
        }
        producer.put(20);
        sleep(RETENTION / 2 + ABSENCE_MARGIN).await;
        let gone: Vec<ShardKey> = known.difference(&all()).cloned().collect();
        self.world.probe("application away for longer than retention");
        (0..gone.len()).for_each(|_| self.world.probe("shard gone before it was read"));
        self.world.record(&Event::Trimmed { before: self.kinesis.now().minus(RETENTION), gone });
    }

    async fn heal(&self) {
        self.weather.heal();
        self.handlers.heal();
        self.world.record(&Event::Healed);
        self.boot_all();
        let bound = self.recovery() + SLACK;
        let found = |history: &History| {
            let mut missing = liveness::orphans(history, bound);
            missing.extend(liveness::uncovered(history, bound));
            missing
        };
        sleep(bound - SLACK).await;
        let before = self.world.look(found);
        sleep(SLACK).await;
        // What is on its way from one worker to another at one of the two moments has another row at the other.
        let missing: Vec<String> = self.world.look(found).into_iter().filter(|row| before.contains(row)).collect();
        if !missing.is_empty() {
            self.world.violate("liveness", format!("{bound:?} after the faults ended these have no living owner: {}", missing.join(", ")));
        }
        // A chain of shards is read one after the other; each link has its own recovery.
        let links = self.world.look(|history| history.shards.len() as u32);
        let drained = |history: &History| history.unfinished().is_empty();
        let producing = self.recovery() + Duration::from_secs(6);
        sleep_until(self.world.started() + self.plan.chaos + producing).await;
        self.until(Duration::from_secs(30) + Duration::from_secs(4) * links, drained, |history| {
            format!("not processed: {:?}", history.unfinished())
        })
        .await;
    }

    /// Waits for a state, and calls it a violation when it does not come in time.
    async fn until(&self, bound: Duration, reached: impl Fn(&History) -> bool, missing: impl Fn(&History) -> String) {
        let deadline = self.world.now() + bound;
        while !self.world.is_violated() && !self.world.look(&reached) {
            if self.world.now() >= deadline {
                let missing = self.world.look(&missing);
                self.world.violate("liveness", format!("waited {bound:?}, {missing}"));
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Leases are shared evenly, and stay where they are.
    async fn settle(&self) {
        let even = |history: &History| !liveness::is_uneven(history) && liveness::orphans(history, Duration::ZERO).is_empty();
        self.until(self.recovery() + Duration::from_secs(10), even, |history| {
            format!("leases are shared unevenly: {:?}", liveness::shares(history))
        })
        .await;
        // Loads are still being measured, and each measurement may be worth a move; but not for ever.
        let quiet = self.plan.lease_duration * 2 + self.plan.checkpoint_interval;
        let since = self.world.now();
        let calm = |history: &History| history.now.saturating_sub(history.last_take.max(since)) >= quiet;
        self.until(quiet * 6 + Duration::from_secs(30), calm, |_| "leases still change hands".to_owned()).await;
        let takes = self.world.look(|history| history.takes);
        sleep(self.plan.lease_duration * 3).await;
        let more = self.world.look(|history| history.takes) - takes;
        if more > 0 && !self.world.is_violated() {
            self.world.violate("liveness", format!("{more} leases changed hands in a balanced fleet"));
        }
    }

    /// Everybody leaves in order; what is left in the table must be the whole story.
    async fn end(&self) {
        let repeated = self.world.look(|history| history.repeated);
        for slot in self.fleet.used_slots() {
            self.fleet.stop(slot, self.nemesis.stop_bound()).await;
        }
        if self.world.is_violated() {
            return;
        }
        let again = self.world.look(|history| history.repeated) - repeated;
        if again > 0 {
            self.world.violate("bounded_repeats", format!("an orderly end repeated {again} records"));
        }
        let left = self.world.look(|history| history.unfinished());
        if !left.is_empty() {
            self.world.violate("nothing_lost", format!("never processed: {left:?}"));
        }
        let others = |row: &Lease| row.stream.as_ref().is_some_and(|stream| !stream.name().as_str().starts_with(STREAM));
        for row in self.fleet.table().snapshot().leases.into_iter().filter(|row| !others(row)) {
            let behind = self.world.look(|history| {
                let facts = history.shards.get(&ShardKey::of(&row))?;
                Some(facts.left_after(row.checkpoint, row.start_at)).filter(|behind| *behind > 0)
            });
            if let Some(behind) = behind {
                self.world.violate("bounded_repeats", format!("{} was left {behind} records behind", Row(&row)));
            }
            // One handed to a worker that was leaving itself is free for anybody.
            if row.owner_instance.is_some() {
                self.world.violate("liveness", format!("{} was left owned", Row(&row)));
            }
        }
        let unfinished: Vec<String> = self.world.look(|history| {
            let open = history.tenures.iter().filter(|(_, t)| t.processor.is_some() && t.finished.is_none());
            let exited = open.filter(|(_, t)| history.nodes.get(&t.node).is_some_and(|node| node.left));
            exited.map(|((shard, token), t)| format!("{} {shard}#{token}", t.node)).collect()
        });
        if !unfinished.is_empty() {
            self.world.violate("callbacks", format!("no last call for {}", unfinished.join(", ")));
        }
    }
}
