//! What a worker's process takes at most while nothing is processed: every shard has a backlog, and every handler hangs.
//!
//! The byte budget counts records. What the system counts has read buffers, windows and what the allocator keeps on top,
//! and only that ends a process.

mod role;

use std::{path::Path, time::Duration};

use libtest_mimic::Trial;

pub(crate) use self::role::run;
use self::role::{Blocked, Mode, Role};
use crate::{
    responder,
    rig::{Process, Result, until},
    trial,
};

const MIB: u64 = 1024 * 1024;
const SHARDS: u32 = 200;
/// The default of `max_buffered_bytes`.
const BUDGET: u64 = 64 * MIB;
/// Of a worker that holds no records: stacks, leases, clients; what is taken for large records while they are decoded; gaps.
const BASE: u64 = 48 * MIB;
/// Of each shard, beside the budget: its tasks and requests, a read buffer of its connection and what was read into it.
const PER_SHARD: u64 = 256 * 1024;
/// It takes no more than this after it has taken no more for so long.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("memory_polling_small_records", || blocked(Mode::Polling, 1024)),
        trial("memory_polling_large_records", || blocked(Mode::Polling, 1 << 20)),
        trial("memory_fan_out_small_records", || blocked(Mode::FanOut, 1024)),
        trial("memory_fan_out_large_records", || blocked(Mode::FanOut, 1 << 20)),
    ]
}

async fn blocked(mode: Mode, size: u32) -> Result {
    if !Path::new("/proc/self/status").exists() {
        eprintln!("skipped: without /proc nobody says what a process takes");
        return Ok(());
    }
    let shards = std::env::var("SHARDS").map_or(Ok(SHARDS), |shards| shards.parse())?;
    let dir = tempfile::tempdir()?;
    let content = responder::Content { size, aggregated: false };
    let responder = Role::Respond(responder::Config { shards, content }).start("responder", dir.path())?;
    let endpoint = until("the responder answers", || Ok(responder.stdout()?.lines().next().map(str::to_owned))).await?;
    let worker = Role::Block(Blocked { endpoint, mode, budget: BUDGET }).start("worker", dir.path())?;

    let most = most_memory(&worker).await?;
    let held_up = worker.stdout()?.lines().count();
    let allowed = BASE + u64::from(shards) * PER_SHARD + BUDGET * 6 / 5;
    let figures = format!(
        "{mode:?}, {shards} shards, records of {size} bytes: {} MiB at most, {} MiB allowed, {held_up} handlers hang",
        most / MIB,
        allowed / MIB
    );
    eprintln!("{figures}");
    // Small records fit for all, large ones for as many as the budget has room for.
    let expected = if size > 65_536 || mode == Mode::FanOut { 40 } else { shards as usize };
    if held_up < expected || most < BUDGET / 2 {
        return Err(format!("too little was read to tell: {figures}").into());
    }
    if most > allowed { Err(figures.into()) } else { Ok(()) }
}

/// The most memory that the process had at once, when it takes no more. Its code is left out, which is mapped from a file.
async fn most_memory(worker: &Process) -> Result<u64> {
    let (mut most, mut since) = (0, tokio::time::Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")).ok_or("/proc: a field is missing")?;
            Ok(line.trim().parse::<u64>()? * 1024)
        };
        let now = field("VmHWM:")?.saturating_sub(field("RssFile:")?);
        // Pages of code that are mapped on the way make the figure sink.
        if now > most + MIB / 4 || worker.stdout()?.is_empty() {
            (most, since) = (now.max(most), tokio::time::Instant::now());
        } else if since.elapsed() >= SETTLED {
            return Ok(most);
        }
    }
}
