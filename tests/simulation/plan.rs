//! A run as data, drawn from its seed. Each class of faults is on or off by the toss of a coin, so that some seeds
//! combine few classes deeply ("swarm testing").

use std::time::Duration;

use shardkeeper::testing::{Direction, Service};

use crate::{dice::Dice, handler::Temper, weather::Noise};

/// Something the nemesis does at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL, and a restart after a while, under its own name or a new one.
    Crash {
        slot: u32,
        down: Duration,
        same_name: bool,
    },
    /// SIGSTOP and SIGCONT.
    Freeze {
        slot: u32,
        span: Duration,
    },
    /// SIGTERM, and a restart after a while.
    Stop {
        slot: u32,
        down: Duration,
        same_name: bool,
    },
    /// SIGTERM and restart of one worker after the other, as a deployment does it.
    RollingRestart {
        pause: Duration,
    },
    /// More workers, which leave again.
    ScaleUp {
        by: u32,
        span: Duration,
    },
    Cut {
        slot: u32,
        service: Service,
        directions: Vec<Direction>,
        span: Duration,
    },
    Outage {
        service: Service,
        span: Duration,
    },
    ThrottleStorm {
        service: Service,
        span: Duration,
    },
    Surge {
        span: Duration,
    },
    ExpiredIterators {
        span: Duration,
    },
    WallJump {
        slot: u32,
        by_seconds: i64,
    },
    /// A second process with the same worker id.
    Twin {
        slot: u32,
        span: Duration,
    },
    Split {
        pick: u64,
    },
    Merge {
        pick: u64,
    },
    UpdateShardCount {
        up: bool,
    },
    /// Somebody deregisters the application's stream consumer.
    Deregister {
        pick: u64,
    },
    /// Somebody pauses a worker, or what it has of one stream, and resumes it.
    Pause {
        slot: u32,
        stream: Option<u32>,
        span: Duration,
    },
    /// Somebody limits the records per second of a worker for a while.
    RateLimit {
        slot: u32,
        per_second: u32,
        span: Duration,
    },
    /// Somebody writes the lease of a shard that never was.
    BogusLease,
    /// Somebody tells a worker to hand a lease to a worker that never was.
    ForgedSignal {
        slot: u32,
        pick: u64,
    },
}

/// Where the application starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    TrimHorizon,
    Latest,
    AtTimestamp,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) workers: u32,
    pub(crate) shards: u32,
    /// How long faults happen.
    pub(crate) chaos: Duration,
    pub(crate) lease_duration: Duration,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) start: Start,
    /// Put before the first worker starts.
    pub(crate) records_before: u64,
    pub(crate) records_per_second: f64,
    /// Share of the records that go to a sixteenth of the hash keys.
    pub(crate) hot: f64,
    pub(crate) noise: Noise,
    /// How often a task that is ready has to wait for its next turn.
    pub(crate) shuffle: f64,
    pub(crate) temper: Temper,
    /// How long a reshard takes.
    pub(crate) reshard_delay: Duration,
    pub(crate) list_shards_lag: Duration,
    pub(crate) empty_answers: f64,
    /// Whether the shards are read by enhanced fan-out, and how long its subscriptions live.
    pub(crate) fan_out: Option<Duration>,
    /// Streams that every worker reads. The first has `shards` shards, the others half as many; of those read by enhanced
    /// fan-out, every second one is polled all the same.
    pub(crate) streams: u32,
    /// Share of the records put that are aggregates of the Kinesis Producer Library.
    pub(crate) aggregated: f64,
    /// The lease table holds rows of others, and rows that cannot be read.
    pub(crate) hostile_rows: bool,
    /// After the faults all workers are down, for longer than records are kept.
    pub(crate) absence: bool,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

