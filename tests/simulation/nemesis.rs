//! Makes the faults of a plan happen.

use std::{sync::Arc, time::Duration};

use shardkeeper::{
    local::{ConsumerReference, LocalKinesis},
    stream::StreamReference,
    task::{Spawner, Task},
    types::Shard,
};
use tokio::time::{sleep, sleep_until};

use crate::{
    event::Event,
    fleet::{APPLICATION, Fleet},
    hostile,
    plan::{Fault, Plan},
    weather::{Condition, Weather},
    world::World,
};

/// Open shards are not split beyond this.
const MOST_SHARDS: usize = 20;

/// What it needs to strike.
#[derive(Clone)]
pub(crate) struct Nemesis {
    pub(crate) plan: Arc<Plan>,
    pub(crate) world: Arc<World>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) kinesis: LocalKinesis,
    pub(crate) streams: Vec<StreamReference>,
}

impl Nemesis {
    /// Schedules all faults. Each task ends when its fault is over, at the latest shortly after the chaos.
    pub(crate) fn unleash(&self) -> Vec<Task<()>> {
        let spawner = Spawner::current();
        let faults = self.plan.faults.iter().cloned();
        faults
            .map(|(at, fault)| {
                let nemesis = self.clone();
                spawner.spawn("nemesis", async move {
                    sleep_until(nemesis.world.started() + at).await;
                    nemesis.world.record(&Event::Fault(format!("{fault:?}")));
                    nemesis.strike(fault).await;
                })
            })
            .collect()
    }

    /// How long a stop may take, whatever the services do.
    pub(crate) fn stop_bound(&self) -> Duration {
        (self.plan.drain_timeout + self.plan.lease_duration) * 2 + Duration::from_secs(30)
    }

    fn left(&self) -> Duration {
        self.plan.chaos.saturating_sub(self.world.now())
    }

    async fn strike(&self, fault: Fault) {
        let fleet = &self.fleet;
        match fault {
            Fault::Crash { slot, down, same_name } => {
                if fleet.crash(slot) {
                    sleep(down.min(self.left())).await;
                    fleet.boot(slot, same_name);
                }
            }
            Fault::Freeze { slot, span } => {
                let Some(running) = fleet.running(slot) else { return };
                fleet.freeze(&running);
                sleep(span.min(self.left())).await;
                fleet.resume(&running);
            }
            Fault::Stop { slot, down, same_name } => {
                if fleet.stop(slot, self.stop_bound()).await {
                    sleep(down.min(self.left())).await;
                    fleet.boot(slot, same_name);
                }
            }
            Fault::RollingRestart { pause } => {
                for slot in fleet.used_slots() {
                    if self.left().is_zero() {
                        return;
                    }
                    if fleet.stop(slot, self.stop_bound()).await {
                        fleet.boot(slot, true);
                    }
                    sleep(pause.min(self.left())).await;
                }
            }
            Fault::ScaleUp { by, span } => {
                // Slots of their own, one set for each time.
                let first = 100 + (self.world.now().as_millis() as u32 % 1_000_000) * 10;
                (first..first + by).for_each(|slot| fleet.boot(slot, true));
                sleep(span.min(self.left())).await;
                for slot in first..first + by {
                    fleet.stop(slot, self.stop_bound()).await;
                }
            }
            Fault::Cut { slot, service, directions, span } => {
                let Some(running) = fleet.running(slot) else { return };
                let cuts: Vec<_> = directions.iter().map(|d| Condition::Cut(running.node, service, *d)).collect();
                self.during(&cuts, span).await;
            }
            Fault::Outage { service, span } => self.during(&[Condition::Outage(service)], span).await,
            Fault::ThrottleStorm { service, span } => self.during(&[Condition::ThrottleStorm(service)], span).await,
            Fault::Surge { span } => self.during(&[Condition::Surge], span).await,
            Fault::ExpiredIterators { span } => self.during(&[Condition::ExpiredIterators], span).await,
            Fault::WallJump { slot, by_seconds } => fleet.jump(slot, by_seconds),
            Fault::Twin { slot, span } => self.twin(slot, span).await,
            Fault::Split { pick } => self.split(pick),
            Fault::Merge { pick } => self.merge(pick),
            Fault::UpdateShardCount { up } => {
                let stream = &self.streams[0];
                let open = self.open_shards(stream).len();
                let target = if up { (open * 2).min(MOST_SHARDS) } else { open.div_ceil(2) };
                // Refused while another change is under way, which is as well.
                drop(self.kinesis.update_shard_count(stream, target as u32));
            }
            Fault::Deregister { pick } => {
                let consumer = ConsumerReference::Name { stream: self.stream(pick).clone(), name: APPLICATION.to_owned() };
                if self.kinesis.deregister_stream_consumer(&consumer).is_ok() {
                    self.world.probe("stream consumer deregistered");
                }
            }
            Fault::Pause { slot, stream, span } => {
                let Some(running) = fleet.running(slot) else { return };
                fleet.set_paused(&running, stream, true);
                sleep(span.min(self.left())).await;
                fleet.set_paused(&running, stream, false);
            }
            Fault::RateLimit { slot, per_second, span } => {
                let Some(running) = fleet.running(slot) else { return };
                fleet.limit(&running, Some(per_second));
                sleep(span.min(self.left())).await;
                fleet.limit(&running, None);
            }
            Fault::BogusLease => hostile::bogus_lease(&self.fleet, &self.world).await,
            Fault::ForgedSignal { slot, pick } => hostile::forged_signal(&self.fleet, slot, pick).await,
        }
    }

