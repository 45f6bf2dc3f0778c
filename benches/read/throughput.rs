//! CPU time and bytes of a reader that always has something to read.

use std::time::{Duration, Instant};

use crate::{
    args::Plan,
    child::Child,
    counters::{COUNTS, Counts},
    job::{Job, Reader, Reading},
    other, responder,
    rig::Result,
};

/// Records that all calls of the bare loop may ask for at once: a gigabyte of 1 KiB, and twice that in its memory.
const IN_FLIGHT: u32 = 1_000_000;
/// Before the first window, after every shard has delivered.
const WARM_UP: Duration = Duration::from_secs(2);
/// Between the moment a reader goes on and the beginning of its window.
const SETTLE: Duration = Duration::from_millis(500);
/// Until every shard delivers.
const START: Duration = Duration::from_secs(120);

/// One stretch of time in which one of the two ran.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) gigabytes: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) responder_cpu_seconds: f64,
}

/// What was measured of a reader.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Figures {
    pub(crate) windows: Vec<Window>,
    /// Of the whole run.
    pub(crate) peak_megabytes: f64,
}

/// Of all, on the same responder in the same minutes.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Throughput {
    pub(crate) shardkeeper: Figures,
    pub(crate) bare_loop: Figures,
    pub(crate) peer: Option<Figures>,
}

impl Figures {
    /// The median of what `of` says of the windows.
    pub(crate) fn median(&self, of: impl Fn(&Window) -> f64) -> f64 {
        let mut values: Vec<f64> = self.windows.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        }
    }

    pub(crate) fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.median(|w| w.cpu_seconds / w.gigabytes)
    }
}

pub(crate) fn measure(plan: &Plan, peer: Option<&str>) -> Result<Throughput> {
    let content = responder::Content { size: plan.size, aggregated: plan.aggregated };
    let mut responder = Child::start(&Job::Respond(responder::Config { shards: plan.shards, content }))?;
    let reading = Reading {
        endpoint: responder.line()?,
        stream: responder::STREAM.to_owned(),
        mode: plan.mode,
        paced: plan.paced,
        poll_every: Duration::from_millis(200),
        limit: i32::try_from((IN_FLIGHT / plan.shards).min(10_000))?,
        aggregates_of: plan.aggregated.then(|| (content.payload().1, u64::from(plan.size))),
        stamped: false,
    };
    let mut ours = Subject::start(Reader::Shardkeeper, &reading, plan)?;
    let mut loops = Subject::start(Reader::BareLoop, &reading, plan)?;
    for _ in 0..plan.windows {
        ours.window(plan, &responder)?;
        loops.window(plan, &responder)?;
    }
    let (shardkeeper, bare_loop) = (ours.figures()?, loops.figures()?);
    let peer = peer.map(|command| other::measure(command, plan, &reading.endpoint, &responder)).transpose()?;
    Ok(Throughput { shardkeeper, bare_loop, peer })
}

struct Subject {
    child: Child,
    figures: Figures,
}

impl Subject {
    /// Starts it, lets it come up to speed, and stops it.
    fn start(reader: Reader, reading: &Reading, plan: &Plan) -> Result<Self> {
        let mut child = Child::start(&Job::Read(reader, reading.clone()))?;
        let deadline = Instant::now() + START;
        loop {
            let counts: Counts = child.ask(COUNTS)?;
            if counts.shards == u64::from(plan.shards) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("{} of {} shards deliver to {reader:?} after {START:?}", counts.shards, plan.shards).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(WARM_UP);
        child.stop()?;
        Ok(Self { child, figures: Figures::default() })
    }

    fn window(&mut self, plan: &Plan, responder: &Child) -> Result {
        self.child.go_on()?;
        std::thread::sleep(SETTLE);
        let before = self.look(responder)?;
        std::thread::sleep(plan.window);
        let after = self.look(responder)?;
        self.child.stop()?;
        self.figures.windows.push(Window {
            seconds: (after.at - before.at).as_secs_f64(),
            batches: after.counts.batches - before.counts.batches,
            records: after.counts.records - before.counts.records,
            gigabytes: (after.counts.bytes - before.counts.bytes) as f64 / 1e9,
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            responder_cpu_seconds: after.responder_cpu_seconds - before.responder_cpu_seconds,
        });
        Ok(())
    }

    fn look(&mut self, responder: &Child) -> Result<Look> {
        let (at, counts) = (Instant::now(), self.child.ask(COUNTS)?);
        Ok(Look { at, counts, cpu_seconds: self.child.usage()?.cpu_seconds, responder_cpu_seconds: responder.usage()?.cpu_seconds })
    }

    fn figures(mut self) -> Result<Figures> {
        self.figures.peak_megabytes = self.child.usage()?.peak_megabytes;
        Ok(self.figures)
    }
}

struct Look {
    at: Instant,
    counts: Counts,
    cpu_seconds: f64,
    responder_cpu_seconds: f64,
}