const KINDS: usize = 15;

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let workers = dice.number(2..=10) as u32;
        let shards = dice.number(1..=10) as u32;
        let chaos = Duration::from_secs(dice.number(180..=900));
        let lease_duration = Duration::from_secs(*dice.pick(&[1, 2, 3, 5, 10, 10, 20]));
        let noise = Self::noise(&mut dice);
        let maybe = |dice: &mut Dice, most: f64| if dice.chance(0.4) { dice.unit() * most } else { 0.0 };
        let temper = Temper {
            work: (0, *dice.pick(&[0, 20, 200, 1000])),
            slow: maybe(&mut dice, 0.02),
            fails: maybe(&mut dice, 0.1),
            panics: maybe(&mut dice, 0.05),
            by_hand: 0.0,
        };
        let mut plan = Self {
            seed,
            workers,
            shards,
            chaos,
            lease_duration,
            checkpoint_interval: Duration::from_millis(*dice.pick(&[500, 1000, 2000, 5000, 10_000])),
            drain_timeout: Duration::from_secs(*dice.pick(&[5, 10, 30])),
            start: *dice.pick(&[Start::TrimHorizon, Start::TrimHorizon, Start::Latest, Start::AtTimestamp]),
            records_before: dice.number(0..100),
            records_per_second: 0.5 + dice.unit() * 15.0,
            hot: maybe(&mut dice, 0.9),
            noise,
            shuffle: if dice.chance(0.5) { dice.unit() * 0.3 } else { 0.0 },
            temper,
            reshard_delay: Duration::from_millis(if dice.chance(0.5) { dice.number(0..8000) } else { 0 }),
            list_shards_lag: Duration::from_millis(if dice.chance(0.3) { dice.number(0..10_000) } else { 0 }),
            empty_answers: maybe(&mut dice, 0.5),
            fan_out: None,
            streams: 1,
            aggregated: 0.0,
            hostile_rows: false,
            absence: false,
            faults: Vec::new(),
        };
        // Drawn by itself, so that what a seed did before it could subscribe stays the same but for this.
        let mut dice = Dice::new(seed, "fan-out");
        plan.fan_out = dice.chance(0.4).then(|| Duration::from_secs(*dice.pick(&[8, 20, 60, 300])));
        plan.faults = plan.draw_faults();
        plan.widen();
        plan.hold_back();
        plan
    }

    /// The same for pauses and rate limits.
    fn hold_back(&mut self) {
        let mut dice = Dice::new(self.seed, "deliveries");
        if !dice.chance(0.4) {
            return;
        }
        for _ in 0..dice.number(2..12) {
            let at = Duration::from_millis(dice.number(5_000..self.chaos.as_millis() as u64));
            let slot = dice.number(0..u64::from(self.workers)) as u32;
            let span = Duration::from_millis(dice.number(100..200_000));
            let (stream, per_second) = (dice.number(0..u64::from(self.streams) + 1) as u32, *dice.pick(&[1, 5, 20, 200]));
            let fault = if dice.chance(0.6) {
                Fault::Pause { slot, stream: stream.checked_sub(1), span }
            } else {
                Fault::RateLimit { slot, per_second, span }
            };
            self.faults.push((at, fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// The same for what came later: a stream of many, aggregates, strangers' acts.
    fn widen(&mut self) {
        let mut dice = Dice::new(self.seed, "breadth");
        let mut some = |share: f64, most: f64| {
            let (on, size) = (dice.chance(share), dice.unit());
            if on { (0.05 + 0.95 * size) * most } else { 0.0 }
        };
        self.streams = 1 + some(0.25, 3.0).ceil() as u32;
        self.aggregated = some(0.4, 1.0);
        self.temper.by_hand = some(0.4, 0.5);
        self.noise.client_panics = some(0.2, 0.01);
        self.hostile_rows = some(0.2, 1.0) > 0.0;
        self.absence = some(0.08, 1.0) > 0.0;
        let strangers = some(0.5, 6.0) as u32;
        for _ in 0..strangers {
            let at = Duration::from_millis(dice.number(5_000..self.chaos.as_millis() as u64));
            let (kind, pick, slot) = (dice.number(0..3), dice.any(), dice.number(0..u64::from(self.workers)) as u32);
            let fault = match kind {
                0 if self.fan_out.is_some() => Fault::Deregister { pick },
                1 if self.hostile_rows => Fault::BogusLease,
                2 if self.hostile_rows => Fault::ForgedSignal { slot, pick },
                _ => continue,
            };
            self.faults.push((at, fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    fn noise(dice: &mut Dice) -> Noise {
        let low = dice.number(1..8);
        let high = low + if dice.chance(0.7) { dice.number(2..30) } else { dice.number(30..120) };
        if dice.chance(0.3) {
            return Noise { latency: (low, high), ..Noise::default() };
        }
        let mut maybe = |most: f64| if dice.chance(0.5) { dice.unit() * most } else { 0.0 };
        Noise {
            latency: (low, high),
            lost: maybe(0.04),
            unanswered: maybe(0.04),
            reset: 0.5,
            repeated: maybe(0.04),
            slow: maybe(0.02),
            throttled: maybe(0.08),
            failed_before: maybe(0.04),
            failed_after: maybe(0.04),
            client_panics: 0.0,
        }
    }

    fn draw_faults(&self) -> Vec<(Duration, Fault)> {
        let mut dice = Dice::new(self.seed, "faults");
        let on: Vec<bool> = (0..KINDS).map(|_| dice.chance(0.55)).collect();
        let count = dice.number(4..50);
        let mut faults = Vec::new();
        for _ in 0..count {
            // All draws are made whether or not they are used: the next fault must not depend on this one.
            let at = Duration::from_millis(dice.number(5_000..self.chaos.as_millis() as u64));
            let slot = dice.number(0..u64::from(self.workers)) as u32;
            let service = *dice.pick(&[Service::Stream, Service::LeaseTable]);
            let long = dice.chance(0.3);
            let span = Duration::from_millis(500 + dice.number(0..if long { 90_000 } else { 12_000 }));
            let kind = dice.number(0..KINDS as u64) as usize;
            let pick = dice.any();
            // Where reading starts at a moment, the clock that names it has to be right.
            let wrong_clock = kind == 10 && self.start != Start::TrimHorizon && at < Duration::from_secs(60);
            if on[kind] && !wrong_clock {
                faults.push((at, fault(kind, slot, service, span, pick)));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    /// Whether requests are never lost, delayed for long or refused.
    pub(crate) fn is_calm(&self) -> bool {
        self.noise.is_calm()
            && !self.faults.iter().any(|(_, fault)| {
                matches!(
                    fault,
                    Fault::Cut { .. }
                        | Fault::Outage { .. }
                        | Fault::ThrottleStorm { .. }
                        | Fault::Surge { .. }
                        | Fault::ExpiredIterators { .. }
                )
            })
    }
}

fn fault(kind: usize, slot: u32, service: Service, span: Duration, pick: u64) -> Fault {
    let odd = pick & 1 == 0;
    match kind {
        0 => Fault::Crash { slot, down: span, same_name: odd },
        1 | 2 => Fault::Freeze { slot, span },
        3 => Fault::Stop { slot, down: span, same_name: odd },
        4 if pick.is_multiple_of(3) => Fault::RollingRestart { pause: span / 10 },
        4 => Fault::Crash { slot, down: span / 10, same_name: odd },
        5 => Fault::ScaleUp { by: 1 + (pick % 4) as u32, span: span * 2 },
        6 => {
            let both = vec![Direction::Request, Direction::Response];
            let directions = match pick % 3 {
                0 => both,
                1 => both[..1].to_vec(),
                _ => both[1..].to_vec(),
            };
            Fault::Cut { slot, service, directions, span }
        }
        7 => Fault::Outage { service, span: span / 2 },
        8 => Fault::ThrottleStorm { service, span },
        9 if odd => Fault::Surge { span },
        9 => Fault::ExpiredIterators { span },
        10 => Fault::WallJump { slot, by_seconds: (pick % 7200) as i64 - 3600 },
        11 if odd => Fault::Twin { slot, span },
        11 => Fault::Stop { slot, down: Duration::ZERO, same_name: true },
        12 => Fault::Split { pick },
        13 => Fault::Merge { pick },
        _ => Fault::UpdateShardCount { up: odd },
    }
}