    async fn during(&self, conditions: &[Condition], span: Duration) {
        conditions.iter().for_each(|condition| self.weather.set(*condition, true));
        sleep(span.min(self.left())).await;
        conditions.iter().for_each(|condition| self.weather.set(*condition, false));
    }

    /// The twin either finds out that its name is taken, or outlives its namesake.
    async fn twin(&self, slot: u32, span: Duration) {
        let Some(running) = self.fleet.running(slot) else { return };
        let name = self.world.look(|history| history.nodes.get(&running.node).map(|node| node.worker.clone()));
        let Some(name) = name else { return };
        match self.fleet.start(slot, name.as_str()) {
            Ok(twin) => {
                sleep(span.min(self.left())).await;
                let runs = self.world.look(|history| history.nodes.get(&twin.node).is_some_and(|node| node.running));
                if runs {
                    self.fleet.stop_running(&twin, self.stop_bound()).await;
                }
            }
            Err(error) => self.world.violate("harness", format!("a worker cannot be built: {error}")),
        }
    }

    /// One of the streams.
    fn stream(&self, pick: u64) -> &StreamReference {
        &self.streams[(pick >> 32) as usize % self.streams.len()]
    }

    /// All shards of a stream in retention.
    pub(crate) fn shards(&self, stream: &StreamReference) -> Vec<Shard> {
        self.kinesis.describe_stream(stream, None, Some(10_000)).map(|page| page.shards).unwrap_or_default()
    }

    fn open_shards(&self, stream: &StreamReference) -> Vec<Shard> {
        let mut open: Vec<Shard> = self.shards(stream).into_iter().filter(Shard::is_open).collect();
        open.sort_by_key(|shard| shard.hash_key_range.start());
        open
    }

    pub(crate) fn split(&self, pick: u64) {
        let stream = self.stream(pick);
        let open = self.open_shards(stream);
        if open.is_empty() || open.len() >= MOST_SHARDS {
            return;
        }
        let shard = &open[pick as usize % open.len()];
        let (start, end) = (shard.hash_key_range.start(), shard.hash_key_range.end());
        if end > start {
            drop(self.kinesis.split_shard(stream, &shard.id, start + (end - start) / 2 + 1));
        }
    }

    pub(crate) fn merge(&self, pick: u64) {
        let stream = self.stream(pick);
        let open = self.open_shards(stream);
        if open.len() >= 2 {
            let at = pick as usize % (open.len() - 1);
            drop(self.kinesis.merge_shards(stream, &open[at].id, &open[at + 1].id));
        }
    }
}
