//! The network of a run: noise on every request by its coordinates, and the conditions that the nemesis makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shardkeeper::{
    ErrorKind,
    testing::{Answer, Arrival, Call, Direction, Fate, Network, Operation, Repeat, Service},
    types::{ConsumerArn, ShardId},
};

use crate::{
    dice::unit,
    event::{Event, NodeId, ShardKey, stream_number},
    world::{INJECTED_PANIC, World},
};

/// How likely each fault of a single request is, and how long requests take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Noise {
    /// One way, from and to, in milliseconds.
    pub(crate) latency: (u64, u64),
    pub(crate) lost: f64,
    pub(crate) unanswered: f64,
    /// Of those two, the share in which the caller sees the connection break at once.
    pub(crate) reset: f64,
    pub(crate) repeated: f64,
    /// Takes 1 to 60 s longer on one of its ways.
    pub(crate) slow: f64,
    pub(crate) throttled: f64,
    pub(crate) failed_before: f64,
    pub(crate) failed_after: f64,
    /// The stream client panics in place of making the call.
    pub(crate) client_panics: f64,
}

impl Noise {
    /// Whether requests are only ever delayed a little.
    pub(crate) fn is_calm(&self) -> bool {
        let Self { latency: _, reset: _, client_panics: _, lost, unanswered, repeated, slow, throttled, failed_before, failed_after } =
            self;
        [lost, unanswered, repeated, slow, throttled, failed_before, failed_after].iter().all(|p| **p == 0.0)
    }
}

/// What the nemesis has switched on, each as a count of causes.
#[derive(Debug, Default)]
struct Conditions {
    quiet: bool,
    cuts: BTreeMap<(NodeId, Service, Direction), u32>,
    outages: BTreeMap<Service, u32>,
    storms: BTreeMap<Service, u32>,
    surges: u32,
    expiries: u32,
}

/// A condition that lasts a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Cut(NodeId, Service, Direction),
    Outage(Service),
    ThrottleStorm(Service),
    /// Everything takes twenty times as long.
    Surge,
    /// Most iterators have expired.
    ExpiredIterators,
}

/// The network between all nodes and both services.
#[derive(Debug)]
pub(crate) struct Weather {
    seed: u64,
    noise: Noise,
    conditions: Mutex<Conditions>,
}

impl Weather {
    pub(crate) fn new(seed: u64, noise: Noise) -> Arc<Self> {
        Arc::new(Self { seed, noise, conditions: Mutex::default() })
    }

    fn conditions<T>(&self, f: impl FnOnce(&mut Conditions) -> T) -> T {
        f(&mut self.conditions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Switches a condition on, or one cause of it off.
    pub(crate) fn set(&self, condition: Condition, on: bool) {
        self.conditions(|conditions| {
            let count = match condition {
                Condition::Cut(node, service, direction) => conditions.cuts.entry((node, service, direction)).or_default(),
                Condition::Outage(service) => conditions.outages.entry(service).or_default(),
                Condition::ThrottleStorm(service) => conditions.storms.entry(service).or_default(),
                Condition::Surge => &mut conditions.surges,
                Condition::ExpiredIterators => &mut conditions.expiries,
            };
            *count = if on { *count + 1 } else { count.saturating_sub(1) };
        });
    }

    /// Good weather from here on. Requests on their way keep the fate they left with.
    pub(crate) fn heal(&self) {
        self.conditions(|conditions| *conditions = Conditions { quiet: true, ..Conditions::default() });
    }

    /// The way of one node to one service.
    pub(crate) fn way(self: &Arc<Self>, node: NodeId, world: &Arc<World>) -> Arc<dyn Network> {
        Arc::new(Way { weather: Arc::clone(self), world: Arc::clone(world), node })
    }
}

struct Way {
    weather: Arc<Weather>,
    world: Arc<World>,
    node: NodeId,
}

impl Network for Way {
    fn fate(&self, call: &Call) -> Fate {
        let service = call.operation.service();
        self.world.note(&[u64::from(self.node.0), service as u64, call.operation as u64, call.number]);
        let noise = self.weather.noise;
        let (quiet, storm, surge, expiry) =
            self.weather.conditions(|c| (c.quiet, c.storms.get(&service).is_some_and(|n| *n > 0), c.surges > 0, c.expiries > 0));
        let draw = |what: u64| unit(self.weather.seed, &[u64::from(self.node.0), service as u64, call.number, call.operation as u64, what]);
        let happens = |probability: f64, what: u64| !quiet && draw(what) < probability;
        if service == Service::Stream && happens(noise.client_panics, 18) {
            self.world.probe("stream client panics");
            std::panic::panic_any(INJECTED_PANIC);
        }
        let latency = |what: u64| {
            let (low, high) = noise.latency;
            let millis = low + (draw(what) * (high - low) as f64) as u64;
            Duration::from_millis(if surge { millis * 20 } else { millis })
        };
        let mut fate = Fate { request_delay: latency(1), response_delay: latency(2), ..Fate::default() };
        if happens(noise.slow, 3) {
            let extra = Duration::from_secs_f64(1.0 + draw(4) * 59.0);
            if draw(5) < 0.5 { fate.request_delay += extra } else { fate.response_delay += extra }
        }
        fate.arrival = if happens(noise.lost, 6) {
            if draw(7) < noise.reset { Arrival::Reset } else { Arrival::Lost }
        } else if (storm && draw(8) < 0.9) || happens(noise.throttled, 9) {
            Arrival::Refused(ErrorKind::Throttled)
        } else if happens(noise.failed_before, 10) {
            Arrival::Refused(ErrorKind::Unavailable)
        } else if expiry && call.operation == Operation::GetRecords && draw(11) < 0.7 {
            Arrival::Refused(ErrorKind::ExpiredIterator)
        } else {
            Arrival::Delivered
        };
        if happens(noise.repeated, 12) {
            fate.repeat = Some(Repeat { after: Duration::from_secs_f64(draw(13) * 5.0), answers: draw(14) < 0.5 });
        }
        fate.answer = if happens(noise.failed_after, 15) {
            Answer::Failed
        } else if happens(noise.unanswered, 16) {
            if draw(17) < noise.reset { Answer::Reset } else { Answer::Lost }
        } else {
            Answer::Delivered
        };
        fate
    }

    fn subscribes(&self, consumer: &ConsumerArn, shard: &ShardId) {
        let shard = ShardKey { stream: stream_number(&consumer.stream_name()), shard: shard.clone() };
        self.world.record(&Event::Subscribes { node: self.node, shard });
    }

    fn is_cut(&self, call: &Call, direction: Direction) -> bool {
        let service = call.operation.service();
        self.weather.conditions(|conditions| {
            conditions.outages.get(&service).is_some_and(|n| *n > 0)
                || conditions.cuts.get(&(self.node, service, direction)).is_some_and(|n| *n > 0)
        })
    }
}
