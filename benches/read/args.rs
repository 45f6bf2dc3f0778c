//! The flags, and the cells of the table that they ask for.

use std::time::Duration;

use crate::job::Mode;

/// What reading costs the client
#[derive(Debug, clap::Parser)]
#[command(name = "read")]
pub(crate) struct Args {
    /// Shards of the stream
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,
    /// How it is read: polling or fan-out
    #[arg(long, default_value = "polling")]
    mode: Mode,
    /// Records are aggregates of the Kinesis Producer Library, of 50 KB
    #[arg(long)]
    aggregated: bool,
    /// Bytes of a user record
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    size: u32,
    /// Keep the service's limits of 2 MiB and 5 calls a second and shard; without it each reads as fast as it can
    #[arg(long)]
    paced: bool,
    /// Length of a window
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    seconds: u32,
    /// Windows of each of the two
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// All cells: 1, 10, 100 and 1,000 shards, polling and fan-out, plain and aggregated
    #[arg(long)]
    matrix: bool,
    /// A third reader, which has the machine to itself after the two: a program that takes the flags of
    /// integration/peers/README.md
    #[arg(long, value_name = "COMMAND")]
    pub(crate) peer: Option<String>,
    /// Leave out the delays
    #[arg(long)]
    pub(crate) no_latency: bool,
    /// Leave out everything but the delays
    #[arg(long)]
    pub(crate) no_throughput: bool,
    /// A JSON object per cell, with all windows
    #[arg(long)]
    pub(crate) json: bool,
    /// Cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

/// A cell of the table.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Plan {
    pub(crate) shards: u32,
    pub(crate) mode: Mode,
    pub(crate) aggregated: bool,
    pub(crate) size: u32,
    pub(crate) paced: bool,
    pub(crate) window: Duration,
    pub(crate) windows: u32,
}

impl Args {
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let Self { shards, mode, aggregated, size, paced, windows, .. } = *self;
        let one = Plan { shards, mode, aggregated, size, paced, windows, window: Duration::from_secs(self.seconds.into()) };
        if !self.matrix {
            return vec![one];
        }
        let mut plans = Vec::new();
        for mode in [Mode::Polling, Mode::FanOut] {
            for aggregated in [false, true] {
                plans.extend([1, 10, 100, 1000].map(|shards| Plan { shards, mode, aggregated, ..one }));
            }
        }
        plans
    }
}
